"""The functions of spike counts in NumPy: the definition that every backend is held to.

See :mod:`snnc.ir.counts` for the equations; max-pooling is defined with the windows. All arrays are int64;
all divisions round toward minus infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.ir.counts import (
    ROOT_BITS,
    CountMatrixProduct,
    CountMaximum,
    CountNormalisation,
    CountProduct,
    CountSoftmax,
    Function,
    Requantised,
)
from snnc.ir.graph import IntArray


def count_function(node: Function, counts: Sequence[IntArray]) -> IntArray:
    """Return ``G`` of the counts that a node reads.

    Args:
        node: the function.
        counts: of each input, (batch, *shape) int64.

    Returns:
        (batch, *shape) int64.
    """
    match node:
        case CountProduct():
            return requantised(node, counts[0] * counts[1])
        case CountMatrixProduct():
            second = counts[1].swapaxes(-1, -2) if node.transposed else counts[1]
            return requantised(node, counts[0] @ second)
        case CountSoftmax():
            axis = node.axis + 1
            below = counts[0].max(axis=axis, keepdims=True) - counts[0]
            e = node.table.astype(np.int64)[np.minimum(below, len(node.table) - 1)]
            total = e.sum(axis=axis, keepdims=True)
            return np.asarray((node.levels * e + total // 2) // total)
        case CountNormalisation():
            return normalised(node, counts[0])
        case CountMaximum():
            axes = tuple(axis + 1 for axis in node.axes)
            return np.asarray(counts[0].max(axis=axes, keepdims=True))


def requantised(node: Requantised, total: IntArray) -> IntArray:
    """Return ``clip((X multiplier + 2^(shift-1)) >> shift, lowest, highest)``."""
    return np.clip((total * node.multiplier + node.half) >> node.shift, node.lowest, node.highest)


def normalised(node: CountNormalisation, counts: IntArray) -> IntArray:
    """Return counts, (batch, *shape), normalised by their own mean and variance."""
    axes = tuple(axis + 1 for axis in node.axes)
    n = node.elements(counts.shape[1:])
    first = counts.sum(axis=axes, keepdims=True) if node.centred else np.int64(0)
    second = (counts * counts).sum(axis=axes, keepdims=True)
    d = square_root((n * second - first * first + node.epsilon) << (2 * ROOT_BITS))
    y = ((n * counts - first) * node.factor + d // 2) // d
    return np.asarray(np.clip(y, node.lowest, node.highest))


def square_root(values: NDArray[Any]) -> IntArray:
    """Return the integer square root, rounded down, of int64 from 0 to below 2^62.

    The root of a float64 is off by one at most there, which one step in each direction mends.
    """
    root = np.sqrt(values.astype(np.float64)).astype(np.int64)
    root -= root * root > values
    root += (root + 1) * (root + 1) <= values
    return root
