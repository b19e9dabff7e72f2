"""A function of one number as a step function: where its count changes.

Between the points of a grid the function is taken to be monotone, and the crossings are found by bisection.
What it does between two neighbours of the grid, 1/1024 of the range of its arguments apart, is not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snnc.ir.function import Function
from snnc.ir.graph import FloatArray, IntArray
from snnc.ir.snn import MOST_BREAKPOINTS
from snnc.numerics.step_functions.levels import Levels
from snnc.numerics.step_functions.walks import FAR, Walk, common_walk, counts_along, embedded

Real = NDArray[np.float64]

POINTS = 1024
"""Points of the grid within the range of the arguments."""

REACHES = (2.0**30, 4.0, 1.0, 0.0)
"""By how many times its width the range of the arguments is widened on either side: the first for which the
step function has no more breakpoints than fit. Beyond, the count stays what it is there."""

SATURATED, ALMOST = 2.0**10, 0.01
"""By how many times its width the range is widened where a function has come to its end, but for a share."""

ROUNDING = 1e-6
"""By how much a probability may exceed 1."""

CHANNELS = 64
"""Whose counts are computed at once."""

HALVINGS = 30
"""Of a bisection between two points of the grid: to the last bit of float32."""


@dataclass(frozen=True, slots=True)
class StepFunction:
    """A count as a function of the argument.

    Attributes:
        breakpoints: (channels, n) or (1, n) float32, ascending: the least argument behind each change.
        step_values: (n + 1,) int32, the count between two breakpoints.
    """

    breakpoints: FloatArray
    step_values: IntArray


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
    return Curve.of(function, low, high).stepped(levels)


@dataclass(frozen=True, slots=True)
class Curve:
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
    def of(cls, function: Function, low: FloatArray, high: FloatArray) -> Curve:
        """Return the values of a function; the arguments are those of :func:`step_function`."""
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

    @property
    def bounds(self) -> tuple[Real, Real]:
        """The least and the largest value, (channels,) or (1,) each."""
        return self.y.min(axis=1), self.y.max(axis=1)

    @property
    def is_probability(self) -> bool:
        """Whether the function comes to an end on either side, as a probability does: between -1 and 1."""
        low, high = self.bounds
        if low.min() < -1 - ROUNDING or high.max() > 1 + ROUNDING:
            return False
        near = self.y[:, self.reach <= SATURATED]
        lacking = np.maximum(near.min(axis=1) - low, high - near.max(axis=1))
        return bool((lacking <= ALMOST * (high - low)).all())

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
        return _tabulated(self.function, self.x[:, self._within(reach)], step, walks)

    def _within(self, reach: float) -> slice:
        """Return which arguments lie within a reach: neighbours, because it grows to both sides."""
        found = np.flatnonzero(self.reach <= reach)
        return slice(int(found[0]), int(found[-1]) + 1)

    def _walks(self, levels: Levels, step: Real, reach: float) -> tuple[list[Walk], int]:
        """Return how the counts of all channels change within a reach, and how often altogether."""
        y, walks = self.y[:, self._within(reach)], list[Walk]()
        for at in range(0, max(len(y), len(step)), CHANNELS):  # a few at a time, which the cache holds
            part = slice(at, at + CHANNELS)
            values, steps = (each[part] if len(each) > 1 else each for each in (y, step))
            walks += map(Walk.of, _count_of(values, steps, levels))
        return walks, int(np.abs(np.diff(common_walk(walks)[0])).sum())


def _tabulated(
    function: Function,
    x: Real,
    step: Real,
    walks: Sequence[Walk],
) -> StepFunction:
    """Return the step function whose changes lie in known cells of a grid."""
    heights, own = common_walk(walks)
    most = max(len(walk.cells) for walk in walks)
    cells, bounds = (np.zeros((len(walks), most), np.int64) for _ in range(2))
    rising = np.zeros((len(walks), most), bool)
    for place, walk in enumerate(walks):
        n = len(walk.cells)
        cells[place, :n], bounds[place, :n], rising[place, :n] = walk.cells, walk.bounds, walk.rising
    points = _crossings(function, x, cells, (bounds - 0.5) * step[:, None], rising)
    values = counts_along(heights)
    rows = [
        embedded(turns.parts(row), heights, turns.heights) for turns, row in zip(own, points, strict=True)
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
