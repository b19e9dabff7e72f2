"""The one list of metrics: definition, requirements and interval of each.

The docstring of a metric's function gives its definition, equation and source. ``y`` are the answers, ``s``
the reference values (labels, or the source network's answers on these rows), ``i`` a row, ``k`` an output.
``docs/metrics.md`` shows the list as a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc.errors import UsageError
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.metrics.intervals import (
    FEWEST_ROWS,
    RESAMPLES,
    Interval,
    bootstrap,
    of_auc,
    percentiles,
    resampled,
)
from snnc.metrics.places import Places
from snnc.metrics.shares import Share, wilson
from snnc.metrics.task import Task, decisions

LABELS, SOURCE = "labels", "source"

OUTPUTS_AT_ONCE = 256
"""Outputs whose sums are resampled at once: memory does not grow with their number."""

Found = tuple[float, Interval | None]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Answers of a network, and all that they can be held to.

    Attributes:
        answers: (n, outputs), in units of the source network's own answers.
        task: what the outputs are; ``None`` where it is not evident.
        source: (n, outputs), the source network's answers on the same rows, if they are known.
        labels: (n,) classes, or (n, outputs) numbers; ``None`` without.
        threshold: above which one output says yes.
        places: of a map of which every place is of a class, with the labels of places.
    """

    answers: NumberArray
    task: Task | None
    source: NumberArray | None = None
    labels: NumberArray | None = None
    threshold: float = 0.0
    places: Places | None = None

    @property
    def classes(self) -> IntArray:
        """The decision on every row, (n,), or on every place of a map, (n, places)."""
        return self._decided(self.answers)

    def right_classes(self, against: str) -> IntArray:
        """What the decisions are held to, of the same shape."""
        if against == LABELS:
            known = self.labels if self.places is None else self.places.labels
            return (self.reference(LABELS) if known is None else known).astype(np.int64)
        return self._decided(self.reference(SOURCE))

    def _decided(self, answers: NumberArray) -> IntArray:
        if self.places is not None:
            return self.places.decisions(answers, self.threshold)
        return decisions(answers, self.threshold)

    def numbers(self, against: str) -> tuple[FloatArray, FloatArray]:
        """The answers and what they are held to, (n, outputs) float64 each."""
        return self.answers.astype(np.float64), self.reference(against).astype(np.float64)

    def reference(self, against: str) -> NumberArray:
        """The labels, or the source network's answers."""
        found = self.labels if against == LABELS else self.source
        if found is None:
            raise UsageError(f"there are no answers of the {against} to compare with")
        return found


def top1(case: Case, against: str) -> Found:
    """Share of rows whose class is right, for one output at its threshold: ``E_i[c(y_i) = s_i]``.

    ``c`` is the arg max, the lowest index winning a tie. Interval: Wilson, JASA 22 (1927). Of a map it is the
    mean share of the places of a row, and the interval, with n rows, errs on the wide side.
    """
    return _share(case.classes == case.right_classes(against))


def agreement(case: Case, against: str) -> Found:
    """Share of rows on which both networks decide alike: ``E_i[c(y_i) = c(s_i)]``.

    No loss of accuracy can exceed what is missing to 1. Interval: Wilson, JASA 22 (1927). Of a map as for
    ``top1``.
    """
    return _share(case.classes == case.right_classes(against))


def auc(case: Case, against: str) -> Found:
    """Area under the ROC curve of one output: ``P(y_i > y_j) + P(y_i = y_j) / 2``, i a yes and j a no.

    Source: Hanley and McNeil, "The meaning and use of the area under a ROC curve", Radiology 143 (1982).
    Interval: Newcombe's method 5, see :func:`snnc.metrics.intervals.of_auc`. Against the source network its
    decisions stand for labels.
    """
    yes = case.right_classes(against) == 1
    positive, negative = int(yes.sum()), int((~yes).sum())
    if not positive or not negative:
        raise UsageError("auc needs rows of both classes, but all rows are of one class")
    values = case.answers[:, 0].astype(np.float64)
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    value = (float(ranks[yes].sum()) - positive * (positive + 1) / 2) / (positive * negative)
    return value, of_auc(value, positive, negative)


def r2(case: Case, against: str) -> Found:
    """Coefficient of determination: ``E_k[1 - sum_i (y_ik - s_ik)^2 / sum_i (s_ik - m_k)^2]``.

    ``m_k`` is the mean of ``s_k``. The mean of an output explains nothing, so 0 is what a constant reaches.
    Each output counts alike, so one of several that is wrong shows; of images, whose dark pixels hardly vary,
    ``psnr`` and ``sqnr`` say more. An output that is constant in ``s`` is left out.
    Source: Draper and Smith, "Applied Regression Analysis", 1998; the uniform average of scikit-learn's
    ``r2_score``. Interval: bootstrap over rows.
    """
    y, s = case.numbers(against)
    # Centred first: the variance of large numbers would drown in their squares.
    y, s = y - s.mean(axis=0), s - s.mean(axis=0)
    varies = np.ptp(s, axis=0) > 0
    if not varies.any():
        raise UsageError("r2 needs answers that differ from row to row, but all are equal")
    y, s = y[:, varies], s[:, varies]
    value = float((1 - np.square(y - s).sum(axis=0) / np.square(s).sum(axis=0)).mean())
    n, outputs = s.shape
    if n < FEWEST_ROWS:
        return value, None
    missed = np.zeros(RESAMPLES)
    for start in range(0, outputs, OUTPUTS_AT_ONCE):
        part = slice(start, start + OUTPUTS_AT_ONCE)
        terms = np.concatenate(
            [np.square(y[:, part] - s[:, part]), np.square(s[:, part]), s[:, part]], axis=1
        )
        errors, squares, sums = np.split(resampled(terms), 3, axis=1)
        spread = squares - sums**2 / n
        missed += (errors / np.where(spread > 1e-12 * squares, spread, np.nan)).sum(axis=1)
    return value, percentiles(1 - missed / outputs)


def sqnr(case: Case, against: str) -> Found:
    """Signal to quantisation noise, in dB: ``10 log10(sum s^2 / sum (y - s)^2)``, over all rows and outputs.

    The mean is part of the signal; where it is far from zero, ``r2`` says more. Infinite where nothing is
    wrong. Source: Lin et al., "Fixed Point Quantization of Deep Convolutional Networks", ICML 2016.
    Interval: bootstrap over rows.
    """
    y, s = case.numbers(against)
    signal = np.square(s).sum(axis=1)
    if not signal.any():
        raise UsageError("sqnr needs a signal, but all answers of the source are 0")
    rows = np.stack([signal, np.square(y - s).sum(axis=1)], axis=1)
    return _of_sums(rows, lambda sums: 10 * np.log10(sums[:, 0] / sums[:, 1]))


def cosine(case: Case, against: str) -> Found:
    """Cosine of the answers, all rows and outputs one vector: ``sum y s / sqrt(sum y^2 sum s^2)``.

    A common factor does not count. Interval: bootstrap over rows.
    """
    y, s = case.numbers(against)
    rows = np.stack([(y * s).sum(axis=1), np.square(y).sum(axis=1), np.square(s).sum(axis=1)], axis=1)
    if not rows[:, 2].any():
        raise UsageError("cosine needs a signal, but all answers of the source are 0")
    if not rows[:, 1].any():
        return 0.0, None  # silence points nowhere
    return _of_sums(rows, lambda sums: sums[:, 0] / np.sqrt(sums[:, 1] * sums[:, 2]))


def mse(case: Case, against: str) -> Found:
    """Mean squared error over rows and outputs: ``E[(y - s)^2]``, in squared units.

    Source: as for ``r2``. Interval: bootstrap over rows.
    """
    y, s = case.numbers(against)
    rows = np.stack([np.square(y - s).mean(axis=1), np.ones(len(y))], axis=1)
    return _of_sums(rows, lambda sums: sums[:, 0] / sums[:, 1])


def psnr(case: Case, against: str) -> Found:
    """Peak signal to noise, in dB: ``10 log10((max s - min s)^2 / E[(y - s)^2])``, for images.

    Infinite where nothing is wrong. Source: ITU-T J.340, with the range that ``s`` has on these rows.
    Interval: bootstrap over rows, the range kept.
    """
    y, s = case.numbers(against)
    peak = float(np.ptp(s))
    if peak == 0:
        raise UsageError("psnr needs answers that differ, but all are equal")
    rows = np.stack([np.square(y - s).mean(axis=1), np.ones(len(y))], axis=1)
    return _of_sums(rows, lambda sums: 10 * np.log10(peak**2 * sums[:, 1] / sums[:, 0]))


def iou(case: Case, against: str) -> Found:
    """Intersection over union, the mean over classes of ``TP / (TP + FP + FN)``.

    Of the classes that occur in ``s`` or in the answers; of one output, or of places that are yes or no, that
    of yes. Of a map over all places of all rows. Source: Jaccard, "The
    distribution of the flora in the alpine zone", New Phytologist 11 (1912).
    Interval: bootstrap over rows.
    """
    ours, right = (each.reshape(len(each), -1) for each in (case.classes, case.right_classes(against)))
    says_yes = case.answers.shape[1] == 1 if case.places is None else case.places.axis is None
    known = [1] if says_yes else np.union1d(ours, right).tolist()
    # Class by class: the places of many maps, times the classes, would fill the memory.
    both = np.stack([((ours == k) & (right == k)).sum(axis=1) for k in known], axis=1)
    either = np.stack([((ours == k) | (right == k)).sum(axis=1) for k in known], axis=1)
    if not either.any():
        raise UsageError("iou needs rows of the class 1, but there are none")
    rows = np.concatenate([both, either], axis=1).astype(np.float64)

    def statistic(sums: FloatArray) -> FloatArray:
        both, either = np.split(sums, 2, axis=-1)
        # A class that a resample does not hold says nothing there.
        shares = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
        result: FloatArray = shares.sum(axis=-1) / np.maximum((either > 0).sum(axis=-1), 1)
        return result

    return _of_sums(rows, statistic)


def _share(hits: np.ndarray) -> Found:
    if hits.ndim > 1:
        # A share of places lies between 0 and 1 as a right row does, and varies no more.
        n, value = len(hits), float(hits.mean())
        return value, wilson(value, n)
    share = Share(int(hits.sum()), len(hits))
    return share.value, share.interval


def _of_sums(rows: FloatArray, statistic: Callable[[FloatArray], FloatArray]) -> Found:
    with np.errstate(divide="ignore"):
        value = float(statistic(rows.sum(axis=0)[None])[0])
    return value, bootstrap(rows, statistic)


@dataclass(frozen=True, slots=True)
class Metric:
    """One entry of the list.

    Attributes:
        compute: from a case and what it is held to, to the value and its interval.
        tasks: that it makes sense for.
        references: what it may be held to, the preferred first.
        interval: the name of its 95 % interval.
        smallest, largest: between which a limit may lie.
        higher_is_better: the direction.
        unit: of the value; empty for none.
    """

    compute: Callable[[Case, str], Found]
    tasks: frozenset[Task]
    references: tuple[str, ...]
    interval: str
    smallest: float = -math.inf
    largest: float = math.inf
    higher_is_better: bool = True
    unit: str = ""

    @property
    def decides(self) -> bool:
        """Whether it looks at decisions, and not at values."""
        return Task.REGRESSION not in self.tasks


_DECIDING = frozenset({Task.CLASSES, Task.BINARY})
_ALL = frozenset(Task)
_BOOTSTRAP = "bootstrap over rows"

METRICS: Mapping[str, Metric] = {
    "top1": Metric(top1, _DECIDING, (LABELS,), "Wilson", 0, 1),
    "agreement": Metric(agreement, _DECIDING, (SOURCE,), "Wilson", 0, 1),
    "auc": Metric(auc, frozenset({Task.BINARY}), (LABELS, SOURCE), "Newcombe", 0, 1),
    "r2": Metric(r2, _ALL, (LABELS, SOURCE), _BOOTSTRAP, largest=1),
    "sqnr": Metric(sqnr, _ALL, (SOURCE,), _BOOTSTRAP, unit="dB"),
    "cosine": Metric(cosine, _ALL, (SOURCE,), _BOOTSTRAP, -1, 1),
    "mse": Metric(mse, _ALL, (LABELS, SOURCE), _BOOTSTRAP, 0, higher_is_better=False),
    "psnr": Metric(psnr, _ALL, (LABELS, SOURCE), _BOOTSTRAP, unit="dB"),
    "iou": Metric(iou, _DECIDING, (LABELS, SOURCE), _BOOTSTRAP, 0, 1),
}
"""Every metric by its name."""

DEFAULTS: Mapping[Task | None, tuple[str, ...]] = {
    Task.CLASSES: ("top1", "agreement"),
    Task.BINARY: ("top1", "auc", "agreement"),
    Task.REGRESSION: ("r2", "sqnr", "cosine", "mse"),
    None: ("agreement", "r2", "sqnr", "cosine"),
}
"""What is told where no metric is named, as far as there is something to hold it to."""


OF_MAPS = ("sqnr", "psnr", "cosine", "mse")
"""The same of maps: each place alone hardly varies, so that ``r2`` would weigh noise."""

OF_PLACES = ("top1", "iou", "agreement", *OF_MAPS)
"""The same of maps of which every place is of a class."""


def defaults(task: Task | None, *, is_map: bool = False, places: Places | None = None) -> tuple[str, ...]:
    """Return the metrics that are told of an output where none is named."""
    if places is not None:
        return OF_PLACES
    return OF_MAPS if is_map else DEFAULTS[task]


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric on some rows.

    Attributes:
        metric: its name.
        value: in its unit; infinite where nothing is wrong.
        interval: 95 %; ``None`` where too few rows tell.
        n: rows.
        against: what the answers were held to: ``labels`` or ``source``.
    """

    metric: str
    value: float
    interval: Interval | None
    n: int
    against: str

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form; ``null`` stands for an infinite value or bound: nothing is wrong."""
        bounds = None if self.interval is None else [_finite(bound) for bound in self.interval]
        return {"value": _finite(self.value), "ci95": bounds, "n": self.n, "against": self.against}

    def __str__(self) -> str:
        """Return value and interval in words."""
        unit = METRICS[self.metric].unit
        told = f"{_number(self.value)}{' ' * bool(unit)}{unit}"
        if self.interval is None:
            return told
        low, high = self.interval
        return f"{told} [{_number(low)}, {_number(high)}]"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.5g}"


def metric_named(name: str) -> Metric:
    """Return a metric.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in METRICS:
        raise UsageError(f"unknown metric {name!r}; known: {', '.join(METRICS)}")
    return METRICS[name]


def measure(name: str, case: Case) -> Measured:
    """Compute one metric.

    Raises:
        UsageError: there is none of this name, it does not fit the outputs, or what it is held to is missing.
    """
    against = reference_of(name, case)
    value, interval = METRICS[name].compute(case, against)
    return Measured(name, value, interval, len(case.answers), against)


def reference_of(name: str, case: Case) -> str:
    """Return what a metric is held to in a case.

    Raises:
        UsageError: see :func:`measure`.
    """
    metric = metric_named(name)
    _require_fit(name, metric, case)
    against = next((each for each in metric.references if _offers(case, each, metric)), None)
    if against is None:
        if metric.references == (LABELS,):
            raise UsageError(f"{name} needs labels `y`, but there are none")
        raise UsageError(f"{name} needs the answers of the source network: give --against source")
    return against


def measure_all(case: Case, names: Sequence[str] = ()) -> tuple[Measured, ...]:
    """Compute the named metrics; without names those of :data:`DEFAULTS` that can be computed."""
    return tuple(measure(name, case) for name in names) if names else measurable(case, DEFAULTS[case.task])


def measurable(case: Case, names: Sequence[str]) -> tuple[Measured, ...]:
    """Compute those of the named metrics that can be computed."""
    found = []
    for name in names:
        try:
            found.append(measure(name, case))
        except UsageError:
            continue  # nothing to hold it to, or rows that do not vary
    return tuple(found)


def _require_fit(name: str, metric: Metric, case: Case) -> None:
    if case.places is not None and metric.decides:
        if name == "auc":
            raise UsageError("auc is of one output for each row, and these are places of a map; use iou")
        return
    if case.task is not None and case.task not in metric.tasks:
        fitting = ", ".join(other for other in METRICS if case.task in METRICS[other].tasks)
        raise UsageError(f"{name} does not fit outputs of the task {case.task.value}; use {fitting}")
    if case.task is None and case.answers.shape[1] == 1 and metric.decides:
        raise UsageError(f"{name}: one output holds no classes; say --task binary if it is a yes or no")


def _offers(case: Case, against: str, metric: Metric) -> bool:
    if against == SOURCE:
        return case.source is not None
    if case.places is not None:
        return metric.decides and case.places.labels is not None
    # Values are held to labels only where these are numbers; decisions only where they are classes.
    return case.labels is not None and metric.decides != (case.task is Task.REGRESSION)
