"""Options and words that all verbs share that judge answers: tasks, metrics and limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from snnc.cli.options import option_of

if TYPE_CHECKING:
    from pathlib import Path

    from snnc.artefact import Artefact, Metadata
    from snnc.frontend import SourceModel
    from snnc.ir.graph import NumberArray
    from snnc.metrics import Floor, Measured, Outputs, Task
    from snnc.metrics.outputs import Labels

task_option = option_of("task")
min_metric_option = option_of("min_metric")


def task_of(name: str | None, metadata: Metadata | None = None) -> Task | None:
    """Return the task that the user names, or else the one that an artefact remembers."""
    from snnc.metrics import Task

    if name is not None:
        return Task(name)
    return None if metadata is None else metadata.stored_task


def tasks_of_artefact(name: str | None, artefact: Artefact) -> Task | dict[str, Task | None] | None:
    """Return the task that the user names, or else those of the outputs that an artefact remembers."""
    from snnc.analysis.artefacts import stored_tasks
    from snnc.metrics import Task

    return stored_tasks(artefact) if name is None else Task(name)


def floors(texts: Sequence[str]) -> tuple[Floor, ...]:
    """Read ``--min-metric``.

    Raises:
        UsageError: see :func:`snnc.metrics.floor`; or a metric is limited twice.
    """
    from snnc.metrics import floor
    from snnc.pass_options import once

    found = (floor(text) for text in texts)
    return tuple(once(((limit.asked, limit) for limit in found), "--min-metric").values())


def require_points(outputs: Mapping[str, Outputs]) -> None:
    """Refuse ``--max-drop`` where there are no classes to count points of; of several outputs one has to.

    Raises:
        UsageError: all outputs are numbers, or it is not evident what they are.
    """
    from snnc.errors import UsageError
    from snnc.metrics import Task

    if len(outputs) > 1 and any(each.task in (Task.CLASSES, Task.BINARY) for each in outputs.values()):
        return
    first = next(iter(outputs.values()))
    if first.require("--max-drop") is Task.REGRESSION:
        raise UsageError(
            "--max-drop limits the loss of accuracy, but the outputs are numbers: use --min-metric r2=0.99"
        )


SERIOUS = 50.0
"""Points from which on a limit lets everything pass and is meant to."""


def require_right(right: float, limit: float, whose: str, rows: str) -> None:
    """Refuse ``--max-drop`` where no more is right before than may be lost: it could not be missed.

    Args:
        right: share of right answers before the conversion, 0 to 1.
        limit: points that may be lost.
        whose: the network that gave them.
        rows: those that it was asked about.

    Raises:
        InputError: nothing can be lost.
    """
    from snnc.errors import InputError

    if right == 0 or 100 * right <= limit < SERIOUS:
        raise InputError(
            f"{whose} is right on {right:.2%} of {rows}, so nothing can miss --max-drop {limit:g}: check "
            "`y`, the rows and their preprocessing"
        )


def require_floors(limits: Sequence[Floor], outputs: Mapping[str, Outputs]) -> None:
    """Refuse limits that cannot be measured, before the work begins; the source network is at hand.

    Raises:
        UsageError: one does not fit the outputs, what it is held to is missing, or it is not evident whether
            there are classes.
    """
    from snnc.metrics import METRICS
    from snnc.metrics.outputs import asked_of

    for limit in limits:
        decides = METRICS[limit.metric].decides
        if decides and len(outputs) == 1:
            next(iter(outputs.values())).require(f"--min-metric {limit}")
        for name in asked_of(limit.asked, outputs, has_source=True):
            if decides:
                outputs[name].require(f"--min-metric {limit}")


def limited(
    limits: Sequence[Floor], found: Mapping[str, Sequence[Measured]]
) -> list[tuple[Floor, str, Measured]]:
    """Return what was measured of each limit: of every output that it is asked of.

    Args:
        limits: on metrics.
        found: the metrics of each output, by its name.
    """
    return [
        (limit, name, each)
        for limit in limits
        for name, measured in found.items()
        if limit.output in ("", name)
        for each in measured
        if each.metric == limit.metric
    ]


def missed(limits: Sequence[Floor], found: Mapping[str, Sequence[Measured]]) -> list[str]:
    """Return in words which limits are missed."""
    return [
        f"{limit.metric}{f' of {name!r}' if len(found) > 1 else ''} is {each} against the {each.against}, "
        f"less than --min-metric {limit}"
        for limit, name, each in limited(limits, found)
        if not limit.kept(each)
    ]


def outputs_of_model(
    source: SourceModel, rows: int, labels: Labels, given: Task | None
) -> dict[str, Outputs]:
    """Return what each output of an ONNX network is, by its name.

    Args:
        source: the network.
        rows: how many there are.
        labels: of the rows, if known.
        given: what the user says.

    Raises:
        InputError: labels do not fit.
        UsageError: the outputs cannot be what the user says.
    """
    from snnc.metrics.outputs import recognise_outputs

    return recognise_outputs(source.gives, rows=rows, labels=labels, ends=source.activations, given=given)


def outputs_of_artefact(
    artefact: Artefact, source: Path | None, rows: int, labels: NumberArray | None, given: Task | None
) -> Outputs:
    """Return what the outputs of an artefact are.

    Args:
        artefact: the spiking network.
        source: the file of its source, which old artefacts do not remember the end of; ``None`` if unknown.
        rows: how many there are.
        labels: of the rows, if known.
        given: what the user says.

    Raises:
        InputError: labels do not fit.
        UsageError: the outputs cannot be what the user says.
    """
    import onnx

    from snnc.metrics.ending import final_activation
    from snnc.metrics.outputs import recognise_output

    (shape,) = artefact.gives.values()
    ends = artefact.metadata.ends
    if source is not None and not ends:
        ends = final_activation(onnx.load_model(source, load_external_data=False))
    stored = artefact.metadata.stored_task
    return recognise_output("", shape, rows=rows, labels=labels, ends=ends, given=given, stored=stored)


def metric_lines(found: Sequence[Measured]) -> list[tuple[str, str]]:
    """Return name and value of metrics, for a table."""
    return [(f"{each.metric} against the {each.against}", str(each)) for each in found]
