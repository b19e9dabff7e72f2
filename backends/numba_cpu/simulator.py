"""The simulator: chunks of images over threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from typing import ClassVar, TypeVar

import numpy as np

from snnc.backends.numba_cpu.execution.runs import Prepared, Run, floats, integers
from snnc.backends.numba_cpu.kernels.thread_team import POSIX, ThreadTeam
from snnc.backends.numba_cpu.machine.cache import announce
from snnc.backends.numba_cpu.planning.plan import Plan, Planner
from snnc.backends.numba_cpu.planning.ranges import Interval, count_ranges, measured, value_ranges
from snnc.backends.numba_cpu.planning.request import Request
from snnc.cores import available_cores
from snnc.errors import UsageError
from snnc.ir.batch import Batch, Given
from snnc.ir.bounds import step_bounds
from snnc.ir.graph import NumberArray
from snnc.ir.snn import Delay, SnnGraph
from snnc.simulation.protocol import RecordOptions, Trace, check_run
from snnc.simulation.reference import presented
from snnc.simulation.stepping import around_delays, circle

T = TypeVar("T")

CHUNK_BYTES = 1 << 20
"""What the largest current of a chunk may take: so few images that memory stays flat, and that a layer finds
in the second-level cache what the one before it wrote."""


TURNS = 4
"""Chunks for each of several threads: what one is late with, another takes over."""

PREPARED = 8
"""Networks and questions about them (T, what is recorded, what is given) whose preparation is kept."""


class NumbaSimulator:
    """Simulates on the CPU with compiled kernels; the same bits as the reference for integer networks."""

    name: ClassVar[str] = "numba"

    def __init__(
        self,
        threads: int | None = None,
        density: Mapping[str, float] | None = None,
        prepared: int = PREPARED,
    ) -> None:
        """Choose the number of threads.

        Args:
            threads: at most so many run at once; ``None`` for one per available core.
            density: per population, the share of its neurons that fire in a step; it replaces the density
                stored with the network. It selects kernels and changes no result.
            prepared: how many prepared runs (network, shapes and recorded values) are kept for reuse.

        Raises:
            UsageError: not a positive number.
        """
        if threads is not None and threads < 1:
            raise UsageError(f"the number of threads must be at least 1, not {threads}")
        self.threads = threads or available_cores()
        self.density = density
        self.prepared = prepared
        self._team = ThreadTeam(self.threads)
        self._requests: OrderedDict[object, Request] = OrderedDict()
        self._prepared: OrderedDict[object, Prepared] = OrderedDict()

    def run(
        self,
        graph: SnnGraph,
        inputs: Given,
        timesteps: int,
        record: RecordOptions = RecordOptions(),
        /,
        given: Mapping[str, NumberArray] | None = None,
    ) -> Trace:
        """Simulate; see :class:`snnc.simulation.protocol.Simulator`.

        Trains come back in the narrowest integer type that holds them (float32 before quantisation),
        as views whose channels lie last in memory; given trains of that layout are read fastest.
        """
        batch, given = check_run(graph, inputs, timesteps, given)
        frames = _frames_given(graph, batch)
        given = {**frames, **given}

        def run(record: RecordOptions, given: Mapping[str, NumberArray]) -> Trace:
            return self._layers(graph, batch, timesteps, record, given)

        trace = around_delays(run, graph, batch, timesteps, record, given)
        kind = np.int32 if graph.integer else np.float32
        trace.trains |= {n: train.astype(kind) for n, train in frames.items() if n in record.trains}
        return trace

    def _layers(
        self,
        graph: SnnGraph,
        batch: Batch,
        timesteps: int,
        record: RecordOptions,
        given: Mapping[str, NumberArray],
    ) -> Trace:
        """Run a network layer by layer, each over all steps."""
        request = self._request(graph, timesteps, record, tuple(given))
        trains = {name: given[name] for name in request.given}
        return self._run(self._prepare(request, batch, trains), len(batch))

    def _request(
        self, graph: SnnGraph, timesteps: int, record: RecordOptions, given: tuple[str, ...]
    ) -> Request:
        """Return what is asked for, as it was worked out earlier if it is asked again."""
        # What is kept holds the network, so that no other can get its id meanwhile.
        return _remembered(
            self._requests,
            self.prepared,
            (id(graph), timesteps, record, given),
            lambda: Request.of(graph, timesteps, record, given),
        )

    def _prepare(self, request: Request, inputs: Batch, given: Mapping[str, NumberArray]) -> Run:
        """Return a run, prepared earlier if the like of it was."""
        ranges: dict[str, Interval] = {}
        quantised = _encoded(request)
        if request.integer:
            trains = {name: integers(name, train) for name, train in given.items()}
            ranges = {name: measured(train) for name, train in trains.items()}
            # Larger inputs than the network's own encoding gives are run with wider integers.
            quantised = {name: measured(array).hull(quantised[name]) for name, array in inputs.arrays.items()}
        else:
            trains = {name: floats(train) for name, train in given.items()}
        shares = self._shares(len(inputs))

        def prepare() -> Prepared:
            _announce_once()
            return Prepared(request, ranges, quantised, self._density(request), self._team, shares)

        key = (id(request), tuple(quantised.items()), tuple(ranges.items()), shares)
        prepared = _remembered(self._prepared, self.prepared, key, prepare)
        return Run(prepared, inputs, trains)

    def _density(self, request: Request) -> Mapping[str, float]:
        return request.graph.density if self.density is None else self.density

    def plan(self, graph: SnnGraph, timesteps: int, images: int) -> Plan:
        """Return how a network is run for so many images at a time, but for what runs step by step.

        Raises:
            InputError: a potential could leave 32 bits.
        """
        frames = tuple(node.name for node in graph.encoders if node.varies)
        stepped = circle(graph) if graph.of_type(Delay) else frozenset()
        request = self._request(graph, timesteps, RecordOptions(), (*frames, *sorted(stepped)))
        encoded = _encoded(request)
        bounds = step_bounds(graph, timesteps) if stepped and request.integer else {}
        given = {name: Interval(-bounds.get(name, 0), bounds.get(name, 0)) for name in request.given}
        given |= {name: encoded[name] for name in frames}
        ranges = value_ranges(request, given, encoded) if request.integer else {}
        counts = count_ranges(request, given, encoded)
        return Planner(request, ranges, self._density(request), self._shares(images), counts).plan()

    def profile(self, graph: SnnGraph, inputs: Given, timesteps: int, rounds: int = 10) -> dict[str, float]:
        """Return the seconds that each population takes with its synapses, or a function alone.

        Args:
            graph: the network.
            inputs: (batch, *input shape), the quantised input; run at once, however many.
            timesteps: T.
            rounds: of which the shortest counts.

        Raises:
            UsageError: it has delays, so that a part of it runs step by step.
        """
        if graph.of_type(Delay):
            raise UsageError(f"{graph.name} has delays, and its layers are not timed one by one")
        batch, _ = check_run(graph, inputs, timesteps, None)
        frames = _frames_given(graph, batch)
        request = self._request(graph, timesteps, RecordOptions(), tuple(frames))
        return self._prepare(request, batch, frames).profile(rounds)

    def _shares(self, images: int) -> int:
        """Return how many threads work on one image: several where there is but one."""
        return self.threads if images == 1 and POSIX else 1

    def _run(self, run: Run, batch: int) -> Trace:
        """Run all chunks of images."""
        parts = self.threads * TURNS if self.threads > 1 else 1
        size = max(1, min(-(-batch // parts), CHUNK_BYTES // run.bytes_per_image))
        starts = range(0, batch, size)
        stops = [min(start + size, batch) for start in starts]
        if self.threads == 1 or len(stops) < 2:
            return run.trace(map(run.run, starts, stops))
        return run.trace(self._team.workers.map(run.run, starts, stops))


def _frames_given(graph: SnnGraph, inputs: Batch) -> dict[str, NumberArray]:
    """Return what each step sees of inputs that are frames, (T + K, batch, *shape): spikes that are given."""
    found = {}
    for node in graph.encoders:
        if node.varies:
            q = inputs.arrays[node.name]
            silence = np.zeros((graph.settle_steps, len(q), *node.shape), q.dtype)
            found[node.name] = np.concatenate([presented(node, q), silence])
    return found


def _encoded(request: Request) -> dict[str, Interval]:
    """Return where each input stays that the network's own encoding gives."""
    return {name: Interval(-limit, limit) for name, limit in request.input_limits.items()}


@cache
def _announce_once() -> None:
    announce()


def _remembered(kept: OrderedDict[object, T], most: int, key: object, make: Callable[[], T]) -> T:
    """Return what is kept under ``key``, or make it; of more than ``most``, the longest unused goes."""
    found = kept.pop(key, None)
    if found is None:
        found = make()
        if len(kept) >= most:
            kept.popitem(last=False)
    kept[key] = found
    return found
