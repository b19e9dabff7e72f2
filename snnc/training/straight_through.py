"""Rounding with gradients: forward what the compiler's integers give, backward as if nothing were rounded.

For a value ``z`` that is clipped to ``[0, theta]`` and rounded to ``L`` levels, ``u = z L / theta`` and
``k = clip(floor(u + 1/2), 0, L)``, the gradients of ``a = theta k / L`` are::

    da/dz = 1 for 0 < u < L, else 0          (-1/2 < u < 3/2 where L = 1: two levels would learn too little)
    da/dtheta = (k - u) / L inside, 1 above, 0 below

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


def inside(u: Tensor, levels: int) -> Tensor:
    """Return where ``u`` = z L / theta has a gradient."""
    return (u > -0.5) & (u < 1.5) if levels == 1 else (u > 0) & (u < levels)


class RoundedClip(torch.autograd.Function):
    """``clip(floor(u + start), 0, levels)``: the count of a neuron that begins at ``start`` thresholds."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, levels: int, start: float) -> Tensor:
        """Return the counts for ``u`` = z L / theta, of any shape."""
        ctx.save_for_backward(inside(u, levels))
        return torch.floor(u + start).clamp(0, levels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Pass the gradient where nothing is clipped."""
        (mask,) = ctx.saved_tensors
        return gradients[0] * mask, None, None


class Counts(torch.autograd.Function):
    """``N = clip(floor(v / Theta), 0, C)`` of final potentials: a population's counts, in integer units."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: Tensor, capacity: int) -> Tensor:
        """Return the counts.

        Args:
            ctx: of autograd.
            v: (batch, *shape), all that arrived and the initial potential.
            threshold: (channels, 1, ..., 1), of as many axes as a sample.
            capacity: C.
        """
        u = v / threshold
        ctx.save_for_backward(u, threshold, inside(u - 0.5, capacity))
        return torch.floor(u).clamp(0, capacity)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Pass ``dN/dv = 1 / Theta`` and ``dN/dTheta = -u / Theta`` where nothing is clipped."""
        u, threshold, mask = ctx.saved_tensors
        passed = gradients[0] * mask / threshold
        by_threshold = (-passed * u).sum(dim=0)
        shared = [axis for axis, size in enumerate(threshold.shape) if size != by_threshold.shape[axis]]
        if shared:
            by_threshold = by_threshold.sum(dim=shared, keepdim=True)
        return passed, by_threshold, None


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


class LearnedLevels(torch.autograd.Function):
    """``y = theta k / L``, ``k = clip(floor(x L / theta + 1/2), 0, L)``, with both gradients.

    The same as :class:`RoundedClip` with its factors, for networks whose counts are not asked for: it keeps
    one tensor for the backward pass, and ``x`` and ``y`` may be bfloat16.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: Tensor, levels: int) -> Tensor:
        """Return the values.

        Args:
            ctx: of autograd.
            x: (batch, channels, ...).
            threshold: (channels,), above 0.
            levels: L.
        """
        ctx.save_for_backward(x, threshold)
        ctx.levels = levels
        factor, unit = (
            each.reshape(-1, *(1,) * (x.ndim - 2)).to(x.dtype)
            for each in (levels / threshold, threshold / levels)
        )
        return (x * factor).add_(0.5).floor_().clamp_(0, levels).mul_(unit)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Pass ``dy/dx`` and ``dy/dtheta``."""
        x, threshold = ctx.saved_tensors
        levels: int = ctx.levels
        u = x * (levels / threshold).reshape(-1, *(1,) * (x.ndim - 2)).to(x.dtype)
        passed = gradients[0] * inside(u, levels)
        k = (u + 0.5).floor_().clamp_(0, levels)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        change = k.mul_(gradients[0]).sub_(u.mul_(passed))
        by_threshold = change.sum(dim=axes, dtype=threshold.dtype) / levels
        return passed, by_threshold.to(threshold.dtype), None
