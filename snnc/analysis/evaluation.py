"""Evaluation of a spiking network and its source: metrics with intervals, spikes and operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc.analysis import costs
from snnc.analysis.costs import Costs
from snnc.analysis.scores import AnnScores, Answers, Scores, compared, judged, wants_values
from snnc.data.row_files import as_labels, as_rows
from snnc.errors import InputError, InternalError, UsageError
from snnc.ir.graph import IntArray, NumberArray
from snnc.ir.snn import Readout, SnnGraph
from snnc.metrics.catalogue import (
    Case,
    measure_all,
    reference_of,
)
from snnc.metrics.shares import Paired as Paired
from snnc.metrics.shares import Share as Share
from snnc.metrics.task import Outputs, Task, recognise, threshold_of
from snnc.progress import Callback, Progress, as_progress
from snnc.simulation.protocol import Activity, RecordOptions, Simulator
from snnc.source.host import Finish
from snnc.source.source_session import SourceSession

SHARD = 250
"""Rows that are worked on at once: memory does not grow with the data set."""


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
            if (agreement := self.ann.agreement) is not None:
                found["agreement"] = agreement.value
                found["agreement_ci95"] = list(agreement.interval)
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


def evaluate(
    graph: SnnGraph,
    encode: Callable[[NumberArray], IntArray],
    x: NumberArray,
    y: NumberArray | None,
    *,
    simulator: Simulator,
    counter: Simulator | None = None,
    timesteps: int | None = None,
    source: Source | None = None,
    task: Task | str | None = None,
    ends: str = "",
    metrics: Sequence[str] = (),
    progress: Progress | Callback | None = None,
    finish: Finish | None = None,
) -> Evaluation:
    """Run a network, and the one that it came from, on the same rows.

    Args:
        graph: the spiking network.
        encode: from rows of ``x`` to the quantised input; see ``Artefact.encode``.
        x: (n, ...) rows as they are stored.
        y: (n,) classes or (n, outputs) numbers, or ``None`` if there are no labels.
        simulator: what runs the network.
        counter: what counts the spikes, where ``simulator`` cannot; it has to give the same answers.
        timesteps: T; the calibrated value by default.
        source: the network to compare with, row by row.
        task: what the outputs are; ``None`` to recognise it, see :mod:`snnc.metrics.task`.
        ends: the activation that the source network ends with, see ``Metadata.ends``, where ``source`` is not
            given to ask.
        metrics: names of :data:`snnc.metrics.METRICS`; without, those that go with the task.
        progress: called with (done, total, description), or an object that shows it.
        finish: what ordinary ONNX makes of a run, see ``Artefact.finish``; its answers are the source's,
            behind any activation.

    Raises:
        InputError: rows or labels do not fit.
        UsageError: a metric does not fit, or what it compares with is missing.
        InternalError: the two simulators disagree on an integer network.
    """
    _require(graph, encode, simulator, finish)
    x, y, shown = as_rows(x), as_labels(y), as_progress(progress)
    if len(x) == 0:
        raise InputError("there are no rows to evaluate")
    ends = ends if source is None else source.session.ends
    size = math.prod(_readout(graph).shape) if finish is None else finish.size
    outputs = recognise(size, rows=len(x), labels=y, ends=ends, given=task)
    _require_metrics(metrics, outputs, source)
    counter = counter or simulator
    steps = graph.timesteps if timesteps is None else timesteps
    keep = wants_values(outputs, metrics)
    spiking = Answers(outputs, 0.0 if finish is None else threshold_of(ends), keep)
    analogue = Answers(outputs, threshold_of(ends), keep)
    activity: dict[str, Activity] = {}
    for rows in _shards(len(x), shown, f"evaluating at T = {steps}"):
        q = encode(x[rows])
        trace = counter.run(graph, q, steps, RecordOptions(activity=True))
        found = trace if counter is simulator else simulator.run(graph, q, steps, RecordOptions())
        differ = [name for name, y in trace.outputs.items() if not np.array_equal(y, found.outputs[name])]
        if graph.integer and differ:
            raise InternalError(f"the simulators {simulator.name} and {counter.name} differ on {graph.name}")
        spiking.add(found.logits if finish is None else finish.answers(found, x[rows]), rows)
        for name, counted in trace.activity.items():
            activity[name] = activity[name] + counted if name in activity else counted
        if source is not None:
            analogue.add(source.session.run(source.prepare(x[rows])), rows)
    unit = _readout(graph).scale / steps if finish is None else None
    scores, ann = judged(spiking, analogue if source is not None else None, metrics, unit, ends)
    return Evaluation(
        scores=scores,
        costs=costs.count(graph, activity, len(x), steps),
        timesteps=steps,
        settle_steps=graph.settle_steps,
        latency_steps=costs.latency_steps(graph, steps),
        payload=costs.payload(graph, steps),
        simulator=simulator.name,
        counted_by=counter.name,
        ann=None if source is None or ann is None else compared(scores, ann, outputs, source.macs),
    )


def _require_metrics(metrics: Sequence[str], outputs: Outputs, source: Source | None) -> None:
    """Refuse metrics that could not be computed, before the work begins."""
    stand_in = np.zeros((0, outputs.size))
    labels = None if outputs.labels is None else outputs.labels[:0]
    case = Case(stand_in, outputs.task, None if source is None else stand_in, labels)
    for name in metrics:
        reference_of(name, case)


def evaluate_ann(
    source: Source,
    x: NumberArray,
    y: NumberArray | None,
    progress: Progress | Callback | None = None,
    *,
    task: Task | str | None = None,
    metrics: Sequence[str] = (),
) -> Scores:
    """Run an ordinary network on labelled rows; see :func:`evaluate` for the arguments."""
    x, y = as_rows(x), as_labels(y)
    answers: Answers | None = None
    for rows in _shards(len(x), as_progress(progress), "evaluating the ANN"):
        found = source.session.run(source.prepare(x[rows]))
        if answers is None:
            ends = source.session.ends
            outputs = recognise(found.shape[1], rows=len(x), labels=y, ends=ends, given=task)
            _require_metrics(metrics, outputs, None)
            answers = Answers(outputs, threshold_of(ends), wants_values(outputs, metrics))
        answers.add(found, rows)
    if answers is None:
        raise InputError("there are no rows to evaluate")
    if not answers.keep:
        return answers.scores()
    values, outputs = np.concatenate(answers.values), answers.outputs
    return answers.scores(
        measure_all(Case(values, outputs.task, None, outputs.labels, answers.threshold), metrics)
    )


def answers_of(source: Source, x: NumberArray, progress: Progress | Callback | None = None) -> NumberArray:
    """Return what an ordinary network answers, (n, outputs); see :func:`evaluate` for the arguments."""
    tracked = _shards(len(x), as_progress(progress), "running the ANN")
    return np.concatenate([source.session.run(source.prepare(x[rows])) for rows in tracked])


def outputs_of(
    graph: SnnGraph,
    encode: Callable[[NumberArray], IntArray],
    x: NumberArray,
    *,
    simulator: Simulator,
    timesteps: int,
    per_step: bool = False,
    progress: Progress | Callback | None = None,
    finish: Finish | None = None,
) -> NumberArray:
    """Return what a network answers; see :func:`evaluate` for the arguments.

    Returns:
        (n, classes), or (T + K, n, classes) where the answer after every step is wanted.

    Raises:
        UsageError: that is wanted of a network that ordinary ONNX finishes, once, behind the last step.
    """
    _require(graph, encode, simulator, finish)
    if finish is not None:
        if per_step:
            raise UsageError(
                "ordinary ONNX makes the answers behind the last step, so there are none after every step"
            )
        tracked = _shards(len(x), as_progress(progress), f"running at T = {timesteps}")
        return np.concatenate(
            [finish.answers(simulator.run(graph, encode(x[rows]), timesteps), x[rows]) for rows in tracked]
        )
    readout = _readout(graph)
    record = RecordOptions(trains=tuple(dict.fromkeys(readout.inputs)) if per_step else ())
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


def _readout(graph: SnnGraph) -> Readout:
    (readout,) = graph.of_type(Readout)
    return readout


def _require(graph: Any, encode: Any, simulator: Any, finish: Finish | None) -> None:
    """Refuse arguments of another kind, and answers of half a network, in one line."""
    if finish is None and getattr(getattr(encode, "__self__", None), "host", None) is not None:
        raise UsageError(
            "ordinary ONNX makes the answers of this artefact out of the spiking network's: give "
            "finish=artefact.finish, too"
        )
    if not isinstance(graph, SnnGraph):
        raise InputError(f"{type(graph).__name__} is not a spiking network: give the `graph` of an artefact")
    if not callable(encode):
        raise InputError(f"{type(encode).__name__} encodes no rows: give the `encode` of an artefact")
    if not callable(getattr(simulator, "run", None)):
        raise UsageError(f"{type(simulator).__name__} is not a simulator: give load_simulator('numba')")


def _shards(n: int, progress: Progress, description: str) -> Iterator[slice]:
    starts: Sequence[int] = range(0, n, SHARD)
    for start in progress.track(starts, len(starts), description):
        yield slice(start, start + SHARD)
