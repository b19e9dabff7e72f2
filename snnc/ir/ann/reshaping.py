"""Operations of the ANN dialect that move values and compute nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from snnc.ir.ann.node import AnnNode
from snnc.ir.geometry import ABSENT, concat_problem, gather_problem, pad_problem, slice_problem, sole_channels
from snnc.ir.graph import MANY, IntArray, Shape
from snnc.ir.problems import reshape_problem


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Concat(AnnNode):
    """Join along channels."""

    arity = MANY

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the channels."""
        return concat_problem(list(input_shapes), self.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reshape(AnnNode):
    """The same values, row by row, in another shape; flattening is one case."""

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the number of elements."""
        return reshape_problem(input_shapes, self.shape)

    def keeps_channels(self, shape: Shape) -> bool:
        """Say whether every channel of the result holds values of one channel of ``shape`` alone."""
        return math.prod(shape[1:]) % math.prod(self.shape[1:]) == 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pad(AnnNode):
    """Add zeros around each axis, channels included.

    Attributes:
        before, after: number of zeros added on each axis.
    """

    before: Shape
    after: Shape

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the pads."""
        return pad_problem(input_shapes[0], self.shape, self.before, self.after)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slice(AnnNode):
    """Take every ``step``-th element from ``start`` to ``stop`` on each axis.

    Attributes:
        start, stop, step: per axis, not negative.
    """

    start: Shape
    stop: Shape
    step: Shape

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the slice."""
        return slice_problem(input_shapes[0], self.shape, self.start, self.stop, self.step)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gather(AnnNode):
    """``y_i = x[index_i]``, or zero where the index is -1: values moved, repeated or left out.

    What reorders axes, repeats, mirrors, turns around or spreads values is one of these: pixel shuffle,
    tiling, padding that mirrors, enlarging by repetition.

    Attributes:
        index: (*shape) int32, flat positions in what is read, row by row.
    """

    index: IntArray

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the index map."""
        return gather_problem(input_shapes[0], self.shape, self.index)

    def keeps_channels(self, shape: Shape) -> bool:
        """Say whether each channel of the result holds values of one channel of ``shape``, and no zeros."""
        return bool((self.index != ABSENT).all()) and sole_channels(self.index, shape) is not None
