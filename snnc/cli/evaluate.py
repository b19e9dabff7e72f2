"""``snnc eval``: evaluation of a network on labelled rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.cluster import cluster_option, refuse_threads, workers_if
from snnc.cli.evaluation_tables import show, show_source, when_sure
from snnc.cli.given import refuse
from snnc.cli.inputs_outputs import fix_option, keep_option, shape_option
from snnc.cli.judging import task_of, task_option
from snnc.cli.layouts import rows_layout, with_layout
from snnc.cli.quantities import FiniteRange
from snnc.cli.run_options import data_option, limit_option, threads_option, timesteps_option
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from snnc.analysis.parts import Parts
    from snnc.artefact import Artefact
    from snnc.cli.models import Located
    from snnc.data.preprocessing import Preprocessing
    from snnc.ir.batch import Rows
    from snnc.metrics.outputs import Labels
    from snnc.progress import Progress
    from snnc.scale.workers import Workers


@dataclass(frozen=True, slots=True)
class Request:
    """The options of the verb."""

    data: Path | None
    backend: str
    timesteps: int | None
    limit: int | None
    against: str | None
    source: str | None
    preprocess: Path | None
    rows_layout: str | None
    threads: int | None
    metric: tuple[str, ...]
    task: str | None
    shape: tuple[str, ...]
    fix: tuple[str, ...]
    keep_output: tuple[str, ...]
    exit_confidence: float | None
    neurobench: Path | None
    force: bool
    cluster: str | None


@click.command("eval", cls=Verb)
@click.argument("network", metavar="ARTEFACT|MODEL")
@data_option("Rows `x` and labels `y`")
@click.option(
    "--backend", default="numba", show_default=True, help="The simulator: numba, onnx or reference."
)
@timesteps_option
@limit_option
@click.option(
    "--against",
    metavar="MODEL",
    help="Also run this network on the same rows; `source` stands for the recorded source.",
)
@click.option("--source", metavar="MODEL", help="Path of the source network, for `--against source`.")
@click.option(
    "--preprocess",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Preprocessing of the rows of a MODEL. An artefact stores its own.",
)
@rows_layout
@threads_option
@click.option(
    "--metric",
    multiple=True,
    metavar="NAME",
    help="A metric of docs/metrics.md, such as auc or r2. May be repeated; by default those of the task.",
)
@task_option
@click.option(
    "--exit-confidence",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    metavar="P",
    help="Also answer as soon as the largest softmax probability reaches P: accuracy, latency, operations.",
)
@shape_option
@fix_option
@keep_option
@click.option(
    "--neurobench",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Also write the results of an ARTEFACT in NeuroBench's form.",
)
@click.option("--force", is_flag=True, help="With --neurobench: replace an existing file.")
@cluster_option
@click.pass_obj
def command(terminal: Terminal, /, network: str, **options: Any) -> None:
    """Measure accuracy or other metrics with 95 % intervals, spikes, and operations per image.

    A MODEL that is no artefact is run in onnxruntime.
    """
    from snnc.cli.artefacts import holds_artefact
    from snnc.cli.models import locate

    request = Request(**options)
    refuse_threads(request.cluster)
    located = locate(network)
    with workers_if(terminal, request.cluster) as workers:  # which start while this process reads
        if holds_artefact(located.path):
            _evaluate_artefact(terminal, located.path, request, workers)
        else:
            _evaluate_model(terminal, located, request, workers)


def _evaluate_artefact(terminal: Terminal, path: Path, request: Request, workers: Workers | None) -> None:
    import json

    from snnc.analysis.artefacts import evaluate_artefact
    from snnc.analysis.early_exit import check_confidence
    from snnc.analysis.neurobench import results
    from snnc.artefact import load
    from snnc.backends import load_simulator
    from snnc.cli.artefacts import chosen_timesteps, exits_of, warn_of_rows
    from snnc.cli.files import check_outputs
    from snnc.cli.host import told_of
    from snnc.cli.models import locate_source, open_source, zoo_entry
    from snnc.errors import UsageError
    from snnc.writing import replacing

    if request.preprocess is not None:
        raise UsageError("an artefact stores its preprocessing: leave out --preprocess, or convert again")
    if request.against not in (None, "source"):
        refuse("applies to `--against source`, but --against gives the network itself", "--source")
    taken = ("--shape", "--fix", "--keep-output")
    refuse("is for a MODEL: an artefact remembers what was taken of its source", *taken)
    if request.neurobench is None:
        refuse("needs --neurobench", "--force")
    else:
        check_outputs(request.neurobench, others=(path, request.data), force=request.force)
    artefact = load(path).with_rows_layout(request.rows_layout)
    if request.exit_confidence is not None:
        check_confidence(request.exit_confidence)
    simulator = load_simulator(request.backend, request.threads)
    steps = chosen_timesteps(terminal, artefact, request.timesteps)
    names = (list(artefact.takes), list(artefact.gives))
    entry = zoo_entry(artefact.metadata.source_sha256)
    x, y = _rows(request, entry, artefact.check_rows, *names, artefact.preprocessing, is_fixed=True)
    warn_of_rows(terminal, artefact, x, simulator)
    _warn_of_overlap(terminal, artefact, x)
    source = located = None
    if request.against is not None or request.source is not None:
        given = request.source if request.against in (None, "source") else request.against
        located = locate_source(artefact.metadata, path, given)
        source = open_source(
            terminal,
            located,
            artefact.preprocessing,
            request.threads,
            artefact.selection,
            accumulated=artefact.accumulates,
        )
        if workers is not None and artefact.accumulates:
            raise UsageError("workers do not add up frames for the source: leave out --against, or --cluster")
    parts = None
    if workers is not None:
        beside = None if source is None else located
        parts = _parts_on(workers, artefact, path, beside, x, steps, request, terminal.progress())
    found = evaluate_artefact(
        artefact,
        x,
        y,
        simulator=simulator,
        # The ONNX model gives answers, but no look inside.
        counter=load_simulator("numba", request.threads) if simulator.name == "onnx" else None,
        timesteps=steps,
        source=source,
        task=task_of(request.task),
        metrics=request.metric,
        progress=terminal.progress(),
        parts=parts,
    )
    exits = None
    if request.exit_confidence is not None:
        recorder = load_simulator("numba", request.threads)  # the ONNX model gives no spikes
        exits = exits_of(
            artefact,
            x,
            request.exit_confidence,
            recorder,
            timesteps=steps,
            labels=y,
            task=task_of(request.task),
        )
    if request.neurobench is not None:
        text = json.dumps(results(found, artefact.graph), indent=4) + "\n"
        with replacing(request.neurobench) as file:
            file.write(text.encode())
    if terminal.json:
        early = {} if exits is None else {"early_exit": exits.as_dict()}
        terminal.data({**found.as_dict(), "host": told_of(artefact, steps), **early})
    else:
        show(terminal, found, labelled=y is not None)
        if exits is not None:
            terminal.table(("answers when sure", f"from {exits.confidence:g} on"), when_sure(exits))
        if artefact.host is not None:
            terminal.text(f"{artefact.host.line}: {artefact.host.host_macs:,} run there once per image.")
            if artefact.host.islands:
                terminal.text(f"{artefact.host.latency[0].upper()}{artefact.host.latency[1:]}.")


def _parts_on(
    workers: Workers,
    artefact: Artefact,
    path: Path,
    located: Located | None,
    x: Rows,
    steps: int,
    request: Request,
    progress: Progress,
) -> Parts:
    """Return what evaluates an artefact, and its source where that is located, on workers."""
    from snnc.remote.evaluation import Subject, parts_on
    from snnc.remote.files import shared_files, told_of_source

    source = None
    if located is not None:
        told = told_of_source(located.name, artefact.preprocessing, artefact.selection)
        source = (shared_files(located.path), told)
    subject = Subject(shared_files(path), steps, request.backend, request.rows_layout, source)
    name = "the rows" if request.data is None else str(request.data)
    return parts_on(workers, subject, x, request.data, progress, name)


def _evaluate_model(terminal: Terminal, located: Located, request: Request, workers: Workers | None) -> None:
    from snnc.analysis.evaluation import evaluate_ann
    from snnc.cli.models import open_source
    from snnc.data.material import preprocessing_beside
    from snnc.data.preprocessing import Preprocessing
    from snnc.remote.evaluation import answers_on
    from snnc.remote.files import shared_files, told_of_source
    from snnc.source.selection import Selection

    refuse(
        f"is for artefacts, and {located.name} is none: convert it first",
        "--timesteps",
        "--backend",
        "--against",
        "--source",
        "--neurobench",
        "--force",
        "--exit-confidence",
    )
    preprocessing = None
    if request.preprocess is not None:
        preprocessing = Preprocessing.read(request.preprocess)
    elif located.entry is not None and request.data is None:
        preprocessing = Preprocessing.from_dict(located.entry.preprocessing)
    if request.data is not None:
        preprocessing = preprocessing_beside(request.data, preprocessing)
    preprocessing = with_layout(preprocessing, request.rows_layout)
    selection = Selection.parse(request.shape, request.keep_output, request.fix)
    source = open_source(terminal, located, preprocessing, request.threads, selection)
    names = (list(source.session.inputs), list(source.session.outputs))
    x, y = _rows(request, located.entry, source.check_rows, *names, preprocessing)
    answered = None
    if workers is not None:
        files = shared_files(located.path), told_of_source(located.name, preprocessing, selection)
        answered = answers_on(workers, files, x, request.data, terminal.progress())
    found = evaluate_ann(
        source,
        x,
        y,
        terminal.progress(),
        task=task_of(request.task),
        metrics=request.metric,
        answered=answered,
    )
    if terminal.json:
        each = {name: scores.as_dict() for name, scores in found.items()}
        shown = {"outputs": each} if len(found) > 1 else next(iter(each.values()))
        terminal.data({**shown, "macs": source.macs, "timesteps": None, "backend": "onnxruntime"})
        return
    show_source(terminal, found, len(x), source.macs, labelled=y is not None)


def _rows(
    request: Request,
    entry: Any,
    check: Callable[[Rows, str], object],
    inputs: Sequence[str],
    outputs: Sequence[str],
    preprocessing: Preprocessing | None,
    *,
    is_fixed: bool = False,
) -> tuple[Rows, Labels]:
    from snnc.cli.files import part_of, read_named
    from snnc.errors import UsageError
    from snnc.models import test_data

    if request.data is not None:
        found = read_named(
            request.data, inputs, outputs, preprocessing, limit=request.limit, is_fixed=is_fixed
        )
        x, y = found.x, found.y
        check(x, found.name)
    elif entry is not None:
        x, y = test_data(entry)
    else:
        raise UsageError("no rows to evaluate on: name them by --data ROWS, with `x` and `y`")
    return x[: request.limit], part_of(y, slice(request.limit))


def _warn_of_overlap(terminal: Terminal, artefact: Artefact, x: Rows) -> None:
    from snnc.analysis.artefacts import calibrated_on

    found = calibrated_on(artefact, x)
    if found is not None:
        terminal.warn(found)
