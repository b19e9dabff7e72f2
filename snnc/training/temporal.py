"""A lowered network as a module of torch that runs through its T steps: for counts whose order matters.

One spike a step, signed or not, may come too late, or be taken back in vain, so the counts of such a network
are not those of one pass. This module computes the very integers of :mod:`snnc.simulation.reference`, step
by step; what differs between the methods is the way back. In units of the threshold a neuron does

    z_t = v_{t-1} + x_t        s_t = clip(floor(z_t), low_t, high_t)        v_t = z_t - s_t

and the derivative of its spike is a triangle around each threshold that it may reach (for a binary neuron
``h(z) = max(0, 1 - |z - 1|)``).

`bptt` follows every step, and so does `cycles`, which also learns locally
(:mod:`snnc.training.plasticity`). `rate` keeps none of them: beside the mean spikes it keeps by how much they
change with a constant input and with the initial potential,

    kappa_1 = 1, kappa_{t+1} = 1 + kappa_t (1 - h_t)        e = mean_t h_t kappa_t

and goes back once, through rates: ``r = sg(r) + e (x - sg(x))``. The factor ``1 - h`` is that of the reset by
subtraction, without which kappa would grow with t. Its graph does not grow with T.

Sources: Wu et al., "Spatio-Temporal Backpropagation for Training High-Performance Spiking Neural Networks",
Frontiers in Neuroscience 12 (2018), the triangle of Deng et al., "Temporal Efficient Training of Spiking
Neural Network via Gradient Re-weighting", ICLR 2022 (`bptt`); Yu et al., "Advancing Training Efficiency of
Deep Spiking Neural Networks through Rate-based Backpropagation", NeurIPS 2024 (`rate`; the term of the reset
is derived here).
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnc.errors import UsageError
from snnc.ir import snn
from snnc.ir.neuron import Schedule
from snnc.ir.operations import Firing, firing, operations
from snnc.numerics.weight_grid import WEIGHT_BITS
from snnc.training import fused_spikes
from snnc.training.fused_spikes import Rule
from snnc.training.operators import Run, per_channel
from snnc.training.plasticity import change
from snnc.training.spiking_network import SpikingNetwork

METHODS = ("rate", "bptt", "cycles")


class Fired(NamedTuple):
    """What a population did in one step.

    Attributes:
        spikes: (batch, *shape).
        potential: what they leave.
        slope: how much the spikes change with the potential, in units of the threshold.
    """

    spikes: Tensor
    potential: Tensor
    slope: Tensor


class Spikes(torch.autograd.Function):
    """Spikes as they are; their gradient passes to the potential over the threshold, by a slope."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, spikes: Tensor, slope: Tensor) -> Tensor:
        """Return the spikes."""
        ctx.save_for_backward(slope)
        return spikes.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of ``z``."""
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None, None


class Rates(torch.autograd.Function):
    """Mean spikes as they are; their gradient passes to a constant input and the start, by their slopes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, start: Tensor, rate: Tensor, e: Tensor, e_start: Tensor) -> Tensor:
        """Return the mean spikes.

        Args:
            ctx: of autograd.
            x: (batch, *shape) the mean input over the threshold.
            start: initial potential over the threshold, which broadcasts to it.
            rate: (batch, *shape) the mean spikes.
            e: their slope by the input.
            e_start: their slope by the start.
        """
        ctx.save_for_backward(e, e_start)
        ctx.shape = start.shape
        return rate.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of input and start."""
        e, e_start = ctx.saved_tensors
        by_start = (gradients[0] * e_start).sum_to_size(ctx.shape) if ctx.needs_input_grad[1] else None
        return gradients[0] * e, by_start, None, None, None


class Total(torch.autograd.Function):
    """A sum over all steps as it is; its gradient passes to the mean, T times."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, total: Tensor, steps: int) -> Tensor:
        """Return the sum."""
        ctx.steps = steps
        return total.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the mean."""
        return gradients[0] * ctx.steps, None, None


def triangles(z: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the sum of triangles around the thresholds ``low + 1 .. high``; side by side they give 1."""
    return torch.minimum(z - low, high + 1 - z).clamp(0, 1) * (high > low)


class TemporalNetwork(SpikingNetwork):
    """A float32 graph of the spiking dialect as a module that runs step by step."""

    one_pass = False

    def __init__(self, graph: snn.SnnGraph, method: str, bits: int = WEIGHT_BITS) -> None:
        """Make the module.

        Args:
            graph: as for :class:`SpikingNetwork`.
            method: of :data:`METHODS`.
            bits: as for :class:`SpikingNetwork`.

        Raises:
            UsageError: it runs layer by layer, or takes steps to settle.
        """
        if method not in METHODS:
            raise UsageError(f"the finishing stage {method!r} is unknown; known: {', '.join(METHODS)}")
        if graph.schedule is not Schedule.SYNCHRONOUS or graph.settle_steps:
            raise UsageError(
                "a finishing stage is for networks whose spikes arrive step by step, without steps to settle"
            )
        super().__init__(graph, bits)
        self.method = method

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        keep: Sequence[str] = (),
        steps: int | None = None,
        *,
        exact: bool = False,
    ) -> Run:
        """Run the network; the arguments are those of :meth:`SpikingNetwork.forward`."""
        t = self.source.timesteps if steps is None else steps
        if self.method == "rate":
            return self._by_rates(inputs, keep, t, exact)
        return self._by_steps(inputs, keep, t, exact, {})

    def learn_locally(self, inputs: Mapping[str, Tensor], rate: float) -> None:
        """Change the weights in front of populations by their spikes; see :mod:`snnc.training.plasticity`.

        Args:
            inputs: the quantised inputs by name.
            rate: share of the change that is taken.
        """
        trains: dict[str, Tensor] = {}
        with torch.no_grad():
            self._by_steps(inputs, (), self.source.timesteps, exact=False, trains=trains)
            for node in self.source:
                readers = self.source.consumers[node.name]
                if not isinstance(node, snn.Convolution | snn.Linear) or len(readers) != 1:
                    continue
                weight = self.value(node, "weight")
                largest = weight.abs().max()
                learns = self.parameter(node, "weight").requires_grad
                if not isinstance(readers[0], snn.IntegrateFire) or not learns or not largest:
                    continue
                pre = trains[node.inputs[0]]
                most = pre.abs().max().clamp(min=1) if self._is_analogue(node.inputs[0]) else 1
                found = change(node, weight / largest, pre / most, trains[readers[0].name])
                self.put(node, "weight", (weight / largest + rate * found).clamp(-1, 1) * largest)

    def _is_analogue(self, name: str) -> bool:
        """Whether a node only moves an input, whose values are no spikes."""
        node = self.source[name]
        while node.inputs and not isinstance(node, snn.IntegrateFire):
            node = self.source[node.inputs[0]]
        return isinstance(node, snn.Encode)

    def _by_steps(
        self,
        inputs: Mapping[str, Tensor],
        keep: Sequence[str],
        t: int,
        exact: bool,
        trains: dict[str, Tensor],
    ) -> Run:
        """Run all steps of a layer before the next, with a graph through each of them.

        Args:
            inputs: the quantised inputs by name.
            keep: names of populations whose activations are wanted.
            t: how many steps.
            exact: compute in float64.
            trains: takes what every node gives, (t, batch, *shape).
        """
        found = Run({}, {}, {})
        rows = len(next(iter(inputs.values())))
        for node in operations(self.source):
            match node:
                case snn.Encode():
                    given = inputs[node.name].double() if exact else inputs[node.name]
                    trains[node.name] = given.expand(t, *given.shape)
                case snn.ConstantCurrent():
                    whole = self._whole(node, "values", self.value(node, "values"), exact)
                    trains[node.name] = whole.expand(t, rows, *node.shape)
                case snn.IntegrateFire():
                    theta, bias, v, worth = self.population(node, exact)
                    current = _summed([trains[name] for name in node.inputs]) + bias
                    count = torch.zeros_like(current[0]).detach()
                    v = v.expand_as(count)
                    sent = []
                    for step in range(t):
                        m = v + current[step]
                        made = self._fire(node, m.detach(), count, theta.detach())
                        s = Spikes.apply(m / theta, made.spikes, made.slope)
                        v, count = m - s * theta, count + made.spikes
                        sent.append(s)
                    train = torch.stack(sent)
                    found.counts[node.name] = train.sum(dim=0)
                    trains[node.name] = train * worth
                    if node.name in keep:
                        whole = self.quantised[node.name]
                        found.kept[node.name] = self._decoded(whole, trains[node.name].sum(dim=0), t)
                case snn.Readout():
                    total = _summed([trains[name] for name in node.inputs]).sum(dim=0)
                    self._read(node, total, t, exact, found)
                case snn.CountMaxPool():
                    highest = self._each(node, [trains[node.inputs[0]].cumsum(dim=0)], exact)
                    first = torch.zeros_like(highest[:1])
                    trains[node.name] = torch.diff(highest, dim=0, prepend=first)
                case _:
                    trains[node.name] = self._each(node, [trains[name] for name in node.inputs], exact)
        return found

    def _by_rates(self, inputs: Mapping[str, Tensor], keep: Sequence[str], t: int, exact: bool) -> Run:
        """Run all steps without a graph, and their means with one."""
        trains: dict[str, Tensor] = {}
        means: dict[str, Tensor] = {}
        found = Run({}, {}, {})
        rows = len(next(iter(inputs.values())))
        last = {name: node.name for node in operations(self.source) for name in node.inputs}
        for node in operations(self.source):
            match node:
                case snn.Encode():
                    means[node.name] = inputs[node.name].double() if exact else inputs[node.name]
                    trains[node.name] = means[node.name].expand(t, *means[node.name].shape)
                case snn.ConstantCurrent():
                    whole = self._whole(node, "values", self.value(node, "values"), exact)
                    means[node.name] = whole.expand(rows, *node.shape)
                    trains[node.name] = whole.detach().expand(t, rows, *node.shape)
                case snn.IntegrateFire():
                    theta, bias, start, worth = self.population(node, exact)
                    mean = _summed([means[name] for name in node.inputs]) + bias
                    with torch.no_grad():
                        current = _summed([trains[name] for name in node.inputs]) + bias
                        train, e, e_start = self.sent(node, current, theta, start)
                        rate = train.mean(dim=0)
                    rate = Rates.apply(mean / theta, start / theta, rate, e, e_start)
                    found.counts[node.name] = Total.apply(rate, train.sum(dim=0), t)
                    trains[node.name], means[node.name] = train, rate * worth
                    if node.name in keep:
                        whole = self.quantised[node.name]
                        found.kept[node.name] = self._decoded(whole, means[node.name] * t, t)
                case snn.Readout():
                    mean = _summed([means[name] for name in node.inputs])
                    with torch.no_grad():
                        total = _summed([trains[name] for name in node.inputs]).sum(dim=0)
                    self._read(node, Total.apply(mean, total, t), t, exact, found)
                case snn.CountMaxPool():
                    with torch.no_grad():
                        highest = self._each(node, [trains[node.inputs[0]].cumsum(dim=0)], exact)
                        first = torch.zeros_like(highest[:1])
                        trains[node.name] = torch.diff(highest, dim=0, prepend=first)
                    means[node.name] = self._moved(node, [means[node.inputs[0]]], exact)
                case _:
                    means[node.name] = self._moved(node, [means[name] for name in node.inputs], exact)
                    with torch.no_grad():
                        trains[node.name] = self._each(node, [trains[name] for name in node.inputs], exact)
            for name in node.inputs:  # so that memory holds the steps of few layers at once
                if last[name] == node.name:
                    trains.pop(name, None)
        return found

    def sent(
        self, node: snn.IntegrateFire, current: Tensor, theta: Tensor, start: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return spikes, and by how much their mean changes with a constant input and with the start.

        Args:
            node: the population.
            current: (t, batch, *shape) what arrives, the bias included.
            theta: thresholds, which broadcast to a step.
            start: initial potentials, likewise.
        """
        if fused_spikes.usable(current):
            return fused_spikes.sent(current, theta, start, self._rule(node))
        v = start.expand_as(current[0])
        count, e, e_start = (torch.zeros_like(current[0]) for _ in range(3))
        kappa, left = torch.ones_like(count), torch.ones_like(count)
        train = torch.empty_like(current)
        for step in range(len(current)):
            made = self._fire(node, v + current[step], count, theta)
            train[step], v, count = made.spikes, made.potential, count + made.spikes
            e = (step * e + made.slope * kappa) / (step + 1)
            e_start = (step * e_start + made.slope * left) / (step + 1)
            kappa, left = 1 + kappa * (1 - made.slope), left * (1 - made.slope)
        return train, e, e_start

    def _fire(self, node: snn.IntegrateFire, m: Tensor, count: Tensor, theta: Tensor) -> Fired:
        """Let a population fire once, without a graph, as :func:`snnc.simulation.reference.fire` does."""
        rule = self._rule(node)
        z = m / theta
        wanted = torch.floor(z)
        if not rule.signed:
            low, high = torch.zeros_like(count), torch.full_like(count, rule.limit)
        else:
            low, high = (-count).clamp(min=-rule.limit), (rule.capacity - count).clamp(max=rule.limit)
            if rule.least is not None:
                wanted = torch.where((wanted < 0) & (m >= rule.least.to(m)), torch.zeros_like(wanted), wanted)
        s = torch.minimum(torch.maximum(wanted, low), high)
        return Fired(s, m - s * theta, triangles(z, low, high))

    def _rule(self, node: snn.IntegrateFire) -> Rule:
        """Return when a population fires."""
        signed, limit = firing(node) is not Firing.PLAIN, node.neuron.limit
        made, least = self.quantised[node.name], None
        if signed and isinstance(made, snn.IntegrateFire) and made.negative_threshold is not None:
            least = -per_channel(
                torch.from_numpy(made.negative_threshold.astype(np.float32)), len(node.shape)
            )
        unlimited = math.inf if signed else 0
        return Rule(
            signed, unlimited if limit is None else limit, node.neuron.capacity(self.source.timesteps), least
        )

    def population(self, node: snn.IntegrateFire, exact: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return threshold, bias and initial potential in integers, and what a spike is worth over that."""
        rank = len(node.shape)
        real, start = self._neuron(node)
        theta, bias, v = (
            per_channel(self._whole(node, field, value, exact), rank)
            for field, value in (
                ("threshold", real),
                ("bias", self.value(node, "bias")),
                ("v_init", start),
            )
        )
        # A larger threshold lets each spike stand for more; in value this factor is 1.
        worth = 1 + (real - real.detach()) / real.detach()
        return theta, bias, v, per_channel(worth.to(theta.dtype), rank)

    def _read(self, node: snn.Readout, total: Tensor, t: int, exact: bool, found: Run) -> None:
        rank = len(node.shape)
        bias = self._whole(node, "bias", self.value(node, "bias"), exact)
        unit = self.integers[node.name, "bias"].unit
        name = self.source.output_names[self.source.outputs.index(node.name)]
        found.outputs[name] = (total + t * per_channel(bias, rank)) * per_channel(unit / t, rank)

    def _each(self, node: snn.SnnNode, trains: Sequence[Tensor], exact: bool) -> Tensor:
        """Apply an operation to every step."""
        t, rows = trains[0].shape[:2]
        flat = [_channels_last(train.flatten(0, 1)) for train in trains]
        found = _channels_last(self._moved(node, flat, exact))
        return found.reshape(t, rows, *found.shape[1:])


def _channels_last(x: Tensor) -> Tensor:
    """Let the channels of maps come last in memory: convolutions are faster, and neurons read them so."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _summed(parts: Sequence[Tensor]) -> Tensor:
    return sum(parts[1:], parts[0])
