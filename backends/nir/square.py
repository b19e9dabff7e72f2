"""Square kernels: the package ``nir`` takes the height of a kernel for its width, too, when it checks shapes.

A border of zeros makes a kernel square without changing what it computes, as long as there are as many
windows as before: rows before the kernel shift it against the padding, and rows behind it may use up what the
stride leaves over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snnc.backends.nir.program import INPUT, Conv, Program, Step, UnfitError
from snnc.ir.graph import FloatArray

LARGEST_BORDER = 8


@dataclass(frozen=True, slots=True)
class _Axis:
    """A convolution along one axis.

    Attributes:
        first, stop: the part of the kernel that is not zero.
        start: where the first window begins, in rows from the edge of the input.
        size: rows of the input.
        count: number of windows.
        stride: between windows.
        dilation: between the rows of a window.
    """

    first: int
    stop: int
    start: int
    size: int
    count: int
    stride: int
    dilation: int

    def border(self, kernel: int) -> tuple[int, int] | None:
        """Return zeros before the kernel, and the padding, for a kernel of this size; ``None`` if none do."""
        for before in range(kernel - (self.stop - self.first) + 1):
            padding = before * self.dilation - self.start
            over = self.size + 2 * padding - self.dilation * (kernel - 1) - 1
            if padding >= 0 and over >= 0 and over // self.stride + 1 == self.count:
                return before, padding
        return None


def squared(program: Program) -> Program:
    """Return a program whose kernels are square.

    Raises:
        UnfitError: naming a kernel that cannot become so.
    """
    shapes = {INPUT: program.shape, **{step.name: step.shape for step in program.steps}}
    return replace(program, steps=tuple(_squared(step, shapes[step.inputs[0]]) for step in program.steps))


def _squared(step: Step, before: tuple[int, ...]) -> Step:
    layer = step.layer
    if not isinstance(layer, Conv) or layer.weight.shape[2] == layer.weight.shape[3]:
        return step
    axes = [_axis(layer, index, before[1 + index], step.shape[1 + index]) for index in (0, 1)]
    least = max(axis.stop - axis.first for axis in axes)
    for kernel in range(least, least + LARGEST_BORDER):
        down, across = (axis.border(kernel) for axis in axes)
        if down is not None and across is not None:
            weight = np.zeros((*layer.weight.shape[:2], kernel, kernel), np.float32)
            rows, columns = (
                slice(border[0], border[0] + axis.stop - axis.first)
                for axis, border in zip(axes, (down, across), strict=True)
            )
            weight[:, :, rows, columns] = layer.weight[
                :, :, axes[0].first : axes[0].stop, axes[1].first : axes[1].stop
            ]
            return replace(step, layer=replace(layer, weight=weight, padding=(down[1], across[1])))
    height, width = layer.weight.shape[2:]
    raise UnfitError(
        f"{step.name[6:]}: its kernel of {height} x {width} cannot become square, as NIR wants it",
        "use the target c99 or spiking-onnx",
    )


def _axis(layer: Conv, index: int, size: int, count: int) -> _Axis:
    first, stop = _extent(np.abs(layer.weight).max(axis=(0, 1, 3 - index)))
    start = first * layer.dilations[index] - layer.padding[index]
    return _Axis(first, stop, start, size, count, layer.strides[index], layer.dilations[index])


def _extent(values: FloatArray) -> tuple[int, int]:
    """Return from where to where values are not zero, at least one of them."""
    (used,) = np.nonzero(values)
    return (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
