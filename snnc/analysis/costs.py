"""Exact counts of operations: those that spikes cause, and those of the source network.

A spike causes as many operations as its fan-out, the number of synapses that it reaches, each of which adds a
weight to a potential (:mod:`snnc.analysis.node_costs`). A population's synaptic operations are therefore
``sum over neurons of events x fan-out``. Synapses of weight zero count, and the number without them, as on
hardware that skips zeros, is given as well (``effective``); padding, which no spike reaches, never counts.

The kind of operation depends on the payload. A unit spike adds a weight: an accumulate (AC). A spike of
several levels multiplies it: a multiply-accumulate (MAC). An integer that is sent in one step as several unit
spikes counts as that many. The first layer multiplies the analogue input, once per image; of frames it
multiplies each, whatever is zero in them. A neuron that leaks multiplies its potential by its decay in each
step, and one with a synaptic filter its current.

A function of counts sends spikes of its own, and is counted as evaluated as a whole in every step
(:func:`snnc.analysis.node_costs.evaluation`). A product of two counts is a MAC, as is the multiplication of
the requantiser behind it. Table look-ups (of exponentials, and of step functions among their breakpoints) and
divisions (square roots included) are neither accumulates nor MACs, and have figures of their own. Comparisons
count nothing.

Terms: "effective MACs and ACs" as in Yik et al., "The NeuroBench framework for benchmarking neuromorphic
computing algorithms and systems", Nature Communications 16 (2025), where only events in {-1, 0, 1} are ACs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from snnc.analysis.node_costs import NOTHING, CountMap, Evaluation, evaluation, fan_outs
from snnc.ir import ann, snn
from snnc.ir.bounds import count_bounds
from snnc.ir.neuron import Neuron
from snnc.ir.operations import check_known, largest_spike, operations, populations
from snnc.simulation.protocol import Activity


def unary(neuron: Neuron) -> bool:
    """Whether a population sends unit spikes, so that each is an accumulate."""
    return neuron.levels == 1 and neuron.spikes_per_step is not None


@dataclass(frozen=True, slots=True)
class Layer:
    """What one population or function of counts sent and computed, summed over images and steps.

    Attributes:
        name: of the node.
        neurons: how many it has; those of a function are its values.
        events: (neuron, step) pairs in which anything was sent.
        units: ``sum |s|``.
        acs: accumulates that its spikes caused.
        macs: multiply-accumulates that its spikes caused.
        unit_synops: synaptic operations if every level were sent as a unit spike.
        bit_synops: synaptic operations if every spike were sent as the bits of its magnitude.
        effective: of ``acs`` and ``macs`` together, those by a weight other than zero.
        own: what its evaluations took.
    """

    name: str
    neurons: int
    events: int
    units: int
    acs: int
    macs: int
    unit_synops: int
    bit_synops: int
    effective: int
    own: Evaluation = NOTHING


@dataclass(frozen=True, slots=True)
class Costs:
    """Operations of a spiking network.

    Attributes:
        layers: of each population, summed over ``images``.
        functions: of each function of counts that sends events of its own, likewise.
        first_layer_macs: multiplications by the analogue input, per image: once, or in each of T frames.
        first_layer_effective: of these, the ones by a weight other than zero.
        zero_weights: share of the weights that are zero.
        images: how many were run.
        steps: T + K, the steps that each was run for.
    """

    layers: tuple[Layer, ...]
    first_layer_macs: int
    first_layer_effective: int
    zero_weights: float
    images: int
    steps: int
    functions: tuple[Layer, ...] = ()

    @property
    def senders(self) -> tuple[Layer, ...]:
        """All that sends events: populations, then functions."""
        return self.layers + self.functions

    @property
    def neurons(self) -> int:
        """Number of spiking neurons, the values of functions of counts included."""
        return sum(layer.neurons for layer in self.senders)

    @property
    def acs(self) -> float:
        """Accumulates per image, over all steps."""
        return sum(layer.acs for layer in self.senders) / self.images

    @property
    def macs(self) -> float:
        """Multiply-accumulates per image over all steps: the first layer's, and all that ``synops`` has."""
        return self.first_layer_macs + self.products + sum(layer.macs for layer in self.senders) / self.images

    @property
    def synops(self) -> float:
        """Operations that spikes cause, per image over all steps: ACs and MACs, products of counts too."""
        return self.products + sum(layer.acs + layer.macs for layer in self.senders) / self.images

    @property
    def effective_synops(self) -> float:
        """The same without synapses of weight zero, per image over all steps."""
        return self.products + sum(layer.effective for layer in self.senders) / self.images

    @property
    def products(self) -> float:
        """Products with counts and decays, MACs, per image over all steps."""
        return sum(layer.own.products for layer in self.senders) / self.images

    @property
    def lookups(self) -> float:
        """Table look-ups per image over all steps."""
        return sum(layer.own.lookups for layer in self.senders) / self.images

    @property
    def divisions(self) -> float:
        """Divisions and square roots per image over all steps."""
        return sum(layer.own.divisions for layer in self.senders) / self.images

    @property
    def spikes_per_neuron_per_step(self) -> float:
        """Mean ``|s|`` of a neuron in a step."""
        return self._mean(sum(layer.units for layer in self.senders))

    @property
    def events_per_neuron_per_step(self) -> float:
        """Share of neurons that send anything in a step: the density."""
        return self._mean(sum(layer.events for layer in self.senders))

    def _mean(self, total: int) -> float:
        places = self.neurons * self.steps * self.images
        return total / places if places else 0.0

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form, per image over all steps."""
        return {
            "synops": self.synops,
            "effective_synops": self.effective_synops,
            "acs": self.acs,
            "macs": self.macs,
            "first_layer_macs": self.first_layer_macs,
            "first_layer_effective_macs": self.first_layer_effective,
            "weight_sparsity": self.zero_weights,
            "count_products": self.products,
            "table_lookups": self.lookups,
            "divisions": self.divisions,
            "unit_synops": self.products + sum(layer.unit_synops for layer in self.senders) / self.images,
            "bit_synops": self.products + sum(layer.bit_synops for layer in self.senders) / self.images,
            "neurons": self.neurons,
            "spikes_per_neuron_per_step": self.spikes_per_neuron_per_step,
            "events_per_neuron_per_step": self.events_per_neuron_per_step,
            "layers": [
                {
                    "name": layer.name,
                    "neurons": layer.neurons,
                    "spikes_per_neuron_per_step": layer.units / (layer.neurons * self.steps * self.images),
                    "events_per_neuron_per_step": layer.events / (layer.neurons * self.steps * self.images),
                    "synops": (layer.acs + layer.macs + layer.own.products) / self.images,
                    "count_products": layer.own.products / self.images,
                    "table_lookups": layer.own.lookups / self.images,
                    "divisions": layer.own.divisions / self.images,
                }
                for layer in self.senders
            ],
        }


def count(graph: snn.SnnGraph, activity: Mapping[str, Activity], images: int, timesteps: int) -> Costs:
    """Count the operations behind a recorded activity.

    Args:
        graph: the network.
        activity: of every population and function of counts, summed over all images and steps.
        images: how many were run.
        timesteps: T of the run.
    """
    reach, effective = fan_outs(graph), fan_outs(graph, effective=True)
    encoders = graph.of_type(snn.Encode)
    seen = {node.name: timesteps if node.varies else 1 for node in encoders}
    steps = timesteps + graph.settle_steps

    def layer(node: snn.IntegrateFire | snn.Function) -> Layer:
        own = evaluation(graph, node)
        times = images * steps
        all_own = Evaluation(own.products * times, own.lookups * times, own.divisions * times)
        return _layer(node, activity[node.name], reach[node.name], effective[node.name], all_own)

    return Costs(
        layers=tuple(map(layer, graph.of_type(snn.IntegrateFire))),
        functions=tuple(layer(node) for node in graph if isinstance(node, snn.Function)),
        first_layer_macs=sum(int(reach[node.name].sum()) * seen[node.name] for node in encoders),
        first_layer_effective=sum(int(effective[node.name].sum()) * seen[node.name] for node in encoders),
        zero_weights=weight_sparsity(graph),
        images=images,
        steps=steps,
    )


def weight_sparsity(graph: snn.SnnGraph) -> float:
    """Return the share of a network's weights that are zero, of all synapses as they are stored."""
    weights = [node.weight for node in operations(graph) if isinstance(node, snn.Weighted)]
    size = sum(weight.size for weight in weights)
    return 1 - sum(int(np.count_nonzero(weight)) for weight in weights) / size if size else 0.0


def _layer(
    node: snn.IntegrateFire | snn.Function,
    activity: Activity,
    reach: CountMap,
    effective: CountMap,
    own: Evaluation,
) -> Layer:
    events, units, bits = (
        int((np.asarray(counted, np.int64) * reach).sum())
        for counted in (activity.events, activity.units, activity.bits)
    )
    accumulates = isinstance(node, snn.IntegrateFire) and unary(node.neuron)
    return Layer(
        name=node.name,
        neurons=prod(node.shape),
        events=int(activity.events.sum()),
        units=int(activity.units.sum()),
        acs=units if accumulates else 0,
        macs=0 if accumulates else events,
        unit_synops=units,
        bit_synops=bits,
        effective=int((np.asarray(activity.units if accumulates else activity.events) * effective).sum()),
        own=own,
    )


def payload(graph: snn.SnnGraph, timesteps: int) -> str:
    """Return what one event carries: ``binary``, ``signed`` or ``levels:M``; several joined by ``+``.

    A graded neuron may carry all that it can ever send in one event, so its levels grow with T. An event of a
    function of counts carries a change of its count, up to the largest of them.
    """
    found = dict.fromkeys(_payload(graph, node, timesteps) for node, _ in populations(graph))
    counts = count_bounds(graph, timesteps)
    found |= dict.fromkeys(f"levels:{counts[node.name]}" for node in graph if isinstance(node, snn.Function))
    return "+".join(found) or "none"


def _payload(graph: snn.SnnGraph, node: snn.IntegrateFire, timesteps: int) -> str:
    if node.neuron.limit is not None:
        return node.neuron.payload
    return f"levels:{largest_spike(node, timesteps, graph.settle_steps)}"


def macs_of_ann(graph: ann.AnnGraph) -> dict[str, int]:
    """Return the multiply-accumulates of each weighted layer and matrix product of the source, per image.

    Counted as is the custom: every output times the size of its kernel, padding included; products element by
    element count nothing.
    """
    check_known(graph)
    found = {}
    for node in graph:
        if isinstance(node, ann.Convolution | ann.Linear):
            found[node.name] = int(node.weight.size) * prod(node.shape[1:])
        elif isinstance(node, ann.MatrixProduct):
            found[node.name] = prod(node.shape) * graph[node.inputs[0]].shape[-1]
    return found
