"""Activations that a chain of float operations rounds or clips: QCFS, PACT, LSQ, TCL and their like.

Exporters spell one and the same function in many ways, so the chain is not matched: it is evaluated. A
*region* (see :mod:`snnc.frontend.regions`) of which at least one operation rounds or folds is a function of
one number per channel. Where it is a staircase of equal steps, every step is found to the last bit of
float32 by bisection of the source's own operations, and with them scale, levels, offset and rounding. Where
it is a clip from zero to a limit, it is a rectifier with that ceiling. All else is left to be read node by
node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from snnc.frontend.builder import GraphBuilder
from snnc.frontend.channel_constants import channel_values
from snnc.frontend.quantised.codes import levels_of
from snnc.frontend.regions import Region, Wiring
from snnc.frontend.simplify import Constant, label
from snnc.frontend.views import View
from snnc.ir.ann import ROUNDINGS, Relu
from snnc.ir.graph import FloatArray, IntArray
from snnc.ir.snn import MOST_BREAKPOINTS

ROUNDS = frozenset({"Ceil", "Floor", "Round"})
FOLDS = frozenset({"Abs"})
POINTWISE = (
    ROUNDS
    | FOLDS
    | frozenset({"Add", "Cast", "Clip", "Div", "Identity", "Max", "Min", "Mul", "Neg", "Relu", "Sub"})
)

FAR = np.float32(2**20)
"""Beyond this a quantiser is taken to be saturated, which is checked at a second place."""

CLOSE = 1e-4
"""How far, relative to a step, an output may lie from its level, and a breakpoint from its place."""

MAGNITUDES = np.exp2(np.arange(-20, 20, 1 / 16))
"""Of the values, of either sign, at which a function is compared with what it was taken for."""

ULPS = 64
"""How far, in units of the last place, breakpoints may lie from those of the canonical form to be its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Staircase:
    """A region whose function is known.

    Attributes:
        scale: (channels,) or (1,) distance of the levels; the ceiling where nothing is rounded.
        lowest, highest: the levels; both 0 where nothing is rounded.
        rounding: as :class:`snnc.ir.ann.Relu` has it.
        points: (channels or 1, levels - 1) the least float32 of each level above the lowest; ``None`` where
            the canonical form gives the very same.
        moved: how many of the breakpoints differ from those of the canonical form, by rounding alone.
    """

    scale: FloatArray
    lowest: int
    highest: int
    rounding: str = "half-even"
    points: FloatArray | None = None
    moved: int = 0


def find_regions(nodes: Sequence[onnx.NodeProto], constants: Iterable[str]) -> dict[int, list[Region]]:
    """Return what may be a staircase or a clip, by the number of its first node, the largest first.

    Args:
        nodes: in topological order.
        constants: names of tensors that are constant, those that nodes compute of constants included.
    """
    constant = set(constants)
    if not any(node.op_type in ROUNDS | FOLDS | {"Sub"} for node in nodes):
        return {}
    wiring = Wiring.of(nodes, constant, POINTWISE)
    found: dict[int, list[Region]] = {}
    for node in nodes:
        end = node.output[0] if node.output else ""
        for root in wiring.roots.get(end, frozenset()) - {end}:
            region = wiring.region(root, end)
            kinds = [nodes[each].op_type for each in region.places]
            folded = kinds.count("Relu") >= 2 and "Sub" in kinds
            if (ROUNDS | FOLDS).intersection(kinds) or folded:
                found.setdefault(region.places[0], []).append(region)
    return {
        first: sorted(regions, key=lambda region: len(region.places), reverse=True)
        for first, regions in found.items()
    }


class _Function:
    """A region as a function of (points, channels) float32."""

    def __init__(
        self,
        region: Region,
        nodes: Sequence[onnx.NodeProto],
        constants: Mapping[str, Constant],
        rank: int,
        channels: int,
        opset: int,
    ) -> None:
        self.rank, self.channels = rank, channels
        names = {name for node in nodes for name in node.input if name in constants}
        sample = helper.make_tensor_value_info(region.root, onnx.TensorProto.FLOAT, [None] * rank)
        result = helper.make_value_info(region.end, onnx.TypeProto())
        initial = [numpy_helper.from_array(constants[name], name) for name in names]
        graph = helper.make_graph(list(nodes), "region", [sample], [result], initial)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        self.root, self.run = region.root, ReferenceEvaluator(model).run

    def __call__(self, x: FloatArray) -> FloatArray:
        shaped = x.reshape(len(x), self.channels, *(1,) * (self.rank - 2))
        with np.errstate(all="ignore"):
            results: Any = self.run(None, {self.root: shaped})
            y = np.asarray(results[0])
        if y.shape != shaped.shape:
            raise ValueError("its constants differ from place to place")
        return y.reshape(x.shape).astype(np.float32)


def recognise(
    region: Region,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Constant],
    shape: Sequence[int],
    opset: int,
) -> Staircase | None:
    """Return what a region is; ``None`` where it is no staircase of equal steps and no clip.

    Args:
        region: the region.
        nodes: its nodes, in order.
        constants: the constants that it reads, by name.
        shape: of the tensor that it reads, batch included.
        opset: version of the default domain.
    """
    per_channel = any(constants[name].size > 1 for node in nodes for name in node.input if name in constants)
    channels = shape[1] if per_channel and len(shape) > 1 else 1
    try:
        function = _Function(region, nodes, constants, max(len(shape), 2), channels, opset)
        return _recognised(function, channels)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return None  # what the evaluator cannot compute is read node by node, and told there


def _recognised(function: _Function, channels: int) -> Staircase | None:
    ones = np.ones((1, channels), np.float32)
    ends = [function(FAR * factor * ones)[0].astype(np.float64) for factor in (-1, -0.5, 0.5, 1)]
    low, high = ends[0], ends[3]
    if (
        not np.isfinite(ends).all()
        or (ends[1] != low).any()
        or (ends[2] != high).any()
        or (high <= low).any()
    ):
        return None
    count = _steps(function, channels)
    if count is None:
        return _clip(function, channels, low, high)
    step = (high - low) / count
    first = np.rint(low / step)
    if (first != first[0]).any() or np.abs(low / step - first).max() > CLOSE * count:
        return None
    wanted = low + step * (np.arange(1, count + 1)[:, None] - 0.5)
    points = _bisected(function, wanted, channels)
    reached, before = function(points), function(np.nextafter(points, np.float32(-np.inf)))
    levels = low + step * np.arange(1, count + 1)[:, None]
    tolerance = CLOSE * step * max(1, count / 16)
    off = np.maximum(np.abs(reached - levels), np.abs(before - (levels - step)))
    x = _probes(points[0].astype(np.float64), points[-1].astype(np.float64) + step)
    taken = np.array([np.searchsorted(*each, side="right") for each in zip(points.T, x.T, strict=True)]).T
    if (off > tolerance).any() or (np.abs(function(x) - (low + step * taken)) > tolerance).any():
        return None
    return _canonical(step.astype(np.float32), int(first[0]), count, points)


def _probes(first: NDArray[np.float64], last: NDArray[np.float64]) -> FloatArray:
    """Return values, (points, channels), close together around (channels,) two ends and of all magnitudes."""
    near = first + np.linspace(-1, 2, 1024)[:, None] * (last - first)
    far = np.concatenate([-MAGNITUDES, MAGNITUDES])[:, None] * np.ones_like(first)
    return np.concatenate([near, far]).astype(np.float32)


def _steps(function: _Function, channels: int) -> int | None:
    """Return the number of steps of the first channel; ``None`` where it is no staircase of few steps."""

    def values(x: FloatArray) -> FloatArray:
        return function(np.repeat(x[:, None], channels, axis=1))[:, 0]

    left, right = np.array([-FAR]), np.array([FAR])
    for _ in range(70):
        below, above = values(left), values(right)
        apart = below != above
        left, right = left[apart], right[apart]
        if len(left) > 2 * MOST_BREAKPOINTS:
            return None
        middle = _halfway(left, right)
        open_ = (middle != left) & (middle != right)
        if not open_.any():
            return len(left) or None
        left = np.concatenate([left[~open_], left[open_], middle[open_]])
        right = np.concatenate([right[~open_], middle[open_], right[open_]])
    return None


def _bisected(function: _Function, wanted: NDArray[np.float64], channels: int) -> FloatArray:
    """Return the least float32 at which the function exceeds each of ``wanted``, (steps, channels)."""
    left, right = (np.full(wanted.shape, end, np.float32) for end in (-FAR, FAR))
    for _ in range(40):
        middle = _halfway(left, right)
        above = function(middle) > wanted
        left, right = np.where(above, left, middle), np.where(above, middle, right)
    return right


def _ordinals(x: FloatArray) -> IntArray:
    """Return float32 numbers as integers in the same order, neighbours one apart."""
    bits = np.ascontiguousarray(x, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))


def _halfway(left: FloatArray, right: FloatArray) -> FloatArray:
    """Return the float32 half-way between two, counted in neighbours."""
    middle = (_ordinals(left) + _ordinals(right)) // 2
    bits = np.where(middle >= 0, middle, (-middle) | 0x80000000)
    return bits.astype(np.uint32).view(np.float32).reshape(left.shape)


def _canonical(step: FloatArray, lowest: int, count: int, points: FloatArray) -> Staircase | None:
    """Say by which rounding the steps lie where they do."""
    if not lowest <= 0 < lowest + count:
        return None
    best: tuple[int, str, FloatArray] | None = None
    for rounding in ROUNDINGS:
        own = canonical_points(step, lowest, count, rounding)
        apart = np.abs(_ordinals(own) - _ordinals(points))
        crossing = apart > ULPS
        # Breakpoints around zero are as many neighbours apart as there are floats.
        if (crossing & (np.abs(own - points) > 1e-6 * step)).any():
            continue
        if best is None or int((apart > 0).sum()) < best[0]:
            best = (int((apart > 0).sum()), rounding, own)
    if best is None:
        return None
    moved, rounding, _ = best
    kept = None if not moved else np.ascontiguousarray(points.T)
    return Staircase(step, lowest, lowest + count, rounding, kept, moved)


def canonical_points(step: FloatArray, lowest: int, count: int, rounding: str) -> FloatArray:
    """Return the least float32 of each level of ``clip(round(x / scale))``, (steps, channels)."""
    node = Relu(
        name="", inputs=("",), shape=step.shape, scale=step, lowest=lowest, highest=lowest + count,
        rounding=rounding,
    )  # fmt: skip
    levels = np.arange(lowest + 1, lowest + count + 1)[:, None]
    left, right = (np.full((count, len(step)), end, np.float32) for end in (-FAR, FAR))
    for _ in range(40):
        middle = _halfway(left, right)
        above = _level(node, middle) >= levels
        left, right = np.where(above, left, middle), np.where(above, middle, right)
    return right


def _level(node: Relu, x: FloatArray) -> FloatArray:
    quotient = x / np.asarray(node.scale)
    if node.rounding == "half-even":
        return np.asarray(np.rint(quotient))
    return np.asarray(np.floor(quotient + np.float32(0.5) if node.rounding == "half-up" else quotient))


def _clip(
    function: _Function, channels: int, low: NDArray[np.float64], high: NDArray[np.float64]
) -> Staircase | None:
    """Return a clip from zero, where the region is one."""
    if (np.abs(low) > CLOSE * high).any():
        return None
    x = _probes(np.zeros_like(high), high)
    expected = np.clip(x, 0, high)
    if (np.abs(function(x) - expected) > CLOSE * high).any():
        return None
    return Staircase(high.astype(np.float32), 0, 0)


def emit(builder: GraphBuilder, view: View, found: Staircase, last: onnx.NodeProto) -> View:
    """Add the rectifier that a region is.

    Args:
        builder: the network in the making.
        view: what the region reads.
        found: what it is.
        last: its last node, whose name the rectifier bears.

    Raises:
        RefusalError: its constants do not fit the tensor.
    """
    origin, rank = label(last), len(view.shape)
    sizes = (1, -1, *(1,) * (rank - 2)) if found.scale.size > 1 else (1,) * rank
    spread = found.scale.reshape(sizes)
    view, (scales,) = channel_values(builder, view, (spread,), origin)
    lowest, highest = found.lowest, found.highest
    common: dict[str, Any] = {
        "name": origin,
        "inputs": (view.node,),
        "shape": builder.shape(view.node),
        "origin": origin,
    }
    if highest == lowest:
        return View(builder.emit(Relu(ceiling=scales, **common)), view.index, origin)
    points = found.points
    if points is not None and len(points) > 1 and len(points) != len(scales):
        points = None  # folded into a vector: the canonical form stands for them
    node = Relu(
        rounding=found.rounding,
        points=points,
        **levels_of(scales, lowest, highest),
        **common,
    )
    return View(builder.emit(node), view.index, origin)
