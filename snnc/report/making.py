"""A report of a conversion, made from the artefact, its source, and rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from snnc.artefact import Artefact
from snnc.errors import UsageError
from snnc.ir.ann import AnnGraph
from snnc.ir.batch import Rows
from snnc.metrics.outputs import Labels
from snnc.metrics.task import Task
from snnc.progress import Progress, Silent
from snnc.report.class_names import classes_of, known_classes
from snnc.report.curve import Curve
from snnc.report.document import Report
from snnc.report.energy import MODELS, CostModel, account
from snnc.report.measurement import Measurement
from snnc.report.measuring import Elsewhere, measure
from snnc.report.pictures import check_row, pictured
from snnc.report.targets import fits
from snnc.report.verdict import judge
from snnc.simulation.protocol import Simulator
from snnc.writing import replacing


def make_report(
    artefact: Artefact,
    source: AnnGraph,
    x: Rows,
    y: Labels,
    *,
    simulator: Simulator,
    reproduce: Mapping[str, str],
    task: Task | str | None = None,
    timesteps: int | None = None,
    threads: int | None = None,
    cost_model: CostModel = MODELS["45nm"],
    curve: Callable[[Measurement], Curve | None] = lambda measurement: None,
    progress: Progress | None = None,
    elsewhere: Elsewhere | None = None,
    classes: Sequence[str] = (),
    picture_row: int | None = None,
) -> Report:
    """Measure a conversion and judge it.

    Args:
        artefact: the spiking network.
        source: the network that was lowered; see :func:`snnc.report.origin.prepared_source`.
        x: (n, ...) rows as the artefact takes them; of several inputs a batch of them.
        y: (n, ...) labels, or ``None``; of several outputs by their names.
        simulator: what runs the spiking network.
        reproduce: how to make the report again.
        task: what the user says of the outputs.
        timesteps: T; the calibrated value by default.
        threads: used by the source network.
        cost_model: of the energy.
        curve: measures accuracy against T; by default there is none.
        progress: where to show how far it is.
        elsewhere: sums up all chunks somewhere else; see :mod:`snnc.remote.measuring`.
        classes: names of the classes; those that are known by default.
        picture_row: the row that pictures of spikes walk through the network; ``None`` for no pictures.

    Raises:
        InputError: rows or labels do not fit, or there is no such row.
        UsageError: other than as many names as classes are given, or pictures need what is not installed.
        NonFiniteError: a network answers with NaN or infinity.
    """
    graph, metadata = artefact.graph, artefact.metadata
    steps = graph.timesteps if timesteps is None else timesteps
    if picture_row is not None:
        check_row(picture_row, len(x))
    names = _names(artefact, classes)
    found = measure(
        artefact,
        source,
        x,
        y,
        simulator=simulator,
        task=task,
        timesteps=steps,
        threads=threads,
        progress=progress,
        elsewhere=elsewhere,
    )
    macs = sum(found.ann_macs.values())
    return Report(
        artefact=artefact,
        measurement=found,
        verdict=judge(found, graph.timesteps, metadata.pipeline, metadata.preset),
        energy=account(graph, found.costs, macs, found.nonzero, steps, cost_model, artefact.input_segments),
        curve=curve(found),
        targets=fits(graph, artefact.host),
        reproduce=reproduce,
        classes=names,
        pictures=None
        if picture_row is None
        else pictured(
            artefact,
            x,
            y,
            picture_row,
            names,
            simulator=simulator,
            timesteps=steps,
            progress=progress or Silent(),
        ),
    )


def _names(artefact: Artefact, given: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the classes; none where the network does not answer with one vector of classes."""
    shapes = tuple(artefact.gives.values())
    if len(shapes) != 1 or len(shapes[0]) != 1:
        if given:
            raise UsageError(
                f"class names are for one vector of classes, which {artefact.graph.name} does not give"
            )
        return ()
    outputs = shapes[0][0]
    return classes_of(artefact, given, outputs) if given else known_classes(artefact, outputs)


def write_report(report: Report, path: Path) -> None:
    """Write the page of a report, or its figures where the name ends with ``.json``; it replaces what exists.

    Raises:
        UsageError: what the page needs is not installed.
        InputError: the file cannot be written.
    """
    text = report.json() if path.suffix == ".json" else page()(report)
    with replacing(path) as file:
        file.write(text.encode())


def page() -> Callable[[Report], str]:
    """Return what makes the page of a report.

    Raises:
        UsageError: what it needs is not installed.
    """
    try:
        from snnc.report.page import html
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("jinja2", "markupsafe", "matplotlib"):
            raise
        raise UsageError(
            f"the page needs {error.name}, which is not installed: pip install jinja2 matplotlib "
            "(--json-file works without)"
        ) from None
    return html
