"""A simulator whose rows are run by workers: the same bits, since every row is simulated by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from snnc.errors import InternalError
from snnc.ir.batch import Batch, Given, arrays_by_name
from snnc.ir.graph import NumberArray
from snnc.ir.parser import parse_graph
from snnc.ir.snn import SnnGraph
from snnc.ir.text import arrays_of, print_exact
from snnc.scale.plain import packed, unpacked
from snnc.scale.tasks import Done, Shared, Task
from snnc.scale.workers import Workers
from snnc.simulation.protocol import Activity, RecordOptions, Simulator, Trace

TASK_ROWS = 64
"""Rows of one task at most."""

TASK_VALUES = 1 << 20
"""Values of the largest node that a task works on: so few rows that what is sent stays small."""

FIELDS = ("outputs", "counts", "potentials", "trains", "encoded")
EVENTS = ("events", "units", "bits")


class WorkersSimulator:
    """Runs a batch on workers, in tasks of a fixed number of rows; few rows are left to another simulator."""

    name: ClassVar[str] = "numba"

    def __init__(self, here: Simulator, workers: Workers) -> None:
        """Take whoever runs few rows, and who runs many."""
        self._here = here
        self._workers = workers
        self._sent: tuple[SnnGraph, frozenset[str], Shared] | None = None

    def run(
        self,
        graph: SnnGraph,
        inputs: Given,
        timesteps: int,
        record: RecordOptions = RecordOptions(),
        /,
        given: Mapping[str, NumberArray] | None = None,
    ) -> Trace:
        """Simulate; see :class:`snnc.simulation.protocol.Simulator`."""
        arrays = arrays_by_name(inputs, [node.name for node in graph.inputs], graph.name)
        count, size = len(Batch(arrays)), rows_of_task(graph)
        if count <= size:
            return self._here.run(graph, inputs, timesteps, record, given=given)
        trains = dict(given or {})
        needed = graph.ancestors(record.until, frozenset(trains)) if record.until else _all(graph)
        shared = self._shared(graph, needed)
        told = {
            "timesteps": timesteps,
            "states": record.states,
            "activity": record.activity,
            "trains": list(record.trains),
            "until": list(record.until),
            "potentials": record.potentials,
            "inputs": list(arrays),
            "given": {name: train.dtype.str for name, train in trains.items()},
        }
        starts = range(0, count, size)

        def task(start: int) -> Task:
            rows = slice(start, start + size)
            sent = {f"input:{name}": narrow(array[rows]) for name, array in arrays.items()}
            sent |= {f"given:{name}": narrow(train[:, rows]) for name, train in trains.items()}
            label = f"rows {start} to {min(start + size, count) - 1} of {graph.name}"
            return Task("simulate", packed(told, sent), (shared,), label)

        return _joined(
            [trace_of(done) for done in self._workers.results(map(task, starts))], timesteps, count
        )

    def _shared(self, graph: SnnGraph, needed: frozenset[str]) -> Shared:
        """Return a network as tasks share it, without the weights that a run does not need."""
        if self._sent is None or self._sent[0] is not graph or self._sent[1] != needed:
            self._sent = (graph, needed, Shared.of(packed_graph(graph, needed)))
        return self._sent[2]


def rows_of_task(graph: SnnGraph) -> int:
    """Return how many rows a task simulates of a network: fixed, whoever does it."""
    largest = max(math.prod(node.shape) for node in graph)
    return max(1, min(TASK_ROWS, TASK_VALUES // largest))


def _all(graph: SnnGraph) -> frozenset[str]:
    return frozenset(node.name for node in graph)


def packed_graph(graph: SnnGraph, needed: frozenset[str]) -> bytes:
    """Return a network as bytes.

    Args:
        graph: the network, finished or not.
        needed: names of the nodes whose weights matter; of others the shapes are kept.
    """
    arrays = arrays_of(graph)
    kept = arrays_of(_part(graph, needed))
    left = {key: [array.dtype.str, list(array.shape)] for key, array in arrays.items() if key not in kept}
    return packed({"text": print_exact(graph), "left": left}, kept)


def _part(graph: SnnGraph, needed: frozenset[str]) -> Any:
    """Return the nodes of a network that are needed."""
    return [node for node in graph if node.name in needed]


def graph_of(data: bytes) -> SnnGraph:
    """Read what :func:`packed_graph` wrote.

    Raises:
        InternalError: it is no spiking network.
    """
    values, arrays = unpacked(data)
    # Weights that nothing reads are zeros, which take no memory until they are read.
    left = {key: np.zeros(shape, np.dtype(kind)) for key, (kind, shape) in values["left"].items()}
    graph = parse_graph(values["text"], {**left, **arrays})
    if not isinstance(graph, SnnGraph):
        raise InternalError("a worker was sent no spiking network")
    return graph


def narrow(values: NumberArray) -> NumberArray:
    """Return integers in the narrowest type that holds them; floats as they are."""
    if values.dtype.kind != "i" or not values.size:
        return np.ascontiguousarray(values)
    low, high = int(values.min()), int(values.max())
    for kind in (np.int8, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return values.astype(kind)
    return np.ascontiguousarray(values)


def trace_of(done: Done) -> Trace:
    """Return what a task simulated."""
    told, made = done.values, done.arrays
    trace = Trace(0, int(told["samples"]))
    for field in FIELDS:
        found: dict[str, NumberArray] = getattr(trace, field)
        for index, (name, kind) in enumerate(told[field].items()):
            found[name] = made[f"{field}:{index}"].astype(kind, copy=False)
    for index, name in enumerate(told["activity"]):
        trace.activity[name] = Activity(*(made[f"{event}:{index}"] for event in EVENTS))
    return trace


def _joined(traces: Sequence[Trace], timesteps: int, count: int) -> Trace:
    """Return the trace of all rows."""
    whole = Trace(timesteps, count)
    for field in FIELDS:
        found: dict[str, NumberArray] = getattr(whole, field)
        for name in getattr(traces[0], field):
            parts = [getattr(trace, field)[name] for trace in traces]
            found[name] = np.concatenate(parts, axis=1 if field == "trains" else 0)
    for trace in traces:
        for name, counted in trace.activity.items():
            whole.activity[name] = whole.activity[name] + counted if name in whole.activity else counted
    return whole
