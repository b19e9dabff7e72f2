"""``snnc certify``: settings at which a spiking network is exactly its quantised network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.artefacts import ArtefactPath
from snnc.cli.cluster import cluster_option, refuse_threads, workers_if
from snnc.cli.layouts import rows_layout
from snnc.cli.run_options import data_option, threads_option
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from snnc.analysis.certificate import Exact
    from snnc.analysis.evaluation import Share
    from snnc.artefact import Artefact


@click.command("certify", cls=Verb)
@click.argument("artefact", type=ArtefactPath(), metavar="ARTEFACT")
@data_option("Rows `x` to find the settings on")
@click.option(
    "--check",
    type=click.Path(path_type=Path),
    metavar="ROWS",
    help="Other rows, on which the counts are compared.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Use only the first N rows of each.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Write the network with the fewest settle steps, and among these the fewest spikes per step.",
)
@rows_layout
@threads_option
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@cluster_option
@click.pass_obj
def command(
    terminal: Terminal,
    /,
    artefact: Path,
    data: Path | None,
    check: Path | None,
    limit: int | None,
    output: Path | None,
    rows_layout: str | None,
    threads: int | None,
    force: bool,
    cluster: str | None,
) -> None:
    """Find the fewest settle steps and spikes per step at which all spike counts are exact.

    Exact means that every population has the same spike counts, on every row, as in the network of the same
    integers with graded neurons. Proved results hold for every input, observed ones for the rows of --data.
    Exits with 4 if rows of --check differ.
    """
    from snnc.analysis.certificate import certify, disagreements, quantised
    from snnc.artefact import load, save
    from snnc.backends import load_simulator
    from snnc.cli.files import check_outputs
    from snnc.cli.subjects import rows_of
    from snnc.errors import GateError

    refuse_threads(cluster)
    check_outputs(output, others=(artefact, data, check), force=force)
    loaded = load(artefact)
    loaded.require_one_run("`snnc certify`")
    rows = loaded.with_rows_layout(rows_layout)  # the network that is written keeps its own
    quantised(loaded.graph)  # refused before any rows are read
    simulator = load_simulator("numba", threads)
    sha256 = loaded.metadata.source_sha256
    x, _, name = rows_of(data, sha256, limit, rows.check_rows, preprocessing=rows.preprocessing)
    checked: list[Share] = []
    with workers_if(terminal, cluster) as workers:
        front = certify(loaded.graph, rows.encode(x), simulator, terminal.progress(), workers)
        if check is not None:
            shown, _, _ = rows_of(check, sha256, limit, rows.check_rows, preprocessing=rows.preprocessing)
            others = rows.encode(shown)
            checked = [disagreements(loaded.graph, exact, others, simulator, workers) for exact in front]
    if output is not None:
        save(_written(loaded, front[-1], len(x)), output)
    if terminal.json:
        terminal.data(_as_dict(loaded, front, checked, len(x), name))
    else:
        _show(terminal, front, checked, len(x))
    wrong = [(exact, share) for exact, share in zip(front, checked, strict=False) if share.hits]
    if wrong:
        exact, share = wrong[0]
        raise GateError(
            f"the observed equality does not hold on other rows: {share.hits} of {share.n} differ with "
            f"{exact.spikes_per_step} spikes per step and {exact.settle_steps} settle steps; it is proved "
            f"from {exact.proved_settle_steps} settle steps"
        )


def _written(artefact: Artefact, exact: Exact, rows: int) -> Artefact:
    from dataclasses import replace

    from snnc.analysis.certificate import variant

    record = {"pass": "certify", "changed": True, "rows": rows, "certificate": _exact(exact)}
    metadata = replace(artefact.metadata, records=(*artefact.metadata.records, record))
    graph = variant(artefact.graph, exact.spikes_per_step, exact.settle_steps)
    return replace(artefact, graph=graph, metadata=metadata)


def _show(terminal: Terminal, front: tuple[Exact, ...], checked: list[Share], rows: int) -> None:
    head = ["spikes a step", "settle steps", "latency", "basis", "proved from", "operations", "spikes"]
    lines = [
        [
            "any" if exact.spikes_per_step is None else str(exact.spikes_per_step),
            str(exact.settle_steps),
            str(exact.latency_steps),
            exact.basis.value,
            f"{exact.proved_settle_steps} settle steps",
            f"{exact.synops / 1e6:.4g} M",
            f"{exact.spikes_per_neuron_per_step:.4f}",
        ]
        for exact in front
    ]
    if checked:
        head.append("other rows that differ")
        for line, share in zip(lines, checked, strict=True):
            low, high = share.interval
            line.append(f"{share.hits} of {share.n} [{low:.2%}, {high:.2%}]")
    terminal.table(tuple(head), [tuple(line) for line in lines])
    terminal.text(
        f"At these settings all spike counts of {rows} rows equal the quantised network's. Operations are "
        "per row, spikes per neuron and step."
    )


def _exact(exact: Exact) -> dict[str, Any]:
    return {
        "spikes_per_step": exact.spikes_per_step,
        "settle_steps": exact.settle_steps,
        "basis": exact.basis.value,
        "proved_settle_steps": exact.proved_settle_steps,
        "latency_steps": exact.latency_steps,
        "synops": exact.synops,
        "spikes_per_neuron_per_step": exact.spikes_per_neuron_per_step,
    }


def _as_dict(
    artefact: Artefact, front: tuple[Exact, ...], checked: list[Share], rows: int, name: str
) -> dict[str, Any]:
    found = [_exact(exact) for exact in front]
    for entry, share in zip(found, checked, strict=False):
        entry["check"] = {"differing": share.hits, "n": share.n, "ci95": list(share.interval)}
    return {
        "timesteps": artefact.graph.timesteps,
        "rows": rows,
        "data": name,
        "front": found,
        "smallest": found[-1],
        "proved": "with as many spikes per step as time steps, in the layerwise schedule, and from "
        "proved_settle_steps on",
        "observed": f"on {rows} rows, where the basis says so",
    }
