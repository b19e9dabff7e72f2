"""Options and words that all verbs share that judge answers: tasks, metrics and limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from snnc.cli.options import option_of

if TYPE_CHECKING:
    from pathlib import Path

    from snnc.artefact import Artefact, Metadata
    from snnc.ir.graph import NumberArray
    from snnc.metrics import Floor, Measured, Outputs, Task

task_option = option_of("task")
min_metric_option = option_of("min_metric")


def task_of(name: str | None, metadata: Metadata | None = None) -> Task | None:
    """Return the task that the user names, or else the one that an artefact remembers."""
    from snnc.metrics import Task

    if name is not None:
        return Task(name)
    return None if metadata is None else metadata.stored_task


def floors(texts: Sequence[str]) -> tuple[Floor, ...]:
    """Read ``--min-metric``.

    Raises:
        UsageError: see :func:`snnc.metrics.floor`; or a metric is limited twice.
    """
    from snnc.metrics import floor
    from snnc.pass_options import once

    found = (floor(text) for text in texts)
    return tuple(once(((limit.metric, limit) for limit in found), "--min-metric").values())


def require_points(outputs: Outputs) -> None:
    """Refuse ``--max-drop`` where there are no classes to count points of.

    Raises:
        UsageError: outputs are numbers, or it is not evident what they are.
    """
    from snnc.errors import UsageError
    from snnc.metrics import Task

    if outputs.require("--max-drop") is Task.REGRESSION:
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


def require_floors(limits: Sequence[Floor], outputs: Outputs) -> None:
    """Refuse limits that cannot be measured, before the work begins; the source network is at hand.

    Raises:
        UsageError: one does not fit the outputs, what it is held to is missing, or it is not evident whether
            there are classes.
    """
    import numpy as np

    from snnc.metrics import METRICS, Case
    from snnc.metrics.catalogue import reference_of

    nothing = np.zeros((0, outputs.size))
    labels = None if outputs.labels is None else outputs.labels[:0]
    case = Case(nothing, outputs.task, nothing, labels)
    for limit in limits:
        if METRICS[limit.metric].decides:
            outputs.require(f"--min-metric {limit}")
        reference_of(limit.metric, case)


def missed(limits: Sequence[Floor], found: Sequence[Measured]) -> list[str]:
    """Return in words which limits are missed."""
    by_name = {each.metric: each for each in found}
    return [
        f"{limit.metric} is {by_name[limit.metric]} against the {by_name[limit.metric].against}, less than "
        f"--min-metric {limit}"
        for limit in limits
        if not limit.kept(by_name[limit.metric])
    ]


def outputs_of_model(path: Path, rows: int, labels: NumberArray | None, given: Task | None) -> Outputs:
    """Return what the outputs of an ONNX network are.

    Args:
        path: of the network.
        rows: how many there are.
        labels: of the rows, if known.
        given: what the user says.

    Raises:
        InputError: labels do not fit.
        UsageError: the outputs cannot be what the user says.
    """
    from math import prod

    import onnx

    from snnc.frontend import read_onnx
    from snnc.frontend.dividing import HostMode
    from snnc.metrics import recognise
    from snnc.metrics.ending import final_activation

    source = read_onnx(path, HostMode.EDGES)
    if source.host is None:
        size = prod(source.graph[source.graph.output].shape)
        return recognise(size, rows=rows, labels=labels, ends=source.ends, given=given)
    size = sum(prod(port.shape) for port in source.host.outputs)
    ends = final_activation(onnx.load_model(path, load_external_data=False))
    return recognise(size, rows=rows, labels=labels, ends=ends, given=given)


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
    from math import prod

    import onnx

    from snnc.ir.snn import Readout
    from snnc.metrics import recognise
    from snnc.metrics.ending import final_activation

    if artefact.finish is not None:
        size = artefact.finish.size
    else:
        (readout,) = artefact.graph.of_type(Readout)
        size = prod(readout.shape)
    ends = artefact.metadata.ends
    if source is not None and not ends:
        ends = final_activation(onnx.load_model(source, load_external_data=False))
    stored = artefact.metadata.stored_task
    return recognise(size, rows=rows, labels=labels, ends=ends, given=given, stored=stored)


def metric_lines(found: Sequence[Measured]) -> list[tuple[str, str]]:
    """Return name and value of metrics, for a table."""
    return [(f"{each.metric} against the {each.against}", str(each)) for each in found]
