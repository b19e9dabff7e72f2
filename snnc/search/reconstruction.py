"""Thresholds that minimise the error of each layer alone, on the spikes that really arrive.

Layers are processed from first to last. Every channel gets the factor of its threshold at which its spikes,
driven by the quantised layers before it, are nearest to the source network's activations. This layer-wise
reconstruction serves for comparison: the error of a layer says little about the answer of a network of few
levels.

Source: Li et al., "A Free Lunch From ANN: Towards Efficient, Accurate Spiking Neural Networks Calibration",
ICML 2021, choose thresholds so.
"""

from __future__ import annotations

import numpy as np

from snnc.ir.graph import FloatArray
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.numerics.quantisation import Group, groups, quantise_group
from snnc.pipeline import Context
from snnc.search.threshold_search import with_thresholds
from snnc.simulation.partial import PartialSimulation
from snnc.source.source_map import activation, pre_activation, rectifier

FACTORS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5)
"""Factors of the threshold that are tried in every channel."""


def reconstruct(graph: SnnGraph, context: Context, rows: int, *, ramp: bool = False) -> SnnGraph:
    """Return a float32 network whose thresholds have the least error, layer by layer.

    Args:
        graph: the network, before its weights are quantised.
        context: with the source network and the calibration rows.
        rows: how many of them to look at.
        ramp: whether what a start lacks of half the threshold will arrive with the bias: layers are then
            judged with it. The network that is returned does not hold it.
    """
    calibration = context.calibration.subset(slice(0, rows))
    source = context.ann()
    prefix = PartialSimulation(graph, calibration.rows, context.simulator)
    integer = graph
    order = groups(graph)[:-1]
    for index, group in enumerate(context.progress.track(order, len(order), "reconstructing")):
        ahead = tuple(graph[later.sinks[0]] for later in order[index + 1 :])
        z = pre_activation(calibration, source, graph[group.sinks[0]], ahead)[:]
        targets = {name: activation(rectifier(source, graph[name]), z) for name in group.sinks}
        best = _best(integer, group, prefix, targets, ramp=ramp)
        graph = _moved(graph, best)
        integer = _quantised(integer, group, best, ramp=ramp)
        prefix.extend(integer, group.sinks)
    return graph


def _best(
    graph: SnnGraph, group: Group, prefix: PartialSimulation, targets: dict[str, FloatArray], *, ramp: bool
) -> dict[str, FloatArray]:
    """Return the factor of each channel of a group's populations that leaves the least error."""
    least = {name: np.full(graph[name].channels, np.inf) for name in group.sinks}
    best = {name: np.ones(graph[name].channels, np.float32) for name in group.sinks}
    for factor in FACTORS:
        same = {name: np.full(graph[name].channels, factor, np.float32) for name in group.sinks}
        tried = _quantised(graph, group, same, ramp=ramp)
        trace = prefix.simulate(tried, group.sinks, trains=False)
        for name in group.sinks:
            node = tried[name]
            if not isinstance(node, IntegrateFire):
                continue
            missing = targets[name] - node.decoded(trace.counts[name], graph.timesteps)
            error = np.square(missing).mean(axis=(0, *range(2, missing.ndim)), dtype=np.float64)
            best[name] = np.where(error < least[name], np.float32(factor), best[name])
            least[name] = np.minimum(error, least[name])
    return best


def _quantised(graph: SnnGraph, group: Group, factors: dict[str, FloatArray], *, ramp: bool) -> SnnGraph:
    """Return the network with other thresholds in one group, as integers with weights of 8 bits."""
    graph = _moved(graph, factors)
    if ramp:
        sinks = [node for node in graph.of_type(IntegrateFire) if node.name in group.sinks]
        graph = graph.replacing(
            {node.name: node.with_(bias=node.bias + node.ramp(graph.timesteps)) for node in sinks}
        )
    return quantise_group(graph, group)


def _moved(graph: SnnGraph, factors: dict[str, FloatArray]) -> SnnGraph:
    for name, factor in factors.items():
        node = graph[name]
        if isinstance(node, IntegrateFire) and node.breakpoints is None:
            graph = with_thresholds(graph, node, factor)
    return graph
