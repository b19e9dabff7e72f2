"""How far potentials can get, by the counts of spikes and the signs of weights.

Since every count of a population lies between zero and its largest, a weight of one sign moves a potential
to one side only. So the charge of a channel stays within ``v0 + sum min(w, 0) max N + T min(B, 0)`` and
``v0 + sum max(w, 0) max N + T max(B, 0)``, and what it spends lies between zero and ``Theta max N``. This
also holds while the spikes of a step are added one after the other, in any order: each source then
contributes its count before the step or after it.
"""

from __future__ import annotations

import numpy as np

from snnc.ir.bounds import count_bounds, run_bounds, step_bounds
from snnc.ir.graph import IntArray
from snnc.ir.operations import Firing, firing
from snnc.ir.snn import (
    Concat,
    CountMaxPool,
    Gather,
    IntegrateFire,
    Pad,
    Reshape,
    Slice,
    SnnGraph,
    SnnNode,
    SumPool,
    Weighted,
)

MOVING = (Concat, CountMaxPool, Gather, Pad, Reshape, Slice, SumPool)
"""Nodes whose counts are negative only if a count that they read is."""


def potential_bounds(graph: SnnGraph, timesteps: int) -> dict[str, int]:
    """Return the largest magnitude of the potential of each population of an integer network.

    It holds at every moment of a run of ``timesteps``, also for the charged potential before spikes that may
    be taken back are, and is never above that of :func:`~snnc.ir.bounds.run_bounds`.
    """
    counts, values = count_bounds(graph, timesteps), step_bounds(graph, timesteps)
    runs = run_bounds(graph, timesteps)
    positive = _without_negative_counts(graph)
    steps = timesteps + graph.settle_steps
    found = {}
    for node in graph.of_type(IntegrateFire):
        if node.leaky:
            found[node.name] = runs[node.name]
            continue
        bias = timesteps * node.bias.astype(np.int64)
        low, high = node.v_init + np.minimum(bias, 0), node.v_init + np.maximum(bias, 0)
        for name in node.inputs:
            least, most = _charge(graph[name], counts, positive)
            if least is None or most is None:
                least = most = np.full(node.channels, steps * values[name], np.int64)
            low, high = low - least, high + most
        spent = 0 if firing(node) is Firing.STEPS else node.threshold.astype(np.int64) * counts[node.name]
        reached = max(int(np.abs(low - spent).max()), int(np.abs(high).max()))
        found[node.name] = min(reached, runs[node.name])
    return found


def _charge(
    node: SnnNode, counts: dict[str, int], positive: set[str]
) -> tuple[IntArray | None, IntArray | None]:
    """Return how far a synapse takes each channel below and above zero in a run; ``None`` for other nodes."""
    if not isinstance(node, Weighted):
        return None, None
    weight = node.weight.astype(np.int64)
    axes, most = tuple(range(1, weight.ndim)), counts[node.inputs[0]]
    above, below = np.maximum(weight, 0).sum(axis=axes) * most, np.maximum(-weight, 0).sum(axis=axes) * most
    return (below, above) if node.inputs[0] in positive else (below + above, below + above)


def _without_negative_counts(graph: SnnGraph) -> set[str]:
    """Return the nodes whose spikes never add up to a negative count."""
    found: set[str] = set()
    for node in graph:
        if isinstance(node, IntegrateFire):
            if firing(node) is not Firing.STEPS:
                found.add(node.name)
        elif isinstance(node, MOVING) and found.issuperset(node.inputs):
            found.add(node.name)
    return found
