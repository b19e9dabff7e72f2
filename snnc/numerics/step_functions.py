"""From a function of one number to a step function: which levels its values get, and where each begins.

An activation ``y = f(x)`` is carried by counts ``N = clip(round(y / step), lowest, highest)``. ``step``,
``lowest`` and ``highest`` are chosen by least squares over activations. ``N`` changes where ``f`` crosses the
middle between two levels; between the points of a grid ``f`` is taken to be monotone, and the crossings are
found by bisection. What ``f`` does between two neighbours of the grid, 1/1024 of the range of its arguments
apart, is not seen.

All channels share one row of counts, so that of functions that rise and fall each channel gets the turns of
all others: it passes through counts that it never takes at a single point.

Source of the levels: Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28 (1982).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from snnc.errors import UsageError
from snnc.ir.ann import Levelled, Pointwise
from snnc.ir.function import Function
from snnc.ir.graph import FloatArray, IntArray
from snnc.ir.snn import MOST_BREAKPOINTS
from snnc.numerics.thresholds import LLOYD_ROUNDS, SCALES, Method

Real = NDArray[np.float64]

FAR = 1e30
"""Stands for infinity among breakpoints: nothing gets there."""

POINTS = 1024
"""Points of the grid within the range of the arguments."""

REACHES = (2.0**30, 4.0, 1.0, 0.0)
"""By how many times its width the range of the arguments is widened on either side: the first for which the
step function has no more breakpoints than fit. Beyond, the count stays what it is there."""

HALVINGS = 30
"""Of a bisection between two points of the grid: to the last bit of float32."""

SPLITTING_VALUES = 50_000
"""Values by which the share of negative levels is chosen."""

ALL_SPLITS = 31
"""Up to so many levels, every share of negative ones is tried."""

NEAR_SPLITS = (0.0, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5)
"""Beyond, these multiples of the share of the range that is negative."""


HEADROOMS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0)
"""Factors of the step among which the other half of the values decides."""

ENOUGH_VALUES = 4000
"""Values of a channel from which on the step that fits them best is taken as it is."""


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels of an activation: see :class:`snnc.ir.ann.Levelled`.

    Attributes:
        step: (channels,) float32, positive.
        lowest, highest: of the counts.
    """

    step: FloatArray
    lowest: int
    highest: int


@dataclass(frozen=True, slots=True)
class StepFunction:
    """A count as a function of the argument.

    Attributes:
        breakpoints: (channels, n) or (1, n) float32, ascending: the least argument behind each change.
        step_values: (n + 1,) int32, the count between two breakpoints.
    """

    breakpoints: FloatArray
    step_values: IntArray


@dataclass(frozen=True, slots=True)
class Measured:
    """An activation that is to get levels, and what is known of it.

    Attributes:
        node: the activation.
        values: (channels, samples) float32, that it takes.
        low, high: (channels,) float32, range of what is sampled for it: the arguments of a function.
    """

    node: Levelled
    values: FloatArray
    low: FloatArray
    high: FloatArray

    @property
    def key(self) -> str:
        """Digest of all that its levels depend on: the steps of an unrolled cell may be measured alike."""
        arrays, found = [self.values, self.low, self.high], hashlib.sha256(b"%d" % self.node.channels)
        if isinstance(self.node, Pointwise):
            found.update(self.node.program.encode())
            arrays.append(self.node.constants)
        for each in arrays:
            found.update(str(each.shape).encode())
            found.update(np.ascontiguousarray(each).data)
        return found.hexdigest()


def carried(
    measured: Sequence[Measured], span: int, *, common: bool, method: Method, percentile: float = 99.9
) -> list[Levelled]:
    """Return activations with levels of one range; each with a step function where it is a function.

    Where a step function would have more breakpoints than fit, as one that falls and rises may, all get fewer
    levels.

    Args:
        measured: the activations.
        span: ``T M``, of which functions use at most as many as there may be breakpoints.
        common: whether all share one step; else each channel of the one activation has its own.
        method: as for :func:`choose_levels`.
        percentile: likewise.

    Raises:
        UsageError: a function changes its direction too often.
    """
    if any(isinstance(each.node, Pointwise) for each in measured):
        span = min(span, MOST_BREAKPOINTS)
    curves = [
        _Curve.of(each.node.function, each.low, each.high) if isinstance(each.node, Pointwise) else None
        for each in measured
    ]
    own = not common and len(measured) == 1 and isinstance(measured[0].node, Pointwise)
    values = [np.nan_to_num(each.values, posinf=0, neginf=0) for each in measured]
    pooled = values[0] if own else np.concatenate([each.reshape(1, -1) for each in values], axis=1)
    while True:
        levels = choose_levels(pooled, span, common=not own, method=method, percentile=percentile)
        found = [_with_levels(each.node, levels, curve) for each, curve in zip(measured, curves, strict=True)]
        kept = [node for node in found if not isinstance(node, int)]
        if len(kept) == len(found):
            return kept
        changes = max(node for node in found if isinstance(node, int))
        if span == 1:
            raise UsageError(
                f"{measured[0].node.origin or measured[0].node.name!r} crosses its levels more than "
                f"{MOST_BREAKPOINTS} times within the range of its arguments: cut it off, or narrow the range"
            )
        span = max(1, min(span - 1, span * MOST_BREAKPOINTS // changes))


def _with_levels(node: Levelled, levels: Levels, curve: _Curve | None) -> Levelled | int:
    """Return an activation with levels, or how often its counts would change where that is too often."""
    step = np.broadcast_to(levels.step, (node.channels,)).astype(np.float32)
    chosen = node.with_(step=step, lowest=levels.lowest, highest=levels.highest)
    if curve is None or not isinstance(chosen, Pointwise):
        return chosen
    table = curve.stepped(Levels(step, levels.lowest, levels.highest))
    if isinstance(table, int):
        return table
    return chosen.with_(breakpoints=table.breakpoints, step_values=table.step_values)


def with_levels_of(node: Levelled, other: Levelled) -> Levelled:
    """Return an activation with the levels of another that was measured alike."""
    found = node.with_(step=other.step, lowest=other.lowest, highest=other.highest)
    if isinstance(found, Pointwise) and isinstance(other, Pointwise):
        return found.with_(breakpoints=other.breakpoints, step_values=other.step_values)
    return found


def choose_levels(
    values: FloatArray, span: int, *, common: bool, method: Method = Method.MSE, percentile: float = 99.9
) -> Levels:
    """Return the levels that carry activations with the least squared error.

    Args:
        values: (channels, samples) float32, of any sign.
        span: ``highest - lowest``.
        common: whether all channels share one step.
        method: least squares; or the range from a percentile, or the largest and least value.
        percentile: for that method.
    """
    channels = len(values)
    values = values.reshape(1, -1) if common else values
    if method in (Method.PERCENTILE, Method.MAXIMUM):
        share = percentile if method is Method.PERCENTILE else 100.0
        low, high = (np.percentile(values.astype(np.float64), part, axis=1) for part in (100 - share, share))
        lowest = _natural(float(min(low.min(), 0)), float(max(high.max(), 0)), span)
        step = _reaching(low, high, lowest, lowest + span)
    else:
        some = values[:, :: max(1, values.size // SPLITTING_VALUES)]
        tried = [(float(_fitted(some, lowest, span)[1].sum()), -lowest) for lowest in _splits(some, span)]
        lowest = -min(tried)[1]
        step = _fitted(values, lowest, span)[0]
        step = step * _headroom(values, lowest, span)
    alive = step > 0
    step = np.where(alive, step, step[alive].max(initial=0) or 1 / span)
    return Levels(np.broadcast_to(step, (channels,)).astype(np.float32), lowest, lowest + span)


def _headroom(values: FloatArray, lowest: int, span: int) -> float:
    """Return by how much a step should exceed the one that fits best, as few values say little of others.

    Steps are fitted to each half of the values, and the factor is the one with which they carry the other
    half best, all channels together.
    """
    n = values.shape[1]
    if n < 4 or n >= ENOUGH_VALUES:
        return 1.0
    halves = (values[:, : n // 2], values[:, n // 2 :])
    error = np.zeros(len(HEADROOMS))
    for fitted, other in (halves, halves[::-1]):
        step = _fitted(fitted, lowest, span)[0]
        step = np.where(step > 0, step, step.max(initial=0) or 1 / span)
        for place, factor in enumerate(HEADROOMS):
            none, all_ = np.zeros(len(step)), np.full(len(step), np.inf)
            error[place] += _better(none, all_, step * factor, other, lowest, lowest + span)[1].sum()
    return HEADROOMS[int(error.argmin())]


def _splits(values: FloatArray, span: int) -> list[int]:
    """Return the lowest counts to try."""
    low, high = float(values.min()), float(values.max())
    if low >= 0:
        return [0]
    if high <= 0:
        return [-span]
    if span <= ALL_SPLITS:
        return list(range(-span, 1))
    low, high = (float(np.percentile(values, share)) for share in (0.1, 99.9))
    natural = _natural(min(low, 0), max(high, 0), span)
    return sorted({max(-span, round(natural * factor)) for factor in NEAR_SPLITS})


def _natural(low: float, high: float, span: int) -> int:
    """Return the lowest count that gives either sign its share of the range."""
    return -round(span * -low / (high - low)) if high > low else 0


def _reaching(low: Real, high: Real, lowest: int, highest: int) -> Real:
    """Return the step with which the counts reach a range, (channels,)."""
    up = np.maximum(high, 0) / highest if highest else np.zeros(len(high))
    down = np.maximum(-low, 0) / -lowest if lowest else np.zeros(len(low))
    return np.maximum(up, down)


def _fitted(values: FloatArray, lowest: int, span: int) -> tuple[Real, Real]:
    """Return the step of least squared error, and the error, (channels,) each; 0 for a silent channel."""
    highest = lowest + span
    reach = _reaching(values.min(axis=1), values.max(axis=1), lowest, highest)
    alive = reach > 0
    safe = np.where(alive, reach, 1)
    best, least = safe, np.full(len(safe), np.inf)
    for scale in SCALES:
        best, least = _better(best, least, safe * float(scale), values, lowest, highest)
    for _ in range(LLOYD_ROUNDS):
        counts = _counts(values, best, lowest, highest)
        energy = np.einsum("cs,cs->c", counts, counts, dtype=np.float64)
        product = np.einsum("cs,cs->c", values, counts, dtype=np.float64)
        usable = (energy > 0) & (product > 0)
        fitted = np.where(usable, product / np.where(usable, energy, 1), best)
        best, least = _better(best, least, fitted, values, lowest, highest)
    return np.where(alive, best, 0), np.where(alive, least, np.square(values, dtype=np.float64).sum(axis=1))


def _better(
    best: Real, least: Real, step: Real, values: FloatArray, lowest: int, highest: int
) -> tuple[Real, Real]:
    missing = _counts(values, step, lowest, highest) * step.astype(np.float32)[:, None] - values
    error = np.einsum("cs,cs->c", missing, missing, dtype=np.float64)
    return np.where(error < least, step, best), np.minimum(error, least)


def _counts(values: FloatArray, step: Real, lowest: int, highest: int) -> FloatArray:
    return np.clip(np.floor(values / step.astype(np.float32)[:, None] + np.float32(0.5)), lowest, highest)


def step_function(
    function: Function, levels: Levels, low: FloatArray, high: FloatArray
) -> StepFunction | int:
    """Return the counts of a function's values, or how often they change where that is more than may be.

    Args:
        function: of one number per channel.
        levels: of its values.
        low: (channels,) the least of its arguments.
        high: (channels,) the largest.
    """
    return _Curve.of(function, low, high).stepped(levels)


@dataclass(frozen=True, slots=True)
class _Curve:
    """A function's values on a grid of arguments, one for all channels where they share the function.

    Attributes:
        function: of one number per channel.
        x: (channels or 1, n) ascending.
        y: (channels or 1, n).
        reach: (n,) by how many times the width of the range each argument lies outside.
    """

    function: Function
    x: Real
    y: Real
    reach: Real

    @classmethod
    def of(cls, function: Function, low: FloatArray, high: FloatArray) -> _Curve:
        least, most = low.astype(np.float64), high.astype(np.float64)
        if function.constants.shape[1] == 1:
            least, most = least.min(keepdims=True), most.max(keepdims=True)
        # A channel of which little was seen may take as many values as any other.
        missing = ((most - least).max() - (most - least)) / 2
        least, most = least - missing, most + missing
        width = np.maximum(most - least, 1e-6 * np.maximum(np.abs(least), np.abs(most)) + 1e-12)[:, None]
        inside = np.linspace(0, 1, POINTS + 1)
        far = np.concatenate([inside[1:], np.exp2(np.arange(1, 121) / 4)])
        below, above = least[:, None] - width * far[::-1], most[:, None] + width * far
        x = np.concatenate([below, least[:, None] + width * inside, above], axis=1)
        return cls(function, x, _defined(function(x)), np.concatenate([far[::-1], 0 * inside, far]))

    def stepped(self, levels: Levels) -> StepFunction | int:
        """Return its counts, or how often they change where that is more than may be."""
        step = levels.step.astype(np.float64)
        if len(self.x) == 1 and (step == step[0]).all():
            step = step[:1]
        # Where too much happens within the range itself, no reach will do.
        reach, changes = REACHES[0], self._walks(levels, step, REACHES[0])[1]
        if changes > MOST_BREAKPOINTS:
            reach, changes = 0.0, self._walks(levels, step, 0.0)[1]
            if changes > MOST_BREAKPOINTS:
                return changes
            for wider in REACHES[1:-1]:
                if self._walks(levels, step, wider)[1] <= MOST_BREAKPOINTS:
                    reach = wider
                    break
        walks, _ = self._walks(levels, step, reach)
        return _tabulated(self.function, self.x[:, self.reach <= reach], step, walks)

    def _walks(self, levels: Levels, step: Real, reach: float) -> tuple[list[_Walk], int]:
        """Return how the counts of all channels change within a reach, and how often altogether."""
        counts = _count_of(self.y[:, self.reach <= reach], step, levels)
        walks = [_Walk.of(row) for row in counts]
        return walks, int(np.abs(np.diff(_together(walks)[0])).sum())


def _tabulated(
    function: Function,
    x: Real,
    step: Real,
    walks: Sequence[_Walk],
) -> StepFunction:
    """Return the step function whose changes lie in known cells of a grid."""
    heights, own = _together(walks)
    most = max(len(walk.cells) for walk in walks)
    cells, bounds = (np.zeros((len(walks), most), np.int64) for _ in range(2))
    rising = np.zeros((len(walks), most), bool)
    for place, walk in enumerate(walks):
        n = len(walk.cells)
        cells[place, :n], bounds[place, :n], rising[place, :n] = walk.cells, walk.bounds, walk.rising
    points = _crossings(function, x, cells, (bounds - 0.5) * step[:, None], rising)
    values = _path(heights)
    rows = [
        _embedded(turns.parts(row), heights, turns.heights) for turns, row in zip(own, points, strict=True)
    ]
    breakpoints = np.stack(rows)
    if not breakpoints.shape[1]:
        breakpoints, values = np.full((1, 1), FAR), np.repeat(values, 2)
    ascending = np.maximum.accumulate(np.clip(breakpoints, -FAR, FAR), axis=1)
    return StepFunction(ascending.astype(np.float32), values.astype(np.int32))


def _defined(y: Real) -> Real:
    """Return values, (channels, n), where a function has none those of the nearest argument that has."""
    missing = np.isnan(y)
    if not missing.any():
        return y
    n = y.shape[1]
    place = np.arange(n)
    before = np.maximum.accumulate(np.where(missing, -1, place), axis=1)
    after = np.minimum.accumulate(np.where(missing, n, place)[:, ::-1], axis=1)[:, ::-1]
    nearest = np.where((before < 0) | ((after < n) & (after - place < place - before)), after, before)
    return np.take_along_axis(np.asarray(y), np.clip(nearest, 0, n - 1), axis=1)


def _count_of(y: Real, step: Real, levels: Levels) -> IntArray:
    with np.errstate(invalid="ignore"):
        counts = np.clip(np.floor(y / step[:, None] + 0.5), levels.lowest, levels.highest)
    return np.where(np.isnan(counts), 0, counts).astype(np.int64)


def _crossings(function: Function, x: Real, cells: IntArray, wanted: Real, rising: NDArray[np.bool_]) -> Real:
    """Return the least argument in each cell behind which a function has crossed a value, (channels, n)."""
    x = np.broadcast_to(x, (len(cells), x.shape[1]))
    left, right = np.take_along_axis(x, cells, axis=1), np.take_along_axis(x, cells + 1, axis=1)
    for _ in range(HALVINGS):
        middle = left + (right - left) / 2
        above = function(middle) >= wanted
        behind = above == rising
        left, right = np.where(behind, left, middle), np.where(behind, middle, right)
    return right


@dataclass(frozen=True, slots=True)
class _Walk:
    """How the count of one channel changes along its arguments, one by one.

    Attributes:
        start: the count at the lowest argument.
        cells: (n,) of the grid, in which each change lies.
        bounds: (n,) the higher of the two counts on either side of it.
        rising: (n,) whether it goes up.
    """

    start: int
    cells: IntArray
    bounds: IntArray
    rising: NDArray[np.bool_]

    @classmethod
    def of(cls, counts: IntArray) -> _Walk:
        change = np.diff(counts)
        where = np.flatnonzero(change)
        size = np.abs(change[where])
        cells = np.repeat(where, size)
        within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        rising = change[cells] > 0
        bounds = np.where(rising, counts[cells] + 1 + within, counts[cells] - within)
        return cls(int(counts[0]), cells, bounds, rising)

    @property
    def runs(self) -> list[int]:
        """How many changes each part has that goes one way."""
        n = len(self.cells)
        ends = np.flatnonzero(np.diff(self.rising.astype(np.int8))) + 1
        return [int(b - a) for a, b in pairwise([0, *ends, n])] if n else []


@dataclass(frozen=True, slots=True)
class _Turns:
    """Parts of a walk that go up and down in turn, as those of the common walk do.

    Attributes:
        heights: (n + 1,) the counts at the turns.
        sizes: (n,) how many changes each part has; those that the walk lacks have none.
    """

    heights: list[int]
    sizes: list[int]

    def parts(self, points: Real) -> list[Real]:
        """Return the places of the changes of each part, given those of all, (all or more,)."""
        ends = np.cumsum([0, *self.sizes])
        return [points[a:b] for a, b in pairwise(ends)]


def _together(walks: Sequence[_Walk]) -> tuple[list[int], list[_Turns]]:
    """Return the turns of a walk that holds all others, and each walk's own.

    The common walk starts at the first of the heights and goes from each to the next.
    """
    first = {bool(walk.rising[0]) for walk in walks if len(walk.cells)}
    rises = first.pop() if len(first) == 1 else False
    sizes = []
    for walk in walks:
        skipped = [0] if len(walk.cells) and bool(walk.rising[0]) != rises else []
        sizes.append([*skipped, *walk.runs])
    count = max(map(len, sizes))
    own = []
    for walk, parts in zip(walks, sizes, strict=True):
        parts = [*parts, *[0] * (count - len(parts))]
        heights = [walk.start]
        for place, size in enumerate(parts):
            heights.append(heights[-1] + (size if rises == (place % 2 == 0) else -size))
        own.append(_Turns(heights, parts))
    common = []
    for place in range(count + 1):
        reached = [turns.heights[place] for turns in own]
        # Behind a part that rises, and before one that falls, the highest.
        common.append(max(reached) if rises == (place % 2 == 1) else min(reached))
    return common, own


def _path(heights: Sequence[int]) -> IntArray:
    """Return all counts on the way along the turns."""
    path = [heights[0]]
    for here, there in pairwise(heights):
        path += range(here + 1, there + 1) if there > here else range(here - 1, there - 1, -1)
    return np.array(path, np.int64)


def _embedded(parts: Sequence[Real], heights: Sequence[int], own: Sequence[int]) -> Real:
    """Return where one channel makes the changes of the common walk.

    Counts beyond its own turns it passes at one point, between the changes on either side.
    """
    turns = [-FAR]
    for place in range(1, len(heights)):
        behind = any(len(part) for part in parts[:place])
        ahead = next((part[0] for part in parts[place:] if len(part)), FAR)
        turns.append(float(ahead) if behind else -FAR)
    turns[-1] = FAR
    found: list[Real] = []
    for place, part in enumerate(parts):
        before = abs(own[place] - heights[place])
        after = abs(heights[place + 1] - own[place + 1])
        found += [np.full(before, turns[place]), part, np.full(after, turns[place + 1])]
    return np.concatenate(found) if found else np.zeros(0)
