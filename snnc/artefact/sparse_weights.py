"""Weights of which many are zero, stored as one bit for each weight and the values of the others.

ONNX's own sparse tensors spend eight bytes on the place of a value, so that an int8 weight would have to be
eight ninths zeros to gain. Here a weight of ``n`` values, ``k`` of them not zero, takes ``n / 8`` bytes and
``k + 1`` values, and a function of standard operators makes the dense tensor of it. It reads nothing but
constants, so that a runtime computes it once, when it loads the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from snnc.ir.graph import NumberArray

WORTH_BYTES = 1024
"""Weights of fewer bytes are stored as they are: they gain less than the nodes that unpack them take."""

WORTH_SHARE = 0.75
"""Largest size, relative to the dense weight, at which it is stored sparsely."""

PARTS = ("mask", "values")
"""What is stored of a weight, as its name tells."""

SPARSE_WEIGHT = """<shape> (mask, values) => (weight) {
    last = Constant<value_ints = [1]>()
    column = Unsqueeze(mask, last)
    places = Constant<value = uint8[8] {0, 1, 2, 3, 4, 5, 6, 7}>()
    shifted = BitShift<direction = "RIGHT">(column, places)
    two = Constant<value = uint8[1] {2}>()
    bits = Mod(shifted, two)
    row = Constant<value_ints = [-1]>()
    flat = Reshape(bits, row)
    sizes = Constant<value_ints: ints = @shape>()
    size = ReduceProd(sizes)
    first = Constant<value_ints = [0]>()
    cut = Slice(flat, first, size)
    kept = Cast<to = 6>(cut)
    axis = Constant<value_int = 0>()
    counted = CumSum(kept, axis)
    index = Mul(counted, kept)
    spread = Gather<axis = 0>(values, index)
    weight = Reshape(spread, sizes)
}"""
"""The function: the ``i``-th value, from 1 on, stands where the ``i``-th bit is set; value 0 is zero."""


def packed(weight: NumberArray) -> tuple[NDArray[np.uint8], NumberArray] | None:
    """Return the mask and the values of a weight, or ``None`` where it is better stored as it is.

    Args:
        weight: of any shape and type.

    Returns:
        ``(n / 8,)`` uint8, the lowest bit first, and ``(k + 1,)`` of the weight's type: zero, and the values
        that are not, in order.
    """
    flat = weight.ravel()
    kept = (flat != 0) | np.signbit(flat)  # a negative zero keeps its sign
    size = -(-kept.size // 8) + (int(np.count_nonzero(kept)) + 1) * flat.itemsize
    if flat.nbytes < WORTH_BYTES or size > WORTH_SHARE * flat.nbytes:
        return None
    return np.packbits(kept, bitorder="little"), np.concatenate([np.zeros(1, flat.dtype), flat[kept]])


def unpacked(mask: NumberArray, values: NumberArray, shape: Sequence[int]) -> NumberArray:
    """Return the weight that :func:`packed` stored.

    Raises:
        ValueError: mask, values and shape do not fit together.
    """
    size = prod(shape)
    if min(shape, default=0) < 1 or mask.dtype != np.uint8 or mask.shape != (-(-size // 8),):
        raise ValueError(f"a mask of {mask.size} bytes does not fit a weight of {tuple(shape)}")
    bits = np.unpackbits(mask.astype(np.uint8, copy=False), bitorder="little")
    kept = bits[:size].astype(bool)
    if values.shape != (int(bits.sum()) + 1,) or values[0] != 0 or bits[size:].any():
        raise ValueError(f"{values.size} values do not fit a mask of {int(bits.sum())}")
    weight = np.zeros(size, values.dtype)
    weight[kept] = values[1:]
    return weight.reshape(shape)
