"""Depth of a spiking network, and the steps from its input to its answer."""

from __future__ import annotations

from collections.abc import Mapping

from snnc.ir import snn
from snnc.ir.neuron import Schedule
from snnc.ir.operations import operations
from snnc.ir.segments import split


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
