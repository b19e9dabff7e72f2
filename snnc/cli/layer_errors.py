"""What ``snnc compare`` says of the layers of two networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnc.cli.terminal import Terminal

if TYPE_CHECKING:
    from snnc.artefact import Artefact
    from snnc.cli.models import Located
    from snnc.ir.batch import Rows

COMPARED_ROWS = 200
"""Rows on which the activations of two spiking networks are compared."""


def errors_against_source(
    terminal: Terminal,
    artefact: Located,
    other: Located,
    data: Path | None,
    x: Rows,
    rows_layout: str | None,
    threads: int | None,
) -> list[list[Any]]:
    """Return the errors of every layer of an artefact, if any, where the other network is its source."""
    from snnc.artefact import load
    from snnc.cli.subjects import subject
    from snnc.frontend.loading import load as load_source
    from snnc.report.measuring import measure

    rows = min(len(x), COMPARED_ROWS)
    spiking = load(artefact.path)
    if load_source(other.path).sha256 != spiking.metadata.source_sha256:
        return []
    found = subject(
        terminal,
        artefact.path,
        data=data,
        source=str(other.path),
        limit=rows,
        threads=threads,
        rows_layout=rows_layout,
        several=True,
    )
    measured = measure(
        found.artefact,
        found.source,
        found.x,
        None,
        simulator=found.simulator,
        threads=threads,
        progress=terminal.progress(),
    )
    return [
        [
            layer.name,
            100 * layer.local.total,
            100 * layer.cumulative.total,
            layer.cumulative.sqnr,
        ]
        for layer in measured.layers
    ]


def layers_of_both(a: Artefact | None, b: Artefact | None, x: Rows, threads: int | None) -> list[list[Any]]:
    """Return what the populations of two spiking networks send, where they bear the same name."""
    if a is None or b is None:
        return []
    import numpy as np

    from snnc.backends import load_simulator
    from snnc.ir.snn import IntegrateFire
    from snnc.simulation.protocol import RecordOptions

    simulator = load_simulator("numba", threads)
    runs = []
    for artefact in (a, b):
        T = artefact.graph.timesteps
        trace = artefact.simulator(simulator).run(
            artefact.graph, artefact.encode(x), T, RecordOptions(states=True, activity=True)
        )
        nodes = {node.name: node for node in artefact.graph.of_type(IntegrateFire)}
        steps = T + artefact.graph.settle_steps
        runs.append(
            {
                name: (
                    node.decoded(trace.counts[name], T).astype(np.float64),
                    float(trace.activity[name].units.mean()) / (len(x) * steps),
                )
                for name, node in nodes.items()
            }
        )
    rows = []
    for name, (values, rate) in runs[0].items():
        other = runs[1].get(name)
        if other is not None and other[0].shape == values.shape:
            power = float(np.square(values).sum())
            apart = float(np.square(values - other[0]).sum()) / power if power > 0 else 0.0
            rows.append([name, rate, other[1], 100 * apart])
    return rows
