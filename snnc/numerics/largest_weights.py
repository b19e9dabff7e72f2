"""How large integer weights may be, so that int32 holds what is summed before and behind them."""

from __future__ import annotations

from collections.abc import Mapping

from snnc.ir.bounds import count_bounds
from snnc.ir.operations import check_known
from snnc.ir.snn import (
    ChannelWeight,
    ConstantCurrent,
    CountFunction,
    CurrentMaxPool,
    Encode,
    Gather,
    IntegrateFire,
    Reshape,
    SnnGraph,
    SumPool,
    Weighted,
)

WEIGHT_LIMIT = 127
IDENTITY_LIMIT = 2**15 - 1
POOLED = 64
"""Area of a sum before or behind an identity branch up to which its weight has all of its bits; those that
sum more take as many fewer, for the sum has them, and int32 must hold it."""

LEVELS = 255
"""Counts up to which that is right."""

MOVERS = (SumPool, CurrentMaxPool, Reshape, Gather)
"""What currents pass on their way to a population or the read-out."""


def summed_areas(graph: SnnGraph, synapses: list[Weighted]) -> dict[str, int]:
    """Return the largest area that is summed on the way through each synapse, between populations.

    Counts above :data:`LEVELS`, as those of functions may be, are as much as an area.
    """
    check_known(graph)
    areas = _areas_of(graph, synapses, {})
    pooled = any(areas[each.name] > 1 for each in synapses if isinstance(each, ChannelWeight))
    return _areas_of(graph, synapses, count_bounds(graph, graph.timesteps)) if pooled else areas


def _areas_of(graph: SnnGraph, synapses: list[Weighted], counts: Mapping[str, int]) -> dict[str, int]:
    """Return these areas, where the largest counts of populations and functions are known."""
    summed: dict[str, int] = {}  # on the way to a node
    for node in graph:
        area = max((summed[name] for name in node.inputs), default=1)
        if isinstance(node, IntegrateFire | Encode | ConstantCurrent | CountFunction):
            summed[node.name] = max(1, -(-counts.get(node.name, 0) // LEVELS))
        else:
            summed[node.name] = area * (node.window.area if isinstance(node, SumPool) else 1)
    found: dict[str, int] = {}
    for synapse in synapses:
        reached = {synapse.name: summed[synapse.name]}
        for node in graph:
            if not isinstance(node, MOVERS):
                continue
            if (name := node.inputs[0]) in reached:
                reached[node.name] = reached[name] * (node.window.area if isinstance(node, SumPool) else 1)
        found[synapse.name] = max(reached.values())
    return found


def largest_weight(synapse: Weighted, areas: Mapping[str, int]) -> int:
    """Return the largest integer weight of a synapse."""
    if not isinstance(synapse, ChannelWeight):
        return WEIGHT_LIMIT
    return max(WEIGHT_LIMIT, IDENTITY_LIMIT * POOLED // max(areas[synapse.name], POOLED))
