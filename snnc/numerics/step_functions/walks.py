"""How counts change along the arguments of a function, and one row of counts for all channels.

Of functions that rise and fall each channel gets the turns of all others: it passes through counts that it
never takes at a single point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from snnc.ir.graph import IntArray

Real = NDArray[np.float64]

FAR = 1e30
"""Stands for infinity among breakpoints: nothing gets there."""


@dataclass(frozen=True, slots=True)
class Walk:
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
    def of(cls, counts: IntArray) -> Walk:
        """Return how counts, (arguments,), change."""
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
class Turns:
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


def common_walk(walks: Sequence[Walk]) -> tuple[list[int], list[Turns]]:
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
        own.append(Turns(heights, parts))
    common = []
    for place in range(count + 1):
        reached = [turns.heights[place] for turns in own]
        # Behind a part that rises, and before one that falls, the highest.
        common.append(max(reached) if rises == (place % 2 == 1) else min(reached))
    return common, own


def counts_along(heights: Sequence[int]) -> IntArray:
    """Return all counts on the way along the turns."""
    path = [heights[0]]
    for here, there in pairwise(heights):
        path += range(here + 1, there + 1) if there > here else range(here - 1, there - 1, -1)
    return np.array(path, np.int64)


def embedded(parts: Sequence[Real], heights: Sequence[int], own: Sequence[int]) -> Real:
    """Return where one channel makes the changes of the common walk.

    Counts beyond its own turns it passes at one point, between the changes on either side.
    """
    ahead = [FAR] * len(heights)  # the next change from each turn on
    for place in reversed(range(len(parts))):
        ahead[place] = float(parts[place][0]) if len(parts[place]) else ahead[place + 1]
    begun = next((place for place, part in enumerate(parts) if len(part)), len(parts))
    turns = [place_ahead if place > begun else -FAR for place, place_ahead in enumerate(ahead)]
    turns[-1] = FAR
    found: list[Real] = []
    for place, part in enumerate(parts):
        before = abs(own[place] - heights[place])
        after = abs(heights[place + 1] - own[place + 1])
        found += [np.full(before, turns[place]), part, np.full(after, turns[place + 1])]
    return np.concatenate(found) if found else np.zeros(0)
