"""Finding the canonical layout of the network's input."""

from __future__ import annotations

import itertools
import math

import numpy as np

from snnc.frontend.views import Index, bounding_box
from snnc.ir.graph import Shape
from snnc.ir.layout import InputLayout


def wanted_layout(index: Index, source_shape: Shape) -> InputLayout | None:
    """Find the layout that an operation wants of its input, (channels, height, width) or (features,).

    Where pixels have been folded into channels, each share of these is a strided cut: its layout is wanted.
    """
    channels = index.shape[0]
    shares = [n for n in range(1, channels + 1) if channels % n == 0] if index.ndim == 3 else [1]
    for share in shares:
        for part in (index[::share], index[: channels // share]):
            if (found := layout_of(part, source_shape)) is not None:
                return found
    return None


def layout_of(index: Index, source_shape: Shape) -> InputLayout | None:
    """Find the layout whose canonical form holds the source's values in the order of ``index``.

    Args:
        index: for each canonical position, the flat position in the source's sample, or ``PADDED``,
            which does not count.
        source_shape: shape of one sample of the source.

    Returns:
        The layout, or ``None`` where no reshape and permutation of axes gives it. Where ``index`` holds
        only a part of the source, as after a crop, the layout is that of the whole.
    """
    inner = index[bounding_box(index)]
    if not inner.size or inner.min() < 0:
        return None
    strides = [int(np.diff(inner, axis=axis).flat[0]) if n > 1 else 0 for axis, n in enumerate(inner.shape)]
    expected = np.full(inner.shape, inner.flat[0])
    for axis, stride in enumerate(strides):
        steps = stride * np.arange(inner.shape[axis])
        expected += steps.reshape(-1, *(1,) * (inner.ndim - axis - 1))
    if min(strides, default=0) < 0 or not np.array_equal(expected, inner):
        return None
    if inner.size == math.prod(source_shape):
        order = sorted(range(inner.ndim), key=lambda axis: -strides[axis] if strides[axis] else -inner.size)
        grid = tuple(inner.shape[axis] for axis in order)
        return InputLayout(source_shape, grid, tuple(order.index(axis) for axis in range(inner.ndim)))
    if inner.ndim == 1:  # a vector among others, as states are: every value is a feature of its own
        return InputLayout.plain(source_shape, (math.prod(source_shape),))
    units = [math.prod(source_shape[axis + 1 :]) for axis in range(len(source_shape))]
    for axes in itertools.permutations(range(len(source_shape))):
        fits = len(axes) == inner.ndim and all(
            n == 1 or (stride % units[axis] == 0 and stride * (n - 1) < units[axis] * source_shape[axis])
            for n, stride, axis in zip(inner.shape, strides, axes, strict=True)
        )
        if fits:
            return InputLayout(source_shape, source_shape, axes)
    return None
