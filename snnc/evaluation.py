"""Judge a spiking network on labelled rows: accuracy with its interval, spikes, operations, and the ANN."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc import costs
from snnc.costs import Costs
from snnc.errors import InputError, InternalError
from snnc.ir.graph import IntArray, NumberArray
from snnc.ir.snn import Readout, SnnGraph
from snnc.progress import Callback, Progress, as_progress
from snnc.row_files import as_labels, as_rows
from snnc.source_session import SourceSession
from snnc.target import Activity, Record, Simulator

SHARD = 250
"""Rows that are worked on at once: memory does not grow with the data set."""

Z95 = 1.959963984540054
"""The normal quantile of 0.975."""

TOP = 5


@dataclass(frozen=True, slots=True)
class Share:
    """How many of ``n`` rows have a property.

    Attributes:
        hits: how many.
        n: of how many.
    """

    hits: int
    n: int

    @property
    def value(self) -> float:
        """The observed share, in [0, 1]."""
        return self.hits / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % score interval.

        Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927.
        """
        n, share = self.n, self.value
        centre = share + Z95**2 / (2 * n)
        half = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
        # At the ends the exact bound is 0 or 1; rounding must not step over the observed share.
        low, high = (centre - half) / (1 + Z95**2 / n), (centre + half) / (1 + Z95**2 / n)
        return min(max(low, 0.0), share), max(min(high, 1.0), share)


@dataclass(frozen=True, slots=True)
class Paired:
    """Two networks on the same rows.

    Attributes:
        both: rows that both answer rightly.
        only_ann: rows that only the source network answers rightly.
        only_snn: rows that only the spiking network answers rightly.
        neither: rows that both miss.
    """

    both: int
    only_ann: int
    only_snn: int
    neither: int

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.both + self.only_ann + self.only_snn + self.neither

    @property
    def drop(self) -> float:
        """Share of rows that the conversion loses, ``top1(ANN) - top1(SNN)``."""
        return (self.only_ann - self.only_snn) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of ``drop``.

        With half a row added to each of the four cells, so that it is honest where few rows differ.

        Source: Agresti and Min, "Simple improved confidence intervals for comparing matched proportions",
        Statistics in Medicine 24 (2005).
        """
        lost, won, n = self.only_ann + 0.5, self.only_snn + 0.5, self.n + 2
        centre = (lost - won) / n
        half = Z95 * math.sqrt(lost + won - (lost - won) ** 2 / n) / n
        return centre - half, centre + half


@dataclass(frozen=True, slots=True)
class Scores:
    """What a network answers.

    Attributes:
        classes: (n,) the answer to every row; the lowest index wins a tie.
        top1: rows with the label first; ``None`` without labels.
        top5: rows with the label among the first five; ``None`` without labels or with five classes or fewer.
    """

    classes: IntArray
    top1: Share | None
    top5: Share | None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form of the accuracies."""
        return {
            "top1": None if self.top1 is None else self.top1.value,
            "top1_ci95": None if self.top1 is None else list(self.top1.interval),
            "top5": None if self.top5 is None else self.top5.value,
            "top5_ci95": None if self.top5 is None else list(self.top5.interval),
            "n": len(self.classes),
        }


@dataclass(frozen=True, slots=True)
class AnnScores:
    """The source network on the same rows.

    Attributes:
        scores: its answers.
        macs: multiply-accumulates per image; ``None`` where the file was not read as a graph.
        agreement: rows that both networks answer alike.
        paired: right and wrong answers of both; ``None`` without labels.
    """

    scores: Scores
    macs: int | None
    agreement: Share
    paired: Paired | None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**self.scores.as_dict(), "macs": self.macs}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What :func:`evaluate` found.

    Attributes:
        scores: the spiking network's answers.
        costs: its spikes and operations.
        timesteps: T of the run.
        settle_steps: K.
        latency_steps: from the input to the answer.
        payload: what one event carries.
        simulator: that ran it.
        counted_by: the simulator that counted the spikes.
        ann: the source network on the same rows, where one was given.
    """

    scores: Scores
    costs: Costs
    timesteps: int
    settle_steps: int
    latency_steps: int
    payload: str
    simulator: str
    counted_by: str
    ann: AnnScores | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form; operations are per image over all steps."""
        found: dict[str, Any] = {
            **self.scores.as_dict(),
            "timesteps": self.timesteps,
            "settle_steps": self.settle_steps,
            "latency_steps": self.latency_steps,
            "payload": self.payload,
            "backend": self.simulator,
            "counted_by": self.counted_by,
            **self.costs.as_dict(),
        }
        if self.ann is not None:
            found["ann"] = self.ann.as_dict()
            found["agreement"] = self.ann.agreement.value
            found["agreement_ci95"] = list(self.ann.agreement.interval)
            if (paired := self.ann.paired) is not None:
                found["drop"] = paired.drop
                found["drop_ci95"] = list(paired.interval)
                found["paired"] = {
                    "both_right": paired.both,
                    "only_ann_right": paired.only_ann,
                    "only_snn_right": paired.only_snn,
                    "both_wrong": paired.neither,
                }
        return found


@dataclass(frozen=True, slots=True)
class Source:
    """The network to compare with.

    Attributes:
        session: runs it.
        prepare: from rows as they are given to what it takes.
        macs: its multiply-accumulates per image, if known.
        check_rows: refuses all rows, by their name, where their shape does not fit.
    """

    session: SourceSession
    prepare: Callable[[NumberArray], NumberArray]
    macs: int | None = None
    check_rows: Callable[[NumberArray, str], None] = lambda x, name: None


def require_classes(labels: IntArray, classes: int) -> None:
    """Refuse labels that name no class.

    Raises:
        InputError: a label is negative, or beyond the last class.
    """
    if labels.min() < 0 or labels.max() >= classes:
        wrong = labels.max() if labels.max() >= classes else labels.min()
        raise InputError(f"the label {wrong} does not fit {classes} classes; check `y`")


@dataclass(slots=True)
class _Answers:
    """Collects the answers of one network, shard by shard."""

    labels: IntArray | None
    classes: list[IntArray] = field(default_factory=list)
    among: int = 0
    width: int = 0

    def add(self, outputs: NumberArray, rows: slice) -> None:
        """Add the outputs of the rows, (batch, classes)."""
        self.classes.append(outputs.argmax(axis=1))
        self.width = outputs.shape[1]
        if self.labels is not None:
            labels = self.labels[rows]
            require_classes(labels, self.width)
            # How many come before the label: larger ones, and equal ones of a lower index.
            own = np.take_along_axis(outputs, labels[:, None], axis=1)
            earlier = np.arange(self.width) < labels[:, None]
            rank = ((outputs > own) | ((outputs == own) & earlier)).sum(axis=1)
            self.among += int((rank < TOP).sum())

    def scores(self) -> Scores:
        """Return what was collected."""
        classes = np.concatenate(self.classes)
        if self.labels is None:
            return Scores(classes, None, None)
        top1 = Share(int((classes == self.labels).sum()), len(classes))
        return Scores(classes, top1, Share(self.among, len(classes)) if self.width > TOP else None)


def evaluate(
    graph: SnnGraph,
    encode: Callable[[NumberArray], IntArray],
    x: NumberArray,
    y: IntArray | None,
    *,
    simulator: Simulator,
    counter: Simulator | None = None,
    timesteps: int | None = None,
    source: Source | None = None,
    progress: Progress | Callback | None = None,
) -> Evaluation:
    """Run a network, and the one that it came from, on the same rows.

    Args:
        graph: the spiking network.
        encode: from rows of ``x`` to the quantised input; see ``Artefact.encode``.
        x: (n, ...) rows as they are stored.
        y: (n,) labels, or ``None`` if there are none.
        simulator: what runs the network.
        counter: what counts the spikes, where ``simulator`` cannot; it has to give the same answers.
        timesteps: T; the calibrated value by default.
        source: the network to compare with, row by row.
        progress: called with (done, total, description), or an object that shows it.

    Raises:
        InputError: rows or labels do not fit.
        InternalError: the two simulators disagree on an integer network.
    """
    x, y, shown = as_rows(x), as_labels(y), as_progress(progress)
    labels = _labels(x, y)
    counter = counter or simulator
    steps = graph.timesteps if timesteps is None else timesteps
    spiking, analogue = _Answers(labels), _Answers(labels)
    activity: dict[str, Activity] = {}
    for rows in _shards(len(x), shown, f"evaluating at T = {steps}"):
        q = encode(x[rows])
        trace = counter.run(graph, q, steps, Record(activity=True))
        outputs = trace.logits if counter is simulator else simulator.run(graph, q, steps, Record()).logits
        if graph.integer and not np.array_equal(outputs, trace.logits):
            raise InternalError(f"the simulators {simulator.name} and {counter.name} differ on {graph.name}")
        spiking.add(outputs, rows)
        for name, counted in trace.activity.items():
            activity[name] = activity[name] + counted if name in activity else counted
        if source is not None:
            analogue.add(source.session.run(source.prepare(x[rows])), rows)
    scores = spiking.scores()
    return Evaluation(
        scores=scores,
        costs=costs.count(graph, activity, len(x), steps),
        timesteps=steps,
        settle_steps=graph.settle_steps,
        latency_steps=costs.latency_steps(graph, steps),
        payload=costs.payload(graph, steps),
        simulator=simulator.name,
        counted_by=counter.name,
        ann=None if source is None else _compared(scores, analogue.scores(), labels, source.macs),
    )


def evaluate_ann(
    source: Source, x: NumberArray, y: IntArray | None, progress: Progress | Callback | None = None
) -> Scores:
    """Run an ordinary network on labelled rows; see :func:`evaluate` for the arguments."""
    x, y = as_rows(x), as_labels(y)
    answers = _Answers(_labels(x, y))
    for rows in _shards(len(x), as_progress(progress), "evaluating the ANN"):
        answers.add(source.session.run(source.prepare(x[rows])), rows)
    return answers.scores()


def outputs_of(
    graph: SnnGraph,
    encode: Callable[[NumberArray], IntArray],
    x: NumberArray,
    *,
    simulator: Simulator,
    timesteps: int,
    per_step: bool = False,
    progress: Progress | Callback | None = None,
) -> NumberArray:
    """Return what a network answers; see :func:`evaluate` for the arguments.

    Returns:
        (n, classes), or (T + K, n, classes) where the answer after every step is wanted.
    """
    (readout,) = graph.of_type(Readout)
    record = Record(trains=tuple(dict.fromkeys(readout.inputs)) if per_step else ())
    x, found = as_rows(x), []
    for rows in _shards(len(x), as_progress(progress), f"running at T = {timesteps}"):
        trace = simulator.run(graph, encode(x[rows]), timesteps, record)
        if per_step:
            currents = np.add.reduce(
                [trace.trains[name] for name in readout.inputs], dtype=trace.logits.dtype
            )
            biased = np.minimum(np.arange(1, len(currents) + 1), timesteps).astype(currents.dtype)
            found.append(currents.cumsum(axis=0, dtype=currents.dtype) + biased[:, None, None] * readout.bias)
        else:
            found.append(trace.logits)
    return np.concatenate(found, axis=1 if per_step else 0)


def _shards(n: int, progress: Progress, description: str) -> Iterator[slice]:
    starts: Sequence[int] = range(0, n, SHARD)
    for start in progress.track(starts, len(starts), description):
        yield slice(start, start + SHARD)


def _compared(snn: Scores, ann: Scores, labels: IntArray | None, macs: int | None) -> AnnScores:
    agreement = Share(int((snn.classes == ann.classes).sum()), len(snn.classes))
    paired = None
    if labels is not None:
        right: NDArray[np.bool_] = ann.classes == labels
        ours: NDArray[np.bool_] = snn.classes == labels
        cells = [(right & ours), (right & ~ours), (~right & ours), (~right & ~ours)]
        paired = Paired(*(int(cell.sum()) for cell in cells))
    return AnnScores(ann, macs, agreement, paired)


def _labels(x: NumberArray, y: IntArray | None) -> IntArray | None:
    """Return labels as (n,) int64, or say why they do not fit."""
    if len(x) == 0:
        raise InputError("there are no rows to evaluate")
    if y is None:
        return None
    if y.dtype.kind not in "ui" or y.ndim != 1:
        raise InputError(f"labels must be a vector of class numbers, not {y.dtype} of shape {y.shape}")
    if len(y) != len(x):
        raise InputError(f"there are {len(x)} rows, but {len(y)} labels")
    return y.astype(np.int64)
