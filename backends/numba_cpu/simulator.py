"""The simulator: chunks of images over threads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar
from weakref import WeakKeyDictionary

from snnc.backends.numba_cpu.float32 import FloatRun, Operation
from snnc.backends.numba_cpu.integers import IntegerRun
from snnc.backends.numba_cpu.layers import Synapse
from snnc.backends.numba_cpu.request import Request
from snnc.errors import UsageError
from snnc.ir.graph import NumberArray
from snnc.ir.snn import SnnGraph
from snnc.target import Record, Trace, check_run

CHUNK_BYTES = 4 << 20
"""What the largest current of a chunk may take: so few images that memory stays flat."""


class NumbaSimulator:
    """Simulates on the CPU with compiled kernels; the same bits as the reference for integer networks."""

    name: ClassVar[str] = "numba"

    def __init__(self, threads: int | None = None) -> None:
        """Choose the number of threads.

        Args:
            threads: at most so many run at once; ``None`` for one per available core.

        Raises:
            UsageError: not a positive number.
        """
        if threads is not None and threads < 1:
            raise UsageError(f"the number of threads must be at least 1, not {threads}")
        self.threads = threads or available_cores()
        self._synapses: WeakKeyDictionary[SnnGraph, dict[str, Synapse]] = WeakKeyDictionary()
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
            inputs=inputs,
            given={name: train for name, train in given.items() if name in needed},
            timesteps=timesteps,
            record=record,
        )
        run: IntegerRun | FloatRun
        if request.integer:
            run = IntegerRun(request, self._synapses.setdefault(graph, {}))
        else:
            run = FloatRun(request, self._operations.setdefault(graph, {}))
        batch = len(inputs)
        size = max(1, min(-(-batch // self.threads), CHUNK_BYTES // run.bytes_per_image))
        starts = range(0, batch, size)
        stops = [min(start + size, batch) for start in starts]
        if self.threads == 1 or len(stops) < 2:
            return run.trace([run.run(start, stop) for start, stop in zip(starts, stops, strict=True)])
        with ThreadPoolExecutor(self.threads, thread_name_prefix="snnc") as workers:
            return run.trace(workers.map(run.run, starts, stops))


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
