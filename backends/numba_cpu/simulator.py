"""The simulator: chunks of images over threads."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar
from weakref import WeakKeyDictionary

from snnc.backends.numba_cpu.float32 import FloatRun, Operation
from snnc.backends.numba_cpu.integers import IntegerRun, Prepared, integers
from snnc.backends.numba_cpu.ranges import Interval, measured
from snnc.backends.numba_cpu.request import Request
from snnc.errors import UsageError
from snnc.ir.graph import NumberArray
from snnc.ir.snn import Encode, SnnGraph
from snnc.target import Record, Trace, check_run

CHUNK_BYTES = 4 << 20
"""What the largest current of a chunk may take: so few images that memory stays flat."""


PREPARED = 8
"""Networks and questions about them (T, what is recorded, what is given) whose preparation is kept."""


class NumbaSimulator:
    """Simulates on the CPU with compiled kernels; the same bits as the reference for integer networks."""

    name: ClassVar[str] = "numba"

    def __init__(self, threads: int | None = None, density: Mapping[str, float] | None = None) -> None:
        """Choose the number of threads.

        Args:
            threads: at most so many run at once; ``None`` for one per available core.
            density: per population, the share of its neurons that fire in a step, as
                :func:`snnc.backends.numba_cpu.plan.measured_density` finds it: it decides which kernels
                are used, and nothing else.

        Raises:
            UsageError: not a positive number.
        """
        if threads is not None and threads < 1:
            raise UsageError(f"the number of threads must be at least 1, not {threads}")
        self.threads = threads or available_cores()
        self.density = density or {}
        self._prepared: OrderedDict[object, Prepared] = OrderedDict()
        self._operations: WeakKeyDictionary[SnnGraph, dict[str, Operation]] = WeakKeyDictionary()

    def run(
        self,
        graph: SnnGraph,
        inputs: NumberArray,
        timesteps: int,
        record: Record = Record(),
        /,
        given: Mapping[str, NumberArray] | None = None,
    ) -> Trace:
        """Simulate; see :class:`snnc.target.Simulator`.

        Trains come back in the narrowest integer type that holds them (float32 before quantisation),
        as views whose channels lie last in memory; given trains of that layout are read fastest.
        """
        given = check_run(graph, inputs, timesteps, given)
        needed = graph.ancestors(record.until or (graph.output,), frozenset(given))
        request = Request(
            graph=graph,
            nodes=tuple(node for node in graph if node.name in needed and node.name not in given),
            given=tuple(name for name in given if name in needed),
            timesteps=timesteps,
            record=record,
        )
        trains = {name: given[name] for name in request.given}
        if request.integer:
            return self._run(self._integers(request, inputs, trains), len(inputs))
        operations = self._operations.setdefault(graph, {})
        return self._run(FloatRun(request, inputs, trains, operations), len(inputs))

    def _integers(
        self, request: Request, inputs: NumberArray, given: Mapping[str, NumberArray]
    ) -> IntegerRun:
        """Return a run in integers, prepared earlier if the like of it was."""
        trains = {name: integers(name, train) for name, train in given.items()}
        ranges = {name: measured(train) for name, train in trains.items()}
        limit = next(node.limit for node in request.graph if isinstance(node, Encode))
        # Larger inputs than the network's own encoding gives are run with wider integers.
        quantised = measured(inputs).hull(Interval(-limit, limit))
        record = request.record
        question = (request.timesteps, record.states, record.trains, record.until, quantised)
        key = (id(request.graph), question, tuple(ranges.items()))
        prepared = self._prepared.pop(key, None)
        if prepared is None:
            # What is prepared holds the network, so that no other can get its id meanwhile.
            prepared = Prepared(request, ranges, quantised, self.density)
            if len(self._prepared) >= PREPARED:
                self._prepared.popitem(last=False)
        self._prepared[key] = prepared
        return IntegerRun(prepared, inputs, trains)

    def _run(self, run: IntegerRun | FloatRun, batch: int) -> Trace:
        """Run all chunks of images."""
        size = max(1, min(-(-batch // self.threads), CHUNK_BYTES // run.bytes_per_image))
        starts = range(0, batch, size)
        stops = [min(start + size, batch) for start in starts]
        if self.threads == 1 or len(stops) < 2:
            return run.trace(map(run.run, starts, stops))
        with ThreadPoolExecutor(self.threads, thread_name_prefix="snnc") as workers:
            return run.trace(workers.map(run.run, starts, stops))


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
