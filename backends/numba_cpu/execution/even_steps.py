"""Step functions whose steps are evenly apart: a product in the place of a look-up.

Breakpoints of a linear function are ``b_k = ceil(a + k d)`` for k from 0, and the number of those that a
potential v has reached is ``clip(floor((v - a) / d) + 1, 0, n)``. In float64 it is computed as::

    trunc(clip((v - origin) factor, 0, n))        origin = a - d        factor = 1 / d

All of it rises with v, rounded or not, so that it is right everywhere if it is right at each breakpoint and
one below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc.backends.numba_cpu.execution.shapes import Array
from snnc.backends.numba_cpu.machine.memory import aligned

SEARCHES = 40
"""How often the range in which the best distance lies is cut to two thirds."""

FURTHEST = 2**30
"""Largest magnitude of a breakpoint that is taken for one."""


@dataclass(frozen=True, slots=True)
class EvenSteps:
    """Step functions of a population, one for each channel.

    Attributes:
        fields: (2, padded channels) float64, origin and factor.
        last: n, how many steps each has.
        base: the count in front of the first.
    """

    fields: Array
    last: int
    base: int

    @classmethod
    def of(cls, points: Array, values: Array, padded: int) -> EvenSteps | None:
        """Find the distances.

        Args:
            points: (rows, n) int32, the breakpoints, one row per channel or one for all.
            values: (n + 1,) int32, the counts between them.
            padded: channels in memory.

        Returns:
            ``None`` where the steps of a channel are not even, or cannot be told apart in float64.
        """
        wide = points.astype(np.int64)
        count = points.shape[1]
        if (np.diff(values) != 1).any() or np.abs(wide).max() > FURTHEST or (np.diff(wide, axis=1) < 1).any():
            return None
        first, apart = _fitted(wide)
        fields = np.stack([first - apart, 1 / apart])
        origin, factor = fields[:, :, np.newaxis]
        reached = np.arange(1, count + 1)
        for shift in (0, 1):
            found = ((wide - shift - origin) * factor).clip(0, count).astype(np.int64)
            if (found != reached - shift).any():
                return None
        rows = np.arange(padded) % len(points)
        return cls(aligned(fields[:, rows]), count, int(values[0]))


def _fitted(points: Array) -> tuple[Array, Array]:
    """Return a and d of each row, (rows,) float64, that leave breakpoints the most room on both sides."""
    k = np.arange(points.shape[1])
    if len(k) == 1:
        return points[:, 0] - 0.5, np.ones(len(points))

    def room(apart: Array) -> tuple[Array, Array]:
        rest = points - k * apart[:, np.newaxis]
        least, most = rest.min(axis=1), rest.max(axis=1)
        return 1 + least - most, (least + most - 1) / 2

    middle = (points[:, -1] - points[:, 0]) / (len(k) - 1)
    low, high = middle - 1 / (len(k) - 1), middle + 1 / (len(k) - 1)
    for _ in range(SEARCHES):  # the room is concave
        one, two = low + (high - low) / 3, high - (high - low) / 3
        better = room(one)[0] < room(two)[0]
        low, high = np.where(better, one, low), np.where(better, high, two)
    apart = (low + high) / 2
    return room(apart)[1], apart
