"""The loss of a conversion, as one number that suits its kind of outputs, with its 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc.ir.graph import IntArray, NumberArray
from snnc.metrics.catalogue import Case, measure
from snnc.metrics.shares import Paired, Share
from snnc.metrics.task import Task

ACCURACY = "accuracy lost"
ANSWERS = "answers that differ from the source's"
VARIANCE = "variance of the source's answers that is missed (1 - R2)"
POWER = "power of the source's answers that is missed (inverse of the SQNR)"


@dataclass(frozen=True, slots=True)
class Loss:
    """What is lost.

    Attributes:
        value: a share: of rows, or of the variance or power of the source's answers, which may exceed 1.
        low, high: the 95 % interval; infinite at the upper end where too few rows tell.
        n: rows.
        measured: what the share is of, in words.
    """

    value: float
    low: float
    high: float
    n: int
    measured: str


def loss_interval(
    task: Task | None,
    answers: NumberArray,
    source: NumberArray,
    labels: NumberArray | None = None,
    *,
    threshold: float = 0.0,
) -> Loss:
    """Return what answers lose against the source network's on the same rows, with a 95 % interval.

    Classes and binary answers: with labels the accuracy lost, paired (Agresti and Min); without, the share
    of answers that differ (Wilson), which no loss of accuracy can exceed. Numbers: ``1 - R2`` (bootstrap over
    rows). Where the task is not evident, the larger one of differing answers and ``1 - R2``, by their upper
    ends; of one output ``1 - R2``.

    Args:
        task: what the outputs are; ``None`` where it is not evident.
        answers: (n, outputs), in units of ``source``.
        source: (n, outputs).
        labels: (n,) classes, where they are known.
        threshold: above which one output says yes.

    Raises:
        UsageError: all answers of the source are the same number, so that nothing could be lost.
    """
    case = Case(answers, task, source, labels, threshold)
    if task in (Task.CLASSES, Task.BINARY):
        ours, ann = case.classes, case.right_classes("source")
        return _of_answers(ours, ann) if labels is None else _of_accuracy(paired(ours, ann, labels))
    numbers = loss_of_numbers(answers, source)
    if task is Task.REGRESSION or answers.shape[1] == 1:
        return numbers
    return max(numbers, _of_answers(case.classes, case.right_classes("source")), key=lambda loss: loss.high)


def paired(ours: IntArray, ann: IntArray, labels: NumberArray) -> Paired:
    """Count right and wrong answers of both networks, (n,) classes each."""
    right, mine = ann == labels, ours == labels
    cells = (right & mine, right & ~mine, ~right & mine, ~right & ~mine)
    return Paired(*(int(np.count_nonzero(cell)) for cell in cells))


def _of_accuracy(found: Paired) -> Loss:
    return Loss(found.drop, *found.interval, found.n, ACCURACY)


def _of_answers(ours: IntArray, ann: IntArray) -> Loss:
    share = Share(int(np.count_nonzero(ours != ann)), len(ours))
    return Loss(share.value, *share.interval, share.n, ANSWERS)


def loss_of_numbers(answers: NumberArray, source: NumberArray) -> Loss:
    """Return ``1 - R2`` of answers, (n, outputs), held to the source network's.

    Raises:
        UsageError: all answers of the source are the same.
    """
    found = measure("r2", Case(answers, Task.REGRESSION, source))
    low, high = (float("-inf"), 1.0) if found.interval is None else found.interval
    return Loss(1 - found.value, max(0.0, 1 - high), 1 - low, found.n, VARIANCE)


def loss_of_maps(answers: NumberArray, source: NumberArray) -> Loss:
    """Return the squared error of maps, (n, values), relative to the power of the source network's.

    The variance of each of many values over few rows says little, and a bootstrap would overstate what of it
    is missed.

    Raises:
        UsageError: all answers of the source are 0.
    """
    found = measure("sqnr", Case(answers, Task.REGRESSION, source))
    low, high = (float("-inf"), float("inf")) if found.interval is None else found.interval
    value, least, most = (10 ** (-decibels / 10) for decibels in (found.value, high, low))
    return Loss(value, least, most, found.n, POWER)
