"""Simulation of the finished part of a network while passes work on the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InternalError
from snnc.ir.batch import Rows
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.snn import SnnGraph
from snnc.numerics.spill import RowArray, row_array
from snnc.simulation.protocol import RecordOptions, Simulator, Trace
from snnc.simulation.reference import encode_all

Number = TypeVar("Number", bound=np.generic)

CHUNK_VALUES = 1 << 22
"""Values of the largest node that are worked on at once: 16 MB in floats, whatever the number of rows.

The C library gives larger arrays back whenever they are freed, and the system clears every new one.
"""

LARGEST_INPUT = 1 << 23
"""Values of all encoded rows up to which they are kept; more are encoded whenever a chunk needs them."""


class PartialSimulation:
    """Spike trains of the populations that later layers still read, on fixed rows.

    Only new nodes are simulated: the simulator receives the trains of finished populations. If the rows are
    many for the size of the network, they are processed in chunks, and trains are kept on disk.

    Attributes:
        chunks: the rows that are processed at once, in order.
    """

    def __init__(self, graph: SnnGraph, rows: Rows, simulator: Simulator) -> None:
        """Encode ``rows``, (n, *input shape) float32, for ``graph``."""
        largest = max(math.prod(node.shape) for node in graph)
        size = max(1, CHUNK_VALUES // largest)
        self.chunks = tuple(slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size))
        self._rows = rows
        self._graph = graph
        values = len(rows) * sum(math.prod(node.shape) for node in graph.encoders)
        self._inputs = encode_all(graph, rows) if values <= LARGEST_INPUT else None
        self._simulator = simulator
        self._trains: dict[str, _Train] = {}

    def parts(
        self,
        graph: SnnGraph,
        names: Sequence[str],
        *,
        trains: bool = True,
        rows: NDArray[np.bool_] | None = None,
    ) -> Iterator[tuple[slice, Trace]]:
        """Compute some nodes of ``graph`` from the stored trains, chunk by chunk.

        Args:
            graph: the network.
            names: what to compute.
            trains: record the spikes of every step; else the counts of populations, which is quicker.
            rows: (n,), which rows are wanted; all by default. Chunks without one are left out.
        """
        for chunk in self.chunks:
            wanted = None if rows is None else rows[chunk]
            if wanted is None or wanted.any():
                yield chunk, self._part(graph, names, chunk, trains=trains, rows=wanted)

    def _part(
        self,
        graph: SnnGraph,
        names: Sequence[str],
        chunk: slice,
        *,
        trains: bool = True,
        rows: NDArray[np.bool_] | None = None,
    ) -> Trace:
        wanted = tuple(name for name in names if name not in graph.outputs)
        needed = graph.ancestors(tuple(names), frozenset(self._trains))
        given = {name: train[chunk] for name, train in self._trains.items() if name in needed}
        until = tuple(names)
        record = (
            RecordOptions(trains=wanted, until=until)
            if trains
            else RecordOptions(states=True, until=until, potentials=False)
        )
        kept = self._inputs
        inputs = encode_all(self._graph, self._rows[chunk]) if kept is None else kept[chunk]
        if rows is not None:
            inputs = inputs[rows]
            given = {name: train[:, rows] for name, train in given.items()}
        return self._simulator.run(graph, inputs, graph.timesteps, record, given=given)

    def simulate(self, graph: SnnGraph, names: Sequence[str], *, trains: bool = True) -> Trace:
        """Compute some nodes on all rows at once; see :meth:`parts`."""
        found = [trace for _, trace in self.parts(graph, names, trains=trains)]
        if len(found) == 1:
            return found[0]
        outputs = {n: np.concatenate([trace.outputs[n] for trace in found]) for n in found[0].outputs}
        return Trace(
            graph.timesteps,
            len(self._rows),
            outputs,
            {name: np.concatenate([trace.counts[name] for trace in found]) for name in found[0].counts},
            {name: np.concatenate([t.potentials[name] for t in found]) for name in found[0].potentials},
            {name: np.concatenate([t.trains[name] for t in found], axis=1) for name in found[0].trains},
        )

    def extend(self, graph: SnnGraph, names: Sequence[str]) -> None:
        """Simulate finished populations and keep their trains; drop those that no unfinished layer reads."""
        new = {name: _Train(self.chunks) for name in names}
        for chunk, trace in self.parts(graph, names):
            for name in names:
                new[name].put(chunk, trace.trains[name])
        self._trains |= new
        done = set(self._trains)
        pending = [node for node in graph if node.name not in done and not getattr(node, "integer", True)]
        needed = graph.ancestors([node.name for node in pending], frozenset(done)) if pending else frozenset()
        self._trains = {name: train for name, train in self._trains.items() if name in needed}

    @property
    def trains(self) -> Mapping[str, NumberArray]:
        """The spikes that unfinished layers read, by population, (T + K, rows, *shape)."""
        return {name: _joined([train[c] for c in self.chunks], 1) for name, train in self._trains.items()}

    def restore(self, trains: Mapping[str, NumberArray]) -> None:
        """Continue from the state of another partial simulation of the same rows."""
        self._trains = {}
        for name, train in trains.items():
            self._trains[name] = _Train(self.chunks)
            for chunk in self.chunks:
                self._trains[name].put(chunk, train[:, chunk])

    def counts(self, graph: SnnGraph, name: str, chunk: slice | None = None) -> IntArray:
        """Return the spike counts of a node, (rows, *shape) int32, on a chunk or on all rows."""
        return _joined([self._train(graph, name, c).sum(axis=0, dtype=np.int32) for c in self._of(chunk)])

    def current(self, graph: SnnGraph, name: str, chunk: slice | None = None) -> FloatArray:
        """Return the current of a synapse summed over all steps, (rows, *shape) float32, likewise."""
        return _joined([self._train(graph, name, c).sum(axis=0, dtype=np.float32) for c in self._of(chunk)])

    def spikes(self, graph: SnnGraph, name: str, chunk: slice) -> NumberArray:
        """Return the spikes of a node on a chunk, (T + K, rows, *shape)."""
        return self._train(graph, name, chunk)

    def _of(self, chunk: slice | None) -> tuple[slice, ...]:
        return self.chunks if chunk is None else (chunk,)

    def _train(self, graph: SnnGraph, name: str, chunk: slice) -> NumberArray:
        if name in self._trains:
            return self._trains[name][chunk]
        return self._part(graph, [name], chunk).trains[name]


class _Train:
    """The spikes of one population: as the simulator gave them if there is one chunk, else row by row."""

    def __init__(self, chunks: Sequence[slice]) -> None:
        self._chunks = chunks
        self._whole: NumberArray | None = None
        self._rows: RowArray | None = None

    def put(self, chunk: slice, train: NumberArray) -> None:
        """Keep the spikes of a chunk, (T + K, rows, *shape)."""
        if len(self._chunks) == 1:
            self._whole = train
            return
        rows = np.moveaxis(_channels_last(train), 0, 1)
        shape = (self._chunks[-1].stop, *rows.shape[1:])
        if self._rows is None:
            self._rows = row_array(shape, rows.dtype)
        elif not np.can_cast(rows.dtype, self._rows.dtype):
            narrow, self._rows = self._rows, row_array(shape, rows.dtype)
            for done in self._chunks:
                self._rows[done] = narrow[done]
        self._rows[chunk] = rows

    def __getitem__(self, chunk: slice) -> NumberArray:
        """Return the spikes of a chunk, channels last in memory as simulators read them fastest."""
        if self._whole is not None:
            return self._whole
        if self._rows is None:
            raise InternalError("spikes are read before they were kept")
        train = np.moveaxis(self._rows[chunk], 1, 0)
        return np.moveaxis(train, -1, 2)


def _channels_last(train: NumberArray) -> NumberArray:
    return np.moveaxis(train, 2, -1)


def _joined(parts: Sequence[NDArray[Number]], axis: int = 0) -> NDArray[Number]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)
