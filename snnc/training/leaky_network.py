"""A network over time as a module of torch: leaky neurons on frames, in the integers that are written.

Forward it computes :func:`snnc.simulation.reference.leaky_steps`; :mod:`snnc.training.leaky_neurons` has the
ways back: through every step by a surrogate (``bptt``) or through the times of spikes (``tssl``), and once,
through rates (``rate``).

LIF has one decay that stays. DA-LIF learns two for each layer or channel, ``v = beta v + alpha I``, of which
``alpha`` is a factor of the weights and the bias in front.

Source: Zhang et al., "DA-LIF: Dual Adaptive Leaky Integrate-and-Fire Model for Deep Spiking Neural Networks",
ICASSP 2025.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

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
from snnc.ir.neuron import Schedule
from snnc.ir.operations import Firing, firing, operations
from snnc.numerics.quantisation import quantise_all
from snnc.numerics.real_units import along, sink_of
from snnc.training.leaky_neurons import METHODS, Cell, answers, rates, steps
from snnc.training.operators import convolved, per_channel, summed
from snnc.training.straight_through import Integers

Leaking = TypeVar("Leaking", bound=snn.IntegrateFire | snn.Readout)

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
        if method == "tssl":
            for population in graph.of_type(snn.IntegrateFire):
                self._heard(population)
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
        parameter = nn.Parameter(tensor, requires_grad=self._learns(node, role))
        self.register_parameter(f"n{number}_{role}", parameter)

    def _learns(self, node: snn.SnnNode, role: str) -> bool:
        """Whether it is the weight of a layer, or a bias that such a layer can hold in other software."""
        if role == "weight":
            return isinstance(node, snn.Convolution | snn.Linear)
        if role != "bias" or not isinstance(node, snn.IntegrateFire | snn.Readout):
            return True
        read = [self.source[name] for name in node.inputs]
        layers = any(isinstance(each, snn.Convolution | snn.Linear) for each in read)
        return layers and node.synapse_decay is None

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

    @property
    def learned(self) -> list[tuple[snn.SnnNode, nn.Parameter]]:
        """All that learns, and the node that it belongs to."""
        found = [
            (self.source[name], self._parameters[made]) for (name, _), made in self._parameters_of.items()
        ]
        return [(node, each) for node, each in found if each is not None and each.requires_grad]

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
                unit = self._unit(sink_of(given, node.name), fine=False)
                spread = along(unit, len(node.weight)).reshape(-1, *(1,) * (node.weight.ndim - 1))
                self._keep(node.name, "weight", made.weight, spread)
            elif isinstance(made, snn.IntegrateFire | snn.Readout):
                self._keep(node.name, "bias", made.bias, self._unit(given[node.name], fine=True))

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
                    cell, made = self._cell(node), self._made(node)
                    scaled = current.detach() * cell.unit / cell.spread(made.threshold)
                    found.currents[node.name] = float(scaled.std())
                    if by_rates:
                        together = sum(mean[1:], mean[0])
                        trains[node.name], means[node.name] = rates(cell, made, current, together)
                    else:
                        sent = steps(cell, made, current, self.method)
                        trains[node.name] = torch.stack([s for _, s, _ in sent])
                    found.counts[node.name] = trains[node.name].sum(dim=0)
                case snn.Readout():
                    whole = sum(mean[1:], mean[0]) if mean else None
                    held = answers(self._cell(node), sum(read[1:], read[0]), whole)
                    unit = self._integers[node.name, "bias"][1].double()
                    found.outputs = held * per_channel(unit, len(node.shape))
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

    def _cell(self, node: snn.IntegrateFire | snn.Readout) -> Cell:
        heard = self._heard(node) if self.method == "tssl" and isinstance(node, snn.IntegrateFire) else 0.0
        return Cell(node, self._made(node), self._whole(node, "bias"), self._decay(node), heard)

    def _heard(self, node: snn.IntegrateFire) -> float:
        """Return the decay of the filters through which a population's spikes are read, in the mean.

        Raises:
            UsageError: there is none, or it sends several spikes in a step: they have no times.
        """
        if node.neuron.limit != 1:
            raise UsageError(f"{node.name!r} may send several spikes in a step, and tssl moves single ones")
        found = []
        for each in self.source.consumers[node.name]:
            reader = sink_of(self.source, each.name)
            decay = reader.synapse_decay
            if decay is None and isinstance(reader, snn.Readout):
                decay = reader.decay
            if decay is None:
                raise UsageError(
                    f"{reader.name!r} reads {node.name!r} without a synaptic filter, which tssl needs: train "
                    "cuba-lif, or by bptt or rate"
                )
            found.append(float(np.mean(decay)))
        return float(np.mean(found))

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
