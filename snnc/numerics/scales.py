"""The scales of integer weights: what one integer stands for, by output channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from snnc.ir.graph import FloatArray, IntArray
from snnc.ir.kinds import constant_nodes
from snnc.ir.operations import channel_links, classified
from snnc.ir.snn import (
    ChannelWeight,
    ConstantCurrent,
    IntegrateFire,
    Readout,
    Reshape,
    SnnGraph,
    SnnNode,
    Weighted,
)
from snnc.numerics.largest_weights import MOVERS, largest_weight, summed_areas
from snnc.numerics.weight_grid import WEIGHT_BITS, WeightGrid

THRESHOLD_LIMIT = 2**22
"""Largest integer threshold: beyond it a finer scale buys nothing and eats the headroom of int32."""


def population_scales(
    graph: SnnGraph,
    members: list[SnnNode],
    synapses: list[Weighted],
    populations: list[IntegrateFire],
    grids: Mapping[str, WeightGrid],
) -> dict[str, FloatArray]:
    """Return the scale of each channel, (channels,), of populations and of what they read, by node.

    Args:
        graph: the network.
        members: what drives the populations: synapses and constant currents.
        synapses: those with weights.
        populations: that share currents.
        grids: of the weights, by synapse.
    """
    shares = _shares(graph, members, populations)
    common = _holding(_channel_scale(graph, synapses, populations, shares, grids), members, shares)
    return {name: common[share] for name, share in shares.items()}


def readout_scales(
    graph: SnnGraph, members: list[SnnNode], synapses: list[Weighted], sinks: list[SnnNode]
) -> dict[str, FloatArray]:
    """Return the scale that all outputs share, (1,), or that of each channel, (channels,), by node.

    It is the finest one at which an input that is added is exact.
    """
    areas = summed_areas(graph, synapses)
    apart = all(isinstance(sink, Readout) and sink.gain is not None for sink in sinks)
    # A current that is flattened behind its weights has fewer channels than the read-out.
    flattened = any(isinstance(graph[name], Reshape) for sink in sinks for name in sink.inputs)
    if apart and not flattened:
        shares = _shares(graph, members, sinks)
        common = _holding(_finest(synapses, sinks, areas, shares), members, shares)
        return {name: common[share] for name, share in shares.items()}
    one = {node.name: np.zeros(node.channels, np.int64) for node in members}
    scale = _holding(_common_scale(graph, synapses, sinks, areas), members, one)
    return {node.name: scale for node in (*members, *sinks)}


def _shares(graph: SnnGraph, members: Sequence[SnnNode], sinks: Sequence[SnnNode]) -> dict[str, IntArray]:
    """Return which channels of a group have one scale: those whose currents meet in one channel.

    Returns:
        For each node the number of the scale of each of its channels, (channels,); where no move mixes
        channels, a channel has its own.
    """
    plain = True
    first = {node.name: number for number, node in enumerate((*members, *sinks))}
    ends = np.cumsum([0, *(node.channels for node in (*members, *sinks))])
    edges: list[tuple[IntArray, IntArray]] = []
    for sink in sinks:
        for name in sink.inputs:
            node: SnnNode = graph[name]
            # Channels of the sink, and of the node that reach them.
            here: IntArray = np.arange(sink.channels)
            there = here
            while isinstance(node, MOVERS):
                before = graph[node.inputs[0]]
                links = channel_links(classified(node), before.shape)
                if links is not None:
                    plain = False
                    here, there = _followed(here, there, *links)
                node = before
            edges.append((here + ends[first[sink.name]], there + ends[first[node.name]]))
    if plain:
        return {node.name: np.arange(node.channels) for node in (*members, *sinks)}
    labels = np.arange(ends[-1])
    while True:
        before_ = labels.copy()
        for one, other in edges:
            least = np.minimum(labels[one], labels[other])
            np.minimum.at(labels, one, least)
            np.minimum.at(labels, other, least)
        labels = labels[labels]
        if np.array_equal(labels, before_):
            break
    numbers = np.unique(labels, return_inverse=True)[1]
    return {name: numbers[ends[k] : ends[k + 1]] for name, k in first.items()}


def _followed(
    here: IntArray, there: IntArray, outputs: IntArray, inputs: IntArray
) -> tuple[IntArray, IntArray]:
    """Follow pairs of channels one node further back, from its ``outputs`` to its ``inputs``."""
    order = np.argsort(outputs, kind="stable")
    outputs, inputs = outputs[order], inputs[order]
    start, stop = np.searchsorted(outputs, there), np.searchsorted(outputs, there, side="right")
    count = stop - start
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    pairs = np.unique(np.stack([np.repeat(here, count), inputs[np.repeat(start, count) + within]]), axis=1)
    return pairs[0], pairs[1]


def _finest(
    synapses: Sequence[Weighted],
    sinks: Sequence[SnnNode],
    areas: Mapping[str, int],
    shares: Mapping[str, IntArray] | None = None,
    grids: Mapping[str, WeightGrid] | None = None,
) -> FloatArray:
    """Return the finest scale, float64, at which everything fits its integers.

    Weights of fewer than 8 bits get the scale of least error instead, and the largest are clipped.

    Args:
        synapses: with the weights.
        sinks: what they drive.
        areas: that are summed on the way.
        shares: which scale each channel has, by node; its own by default, (channels,) of any of the nodes.
        grids: of the weights, by synapse; 8 bits by default.
    """
    nodes = (*sinks, *synapses)
    if shares is None:
        shares = {node.name: np.arange(node.channels) for node in nodes}
    scale = np.zeros(1 + max(int(share.max()) for share in shares.values()))
    for synapse in synapses:
        grid = WeightGrid() if grids is None else grids[synapse.name]
        if grid.bits < WEIGHT_BITS:
            needed = grid.scale(synapse.weight)
        else:
            weight = np.abs(synapse.weight.astype(np.float64)).reshape(len(synapse.weight), -1)
            needed = weight.max(axis=1) / largest_weight(synapse, areas)
        np.maximum.at(scale, shares[synapse.name], needed)
    for sink in sinks:
        if isinstance(sink, IntegrateFire) and sink.breakpoints is None:
            np.maximum.at(scale, shares[sink.name], sink.threshold / THRESHOLD_LIMIT)
        if isinstance(sink, IntegrateFire | Readout):
            bias = np.abs(sink.bias.astype(np.float64))
            np.maximum.at(scale, shares[sink.name], bias / THRESHOLD_LIMIT)
    return np.maximum(scale, np.finfo(np.float32).tiny)


def _holding(scale: FloatArray, members: list[SnnNode], shares: Mapping[str, IntArray]) -> FloatArray:
    """Return scales at which constant currents are no larger than biases may be: int32 must hold them."""
    found = scale.copy()
    for node in members:
        if isinstance(node, ConstantCurrent):
            values = np.abs(node.values.astype(np.float64)).reshape(len(node.values), -1)
            np.maximum.at(found, shares[node.name], values.max(axis=1) / THRESHOLD_LIMIT)
    return found


def _common_scale(
    graph: SnnGraph, synapses: list[Weighted], sinks: list[SnnNode], areas: Mapping[str, int]
) -> FloatArray:
    """Return the scale that all outputs share, (1,)."""
    each = (float(_finest([node], [], areas).max()) for node in synapses)
    finest = max(float(_finest([], sinks, areas).max()), *each)
    constant = constant_nodes(graph)
    added = [s.weight for s in synapses if isinstance(s, ChannelWeight) and s.name in constant]
    if not added:
        return np.array([finest])
    exact = float(np.abs(np.concatenate(added).astype(np.float64)).min())
    multiple = np.floor(exact / finest * (1 + 1e-9))
    return np.array([exact / float(multiple) if multiple >= 1 else finest])


def _channel_scale(
    graph: SnnGraph,
    synapses: list[Weighted],
    populations: list[IntegrateFire],
    shares: Mapping[str, IntArray],
    grids: Mapping[str, WeightGrid],
) -> FloatArray:
    """Return the scales: the finest ones at which one value that matters is an exact integer."""
    finest = _finest(synapses, list(populations), summed_areas(graph, synapses), shares, grids)
    # An identity branch repeats its rounding in every block; a threshold's is corrected downstream.
    identities = [s for s in synapses if isinstance(s, ChannelWeight)]
    uniform = [node for node in populations if node.breakpoints is None]
    if not identities and not uniform:  # step functions keep their units whatever the scale
        return finest
    node = identities[0] if identities else uniform[0]
    values = np.abs(identities[0].weight) if identities else populations[0].threshold
    exact = np.zeros_like(finest)  # where several channels share a scale, the largest value decides
    np.maximum.at(exact, shares[node.name], values.astype(np.float64))
    multiple = np.floor(exact / finest * (1 + 1e-9))
    return np.where(multiple >= 1, exact / np.maximum(multiple, 1), finest)
