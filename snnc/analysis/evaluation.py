"""Evaluation of a spiking network and its source: metrics with intervals, spikes and operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc import notebook
from snnc.analysis import costs
from snnc.analysis.answers import Source, require_network, rows_of, shards
from snnc.analysis.costs import Costs
from snnc.analysis.latency import latency_steps
from snnc.analysis.parts import Part, Parts, ask, collect, run_part
from snnc.analysis.scores import AnnScores, Answers, Scores, compared, judged, measured, wants_values
from snnc.data.row_files import as_rows
from snnc.errors import InputError, UsageError
from snnc.ir.batch import Batch, Given, Rows
from snnc.ir.graph import NumberArray
from snnc.ir.layout import InputLayout
from snnc.ir.snn import SnnGraph
from snnc.metrics.catalogue import Case
from snnc.metrics.outputs import Asked, Labels, metrics_by_output, recognise_outputs
from snnc.metrics.shares import Paired as Paired
from snnc.metrics.shares import Share as Share
from snnc.metrics.task import Task, threshold_of
from snnc.progress import Callback, Progress, as_progress
from snnc.simulation.protocol import Activity, Simulator
from snnc.source.finish import Finish


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found of one output.

    Attributes:
        scores: the spiking network's answers.
        ann: the source network on the same rows, where one was given.
    """

    scores: Scores
    ann: AnnScores | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        found: dict[str, Any] = self.scores.as_dict()
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
class Evaluation:
    """What :func:`evaluate` found.

    Attributes:
        outputs: what each output answers, by its name.
        costs: its spikes and operations.
        timesteps: T of the run.
        settle_steps: K.
        latency_steps: from the input to the answer.
        payload: what one event carries.
        simulator: that ran it.
        counted_by: the simulator that counted the spikes.
    """

    outputs: Mapping[str, Judged]
    costs: Costs
    timesteps: int
    settle_steps: int
    latency_steps: int
    payload: str
    simulator: str
    counted_by: str

    @property
    def scores(self) -> Scores:
        """The spiking network's answers of the one output.

        Raises:
            UsageError: there are several.
        """
        return self._only.scores

    @property
    def ann(self) -> AnnScores | None:
        """The source network on the same rows, where one was given; of the one output.

        Raises:
            UsageError: there are several.
        """
        return self._only.ann

    @property
    def _only(self) -> Judged:
        if len(self.outputs) != 1:
            listed = ", ".join(map(repr, self.outputs))
            raise UsageError(f"there are {len(self.outputs)} outputs, {listed}: each is judged on its own")
        return next(iter(self.outputs.values()))

    def _repr_html_(self) -> str:
        """Return the figures as a table, for notebooks: the spiking network, and the source beside it."""
        rows: list[tuple[str, str, str]] = []
        for name, found in self.outputs.items():
            of = f"{name}: " if len(self.outputs) > 1 else ""
            ann = None if found.ann is None else found.ann.scores
            beside = {} if ann is None else {each.metric: str(each) for each in ann.measured}
            for what, share, other in (
                ("top-1", found.scores.top1, None if ann is None else ann.top1),
                ("top-5", found.scores.top5, None if ann is None else ann.top5),
            ):
                if share is not None:
                    rows.append((of + what, str(share), str(other or "")))
            for each in found.scores.measured:
                what = f"{of}{each.metric} against the {each.against}"
                rows.append((what, str(each), beside.get(each.metric, "")))
        steps = f"T = {self.timesteps}, K = {self.settle_steps}; latency {self.latency_steps}"
        last = next(iter(self.outputs.values()))
        rows += [
            ("rows", str(last.scores.n), "" if last.ann is None else str(last.ann.scores.n)),
            ("time steps", steps, ""),
            ("spike payload", self.payload, ""),
            ("spikes per neuron per step", f"{self.costs.spikes_per_neuron_per_step:.4f}", ""),
            ("synaptic operations per image", f"{self.costs.synops:,.0f}", ""),
        ]
        return notebook.table("snnc evaluation", rows, ("", "SNN", "ANN"))

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, by output where there are several; operations are per image, of all steps."""
        several = {"outputs": {name: found.as_dict() for name, found in self.outputs.items()}}
        shown = several if len(self.outputs) > 1 else self._only.as_dict()
        return {
            **shown,
            "timesteps": self.timesteps,
            "settle_steps": self.settle_steps,
            "latency_steps": self.latency_steps,
            "payload": self.payload,
            "backend": self.simulator,
            "counted_by": self.counted_by,
            **self.costs.as_dict(),
        }


def evaluate(
    graph: SnnGraph,
    encode: Callable[[Rows], Rows],
    x: Given,
    y: Labels,
    *,
    simulator: Simulator,
    counter: Simulator | None = None,
    timesteps: int | None = None,
    source: Source | None = None,
    task: Task | str | Mapping[str, Task | None] | None = None,
    ends: str | Mapping[str, str] = "",
    metrics: Sequence[str] = (),
    layouts: Mapping[str, InputLayout] = {},
    progress: Progress | Callback | None = None,
    finish: Finish | None = None,
    parts: Parts | None = None,
) -> Evaluation:
    """Run a network, and the one that it came from, on the same rows.

    Args:
        graph: the spiking network.
        encode: from rows of ``x`` to the quantised input; see ``Artefact.encode``.
        x: (n, ...) rows as they are stored; of several inputs one array each, by name.
        y: (n,) classes or (n, outputs) numbers, or ``None`` if there are no labels; of several outputs a
            mapping by their names of those that there are.
        simulator: what runs the network.
        counter: what counts the spikes, where ``simulator`` cannot; it has to give the same answers.
        timesteps: T; the calibrated value by default.
        source: the network to compare with, row by row.
        task: what the outputs are, or each of them by name; ``None`` to recognise it, see
            :mod:`snnc.metrics.task`.
        ends: the activation that the source network ends with, see ``Metadata.ends``, or each output by name,
            where ``source`` is not given to ask.
        metrics: names of :data:`snnc.metrics.METRICS`; without, those that go with the task. Of several
            outputs each is measured where it fits; ``OUTPUT:METRIC`` asks it of one.
        layouts: of the outputs, by name, where the source lays them out otherwise.
        progress: called with (done, total, description), or an object that shows it.
        finish: what ordinary ONNX makes of a run, see ``Artefact.finish``; its answers are the source's,
            behind any activation.
        parts: runs the rows elsewhere; see :mod:`snnc.remote.evaluation`.

    Raises:
        InputError: rows or labels do not fit.
        NonFiniteError: a network answers with NaN, or with infinity where values are measured.
        UsageError: a metric does not fit, or what it compares with is missing.
        InternalError: the two simulators disagree on an integer network.
    """
    require_network(graph, encode, simulator, finish)
    rows = rows_of(encode, [node.name for node in graph.inputs], graph.name, x)
    shown = as_progress(progress)
    if len(rows) == 0:
        raise InputError("there are no rows to evaluate")
    asked = ask(
        graph,
        len(rows),
        y,
        ends=ends if source is None else source.session.all_ends,
        task=task,
        metrics=metrics,
        layouts=layouts,
        finish=finish,
        has_source=source is not None,
    )
    counter = counter or simulator
    names = simulator.name, counter.name
    if finish is not None:
        is_same = counter is simulator
        simulator = finish.simulator(simulator)
        counter = simulator if is_same else finish.simulator(counter)
    steps = graph.timesteps if timesteps is None else timesteps
    spiking, analogue = asked.collectors()
    activity: dict[str, Activity] = {}

    def here() -> Iterator[tuple[slice, Part]]:
        for part in shards(len(rows), shown, f"evaluating at T = {steps}"):
            yield (
                part,
                run_part(
                    graph,
                    encode,
                    rows[part],
                    steps,
                    simulator=simulator,
                    counter=counter,
                    source=source,
                    layouts=layouts,
                    finish=finish,
                    outputs=tuple(asked.outputs),
                ),
            )

    for part, found in here() if parts is None else parts(spiking, analogue):
        for name, values in found.spiking.items():
            collect(spiking[name], values, part)
        for name, counted in found.activity.items():
            activity[name] = activity[name] + counted if name in activity else counted
        for name, values in found.analogue.items():
            collect(analogue[name], values, part)
    judgements: dict[str, Judged] = {}
    for name, outputs in asked.outputs.items():
        beside = analogue[name] if source is not None else None
        wanted, end = asked.metrics[name], asked.ends[name]
        scores, ann = judged(spiking[name], beside, wanted, end, behind=asked.behind[name])
        macs = None if source is None else source.macs
        judgements[name] = Judged(scores, None if ann is None else compared(scores, ann, outputs, macs))
    return Evaluation(
        outputs=judgements,
        costs=costs.count(graph, activity, len(rows), steps),
        timesteps=steps,
        settle_steps=graph.settle_steps,
        latency_steps=latency_steps(graph, steps, None if finish is None else finish.segments),
        payload=costs.payload(graph, steps),
        simulator=names[0],
        counted_by=names[1],
    )


def evaluate_ann(
    source: Source,
    x: Given,
    y: Labels,
    progress: Progress | Callback | None = None,
    *,
    task: Task | str | None = None,
    metrics: Sequence[str] = (),
    answered: Iterator[tuple[slice, Mapping[str, NumberArray]]] | None = None,
) -> dict[str, Scores]:
    """Run an ordinary network on labelled rows; see :func:`evaluate` for the arguments.

    Args:
        source: the network.
        x: the rows.
        y: their labels.
        progress: where to show how far it is.
        task: what the outputs are.
        metrics: those that are wanted.
        answered: what the network answers by output, (n, *shape), to consecutive rows, where it runs
            elsewhere.

    Returns:
        What each output answers, by its name.
    """
    rows = x if isinstance(x, Batch) else as_rows(x)
    ends = source.session.all_ends
    answers: dict[str, Answers] = {}
    wanted: dict[str, Asked] = {}

    def here() -> Iterator[tuple[slice, Mapping[str, NumberArray]]]:
        for part in shards(len(rows), as_progress(progress), "evaluating the ANN"):
            yield part, source.session.run_all(source.prepare(rows[part]))

    for part, found in here() if answered is None else answered:
        if not answers:
            shapes = {name: values.shape[1:] for name, values in found.items()}
            outputs = recognise_outputs(shapes, rows=len(rows), labels=y, ends=ends, given=task)
            wanted = metrics_by_output(metrics, outputs, has_source=False)
            answers = {
                name: Answers(each, threshold_of(ends[name]), wants_values(each, wanted[name]))
                for name, each in outputs.items()
            }
        for name, values in found.items():
            answers[name].add(values.reshape(len(values), -1), part)
    if not answers:
        raise InputError("there are no rows to evaluate")
    return {name: _scores_alone(each, wanted[name]) for name, each in answers.items()}


def _scores_alone(answers: Answers, metrics: Asked) -> Scores:
    if not answers.keep:
        return answers.scores()
    values, outputs = np.concatenate(answers.values), answers.outputs
    case = Case(values, outputs.task, None, outputs.labels, answers.threshold, outputs.places)
    return answers.scores(measured(case, outputs, metrics))
