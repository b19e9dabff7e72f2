"""Normalisations that an exporter spells by means, squares, roots and quotients.

There are as many spellings as exporters, so a chain is not matched: it is evaluated, as chains that round to
levels are. A *region* is all that lies between a tensor and a later one of the same shape that depends on
nothing else, arithmetic and means with constants beside it, among them a mean and a root. What it computes is
found by asking it, in float64: which values each result depends on (the axes), whether it changes with the
mean, at which variance epsilon takes over, scale and shift. Then the answer is compared with the region at
other values, of ordinary and of tiny variance. Where it is a normalisation but for the place of epsilon,
which only matters at variances near epsilon, it is taken for one and said to be approximated. All else is
left to be read node by node.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from snnc.frontend.regions import Region, Wiring
from snnc.frontend.simplify import Constant
from snnc.ir.graph import FloatArray, Shape

MEANS = frozenset({"GlobalAveragePool", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare"})
ROOTS = frozenset({"Pow", "ReduceL2", "Sqrt"})
ENDS = frozenset({"Add", "Div", "Mul", "Sub"})
KINDS = (
    MEANS
    | ROOTS
    | ENDS
    | frozenset(
        {"Abs", "Cast", "Clip", "Constant", "Expand", "Flatten", "Identity", "Max", "Neg", "Reciprocal"}
    )
    | frozenset({"Relu", "Reshape", "Shape", "Squeeze", "Transpose", "Unsqueeze"})
)
"""Operators that may stand in a chain."""

MOST_NODES = 30
"""Most operators of a chain."""

MOST_VALUES = 2**22
"""Most values of a tensor whose chain is asked."""

NEVER = 1e-9
"""No standard deviation of a trained network is as small."""

CLOSE = 1e-6
"""How far results may lie from those of what the chain was taken for, relative to the largest."""

FAR = 1e5
"""A standard deviation at which no epsilon matters."""

SAME = 1e-9
"""How far constants may lie from each other to be the same, relative to the largest."""

SCALES = np.exp2(np.arange(2, -50, -1.0))
"""Of the values at which the chain is asked where epsilon takes over."""

Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """A region that is a normalisation.

    Attributes:
        axes: of the tensor.
        epsilon: added to the variance.
        centred: whether the mean is subtracted.
        scale, shift: of a shape that broadcasts to the tensor's.
        exact: whether epsilon stands beside the variance; else it stands elsewhere.
    """

    axes: Shape
    epsilon: float
    centred: bool
    scale: FloatArray
    shift: FloatArray
    exact: bool


def find_chains(nodes: Sequence[onnx.NodeProto], constants: Iterable[str]) -> dict[int, list[Region]]:
    """Return what may be a normalisation, by the number of its first node, the shortest first.

    Args:
        nodes: in topological order.
        constants: names of tensors that are constant, those that nodes compute of constants included.
    """
    kinds = {node.op_type for node in nodes}
    if not (kinds & MEANS and kinds & ROOTS and kinds & {"Div", "Mul"}):
        return {}
    wiring = Wiring.of(nodes, frozenset(constants), KINDS)
    found: dict[int, list[Region]] = {}
    for node in nodes:
        end = node.output[0] if node.output else ""
        if node.op_type not in ENDS:
            continue
        for root in wiring.roots.get(end, frozenset()) - {end}:
            region = wiring.region(root, end)
            spelt = {nodes[each].op_type for each in region.places}
            short = len(region.places) <= MOST_NODES
            if short and spelt & MEANS and spelt & ROOTS and spelt & {"Div", "Mul"}:
                found.setdefault(region.places[0], []).append(region)
    return {first: sorted(regions, key=lambda region: len(region.places)) for first, regions in found.items()}


def without_parts_of(
    chains: Mapping[int, Sequence[Region]], functions: Mapping[int, Sequence[Region]]
) -> dict[int, list[Region]]:
    """Return regions without those that hold a part of a chain and something beside it.

    The square at the head of a chain is a function of one number, and one together with what is before it.

    Args:
        chains: as found above.
        functions: regions by the number of their first node.
    """
    places = [set(region.places) for regions in chains.values() for region in regions]
    least = [each for each in places if not any(other < each for other in places)]
    whole = set[int]().union(*least)

    def apart(region: Region) -> bool:
        return not whole.intersection(region.places) or whole.issuperset(region.places)

    return {first: list(filter(apart, regions)) for first, regions in functions.items()}


def recognise(
    region: Region,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Constant],
    shape: Shape,
    opset: int,
) -> Chain | None:
    """Return what a region is; ``None`` where it is no normalisation.

    Args:
        region: the region.
        nodes: its nodes, in order.
        constants: the constants that it reads, by name.
        shape: of the tensor that it reads, for one row.
        opset: version of the default domain.
    """
    if not shape or not 2 <= math.prod(shape) <= MOST_VALUES:
        return None
    try:
        function = _Function(region, nodes, constants, shape, opset)
        several = _Function(region, nodes, constants, (2, *shape[1:]), opset)
        return None if _mixes_rows(function, several) else _recognised(function, shape)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return None  # what the evaluator cannot compute is read node by node, and told there


class _Function:
    """A region as a function of a tensor, in float64."""

    def __init__(
        self,
        region: Region,
        nodes: Sequence[onnx.NodeProto],
        constants: Mapping[str, Constant],
        shape: Shape,
        opset: int,
    ) -> None:
        self.shape, self.root = shape, region.root
        made = {name for node in nodes for name in node.output}
        names = {name for node in nodes for name in node.input if name in constants} - made
        sample = helper.make_tensor_value_info(region.root, onnx.TensorProto.DOUBLE, shape)
        result = helper.make_value_info(region.end, onnx.TypeProto())
        initial = [numpy_helper.from_array(_wide(constants[name]), name) for name in names]
        inside = [
            helper.make_node("Identity", node.input, node.output) if node.op_type == "Cast" else node
            for node in nodes
        ]
        graph = helper.make_graph(inside, "region", [sample], [result], initial)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        self.run = ReferenceEvaluator(model).run

    def __call__(self, x: Reals) -> Reals:
        with np.errstate(all="ignore"):
            results: Any = self.run(None, {self.root: x})
            y = np.asarray(results[0], np.float64)
        if y.shape != self.shape or not np.isfinite(y).all():
            raise ValueError("it is no normalisation")
        return y


def _mixes_rows(function: _Function, several: _Function) -> bool:
    """Say whether a region gives two rows together something else than each by itself.

    Args:
        function: of one row.
        several: the same of two.
    """
    rows = np.random.default_rng(1).standard_normal(several.shape) * 3 + 1
    try:
        together = several(rows)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return False  # it takes one row alone
    return not _near(together, np.concatenate([function(row[None]) for row in rows]))


def _wide(value: Constant) -> Constant:
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def _recognised(function: _Function, shape: Shape) -> Chain | None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape) * 3 + 1
    base = function(x)
    axes = _axes(function, x, base)
    if axes is None or math.prod(shape[axis] for axis in axes) < 2:
        return None
    moved = function(x + 5)
    centred = _near(moved, base)
    found = _epsilon(function, x, base, axes, centred=centred)
    if found is None:
        return None
    epsilon, exact = found
    spread = 3 if exact else FAR  # where the place of epsilon does not matter
    probes = [rng.standard_normal(shape) * spread + 1 for _ in range(4)]
    known = np.stack([_normalised(probe, axes, epsilon, centred=centred) for probe in probes])
    given = np.stack([function(probe) for probe in probes])
    middle, mean = known.mean(axis=0), given.mean(axis=0)
    scale = ((known - middle) * (given - mean)).sum(axis=0) / ((known - middle) ** 2).sum(axis=0)
    shift = mean - scale * middle
    size = np.abs(base).max()
    scale, shift = _told(scale, np.abs(scale).max()), _told(shift, size)
    for probe in (rng.standard_normal(shape) * spread, rng.standard_normal(shape) * 2 * spread - 2):
        taken = _normalised(probe, axes, epsilon, centred=centred) * scale + shift
        if not _near(function(probe), taken):
            return None
    return Chain(axes, epsilon, centred, scale.astype(np.float32), shift.astype(np.float32), exact)


def _axes(function: _Function, x: Reals, base: Reals) -> Shape | None:
    """Return the axes along which values depend on each other; ``None`` where these are not whole axes."""
    touched = x.copy()
    touched.flat[0] += 10
    changed = np.abs(function(touched) - base) > 1e-9 * np.abs(base).max()
    if not changed.flat[0]:
        return None
    places = np.nonzero(changed)
    axes = tuple(axis for axis, place in enumerate(places) if place.max() > 0)
    whole = math.prod(x.shape[axis] for axis in axes)
    # Of few of them the change may be small by chance, but none is beside the axes.
    return (
        axes
        if changed.sum() >= 0.9 * whole and all(not p.any() for a, p in enumerate(places) if a not in axes)
        else None
    )


def _normalised(x: Reals, axes: Shape, epsilon: float, *, centred: bool) -> Reals:
    moved = x - x.mean(axis=axes, keepdims=True) if centred else x
    return np.asarray(moved / np.sqrt((moved * moved).mean(axis=axes, keepdims=True) + epsilon))


def _epsilon(
    function: _Function, x: Reals, base: Reals, axes: Shape, *, centred: bool
) -> tuple[float, bool] | None:
    """Find epsilon by values that become smaller, until the results do; 0 where these never do.

    Returns:
        Epsilon, and whether it stands beside the variance, or is too small ever to matter; ``None`` where it
        is neither there, nor behind the root, nor its lower limit.
    """
    far, opposite = function(x * FAR), function(x * -FAR)
    shift = (far + opposite) / 2  # a normalisation is an odd function
    span = np.abs(far - shift).max()
    if not span > 0:
        return None
    flat = np.abs(far - shift).argmax()
    moved = x - x.mean(axis=axes, keepdims=True) if centred else x
    variance = np.broadcast_to((moved * moved).mean(axis=axes, keepdims=True), x.shape).flat[flat]
    ratios = []
    for scale in SCALES:
        ratio = float((function(x * scale) - shift).flat[flat] / (far - shift).flat[flat])
        ratios.append((float(variance * scale * scale), ratio))
        if ratio < 0.3:
            break
    halves = [(v, r) for v, r in ratios if 0.3 <= r <= 0.9]
    if not halves:
        return (0.0, True) if ratios[-1][1] > 0.9 else None
    beside = [v * (r**-2 - 1) for v, r in halves]
    if max(beside) - min(beside) <= 1e-3 * max(beside):
        return _round(float(np.mean(beside))), True
    behind = [math.sqrt(v) * (1 / r - 1) for v, r in halves]
    if max(behind) - min(behind) <= 1e-3 * max(behind):
        return _round(float(np.mean(behind))) ** 2, False
    limits = [math.sqrt(v) / r for v, r in halves]
    if max(limits) - min(limits) <= 1e-3 * max(limits):  # a root that is limited from below
        return _round(float(np.mean(limits))) ** 2, limits[0] < NEVER
    return None


def _round(epsilon: float) -> float:
    """Return a number as people write it: what was found is off in later digits."""
    return float(f"{epsilon:.3g}") if abs(float(f"{epsilon:.3g}") / epsilon - 1) < 1e-4 else epsilon


def _near(one: Reals, other: Reals) -> bool:
    return bool(np.abs(one - other).max() <= CLOSE * max(np.abs(other).max(), 1e-30))


def _told(values: Reals, size: float) -> Reals:
    """Return constants with size 1 along the axes along which they are the same."""
    for axis in range(values.ndim):
        first = values.take([0], axis)
        if np.abs(values - first).max() <= SAME * size:
            values = first
    if np.abs(values - 1).max() < 1e-6:
        return np.ones((1,) * values.ndim)
    return np.zeros((1,) * values.ndim) if np.abs(values).max() <= 1e-6 * size else values
