"""Functions of spike counts: products, softmax, normalisation, maxima; spikes in, spikes out, all integers.

With ``N(t)`` the counts of what is read up to and with step ``t``, each sends the change of an integer
function of them::

    y(t) = G(N(t)) - G(N(t-1)),    G(N(-1)) = 0

so that its own count after any step is ``G`` of the counts it reads, whatever happened before. All but the
maxima end in a requantiser, which brings a sum of products back to few levels::

    requantised(X) = clip((X multiplier + 2^(shift-1)) >> shift, lowest, highest)

with an arithmetic shift, which rounds toward minus infinity, and ``2^(shift-1)`` read as 0 where ``shift`` is
0. All divisions round toward minus infinity.

Every number is an integer, and none leaves int64: each function says by :meth:`CountFunction.reach` how far
what it computes may reach for counts of a given magnitude, and :mod:`snnc.ir.bounds` proves that this is less
than 2^63, from the largest counts that populations can send.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt, prod
from typing import ClassVar

import numpy as np

from snnc.ir.geometry import Window
from snnc.ir.graph import TWO, FloatArray, IntArray, Shape
from snnc.ir.kinds import SnnNode, ValueKind
from snnc.ir.problems import (
    axes_problem,
    matrix_problem,
    max_pool_problem,
    same_shape_problem,
    spread_problem,
)

MOST_SHIFT = 62
"""Largest shift of a requantiser: beyond it nothing of an int64 is left."""

LARGEST_COUNT = 32767
"""Largest magnitude of a count that a function gives, so that products of two stay within 32 bits."""

ROOT_BITS = 8
"""A normalisation takes the square root with so many bits behind the point."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountFunction(SnnNode):
    """A node that sends the change of an integer function of the counts that it reads.

    Class attributes:
        only_timesteps: whether its integers hold for the T alone that they were made for.

    Attributes:
        unit: (channels,) float32, what one of its counts stands for, negative where the sign was turned. It
            changes no spike; ``None`` where it is not known.
    """

    reads = ValueKind.SPIKES
    gives = ValueKind.SPIKES
    remembers = True
    only_timesteps: ClassVar[bool] = True

    unit: FloatArray | None = None

    def reach(self, counts: Sequence[int], shapes: Sequence[Shape]) -> int:
        """Return the largest magnitude of all that is computed on the way to ``G``.

        Args:
            counts: the largest magnitude of the counts of each input.
            shapes: of each input.
        """
        return max(counts)

    def largest(self, counts: Sequence[int]) -> int:
        """Return the largest magnitude of ``G``, for counts of a given magnitude."""
        return max(counts)

    def largest_change(self, changes: Sequence[int]) -> int:
        """Return the most that is sent in one step, for counts that change by so much in a step.

        A maximum moves as far as the counts that it reads, and its first step is from zero.
        """
        return max(changes)

    def unit_problem(self) -> str | None:
        """Say why its counts stand for nothing."""
        if self.unit is None:
            return None
        if self.unit.shape != self.shape[:1]:
            return (
                f"the units {self.unit.shape} of its counts are not one for each of {self.shape[0]} channels"
            )
        known = np.isfinite(self.unit) & (self.unit != 0)
        return None if known.all() else "a count stands for nothing"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Requantised(CountFunction):
    """A function of counts that ends in the requantiser.

    Attributes:
        multiplier: 1 <= multiplier < 2^31.
        shift: 0 <= shift <= 62.
        lowest, highest: the range of its counts, which holds zero.
    """

    multiplier: int
    shift: int
    lowest: int
    highest: int

    @property
    def half(self) -> int:
        """What is added before the shift, so that it rounds."""
        return 1 << self.shift >> 1

    def largest(self, counts: Sequence[int]) -> int:
        """Return the largest magnitude of ``G``."""
        return max(-self.lowest, self.highest)

    def largest_change(self, changes: Sequence[int]) -> int:
        """Return the width of the range."""
        return self.highest - self.lowest

    def _requantised(self, total: int) -> int:
        """Return how far the requantiser reaches for sums up to ``total``."""
        return total * self.multiplier + self.half

    def range_problem(self) -> str | None:
        """Say why the requantiser is none."""
        if not 1 <= self.multiplier < 2**31 or not 0 <= self.shift <= MOST_SHIFT:
            return f"the multiplier {self.multiplier} and the shift {self.shift} are out of range"
        return count_range_problem(self.lowest, self.highest)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountProduct(Requantised):
    """``G = requantised(N_a N_b)``, element by element; an axis of size 1 is repeated."""

    arity = TWO

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check shapes and requantiser."""
        return spread_problem(input_shapes, self.shape) or self.range_problem()

    def reach(self, counts: Sequence[int], shapes: Sequence[Shape]) -> int:
        """Return ``max |N_a N_b| multiplier + 2^(shift-1)``."""
        return self._requantised(counts[0] * counts[1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountMatrixProduct(Requantised):
    """``G[.., i, j] = requantised(sum_k N_a[.., i, k] N_b[.., k, j])``.

    Attributes:
        transposed: whether the second factor is given as ``N_b[.., j, k]``.
    """

    arity = TWO

    transposed: bool = False

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check shapes and requantiser."""
        first, second = input_shapes
        return matrix_problem(first, second, self.shape, self.transposed) or self.range_problem()

    def reach(self, counts: Sequence[int], shapes: Sequence[Shape]) -> int:
        """Return the same for a sum of as many products as a row of the first factor has elements."""
        return self._requantised(shapes[0][-1] * counts[0] * counts[1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountSoftmax(CountFunction):
    """Softmax along one axis, by a table of the exponential function.

    ::

        e_i = table[min(max_j N_j - N_i, last)],    S = sum_j e_j
        G_i = floor((levels e_i + floor(S / 2)) / S)

    ``table[k]`` is about ``2^b exp(-u k / T)``, and ``last`` the last index of the table.

    Attributes:
        axis: of the shape.
        table: (n,) int32, not negative, never ascending; its first entry is positive.
        levels: the count that stands for 1.
    """

    axis: int
    table: IntArray
    levels: int

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check axis, table and levels."""
        if self.table.ndim != 1 or not self.table.size or self.table.dtype != "int32":
            return f"the table {self.table.dtype}{self.table.shape} is no vector of int32"
        if self.table[0] < 1 or self.table.min() < 0 or (self.table[1:] > self.table[:-1]).any():
            return "the table must begin above zero, and never rise or fall below zero"
        return (
            axes_problem((self.axis,), self.shape)
            or same_shape_problem(input_shapes, self.shape)
            or count_range_problem(0, self.levels)
        )

    def reach(self, counts: Sequence[int], shapes: Sequence[Shape]) -> int:
        """Return ``levels e + S / 2`` for the largest ``e`` and ``S``, or the distance of two counts."""
        e = int(self.table[0])
        n = shapes[0][self.axis]
        return max(self.levels * e + n * e // 2, n * e, 2 * counts[0])

    def largest(self, counts: Sequence[int]) -> int:
        """Return ``levels``, the count of a one."""
        return self.levels

    def largest_change(self, changes: Sequence[int]) -> int:
        """Return ``levels``, too: no count is negative."""
        return self.levels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountNormalisation(CountFunction):
    """Normalise counts over some axes by their own mean and variance, ``n`` the number of elements.

    ::

        S1 = sum N  (0 unless centred),   D = n sum N^2 - S1^2 + epsilon
        d = isqrt(D 4^8),   G = clip(floor(((n N - S1) factor + floor(d / 2)) / d), lowest, highest)

    ``isqrt`` is the integer square root, rounded down. With ``factor = 2^8 / step`` the count is
    ``(x - mean) / sqrt(variance + epsilon)`` in units of ``step``.

    Attributes:
        axes: of the shape, ascending.
        epsilon: >= 1, that of the source in units of ``(u / (n T))^2``.
        factor: >= 1.
        lowest, highest: the range of its counts, which holds zero.
        centred: whether the mean is subtracted.
    """

    axes: Shape
    epsilon: int
    factor: int
    lowest: int
    highest: int
    centred: bool = True

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check axes and integers."""
        if self.epsilon < 1 or self.factor < 1:
            return f"epsilon {self.epsilon} and factor {self.factor} must be at least 1"
        return (
            axes_problem(self.axes, self.shape)
            or same_shape_problem(input_shapes, self.shape)
            or count_range_problem(self.lowest, self.highest)
        )

    def elements(self, shape: Shape) -> int:
        """Return n, over how many elements of a row of this shape it normalises."""
        return prod(shape[axis] for axis in self.axes)

    def reach(self, counts: Sequence[int], shapes: Sequence[Shape]) -> int:
        """Return ``|n N - S1| factor + d / 2``, or twice ``D 4^8``, of which a root below 2^31 is taken."""
        n = self.elements(shapes[0])
        under_root = ((n * counts[0]) ** 2 + self.epsilon) << (2 * ROOT_BITS)
        centred = n * counts[0] * (2 if self.centred else 1)
        return max(2 * under_root, centred * self.factor + isqrt(under_root) // 2)

    def largest(self, counts: Sequence[int]) -> int:
        """Return the largest magnitude of ``G``."""
        return max(-self.lowest, self.highest)

    def largest_change(self, changes: Sequence[int]) -> int:
        """Return the width of the range."""
        return self.highest - self.lowest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountMaximum(CountFunction):
    """The largest count along some axes, which have size 1 afterwards: ``G = max N``.

    Attributes:
        axes: of the shape, ascending.
    """

    only_timesteps = False

    axes: Shape

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the axes."""
        reduced = tuple(1 if axis in self.axes else size for axis, size in enumerate(input_shapes[0]))
        if self.shape != reduced:
            return f"the maximum of {input_shapes[0]} over the axes {self.axes} is not {self.shape}"
        return axes_problem(self.axes, input_shapes[0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountMaxPool(CountFunction):
    """Exact max-pooling of spikes: ``y_t = max_i N_i(t) - max_i N_i(t-1)`` over the window.

    ``N_i(t)`` is the number of spikes up to and with step ``t``, and ``N(-1) = 0``; padding never
    wins. The sum of ``y`` over all steps is the maximum of the final counts.

    Attributes:
        window: geometry.
    """

    only_timesteps = False

    window: Window

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the window."""
        return max_pool_problem(input_shapes, self.shape, self.window)

    def carried(self, values: Sequence[FloatArray], shapes: Sequence[Shape]) -> FloatArray:
        """Return the numbers as they are."""
        return values[0]


Function = CountProduct | CountMatrixProduct | CountSoftmax | CountNormalisation | CountMaximum
"""The functions whose events are their own: an event that they read is none that they pass on.

Max-pooling sends an event of one of its windows' neurons, and is counted as such.
"""


def count_range_problem(lowest: int, highest: int) -> str | None:
    """Say why counts cannot have this range."""
    if not -LARGEST_COUNT <= lowest <= 0 <= highest <= LARGEST_COUNT or lowest == highest:
        return f"counts from {lowest} to {highest} do not hold zero, or leave {LARGEST_COUNT}"
    return None
