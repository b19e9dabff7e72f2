"""Single operations as layers that every consumer reads.

Three operations that NIR does not have are expressed by others, without changing a value: grouped
convolutions and scaled identities become dense convolutions with zeros; padding that differs between the
sides becomes a larger kernel with a border of zeros; windows whose area is no power of two, padding and
slices become convolutions of ones and zeros.
"""

from __future__ import annotations

import numpy as np

from snnc.backends.nir.program import Conv, Dense, Flatten, Layer, Sum
from snnc.errors import InternalError
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray, NumberArray, Shape
from snnc.ir.snn import (
    ChannelWeight,
    Convolution,
    CountMaxPool,
    CurrentMaxPool,
    Linear,
    Pad,
    Reshape,
    Slice,
    SnnNode,
    SumPool,
)

Synapse = Convolution | Linear | ChannelWeight


def synapse(node: Synapse, weight: NumberArray, bias: FloatArray, copies: int = 1) -> Layer:
    """Return the layer of a synapse.

    Args:
        node: gives the geometry.
        weight: in place of the node's own, of the same shape.
        bias: (channels,).
        copies: how many copies of its input lie behind each other along the channels; all are weighed alike.
    """
    match node:
        case Linear():
            return Dense(_tiled(weight, copies), bias.astype(np.float32))
        case ChannelWeight() if len(node.shape) == 1:
            return Dense(_tiled(np.diag(weight), copies), bias.astype(np.float32))
        case ChannelWeight():
            return convolution(_tiled(pointwise(np.diag(weight)), copies), bias, Window((1, 1)))
        case Convolution():
            return convolution(_tiled(ungrouped(weight, node.groups), copies), bias, node.window)


def _tiled(weight: NumberArray, copies: int) -> FloatArray:
    return np.concatenate([weight] * copies, axis=1).astype(np.float32)


def pointwise(matrix: NumberArray) -> FloatArray:
    """Return a matrix as the kernel of a 1x1 convolution."""
    return matrix[:, :, None, None].astype(np.float32)


def ungrouped(weight: NumberArray, groups: int) -> NumberArray:
    """Return the kernel without groups that computes the same: (outputs, all inputs, height, width)."""
    outputs, inputs, *size = weight.shape
    full = np.zeros((outputs, inputs * groups, *size), weight.dtype)
    each = outputs // groups
    for group in range(groups):
        out = slice(group * each, (group + 1) * each)
        full[out, group * inputs : (group + 1) * inputs] = weight[out]
    return full


def convolution(weight: NumberArray, bias: FloatArray, window: Window) -> Conv:
    """Return a convolution with the same padding on both sides: what is missing becomes rows of zeros."""
    top, left, bottom, right = window.pads
    down, across = max(top, bottom), max(left, right)
    border = ((down - top, down - bottom), (across - left, across - right))
    return Conv(
        np.pad(weight, ((0, 0), (0, 0), *border)).astype(np.float32),
        bias.astype(np.float32),
        window.strides,
        (down, across),
        window.dilations,
    )


def window_sum(channels: int, window: Window, bias: FloatArray | None = None) -> Conv:
    """Return the sum over a window as a convolution of ones, each channel for itself."""
    ones = pointwise(np.eye(channels)) * np.ones(window.kernel)
    return convolution(ones, np.zeros(channels) if bias is None else bias, window)


def movement(node: SnnNode, before: Shape, copies: int = 1) -> Layer | None:
    """Return the layer of an operation without weights, or ``None`` where nothing has to be done.

    Args:
        node: pooling by sum, padding, slicing or reshaping.
        before: shape of what it reads, of one copy.
        copies: copies of it behind each other along the channels.
    """
    match node:
        case Reshape():
            return None if node.shape == before else Flatten()
        case SumPool(window=window):
            if not any(window.pads) and window.dilations == (1, 1) and window.area & (window.area - 1) == 0:
                return Sum(window.kernel, window.strides)
            return window_sum(copies * before[0], window)
        case Pad():
            (_, top, left), (_, bottom, right) = node.before, node.after
            matrix = np.pad(np.eye(before[0]), ((node.before[0], node.after[0]), (0, 0)))
            window, kernel = Window((1, 1), pads=(top, left, bottom, right)), np.ones((1, 1))
        case Slice():
            matrix = np.eye(before[0])[node.start[0] : node.stop[0] : node.step[0]]
            _, down, across = node.start
            # The window begins at the edge, and what lies before the slice is a kernel of zeros.
            kernel = np.zeros((down + 1, across + 1))
            kernel[down, across] = 1
            window = Window((down + 1, across + 1), strides=(node.step[1], node.step[2]))
        case _:
            raise InternalError(f"no layer for {type(node).__name__}")
    weight = pointwise(np.kron(np.eye(copies), matrix)) * kernel
    return convolution(weight, np.zeros(len(weight)), window)


def misfit(node: SnnNode, before: Shape) -> str | None:
    """Say why NIR has no words for the geometry of a node, or return ``None``."""
    match node:
        case Reshape() if len(node.shape) != 1 and node.shape != before:
            return f"it reshapes {before} to {node.shape}, and NIR can only flatten"
        case (
            Convolution(window=window)
            | SumPool(window=window)
            | CountMaxPool(window=window)
            | CurrentMaxPool(window=window)
        ):
            top, left, bottom, right = window.pads
            if window.dilations != (1, 1) and (top, left) != (bottom, right):
                return "it is dilated, and padded by more on one side than on the other"
        case Slice() if len(before) == 3:
            rest = [
                (n - start - 1) // step - (stop - start - 1) // step
                for n, start, stop, step in zip(before, node.start, node.stop, node.step, strict=True)
            ]
            if any(rest[1:]):
                return "it leaves out rows or columns at the end"
        case Slice() | Pad() if len(before) != 3:
            return "it pads or slices something without height and width"
        case _:
            pass
    return None
