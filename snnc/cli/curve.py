"""Accuracy against T, as ``snnc report`` measures it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from snnc.cli.given import given
from snnc.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from snnc.analysis.evaluation import Share
    from snnc.artefact import Artefact
    from snnc.cli.subjects import Subject
    from snnc.ir.graph import IntArray, NumberArray
    from snnc.metrics import Measured
    from snnc.report.curve import Curve, Judge
    from snnc.report.measurement import Measurement


CURVE_ROWS = 500
"""Rows on which accuracy against T is measured."""


@dataclass(frozen=True, slots=True)
class Request:
    """The options of the verb."""

    output: Path | None
    json_file: Path | None
    data: Path | None
    source: str | None
    timesteps: int | None
    limit: int | None
    curve: str
    reconvert: bool
    calibration: Path | None
    cost_model: str
    rows_layout: str | None
    threads: int | None
    force: bool
    task: str | None
    cluster: str | None = None
    pictures: bool = False
    row: int = 0
    classes: str | None = None


def curve_timesteps(text: str) -> tuple[int, ...]:
    """Read the option ``--curve``, time steps or none.

    Raises:
        UsageError: it is neither.
    """
    from snnc.errors import UsageError

    if text.strip() == "none":
        return ()
    try:
        found = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise UsageError(f"--curve {text!r}: write time steps such as 1,2,4,8, or none") from None
    if found[0] < 1:
        raise UsageError(f"--curve {text!r}: T must be at least 1")
    return found


def measured_curve(
    terminal: Terminal, found: Subject, measurement: Measurement, wanted: tuple[int, ...], request: Request
) -> Curve:
    """Return the accuracy for each T that was wanted, on the first rows."""
    from snnc.metrics.ending import computes_end
    from snnc.report.curve import accuracy_curve

    graph = found.artefact.graph
    proved = graph.max_timesteps
    if graph.only_timesteps and (others := [str(T) for T in wanted if graph.timesteps != T]):
        if given("--curve"):
            left = ", ".join(others)
            terminal.warn(
                f"the curve leaves out T = {left}: step functions hold for T = {graph.timesteps} alone"
            )
    elif proved and (beyond := [str(T) for T in wanted if proved < T]):
        terminal.warn(f"the curve leaves out T = {', '.join(beyond)}: integers are proved up to T = {proved}")
    rows = min(len(found.x), CURVE_ROWS)
    judged = _of_classes if measurement.tells_classes else _of_numbers
    name, ends = measurement.name, measurement.ends
    behind = found.artefact.finish is not None or computes_end(graph, name, ends)
    judge, labelled, ann = judged(measurement, rows, is_finished=behind)
    known = {}
    if measurement.tells_classes:
        known[measurement.timesteps] = _right(measurement.snn.classes[:rows], _targets(measurement, rows))
    return accuracy_curve(
        found.artefact,
        found.x[:rows],
        judge,
        output=measurement.name,
        labelled=labelled,
        ann=ann,
        timesteps=(*wanted, measurement.timesteps),
        simulator=found.simulator,
        known=known,
        convert=_converter(found, request) if request.reconvert else None,
        progress=terminal.progress(),
    )


Judged: TypeAlias = "tuple[Judge, bool, Share | Measured | None]"
"""What judges answers, whether by labels, and what the source network reaches by them."""


def _targets(measurement: Measurement, rows: int) -> IntArray:
    """Return the labels of classes, or where there are none, the source network's answers."""
    labels = measurement.outputs.classes
    return (measurement.ann.scores.classes if labels is None else labels)[:rows]


def _right(classes: IntArray, targets: IntArray) -> Share:
    from snnc.analysis.evaluation import Share

    return Share(int((classes == targets).sum()), len(targets))


def _of_classes(measurement: Measurement, rows: int, *, is_finished: bool) -> Judged:
    from snnc.metrics import decisions, threshold_of

    targets, labelled = _targets(measurement, rows), measurement.outputs.classes is not None
    threshold = threshold_of(measurement.ends) if is_finished else 0.0
    ann = _right(measurement.ann.scores.classes[:rows], targets) if labelled else None
    return lambda answers: _right(decisions(answers, threshold), targets), labelled, ann


def _of_numbers(measurement: Measurement, rows: int, *, is_finished: bool) -> Judged:
    from snnc.errors import InternalError
    from snnc.metrics import Case, Task, finished, measure

    case = measurement.case
    if case is None or case.source is None:
        raise InternalError("numbers were measured, and not kept")
    source, ends = case.source[:rows], "" if is_finished else measurement.ends
    labels = None if case.labels is None else case.labels[:rows]

    def judge(answers: NumberArray) -> Measured:
        told = finished(answers.astype("float64"), ends)
        return measure("r2", Case(told, Task.REGRESSION, source, labels))

    ann = None if labels is None else measure("r2", Case(source, Task.REGRESSION, None, labels))
    return judge, labels is not None, ann


def _converter(found: Subject, request: Request) -> Callable[[int], Artefact]:
    """Return what converts the source again, in the same way, for another T."""
    from snnc.arguments import shape_texts, value_texts
    from snnc.cli.files import read_named
    from snnc.cli.models import zoo_entry
    from snnc.compiler import Options, convert
    from snnc.errors import UsageError
    from snnc.models import calibration_data

    metadata = found.artefact.metadata
    if any(record.get("pass") == "tune" for record in metadata.records):
        raise UsageError(
            "--reconvert would lose what was learned: tune for other steps by `snnc tune -T`, and compare"
        )
    entry = zoo_entry(metadata.source_sha256)
    if request.calibration is not None:
        names = list(found.artefact.takes)
        rows = read_named(request.calibration, names, (), found.artefact.preprocessing, is_fixed=True).x
    elif entry is not None:
        rows = calibration_data(entry)[0]
    else:
        raise UsageError("--reconvert needs calibration rows: name them by --calib ROWS")
    preprocessing, selection = found.artefact.preprocessing, found.artefact.selection

    def made(timesteps: int) -> Artefact:
        options = Options(
            timesteps=timesteps,
            pipeline=metadata.pipeline,
            precision="int8" if found.artefact.graph.integer else "float32",
            seed=int(metadata.calibration.get("seed", 0)),
            task=found.told_task(None),
            threads=request.threads,
            shape=shape_texts(selection.shapes),
            fix=value_texts(selection.values),
            keep_output=selection.outputs,
            host="none" if found.artefact.host is None else found.artefact.host.mode,
        )
        return convert(found.located.path, rows, options, preprocessing=preprocessing).artefact

    return made
