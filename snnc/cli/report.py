"""``snnc report``: the loss of accuracy by layer and cause, as a page, as JSON and on the terminal."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.artefacts import ArtefactPath
from snnc.cli.class_names import class_names, classes_option
from snnc.cli.cluster import cluster_option, refuse_threads, workers_if
from snnc.cli.curve import CURVE_ROWS, Request, curve_timesteps, measured_curve
from snnc.cli.given import refuse
from snnc.cli.judging import task_of, task_option
from snnc.cli.layouts import rows_layout
from snnc.cli.run_options import data_option, limit_option, source_option, threads_option, timesteps_option
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from snnc.cli.subjects import Subject
    from snnc.ir.batch import Rows
    from snnc.report.document import Report
    from snnc.report.energy import CostModel
    from snnc.report.measurement import Answered
    from snnc.report.measuring import Elsewhere
    from snnc.scale.workers import Workers
    from snnc.simulation.protocol import Simulator


@click.command("report", cls=Verb)
@click.argument("artefact", type=ArtefactPath(), metavar="ARTEFACT")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="REPORT.html", help="Write the page."
)
@click.option(
    "--json-file", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures as JSON."
)
@data_option()
@source_option
@timesteps_option
@limit_option
@click.option(
    "--curve",
    default="1,2,4,8,16",
    show_default=True,
    metavar="T,T,...",
    help=f"Accuracy at these T, on at most {CURVE_ROWS} rows; `none` leaves it out.",
)
@click.option(
    "--reconvert", is_flag=True, help="Draw a second curve, converted again for each T. Takes long."
)
@click.option(
    "--calib",
    "calibration",
    type=click.Path(path_type=Path),
    metavar="ROWS",
    help="Calibration rows for --reconvert; for a network of the zoo, its own by default.",
)
@click.option(
    "--cost-model",
    default="45nm",
    show_default=True,
    metavar="NAME|FILE.toml",
    help="Cost model of the energy: 45nm, loihi, or a file.",
)
@click.option(
    "--pictures",
    is_flag=True,
    help="Add pictures of spikes to the page: one row walked through the network, and counts of all rows.",
)
@click.option(
    "--row",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="With --pictures: which row is walked through the network.",
)
@classes_option
@rows_layout
@threads_option
@click.option("--force", is_flag=True, help="Replace existing files.")
@task_option
@cluster_option
@click.pass_obj
def command(terminal: Terminal, /, artefact: Path, **options: Any) -> None:
    """Measure the error of every layer, split it into its causes, and suggest what to try.

    Without -o and --json-file, the terminal shows the verdict and the layers.
    """
    from snnc.cli.artefacts import chosen_timesteps
    from snnc.cli.subjects import subject
    from snnc.report.making import make_report

    request = Request(**options)
    refuse_threads(request.cluster)
    _check(artefact, request)
    model = _cost_model(request.cost_model)
    wanted = curve_timesteps(request.curve)
    if not request.reconvert:
        refuse("needs --reconvert", "--calib")
    if not request.pictures:
        refuse("needs --pictures", "--row")
    elif request.output is None:
        refuse("adds to the page: give -o", "--pictures")
    names = class_names(request.classes)
    if not wanted:
        refuse("adds to the curve, which --curve none leaves out", "--reconvert")
    found = subject(
        terminal,
        artefact,
        data=request.data,
        source=request.source,
        limit=request.limit,
        threads=request.threads,
        task=task_of(request.task),
        rows_layout=request.rows_layout,
        several=True,
    )
    steps = chosen_timesteps(terminal, found.artefact, request.timesteps)
    with workers_if(terminal, request.cluster) as workers:
        spread = found if workers is None else replace(found, simulator=_spread(workers, found))
        report = make_report(
            found.artefact,
            found.source,
            found.x,
            found.y,
            simulator=found.simulator,
            reproduce=_reproduce(found, request, steps),
            task=found.told_task(task_of(request.task)),
            timesteps=steps,
            threads=request.threads,
            cost_model=model,
            curve=lambda each: measured_curve(terminal, spread, each, wanted, request) if wanted else None,
            progress=terminal.progress(),
            elsewhere=None if workers is None else _elsewhere(workers, found, request),
            classes=names,
            picture_row=request.row if request.pictures else None,
        )
    _write(report, request)
    _show(terminal, report, request)


def _spread(workers: Workers, found: Subject) -> Simulator:
    """Return what runs many rows on workers."""
    from snnc.simulation.remote import WorkersSimulator

    return WorkersSimulator(found.simulator, workers)


def _elsewhere(workers: Workers, found: Subject, request: Request) -> Elsewhere:
    """Return what sums up the chunks of a report on workers."""
    from snnc.remote.measuring import Reported, chunks_on

    reported = Reported(found.path, found.located.path, request.rows_layout, found.x, request.data)
    return chunks_on(workers, reported)


def _check(artefact: Path, request: Request) -> None:
    """Refuse what could not be written, before the work begins."""
    from snnc.cli.files import check_outputs

    named = [Path(name) for name in (request.source, request.cost_model) if name is not None]
    others = (artefact, request.data, request.calibration, *named)
    check_outputs(request.output, request.json_file, others=others, force=request.force)
    if request.output is not None:
        _page()


def _page() -> Callable[[Report], str]:
    from snnc.report.making import page

    return page()


def _cost_model(name: str) -> CostModel:
    from snnc.errors import UsageError
    from snnc.report.energy import MODELS, read_model

    if name in MODELS:
        return MODELS[name]
    if name.endswith(".toml"):
        return read_model(Path(name))
    raise UsageError(f"unknown cost model {name!r}: known are {', '.join(MODELS)}, or give a .toml file")


def _reproduce(found: Subject, request: Request, steps: int) -> dict[str, str]:
    from snnc import __version__

    metadata = found.artefact.metadata
    seen = metadata.calibration
    words = ["snnc", "report", str(found.path)]
    if request.data is not None:
        words += ["--data", str(request.data)]
    if request.source is not None:
        words += ["--source", request.source]
    if request.limit is not None:
        words += ["--limit", str(request.limit)]
    if request.rows_layout is not None:
        words += ["--rows-layout", request.rows_layout]
    if request.timesteps is not None:
        words += ["--timesteps", str(steps)]
    if request.cost_model != "45nm":
        words += ["--cost-model", request.cost_model]
    if request.reconvert:
        words.append("--reconvert")
    if request.calibration is not None:
        words += ["--calib", str(request.calibration)]
    if request.pictures:
        words += ["--pictures", "--row", str(request.row)]
    if request.classes is not None:
        words += ["--classes", request.classes]
    words += ["--curve", request.curve, "-o", "REPORT.html"]
    return {
        "command": shlex.join(words),
        "made by": f"snnc {__version__}; the artefact by snnc {metadata.snnc_version}",
        "artefact, SHA-256": hashlib.sha256(found.path.read_bytes()).hexdigest(),
        "source": metadata.source_path,
        "source, SHA-256": metadata.source_sha256,
        "rows": f"{len(found.x)}: {found.data}",
        "rows, SHA-256": _sha256(found.x),
        "calibration": f"{seen.get('rows', 'unknown')} rows, SHA-256 {seen.get('sha256', 'unknown')}",
        "seed": str(seen.get("seed", "unknown")),
        "pipeline": metadata.pipeline,
    }


def _sha256(x: Rows) -> str:
    """Return the hash of all rows, input by input."""
    from snnc.ir.batch import Batch

    arrays = x.arrays.values() if isinstance(x, Batch) else (x,)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def _write(report: Report, request: Request) -> None:
    from snnc.writing import replacing

    texts = []
    if request.output is not None:
        texts.append((request.output, _page()(report)))
    if request.json_file is not None:
        texts.append((request.json_file, report.json()))
    for path, text in texts:
        with replacing(path) as file:
            file.write(text.encode())


def _show(terminal: Terminal, report: Report, request: Request) -> None:
    if terminal.json:
        terminal.data(report.as_dict())
        return
    from snnc.report.terms import TERMS

    found = report.measurement
    rows = []
    for layer in found.layers:
        firing = layer.firing
        rows.append(
            (
                layer.name,
                *(f"{100 * layer.local.of(term):z.2f}" for term in TERMS),
                f"{100 * layer.local.total:.2f}",
                f"{100 * layer.cumulative.total:.2f}",
                "" if firing is None else f"{firing.rate:.3f}",
            )
        )
    if request.output is None and request.json_file is None:
        terminal.table(("squared error, %", *TERMS, "total", "running", "spikes"), rows)
        terminal.text("")
        targets = [(fit.target, ", ".join(fit.profiles), fit.answer, fit.reason) for fit in report.targets]
        terminal.table(("target", "profiles", "fits", "because"), targets)
        terminal.text("")
    terminal.text("\n".join(_summary(report)))
    for path in (request.output, request.json_file):
        if path is not None:
            terminal.done(f"wrote {path} ({path.stat().st_size / 1e3:,.0f} kB)")


def _summary(report: Report) -> list[str]:
    from snnc.report.energy import microjoules

    found, first = report.measurement, report.verdict.first
    lines = []
    for each in found.each:
        output = f"{each.name}: " if found.several else ""
        lines += [output + line for line in _answers(each, f"at T = {found.timesteps}")]
    if found.several:
        lines.append(f"{found.name} loses most; what follows is of it.")
    energy = report.energy
    snn, fair, fp32 = (f"{microjoules(x)} µJ" for x in (energy.snn_pj, energy.fair_pj, energy.fp32_pj))
    cost = (
        f"Energy by the model {energy.model.name}: {snn} per image; the fair baseline "
        f"(int{energy.fair.activation_bits}, zeros skipped) {fair}, the fp32 ANN {fp32}."
    )
    cure = f"Cause: {first.cause.value}. Try: {first.option}"
    return [*lines, report.verdict.text, cure, cost]


def _answers(found: Answered, steps: str) -> list[str]:
    """Return what both networks answer at an output, in words."""
    from snnc.report.document import several

    agreement = found.ann.agreement
    if found.snn.top1 is not None and found.ann.scores.top1 is not None:
        ours, ann = found.snn.top1, found.ann.scores.top1
        low, high = ours.interval
        accuracy = f"SNN {ours.value:.1%} [{low:.1%}, {high:.1%}], ANN {ann.value:.1%}"
        return [f"{accuracy} on {several(ours.n, 'row')} {steps}."]
    if found.tells_classes and agreement is not None:
        lines = [f"Both networks agree on {agreement.value:.1%} of {several(agreement.n, 'row')}."]
    else:
        told = ", ".join(f"{each.metric} {each}" for each in found.snn.measured)
        lines = [f"On {several(found.snn.n, 'row')} {steps}: {told}."]
    if found.outputs.task is None:
        lines.append("It is not known whether the outputs are classes or numbers: give --task.")
    return lines
