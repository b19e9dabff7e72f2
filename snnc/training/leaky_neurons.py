"""Leaky neurons step by step: in the integers that are written, with gradients in real numbers.

Forward it is :func:`snnc.simulation.reference.leaky_steps` in float64, which holds every product with a
decay. Three ways lead back, with ``z`` the potential in thresholds and ``k`` the nearest threshold:

``bptt`` goes back through every step. A spike has the derivative of an arctangent,
``h(z) = 1 / (1 + (pi (z - k))^2)``, for what reads it and for its reset.

``tssl`` goes back through every step as well, but lets a change of the potential move a spike in time, and
neither make nor remove one. Where ``z`` rises by ``a`` in the step of a spike, ``dt/dz = -1/a``, cut at 8:
call ``r = min(1/a, 8)``, and 0 where it does not rise. An earlier spike counts as more of it to the filter
that reads it, and its reset decays for longer::

    ds/dz = r in the step of a spike
    dv/dm = k + (1 - d) q r       k = 1 for reset by subtraction, else 0;  q what a spike takes, in thresholds

Where a neuron's spikes, filtered as what reads them does, are below 1/4, it is silent: ``ds/dz = h``.

``rate`` keeps no step. Beside the mean spikes it keeps by how much these change with a constant input and
with the decay ``d``, of a potential from which a spike takes the share ``q`` of a threshold,

    psi_t = 1 + d_s psi_{t-1}
    kappa_t = psi_t + d kappa_{t-1} (1 - q h_{t-1})        e = mean_t h_t kappa_t
    delta_t = v_{t-1} + d delta_{t-1} (1 - q h_{t-1})      e_d = mean_t h_t delta_t

and goes back once: ``r = sg(r) + e (x - sg(x)) + e_d (d - sg(d))``.

Sources: Fang et al., "Deep Residual Learning in Spiking Neural Networks", NeurIPS 2021 (the arctangent);
Zhang and Li, "Temporal Spike Sequence Learning via Backpropagation for Deep Spiking Neural Networks",
NeurIPS 2020 (`tssl`; the cut, silence and the sign with which an earlier spike counts are those of the
authors' program; the reset by subtraction is derived here); Yu et al., "Advancing Training Efficiency of Deep
Spiking Neural Networks through Rate-based Backpropagation", NeurIPS 2024. The terms of decay, filter and
reset in ``rate`` are derived here.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snnc.ir import snn
from snnc.ir.graph import NumberArray
from snnc.ir.leak import WHOLE
from snnc.training.operators import per_channel
from snnc.training.temporal import Spikes

METHODS = ("bptt", "rate", "tssl")

SOONEST = 8.0
"""By how many steps a potential that is larger by a threshold moves a spike at most."""

SILENT = 0.25
"""Filtered spikes below which a neuron is silent."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A population or a read-out as it is trained.

    Attributes:
        node: in float32.
        made: the same in integers.
        bias: (channels,) integers, with a gradient.
        decay: (channels,) or (1,) of the potential, with a gradient where it is learned; ``None`` where
            nothing leaks.
        heard: decay of the filter through which its spikes are read.
    """

    node: snn.IntegrateFire | snn.Readout
    made: snn.IntegrateFire | snn.Readout
    bias: Tensor
    decay: Tensor | None
    heard: float = 0.0

    @property
    def unit(self) -> float:
        """By how much a potential is finer than a current."""
        return 2.0**self.made.fraction_bits

    def spread(self, values: NumberArray) -> Tensor:
        """Return numbers of the channels, float64, as they meet (batch, *shape)."""
        return per_channel(torch.from_numpy(np.array(values)).double(), len(self.node.shape))

    def leaked(self, v: Tensor) -> Tensor:
        """Return what remains of a potential after a step."""
        return _leak(v, self.decay, self.made.decay)

    def filtered(self, current: Tensor) -> Iterator[Tensor]:
        """Yield what reaches the potential in each step, of a current (T, batch, *shape)."""
        given = self.node.synapse_decay
        share = None if given is None else torch.from_numpy(np.array(given))
        i: Tensor | None = None
        for arriving in current * self.unit:
            kept = None if i is None or share is None else _leak(i, share, self.made.synapse_decay)
            i = arriving if kept is None else kept + arriving
            yield i


def _leak(v: Tensor, share: Tensor | None, whole: NumberArray | None) -> Tensor:
    """Return ``trunc(v d / 2^15)``, with the gradients of ``v d``."""
    if whole is None or share is None:
        return v
    rank = v.ndim - 1
    exact = per_channel(torch.from_numpy(np.array(whole)).double(), rank)
    kept = torch.trunc(v.detach() * exact / WHOLE)
    smooth = v * per_channel(share.double(), rank)
    return smooth + (kept - smooth).detach()


def steps(
    cell: Cell, made: snn.IntegrateFire, current: Tensor, method: str
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield of each step the potential before it, the spikes and their slope, (batch, *shape) each.

    Args:
        cell: a population.
        made: it in integers.
        current: (T, batch, *shape).
        method: of :data:`METHODS`; ``rate`` takes the slopes of ``bptt``.
    """
    theta, limit = cell.spread(made.threshold), made.neuron.limit or 0
    taken = theta if made.reset_by is None else cell.spread(made.reset_by)
    bias = per_channel(cell.bias, len(made.shape))
    v = cell.spread(made.v_init).expand_as(current[0])
    resting = torch.zeros_like(current[0].detach())
    heard = torch.zeros_like(resting)
    for i in cell.filtered(current):
        m = cell.leaked(v) + i + bias
        z = m / theta
        awake = resting == 0
        with torch.no_grad():
            s = torch.floor(z).clamp(0, limit) * awake
            slope = 1 / (1 + (math.pi * (z - torch.round(z).clamp(1, limit))) ** 2) * awake
        if method == "tssl":
            with torch.no_grad():
                heard = cell.heard * heard + s
                soon = _sooner((m - v) / theta) * s
                slope = torch.where(s > 0, soon, slope * (heard < SILENT))
                share = 1 if cell.decay is None else per_channel(cell.decay.double(), len(made.shape))
                lost = taken if made.reset_to is None else m - cell.spread(made.reset_to)
                later = (1 - share) * lost / theta * soon
            sent = Spikes.apply(z, s, slope)
            after = m - s * taken if made.reset_to is None else _set(m, s, cell.spread(made.reset_to))
            after = after + later * (m - m.detach())
        else:
            sent = Spikes.apply(z, s, slope)
            after = m - sent * taken if made.reset_to is None else _set(m, sent, cell.spread(made.reset_to))
        before = v
        v = torch.where(awake, after, v)
        resting = torch.where(s > 0, float(made.refractory), (resting - 1).clamp(min=0))
        yield before, sent, slope


def _set(m: Tensor, sent: Tensor, to: Tensor) -> Tensor:
    return m + sent * (to - m)


def _sooner(rise: Tensor) -> Tensor:
    """Return ``min(1 / rise, 8)``, and 0 where nothing rises."""
    return torch.where(rise > 0, 1 / rise.clamp(min=1 / SOONEST), 0.0)


def rates(cell: Cell, made: snn.IntegrateFire, current: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return the spikes, and their mean with the gradients of ``rate``.

    Args:
        cell: a population.
        made: it in integers.
        current: (T, batch, *shape).
        mean: of the current, with a gradient.
    """
    rank = len(made.shape)
    theta, decay = cell.spread(made.threshold), cell.decay
    d = per_channel(theta.new_ones(1) if decay is None else decay.detach().double(), rank)
    given = cell.node.synapse_decay
    filtering = 0.0 if given is None else float(np.mean(given))
    q = 1.0
    if made.reset_by is not None:
        q = float(np.mean(made.reset_by / made.threshold))
    with torch.no_grad():
        psi, kappa, delta, h = (torch.zeros_like(mean) for _ in range(4))
        e, e_d, sent = torch.zeros_like(mean), torch.zeros_like(mean), []
        for before, s, slope in steps(cell, made, current, "rate"):
            left = d * (1 - q * h)
            psi = 1 + filtering * psi
            kappa, delta = psi + left * kappa, before / theta + left * delta
            h = slope
            e, e_d = e + h * kappa, e_d + h * delta
            sent.append(s)
        train = torch.stack(sent)
        e, e_d = e / len(sent), e_d / len(sent)
    x = (mean * cell.unit + per_channel(cell.bias, rank)) / theta
    rate = train.mean(dim=0) + e * (x - x.detach())
    if decay is not None and decay.requires_grad:
        spread = per_channel(decay.double(), rank)
        rate = rate + e_d * (spread - spread.detach())
    return train, rate


def answers(cell: Cell, current: Tensor, mean: Tensor | None) -> Tensor:
    """Return what a read-out holds after each step, (T, batch, *shape), in integers.

    Args:
        cell: a read-out.
        current: (T, batch, *shape).
        mean: of the current, with a gradient, where only that has one.
    """
    bias = per_channel(cell.bias, len(cell.node.shape))
    y, psi, through = torch.zeros_like(current[0]), 0.0, 0.0
    kept, filtering = (
        none if each is None else float(np.mean(each))
        for each, none in ((cell.node.decay, 1.0), (cell.node.synapse_decay, 0.0))
    )
    found = []
    for i in cell.filtered(current if mean is None else current.detach()):
        y = cell.leaked(y) + i + bias
        psi = 1 + filtering * psi
        through = kept * through + psi
        answer = y
        if mean is not None:
            answer = y + through * (mean - mean.detach()) * cell.unit
        found.append(answer)
    return torch.stack(found)
