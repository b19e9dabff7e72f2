"""Evaluation of a spiking network and its source: metrics with intervals, spikes and operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc import notebook
from snnc.analysis import costs
from snnc.analysis.costs import Costs
from snnc.analysis.scores import (
    AnnScores,
    Answers,
    Reduced,
    Scores,
    compared,
    judged,
    measured,
    wants_values,
)
from snnc.data.row_files import as_rows, named_rows
from snnc.errors import InputError, InternalError, UsageError
from snnc.ir.batch import Batch, Given, Rows, joined
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray, NumberArray, Shape
from snnc.ir.layout import InputLayout
from snnc.ir.snn import Readout, SnnGraph
from snnc.metrics.catalogue import Case
from snnc.metrics.outputs import Asked, Labels, metrics_by_output, recognise_outputs
from snnc.metrics.shares import Paired as Paired
from snnc.metrics.shares import Share as Share
from snnc.metrics.task import Outputs, Task, threshold_of
from snnc.progress import Callback, Progress, as_progress
from snnc.simulation.protocol import Activity, RecordOptions, Simulator, Trace
from snnc.source.host import Finish
from snnc.source.source_session import SourceSession

SHARD = 250
"""Rows that are worked on at once: memory does not grow with the data set."""


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
    prepare: Callable[[Rows], Rows]
    macs: int | None = None
    check_rows: Callable[[Rows, str], None] = lambda x, name: None

    def answers(self, x: Rows, outputs: Sequence[str] = ()) -> dict[str, FloatArray]:
        """Return what it answers to rows as they are given, (n, values) per output, by name."""
        found = self.session.run_all(self.prepare(x), outputs)
        return {name: values.reshape(len(values), -1) for name, values in found.items()}


@dataclass(frozen=True, slots=True)
class Part:
    """What both networks made of some consecutive rows.

    Attributes:
        spiking: the answers of the spiking network by the output's name: (n, values), or reduced.
        analogue: the same of the source network; empty where there is none.
        activity: events of every population.
    """

    spiking: Mapping[str, NumberArray | Reduced]
    analogue: Mapping[str, NumberArray | Reduced]
    activity: Mapping[str, Activity]


Parts = Callable[[Mapping[str, Answers], Mapping[str, Answers]], Iterator[tuple[slice, Part]]]
"""Runs all rows somewhere else, and yields what was made of them, in order. It is given what is collected of
the spiking and of the source network, by output."""


def run_part(
    graph: SnnGraph,
    encode: Callable[[Rows], Rows],
    x: Rows,
    steps: int,
    *,
    simulator: Simulator,
    counter: Simulator,
    source: Source | None = None,
    layouts: Mapping[str, InputLayout] = {},
    finish: Finish | None = None,
    outputs: Sequence[str] = (),
) -> Part:
    """Run both networks on some rows; see :func:`evaluate` for the arguments.

    Args:
        graph: the spiking network.
        encode: from rows to its input.
        x: the rows.
        steps: T.
        simulator: what runs it, with what ordinary ONNX makes of it where that is ``finish``.
        counter: what counts the spikes, likewise.
        source: the network to compare with.
        layouts: of the outputs.
        finish: what ordinary ONNX makes of a run.
        outputs: those of the source that are wanted.

    Raises:
        InternalError: the two simulators disagree on an integer network.
    """
    q = encode(x)
    trace = counter.run(graph, q, steps, RecordOptions(activity=True))
    answered = trace if counter is simulator else simulator.run(graph, q, steps, RecordOptions())
    differ = [n for n, each in trace.outputs.items() if not np.array_equal(each, answered.outputs[n])]
    if graph.integer and differ:
        raise InternalError(f"the simulators {simulator.name} and {counter.name} differ on {graph.name}")
    found = _answered(graph, answered, x, layouts, finish)
    return Part(
        {name: values.reshape(len(values), -1) for name, values in found.items()},
        {} if source is None else source.answers(x, outputs),
        dict(trace.activity),
    )


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked of the answers of both networks.

    Attributes:
        outputs: what each output is, by its name.
        metrics: that are asked of it.
        ends: the activation that the source ends it with.
        behind: whether the spiking network's answers lie behind that activation.
    """

    outputs: Mapping[str, Outputs]
    metrics: Mapping[str, Asked]
    ends: Mapping[str, str]
    behind: bool

    def collectors(self) -> tuple[dict[str, Answers], dict[str, Answers]]:
        """Return what collects the answers of the spiking and of the source network, by output."""

        def collector(name: str, threshold: float) -> Answers:
            outputs = self.outputs[name]
            return Answers(outputs, threshold, wants_values(outputs, self.metrics[name]))

        thresholds = {name: threshold_of(self.ends[name]) for name in self.outputs}
        return (
            {name: collector(name, each if self.behind else 0.0) for name, each in thresholds.items()},
            {name: collector(name, each) for name, each in thresholds.items()},
        )


def ask(
    graph: SnnGraph,
    rows: int,
    y: Labels,
    *,
    ends: str | Mapping[str, str] = "",
    task: Task | str | Mapping[str, Task | None] | None = None,
    metrics: Sequence[str] = (),
    layouts: Mapping[str, InputLayout] = {},
    finish: Finish | None = None,
    has_source: bool = False,
) -> Asking:
    """Find out what the outputs are and what is asked of them; see :func:`evaluate` for the arguments.

    Args:
        graph: the spiking network.
        rows: how many there are.
        y: their labels.
        ends: the activation that the source ends with, or each output by name.
        task: what the outputs are.
        metrics: those that are wanted.
        layouts: of the outputs.
        finish: what ordinary ONNX makes of a run.
        has_source: whether there is a network to compare with.
    """
    shapes = _shapes(graph, layouts, finish)
    by_output = _by_output(shapes, ends)
    kinds = recognise_outputs(shapes, rows=rows, labels=y, ends=by_output, given=task)
    wanted = metrics_by_output(metrics, kinds, has_source=has_source)
    return Asking(kinds, wanted, by_output, finish is not None)


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
        parts: runs the rows elsewhere; see :mod:`snnc.analysis.shards`.

    Raises:
        InputError: rows or labels do not fit.
        NonFiniteError: a network answers with NaN, or with infinity where values are measured.
        UsageError: a metric does not fit, or what it compares with is missing.
        InternalError: the two simulators disagree on an integer network.
    """
    _require(graph, encode, simulator, finish)
    rows, shown = _given(encode, graph, x), as_progress(progress)
    if len(rows) == 0:
        raise InputError("there are no rows to evaluate")
    known = ends if source is None else source.session.all_ends
    asked = ask(
        graph,
        len(rows),
        y,
        ends=known,
        task=task,
        metrics=metrics,
        layouts=layouts,
        finish=finish,
        has_source=source is not None,
    )
    ends, kinds, wanted = asked.ends, asked.outputs, asked.metrics
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
        for part in _shards(len(rows), shown, f"evaluating at T = {steps}"):
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
                    outputs=tuple(kinds),
                ),
            )

    for part, found in here() if parts is None else parts(spiking, analogue):
        for name, values in found.spiking.items():
            _collect(spiking[name], values, part)
        for name, counted in found.activity.items():
            activity[name] = activity[name] + counted if name in activity else counted
        for name, values in found.analogue.items():
            _collect(analogue[name], values, part)
    judgements: dict[str, Judged] = {}
    for name, outputs in kinds.items():
        beside = analogue[name] if source is not None else None
        scores, ann = judged(spiking[name], beside, wanted[name], ends[name], behind=finish is not None)
        macs = None if source is None else source.macs
        judgements[name] = Judged(scores, None if ann is None else compared(scores, ann, outputs, macs))
    return Evaluation(
        outputs=judgements,
        costs=costs.count(graph, activity, len(rows), steps),
        timesteps=steps,
        settle_steps=graph.settle_steps,
        latency_steps=costs.latency_steps(graph, steps, None if finish is None else finish.segments),
        payload=costs.payload(graph, steps),
        simulator=names[0],
        counted_by=names[1],
    )


def _collect(answers: Answers, values: NumberArray | Reduced, rows: slice) -> None:
    if isinstance(values, Reduced):
        answers.join(values, rows)
    else:
        answers.add(values, rows)


def _given(encode: Callable[[Rows], Rows], graph: SnnGraph, x: Given) -> Rows:
    """Return rows as an array, or as a batch of several inputs."""
    takes = getattr(getattr(encode, "__self__", None), "takes", None)  # an artefact's may be others
    names = [node.name for node in graph.inputs] if takes is None else list(takes)
    return joined(named_rows(x, names, graph.name, "the rows")) if len(names) > 1 else as_rows(x)


def _shapes(graph: SnnGraph, layouts: Mapping[str, InputLayout], finish: Finish | None) -> dict[str, Shape]:
    """Return the shape of each answer, by the output's name."""
    if finish is not None:
        if finish.uncounted:
            raise UsageError(
                f"the output {finish.uncounted[0]!r} has another number of entries than there are rows, so "
                "that no metric fits: convert with --keep-output NAME for the others"
            )
        return dict(finish.shapes)
    return {
        name: layouts[name].source_shape if name in layouts else node.shape
        for name, node in graph.readouts.items()
    }


def _answered(
    graph: SnnGraph, trace: Trace, x: Rows, layouts: Mapping[str, InputLayout], finish: Finish | None
) -> dict[str, NumberArray]:
    """Return the answers of a run in units and layout of the source, (n, *shape) by the output's name."""
    if finish is not None:
        return dict(finish.answers(trace, x))
    found: dict[str, NumberArray] = {}
    for name, readout in graph.readouts.items():
        values = readout.real(trace.outputs[name], trace.timesteps)
        found[name] = layouts[name].to_source(values) if name in layouts else values
    return found


def _by_output(shapes: Mapping[str, Shape], ends: str | Mapping[str, str]) -> dict[str, str]:
    if isinstance(ends, str):
        return dict.fromkeys(shapes, ends)
    return {name: ends.get(name, "") for name in shapes}


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
        for part in _shards(len(rows), as_progress(progress), "evaluating the ANN"):
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


def answers_of(source: Source, x: Rows, progress: Progress | Callback | None = None) -> NumberArray:
    """Return what an ordinary network answers, (n, outputs); see :func:`evaluate` for the arguments."""
    tracked = _shards(len(x), as_progress(progress), "running the ANN")
    return np.concatenate([source.session.run(source.prepare(x[rows])) for rows in tracked])


def outputs_of(
    graph: SnnGraph,
    encode: Callable[[Rows], Rows],
    x: Given,
    *,
    simulator: Simulator,
    timesteps: int,
    per_step: bool = False,
    progress: Progress | Callback | None = None,
    finish: Finish | None = None,
) -> NumberArray:
    """Return what a network of one output answers, flat; see :func:`evaluate` for the arguments.

    Returns:
        (n, outputs), or (T + K, n, outputs) where the answer after every step is wanted.

    Raises:
        UsageError: there are several outputs; or the answer after every step is wanted of a network that
            ordinary ONNX finishes, once, behind the last step.
    """
    found = all_outputs_of(
        graph,
        encode,
        x,
        simulator=simulator,
        timesteps=timesteps,
        per_step=per_step,
        progress=progress,
        finish=finish,
    )
    if len(found) != 1:
        raise UsageError(f"there are {len(found)} outputs, {', '.join(map(repr, found))}, and this takes one")
    (values,) = found.values()
    return values.reshape(*values.shape[: 1 + per_step], -1)


def all_outputs_of(
    graph: SnnGraph,
    encode: Callable[[Rows], Rows],
    x: Given,
    *,
    simulator: Simulator,
    timesteps: int,
    per_step: bool = False,
    progress: Progress | Callback | None = None,
    finish: Finish | None = None,
) -> dict[str, NumberArray]:
    """Return what every output of a network answers; see :func:`evaluate` for the arguments.

    Returns:
        (n, *shape) per output, by name, or (T + K, n, *shape) where the answer after every step is wanted.

    Raises:
        UsageError: that is wanted of a network that ordinary ONNX finishes, once, behind the last step.
    """
    _require(graph, encode, simulator, finish)
    if finish is not None and per_step:
        raise UsageError(
            "ordinary ONNX makes the answers behind the last step, so there are none after every step"
        )
    if finish is not None:
        simulator = finish.simulator(simulator)
    read = tuple(dict.fromkeys(name for node in graph.readouts.values() for name in node.inputs))
    record = RecordOptions(trains=read if per_step else ())
    rows = _given(encode, graph, x)
    found: dict[str, list[NumberArray]] = {}
    for part in _shards(len(rows), as_progress(progress), f"running at T = {timesteps}"):
        trace = simulator.run(graph, encode(rows[part]), timesteps, record)
        outputs = trace.outputs if finish is None else finish.answers(trace, rows[part])
        for name, y in outputs.items():
            kept = _after_every_step(graph.readouts[name], trace, y.dtype) if per_step else y
            found.setdefault(name, []).append(kept)
    return {name: np.concatenate(parts, axis=1 if per_step else 0) for name, parts in found.items()}


def _after_every_step(readout: Readout, trace: Trace, kind: np.dtype[Any]) -> NumberArray:
    """Return what a read-out holds after every step, (T + K, n, *shape)."""
    currents = np.add.reduce([trace.trains[name] for name in readout.inputs], dtype=kind)
    biased = np.minimum(np.arange(1, len(currents) + 1), trace.timesteps).astype(currents.dtype)
    bias = per_channel(readout.bias, len(readout.shape))
    total: NumberArray = currents.cumsum(axis=0, dtype=currents.dtype)
    return total + biased.reshape(-1, *(1,) * (currents.ndim - 1)) * bias


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
