"""The answers of networks, collected shard by shard, and their metrics."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from snnc.errors import NonFiniteError
from snnc.ir.graph import IntArray, NumberArray
from snnc.metrics.catalogue import (
    LABELS,
    METRICS,
    SOURCE,
    Case,
    Measured,
    defaults,
    measurable,
    measure,
)
from snnc.metrics.loss import paired
from snnc.metrics.outputs import Asked
from snnc.metrics.shares import Paired as Paired
from snnc.metrics.shares import Share as Share
from snnc.metrics.task import Outputs, Task, decisions, finished, threshold_of

TOP = 5


@dataclass(frozen=True, slots=True)
class Scores:
    """What a network answers.

    Attributes:
        classes: (n,) the decision on every row, see :func:`snnc.metrics.decisions`; empty where outputs are
            numbers, or where one output may be one.
        top1: rows with the label first; ``None`` without labels.
        top5: rows with the label among the first five; ``None`` without labels or with five classes or fewer.
        n: how many rows there are.
        measured: the metrics that were asked for, or those that go with the task.
        task: what the outputs are; ``None`` where it is not evident.
    """

    classes: IntArray
    top1: Share | None
    top5: Share | None
    n: int
    measured: tuple[Measured, ...] = ()
    task: Task | None = Task.CLASSES

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form: accuracies where there are classes, and all metrics."""
        return {
            "top1": None if self.top1 is None else self.top1.value,
            "top1_ci95": None if self.top1 is None else list(self.top1.interval),
            "top5": None if self.top5 is None else self.top5.value,
            "top5_ci95": None if self.top5 is None else list(self.top5.interval),
            "n": self.n,
            "task": None if self.task is None else self.task.value,
            "metrics": {found.metric: found.as_dict() for found in self.measured},
        }


@dataclass(frozen=True, slots=True)
class AnnScores:
    """The source network on the same rows.

    Attributes:
        scores: its answers.
        macs: multiply-accumulates per image; ``None`` where the file was not read as a graph.
        agreement: rows that both networks answer alike; ``None`` where outputs have no classes.
        paired: right and wrong answers of both; ``None`` without labels.
    """

    scores: Scores
    macs: int | None
    agreement: Share | None
    paired: Paired | None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**self.scores.as_dict(), "macs": self.macs}


@dataclass(frozen=True, slots=True)
class Reduced:
    """What is kept of the answers to some rows.

    Attributes:
        classes: (n,) the decisions; ``None`` where there are no classes.
        top: (n, 5) the classes with the largest answers, the lowest of equal ones first; ``None`` where there
            are five or fewer.
        values: (n, outputs) the answers themselves, where they are wanted.
        n: how many rows there are.
    """

    classes: IntArray | None
    top: IntArray | None
    values: NumberArray | None
    n: int

    @classmethod
    def of(
        cls, answers: NumberArray, threshold: float, first: int, *, have_classes: bool, keep: bool
    ) -> Reduced:
        """Reduce answers, (n, outputs), to what :class:`Answers` collects.

        Args:
            answers: of consecutive rows.
            threshold: above which one output says yes.
            first: the number of the first row.
            have_classes: whether an answer of one class may be told.
            keep: whether the values are wanted.

        Raises:
            NonFiniteError: one is NaN, or, where values are wanted, infinite.
        """
        require_finite(answers, first, infinity=not keep)
        top = None
        if have_classes and answers.shape[1] > TOP:
            # A stable order of falling answers: smallest first would put the highest of equal ones first.
            top = np.argsort(-answers.astype(np.float64), axis=1, kind="stable")[:, :TOP].astype(np.int64)
        classes = decisions(answers, threshold) if have_classes else None
        return cls(classes, top, answers if keep else None, len(answers))


@dataclass(slots=True)
class Answers:
    """Collects the answers of one network, shard by shard.

    Attributes:
        outputs: what the outputs are, and the labels.
        threshold: above which one output says yes.
        keep: whether the values are wanted, too, and not only classes.
    """

    outputs: Outputs
    threshold: float
    keep: bool
    classes: list[IntArray] = field(default_factory=list)
    values: list[NumberArray] = field(default_factory=list)
    among: int = 0
    n: int = 0

    def add(self, answers: NumberArray, rows: slice) -> None:
        """Add the answers to rows, (batch, outputs).

        Raises:
            NonFiniteError: one is NaN, which no class follows from, or, where values are wanted, infinite.
        """
        require_finite(answers, rows.start or 0, infinity=not self.keep)
        self.n += len(answers)
        if self.keep:
            self.values.append(answers)
        if not self.outputs.have_classes:
            return
        self.classes.append(decisions(answers, self.threshold))
        if self.outputs.classes is not None and self.outputs.size > TOP:
            labels = self.outputs.classes[rows]
            # How many come before the label: larger ones, and equal ones of a lower index.
            own = np.take_along_axis(answers, labels[:, None], axis=1)
            earlier = np.arange(self.outputs.size) < labels[:, None]
            rank = ((answers > own) | ((answers == own) & earlier)).sum(axis=1)
            self.among += int((rank < TOP).sum())

    def join(self, part: Reduced, rows: slice) -> None:
        """Add answers to rows that were reduced elsewhere, with the same result as :meth:`add`."""
        self.n += part.n
        if self.keep and part.values is not None:
            self.values.append(part.values)
        if part.classes is not None:
            self.classes.append(part.classes)
        if part.top is not None and self.outputs.classes is not None:
            self.among += int((part.top == self.outputs.classes[rows][:, None]).any(axis=1).sum())

    def scores(self, measured: tuple[Measured, ...] | None = None) -> Scores:
        """Return what was collected, with what was measured; ``None`` for the share of right rows."""
        task, labels = self.outputs.task, self.outputs.classes
        classes = np.concatenate(self.classes) if self.classes else np.empty(0, np.int64)
        if labels is None or not self.classes:
            return Scores(classes, None, None, self.n, measured or (), task)
        top1 = Share(int((classes == labels).sum()), len(classes))
        top5 = Share(self.among, len(classes)) if self.outputs.size > TOP else None
        if measured is None:
            measured = (shared("top1", top1, LABELS),)
        return Scores(classes, top1, top5, self.n, measured, task)


def require_finite(answers: NumberArray, first: int = 0, *, infinity: bool = False) -> None:
    """Refuse answers that nothing can be measured of: NaN compares equal to nothing, and its arg max is 0.

    Args:
        answers: (batch, outputs).
        first: the number of the first row.
        infinity: whether infinite ones are fine, as a logarithm of a softmax may give them.

    Raises:
        NonFiniteError: naming the first such row.
    """
    bad = (np.isnan(answers) if infinity else ~np.isfinite(answers)).any(axis=1)
    if bad.any():
        what = "NaN" if infinity else "NaN or infinity"
        raise NonFiniteError(
            f"a network answers row {first + int(bad.argmax())} with {what}: "
            "check the rows, their preprocessing and the network"
        )


def shared(metric: str, share: Share, against: str) -> Measured:
    """Return a share of rows as one of the metrics."""
    return Measured(metric, share.value, share.interval, share.n, against)


def judged(
    spiking: Answers,
    analogue: Answers | None,
    metrics: Asked,
    ends: str,
    *,
    behind: bool = False,
) -> tuple[Scores, Scores | None]:
    """Return what both networks reach.

    Args:
        spiking: the answers of the spiking network in units of the source's, before its last activation.
        analogue: those of the source network.
        metrics: see :func:`evaluate`.
        behind: whether the answers of the spiking network lie behind that activation, too.
        ends: the activation, as an ONNX operator; empty for none.
    """
    if not spiking.keep:
        scores, ann = spiking.scores(), None if analogue is None else analogue.scores()
        if ann is not None:
            agreement = Share(int((scores.classes == ann.classes).sum()), scores.n)
            scores = replace(scores, measured=(*scores.measured, shared("agreement", agreement, SOURCE)))
        kept = tuple(each for each in scores.measured if metrics is None or each.metric in metrics)
        return replace(scores, measured=kept), ann
    outputs, threshold = spiking.outputs, threshold_of(ends)
    told = np.concatenate(spiking.values).astype(np.float64)
    values = told if behind else finished(told, ends)
    source = None if analogue is None else np.concatenate(analogue.values)
    case = Case(values, outputs.task, source, outputs.labels, threshold, outputs.places)
    scores = spiking.scores(measured(case, outputs, metrics))
    if analogue is None or source is None:
        return scores, None
    alone = Case(source, outputs.task, None, outputs.labels, threshold, outputs.places)
    return scores, analogue.scores(_alone(alone, metrics, outputs))


def measured(case: Case, outputs: Outputs, metrics: Asked) -> tuple[Measured, ...]:
    """Compute the metrics that are asked for; ``None`` for those that go with the outputs."""
    if metrics is None:
        return measurable(case, defaults(case.task, is_map=outputs.is_map, places=outputs.places))
    return tuple(measure(name, case) for name in metrics)


def _alone(case: Case, metrics: Asked, outputs: Outputs) -> tuple[Measured, ...]:
    """Return the metrics of a network that is compared with labels alone, as far as there are any."""
    places = outputs.places
    if case.labels is None and (places is None or places.labels is None):
        return ()
    numbers = case.task is Task.REGRESSION and places is None
    default = defaults(case.task, is_map=outputs.is_map, places=places)
    fitting = [
        name for name in (default if metrics is None else metrics) if LABELS in METRICS[name].references
    ]
    # Values of class scores are held to the source alone.
    fitting = [name for name in fitting if numbers or METRICS[name].decides]
    return measurable(case, fitting) if metrics is None else measured(case, outputs, tuple(fitting))


def compared(snn: Scores, ann: Scores, outputs: Outputs, macs: int | None) -> AnnScores:
    """Return the source network's scores beside those of the spiking network."""
    if not outputs.have_classes:
        return AnnScores(ann, macs, None, None)
    labels = outputs.classes
    both = None if labels is None else paired(snn.classes, ann.classes, labels)
    return AnnScores(ann, macs, Share(int((snn.classes == ann.classes).sum()), snn.n), both)


def wants_values(outputs: Outputs, metrics: Asked) -> bool:
    """Whether more than the classes is needed: it takes memory for every output of every row."""
    return outputs.task is not Task.CLASSES or any(
        name not in ("top1", "agreement") for name in metrics or ()
    )
