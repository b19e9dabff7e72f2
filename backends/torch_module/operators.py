"""What nodes without neurons compute, on tensors of one step, (batch, *shape)."""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from snnc.ir import snn
from snnc.ir.counts import ROOT_BITS, Requantised
from snnc.ir.geometry import ABSENT, Window
from snnc.ir.graph import NumberArray
from snnc.ir.operations import unmatched

EXACT = 2**53
"""Integers up to here are exact in float64."""

Plain: TypeAlias = (
    snn.Convolution
    | snn.Linear
    | snn.ChannelWeight
    | snn.SumPool
    | snn.CurrentMaxPool
    | snn.Concat
    | snn.Reshape
    | snn.Pad
    | snn.Slice
    | snn.Gather
)
"""The nodes whose value in a step depends on what they read in that step alone."""


@dataclass(frozen=True, slots=True)
class Array:
    """The array of an operation.

    Attributes:
        name: of the field.
        values: as torch takes them.
        learned: whether gradients reach it.
    """

    name: str
    values: NumberArray
    learned: bool = False


def array_of(node: Plain | snn.CountFunction) -> Array | None:
    """Return the array that an operation computes with; ``None`` where it has none."""
    match node:
        case snn.Convolution() | snn.Linear() | snn.ChannelWeight():
            return Array("weight", node.weight, learned=True)
        case snn.Gather():
            return Array("index", node.index.astype(np.int64))
        case snn.CountSoftmax():
            return Array("table", node.table.astype(np.int64))
        case (
            snn.SumPool()
            | snn.CurrentMaxPool()
            | snn.Concat()
            | snn.Reshape()
            | snn.Pad()
            | snn.Slice()
            | snn.CountFunction()
        ):
            return None
        case _:
            raise unmatched(node)


def per_channel(values: Tensor, rank: int) -> Tensor:
    """Return a vector, (channels,), as it broadcasts over samples of ``rank`` axes."""
    return values.reshape(-1, *(1,) * (rank - 1))


def propagated(node: Plain, read: Sequence[Tensor], array: Tensor | None) -> Tensor:
    """Return what a node makes of one step.

    Args:
        node: the operation.
        read: the values of its inputs.
        array: its weight or index map, where it has one.
    """
    x = read[0]
    match node:
        case snn.Concat():
            return torch.cat(list(read), 1)
        case snn.Reshape():
            return x.reshape(len(x), *node.shape)
        case snn.SumPool():
            ones = x.new_ones(node.channels, 1, *node.window.kernel)
            return _convolved(x, ones, node.window, node.channels)
        case snn.CurrentMaxPool():
            return highest(x, node.window)
        case snn.Pad():
            sides = [
                n for pair in zip(reversed(node.before), reversed(node.after), strict=True) for n in pair
            ]
            return functional.pad(x, sides)
        case snn.Slice():
            return x[(slice(None), *map(slice, node.start, node.stop, node.step))]
        case snn.Convolution() | snn.Linear() | snn.ChannelWeight() | snn.Gather():
            return _with_array(node, x, x if array is None else array)
        case _:
            raise unmatched(node)


def _with_array(
    node: snn.Convolution | snn.Linear | snn.ChannelWeight | snn.Gather, x: Tensor, array: Tensor
) -> Tensor:
    match node:
        case snn.Convolution():
            return _convolved(x, array, node.window, node.groups)
        case snn.Linear():
            return functional.linear(x, array)
        case snn.ChannelWeight():
            return x * per_channel(array, len(node.shape))
        case snn.Gather():
            flat = functional.pad(x.flatten(1), (0, 1))  # what is absent reads the zero behind the last
            where = torch.where(array == ABSENT, flat.shape[1] - 1, array)
            return flat[:, where.flatten()].reshape(len(x), *node.shape)


def _convolved(x: Tensor, weight: Tensor, window: Window, groups: int) -> Tensor:
    return functional.conv2d(_padded(x, window, 0), weight, None, window.strides, 0, window.dilations, groups)


def highest(x: Tensor, window: Window) -> Tensor:
    """Return the maximum over a window; padding never wins."""
    given = _padded(x, window, -math.inf)
    return functional.max_pool2d(given, window.kernel, window.strides, dilation=window.dilations)


def _padded(x: Tensor, window: Window, fill: float) -> Tensor:
    top, left, bottom, right = window.pads
    return functional.pad(x, (left, right, top, bottom), value=fill) if any(window.pads) else x


def count_function(node: snn.Function, counts: Sequence[Tensor], table: Tensor | None) -> Tensor:
    """Return ``G`` of the counts that a node reads; see :mod:`snnc.ir.counts` for the equations.

    Args:
        node: the function.
        counts: of each input, (batch, *shape), whole numbers in floats.
        table: of a softmax.

    Returns:
        (batch, *shape), of the same type.
    """
    read = [each.to(torch.int64) for each in counts]
    match node:
        case snn.CountProduct():
            found = requantised(node, read[0] * read[1])
        case snn.CountMatrixProduct():
            second = read[1].transpose(-1, -2) if node.transposed else read[1]
            found = requantised(node, _product(read[0], second))
        case snn.CountSoftmax():
            axis = node.axis + 1
            below = read[0].amax(axis, keepdim=True) - read[0]
            e = (below if table is None else table)[below.clamp(max=len(node.table) - 1)]
            total = e.sum(axis, keepdim=True)
            found = _divided(node.levels * e + _divided(total, 2), total)
        case snn.CountNormalisation():
            found = _normalised(node, read[0])
        case snn.CountMaximum():
            found = read[0].amax([axis + 1 for axis in node.axes], keepdim=True)
        case _:
            raise unmatched(node)
    return found.to(counts[0].dtype)


def requantised(node: Requantised, total: Tensor) -> Tensor:
    """Return ``clip((X multiplier + 2^(shift-1)) >> shift, lowest, highest)``, in int64."""
    return ((total * node.multiplier + node.half) >> node.shift).clamp(node.lowest, node.highest)


def _product(first: Tensor, second: Tensor) -> Tensor:
    """Return a product of matrices of int64, in float64 where that is exact: few devices multiply others."""
    largest = int(first.abs().max()) * int(second.abs().max()) * first.shape[-1]
    if largest < EXACT:
        return (first.double() @ second.double()).to(torch.int64)
    return first @ second


def _divided(a: Tensor, b: Tensor | int) -> Tensor:
    """Return the quotient of whole numbers, rounded toward minus infinity."""
    return torch.div(a, b, rounding_mode="floor")


def _normalised(node: snn.CountNormalisation, counts: Tensor) -> Tensor:
    axes = [axis + 1 for axis in node.axes]
    n = math.prod(counts.shape[axis] for axis in axes)
    first = counts.sum(axes, keepdim=True) if node.centred else counts.new_zeros(1)
    second = (counts * counts).sum(axes, keepdim=True)
    d = square_root((n * second - first * first + node.epsilon) << (2 * ROOT_BITS))
    y = _divided((n * counts - first) * node.factor + _divided(d, 2), d)
    return y.clamp(node.lowest, node.highest)


def square_root(values: Tensor) -> Tensor:
    """Return the integer square root, rounded down, of int64 from 0 to below 2^62."""
    root = values.double().sqrt().to(torch.int64)
    root = root - (root * root > values).to(torch.int64)
    return root + ((root + 1) * (root + 1) <= values).to(torch.int64)
