"""Activations of any kind: regions that are functions of one number, read as one :class:`ann.Pointwise`.

Sigmoid, SiLU, GELU in any of its spellings, PRelu, a logarithm of an affine map: no pattern is matched. All
that lies between a tensor and a later one that depends on nothing else is written down as one program (see
:mod:`snnc.ir.function`). What a rectifier or an affine map says is left to them: regions of these alone are
no functions, and a region begins behind the affine maps at its head, which weights take in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from snnc.diagnostics import UNSUPPORTED_OPERATOR, UNSUPPORTED_STRUCTURE
from snnc.frontend.builder import GraphBuilder
from snnc.frontend.call import Call, Comparison, Limited
from snnc.frontend.channel_constants import channel_values
from snnc.frontend.legacy import aligned, modern
from snnc.frontend.programs import (
    MICROSOFTS,
    TRANSLATED,
    Program,
    UntranslatableError,
    as_number,
    translation,
)
from snnc.frontend.quantised.staircases import MAGNITUDES
from snnc.frontend.regions import Region, Wiring
from snnc.frontend.simplify import Constant, label
from snnc.frontend.views import View
from snnc.ir import ann
from snnc.ir.function import COMPARISONS, Function
from snnc.ir.graph import FloatArray

AFFINE = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Sum", "Mean", "Identity", "Cast", "Dropout"})
"""Operators that are affine where all but one of their inputs are constants, and Div where the divisor is."""

SUMS = frozenset({"Add", "Sub", "Sum", "Mean"})
"""Operators that are read by themselves where several of their inputs are no constants, too."""

CHOICES = frozenset(
    {"Abs", "Max", "Min", "Where", "Not", "And", "Or", "Ceil", "Floor", "Round", *COMPARISONS}
)
"""Operators of which a region may be a plain rectifier all the same: its values tell."""

CLOSE = 1e-6
"""How far, relative, the values of a region may lie from those of the rectifier that it is taken for."""

MOST_COMPARED = 4096
"""Most channels whose values are compared with those of a rectifier."""

MICROSOFT = "com.microsoft"

CURVES = TRANSLATED - AFFINE - CHOICES - {"Clip", "LeakyRelu", "PRelu", "Relu"}
"""Operators with which a region is no rectifier and no affine map, whatever its constants are."""


def wired(nodes: Sequence[onnx.NodeProto], constants: Collection[str]) -> Wiring:
    """Return how nodes hang together; see :class:`Wiring` for the arguments."""
    return Wiring.of(nodes, constants, TRANSLATED, {MICROSOFT: MICROSOFTS})


def find_functions(wiring: Wiring) -> dict[int, list[Region]]:
    """Return what may be a function of one number, by the number of its first node, the largest first."""
    nodes = wiring.nodes
    found: dict[int, list[Region]] = {}
    plain = [each.op_type in AFFINE | {"Relu"} and not _bends(wiring, each) for each in nodes]
    others = np.cumsum([0, *(not each for each in plain)])
    for number, node in enumerate(nodes):
        end = node.output[0] if node.output else ""
        roots = wiring.roots.get(end, frozenset()) - {end}
        if not roots or _only_scales(wiring, number):
            continue
        for root in roots:
            if others[number + 1] == others[wiring.place.get(root, -1) + 1]:
                continue  # nothing between them but rectifiers and affine maps
            region = wiring.region(root, end)
            if all(plain[place] for place in region.places):
                continue
            if not _begins_affine(wiring, region, roots):
                found.setdefault(region.places[0], []).append(region)
    return {
        first: sorted(regions, key=lambda region: len(region.places), reverse=True)
        for first, regions in found.items()
    }


def _bends(wiring: Wiring, node: onnx.NodeProto) -> bool:
    """Whether an operator that may be affine is not: a product of two values, a division by one."""
    varying = [name for name in node.input if name and name not in wiring.constants]
    if node.op_type == "Div" and node.input[0] in wiring.constants:
        return True
    return len(varying) > 1 and node.op_type not in SUMS


def _only_scales(wiring: Wiring, number: int) -> bool:
    """Whether a node is an affine map of a value that others read, too: each may scale it as it likes."""
    node, varying = wiring.nodes[number], wiring.varying(number)
    affine = node.op_type in AFFINE and not _bends(wiring, node) and len(varying) == 1
    return affine and len(wiring.readers[varying[0]]) > 1


def _begins_affine(wiring: Wiring, region: Region, roots: frozenset[str]) -> bool:
    """Whether a smaller region with the same end leaves out affine maps at the head alone."""
    if wiring.nodes[region.places[0]].op_type not in AFFINE:
        return False  # the first node is in every head
    for root in roots - {region.root}:
        if wiring.place.get(root) in region.places:
            head = wiring.region(region.root, root)
            inside = [wiring.nodes[place] for place in head.places]
            if all(
                each.op_type in AFFINE
                and not _bends(wiring, each)
                and len([name for name in each.input if name and name not in wiring.constants]) == 1
                for each in inside
            ):
                return True
    return False


@dataclass(frozen=True, slots=True)
class Written:
    """A region as a function.

    Attributes:
        program: of :class:`snnc.ir.function.Function`.
        constants: of shapes that broadcast over the argument.
        is_identity: whether it changes nothing.
        is_rectifier: whether it is a rectifier, with or without an upper limit.
        is_curved: whether it holds an operator with which it is neither, whatever the constants are.
    """

    program: str
    constants: tuple[Constant, ...]
    is_identity: bool
    is_rectifier: bool
    is_curved: bool


def written(
    region: Region, nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Constant], view: View, opset: int
) -> Written | None:
    """Return the function that a region is; ``None`` where no program says it.

    Args:
        region: the region.
        nodes: its nodes, in order.
        constants: those that it reads, by name.
        view: the tensor that it reads.
        opset: version of the default domain.
    """
    program = Program()
    known: dict[str, str] = {region.root: "x"}
    values: dict[str, Any] = {region.root: view, **constants}
    try:
        for node in nodes:
            now = modern(node, opset)
            operands = aligned(now, [values.get(name) if name else None for name in now.input], opset)
            call = Call(now, opset, operands, GraphBuilder({}), None, ((),) * len(now.output))
            read = [
                program.constant(as_number(value)) if isinstance(value, np.ndarray) else known.get(name, "")
                for name, value in zip(now.input, operands, strict=True)
            ]
            if any(name and not operand for name, operand in zip(now.input, read, strict=True)):
                raise UntranslatableError("a constant is not known yet")
            known[now.output[0]] = translation(now.op_type)(program, call, read)
            values[now.output[0]] = view
        if np.broadcast_shapes(view.shape, *(each.shape for each in program.constants)) != view.shape:
            return None
    except (UntranslatableError, ValueError):
        return None
    last = known[region.end]
    if not program.calls or last != f"v{len(program.calls) - 1}":
        program.call("Identity", last)
    kinds = {node.op_type for node in nodes if node.domain != MICROSOFT}
    products = any(node.op_type in ("Mul", "Div") and _several(node, constants) for node in nodes)
    curved = bool(CURVES & kinds) or products or len(kinds) < len({node.op_type for node in nodes})
    text, rows = program.text()
    if not all(np.isfinite(each).all() for each in rows):
        return None
    identity, rectifier = (False, False) if curved else _simple(text, rows)
    return Written(text, rows, identity, rectifier, curved)


def _several(node: onnx.NodeProto, constants: Mapping[str, Constant]) -> bool:
    """Whether several inputs are no constants, or the divisor is none."""
    varying = [name for name in node.input if name and name not in constants]
    return len(varying) > 1 or (node.op_type == "Div" and node.input[0] in constants)


def _simple(program: str, given: Sequence[Constant]) -> tuple[bool, bool]:
    """Say whether values show that a function changes nothing, and whether it is a rectifier."""
    magnitudes = np.concatenate([-MAGNITUDES[::-1], [0], MAGNITUDES]).astype(np.float32)
    limits = np.unique(np.concatenate([np.ravel(each) for each in (*given, np.zeros(1))]))
    x = np.concatenate([magnitudes, limits, limits - 1e-3, limits + 1e-3]).astype(np.float32)
    whole = np.broadcast_shapes(*(each.shape for each in given))
    rows = int(np.prod(whole))
    if rows > MOST_COMPARED:
        return False, False
    spread = [np.broadcast_to(each, whole).ravel() for each in given]
    constants = np.stack(spread).astype(np.float32) if spread else np.zeros((0, 1), np.float32)
    y = Function(program, constants)(np.broadcast_to(x, (rows, len(x))))
    if not np.isfinite(y).all():
        return False, False
    highest = y.max(axis=1, keepdims=True)
    limited = (highest > 0).all() and np.allclose(y, np.clip(x, 0, highest), CLOSE, 0)
    return bool(np.allclose(y, x, CLOSE, 0)), bool(limited)


def emit_function(builder: GraphBuilder, view: View, found: Written, last: onnx.NodeProto) -> View:
    """Add the activation that a region is.

    Args:
        builder: the network in the making.
        view: what the region reads.
        found: what it is.
        last: its last node, whose name the activation bears.

    Raises:
        RefusalError: a constant differs within a channel.
    """
    origin = label(last)
    if found.is_identity:
        return view.to(view.index, origin)
    rows: list[FloatArray]
    common = all(each.size == 1 for each in found.constants)
    padded = (view.index < 0).any()  # a function of the zeros beside the values need not be zero
    if padded or not common or not builder.repeats(view):  # what is repeated is computed once
        view = builder.settle(view, origin)
    shape = builder.shape(view.node)
    if common:
        rows = [each.reshape(1) for each in found.constants]
    else:
        view, vectors = channel_values(builder, view, found.constants, origin)
        rows = list(vectors)
    node = ann.Pointwise(
        name=last.name or f"{last.op_type}_{origin}",
        inputs=(view.node,),
        shape=builder.shape(view.node),
        origin=origin,
        program=found.program,
        constants=np.stack(rows).astype(np.float32) if rows else np.zeros((0, 1), np.float32),
    )
    name = builder.emit(node)
    if len(node.shape) == 1 < len(shape):  # constants for each value: what follows reads a map again
        name = builder.reshape(name, shape, origin)
    return View(name, view.index, origin)


def alone(call: Call) -> View:
    """Read an operator as a function of its own, where it belongs to no larger one.

    Raises:
        RefusalError: it computes in integers, or is no function of one value per channel.
    """
    if call.whole:
        call.refuse("computes in integers", "cast the network's input to floats first")
    views = [value for value in call.operands if isinstance(value, View)]
    constants = [value for value in call.operands if isinstance(value, np.ndarray)]
    if len(views) != 1 or len(views) + len(constants) < sum(value is not None for value in call.operands):
        call.refuse(
            "combines two tensors that both depend on the input",
            "use a function of one value, with constants beside it",
            UNSUPPORTED_STRUCTURE,
        )
    program = Program()
    try:
        read = [
            "x"
            if isinstance(value, View)
            else program.constant(as_number(value))
            if value is not None
            else ""
            for value in (value for value in call.operands if not isinstance(value, Comparison | Limited))
        ]
        last = translation(call.proto.op_type)(program, call, read)
    except UntranslatableError as error:
        call.refuse(str(error), "cast to floats only", UNSUPPORTED_OPERATOR)
    if last != f"v{len(program.calls) - 1}":
        program.call("Identity", last)
    text, rows = program.text()
    return emit_function(call.builder, views[0], Written(text, rows, False, False, True), call.proto)
