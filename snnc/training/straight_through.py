"""Rounding with gradients: forward what the compiler's integers give, backward as if nothing were rounded.

For a value ``z`` that is clipped to ``[0, theta]`` and rounded to ``L`` levels, ``u = z L / theta`` and
``k = clip(floor(u + 1/2), 0, L)``, the gradients of ``a = theta k / L`` are::

    da/dz = h(u)        da/dtheta = (k - h(u) u) / L
    h(u) = clip(min(u + 1/2, L + 1/2 - u), 0, 1)

``h`` is the sum of triangles around the places where the level changes, ``max(0, 1 - |u - j + 1/2|)`` for
``j = 1 .. L``, as in the finishing stages (:func:`snnc.training.temporal.triangles`): a value that lies just
beyond the range still learns, and with one level those learn most whose spike may come or go.

Sources: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", arXiv 1308.3432;
Esser et al., "Learned Step Size Quantization", ICLR 2020; Bu et al., "Optimal ANN-SNN Conversion for
High-accuracy and Ultra-low-latency Spiking Neural Networks", ICLR 2022.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnc.training import fused


class Levels(torch.autograd.Function):
    """What neurons send, and what it stands for, by channel.

    ::

        u = (x + offset) / step        k = clip(floor(u + start), 0, levels)        y = worth k + lowest

    Backward, with ``z = u + start`` and the gradient ``g`` by ``k``, to which that by ``y`` gives its product
    with the worth::

        h = clip(min(z, levels + 1 - z), 0, 1) where levels > 0, else 0        dx = h g / step
        d offset = sum dx        d step = -sum dx u        d worth = sum dy k        d lowest = sum dy
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        offset: Tensor,
        step: Tensor,
        worth: Tensor,
        lowest: Tensor,
        levels: Tensor,
        start: float,
        counted: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the values, and the counts where they are asked for, both of the shape of ``x``.

        Args:
            ctx: of autograd.
            x: (batch, channels, ...).
            offset: what is added, (channels,) as all that follow.
            step: of a level, above 0.
            worth: of a count.
            lowest: value of no spike.
            levels: largest count; 0 for a channel that never fires.
            start: initial potential, in steps.
            counted: whether counts are asked for.
        """
        ctx.save_for_backward(x, offset, step, worth, lowest, levels)
        ctx.start = start
        ctx.set_materialize_grads(False)
        if fused.usable(x):
            return fused.forward(x, (offset, step, worth, lowest, levels), start, counted=counted)
        u = (x + _along(offset, x)) / _along(step, x)
        k = torch.floor(u + start).clamp_(min=0)
        k = torch.minimum(k, _along(levels, x))
        return k * _along(worth, x) + _along(lowest, x), k if counted else None

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradients of all but the levels."""
        x, offset, step, worth, lowest, levels = ctx.saved_tensors
        by_value, by_count = gradients
        if by_value is None and by_count is None:
            return (None,) * 8
        if fused.usable(x):
            parameters = (offset, step, worth, lowest, levels)
            by_x, sums = fused.backward(x, by_value, by_count, parameters, ctx.start)
        else:
            given = torch.zeros_like(x) if by_value is None else by_value
            u = (x + _along(offset, x)) / _along(step, x)
            most = _along(levels, x)
            z = u + ctx.start
            k = torch.minimum(torch.floor(z).clamp_(min=0), most)
            h = torch.minimum(z, most + 1 - z).clamp_(0, 1) * (most > 0)
            g = given * _along(worth, x)
            g = (g if by_count is None else g + by_count) * h
            axes = [axis for axis in range(x.ndim) if axis != 1]
            made = (each.sum(dim=axes, dtype=step.dtype) for each in (g, g * u, given * k, given))
            by_x, sums = g / _along(step, x), fused.Sums(*made)
        by_offset, by_step = sums.passed / step, -sums.passed_input / step
        return by_x, by_offset, by_step, sums.counts, sums.values, None, None, None


def _along(values: Tensor, x: Tensor) -> Tensor:
    """Return values of channels as they broadcast over a batch, in its type."""
    return values.reshape(-1, *(1,) * (x.ndim - 2)).to(x.dtype)


class Integers(torch.autograd.Function):
    """The integers that the compiler makes of real parameters, which get their gradient."""

    @staticmethod
    def forward(ctx: Any, real: Tensor, integers: Tensor, unit: Tensor) -> Tensor:
        """Return the integers.

        Args:
            ctx: of autograd.
            real: the parameters.
            integers: what they become, of the same shape, in floats.
            unit: real value of one, broadcastable to them.
        """
        ctx.save_for_backward(unit)
        return integers

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Pass the gradient in real units."""
        (unit,) = ctx.saved_tensors
        return gradients[0] / unit, None, None
