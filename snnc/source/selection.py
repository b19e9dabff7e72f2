"""What is taken of an ONNX file: sizes that it leaves open, values of inputs, and which of its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx

from snnc.errors import UsageError
from snnc.ir.graph import Shape
from snnc.source.fixed_values import Values, fix, parsed
from snnc.source.whole_rows import put_in_front, whole_rows


@dataclass(frozen=True, slots=True)
class Selection:
    """What is taken of a file; by default everything, as it is.

    Attributes:
        shapes: (batch, *shape) of inputs whose sizes the file leaves open, by name; 0 for a batch that
            stays free.
        outputs: names of the outputs to keep; empty for all. Inputs that none of them needs go, too.
        values: what inputs are that are none any more, by name: one number, or all values in order.
    """

    shapes: Mapping[str, Shape] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    values: Values = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether anything is asked for."""
        return bool(self.shapes or self.outputs or self.values)

    @classmethod
    def parse(cls, shapes: Sequence[str], outputs: Sequence[str], values: Sequence[str] = ()) -> Selection:
        """Read ``--shape NAME=1,3,320,320``, ``--keep-output NAME`` and ``--fix NAME=16000``.

        Raises:
            UsageError: a text is not of that form, or names an input or output twice.
        """
        found: dict[str, Shape] = {}
        for text in shapes:
            name, equals, sizes = text.rpartition("=")
            try:
                shape = tuple(int(size) for size in sizes.split(","))
            except ValueError:
                shape = ()
            if not equals or not name or not shape or min(shape[1:], default=1) < 1 or shape[0] < 0:
                raise UsageError(
                    f"--shape {text}: write NAME=1,3,320,320, the batch first; 0 for a batch that stays free"
                )
            if name in found:
                raise UsageError(f"--shape names the input {name!r} twice")
            found[name] = shape
        for name in outputs:
            if outputs.count(name) > 1:
                raise UsageError(f"--keep-output names {name!r} twice")
        return cls(found, tuple(outputs), parsed(values))

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form; empty where nothing is asked for."""
        if not self:
            return {}
        found: dict[str, Any] = {
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "outputs": list(self.outputs),
        }
        if self.values:
            found["values"] = {name: list(numbers) for name, numbers in self.values.items()}
        return found

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Selection:
        """Read the JSON form.

        Raises:
            TypeError, ValueError: it is not of that form.
        """
        shapes = {str(name): tuple(map(int, sizes)) for name, sizes in values.get("shapes", {}).items()}
        fixed = {str(name): tuple(map(_number, each)) for name, each in values.get("values", {}).items()}
        return cls(shapes, tuple(map(str, values.get("outputs", ()))), fixed)

    def applied(self, model: onnx.ModelProto, where: str) -> onnx.ModelProto:
        """Return the model with its sizes and values fixed, without the outputs that are not kept.

        Every input that does not have the batch of one in front gets an axis for it: see
        :mod:`snnc.source.whole_rows`.

        Args:
            model: as it was loaded; not changed.
            where: the file, for messages.

        Raises:
            UsageError: an input or output is unknown, a rank is another one, or the file fixes another size.
        """
        if not self and not whole_rows(model.graph):
            return model
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        graph = changed.graph
        constants = {tensor.name for tensor in graph.initializer}
        given = {value.name: value for value in graph.input if value.name not in constants}
        for name, shape in self.shapes.items():
            if name not in given:
                raise UsageError(f"--shape: {where} has no input {name!r}; its inputs: {_listed(given)}")
            _sized(given[name], shape, where)
        fix(graph, self.values, where)
        if self.outputs:
            _keep(graph, self.outputs, where)
        put_in_front(graph)
        return changed


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return value


def _sized(value: onnx.ValueInfoProto, shape: Shape, where: str) -> None:
    """Fix the sizes of an input."""
    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    told = f"--shape {value.name}={','.join(map(str, shape))}"
    if tensor.HasField("shape") and len(dims) != len(shape):
        raise UsageError(f"{told}: the input has {len(dims)} sizes in {where}, the batch included")
    if not tensor.HasField("shape"):
        for _ in shape:
            dims.add()
    for dim, size in zip(dims, shape, strict=True):
        if size and dim.dim_value > 0 and dim.dim_value != size:
            shown = ", ".join(str(d.dim_value) if d.dim_value > 0 else d.dim_param or "?" for d in dims)
            raise UsageError(
                f"{told}: {where} fixes the shape ({shown}); leave --shape out, or export it anew"
            )
    for dim, size in zip(dims, shape, strict=True):
        if size:
            dim.dim_value = size


def _keep(graph: onnx.GraphProto, outputs: Sequence[str], where: str) -> None:
    """Leave out all other outputs, and the inputs that only these need."""
    known = {value.name: value for value in graph.output}
    for name in outputs:
        if name not in known:
            raise UsageError(f"--keep-output: {where} has no output {name!r}; its outputs: {_listed(known)}")
    kept = [value for value in graph.output if value.name in outputs]
    makers = {name: node for node in graph.node for name in node.output}
    wanted: set[str] = set()
    waiting = [value.name for value in kept]
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting.extend(_reads(makers[name]) if name in makers else ())
    constants = {tensor.name for tensor in graph.initializer}
    given = [value for value in graph.input if value.name in wanted or value.name in constants]
    del graph.output[:], graph.input[:]
    graph.output.extend(kept)
    graph.input.extend(given)
    nodes = [node for node in graph.node if wanted.intersection(node.output)]
    del graph.node[:]
    graph.node.extend(nodes)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names of all tensors that a node reads, those that only its subgraphs read included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                yield from _reads(inner)
            yield from (value.name for value in graph.output)


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(map(repr, names))


EVERYTHING = Selection()
"""A file as it is."""
