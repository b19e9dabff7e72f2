"""From float32 to integers, one group of populations at a time.

For output channel ``o``: ``w = rint(W / s_o)`` in [-127, 127], ``B = rint(b / s_o)``,
``Theta = max(1, rint(u / s_o))``, half to even; the weight of an identity branch is int16. All
synapses into a channel share its scale ``s_o``, and the scale is chosen so that the identity branch, or
else the threshold, is exact. What a spike stands for after rounding is ``u' = Theta s_o``; the float32
weights that read it are corrected by ``u' / u``, so a rounded threshold costs no accuracy downstream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from snnc.errors import InternalError
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.kinds import constant_nodes
from snnc.ir.operations import carried, classified, operations
from snnc.ir.snn import (
    ChannelWeight,
    ConstantCurrent,
    CurrentMaxPool,
    Encode,
    IntegrateFire,
    Readout,
    Reshape,
    SnnGraph,
    SnnNode,
    SumPool,
    Weighted,
)

WEIGHT_LIMIT = 127
IDENTITY_LIMIT = 2**15 - 1
POOLED = 64
"""Area of a sum before or behind an identity branch up to which its weight has all of its bits; those that
sum more take as many fewer, for the sum has them, and int32 must hold it."""

THRESHOLD_LIMIT = 2**22
"""Largest integer threshold: beyond it a finer scale buys nothing and eats the headroom of int32."""


@dataclass(frozen=True, slots=True)
class Group:
    """Populations that share currents, and therefore scales; or the read-out.

    Attributes:
        synapses: names of the weighted nodes and constant currents.
        sinks: names of the populations, or of the read-out.
    """

    synapses: tuple[str, ...]
    sinks: tuple[str, ...]


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
        while isinstance(node, SumPool | CurrentMaxPool | Reshape):
            node = graph[node.inputs[0]]
        if not isinstance(node, Weighted | ConstantCurrent):
            raise InternalError(f"{sink.name!r} reads {node.name!r}, which has no weight")
        yield node.name


def quantise_group(graph: SnnGraph, group: Group) -> SnnGraph:
    """Quantise one group whose inputs are already quantised; the rest of the graph stays as it is.

    Returns:
        The graph with integer nodes for the group, and with the float32 weights that read its
        populations corrected for the rounding of their thresholds.
    """
    members = [graph[name] for name in group.synapses]
    synapses = [node for node in members if isinstance(node, Weighted)]
    sinks = [graph[name] for name in group.sinks]
    if all(getattr(node, "integer", True) for node in (*members, *sinks)):
        return graph
    changed: dict[str, SnnNode] = {}
    scale: FloatArray
    if isinstance(sinks[0], Readout):
        scale = _readout_scale(graph, synapses, sinks)
    else:
        scale = _channel_scale(graph, synapses, [node for node in sinks if isinstance(node, IntegrateFire)])
    for synapse in synapses:
        changed[synapse.name] = synapse.with_(weight=_rounded_weight(synapse, scale))
    for node in members:
        if isinstance(node, ConstantCurrent):
            spread = per_channel(scale, node.values.ndim)
            changed[node.name] = node.with_(values=_rint(node.values / spread))
    corrections: list[tuple[str, FloatArray]] = []
    for sink in sinks:
        if isinstance(sink, Readout):
            changed[sink.name] = _rounded_readout(sink, scale)
        elif isinstance(sink, IntegrateFire):
            rounded = _rounded_population(sink, scale)
            changed[sink.name] = rounded
            corrections.append((sink.name, (rounded.spike_scale / sink.spike_scale).astype(np.float32)))
    graph = graph.replacing(changed)
    for name, ratio in corrections:
        graph = correct_readers(graph, name, ratio)
    return graph


def quantise_all(graph: SnnGraph) -> SnnGraph:
    """Quantise every group, first to last."""
    for group in groups(graph):
        graph = quantise_group(graph, group)
    return graph


def _areas(graph: SnnGraph, synapses: list[Weighted]) -> dict[str, int]:
    """Return the largest area that is summed on the way through each synapse, between populations."""
    summed: dict[str, int] = {}  # on the way to a node
    for node in graph:
        area = max((summed[name] for name in node.inputs), default=1)
        starts = isinstance(node, IntegrateFire | Encode | ConstantCurrent)
        summed[node.name] = 1 if starts else area * (node.window.area if isinstance(node, SumPool) else 1)
    found: dict[str, int] = {}
    for synapse in synapses:
        reached = {synapse.name: summed[synapse.name]}
        for node in graph:
            if not isinstance(node, SumPool | CurrentMaxPool | Reshape):
                continue
            if (name := node.inputs[0]) in reached:
                reached[node.name] = reached[name] * (node.window.area if isinstance(node, SumPool) else 1)
        found[synapse.name] = max(reached.values())
    return found


def _limit(synapse: Weighted, areas: Mapping[str, int]) -> int:
    """Return the largest integer weight of a synapse."""
    if not isinstance(synapse, ChannelWeight):
        return WEIGHT_LIMIT
    return max(WEIGHT_LIMIT, IDENTITY_LIMIT * POOLED // max(areas[synapse.name], POOLED))


def _finest(synapses: list[Weighted], sinks: list[SnnNode], areas: Mapping[str, int]) -> FloatArray:
    """Return the finest scale per channel, (channels,) float64, at which everything fits its integers."""
    scale = np.zeros(next(iter((*sinks, *synapses))).channels)
    for synapse in synapses:
        largest = np.abs(synapse.weight.astype(np.float64)).reshape(len(synapse.weight), -1).max(axis=1)
        scale = np.maximum(scale, largest / _limit(synapse, areas))
    for sink in sinks:
        if isinstance(sink, IntegrateFire):
            scale = np.maximum(scale, sink.threshold / THRESHOLD_LIMIT)
        if isinstance(sink, IntegrateFire | Readout):
            scale = np.maximum(scale, np.abs(sink.bias.astype(np.float64)) / THRESHOLD_LIMIT)
    return np.maximum(scale, np.finfo(np.float32).tiny)


def _readout_scale(graph: SnnGraph, synapses: list[Weighted], sinks: list[SnnNode]) -> FloatArray:
    """Return the scale that all outputs share, (1,), or that of each channel, (channels,).

    It is the finest one at which an input that is added is exact.
    """
    areas = _areas(graph, synapses)
    channels = sinks[0].channels
    apart = all(isinstance(sink, Readout) and sink.gain is not None for sink in sinks)
    # A current that is flattened behind its weights has fewer channels than the read-out.
    flattened = any(isinstance(graph[name], Reshape) for sink in sinks for name in sink.inputs)
    if apart and not flattened and all(synapse.channels == channels for synapse in synapses):
        return _finest(synapses, sinks, areas)
    each = (float(_finest([node], [], areas).max()) for node in synapses)
    finest = max(float(_finest([], sinks, areas).max()), *each)
    constant = constant_nodes(graph)
    added = [s.weight for s in synapses if isinstance(s, ChannelWeight) and s.name in constant]
    if not added:
        return np.array([finest])
    exact = float(np.abs(np.concatenate(added).astype(np.float64)).min())
    multiple = np.floor(exact / finest * (1 + 1e-9))
    return np.array([exact / float(multiple) if multiple >= 1 else finest])


def _channel_scale(graph: SnnGraph, synapses: list[Weighted], populations: list[IntegrateFire]) -> FloatArray:
    """Return the scale per channel: the finest one at which one value that matters is an exact integer."""
    finest = _finest(synapses, list(populations), _areas(graph, synapses))
    # An identity branch repeats its rounding in every block; a threshold's is corrected downstream.
    identities = [np.abs(s.weight.astype(np.float64)) for s in synapses if isinstance(s, ChannelWeight)]
    exact = identities[0] if identities else populations[0].threshold.astype(np.float64)
    multiple = np.floor(exact / finest * (1 + 1e-9))
    return np.where(multiple >= 1, exact / np.maximum(multiple, 1), finest)


def _rounded_weight(synapse: Weighted, scale: FloatArray) -> IntArray:
    spread = per_channel(scale, synapse.weight.ndim)
    if isinstance(synapse, ChannelWeight):
        return np.clip(np.rint(synapse.weight / spread), -IDENTITY_LIMIT, IDENTITY_LIMIT).astype(np.int16)
    return np.clip(np.rint(synapse.weight / spread), -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)


def _rounded_population(node: IntegrateFire, scale: FloatArray) -> IntegrateFire:
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
    ratios: dict[str, FloatArray] = {name: ratio}
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
        ratios[node.name] = carried(node, values, shapes)
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
