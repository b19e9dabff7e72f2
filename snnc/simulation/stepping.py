"""A network run one step at a time: what it remembers is kept between the calls.

Each step takes the rules of :mod:`snnc.simulation.reference`, so that the values are the same, bit for bit.
Simulators that compute layer by layer over all steps leave to it what delays close to a circle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np

from snnc.ir import snn
from snnc.ir.batch import Batch
from snnc.ir.graph import NumberArray
from snnc.ir.operations import check_known, operations
from snnc.simulation.protocol import RecordOptions, Trace
from snnc.simulation.reference import firing_steps, propagate, readout_steps

Values = Mapping[str, NumberArray]
"""What nodes give in one step, (batch, *shape), by their names."""


class _Arriving:
    """An endless iterator over the current of the step at hand, which the caller sets."""

    def __init__(self) -> None:
        self.value = np.zeros(0, np.int64)

    def __iter__(self) -> Iterator[NumberArray]:
        return self

    def __next__(self) -> NumberArray:
        return self.value


class Stepper:
    """Some nodes of a synchronous network, or all, in the middle of a run.

    Attributes:
        potentials: of each population that is run, what was left after the last step, (batch, *shape).
    """

    def __init__(
        self, graph: snn.SnnGraph, rows: int, timesteps: int, names: Collection[str] | None = None
    ) -> None:
        """Begin a run.

        Args:
            graph: the network, without settle steps.
            rows: how many are run at once.
            timesteps: T, as it limits the spikes of neurons with memory.
            names: of the nodes that are run; all but the inputs by default.
        """
        if names is None:
            names = frozenset(node.name for node in graph if not isinstance(node, snn.Encode))
        self.nodes = tuple(node for node in operations(graph) if node.name in names)
        integer = all(getattr(node, "integer", True) for node in self.nodes)
        self.kind = np.dtype(np.int64 if integer else np.float32)
        self.potentials: dict[str, NumberArray] = {}
        self._arriving = {node.name: _Arriving() for node in self.nodes}
        self._fired = {
            node.name: firing_steps(node, self._arriving[node.name], timesteps)
            for node in self.nodes
            if isinstance(node, snn.IntegrateFire)
        }
        self._read = {
            node.name: readout_steps(node, self._arriving[node.name], timesteps)
            for node in self.nodes
            if isinstance(node, snn.Readout)
        }
        self._counts: dict[str, list[NumberArray]] = {}
        self._held: dict[str, deque[NumberArray]] = {
            node.name: deque([np.zeros((rows, *node.shape), self.kind)] * node.steps)
            for node in self.nodes
            if isinstance(node, snn.Delay)
        }
        self._rows = rows

    def step(self, given: Values) -> dict[str, NumberArray]:
        """Run a step.

        Args:
            given: what the nodes that are not run give in it: inputs as they are quantised, int32.

        Returns:
            What all nodes give, and of read-outs what they hold.
        """
        values: dict[str, NumberArray] = {name: value.astype(self.kind) for name, value in given.items()}
        for node in self.nodes:
            values[node.name] = self._value(node, [values[name] for name in node.inputs])
        for node in self.nodes:
            if isinstance(node, snn.Delay):
                self._held[node.name].append(values[node.source])
        return values

    def _value(self, node: snn.SnnNode, read: list[NumberArray]) -> NumberArray:
        match node:
            case snn.Delay():
                return self._held[node.name].popleft()
            case snn.ConstantCurrent():
                return np.broadcast_to(node.values, (self._rows, *node.shape)).astype(self.kind)
            case snn.IntegrateFire():
                self._arriving[node.name].value = np.add.reduce(read)
                _, spikes, self.potentials[node.name] = next(self._fired[node.name])
                return spikes.astype(self.kind)
            case snn.Readout():
                self._arriving[node.name].value = np.add.reduce(read)
                return next(self._read[node.name])
            case snn.CountMaxPool() | snn.CountFunction():
                return self._counted(node, read)
            case _:
                return propagate(node, [each[np.newaxis] for each in read])[0]

    def _counted(self, node: snn.SnnNode, read: list[NumberArray]) -> NumberArray:
        """Return by how much a function of the counts so far has changed."""
        before = self._counts.get(node.name)
        counts = list(read) if before is None else [old + new for old, new in zip(before, read, strict=False)]
        made = propagate(node, [each[np.newaxis] for each in counts])[0]
        self._counts[node.name] = [*counts, made]
        return made if before is None else made - before[-1]


def circle(graph: snn.SnnGraph) -> frozenset[str]:
    """Return the delays, and all nodes that depend on one and that one depends on."""
    if graph not in _CIRCLES:
        check_known(graph)
        _CIRCLES[graph] = _found_circle(graph)
    return _CIRCLES[graph]


_CIRCLES: WeakKeyDictionary[snn.SnnGraph, frozenset[str]] = WeakKeyDictionary()
"""What was found of graphs, which never change: a simulator is asked once for every row."""


def _found_circle(graph: snn.SnnGraph) -> frozenset[str]:
    delays = graph.of_type(snn.Delay)
    behind = {node.name for node in delays}
    for node in operations(graph):
        if not behind.isdisjoint(node.inputs):
            behind.add(node.name)
    before = graph.ancestors([node.source for node in delays])
    return frozenset(node.name for node in delays) | (behind & before)


Run = Callable[[RecordOptions, Values], Trace]
"""Runs a network layer by layer, keeping what is wanted, with the trains of some nodes given."""


def around_delays(
    run: Run, graph: snn.SnnGraph, batch: Batch, timesteps: int, record: RecordOptions, given: Values
) -> Trace:
    """Run a network with delays: what comes before them, the circle step by step, what comes behind.

    Args:
        run: runs the parts outside of the circle.
        graph: the network.
        batch: the quantised inputs.
        timesteps: T.
        record: what to keep.
        given: trains, (T, batch, *shape), of nodes that need not be run.
    """
    delayed = circle(graph)
    if not delayed:
        return run(record, given)
    wanted = record.until or graph.outputs
    needed = graph.ancestors(wanted, frozenset(given)) - given.keys()
    names = delayed & needed
    if not names:
        return run(record, given)
    read = {name for n in names for name in (*graph[n].inputs, *graph[n].earlier)} - names
    feeding = tuple(sorted(read - given.keys()))
    trace = Trace(timesteps, len(batch))
    trains = dict(given)
    if feeding:
        kept = tuple(dict.fromkeys((*record.trains, *feeding)))
        trace = run(replace(record, trains=kept, until=feeding), given)
        trains |= {name: trace.trains[name] for name in feeding}
        trace.trains = {name: train for name, train in trace.trains.items() if name in record.trains}
    stepper = Stepper(graph, len(batch), timesteps, names)
    values = [stepper.step({name: trains[name][t] for name in read}) for t in range(timesteps)]
    for node in stepper.nodes:
        train = np.stack([value[node.name] for value in values])
        trains[node.name] = train
        if isinstance(node, snn.IntegrateFire):
            trace.add_population(node, train, stepper.potentials[node.name], record)
        if node.name in record.trains:
            trace.trains[node.name] = train.astype(np.int32 if graph.integer else np.float32)
    if needed & set(wanted) - trains.keys():
        trace.join(run(record, trains))
    return trace
