"""Populations on tensors of one step, as :func:`snnc.simulation.reference.fire` defines them."""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnc.backends.torch_module.operators import per_channel
from snnc.errors import UsageError
from snnc.ir.operations import Firing, firing, unmatched
from snnc.ir.snn import IntegrateFire


@dataclass(frozen=True, slots=True)
class Parameters:
    """The arrays of a population, whole numbers in floats.

    Attributes:
        threshold: (channels,).
        bias: (channels,).
        v_init: (channels,).
        negative_threshold: (channels,); ``None`` where there is none.
        breakpoints: (channels, n) or (1, n); likewise.
        step_values: (n + 1,); likewise.
    """

    threshold: Tensor
    bias: Tensor
    v_init: Tensor
    negative_threshold: Tensor | None
    breakpoints: Tensor | None
    step_values: Tensor | None


class _Straight(torch.autograd.Function):
    """The spikes as they are; their gradient passes to ``m / Theta`` where nothing is clipped."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, spikes: Tensor, inside: Tensor) -> Tensor:
        """Return ``spikes``."""
        ctx.save_for_backward(inside)
        return spikes.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of ``z``."""
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None


def fired(
    node: IntegrateFire,
    given: Parameters,
    m: Tensor,
    count: Tensor,
    timesteps: int,
    *,
    layerwise: bool,
) -> tuple[Tensor, Tensor]:
    """Let a population fire once.

    Args:
        node: the population.
        given: its arrays.
        m: (batch, *shape), the potential with all that has arrived.
        count: (batch, *shape), ``N`` before.
        timesteps: T.
        layerwise: whether nothing is ever taken back.

    Returns:
        The spikes, and the potential that they leave.
    """
    rank, rule, limit = len(node.shape), firing(node), node.neuron.limit
    if rule is Firing.STEPS:
        change = step_function(given, m) - count
        return change if limit is None else change.clamp(-limit, limit), m
    theta = per_channel(given.threshold, rank)
    wanted = torch.div(m, theta, rounding_mode="floor")
    match rule:
        case Firing.PLAIN:
            low, high = torch.zeros_like(count), torch.full_like(count, limit or 0)
        case Firing.LIMITED | Firing.HESITANT | Firing.GRADED:
            low, high = -count, node.neuron.capacity(timesteps) - count
            if limit is not None:
                low, high = low.clamp(min=-limit), high.clamp(max=limit)
            if layerwise:
                low = torch.zeros_like(low)
            if given.negative_threshold is not None:
                held = (wanted < 0) & (m >= -per_channel(given.negative_threshold, rank))
                wanted = torch.where(held, torch.zeros_like(wanted), wanted)
        case Firing.LEAKY:
            raise UsageError(f"{node.name!r} is leaky, which modules of PyTorch do not run")
        case _:
            raise unmatched(rule)
    s = torch.clamp(wanted, low, high)
    if m.requires_grad or theta.requires_grad:
        s = _Straight.apply(m / theta, s, (wanted >= low) & (wanted <= high))
    return s, m - s * theta


def step_function(given: Parameters, v: Tensor) -> Tensor:
    """Return ``K``, the counts that a step function gives for potentials, (batch, channels, ...)."""
    if given.breakpoints is None or given.step_values is None:
        raise ValueError("there is no step function")
    first = v.transpose(0, 1)
    flat = first.reshape(len(first), -1).contiguous()
    points = given.breakpoints.expand(len(flat), -1).contiguous()
    found = given.step_values[torch.searchsorted(points, flat, right=True)]
    return found.reshape(first.shape).transpose(0, 1)
