"""``snnc bench``: the speed of a spiking network beside that of its source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.artefacts import ArtefactPath
from snnc.cli.layouts import rows_layout
from snnc.cli.quantities import FiniteRange, Threads
from snnc.cli.run_options import timesteps_option
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from snnc.analysis.speed import Comparison, Timing
    from snnc.artefact import Artefact
    from snnc.cli.models import Located
    from snnc.ir.batch import Rows
    from snnc.ir.snn import SnnGraph


@dataclass(frozen=True, slots=True)
class Request:
    """The options of the verb."""

    against: str | None
    data: Path | None
    timesteps: int | None
    batch: int
    threads: int
    mode: str
    rounds: int | None
    max_ratio: float | None
    exit_confidence: float | None
    rows_layout: str | None


@click.command("bench", cls=Verb)
@click.argument("artefact", type=ArtefactPath())
@click.option(
    "--against", metavar="MODEL", help="Another ONNX network that takes the same rows; the source by default."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="ROWS",
    help="Rows `x`, of which the first are run; for a network of the zoo, its own rows by default.",
)
@timesteps_option
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Rows run at once.")
@click.option("--threads", type=Threads(), default=1, show_default=True, help="Number of threads of each.")
@click.option(
    "--mode",
    type=click.Choice(["spikes", "counts"]),
    default="spikes",
    show_default=True,
    help="Spikes step by step, or one pass over spike counts, where this is proved to be equal.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    metavar="N",
    help="Runs of each; by default as many as fit into 3 seconds.",
)
@click.option(
    "--max-ratio",
    type=FiniteRange(min=0, min_open=True),
    metavar="R",
    help="Exit with 4 if the spiking network takes more than R times as long.",
)
@click.option(
    "--exit-confidence",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    metavar="P",
    help="Also tell latency and operations of rows that answer as soon as the largest softmax probability "
    "reaches P. The times stay those of all steps.",
)
@rows_layout
@click.pass_obj
def command(terminal: Terminal, /, artefact: Path, **options: Any) -> None:
    """Time ARTEFACT in the CPU simulator and its source in onnxruntime, alternately, in one process.

    The ratio is that of the shortest rounds. Both start from the rows as the source network takes them, so
    the time of the spiking network includes their quantisation. The density is measured on these rows.
    """
    from snnc.analysis.early_exit import check_confidence
    from snnc.artefact import load
    from snnc.backends import load_simulator
    from snnc.cli.artefacts import chosen_timesteps, exits_of
    from snnc.cli.evaluation_tables import when_sure
    from snnc.cli.models import locate, locate_source
    from snnc.cli.subjects import rows_of
    from snnc.errors import GateError, UsageError

    request = Request(**options)
    network = load(artefact).with_rows_layout(request.rows_layout)
    steps = chosen_timesteps(terminal, network, request.timesteps)
    if request.against is None:
        located = locate_source(network.metadata, artefact, None)
    else:
        located = locate(request.against)
    if request.exit_confidence is not None:
        check_confidence(request.exit_confidence)
        if request.mode == "counts":
            raise UsageError("--exit-confidence looks at every step, and --mode counts has none of them")
    x, y, _ = rows_of(
        request.data,
        network.metadata.source_sha256,
        None,
        network.check_rows,
        inputs=list(network.takes),
        outputs=list(network.gives),
        preprocessing=network.preprocessing,
    )
    exits = None
    if request.exit_confidence is not None:
        recorder = load_simulator("numba", request.threads)
        exits = exits_of(network, x, request.exit_confidence, recorder, timesteps=steps, labels=y)
    found = _compare(terminal, network, located, x, steps, request)
    if terminal.json:
        early = {} if exits is None else {"early_exit": exits.as_dict()}
        terminal.data({**found.as_dict(), **early})
    else:
        _show(terminal, found)
        if exits is not None:
            terminal.table(("answers when sure", f"from {exits.confidence:g} on"), when_sure(exits))
    if request.max_ratio is not None and found.ratio > request.max_ratio:
        raise GateError(
            f"the spiking network takes {found.ratio:.3g} times as long as {located.name}, "
            f"more than {request.max_ratio:g}: see the layers in snnc inspect --plan"
        )


def _compare(
    terminal: Terminal, network: Artefact, located: Located, x: Rows, steps: int, request: Request
) -> Comparison:
    """Prepare both, and run them in turn."""
    import numpy as np

    from snnc.analysis import costs
    from snnc.analysis.latency import latency_steps
    from snnc.analysis.speed import Comparison, interleaved, resident
    from snnc.backends.numba_cpu import NumbaSimulator
    from snnc.cli.models import open_source
    from snnc.data.preprocessing import for_inputs, prepared_rows
    from snnc.errors import InputError
    from snnc.ir.batch import joined
    from snnc.ir.batch import rows_of as rows_by_name
    from snnc.simulation.protocol import RecordOptions
    from snnc.simulation.single_pass import counted, counted_input

    metadata = network.metadata
    if len(x) < request.batch:
        raise InputError(f"there are {len(x)} rows, fewer than --batch {request.batch}: give more by --data")
    raw = x[: request.batch]
    ready = {}
    prepares = for_inputs(network.preprocessing, network.takes)
    for name, taken in network.takes.items():
        rows = prepared_rows(rows_by_name(raw, name), taken, prepares[name])
        ready[name] = np.ascontiguousarray(rows, np.float32)
    x = joined(ready)
    prepared = replace(network, metadata=replace(metadata, preprocessing=None))

    graph: SnnGraph = network.graph
    before = resident()
    if request.mode == "counts":
        network.require_one_run("`snnc bench --mode counts`")
    simulator = prepared.simulator(NumbaSimulator(request.threads))
    activity = simulator.run(graph, prepared.encode(x), steps, RecordOptions(activity=True))
    counts = costs.count(graph, activity.activity, len(x), steps)
    run_steps = steps
    if request.mode == "counts":
        graph, run_steps = counted(graph, steps), 1
        activity = simulator.run(
            graph, counted_input(prepared.encode(x), steps), 1, RecordOptions(activity=True)
        )
    density = activity.density(graph.settle_steps)
    terminal.detail("density by layer: " + ", ".join(f"{name} {d:.3f}" for name, d in density.items()))

    simulator = prepared.simulator(NumbaSimulator(request.threads, density))
    finish = prepared.finish

    def spiking() -> object:
        q = prepared.encode(x)
        if request.mode == "counts":
            q = counted_input(q, steps)
        trace = simulator.run(graph, q, run_steps)
        if finish is None:
            return trace.outputs
        return finish.answers(replace(trace, timesteps=steps), x)

    spiking()
    after = resident()
    source = open_source(terminal, located, network.preprocessing, request.threads, network.selection)
    given = source.prepare(raw)
    fed = joined(
        {name: np.ascontiguousarray(rows_by_name(given, name), np.float32) for name in source.session.inputs}
    )
    source.session.run_all(fed)
    times = interleaved(
        {"snn": spiking, "ann": lambda: source.session.run_all(fed)},
        request.rounds,
        request.threads,
        terminal.progress(),
    )
    return Comparison(
        snn=times["snn"],
        ann=times["ann"],
        costs=counts,
        images=len(x),
        threads=request.threads,
        timesteps=steps,
        latency_steps=latency_steps(network.graph, steps, network.input_segments),
        mode=request.mode,
        memory=None if before is None or after is None else max(0, after - before),
    )


def _show(terminal: Terminal, found: Comparison) -> None:
    """Write the table, and what it means in one line."""

    def row(name: str, value: str) -> tuple[str, str, str]:
        return (
            name,
            _milliseconds(found.snn, value, found.images),
            _milliseconds(found.ann, value, found.images),
        )

    rows = [
        row("minimum, ms per image", "minimum"),
        row("median, ms per image", "median"),
        row("90th percentile, ms per image", "p90"),
        ("rounds", str(len(found.snn.seconds)), str(len(found.ann.seconds))),
        ("time steps", f"T = {found.timesteps}, K = {found.costs.steps - found.timesteps}", ""),
        ("latency, steps", str(found.latency_steps), ""),
        ("neurons that fire in a step", f"{found.costs.events_per_neuron_per_step:.2%}", ""),
        ("synaptic operations, G/s", f"{found.giga_synops:.3g}", ""),
        *(
            (name, f"{value:,.0f}", "")
            for name, value in (
                ("products of counts per image", found.costs.products),
                ("table look-ups per image", found.costs.lookups),
                ("divisions per image", found.costs.divisions),
            )
            if value
        ),
        ("batch", str(found.images), str(found.images)),
        ("threads", str(found.threads), str(found.threads)),
    ]
    if found.memory is not None:
        rows.append(("memory of the simulation, MB", f"{found.memory / 2**20:.1f}", ""))
    terminal.table(("", "SNN", "ANN"), rows)
    what = "" if found.mode == "spikes" else ", computed as one pass over spike counts without spikes,"
    terminal.text(f"The spiking network{what} takes {found.ratio:.3g} times as long as the ANN.")


def _milliseconds(timing: Timing, figure: str, images: int) -> str:
    return f"{timing.as_dict(images)[figure]:.4g}"
