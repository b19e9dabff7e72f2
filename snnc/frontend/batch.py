"""Whether a network keeps its rows apart: what is computed of one row must not depend on the others.

A spiking network runs one row at a time, and the reader follows the tensors of one row. Where a file reduces,
cuts, joins or turns the axis of the rows, that is another network than the file's on more rows than one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property

import onnx

from snnc.diagnostics import UNSUPPORTED_STRUCTURE, Diagnostic
from snnc.frontend.functions import DEFAULT_DOMAINS
from snnc.frontend.inference import FAILURES, inferred
from snnc.frontend.recurrent.layer import RECURRENT
from snnc.frontend.simplify import label
from snnc.frontend.tensor_shapes import without_weights

ROWS = "rows of the network"
"""The name that a free batch gets while shapes are inferred."""

AXES = ("time", "rows", "size")
"""Of what a recurrent node reads."""

BOUND_TO_ONE = frozenset({"Concat", "Shape", "Size", "Squeeze"})
"""Operations that know sizes alone, or that runtimes refuse for more than one row: they mix none."""

Sizes = list[int | str | None]
"""Of a tensor, along its axes: a number, a name, or ``None`` where it is not known."""

_CURE = "keep the batch in front, and let no operation reach across it"


class Rows:
    """Where the rows of a network lie in its tensors, as far as shapes tell; inferred when asked for."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Begin with a model, as :func:`snnc.frontend.simplify.simplify` returns it."""
        self._model = model

    @cached_property
    def shapes(self) -> dict[str, Sizes]:
        """The sizes of every tensor whose rank is known; nothing where they cannot be inferred."""
        return _shapes(self._model)

    @cached_property
    def batch(self) -> int | str:
        """What the batch is in these sizes: its fixed length, or :data:`ROWS`."""
        dims = (value.type.tensor_type.shape.dim for value in self._model.graph.input)
        return max((each[0].dim_value for each in dims if each), default=0) or ROWS

    def may_lie_along(self, name: str, axis: int, rank: int) -> bool:
        """Say whether the rows may lie along an axis that has the length 1 for one row.

        They come first, unless the first axis has the length 1 for every number of rows.
        """
        sizes = self.shapes.get(name, [])
        if len(sizes) != rank:
            return axis == 0
        if axis == 0:
            return sizes[0] != 1
        return sizes[axis] == self.batch or (sizes[0] == 1 and not isinstance(sizes[axis], int))


def mixed_rows(model: onnx.ModelProto, rows: Rows) -> Diagnostic | None:
    """Find the first operation that mixes rows, as far as shapes tell.

    Args:
        model: as :func:`snnc.frontend.simplify.simplify` returns it; the first axis of each input is the
            batch, free or larger than 1.
        rows: of this model.
    """
    shapes = rows.shapes
    if not shapes:
        unknown = (node for node in model.graph.node if node.op_type in (*RECURRENT, "Scan"))
        return next(map(_along_rows, unknown), None)
    stored = {tensor.name for tensor in model.graph.initializer}
    batch = rows.batch
    for node in model.graph.node:
        if node.op_type in RECURRENT and _follows_rows(node, shapes, batch):
            return _along_rows(node)
        if node.op_type == "Scan" and _scans_rows(node, shapes, batch, stored):
            return _along_rows(node)
        if _joins_rows(node, shapes, batch):
            return Diagnostic(UNSUPPORTED_STRUCTURE, "Concat: joins rows of the input", label(node), _CURE)
    if batch == ROWS:  # told from every other size
        for node in model.graph.node:
            carried = any(ROWS in shapes.get(name, ()) for name in node.input)
            if not carried or node.op_type in BOUND_TO_ONE or node.domain not in DEFAULT_DOMAINS:
                continue
            for name in filter(None, node.output):
                found = shapes.get(name)
                if found is not None and all(isinstance(size, int) for size in found):
                    reason = (
                        f"{node.op_type}: one output of the shape {_shown(found)} for all rows mixes them"
                    )
                    return Diagnostic(UNSUPPORTED_STRUCTURE, reason, label(node), _CURE)
    for output in model.graph.output:
        found = shapes.get(output.name)
        if not found or (batch == ROWS and ROWS not in found):
            continue  # not known
        first = next((size for size in found if size != 1), 1)  # axes of length 1 in front change no order
        if first not in (batch, None):
            reason = (
                f"the output has the shape {_shown(found)}, in which the rows of the input do not come first"
            )
            return Diagnostic(UNSUPPORTED_STRUCTURE, reason, output.name, _CURE)
    return None


def _follows_rows(node: onnx.NodeProto, shapes: Mapping[str, Sizes], batch: int | str) -> bool:
    """Say whether the rows of the network may be the sequence of a recurrent node, and not its batch."""
    sizes = shapes.get(node.input[0], []) if node.input else []
    if len(sizes) != len(AXES):
        return True
    layout = next((attribute.i for attribute in node.attribute if attribute.name == "layout"), 0)
    time, rows = sizes[:2][:: -1 if layout else 1]
    return rows != batch and (not isinstance(time, int) or isinstance(rows, int) or time == batch)


def _scans_rows(
    node: onnx.NodeProto, shapes: Mapping[str, Sizes], batch: int | str, constants: Collection[str]
) -> bool:
    """Say whether a Scan may go through the rows of the network."""
    given = {attribute.name: attribute for attribute in node.attribute}
    read = node.input[-given["num_scan_inputs"].i :] if "num_scan_inputs" in given else ()
    axes = given["scan_input_axes"].ints if "scan_input_axes" in given else (0,) * len(read)
    for name, axis in zip(read, axes, strict=False):
        if name in constants:
            continue
        sizes = shapes.get(name, [])
        size = sizes[axis] if -len(sizes) <= axis < len(sizes) else None
        if not isinstance(size, int) or size == batch:
            return True
    return False


def _along_rows(node: onnx.NodeProto) -> Diagnostic:
    reason = (
        f"{node.op_type}: it is not known to keep the rows of the input apart: its sequence may be theirs"
    )
    return Diagnostic(UNSUPPORTED_STRUCTURE, reason, label(node), _CURE)


def _joins_rows(node: onnx.NodeProto, shapes: Mapping[str, Sizes], batch: int | str) -> bool:
    """Say whether a node joins tensors along their rows: a fixed number of these lies in front."""
    if node.op_type != "Concat" or node.domain not in DEFAULT_DOMAINS or len(node.input) < 2 or batch == 1:
        return False
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    read = [sizes for name in node.input if -len(sizes := shapes.get(name, [])) <= axis < len(sizes)]
    return any(sizes[axis] == batch and (batch == ROWS or axis % len(sizes) == 0) for sizes in read)


def _shapes(model: onnx.ModelProto) -> dict[str, Sizes]:
    """Return the sizes of every tensor whose rank is known."""
    named = without_weights(model)
    for output in named.graph.output:  # what a file says of it need not be true
        output.type.tensor_type.ClearField("shape")
    for value in named.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value < 1:
            dims[0].dim_param = ROWS
    try:
        named = inferred(named)
    except FAILURES:
        return {}
    found: dict[str, Sizes] = {}
    for value in (*named.graph.input, *named.graph.value_info, *named.graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape"):
            found[value.name] = [
                d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in tensor.shape.dim
            ]
    return found


def _shown(sizes: Sizes) -> str:
    return "(" + ", ".join("n" if size == ROWS else str(size or "?") for size in sizes) + ")"
