"""Run both networks over the data, chunk by chunk, and gather what separates them.

Each chunk of rows is run through the source network, through the spiking network, and through the source
network driven by the spikes (*cumulative*: every layer gets what the layers before it really sent). Then each
layer is simulated alone on the source's own activations, coded by the rule of :mod:`snnc.report.coding`
(*local*: no error but its own reaches it, apart from the rounding of that code, which stands under
"propagated"). Nothing is kept of a chunk but sums, so memory does not grow with the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
from threadpoolctl import threadpool_limits

from snnc.analysis import costs
from snnc.analysis.costs import Costs
from snnc.analysis.scores import AnnScores, Answers, Scores, compared, judged, wants_values
from snnc.artefact import Artefact
from snnc.data import normalisation
from snnc.data.input_statistics import MOST_ROWS, Foreign, InputStatistics
from snnc.data.normalisation import Misread
from snnc.errors import InputError, InternalError, NonFiniteError
from snnc.ir.ann import AnnGraph, Softmax
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.snn import IntegrateFire, Readout, SnnGraph, SnnNode
from snnc.metrics import (
    Case,
    Loss,
    Outputs,
    Share,
    Task,
    behaves_as_classifier,
    finished,
    recognise,
    threshold_of,
)
from snnc.metrics.loss import ACCURACY, ANSWERS, loss_of_numbers
from snnc.progress import Progress, Silent
from snnc.report.coding import capacity, counts, evenly_spaced
from snnc.report.fed import FedSource, sources_of
from snnc.report.layers import LayerReport, summarise
from snnc.report.probes import ChannelOrder, InputUse, Probe
from snnc.report.serial_worker import SerialWorker
from snnc.report.statistics import LayerSums
from snnc.report.terms import decompose, decompose_readout, mean_input
from snnc.simulation.protocol import Activity, RecordOptions, Simulator
from snnc.source.ann_session import CHUNK, AnnSession
from snnc.source.source_map import activation, maximum_of, rectifier

BLOCK = 1 << 16
"""Neurons, times rows, whose errors are split at a time."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was found out about a conversion on some rows.

    Attributes:
        layers: of every population in topological order, and of the read-out.
        snn: answers of the spiking network.
        ann: answers of the source network, on the same rows.
        costs: operations of the spiking network.
        ann_macs: multiply-accumulates of each weighted layer of the source network, per image.
        nonzero: (*shape) of every population, in how many rows the source's activation, rounded to the levels
            that spikes have, is not zero.
        input_use: how the rows fill the range of the quantised input.
        foreign: how the rows differ from the calibration rows; ``None`` if they do not, or if the artefact
            has no statistics of those.
        misread: how the source network would rather read the rows; ``None`` if nothing tells.
        channel_order: whether the colours of the rows look reversed; ``None`` unless there are three.
        timesteps: T of the run.
        rows: how many were run.
        outputs: what the outputs are.
        ends: the activation that the source network ends with, as an ONNX operator; empty for none.
        case: the answers themselves, where they are not classes alone; else ``None``.
    """

    layers: tuple[LayerReport, ...]
    snn: Scores
    ann: AnnScores
    costs: Costs
    ann_macs: dict[str, int]
    nonzero: dict[str, IntArray]
    input_use: InputUse
    foreign: Foreign | None
    misread: Misread | None
    channel_order: ChannelOrder | None
    timesteps: int
    rows: int
    outputs: Outputs
    ends: str
    case: Case | None

    @property
    def tells_classes(self) -> bool:
        """Whether answers may be spoken of as classes; where that is not evident, their behaviour decides."""
        if self.case is None or self.outputs.task is not None or self.case.source is None:
            return self.outputs.have_classes
        return behaves_as_classifier(self.case.source.astype(np.float64))

    @property
    def loss(self) -> Loss:
        """What the conversion loses: of right answers, of the source's, or of the variance of its numbers."""
        if self.tells_classes and self.ann.paired is not None:
            paired = self.ann.paired
            return Loss(paired.drop, *paired.interval, paired.n, ACCURACY)
        if self.tells_classes and self.ann.agreement is not None:
            alike = self.ann.agreement
            differ = Share(alike.n - alike.hits, alike.n)
            return Loss(differ.value, *differ.interval, differ.n, ANSWERS)
        if self.case is None or self.case.source is None:
            raise InternalError("numbers were measured, and not kept")
        return loss_of_numbers(self.case.answers, self.case.source)

    @property
    def populations(self) -> tuple[LayerReport, ...]:
        """The layers that have neurons."""
        return tuple(layer for layer in self.layers if layer.firing is not None)


def measure(
    artefact: Artefact,
    source: AnnGraph,
    x: NumberArray,
    y: NumberArray | None,
    *,
    simulator: Simulator,
    task: Task | str | None = None,
    timesteps: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Measurement:
    """Measure a conversion.

    Args:
        artefact: the spiking network.
        source: the network that was lowered; see :func:`snnc.report.origin.prepared_source`.
        x: (n, ...) rows as the artefact takes them.
        y: (n, ...) labels, or ``None``.
        simulator: what runs the spiking network.
        task: what the user says of the outputs; else what the artefact remembers, or the labels tell.
        timesteps: T; the calibrated value by default.
        threads: used by the source network.
        progress: where to show how far it is.

    Raises:
        InputError: rows or labels do not fit.
        NonFiniteError: a network answers with NaN or infinity.
    """
    if len(x) == 0:
        raise InputError("there are no rows to measure on")
    readout = artefact.graph.readout
    ends = artefact.metadata.ends or _softmax(source)
    stored = artefact.metadata.stored_task
    size = prod(readout.shape) if artefact.finish is None else artefact.finish.size
    outputs = recognise(size, rows=len(x), labels=y, ends=ends, given=task, stored=stored)
    graph = artefact.graph
    steps = graph.timesteps if timesteps is None else timesteps
    starts = range(0, len(x), CHUNK)
    tracked = (progress or Silent()).track(starts, len(starts), f"measuring at T = {steps}")
    # One BLAS thread: the order of a sum, and with it the last bit, must not depend on their number.
    with threadpool_limits(1, "blas"), SerialWorker(threads) as behind:
        work = _Work(artefact, source, simulator, steps, threads, behind, outputs, ends)
        for start in tracked:
            rows = slice(start, start + CHUNK)
            work.add(x[rows], rows)
            behind.wait()
        return work.result(*_judged(artefact, source, x, threads, outputs.task))


def _judged(
    artefact: Artefact, source: AnnGraph, x: NumberArray, threads: int | None, task: Task | None
) -> tuple[Foreign | None, Misread | None]:
    """Return what is strange about rows to the calibration, and to the source network."""
    chosen = x if len(x) <= MOST_ROWS else x[np.linspace(0, len(x) - 1, MOST_ROWS).astype(np.int64)]
    rows = artefact.canonical(chosen)
    seen = InputStatistics.stored(artefact.metadata.calibration)
    name = source.logits
    session = AnnSession(source.without_thresholds(), [name], threads or 1)

    def run(values: FloatArray) -> FloatArray:
        return session.run(values)[name]

    misread = normalisation.judge(run, rows, task=task)
    return None if seen is None else seen.foreign(rows, chosen), misread


def _softmax(source: AnnGraph) -> str:
    """Return the softmax that a network ends with, as an ONNX operator; empty for none."""
    last = source[source.output]
    if not isinstance(last, Softmax):
        return ""
    return "LogSoftmax" if last.logarithm else "Softmax"


@dataclass(frozen=True, slots=True, eq=False)
class _States:
    """What the errors of a population on one chunk follow from, (batch, *shape) each.

    Attributes:
        z: the pre-activation in the source network.
        fed: what the source's parameters make of the spikes that arrived.
        count: the units that were sent.
        v: the final potentials.
    """

    z: FloatArray
    fed: FloatArray
    count: IntArray
    v: NumberArray

    def blocks(self) -> Iterator[_States]:
        """Yield a few rows at a time: so many neurons that a core's own memory holds their errors."""
        size = max(1, BLOCK // max(1, prod(self.v.shape[1:])))
        for start in range(0, len(self.v), size):
            rows = slice(start, start + size)
            count, v = np.ascontiguousarray(self.count[rows]), np.ascontiguousarray(self.v[rows])
            yield _States(self.z[rows], self.fed[rows], count, v)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer in the order of the local runs.

    Attributes:
        node: the population or the read-out.
        drivers: the populations whose spikes reach it.
        finished: those that no later layer reads.
    """

    node: IntegrateFire | Readout
    drivers: tuple[str, ...]
    finished: tuple[str, ...]


def _order(graph: SnnGraph, nodes: tuple[IntegrateFire | Readout, ...]) -> tuple[_Layer, ...]:
    drivers = {node.name: sources_of(graph, node.name) for node in nodes}
    last = {name: node.name for node in nodes for name in drivers[node.name]}
    return tuple(
        _Layer(node, drivers[node.name], tuple(name for name in last if last[name] == node.name))
        for node in nodes
    )


class _Work:
    """The sums of all chunks so far."""

    def __init__(
        self,
        artefact: Artefact,
        source: AnnGraph,
        simulator: Simulator,
        timesteps: int,
        threads: int | None,
        behind: SerialWorker,
        outputs: Outputs,
        ends: str,
    ) -> None:
        self.behind = behind
        self.outputs = outputs
        self.ends = ends
        keep = wants_values(outputs, ())
        self.finish = artefact.finish
        self.spiking = Answers(outputs, 0.0 if self.finish is None else threshold_of(ends), keep)
        self.analogue = Answers(outputs, threshold_of(ends), keep)
        self.artefact = artefact
        self.graph: SnnGraph = artefact.graph
        self.source = source.without_thresholds()
        self.simulator = simulator
        self.timesteps = timesteps
        self.steps = timesteps + self.graph.settle_steps
        self.populations = self.graph.of_type(IntegrateFire)
        self.readout = self.graph.readout
        self.fed = FedSource(source, self.graph, threads)
        self.logits = self.source.logits
        self.before = {node.name: rectifier(self.source, node).inputs[0] for node in self.populations}
        names = list(dict.fromkeys([*self.before.values(), self.logits]))
        self.session = AnnSession(self.source, names, threads or 1)
        self.maxima = {node.name: maximum_of(self.graph, self.source, node) for node in self.populations}
        self.order = _order(self.graph, (*self.populations, self.readout))
        self.sums = {node.name: self._begun(node) for node in (*self.populations, self.readout)}
        self.probe = Probe(self.graph, self.source, self.fed, self.logits)
        self.activity: dict[str, Activity] = {}
        self.nonzero: dict[str, IntArray] = {
            node.name: np.zeros(node.shape, np.int64) for node in self.populations
        }
        self.rows = 0

    def _begun(self, node: SnnNode) -> LayerSums:
        if not isinstance(node, IntegrateFire):
            infinite, one = np.full(node.channels, np.inf), np.ones(node.channels)
            return LayerSums(node.shape, None, infinite, one, one)
        most = capacity(node, self.timesteps, self.steps)
        step = node.spike_scale.astype(np.float64) / self.timesteps
        theta = node.lowest + step * most
        return LayerSums(node.shape, most, theta, step, node.threshold)

    def add(self, x: NumberArray, where: slice) -> None:
        """Run one chunk; ``where`` says which rows they are."""
        labels = None if self.outputs.classes is None else self.outputs.classes[where]
        rows, q = self.artefact.canonical(x), self.artefact.encode(x)
        values = self.session.run(rows)
        logits = values[self.logits].reshape(len(x), -1)
        if not np.isfinite(logits).all():
            raise NonFiniteError("the source network answers with NaN or infinity on these rows")
        trace = self.simulator.run(self.graph, q, self.timesteps, RecordOptions(states=True, activity=True))
        for name, counted in trace.activity.items():
            self.activity[name] = self.activity[name] + counted if name in self.activity else counted
        outputs = self.readout.real(trace.logits, self.timesteps)
        self._add_cumulative(values, q, trace.counts, trace.potentials, outputs)
        self._add_local(values, q)
        # The labels are of the answers, which ordinary ONNX has yet to make of these.
        self.probe.add(rows, q, labels if self.finish is None else None, logits)
        if self.finish is None:
            self.spiking.add(outputs.reshape(len(x), -1), where)
            self.analogue.add(finished(logits, self.ends), where)
        else:
            self.spiking.add(self.finish.only(trace, x), where)
            (exit_,) = self.graph.output_names
            (answers,) = self.artefact.completed({exit_: values[self.logits]}, x).values()
            self.analogue.add(answers.reshape(len(x), -1), where)
        self.rows += len(x)

    def _add_cumulative(
        self,
        values: dict[str, FloatArray],
        q: IntArray,
        counted: dict[str, IntArray],
        potentials: dict[str, NumberArray],
        outputs: FloatArray,
    ) -> None:
        fed = self.fed.run(q, counted, self.timesteps)
        for index, node in enumerate(self.populations):
            n, v = counted[node.name], potentials[node.name]
            states = _States(values[self.before[node.name]], fed[node.name], n, v)
            self.behind.do(partial(self._add_population, node, states, local=False))
            if not self.order[index].drivers:
                zhat = mean_input(node, n, v, self.timesteps)
                self.probe.add_first(node.name, q, zhat, counted, self.timesteps)
        z_fed = fed[self.fed.logits].reshape(outputs.shape)
        logits = values[self.logits].reshape(outputs.shape)
        self.sums[self.readout.name].cumulative.add(decompose_readout(logits, z_fed, outputs))

    def _add_population(self, node: IntegrateFire, states: _States, *, local: bool) -> None:
        sums, relu = self.sums[node.name], self.fed.rectifier(node.name)
        for few in states.blocks():
            found = decompose(node, relu, few.z, few.fed, few.count, few.v, self.timesteps, self.steps)
            window = self.maxima[node.name]
            seen = found if window is None else found.behind(window)
            (sums.local if local else sums.cumulative).add(seen)
            if not local:
                sums.add_neurons(found, few.count, few.v)

    def _add_local(self, values: dict[str, FloatArray], q: IntArray) -> None:
        coded: dict[str, IntArray] = {}
        trains: dict[str, IntArray] = {}
        for node in self.populations:
            a = activation(self.fed.rectifier(node.name), values[self.before[node.name]])
            coded[node.name] = counts(node, a, self.timesteps)
            self.nonzero[node.name] += np.count_nonzero(coded[node.name], axis=0)
        fed = self.fed.run(q, coded, self.timesteps)
        for layer in self.order:
            for name in layer.drivers:
                if name not in trains:
                    trains[name] = evenly_spaced(coded[name], self.timesteps, self.graph.settle_steps)
            given = {name: trains[name] for name in layer.drivers}
            record = RecordOptions(states=True, until=(layer.node.name,))
            trace = self.simulator.run(self.graph, q, self.timesteps, record, given=given)
            if isinstance(layer.node, IntegrateFire):
                node = layer.node
                n, v = trace.counts[node.name], trace.potentials[node.name]
                states = _States(values[self.before[node.name]], fed[node.name], n, v)
                self.behind.do(partial(self._add_population, node, states, local=True))
            else:
                outputs = self.readout.real(trace.logits, self.timesteps)
                logits = values[self.logits].reshape(outputs.shape)
                found = decompose_readout(logits, fed[self.fed.logits].reshape(outputs.shape), outputs)
                self.sums[layer.node.name].local.add(found)
            for name in layer.finished:
                del trains[name]

    def result(self, foreign: Foreign | None, misread: Misread | None) -> Measurement:
        """Return what all chunks say together."""
        counted = costs.count(self.graph, self.activity, self.rows, self.timesteps)
        by_name = {layer.name: layer for layer in counted.layers}
        behind = self.finish is not None
        snn, ann = judged(self.spiking, self.analogue, (), self.ends, behind=behind)
        macs = costs.macs_of_ann(self.source)
        return Measurement(
            layers=tuple(
                summarise(node, self.sums[node.name], by_name.get(node.name), self.rows, self.steps)
                for node in (*self.populations, self.readout)
            ),
            snn=snn,
            ann=compared(snn, ann or snn, self.outputs, sum(macs.values())),
            costs=counted,
            ann_macs=macs,
            nonzero=self.nonzero,
            input_use=self.probe.input_use(),
            foreign=foreign,
            misread=misread,
            channel_order=self.probe.channel_order(),
            timesteps=self.timesteps,
            rows=self.rows,
            outputs=self.outputs,
            ends=self.ends,
            case=self._case(),
        )

    def _case(self) -> Case | None:
        if not self.spiking.keep:
            return None
        told = np.concatenate(self.spiking.values).astype(np.float64)
        answers = told if self.finish is not None else finished(told, self.ends)
        source = np.concatenate(self.analogue.values)
        return Case(answers, self.outputs.task, source, self.outputs.labels, threshold_of(self.ends))
