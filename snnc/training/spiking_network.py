"""A lowered network as a module of torch, in the integers that the compiler makes of it.

Where a network is proved to be one pass over spike counts (:mod:`snnc.simulation.single_pass`, and neurons
that may send all of their T M levels in one step: :mod:`snnc.analysis.certificate`), its counts after T steps
are

    N = clip(floor((v_init + T B + sum w N_in) / Theta), 0, T M)

with the integers of :func:`snnc.numerics.quantisation.quantise_all`. This module computes just that: before a
batch it lets the compiler quantise the float32 network that its parameters make, and runs the integers; the
gradients go to the parameters, past the rounding. So what is trained is what is deployed, to the bit.

A threshold is learned as a factor, and with it goes what a spike stands for, as in the compiler, which
corrects the weights that read a population whose threshold changed. Weights are held in units of their
output channel's size, biases in units of the threshold (:mod:`snnc.training.parameters`).
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from snnc.errors import InternalError, UnknownOperationError, UsageError
from snnc.ir import snn
from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.neuron import Schedule
from snnc.ir.operations import Firing, classified, firing, largest_count, operations, populations
from snnc.numerics.quantisation import quantise_all
from snnc.numerics.weight_grid import WEIGHT_BITS
from snnc.training.ann_network import factor
from snnc.training.operators import (
    Run,
    convolved,
    gathered,
    highest,
    padded_axes,
    per_channel,
    sliced,
    summed,
)
from snnc.training.parameters import Parameters, power_of_two, size_of_rows
from snnc.training.straight_through import Integers, Levels

LATEST = 0.999
"""Largest initial potential, in thresholds: at 1 a neuron would fire without input."""

ROLES = {"weight": "weights", "values": "biases", "bias": "biases", "threshold": "thresholds"}


def untrainable(graph: snn.SnnGraph) -> str | None:
    """Name a node of a network that has no gradients here; ``None`` if there is none."""
    if (what := graph.changing) is not None:
        return f"{what}, which cannot be trained yet"
    for node in graph:
        where = f"{node.origin or node.name!r} becomes {type(node).__name__} {node.name!r}"
        if isinstance(node, snn.CountFunction) and not isinstance(node, snn.CountMaxPool):
            return f"{where}, a function of spike counts, which cannot be trained yet"
        if isinstance(node, snn.IntegrateFire) and node.breakpoints is not None:
            return f"{where}, which follows a step function and cannot be trained yet"
    return None


def inexact(graph: snn.SnnGraph) -> str | None:
    """Say why the counts of a network are not those of one pass over it; ``None`` where they are."""
    for node, rule in populations(graph):
        match rule:
            case Firing.STEPS:
                continue
            case _ if graph.schedule is Schedule.LAYERWISE:
                continue
            case Firing.GRADED:
                continue
            case Firing.LIMITED if (node.neuron.limit or 0) >= node.neuron.capacity(graph.timesteps):
                continue
            case Firing.LEAKY:
                return f"{node.name!r} is leaky, so the order of its spikes matters"
            case Firing.LIMITED | Firing.HESITANT | Firing.PLAIN:
                return f"{node.name!r} sends fewer spikes a step than it has levels, so their order matters"
            case other:
                raise UnknownOperationError(f"{node.name!r} fires by a rule that is not trained yet: {other}")
    return None


@dataclass(frozen=True, slots=True, eq=False)
class _Rounded:
    """An array as integers, in floats, and the real value of one of them."""

    integers: Tensor
    unit: Tensor


class SpikingNetwork(Parameters):
    """A float32 graph of the spiking dialect as a module of torch.

    Attributes:
        one_pass: whether it is one pass over counts, which no order of spikes may change.
        bits: of the weights between populations.
    """

    one_pass: ClassVar[bool] = True

    def __init__(self, graph: snn.SnnGraph, bits: int = WEIGHT_BITS) -> None:
        """Make the module, and quantise the network once.

        Args:
            graph: the network, lowered and with its neurons, before `quantise-weights`.
            bits: of the weights between populations, as that pass takes them.

        Raises:
            UsageError: its counts depend on the order of spikes, or it is quantised already.
        """
        super().__init__()
        if (reason := untrainable(graph)) is not None:
            raise UsageError(f"{reason}: convert the network without tuning")
        reason = inexact(graph)
        if reason is not None and self.one_pass:
            raise UsageError(
                f"{reason}: tune with dual-threshold{{spikes-per-step=T}}, graded, or "
                "set-schedule{kind=layerwise}"
            )
        self.source = graph
        self.timesteps = graph.timesteps
        for number, node in enumerate(operations(graph)):
            match node:
                case snn.Convolution() | snn.Linear() | snn.ChannelWeight():
                    self._real(number, node, "weight", node.weight, size_of_rows(node.weight))
                case snn.ConstantCurrent():
                    self._real(number, node, "values", node.values, size_of_rows(node.values[None])[0])
                case snn.Readout():
                    self._real(number, node, "bias", node.bias, size_of_rows(node.bias[None])[0])
                case snn.IntegrateFire():
                    self._real(number, node, "bias", node.bias, power_of_two(node.threshold))
                    self._real(number, node, "threshold", np.zeros_like(node.threshold))
                    self._real(number, node, "start", np.zeros_like(node.threshold))
                case snn.Gather():
                    self._hold(number, node, "index", node.index.astype(np.int64))
                case _:
                    pass
        self.integers: dict[tuple[str, str], _Rounded] = {}
        self.bits = bits
        self.quantised = graph
        self.quantise()

    def _real(
        self, number: int, node: snn.SnnNode, field: str, value: NumberArray, unit: FloatArray | None = None
    ) -> None:
        """Make a parameter of an array that is not quantised yet."""
        if value.dtype.kind == "i":
            raise UsageError(f"{node.name!r} is quantised already: tune before `quantise-weights`")
        self._learn(number, node, field, value, ROLES.get(field, "starts"), unit)

    def graph(self) -> snn.SnnGraph:
        """Return the float32 graph with the parameters as they are now.

        Its spikes stand for what they did at first: the compiler corrects their readers, made for that.
        """
        changed: dict[str, snn.SnnNode] = {}
        with torch.no_grad():
            for node in self.source:
                fields = self._fields(node)
                different = {k: v for k, v in fields.items() if not np.array_equal(v, getattr(node, k))}
                if different:
                    changed[node.name] = node.with_(**different)
        return self.source.replacing(changed)

    def _fields(self, node: snn.SnnNode) -> dict[str, FloatArray]:
        match node:
            case snn.Weighted():
                return {"weight": _numpy(self.value(node, "weight"))}
            case snn.ConstantCurrent():
                return {"values": _numpy(self.value(node, "values"))}
            case snn.Readout():
                return {"bias": _numpy(self.value(node, "bias"))}
            case snn.IntegrateFire():
                threshold, start = self._neuron(node)
                return {
                    "bias": _numpy(self.value(node, "bias")),
                    "threshold": _numpy(threshold),
                    "v_init": _numpy(start),
                }
            case _:
                return {}

    def _neuron(self, node: snn.IntegrateFire) -> tuple[Tensor, Tensor]:
        """Return threshold and initial potential in real units, (channels,)."""
        change = factor(self.value(node, "threshold"))
        given = torch.from_numpy(np.array(node.threshold))
        threshold = given.to(change) * change
        share = torch.from_numpy(np.array(node.v_init / node.threshold)).to(change)
        more = (share + self.value(node, "start")).clamp(0, LATEST) - share
        first = torch.from_numpy(np.array(node.v_init)).to(change)
        return threshold, first * change + more * threshold

    def quantise(self) -> None:
        """Let the compiler quantise the network that the parameters make, for the next batches."""
        given = self.graph()
        self.quantised = quantise_all(given, self.bits)
        for node in given:
            made = self.quantised[node.name]
            match made:
                case snn.Weighted() | snn.ConstantCurrent():
                    field = "weight" if isinstance(made, snn.Weighted) else "values"
                    real, whole = (np.asarray(getattr(each, field)) for each in (node, made))
                    self._keep(node, field, whole, _unit(real, whole))
                case snn.IntegrateFire():
                    unit = (made.spike_scale / made.threshold).astype(np.float32)
                    for field in ("threshold", "bias", "v_init"):
                        self._keep(node, field, getattr(made, field), unit)
                case snn.Readout():
                    gain = np.ones(made.channels, np.float32) if made.gain is None else made.gain
                    self._keep(node, "bias", made.bias, (gain * np.float32(made.scale)).astype(np.float32))
                case _:
                    pass

    def _keep(self, node: snn.SnnNode, field: str, integers: NumberArray, unit: FloatArray) -> None:
        like = next(self.parameters())
        whole = torch.from_numpy(integers.astype(np.float32)).to(like.device)
        self.integers[node.name, field] = _Rounded(whole, torch.from_numpy(np.array(unit)).to(like.device))

    def _whole(self, node: snn.SnnNode, field: str, real: Tensor, exact: bool) -> Tensor:
        """Return integers of a node, with a gradient to the real parameters."""
        kept = self.integers[node.name, field]
        found: Tensor = Integers.apply(real, kept.integers, kept.unit)
        return found.double() if exact else found

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        keep: Sequence[str] = (),
        steps: int | None = None,
        *,
        exact: bool = False,
    ) -> Run:
        """Run the network.

        Args:
            inputs: the quantised inputs by name, (batch, *shape), in floats.
            keep: names of populations whose activations are wanted.
            steps: the answers after so many of the T steps; T by default.
            exact: compute in float64, where every integer is exact; in float32 sums beyond 2^24 are rounded.
        """
        T = self.source.timesteps
        t = T if steps is None else steps
        values: dict[str, Tensor] = {}
        counts: dict[str, Tensor] = {}
        kept: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}
        for node in operations(self.source):
            rank = len(node.shape)
            match node:
                case snn.Encode():
                    given = inputs[node.name]
                    values[node.name] = (given.double() if exact else given) * t
                case snn.ConstantCurrent():
                    rows = len(next(iter(inputs.values())))
                    whole = self._whole(node, "values", self.value(node, "values"), exact)
                    values[node.name] = whole.expand(rows, *node.shape) * t
                case snn.IntegrateFire():
                    current = sum((values[name] for name in node.inputs[1:]), values[node.inputs[0]])
                    counts[node.name], values[node.name] = self._fired(node, current, t, exact)
                    if node.name in keep:
                        made = self.quantised[node.name]
                        kept[node.name] = self._decoded(made, values[node.name], t)
                case snn.Readout():
                    current = sum((values[name] for name in node.inputs[1:]), values[node.inputs[0]])
                    bias = self._whole(node, "bias", self.value(node, "bias"), exact)
                    total = current + t * per_channel(bias, rank)
                    output = self.source.output_names[self.source.outputs.index(node.name)]
                    unit = self.integers[node.name, "bias"].unit
                    outputs[output] = total * per_channel(unit / t, rank)
                case _:
                    values[node.name] = self._moved(node, [values[name] for name in node.inputs], exact)
        return Run(outputs, kept, counts)

    def _fired(self, node: snn.IntegrateFire, current: Tensor, t: int, exact: bool) -> tuple[Tensor, Tensor]:
        """Return the counts of a population, and the same with the gradient of what they stand for."""
        real, start = self._neuron(node)
        threshold = self._whole(node, "threshold", real, exact)
        bias = self._whole(node, "bias", self.value(node, "bias"), exact)
        v_init = self._whole(node, "v_init", start, exact)
        firing(node)  # refuses what is not known
        most = torch.full_like(threshold, largest_count(node, self.source.timesteps))
        # A larger threshold lets each spike stand for more; in value this factor is 1.
        worth = 1 + (real - real.detach()) / real.detach()
        lowest = torch.zeros_like(worth)
        values, n = Levels.apply(current, t * bias + v_init, threshold, worth, lowest, most, 0.0, True)
        return n, values

    def _decoded(self, node: snn.SnnNode, n: Tensor, t: int) -> Tensor:
        """Return the activations that counts stand for."""
        if not isinstance(node, snn.IntegrateFire):
            raise InternalError(f"{node.name!r} is no population")
        rank = len(node.shape)
        unit, floor = (torch.from_numpy(np.array(each)).to(n) for each in (node.spike_scale, node.lowest))
        return n * per_channel(unit / t, rank) + per_channel(floor, rank)

    def _moved(self, node: snn.SnnNode, read: Sequence[Tensor], exact: bool) -> Tensor:
        """Apply an operation without state to counts or to summed currents."""
        x, node = read[0], classified(node)
        match node:
            case snn.Convolution():
                weight = self._whole(node, "weight", self.value(node, "weight"), exact)
                return convolved(x, weight, None, node.window, node.groups)
            case snn.Linear():
                weight = self._whole(node, "weight", self.value(node, "weight"), exact)
                return functional.linear(x, weight)
            case snn.ChannelWeight():
                weight = self._whole(node, "weight", self.value(node, "weight"), exact)
                return x * per_channel(weight, len(node.shape))
            case snn.SumPool():
                return summed(x, node.window)
            case snn.CurrentMaxPool() | snn.CountMaxPool():
                return highest(x, node.window)
            case snn.Concat():
                return torch.cat(list(read), dim=1)
            case snn.Reshape():
                return x.reshape(len(x), *node.shape)
            case snn.Pad():
                return padded_axes(x, node.before, node.after)
            case snn.Slice():
                return sliced(x, node)
            case snn.Gather():
                return gathered(x, self.value(node, "index"))
            case (
                snn.CountProduct()
                | snn.CountMatrixProduct()
                | snn.CountSoftmax()
                | snn.CountNormalisation()
                | snn.CountMaximum()
            ):
                raise UnknownOperationError(
                    f"{node.name!r} is a function of counts, which is not trained yet"
                )
            case snn.Encode() | snn.ConstantCurrent() | snn.IntegrateFire() | snn.Readout():
                raise InternalError(f"{node.name!r} moves nothing")
            case _:
                raise UnknownOperationError(
                    f"{node.name!r} is a {type(node).__name__}, which is not trained yet"
                )


def _unit(real: FloatArray, whole: NumberArray) -> FloatArray:
    """Return the real value of one integer of each output channel, as it broadcasts over the weights."""
    rows = len(real)
    largest = np.abs(real.reshape(rows, -1)).max(axis=1)
    most = np.abs(whole.astype(np.float32).reshape(rows, -1)).max(axis=1)
    unit = np.where((most > 0) & (largest > 0), largest / np.maximum(most, 1), 1)
    return unit.reshape(rows, *(1,) * (real.ndim - 1)).astype(np.float32)


def _numpy(tensor: Tensor) -> FloatArray:
    return np.array(tensor.detach().cpu().contiguous().numpy(), np.float32)
