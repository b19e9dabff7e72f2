"""A network over time as a module of torch: leaky neurons on frames, in the integers that are written.

Forward it computes what :func:`snnc.simulation.reference.leaky_steps` does, in float64, which holds every
product with a decay. Backward it is the network in real numbers, whose spikes have the derivative of an
arctangent around the thresholds that they may reach, ``h(z) = 1 / (1 + (pi (z - k))^2)``.

``bptt`` goes back through every step. ``rate`` keeps none of them: beside the mean spikes it keeps by how
much these change with a constant input and with the decay ``d``, of a potential from which a spike takes
the share ``q`` of a threshold,

    psi_t = 1 + d_s psi_{t-1}
    kappa_t = psi_t + d kappa_{t-1} (1 - q h_{t-1})        e = mean_t h_t kappa_t
    delta_t = v_{t-1} + d delta_{t-1} (1 - q h_{t-1})      e_d = mean_t h_t delta_t

and goes back once: ``r = sg(r) + e (x - sg(x)) + e_d (d - sg(d))``.

LIF has one decay that stays. DA-LIF learns two for each layer or channel, ``v = beta v + alpha I``, of which
``alpha`` is a factor of the weights and the bias in front.

Sources: Fang et al., "Deep Residual Learning in Spiking Neural Networks", NeurIPS 2021 (the arctangent);
Yu et al., "Advancing Training Efficiency of Deep Spiking Neural Networks through Rate-based
Backpropagation", NeurIPS 2024; Zhang et al., "DA-LIF: Dual Adaptive Leaky Integrate-and-Fire Model for Deep
Spiking Neural Networks", ICASSP 2025. The terms of decay, filter and reset in ``rate`` are derived here.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from snnc.errors import InternalError, UsageError
from snnc.ir import snn
from snnc.ir.bounds import EXACT_FLOAT32, step_bounds
from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.leak import WHOLE
from snnc.ir.neuron import Schedule
from snnc.ir.operations import Firing, firing, operations
from snnc.numerics.quantisation import quantise_all
from snnc.training.operators import convolved, per_channel, summed
from snnc.training.straight_through import Integers
from snnc.training.temporal import Spikes

Leaking = TypeVar("Leaking", snn.IntegrateFire, snn.Readout)

METHODS = ("bptt", "rate")
LEARNED = ("none", "layer", "channel")
"""Of what the decays are learned."""


@dataclass(slots=True)
class Answers:
    """What a run gives.

    Attributes:
        outputs: (T, batch, *shape) of the read-out after each step, in real units.
        counts: (batch, *shape) per population.
        currents: standard deviation of the current of each population, in thresholds.
    """

    outputs: Tensor
    counts: dict[str, Tensor] = field(default_factory=dict)
    currents: dict[str, float] = field(default_factory=dict)


def untrainable(graph: snn.SnnGraph) -> str | None:
    """Say what keeps a network from being trained over time; ``None`` where nothing does."""
    if graph.schedule is not Schedule.SYNCHRONOUS or graph.settle_steps or len(graph.outputs) != 1:
        return "it is no synchronous network with one output and without settle steps"
    for node in operations(graph):
        match node:
            case snn.Encode() if node.presented is not snn.Presented.SEQUENCE or len(graph.inputs) > 1:
                return f"{node.name!r} is not the one input, a sequence of frames"
            case snn.IntegrateFire() if firing(node) not in (Firing.LEAKY, Firing.PLAIN):
                return f"{node.name!r} fires by {firing(node).value!r}"
            case snn.IntegrateFire() | snn.Readout() if node.integer:
                return f"{node.name!r} is quantised already"
            case (
                snn.Encode()
                | snn.IntegrateFire()
                | snn.Readout()
                | snn.Convolution()
                | snn.Linear()
                | snn.ChannelWeight()
                | snn.SumPool()
                | snn.Reshape()
            ):
                continue
            case _:
                return f"{node.name!r} is a {type(node).__name__}"
    return None


class LeakyNetwork(nn.Module):
    """A float32 graph of leaky neurons that learns.

    Attributes:
        source: the graph that it was made of.
        quantised: the integers of the parameters as :meth:`quantise` found them last.
    """

    def __init__(self, graph: snn.SnnGraph, method: str = "bptt", decays: str = "none") -> None:
        """Make the module, and quantise the network once.

        Args:
            graph: in float32.
            method: of :data:`METHODS`.
            decays: of :data:`LEARNED`: of what two decays are learned.

        Raises:
            UsageError: a node has no gradients here, or there is no such method.
        """
        super().__init__()
        if method not in METHODS or decays not in LEARNED:
            raise UsageError(f"{method!r} and {decays!r} are not of {METHODS} and {LEARNED}")
        if (reason := untrainable(graph)) is not None:
            raise UsageError(f"{graph.name} cannot be trained over time: {reason}")
        self.source, self.method = graph, method
        self._parameters_of: dict[tuple[str, str], str] = {}
        for number, node in enumerate(graph):
            if isinstance(node, snn.Weighted):
                self._learn(number, node, "weight", node.weight)
            elif isinstance(node, snn.IntegrateFire | snn.Readout):
                self._learn(number, node, "bias", node.bias)
            if isinstance(node, snn.IntegrateFire) and decays != "none":
                self._learn_decays(number, node, decays == "layer")
        self._integers: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}
        self._bounds: dict[str, int] = {}
        self.quantised = graph
        self.quantise()

    def _learn(self, number: int, node: snn.SnnNode, role: str, value: NumberArray) -> None:
        self._parameters_of[node.name, role] = f"n{number}_{role}"
        tensor = torch.from_numpy(np.array(value, np.float32))
        self.register_parameter(f"n{number}_{role}", nn.Parameter(tensor))

    def _learn_decays(self, number: int, node: snn.IntegrateFire, shared: bool) -> None:
        if node.decay is None or not all(self._reads_alone(name) for name in node.inputs):
            raise UsageError(f"{node.name!r} has no decay, or shares its weights: train it as LIF")
        inner = np.clip(node.decay, 1e-3, 1 - 1e-3)
        logit = np.log(inner / (1 - inner))
        self._learn(number, node, "decay", logit[:1] * 0 + logit.mean() if shared else logit)
        self._learn(number, node, "gain", np.zeros(1 if shared else node.channels))

    def _reads_alone(self, name: str) -> bool:
        return isinstance(self.source[name], snn.Weighted) and self.source.read_once(name)

    def _value(self, name: str, role: str) -> Tensor | None:
        found = self._parameters_of.get((name, role))
        return None if found is None else getattr(self, found)

    def _needed(self, name: str, role: str) -> Tensor:
        found = self._value(name, role)
        if found is None:
            raise InternalError(f"{name!r} learns no {role}")
        return found

    def _gain(self, name: str, like: Tensor) -> Tensor:
        """Return ``alpha`` of a population, as it multiplies a weight or bias, (channels, ...)."""
        found = self._value(name, "gain")
        if found is None:
            return like.new_ones(1)
        return torch.exp(found).reshape(-1, *(1,) * (like.ndim - 1))

    def _real(self, node: snn.SnnNode, role: str) -> Tensor:
        """Return a parameter in real units, with the gain of the population that it belongs to."""
        value = self._needed(node.name, role)
        if role == "bias":
            return value * self._gain(node.name, value)
        (reader, *more) = self.source.consumers[node.name]
        return value if more else value * self._gain(reader.name, value)

    def _decay(self, node: snn.IntegrateFire | snn.Readout) -> Tensor | None:
        """Return the decay of a potential, (channels,) or (1,); ``None`` where all stays."""
        learned = self._value(node.name, "decay")
        if learned is not None:
            return torch.sigmoid(learned)
        return None if node.decay is None else torch.from_numpy(np.array(node.decay))

    def scale(self, name: str, factor: float) -> None:
        """Multiply a weight."""
        with torch.no_grad():
            self._needed(name, "weight").mul_(factor)

    def graph(self) -> snn.SnnGraph:
        """Return the float32 graph with the parameters as they are now."""
        changed: dict[str, snn.SnnNode] = {}
        with torch.no_grad():
            for node in self.source:
                if isinstance(node, snn.Weighted):
                    changed[node.name] = node.with_(weight=_numpy(self._real(node, "weight")))
                elif isinstance(node, snn.IntegrateFire | snn.Readout):
                    fields = {"bias": _numpy(self._real(node, "bias"))}
                    if (decay := self._decay(node)) is not None:
                        fields["decay"] = np.broadcast_to(_numpy(decay), (node.channels,)).copy()
                    changed[node.name] = node.with_(**fields)
        return self.source.replacing(changed)

    def quantise(self) -> None:
        """Let the compiler quantise the network that the parameters make, for the next batches."""
        given = self.graph()
        self.quantised = quantise_all(given)
        self._bounds = step_bounds(self.quantised, given.timesteps)
        for node in given:
            made = self.quantised[node.name]
            if isinstance(made, snn.Weighted) and isinstance(node, snn.Weighted):
                reader = self._sink(node.name)
                unit = self._unit(given[reader], fine=False)
                spread = unit.reshape(-1, *(1,) * (node.weight.ndim - 1))
                self._keep(node.name, "weight", made.weight, spread)
            elif isinstance(made, snn.IntegrateFire | snn.Readout):
                self._keep(node.name, "bias", made.bias, self._unit(given[node.name], fine=True))

    def _sink(self, name: str) -> str:
        """Return the population or read-out that a current reaches."""
        while not isinstance(self.source[name], snn.IntegrateFire | snn.Readout):
            name = self.source.consumers[name][0].name
        return name

    def _unit(self, node: snn.SnnNode, *, fine: bool) -> FloatArray:
        """Return the real value of one unit of a potential, or of a current, (channels,) or (1,)."""
        made = self.quantised[node.name]
        if isinstance(made, snn.IntegrateFire) and isinstance(node, snn.IntegrateFire):
            unit = (node.threshold / made.threshold).astype(np.float32)
        elif isinstance(made, snn.Readout):
            gain = np.ones(1, np.float32) if made.gain is None else made.gain
            unit = (gain * np.float32(made.scale)).astype(np.float32)
        else:
            raise InternalError(f"{node.name!r} has no potential")
        return unit if fine else (unit * np.float32(1 << made.fraction_bits)).astype(np.float32)

    def _keep(self, name: str, role: str, integers: NumberArray, unit: FloatArray) -> None:
        whole = torch.from_numpy(integers.astype(np.float64))
        self._integers[name, role] = whole, torch.from_numpy(np.array(unit))

    def _whole(self, node: snn.SnnNode, role: str) -> Tensor:
        """Return integers of a node, float64, with a gradient to the real parameters."""
        found: Tensor = Integers.apply(self._real(node, role).double(), *self._integers[node.name, role])
        return found

    def forward(self, frames: Tensor) -> Answers:
        """Run the network.

        Args:
            frames: (batch, T, *shape), as they are quantised.
        """
        trains: dict[str, Tensor] = {}
        means: dict[str, Tensor] = {}
        by_rates = self.method == "rate" and torch.is_grad_enabled()
        found = Answers(frames)
        for node in operations(self.source):
            read = [trains[name] for name in node.inputs]
            mean = [means[name] for name in node.inputs if name in means]
            match node:
                case snn.Encode():
                    trains[node.name] = frames.double().swapaxes(0, 1)
                    if by_rates:
                        means[node.name] = trains[node.name].mean(dim=0)
                case snn.IntegrateFire():
                    current = sum(read[1:], read[0])
                    made = self._made(node)
                    theta = torch.from_numpy(np.array(made.threshold)).double()
                    scaled = current.detach() * 2.0**made.fraction_bits
                    found.currents[node.name] = float((scaled / per_channel(theta, len(node.shape))).std())
                    if by_rates:
                        whole = sum(mean[1:], mean[0])
                        trains[node.name], means[node.name] = self._rates(node, current, whole)
                    else:
                        trains[node.name] = torch.stack([s for _, s, _ in self._steps(node, current)])
                    found.counts[node.name] = trains[node.name].sum(dim=0)
                case snn.Readout():
                    whole = sum(mean[1:], mean[0]) if mean else None
                    found.outputs = self._read(node, sum(read[1:], read[0]), whole)
                case _:
                    if by_rates:
                        means[node.name] = self._moved(node, mean[0])
                        with torch.no_grad():
                            trains[node.name] = self._each(node, read[0])
                    else:
                        trains[node.name] = self._each(node, read[0])
        return found

    def _made(self, node: Leaking) -> Leaking:
        made = self.quantised[node.name]
        if not isinstance(made, type(node)):
            raise InternalError(f"{node.name!r} has become another node")
        return made

    def _leak(self, v: Tensor, share: Tensor | None, whole: NumberArray | None) -> Tensor:
        """Return ``trunc(v d / 2^15)``, with the gradients of ``v d``."""
        if whole is None or share is None:
            return v
        rank = v.ndim - 1
        exact = per_channel(torch.from_numpy(np.array(whole)).double(), rank)
        kept = torch.trunc(v.detach() * exact / WHOLE)
        smooth = v * per_channel(share.double(), rank)
        return smooth + (kept - smooth).detach()

    def _steps(self, node: snn.IntegrateFire, current: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield of each step the potential before it, the spikes and their slope."""
        made = self._made(node)
        if not isinstance(made, snn.IntegrateFire):
            raise InternalError(f"{node.name!r} is no population")
        rank = len(node.shape)

        def vector(values: NumberArray) -> Tensor:
            return per_channel(torch.from_numpy(np.array(values)).double(), rank)

        theta, limit = vector(made.threshold), made.neuron.limit or 0
        taken = theta if made.reset_by is None else vector(made.reset_by)
        bias = per_channel(self._whole(node, "bias"), rank)
        decay, synapse = self._decay(node), node.synapse_decay
        share = None if synapse is None else torch.from_numpy(np.array(synapse))
        v = vector(made.v_init).expand_as(current[0])
        i = torch.zeros_like(current[0])
        resting = torch.zeros_like(current[0].detach())
        for arriving in current * 2.0**made.fraction_bits:
            i = arriving if synapse is None else self._leak(i, share, made.synapse_decay) + arriving
            m = self._leak(v, decay, made.decay) + i + bias
            z = m / theta
            awake = resting == 0
            with torch.no_grad():
                s = torch.floor(z).clamp(0, limit) * awake
                slope = 1 / (1 + (math.pi * (z - torch.round(z).clamp(1, limit))) ** 2) * awake
            sent = Spikes.apply(z, s, slope)
            after = m - sent * taken
            if made.reset_to is not None:
                after = m + sent * (vector(made.reset_to) - m)
            before = v
            v = torch.where(awake, after, v)
            resting = torch.where(s > 0, float(node.refractory), (resting - 1).clamp(min=0))
            yield before, sent, slope

    def _rates(self, node: snn.IntegrateFire, current: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Return the spikes, and their mean with the gradients of `rate`."""
        rank = len(node.shape)
        made = self._made(node)
        if not isinstance(made, snn.IntegrateFire):
            raise InternalError(f"{node.name!r} is no population")
        theta = per_channel(torch.from_numpy(np.array(made.threshold)).double(), rank)
        decay = self._decay(node)
        d = per_channel(theta.new_ones(1) if decay is None else decay.detach().double(), rank)
        filtering = 0.0 if node.synapse_decay is None else float(np.mean(node.synapse_decay))
        q = 1.0
        if made.reset_by is not None:
            q = float(np.mean(made.reset_by / made.threshold))
        with torch.no_grad():
            psi, kappa, delta, h = (torch.zeros_like(mean) for _ in range(4))
            e, e_d, sent = torch.zeros_like(mean), torch.zeros_like(mean), []
            for before, s, slope in self._steps(node, current):
                left = d * (1 - q * h)
                psi = 1 + filtering * psi
                kappa, delta = psi + left * kappa, before / theta + left * delta
                h = slope
                e, e_d = e + h * kappa, e_d + h * delta
                sent.append(s)
            train = torch.stack(sent)
            e, e_d = e / len(sent), e_d / len(sent)
        x = (mean * 2.0**made.fraction_bits + per_channel(self._whole(node, "bias"), rank)) / theta
        rate = train.mean(dim=0) + e * (x - x.detach())
        if decay is not None and decay.requires_grad:
            spread = per_channel(decay.double(), rank)
            rate = rate + e_d * (spread - spread.detach())
        return train, rate

    def _read(self, node: snn.Readout, current: Tensor, mean: Tensor | None) -> Tensor:
        """Return what a read-out holds after each step, in real units."""
        made = self._made(node)
        rank = len(node.shape)
        bias = per_channel(self._whole(node, "bias"), rank)
        share = None if node.decay is None else torch.from_numpy(np.array(node.decay))
        if node.synapse_decay is not None:
            raise UsageError(f"{node.name!r} filters its current, which is not trained yet")
        y, through = torch.zeros_like(current[0]), 0.0
        found = []
        unit = per_channel(self._integers[node.name, "bias"][1].double(), rank)
        kept = 1.0 if node.decay is None else float(np.mean(node.decay))
        for arriving in current.detach() if mean is not None else current:
            scaled = arriving * 2.0**made.fraction_bits
            y = self._leak(y, share, made.decay) + scaled + bias
            through = kept * through + 1
            answer = y
            if mean is not None:
                answer = y + through * (mean - mean.detach()) * 2.0**made.fraction_bits
            found.append(answer * unit)
        return torch.stack(found)

    def _each(self, node: snn.SnnNode, train: Tensor) -> Tensor:
        t, rows = train.shape[:2]
        found = self._moved(node, train.flatten(0, 1))
        return found.reshape(t, rows, *found.shape[1:])

    def _moved(self, node: snn.SnnNode, x: Tensor) -> Tensor:
        """Apply an operation without state."""
        # Sums of integers up to 2^24 are exact in float32, which takes half of the time.
        narrow = self._bounds.get(node.name, EXACT_FLOAT32) < EXACT_FLOAT32
        kind = torch.float32 if narrow else torch.float64
        match node:
            case snn.Convolution():
                weight = self._whole(node, "weight").to(kind)
                return convolved(x.to(kind), weight, None, node.window, node.groups).double()
            case snn.Linear():
                return functional.linear(x.to(kind), self._whole(node, "weight").to(kind)).double()
            case snn.ChannelWeight():
                return x * per_channel(self._whole(node, "weight"), len(node.shape))
            case snn.SumPool():
                return summed(x, node.window)
            case snn.Reshape():
                return x.reshape(len(x), *node.shape)
            case _:
                raise InternalError(f"{node.name!r} is not trained over time, which `untrainable` tells")


def _numpy(tensor: Tensor) -> FloatArray:
    return np.array(tensor.detach().cpu().contiguous().numpy(), np.float32)
