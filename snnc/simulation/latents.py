"""What reaches a cut: the spikes of a layer, summed over a run, or step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from snnc.ir.batch import Given
from snnc.ir.cut import Cut
from snnc.ir.graph import IntArray, NumberArray
from snnc.ir.snn import Encode, IntegrateFire, SnnGraph
from snnc.progress import Progress, as_progress
from snnc.simulation.protocol import RecordOptions, Simulator, Trace
from snnc.simulation.reference import propagate

ROWS = 64
"""Rows that are simulated at once."""

Encoder = Callable[[slice], Given]


def counts_at(
    graph: SnnGraph,
    cut: Cut,
    encode: Encoder,
    rows: int,
    simulator: Simulator,
    progress: Progress | None = None,
) -> IntArray:
    """Return the counts at a cut, (rows, F) int64.

    What lies between populations and the cut only moves or sums spikes, or is a function of their counts, so
    that it is computed from the counts once, not step by step.

    Args:
        graph: the network.
        cut: of it.
        encode: gives the quantised rows of a slice.
        rows: how many there are.
        simulator: runs the network as far as the cut.
        progress: shows how far it is.
    """
    names = [name for name in sorted(graph.ancestors([cut.latent])) if isinstance(graph[name], IntegrateFire)]
    last = _sources(graph, cut.latent)
    found = []
    starts = range(0, rows, ROWS)
    for start in as_progress(progress).track(starts, len(starts), "simulating as far as the cut"):
        part = slice(start, min(start + ROWS, rows))
        q = encode(part)
        trace = Trace(graph.timesteps, part.stop - start)
        if names:
            record = RecordOptions(states=True, until=last)
            trace = simulator.run(graph, q, graph.timesteps, record)
        values = _count(graph, cut.latent, trace, q, {})
        found.append(values.reshape(part.stop - start, -1).astype(np.int64))
    return np.concatenate(found)


def latent_of(graph: SnnGraph, cut: Cut, counts: Mapping[str, IntArray], q: Given) -> IntArray:
    """Return the counts at a cut, (rows, F) int64, of a run.

    Args:
        graph: the network.
        cut: of it.
        counts: (rows, *shape), final counts of the populations before it.
        q: (rows, *input shape), the quantised inputs.
    """
    trace = Trace(graph.timesteps, len(next(iter(counts.values()))), counts=dict(counts))
    values = _count(graph, cut.latent, trace, q, {})
    return values.reshape(trace.samples, -1).astype(np.int64)


def _sources(graph: SnnGraph, name: str) -> tuple[str, ...]:
    """Return the populations whose counts a node's count is made of."""
    node = graph[name]
    if isinstance(node, IntegrateFire):
        return (name,)
    return tuple(dict.fromkeys(found for read in node.inputs for found in _sources(graph, read)))


def _count(graph: SnnGraph, name: str, trace: Trace, q: Given, known: dict[str, NumberArray]) -> NumberArray:
    if name not in known:
        node = graph[name]
        if isinstance(node, IntegrateFire):
            known[name] = trace.counts[name].astype(np.int64)
        elif isinstance(node, Encode):
            rows = q[name] if isinstance(q, dict) else getattr(q, "arrays", {}).get(name, q)
            known[name] = np.asarray(rows).astype(np.int64) * graph.timesteps
        else:  # one step in which everything arrives: functions of counts telescope to the last
            read = [_count(graph, each, trace, q, known)[None] for each in node.inputs]
            known[name] = propagate(node, read)[0]
    return known[name]
