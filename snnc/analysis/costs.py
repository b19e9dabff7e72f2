"""Exact counts of operations: those that spikes cause, and those of the source network.

A spike causes as many operations as its fan-out, the number of synapses that it reaches, each of which adds a
weight to a potential. The fan-out of a neuron depends on its position, because a spike at the border of a map
reaches fewer windows. A population's synaptic operations are therefore ``sum over neurons of events x
fan-out``, with the fan-out traced back through all nodes that pool, join and move spikes: each summing
window that contains a spike passes it on once. Synapses of weight zero count, and the number without them,
as on hardware that skips zeros, is given as well (``effective``); padding, which no spike reaches, never
counts.

The kind of operation depends on the payload. A unit spike adds a weight: an accumulate (AC). A spike of
several levels multiplies it: a multiply-accumulate (MAC). An integer that is sent in one step as several unit
spikes counts as that many. The first layer multiplies the analogue input, once per image.

A function of counts sends spikes of its own, and is counted as evaluated as a whole in every step
(:func:`evaluation`). A product of two counts is a MAC, as is the multiplication of the requantiser behind it.
Table look-ups (of exponentials, and of step functions among their breakpoints) and divisions (square roots
included) are neither accumulates nor MACs, and have figures of their own. Comparisons count nothing.

Terms: "effective MACs and ACs" as in Yik et al., "The NeuroBench framework for benchmarking neuromorphic
computing algorithms and systems", Nature Communications 16 (2025), where only events in {-1, 0, 1} are ACs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InternalError
from snnc.ir import ann, snn
from snnc.ir.bounds import count_bounds
from snnc.ir.channels import per_channel
from snnc.ir.geometry import ABSENT, Window
from snnc.ir.graph import Shape
from snnc.ir.kinds import ValueKind, value_kinds
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.operations import Operation, check_known, operations, populations, unmatched
from snnc.ir.segments import split
from snnc.simulation.protocol import Activity

CountMap = NDArray[np.int64]


def fan_outs(graph: snn.SnnGraph, *, effective: bool = False) -> dict[str, CountMap]:
    """Return for each node that gives spikes how many synapses one event of each neuron reaches.

    Args:
        graph: the network.
        effective: leave out synapses whose weight is zero.

    Returns:
        One map per node, of the node's own shape. Only the sum of the encoder's map is meaningful: it is the
        number of multiplications of the analogue first layer. Where the input is pooled before it is
        multiplied, the multiplication is assigned to one pixel of the window.
    """
    kinds = value_kinds(graph)
    raw = _raw(graph)
    maps = {
        node.name: np.zeros(node.shape, np.int64) for node in graph if kinds[node.name] is ValueKind.SPIKES
    }
    for node in reversed(operations(graph)):
        reach = maps.get(node.name)
        if isinstance(node, snn.Concat):
            start = 0
            for name in node.inputs:
                stop = start + graph[name].channels
                maps[name] += reach[start:stop] if reach is not None else 0
                start = stop
        elif not isinstance(node, snn.Encode | snn.IntegrateFire | snn.ConstantCurrent | snn.Function):
            for name in node.inputs:
                if name not in maps:
                    continue
                if (
                    reach is not None
                    and node.name in raw
                    and isinstance(node, snn.SumPool | snn.CountMaxPool)
                ):
                    maps[name][:, 0, 0] += reach.sum(axis=(1, 2))
                else:
                    maps[name] += _pulled_back(node, reach, graph[name].shape, effective=effective)
    return maps


def _raw(graph: snn.SnnGraph) -> frozenset[str]:
    """Return the names of the nodes that hold the quantised input alone, pooled or moved."""
    found: set[str] = set()
    for node in graph:
        weightless = not isinstance(
            node, snn.Weighted | snn.IntegrateFire | snn.ConstantCurrent | snn.Readout | snn.Function
        )
        if weightless and found.issuperset(node.inputs):
            found.add(node.name)
    return frozenset(found)


def _pulled_back(node: Operation, reach: CountMap | None, shape: Shape, *, effective: bool) -> CountMap:
    """Return how many synapses an event at each position of a node's input reaches through this node.

    Args:
        node: the reader.
        reach: fan-out of the node's own events; ``None`` where it gives a current.
        shape: of the input.
        effective: leave out synapses whose weight is zero.
    """
    if effective and isinstance(node, snn.Weighted):
        return _effective(node, shape)
    none = np.zeros(shape, np.int64)
    match node:
        case snn.Convolution():
            per_group = np.full((1, *node.shape[1:]), node.channels // node.groups, np.int64)
            return np.broadcast_to(_readers(per_group, node.window, (1, *shape[1:])), shape)
        case snn.Linear():
            return np.full(shape, node.channels, np.int64)
        case snn.ChannelWeight():
            return np.ones(shape, np.int64)
        case snn.CurrentMaxPool() | snn.Readout():
            return none
        case _ if reach is None:
            return none
        case snn.SumPool() | snn.CountMaxPool():
            return _readers(reach, node.window, shape)
        case snn.Reshape():
            return reach.reshape(shape)
        case snn.Pad():
            return reach[tuple(slice(b, b + n) for b, n in zip(node.before, shape, strict=True))]
        case snn.Slice():
            none[tuple(map(slice, node.start, node.stop, node.step))] = reach
            return none
        case snn.Gather():
            present = node.index != ABSENT
            np.add.at(none.reshape(-1), node.index[present], reach[present])
            return none
        case (
            snn.CountProduct()
            | snn.CountMatrixProduct()
            | snn.CountSoftmax()
            | snn.CountNormalisation()
            | snn.CountMaximum()
        ):
            raise InternalError(f"events do not pass through {node.name!r}, which sends its own")
        case snn.Encode() | snn.IntegrateFire() | snn.ConstantCurrent() | snn.Concat():
            raise InternalError(f"events do not pass through {node.name!r}")
        case _:
            raise unmatched(node)


def _effective(node: snn.Weighted, shape: Shape) -> CountMap:
    """Return how many synapses of a weight other than zero an event at each position of the input reaches."""
    alive = node.weight != 0
    if isinstance(node, snn.Convolution):
        by_group = alive.reshape(node.groups, -1, *alive.shape[1:]).sum(axis=1, dtype=np.int64)
        taps = by_group.reshape(shape[0], *node.window.kernel)
        return _readers(np.ones((1, *node.shape[1:]), np.int64), node.window, shape, taps)
    reached = alive.sum(axis=0, dtype=np.int64) if isinstance(node, snn.Linear) else alive.astype(np.int64)
    return np.broadcast_to(per_channel(reached, len(shape)), shape)


def _readers(values: CountMap, window: Window, shape: Shape, taps: CountMap | None = None) -> CountMap:
    """Return for each input position the sum of ``values`` over the windows that hold it.

    Args:
        values: (channels, output height, output width), of each window.
        window: geometry.
        shape: of the input.
        taps: (channels, *kernel), how often each place of a window counts; once by default.
    """
    top, left, bottom, right = window.pads
    channels, height, width = shape
    found = np.zeros((channels, height + top + bottom, width + left + right), np.int64)
    rows, columns = values.shape[1:]
    down, across = window.strides
    for i in range(window.kernel[0]):
        for j in range(window.kernel[1]):
            y, x = i * window.dilations[0], j * window.dilations[1]
            counted = values if taps is None else values * taps[:, i, j, None, None]
            found[:, y : y + down * rows : down, x : x + across * columns : across] += counted
    return found[:, top : top + height, left : left + width]


def unary(neuron: Neuron) -> bool:
    """Whether a population sends unit spikes, so that each is an accumulate."""
    return neuron.levels == 1 and neuron.spikes_per_step is not None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation of a node takes beside the synapses that its events reach.

    Attributes:
        products: multiplications by a count, MACs.
        lookups: table look-ups.
        divisions: divisions and square roots.
    """

    products: int = 0
    lookups: int = 0
    divisions: int = 0


def evaluation(graph: snn.SnnGraph, node: Operation) -> Evaluation:
    """Return what a node computes in one step for one image, beside its synapses."""
    size = prod(node.shape)
    match node:
        case snn.IntegrateFire():
            return Evaluation(lookups=0 if node.breakpoints is None else size)
        case snn.CountProduct():
            return Evaluation(products=2 * size)
        case snn.CountMatrixProduct():
            return Evaluation(products=size * (graph[node.inputs[0]].shape[-1] + 1))
        case snn.CountSoftmax():
            return Evaluation(products=size, lookups=size, divisions=size)
        case snn.CountNormalisation():
            # A square and a scaling for each element; a division for each, and a root for each group.
            return Evaluation(products=2 * size, divisions=size + size // node.elements(node.shape))
        case (
            snn.Encode()
            | snn.Convolution()
            | snn.Linear()
            | snn.ChannelWeight()
            | snn.ConstantCurrent()
            | snn.SumPool()
            | snn.CountMaxPool()
            | snn.CountMaximum()
            | snn.CurrentMaxPool()
            | snn.Concat()
            | snn.Reshape()
            | snn.Pad()
            | snn.Slice()
            | snn.Gather()
            | snn.Readout()
        ):
            return Evaluation()
        case _:
            raise unmatched(node)


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
    own: Evaluation = Evaluation()


@dataclass(frozen=True, slots=True)
class Costs:
    """Operations of a spiking network.

    Attributes:
        layers: of each population, summed over ``images``.
        functions: of each function of counts that sends events of its own, likewise.
        first_layer_macs: multiplications by the analogue input, per image.
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
        """Products of counts, MACs, per image over all steps."""
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
    steps = timesteps + graph.settle_steps

    def layer(node: snn.IntegrateFire | snn.Function) -> Layer:
        own = evaluation(graph, node)
        times = images * steps
        all_own = Evaluation(own.products * times, own.lookups * times, own.divisions * times)
        return _layer(node, activity[node.name], reach[node.name], effective[node.name], all_own)

    return Costs(
        layers=tuple(map(layer, graph.of_type(snn.IntegrateFire))),
        functions=tuple(layer(node) for node in graph if isinstance(node, snn.Function)),
        first_layer_macs=sum(int(reach[node.name].sum()) for node in encoders),
        first_layer_effective=sum(int(effective[node.name].sum()) for node in encoders),
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
    found = dict.fromkeys(_payload(node.neuron, timesteps) for node, _ in populations(graph))
    counts = count_bounds(graph, timesteps)
    found |= dict.fromkeys(f"levels:{counts[node.name]}" for node in graph if isinstance(node, snn.Function))
    return "+".join(found) or "none"


def _payload(neuron: Neuron, timesteps: int) -> str:
    return neuron.payload if neuron.limit is not None else f"levels:{neuron.capacity(timesteps)}"


def depth(graph: snn.SnnGraph) -> int:
    """Return the number of populations on the longest path from an input to a read-out."""
    depths: dict[str, int] = {}
    for node in operations(graph):
        before = max((depths[name] for name in node.inputs), default=0)
        depths[node.name] = before + isinstance(node, snn.IntegrateFire)
    return max(depths[name] for name in graph.outputs)


def latency_steps(graph: snn.SnnGraph, timesteps: int, segments: Mapping[str, int] | None = None) -> int:
    """Return the steps from input to answer: T + K, or depth x T where every layer waits for the last.

    Args:
        graph: the network.
        timesteps: T.
        segments: number of the segment of each input, by its name, where segments wait for one another: their
            steps add up.
    """
    return sum(latencies(graph, timesteps, segments))


def latencies(
    graph: snn.SnnGraph, timesteps: int, segments: Mapping[str, int] | None = None
) -> tuple[int, ...]:
    """Return the steps of each segment, in order; see :func:`latency_steps`."""
    parts = split(graph, segments) if segments else (graph,)
    if graph.schedule is Schedule.LAYERWISE:
        return tuple(max(depth(part), 1) * timesteps for part in parts)
    return (timesteps + graph.settle_steps,) * len(parts)


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
