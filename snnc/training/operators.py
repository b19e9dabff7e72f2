"""What the operations without parameters do to tensors, (batch, *shape), in both dialects."""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from snnc.ir import ann, snn
from snnc.ir.geometry import ABSENT, Window
from snnc.ir.graph import Shape
from snnc.training import depthwise


@dataclass(frozen=True, slots=True)
class Run:
    """What a network gave for a batch.

    Attributes:
        outputs: (batch, *shape) by the names of the outputs, in units of the source, before a final softmax.
        kept: values of the nodes that were asked for, (batch, *shape), in units of the source.
        counts: spikes of every population, (batch, *shape), by its name, with gradients.
    """

    outputs: dict[str, Tensor]
    kept: dict[str, Tensor]
    counts: dict[str, Tensor]

    def in_float32(self) -> Run:
        """Return the same in float32, for losses."""
        outputs, kept = (
            {name: values.float() for name, values in each.items()} for each in (self.outputs, self.kept)
        )
        return Run(outputs, kept, self.counts)


def per_channel(values: Tensor, ndim: int) -> Tensor:
    """Return a vector, (channels,), as it broadcasts over samples of ``ndim`` axes."""
    return values.reshape(-1, *(1,) * (ndim - 1))


def padded(x: Tensor, window: Window, fill: float = 0.0) -> Tensor:
    """Return maps, (batch, channels, height, width), with the padding of a window."""
    top, left, bottom, right = window.pads
    return functional.pad(x, (left, right, top, bottom), value=fill) if any(window.pads) else x


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, window: Window, groups: int) -> Tensor:
    """Return the convolution of maps."""
    top, left, bottom, right = window.pads
    even = top == bottom and left == right
    given = x if even else padded(x, window)
    pads = (top, left) if even else (0, 0)
    if depthwise.usable(given, weight, window.dilations, groups):
        return depthwise.convolved(given, weight, bias, window.strides, pads)
    return functional.conv2d(given, weight, bias, window.strides, pads, window.dilations, groups)


def summed(x: Tensor, window: Window) -> Tensor:
    """Return the sum over a window; padding counts as zeros."""
    return functional.avg_pool2d(padded(x, window), window.kernel, window.strides, divisor_override=1)


def highest(x: Tensor, window: Window) -> Tensor:
    """Return the maximum over a window; padding never wins."""
    given = padded(x, window, -torch.inf)
    return functional.max_pool2d(given, window.kernel, window.strides, dilation=window.dilations)


def padded_axes(x: Tensor, before: Shape, after: Shape) -> Tensor:
    """Return a batch with zeros around each axis of a sample."""
    sides = [side for pair in zip(reversed(before), reversed(after), strict=True) for side in pair]
    return functional.pad(x, sides)


def sliced(x: Tensor, node: ann.Slice | snn.Slice) -> Tensor:
    """Return what a node takes of each sample."""
    return x[(slice(None), *map(slice, node.start, node.stop, node.step))]


def gathered(x: Tensor, index: Tensor) -> Tensor:
    """Return ``y_i = x[index_i]`` of each sample, and zero where the index is -1."""
    if x[0].numel() == index.numel() and (order := _turned(index)) is not None:
        sizes = [index.shape[axis] for axis in order]
        back = [1 + order.index(axis) for axis in range(index.ndim)]
        return x.reshape(len(x), *sizes).permute(0, *back)
    flat = functional.pad(x.flatten(1), (0, 1))
    where = torch.where(index == ABSENT, flat.shape[1] - 1, index)
    return flat[:, where.flatten()].reshape(len(x), *index.shape)


def _turned(index: Tensor) -> list[int] | None:
    """Return the order in which the axes of an index lie in what is read; ``None`` if it turns none."""
    steps = [
        int(index.select(axis, 1).flatten()[0]) if size > 1 else 0 for axis, size in enumerate(index.shape)
    ]
    order = sorted(range(index.ndim), key=lambda axis: (-steps[axis], axis))
    inside = 1
    for axis in reversed(order):
        if index.shape[axis] > 1 and steps[axis] != inside:
            return None
        inside *= index.shape[axis]
    lying = torch.arange(inside, device=index.device).reshape([index.shape[axis] for axis in order])
    turned = lying.permute([order.index(axis) for axis in range(index.ndim)])
    return order if torch.equal(turned, index.to(turned.dtype)) else None
