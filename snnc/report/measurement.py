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

from snnc import costs
from snnc.ann_session import CHUNK, AnnSession
from snnc.artefact import Artefact
from snnc.correspondence import activation, rectifier
from snnc.costs import Costs
from snnc.errors import InputError, NonFiniteError
from snnc.evaluation import AnnScores, Paired, Scores, Share
from snnc.ir.ann import AnnGraph
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.snn import IntegrateFire, Readout, SnnGraph, SnnNode
from snnc.progress import Progress, Silent
from snnc.report.behind import Behind
from snnc.report.coding import capacity, counts, evenly_spaced
from snnc.report.fed import FedSource, logits_name, sources_of
from snnc.report.layers import LayerReport, summarise
from snnc.report.probes import ChannelOrder, InputUse, Probe
from snnc.report.statistics import LayerSums
from snnc.report.terms import decompose, decompose_readout, mean_input
from snnc.target import Activity, Record, Simulator

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
        channel_order: whether the colours of the rows look reversed; ``None`` unless there are three.
        timesteps: T of the run.
        rows: how many were run.
    """

    layers: tuple[LayerReport, ...]
    snn: Scores
    ann: AnnScores
    costs: Costs
    ann_macs: dict[str, int]
    nonzero: dict[str, IntArray]
    input_use: InputUse
    channel_order: ChannelOrder | None
    timesteps: int
    rows: int

    @property
    def populations(self) -> tuple[LayerReport, ...]:
        """The layers that have neurons."""
        return tuple(layer for layer in self.layers if layer.firing is not None)


def measure(
    artefact: Artefact,
    source: AnnGraph,
    x: NumberArray,
    y: IntArray | None,
    *,
    simulator: Simulator,
    timesteps: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Measurement:
    """Measure a conversion.

    Args:
        artefact: the spiking network.
        source: the network that was lowered; see :func:`snnc.report.origin.prepared_source`.
        x: (n, ...) rows as the artefact takes them.
        y: (n,) labels, or ``None``.
        simulator: what runs the spiking network.
        timesteps: T; the calibrated value by default.
        threads: used by the source network.
        progress: where to show how far it is.

    Raises:
        InputError: rows or labels do not fit.
        NonFiniteError: a network answers with NaN or infinity.
    """
    labels = _checked_labels(x, y)
    graph = artefact.graph
    steps = graph.timesteps if timesteps is None else timesteps
    starts = range(0, len(x), CHUNK)
    tracked = (progress or Silent()).track(starts, len(starts), f"measuring at T = {steps}")
    # One BLAS thread: the order of a sum, and with it the last bit, must not depend on their number.
    with threadpool_limits(1, "blas"), Behind(threads) as behind:
        work = _Work(artefact, source, simulator, steps, threads, behind)
        for start in tracked:
            rows = slice(start, start + CHUNK)
            work.add(x[rows], None if labels is None else labels[rows])
            behind.wait()
    return work.result(labels)


def _checked_labels(x: NumberArray, y: IntArray | None) -> IntArray | None:
    if len(x) == 0:
        raise InputError("there are no rows to measure on")
    if y is None:
        return None
    if y.dtype.kind not in "ui" or y.shape != (len(x),):
        raise InputError(f"labels of type {y.dtype} and shape {y.shape} do not fit {len(x)} rows")
    return y.astype(np.int64)


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
        behind: Behind,
    ) -> None:
        self.behind = behind
        self.artefact = artefact
        self.graph: SnnGraph = artefact.graph
        self.source = source.without_thresholds()
        self.simulator = simulator
        self.timesteps = timesteps
        self.steps = timesteps + self.graph.settle_steps
        self.populations = self.graph.of_type(IntegrateFire)
        self.readout = self.graph.of_type(Readout)[0]
        self.fed = FedSource(source, self.graph, threads)
        self.logits = logits_name(self.source)
        self.before = {node.name: rectifier(self.source, node).inputs[0] for node in self.populations}
        names = list(dict.fromkeys([*self.before.values(), self.logits]))
        self.session = AnnSession(self.source, names, threads or 1)
        self.order = _order(self.graph, (*self.populations, self.readout))
        self.sums = {node.name: self._begun(node) for node in (*self.populations, self.readout)}
        self.probe = Probe(self.graph, self.source, self.fed, self.logits)
        self.activity: dict[str, Activity] = {}
        self.classes: list[tuple[IntArray, IntArray]] = []
        self.nonzero: dict[str, IntArray] = {
            node.name: np.zeros(node.shape, np.int64) for node in self.populations
        }
        self.rows = 0

    def _begun(self, node: SnnNode) -> LayerSums:
        if not isinstance(node, IntegrateFire):
            infinite, one = np.full(node.channels, np.inf), np.ones(node.channels)
            return LayerSums(node.shape, None, infinite, one, one)
        most = capacity(node, self.timesteps, self.steps)
        step = node.unit.astype(np.float64) / self.timesteps
        theta = node.lowest + step * most
        return LayerSums(node.shape, most, theta, step, node.threshold)

    def add(self, x: NumberArray, labels: IntArray | None) -> None:
        """Run one chunk."""
        rows, q = self.artefact.canonical(x), self.artefact.encode(x)
        values = self.session.run(rows)
        logits = values[self.logits].reshape(len(x), -1)
        if not np.isfinite(logits).all():
            raise NonFiniteError("the source network answers with NaN or infinity on these rows")
        self._check_classes(labels, logits.shape[1])
        trace = self.simulator.run(self.graph, q, self.timesteps, Record(states=True, activity=True))
        for name, counted in trace.activity.items():
            self.activity[name] = self.activity[name] + counted if name in self.activity else counted
        outputs = self._scaled(trace.logits)
        self._add_cumulative(values, q, trace.counts, trace.potentials, outputs)
        self._add_local(values, q)
        self.probe.add(rows, q, labels, logits)
        self.classes.append((trace.logits.argmax(axis=1), logits.argmax(axis=1)))
        self.rows += len(x)

    def _scaled(self, outputs: NumberArray) -> FloatArray:
        return (outputs * (self.readout.scale / self.timesteps)).astype(np.float64)

    def _check_classes(self, labels: IntArray | None, classes: int) -> None:
        if labels is not None and (labels.min() < 0 or labels.max() >= classes):
            wrong = labels.max() if labels.max() >= classes else labels.min()
            raise InputError(f"the label {wrong} does not fit {classes} classes; check `y`")

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
            (sums.local if local else sums.cumulative).add(found)
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
            record = Record(states=True, until=(layer.node.name,))
            trace = self.simulator.run(self.graph, q, self.timesteps, record, given=given)
            if isinstance(layer.node, IntegrateFire):
                node = layer.node
                n, v = trace.counts[node.name], trace.potentials[node.name]
                states = _States(values[self.before[node.name]], fed[node.name], n, v)
                self.behind.do(partial(self._add_population, node, states, local=True))
            else:
                outputs = self._scaled(trace.logits)
                logits = values[self.logits].reshape(outputs.shape)
                found = decompose_readout(logits, fed[self.fed.logits].reshape(outputs.shape), outputs)
                self.sums[layer.node.name].local.add(found)
            for name in layer.finished:
                del trains[name]

    def result(self, labels: IntArray | None) -> Measurement:
        """Return what all chunks say together."""
        counted = costs.count(self.graph, self.activity, self.rows, self.timesteps)
        by_name = {layer.name: layer for layer in counted.layers}
        snn, ann = (np.concatenate(found) for found in zip(*self.classes, strict=True))
        return Measurement(
            layers=tuple(
                summarise(node, self.sums[node.name], by_name.get(node.name), self.rows, self.steps)
                for node in (*self.populations, self.readout)
            ),
            snn=_scores(snn, labels),
            ann=_compared(snn, ann, labels, sum(costs.macs_of_ann(self.source).values())),
            costs=counted,
            ann_macs=costs.macs_of_ann(self.source),
            nonzero=self.nonzero,
            input_use=self.probe.input_use(),
            channel_order=self.probe.channel_order(),
            timesteps=self.timesteps,
            rows=self.rows,
        )


def _scores(classes: IntArray, labels: IntArray | None) -> Scores:
    top1 = None if labels is None else Share(int((classes == labels).sum()), len(classes))
    return Scores(classes, top1, None)


def _compared(snn: IntArray, ann: IntArray, labels: IntArray | None, macs: int) -> AnnScores:
    agreement = Share(int((snn == ann).sum()), len(snn))
    paired = None
    if labels is not None:
        right, ours = ann == labels, snn == labels
        cells = (right & ours, right & ~ours, ~right & ours, ~right & ~ours)
        paired = Paired(*(int(cell.sum()) for cell in cells))
    return AnnScores(_scores(ann, labels), macs, agreement, paired)
