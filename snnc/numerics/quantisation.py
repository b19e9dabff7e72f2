"""From float32 to integers, one group of populations at a time.

For output channel ``o``: ``w = rint(W / s_o)`` in [-127, 127], ``B = rint(b / s_o)``,
``Theta = max(1, rint(u / s_o))``, half to even; the weight of an identity branch is int16. All
synapses into a channel share its scale ``s_o``, and the scale is chosen so that the identity branch, or
else the threshold, is exact. What a spike stands for after rounding is ``u' = Theta s_o``; the float32
weights that read it are corrected by ``u' / u``, so a rounded threshold costs no accuracy downstream.
The scales are found in :mod:`snnc.numerics.scales`, those of weights of fewer bits in
:mod:`snnc.numerics.weight_grid`. Leaky nodes are quantised by :mod:`snnc.numerics.leaky`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from snnc.errors import InternalError
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.operations import classified, operations
from snnc.ir.snn import (
    ChannelWeight,
    ConstantCurrent,
    Convolution,
    Delay,
    Function,
    IntegrateFire,
    Linear,
    Readout,
    SnnGraph,
    SnnNode,
    Weighted,
)
from snnc.numerics.largest_weights import IDENTITY_LIMIT, MOVERS
from snnc.numerics.leaky import rounded_leaky
from snnc.numerics.scales import population_scales, readout_scales
from snnc.numerics.weight_grid import WEIGHT_BITS, WeightGrid, bits_of

FARTHEST = 2**31 - 1
"""A breakpoint there is never reached: potentials are proved to stay within 32 bits."""


@dataclass(frozen=True, slots=True)
class Group:
    """Populations that share currents, and therefore scales; or the read-out.

    Attributes:
        synapses: names of the weighted nodes and constant currents.
        sinks: names of the populations, or of the read-out.
    """

    synapses: tuple[str, ...]
    sinks: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """Weights that were rounded with regard to the spikes that they weigh.

    Attributes:
        weight: int8, of the shape of the weights, in steps of their grid.
        bias: (channels,), what takes back the mean that their errors leave in a step, in real units.
    """

    weight: IntArray
    bias: NumberArray


Rounding = Callable[[SnnGraph, Weighted, FloatArray, int], Rounded | None]
"""Rounds the float32 weights of a synapse of a network to integers of a scale, (channels,) or (1,), up to a
limit."""


def groups(graph: SnnGraph) -> tuple[Group, ...]:
    """Return the groups of a network in topological order of their last population."""
    found: list[tuple[set[str], list[str]]] = []
    for node in operations(graph):
        if not isinstance(node, IntegrateFire | Readout):
            continue
        synapses = set(_synapses(graph, node))
        sinks = [node.name]
        for other in [g for g in found if g[0] & synapses]:
            synapses |= other[0]
            sinks = other[1] + sinks
            found.remove(other)
        found.append((synapses, sinks))
    order = {node.name: index for index, node in enumerate(graph)}
    return tuple(Group(tuple(sorted(s, key=order.__getitem__)), tuple(p)) for s, p in found)


def _synapses(graph: SnnGraph, sink: SnnNode) -> Iterable[str]:
    """Yield the names of the weighted nodes and constant currents whose currents reach ``sink``."""
    for name in sink.inputs:
        node = graph[name]
        while isinstance(node, MOVERS):
            node = graph[node.inputs[0]]
        if not isinstance(node, Weighted | ConstantCurrent):
            raise InternalError(f"{sink.name!r} reads {node.name!r}, which has no weight")
        yield node.name


def few_bit_layers(graph: SnnGraph) -> frozenset[str]:
    """Return the names of the layers whose weights may have fewer than 8 bits.

    These are convolutions and dense layers, depthwise ones included, between populations. The first layer,
    which reads inputs alone, and what drives the read-out keep 8 bits, as is usual: they are small, and their
    errors cost most. Identity branches keep their 16 bits, because they repeat their rounding in every block.
    """
    sending = frozenset(node.name for node in graph if isinstance(node, IntegrateFire | Function))
    return frozenset(
        name
        for group in groups(graph)
        if isinstance(graph[group.sinks[0]], IntegrateFire)
        for name in group.synapses
        if isinstance(graph[name], Convolution | Linear)
        and not sending.isdisjoint(graph.ancestors(graph[name].inputs, sending))
    )


def widest_layer(graph: SnnGraph) -> tuple[Weighted, int] | None:
    """Return the layer of most bits among :func:`few_bit_layers`, and its bits; ``None`` if there is none."""
    few = few_bit_layers(graph)
    found = ((node, bits_of(node.weight)) for node in graph.of_type(Weighted) if node.name in few)
    return max(found, key=lambda item: item[1], default=None)


def quantise_group(
    graph: SnnGraph, group: Group, rounding: Rounding | None = None, bits: int = WEIGHT_BITS
) -> SnnGraph:
    """Quantise one group whose inputs are already quantised; the rest of the graph stays as it is.

    Args:
        graph: the network.
        group: what to quantise.
        rounding: of its weights; to the nearest integers by default, and where it gives none.
        bits: of the weights of :func:`few_bit_layers`.

    Returns:
        The graph with integer nodes for the group, and with the float32 weights that read its
        populations corrected for the rounding of their thresholds.
    """
    members = [graph[name] for name in group.synapses]
    synapses = [node for node in members if isinstance(node, Weighted)]
    sinks = [graph[name] for name in group.sinks]
    if all(getattr(node, "integer", True) for node in (*members, *sinks)):
        return graph
    few = few_bit_layers(graph) if bits < WEIGHT_BITS else frozenset[str]()
    grids = {node.name: WeightGrid(bits if node.name in few else WEIGHT_BITS) for node in synapses}
    changed: dict[str, SnnNode] = {}
    scales: dict[str, FloatArray]
    if isinstance(sinks[0], Readout):
        scales = readout_scales(graph, members, synapses, sinks)
    else:
        populations = [node for node in sinks if isinstance(node, IntegrateFire)]
        scales = population_scales(graph, members, synapses, populations, grids)
    shifts: dict[str, NumberArray] = {}
    for synapse in synapses:
        grid = grids[synapse.name]
        scale = scales[synapse.name] * grid.step
        found = None
        if rounding is not None and not synapse.integer:
            found = rounding(graph, synapse, scale, grid.limit)
        if found is not None:
            shifts[synapse.name] = found.bias
        weight = _rounded_weight(synapse, scale, grid) if found is None else found.weight
        changed[synapse.name] = synapse.with_(weight=weight * weight.dtype.type(grid.step))
    for node in members:
        if isinstance(node, ConstantCurrent):
            spread = per_channel(scales[node.name], node.values.ndim)
            changed[node.name] = node.with_(values=_rint(node.values / spread))
    corrections: list[tuple[str, FloatArray]] = []
    for given in sinks:
        scale, sink = scales[given.name], _shifted(given, shifts)
        if isinstance(sink, IntegrateFire | Readout) and sink.leaky:
            changed[sink.name] = rounded_leaky(graph.replacing(changed), sink, scale)
        elif isinstance(sink, Readout):
            changed[sink.name] = _rounded_readout(sink, scale)
        elif isinstance(sink, IntegrateFire):
            rounded = _rounded_population(sink, scale)
            changed[sink.name] = rounded
            corrections.append((sink.name, (rounded.spike_scale / sink.spike_scale).astype(np.float32)))
    graph = graph.replacing(changed)
    for name, ratio in corrections:
        graph = correct_readers(graph, name, ratio)
    return graph


def _shifted(sink: SnnNode, shifts: Mapping[str, NumberArray]) -> SnnNode:
    """Return a sink whose bias takes back what the synapses that it reads leave on average."""
    if not isinstance(sink, IntegrateFire | Readout):
        return sink
    found = [shifts[name] for name in sink.inputs if name in shifts and len(shifts[name]) == sink.channels]
    return sink.with_(bias=(sink.bias + np.sum(found, axis=0)).astype(np.float32)) if found else sink


def quantise_all(graph: SnnGraph, bits: int = WEIGHT_BITS) -> SnnGraph:
    """Quantise every group, first to last, with weights of so many bits."""
    for group in groups(graph):
        graph = quantise_group(graph, group, bits=bits)
    return graph


def _rounded_weight(synapse: Weighted, scale: FloatArray, grid: WeightGrid) -> IntArray:
    """Return the nearest integers, in steps of their grid, of which one stands for ``scale``."""
    spread = per_channel(scale, synapse.weight.ndim)
    if isinstance(synapse, ChannelWeight):
        return np.clip(np.rint(synapse.weight / spread), -IDENTITY_LIMIT, IDENTITY_LIMIT).astype(np.int16)
    return np.clip(np.rint(synapse.weight / spread), -grid.limit, grid.limit).astype(np.int8)


def _rounded_population(node: IntegrateFire, scale: FloatArray) -> IntegrateFire:
    if node.breakpoints is not None:
        return _rounded_steps(node, node.breakpoints, scale)
    threshold = np.maximum(1, _rint(node.threshold / scale)).astype(np.int32)
    # The start is a share of the threshold: half of an odd threshold rounds down.
    share = node.v_init.astype(np.float64) / node.threshold.astype(np.float64)
    negative = node.negative_threshold
    return replace(
        node,
        threshold=threshold,
        bias=_rint(node.bias / scale),
        v_init=np.floor(share * threshold).astype(np.int32),
        spike_scale=(threshold * scale).astype(np.float32),
        negative_threshold=None if negative is None else _rint(negative / scale),
    )


def _rounded_steps(node: IntegrateFire, breakpoints: NumberArray, scale: FloatArray) -> IntegrateFire:
    """Return a step function in integers: each breakpoint is the least integer that reaches the real one.

    So the count is that of the real value that the integer potential stands for, and the unit stays as it is.
    """
    real = breakpoints.astype(np.float64) / scale[:, None].astype(np.float64)
    points = np.clip(np.ceil(real), -FARTHEST, FARTHEST).astype(np.int32)
    unit = node.potential_unit
    return replace(
        node,
        threshold=np.ones(node.channels, np.int32),
        bias=_rint(node.bias / scale),
        v_init=_rint(node.v_init / scale),
        breakpoints=points[:1] if (points == points[:1]).all() else points,
        potential_unit=None if unit is None else (unit * scale).astype(np.float32),
    )


def _rounded_readout(node: Readout, scale: FloatArray) -> Readout:
    """Return a read-out in integers; where channels have scales of their own, its unit is the finest."""
    unit = float(scale.min())
    gain = node.gain
    if gain is not None:
        gain = (gain * (scale / unit)).astype(np.float32)
    return node.with_(bias=_rint(node.bias / scale), scale=node.scale * unit, gain=gain)


def _rint(values: NumberArray) -> IntArray:
    return np.rint(values).astype(np.int32)


def correct_readers(graph: SnnGraph, name: str, ratio: FloatArray) -> SnnGraph:
    """Multiply by ``ratio``, (channels,), what every float32 weight makes of one population's spikes."""
    if (ratio == 1).all():  # as of all that functions of counts read
        return graph
    # Weights of a circle that are integers already stay as they are: the threshold was rounded by little.
    ratios = {name: ratio} | {each.name: ratio for each in graph.of_type(Delay) if each.source == name}
    changed: dict[str, SnnNode] = {}
    for each in graph:
        if ratios.keys().isdisjoint(each.inputs) or isinstance(each, IntegrateFire | Readout):
            continue
        node = classified(each)
        read = [ratios.get(source) for source in node.inputs]
        if isinstance(node, Weighted):
            if not node.integer and read[0] is not None:
                changed[node.name] = node.with_(weight=_reweighted(node, read[0]))
            continue
        shapes = [graph[source].shape for source in node.inputs]
        ones = [np.ones(shape[0], np.float32) for shape in shapes]
        values = [one if ratio is None else ratio for one, ratio in zip(ones, read, strict=True)]
        ratios[node.name] = node.carried(values, shapes)
    return graph.replacing(changed)


def _reweighted(node: Weighted, ratio: FloatArray) -> FloatArray:
    weight = node.weight
    if isinstance(node, ChannelWeight):
        return (weight * ratio).astype(np.float32)
    if weight.ndim == 2:
        return (weight * ratio[None, :]).astype(np.float32)
    groups_ = len(ratio) // weight.shape[1]
    spread = np.repeat(ratio.reshape(groups_, -1), len(weight) // groups_, axis=0)
    return (weight * spread[:, :, None, None]).astype(np.float32)
