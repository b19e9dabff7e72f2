"""Windows and structural operations: the arithmetic of shapes that both dialects share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from snnc.ir.graph import IntArray, Shape

ABSENT = -1
"""What stands in an index map where a value is zero, whatever is read."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window that slides over height and width.

    One-dimensional operations are held as two-dimensional ones of height 1.

    Attributes:
        kernel: height and width of the window.
        strides: step down and step right.
        pads: zero rows and columns added at the top, left, bottom and right.
        dilations: distance between the rows and columns that the window reads.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the output for an input of ``height`` x ``width``."""
        top, left, bottom, right = self.pads
        rows = height + top + bottom - self.dilations[0] * (self.kernel[0] - 1) - 1
        columns = width + left + right - self.dilations[1] * (self.kernel[1] - 1) - 1
        return rows // self.strides[0] + 1, columns // self.strides[1] + 1

    @property
    def area(self) -> int:
        """Number of positions in the window."""
        return self.kernel[0] * self.kernel[1]

    def sees_only_padding(self, height: int, width: int) -> bool:
        """Say whether a window lies wholly in the padding, where there is no maximum."""
        for axis, (size, count) in enumerate(
            zip((height, width), self.output_size(height, width), strict=True)
        ):
            starts = np.arange(count) * self.strides[axis] - self.pads[axis]
            taps = starts[:, None] + self.dilations[axis] * np.arange(self.kernel[axis])
            if not ((taps >= 0) & (taps < size)).any(axis=1).all():
                return True
        return False

    def problem(self, shape: Shape, output: Shape) -> str | None:
        """Say why this window cannot map ``shape`` to the spatial size of ``output``."""
        if len(shape) != 3 or len(output) != 3:
            return f"a window needs (channels, height, width), not {shape} -> {output}"
        if min(*self.kernel, *self.strides, *self.dilations) < 1 or min(self.pads) < 0:
            return f"kernel, strides and dilations must be positive and pads not negative: {self}"
        expected = self.output_size(*shape[1:])
        if expected != output[1:]:
            return f"the window gives {expected}, but the output shape is {output}"
        return None


def pad_problem(shape: Shape, output: Shape, before: Shape, after: Shape) -> str | None:
    """Say why zero padding by ``before`` and ``after`` cannot map ``shape`` to ``output``."""
    if not len(shape) == len(before) == len(after) or min(*before, *after) < 0:
        return f"pads {before}, {after} do not fit the input {shape}"
    expected = tuple(b + n + a for b, n, a in zip(before, shape, after, strict=True))
    return None if expected == output else f"padding gives {expected}, but the output shape is {output}"


def slice_problem(shape: Shape, output: Shape, start: Shape, stop: Shape, step: Shape) -> str | None:
    """Say why a strided slice cannot map ``shape`` to ``output``."""
    if not len(shape) == len(start) == len(stop) == len(step) or min(step) < 1 or min(*start, *stop) < 0:
        return f"the slice {start}:{stop}:{step} does not fit the input {shape}"
    expected = tuple(len(range(n)[a:b:s]) for n, a, b, s in zip(shape, start, stop, step, strict=True))
    return None if expected == output else f"the slice gives {expected}, but the output shape is {output}"


def gather_problem(shape: Shape, output: Shape, index: IntArray) -> str | None:
    """Say why an index map, (*output,), cannot pick the values of ``output`` from those of ``shape``."""
    if index.shape != output or index.dtype != np.int32:
        return f"an index map {index.dtype}{index.shape} is not one int32 per value of {output}"
    if index.min() < ABSENT or index.max() >= math.prod(shape):
        return f"an index lies outside the {math.prod(shape)} values of {shape}"
    return None


def source_channels(index: IntArray, shape: Shape) -> IntArray:
    """Return the channel of the source that each value of an index map comes from; ``ABSENT`` for zeros.

    Args:
        index: flat positions in the source, or ``ABSENT``.
        shape: of the source.
    """
    return np.where(index == ABSENT, ABSENT, index // math.prod(shape[1:]))


def sole_channels(index: IntArray, shape: Shape) -> IntArray | None:
    """Return the one channel of the source that each channel of an index map reads.

    Args:
        index: (channels, ...), flat positions in the source, or ``ABSENT``.
        shape: of the source.

    Returns:
        (channels,), ``ABSENT`` for one that holds nothing but zeros; ``None`` where one reads several.
    """
    rows = source_channels(index, shape).reshape(len(index), -1)
    highest = rows.max(axis=1)
    alone = (rows == highest[:, None]) | (rows == ABSENT)
    return highest if alone.all() else None


def concat_problem(shapes: list[Shape], output: Shape) -> str | None:
    """Say why joining along channels cannot map ``shapes`` to ``output``."""
    if not shapes or any(len(s) != len(output) or s[1:] != output[1:] for s in shapes):
        return f"inputs {shapes} cannot be joined along channels to {output}"
    total = sum(s[0] for s in shapes)
    return None if total == output[0] else f"inputs have {total} channels, the output {output[0]}"
