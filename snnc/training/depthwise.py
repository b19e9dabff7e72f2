"""Depthwise convolutions whose gradients are made on a CPU in about the time of the forward pass.

A depthwise convolution reads each channel alone. The library's gradients of it in bfloat16 take up to a
hundred times as long as the forward pass: those by the weights where the kernel is large, and those by the
inputs where it moves by more than a pixel. With g the gradient by y, s the stride, p the padding and n the
image, those by the weights are::

    dw_c[i, j] = sum_(n, a, b) g_c[n, a, b] x_c[n, s a + i - p, s b + j - p]
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from snnc.training.fused import PARTS, all_parts, as_numbers, reader

Pair = tuple[int, int]


def usable(x: Tensor, weight: Tensor, dilations: Pair, groups: int) -> bool:
    """Say whether a convolution is one of single channels that lie as the kernel reads them."""
    channels = x.shape[1]
    single = groups == channels == len(weight) > 1 and tuple(dilations) == (1, 1)
    known = x.dtype in {torch.float32, torch.bfloat16} and x.device.type == "cpu"
    return single and known and x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, strides: Pair, pads: Pair) -> Tensor:
    """Return the convolution of maps, each channel with its own kernel.

    Args:
        x: (batch, channels, height, width), for which :func:`usable` holds.
        weight: (channels, 1, kernel height, kernel width).
        bias: (channels,).
        strides: pixels from one place of the kernel to the next, by axis.
        pads: rows and columns of zeros on each side, fewer than the kernel has.
    """
    if torch.is_autocast_enabled("cpu"):
        kind = torch.get_autocast_dtype("cpu")
        x, weight, bias = x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
    found: Tensor = _Depthwise.apply(x, weight, bias, strides, pads)
    return found


class _Depthwise(torch.autograd.Function):
    """The convolution, with gradients of its own."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, strides: Pair, pads: Pair
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.strides, ctx.pads = strides, pads
        return functional.conv2d(x, weight, bias, strides, pads, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        g = gradients[0].to(x.dtype).contiguous(memory_format=torch.channels_last)
        by_x, by_weight, by_bias = ctx.needs_input_grad[:3]
        return (
            _by_input(x, weight, g, ctx.strides, ctx.pads) if by_x else None,
            _by_weight(x, weight, g, ctx.strides, ctx.pads).to(weight.dtype) if by_weight else None,
            g.sum(dim=(0, 2, 3)) if by_bias else None,
            None,
            None,
        )


def _by_input(x: Tensor, weight: Tensor, g: Tensor, strides: Pair, pads: Pair) -> Tensor:
    """Return the gradient by the maps: in float32 where bfloat16 would take ten times as long."""
    kind = x.dtype if strides == (1, 1) else torch.float32
    like = torch.empty_like(x, dtype=kind)  # only where it lies counts
    asked = (True, False, False)
    plan = (None, strides, pads, (1, 1), False, (0, 0), len(weight), asked)
    found: Tensor = torch.ops.aten.convolution_backward(g.to(kind), like, weight.to(kind), *plan)[0]
    return found.to(x.dtype)


def _by_weight(x: Tensor, weight: Tensor, g: Tensor, strides: Pair, pads: Pair) -> Tensor:
    """Return the gradient by the weights, summed in float32."""
    given, by = as_numbers(x.permute(0, 2, 3, 1)), as_numbers(g.permute(0, 2, 3, 1))
    channels, _, height, width = weight.shape
    sums = np.zeros((PARTS, height, width, channels), np.float32)
    kernel = _kernel(x.dtype is torch.bfloat16)

    def part(number: int, rows: slice) -> None:
        kernel(given[rows], by[rows], strides, pads, sums[number])

    all_parts(part, len(given))
    total = sums.sum(axis=0, dtype=np.float64).astype(np.float32)
    return torch.from_numpy(total).permute(2, 0, 1)[:, None]


@cache
def _kernel(half: bool) -> Any:
    """Return the compiled sums over all pixels of a channel, for bfloat16 or float32."""
    from numba import njit

    read = reader(half)

    @njit(nogil=True, error_model="numpy")
    def correlated(x: Any, g: Any, strides: Any, pads: Any, sums: Any) -> None:
        images, height, width, channels = x.shape
        framed = np.zeros((height + 2 * pads[0], width + 2 * pads[1], channels), np.float32)
        framed_bits = framed.view(np.uint32)
        row = np.empty((g.shape[2], channels), np.float32)
        row_bits = row.view(np.uint32)
        for n in range(images):
            for a in range(height):
                for b in range(width):
                    p, q = a + pads[0], b + pads[1]
                    read(x[n, a, b], framed[p, q], framed_bits[p, q])
            for a in range(g.shape[1]):
                for b in range(len(row)):
                    read(g[n, a, b], row[b], row_bits[b])
                for i in range(sums.shape[0]):
                    seen = framed[a * strides[0] + i]
                    for j in range(sums.shape[1]):
                        total = sums[i, j]
                        for b in range(len(row)):
                            left, right = row[b], seen[b * strides[1] + j]
                            for c in range(channels):
                                total[c] += left[c] * right[c]

    return correlated
