"""Sums over chunks of rows: what separates the spiking network from its source.

Each chunk of rows is run through the source network, through the spiking network, and through the source
network driven by the spikes (*cumulative*: every layer gets what the layers before it really sent). Then each
layer is simulated alone on the source's own activations, coded by the rule of :mod:`snnc.report.coding`
(*local*: no error but its own reaches it, apart from the rounding of that code, which stands under
"propagated"). Nothing is kept of a chunk but sums, so memory does not grow with the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.analysis import costs
from snnc.analysis.scores import Answers, compared, judged, wants_values
from snnc.artefact import Artefact
from snnc.data.input_statistics import Foreign
from snnc.data.normalisation import Misread
from snnc.errors import NonFiniteError
from snnc.ir.ann import AnnGraph
from snnc.ir.batch import Batch, Rows
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.snn import CountFunction, IntegrateFire, Readout, SnnGraph, SnnNode
from snnc.metrics import Case, Outputs, finished, threshold_of
from snnc.metrics.ending import computes_end
from snnc.report.coding import counts, evenly_spaced, range_of_counts
from snnc.report.fed import FedSource, SpikingLayer, counts_of, sources_of, spiking_layers
from snnc.report.layers import summarise
from snnc.report.measurement import Answered, Measurement
from snnc.report.probes import Probe
from snnc.report.serial_worker import SerialWorker
from snnc.report.statistics import LayerSums
from snnc.report.terms import Decomposition, decompose, decompose_function, decompose_readout, mean_input
from snnc.simulation.protocol import Activity, RecordOptions, Simulator, Trace
from snnc.simulation.reference import encode_all
from snnc.source.ann_session import AnnSession
from snnc.source.islands import SourceSegments
from snnc.source.source_map import carried, maximum_of, rectifier

EVENTS = ("events", "units", "bits")
BLOCK = 1 << 16
"""Neurons, times rows, whose errors are split at a time."""


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
        node: the population, function of counts, or read-out.
        drivers: the populations and functions whose spikes reach it.
        finished: those that no later layer reads.
    """

    node: SpikingLayer | Readout
    drivers: tuple[str, ...]
    finished: tuple[str, ...]


def _order(graph: SnnGraph, nodes: tuple[SpikingLayer | Readout, ...]) -> tuple[_Layer, ...]:
    drivers = {node.name: sources_of(graph, node.name) for node in nodes}
    last = {name: node.name for node in nodes for name in drivers[node.name]}
    return tuple(
        _Layer(node, drivers[node.name], tuple(name for name in last if last[name] == node.name))
        for node in nodes
    )


State = tuple[dict[str, Any], dict[str, NDArray[Any]]]
"""The sums of one chunk as plain values and arrays."""


class ChunkSums:
    """The sums of a chunk, and those of all chunks.

    A chunk is summed up by itself, here or in another process, and its sums are joined to those of the chunks
    before it, in the order of the rows: so the bits are the same whoever ran which chunk.
    """

    def __init__(
        self,
        artefact: Artefact,
        source: AnnGraph,
        simulator: Simulator,
        timesteps: int,
        threads: int | None,
        behind: SerialWorker,
        outputs: Mapping[str, Outputs],
        ends: Mapping[str, str],
    ) -> None:
        self.behind = behind
        self.outputs = outputs
        self.ends = ends
        self.ahead: dict[str, bool] = {}  # whether answers lie in front of the source's last activation
        self.finish = artefact.finish
        self.spiking: dict[str, Answers] = {}
        self.analogue: dict[str, Answers] = {}
        for name, each in outputs.items():
            keep, threshold = wants_values(each, None), threshold_of(ends[name])
            self.ahead[name] = self.finish is None and not computes_end(artefact.graph, name, ends[name])
            self.spiking[name] = Answers(each, 0.0 if self.ahead[name] else threshold, keep)
            self.analogue[name] = Answers(each, threshold, keep)
        self._own: dict[str, NumberArray] = {}
        self.artefact = artefact
        self.graph: SnnGraph = artefact.graph
        self.source = source.without_thresholds()
        self.simulator = simulator
        self.timesteps = timesteps
        self.steps = timesteps + self.graph.settle_steps
        self.populations = self.graph.of_type(IntegrateFire)
        self.spiking_layers = spiking_layers(self.graph)
        self.functions = tuple(n.name for n in self.spiking_layers if not isinstance(n, IntegrateFire))
        self.readouts = self.graph.readouts
        self.fed = FedSource(source, self.graph, threads)
        answers = self.source.answers.values()
        self.answers = dict(zip(self.graph.output_names, answers, strict=True))
        self.before = {node.name: rectifier(self.source, node).inputs[0] for node in self.populations}
        names = list(dict.fromkeys([*self.before.values(), *self.functions, *self.answers.values()]))
        self.session = AnnSession(self.source, names, threads or 1)
        self.maxima = {node.name: maximum_of(self.graph, self.source, node) for node in self.populations}
        self.segments: SourceSegments | None = None
        if artefact.host is not None and artefact.host.islands:
            given = artefact.layouts, artefact.output_layouts
            self.segments = SourceSegments(self.source, artefact.host, *given, threads or 1)
        self.layers: tuple[SpikingLayer | Readout, ...] = (*self.spiking_layers, *self.readouts.values())
        self.order = _order(self.graph, self.layers)
        self.sums = {node.name: self._begun(node) for node in self.layers}
        self.first = self.answers[self.graph.output_names[0]]
        self.probe = Probe(self.graph, self.source, self.fed, self.first)
        self.activity: dict[str, Activity] = {}
        self.nonzero: dict[str, IntArray] = {
            node.name: np.zeros(node.shape, np.int64) for node in self.populations
        }
        self.rows = 0

    def chunk(self, x: Rows, where: slice, labels: IntArray | None) -> State:
        """Run one chunk, and return its sums.

        Args:
            x: the rows.
            where: which they are.
            labels: their classes, of the first output, as far as they are known.
        """
        self.sums = {node.name: self._begun(node) for node in self.layers}
        self.activity, self._own = {}, {}
        self.nonzero = {node.name: np.zeros(node.shape, np.int64) for node in self.populations}
        self.probe.begin(where.start)
        self._add(x, labels)
        self.behind.wait()
        told = {"activity": list(self.activity), "rows": len(x)}
        arrays: dict[str, NDArray[Any]] = {"probe": self.probe.state(), **self._own}
        for index, sums in enumerate(self.sums.values()):
            arrays |= {f"layer:{index}:{name}": value for name, value in sums.state().items()}
        for index, counted in enumerate(self.activity.values()):
            arrays |= {f"activity:{index}:{event}": getattr(counted, event) for event in EVENTS}
        for index, value in enumerate(self.nonzero.values()):
            arrays[f"nonzero:{index}"] = value
        return told, arrays

    def joined(self, states: Iterator[tuple[slice, State]]) -> None:
        """Join the sums of chunks, in the order of the rows."""
        sums = {node.name: self._begun(node) for node in self.layers}
        activity: dict[str, Activity] = {}
        nonzero: dict[str, IntArray] = {n.name: np.zeros(n.shape, np.int64) for n in self.populations}
        probes: list[NumberArray] = []
        for where, (told, arrays) in states:
            for index, each in enumerate(sums.values()):
                head = f"layer:{index}:"
                found = {name.removeprefix(head): a for name, a in arrays.items() if name.startswith(head)}
                each.join(found)
            for index, name in enumerate(told["activity"]):
                counted = Activity(*(arrays[f"activity:{index}:{event}"] for event in EVENTS))
                activity[name] = activity[name] + counted if name in activity else counted
            for index, name in enumerate(nonzero):
                nonzero[name] = nonzero[name] + arrays[f"nonzero:{index}"]
            probes.append(arrays["probe"])
            for index, name in enumerate(self.outputs):
                self.spiking[name].add(arrays[f"spiking:{index}"], where)
                self.analogue[name].add(arrays[f"analogue:{index}"], where)
            self.rows += int(told["rows"])
        self.sums, self.activity, self.nonzero = sums, activity, nonzero
        self.probe.begin(0)
        for probe in probes:
            self.probe.join(probe)

    def _begun(self, node: SnnNode) -> LayerSums:
        if isinstance(node, CountFunction):
            one = np.ones(node.channels)
            return LayerSums(node.shape, None, one, one, None, np.stack([-one, one]))
        if not isinstance(node, IntegrateFire):
            infinite, one = np.full(node.channels, np.inf), np.ones(node.channels)
            return LayerSums(node.shape, None, infinite, one, one, np.stack([-infinite, infinite]))
        least, most = range_of_counts(node, self.timesteps, self.steps)
        step = node.spike_scale.astype(np.float64) / self.timesteps
        low, high = node.lowest + step * least, node.lowest + step * most
        if node.breakpoints is None:  # what lies below is rectified
            return LayerSums(
                node.shape, (least, most), high, step, node.threshold, np.stack([high - np.inf, high])
            )
        theta = np.maximum(np.abs(low), np.abs(high))
        theta[theta == 0] = 1.0  # a table of one value
        return LayerSums(node.shape, (least, most), theta, step, None, np.stack([low, high]))

    def _add(self, x: Rows, labels: IntArray | None) -> None:
        """Run one chunk."""
        if self.segments is None:
            rows = self.artefact.canonical(x)
            q = own = self.artefact.encode(x)
        else:  # what the source itself gives behind islands, and what the spikes before them make of it
            rows = Batch(self.segments.entries(self.artefact.before(x)))
            q, own = self.artefact.encode(x), encode_all(self.graph, rows)
        values = self.session.run(rows)
        if not all(np.isfinite(values[node]).all() for node in self.answers.values()):
            raise NonFiniteError("the source network answers with NaN or infinity on these rows")
        record = RecordOptions(states=True, activity=True, trains=self.functions)
        trace = self.artefact.simulator(self.simulator).run(self.graph, q, self.timesteps, record)
        if self.segments is not None:
            q = Batch({**own.arrays, **trace.encoded})
        for name, counted in trace.activity.items():
            self.activity[name] = self.activity[name] + counted if name in self.activity else counted
        outputs = {
            name: node.real(trace.outputs[name], self.timesteps) for name, node in self.readouts.items()
        }
        told = {name: values[node].reshape(outputs[name].shape) for name, node in self.answers.items()}
        self._add_cumulative(values, q, trace, outputs, told)
        self._add_local(values, own, told)
        # The labels are of the answers, which ordinary ONNX has yet to make of these.
        labels = None if self.finish is not None else labels
        self.probe.add(rows, labels, values[self.first].reshape(len(x), -1))
        ours: Mapping[str, NumberArray]
        if self.finish is None:
            layouts = self.artefact.output_layouts
            ours = {name: layouts[name].to_source(value) for name, value in outputs.items()}
        else:
            ours = self.finish.answers(trace, x)
        completed = self.artefact.completed(told, x)
        for index, name in enumerate(self.outputs):
            flat = completed[name].reshape(len(x), -1)
            self._own[f"spiking:{index}"] = ours[name].reshape(len(x), -1)
            self._own[f"analogue:{index}"] = finished(flat, self.ends[name]) if self.ahead[name] else flat

    def _add_cumulative(
        self,
        values: dict[str, FloatArray],
        q: Rows,
        trace: Trace,
        outputs: Mapping[str, FloatArray],
        told: Mapping[str, FloatArray],
    ) -> None:
        counted = counts_of(trace, self.spiking_layers)
        fed = self.fed.run(q, counted, self.timesteps)
        for index, node in enumerate(self.spiking_layers):
            if not isinstance(node, IntegrateFire):
                found = self._of_function(node, values[node.name], fed.before[node.name], counted[node.name])
                self.behind.do(partial(self.sums[node.name].cumulative.add, found))
                continue
            n, v = counted[node.name], trace.potentials[node.name]
            states = _States(values[self.before[node.name]], fed.before[node.name], n, v)
            self.behind.do(partial(self._add_population, node, states, local=False))
            if not self.order[index].drivers:
                zhat = mean_input(node, n, v, self.timesteps)
                self.probe.add_first(node, q, zhat, counted, self.timesteps)
        for name, readout in self.readouts.items():
            z_fed = fed.answers[name].reshape(outputs[name].shape)
            self.sums[readout.name].cumulative.add(decompose_readout(told[name], z_fed, outputs[name]))

    def _add_population(self, node: IntegrateFire, states: _States, *, local: bool) -> None:
        sums, relu = self.sums[node.name], self.fed.rectifier(node.name)
        for few in states.blocks():
            found = decompose(node, relu, few.z, few.fed, few.count, few.v, self.timesteps, self.steps)
            window = self.maxima[node.name]
            seen = found if window is None else found.behind(window)
            (sums.local if local else sums.cumulative).add(seen)
            if not local:
                sums.add_neurons(found, few.count, few.v)

    def _of_function(
        self, node: CountFunction, a: FloatArray, reached: FloatArray, count: IntArray
    ) -> Decomposition:
        most = range_of_counts(node, self.timesteps, self.steps)
        return decompose_function(node, a, reached, count, most)

    def _add_local(self, values: dict[str, FloatArray], q: Rows, told: Mapping[str, FloatArray]) -> None:
        coded: dict[str, IntArray] = {}
        trains: dict[str, IntArray] = {}
        for node in self.spiking_layers:
            if not isinstance(node, IntegrateFire):
                coded[node.name] = counts(node, values[node.name], self.timesteps)
                continue
            a = carried(node, self.fed.rectifier(node.name), values[self.before[node.name]])
            coded[node.name] = counts(node, a, self.timesteps)
            self.nonzero[node.name] += np.count_nonzero(coded[node.name], axis=0)
        fed = self.fed.run(q, coded, self.timesteps)
        for layer in self.order:
            for name in layer.drivers:
                if name not in trains:
                    trains[name] = evenly_spaced(coded[name], self.timesteps, self.graph.settle_steps)
            given = {name: trains[name] for name in layer.drivers}
            function = (layer.node.name,) if isinstance(layer.node, CountFunction) else ()
            record = RecordOptions(states=True, until=(layer.node.name,), trains=function)
            trace = self.simulator.run(self.graph, q, self.timesteps, record, given=given)
            if isinstance(layer.node, IntegrateFire):
                node = layer.node
                n, v = trace.counts[node.name], trace.potentials[node.name]
                states = _States(values[self.before[node.name]], fed.before[node.name], n, v)
                self.behind.do(partial(self._add_population, node, states, local=True))
            elif isinstance(layer.node, CountFunction):
                name = layer.node.name
                (n,) = counts_of(trace, [layer.node]).values()
                found = self._of_function(layer.node, values[name], fed.before[name], n)
                self.behind.do(partial(self.sums[name].local.add, found))
            else:
                (name,) = (name for name, each in self.readouts.items() if each is layer.node)
                outputs = layer.node.real(trace.outputs[name], self.timesteps)
                found = decompose_readout(told[name], fed.answers[name].reshape(outputs.shape), outputs)
                self.sums[layer.node.name].local.add(found)
            for name in layer.finished:
                del trains[name]

    def result(self, foreign: Foreign | None, misread: Misread | None) -> Measurement:
        """Return what all chunks say together."""
        counted = costs.count(self.graph, self.activity, self.rows, self.timesteps)
        by_name = {layer.name: layer for layer in counted.layers}
        macs = costs.macs_of_ann(self.source)
        each = tuple(self._answered(name, sum(macs.values())) for name in self.outputs)
        worst = max(each, key=lambda one: one.lost)
        return Measurement(
            name=worst.name,
            snn=worst.snn,
            ann=worst.ann,
            outputs=worst.outputs,
            ends=worst.ends,
            case=worst.case,
            layers=tuple(
                summarise(node, self.sums[node.name], by_name.get(node.name), self.rows, self.steps)
                for node in self.layers
            ),
            costs=counted,
            ann_macs=macs,
            nonzero=self.nonzero,
            input_use=self.probe.input_use(),
            foreign=foreign,
            misread=misread,
            channel_order=self.probe.channel_order(),
            timesteps=self.timesteps,
            rows=self.rows,
            each=each,
        )

    def _answered(self, name: str, macs: int) -> Answered:
        spiking, analogue = self.spiking[name], self.analogue[name]
        outputs, ends = self.outputs[name], self.ends[name]
        snn, ann = judged(spiking, analogue, None, ends, behind=not self.ahead[name])
        case = None
        if spiking.keep:
            told = np.concatenate(spiking.values).astype(np.float64)
            answers = finished(told, ends) if self.ahead[name] else told
            source = np.concatenate(analogue.values)
            case = Case(answers, outputs.task, source, outputs.labels, threshold_of(ends), outputs.places)
        return Answered(name, snn, compared(snn, ann or snn, outputs, macs), outputs, ends, case)
