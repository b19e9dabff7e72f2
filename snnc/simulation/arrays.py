"""Operations on arrays that both dialects of the reference share: windows, convolutions, index maps."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from snnc.ir import ann, snn
from snnc.ir.geometry import ABSENT, Window
from snnc.ir.graph import IntArray, NumberArray

Numbers = TypeVar("Numbers", bound=NDArray[Any])


def windows(x: NumberArray, window: Window, fill: float) -> NumberArray:
    """Return every window of a batch.

    Args:
        x: (batch, channels, height, width).
        window: geometry.
        fill: value of the padding.

    Returns:
        (batch, channels, output height, output width, kernel height, kernel width).
    """
    top, left, bottom, right = window.pads
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    reach = [d * (k - 1) + 1 for d, k in zip(window.dilations, window.kernel, strict=True)]
    views = sliding_window_view(x, reach, axis=(2, 3))
    down, right_step = window.strides
    return views[:, :, ::down, ::right_step, :: window.dilations[0], :: window.dilations[1]]


def convolve(x: NumberArray, weight: NumberArray, window: Window, groups: int) -> NumberArray:
    """Return ``y[b,o,.] = sum_{i,k} weight[o,i,k] x[b,i,.+k]`` for (batch, channels, height, width)."""
    patches = np.split(windows(x, window, 0), groups, axis=1)
    kernels = np.split(weight, groups, axis=0)
    return np.concatenate(
        [np.einsum("bihwkl,oikl->bohw", p, k, optimize=True) for p, k in zip(patches, kernels, strict=True)],
        axis=1,
    )


def gathered(x: Numbers, index: IntArray) -> Numbers:
    """Return ``y_i = x[index_i]`` for each row of a batch, and zero where the index is -1."""
    flat = x.reshape(len(x), -1)
    picked = flat[:, index.ravel()]  # where it is -1, the last value, which is taken out again
    picked[:, index.ravel() == ABSENT] = 0
    return cast(Numbers, picked.reshape(len(x), *index.shape))


def slices(node: ann.Slice | snn.Slice) -> tuple[slice, ...]:
    """Return the index of what a node takes of a batch."""
    return (slice(None), *map(slice, node.start, node.stop, node.step))
