"""Measure a conversion: run both networks over the rows, chunk by chunk, and gather what separates them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from snnc.artefact import Artefact
from snnc.data import normalisation
from snnc.data.input_statistics import MOST_ROWS, Foreign, InputStatistics
from snnc.data.normalisation import Misread
from snnc.errors import InputError
from snnc.ir.ann import AnnGraph, Softmax
from snnc.ir.batch import Batch, Rows
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.metrics import Outputs, Task
from snnc.metrics.outputs import Labels, recognise_outputs
from snnc.progress import Progress, Silent
from snnc.report.chunks import ChunkSums, State
from snnc.report.measurement import Measurement
from snnc.report.serial_worker import SerialWorker
from snnc.simulation.protocol import Simulator
from snnc.source.ann_session import CHUNK, AnnSession


@dataclass(frozen=True, slots=True)
class Chunks:
    """What is to be summed up.

    Attributes:
        rows: of each chunk, in order.
        labels: the classes of all rows at the first output, as far as they are known.
        outputs: what each output is, by its name.
        ends: the activation that the source ends each output with.
        timesteps: T.
    """

    rows: tuple[slice, ...]
    labels: IntArray | None
    outputs: Mapping[str, Outputs]
    ends: Mapping[str, str]
    timesteps: int


Elsewhere = Callable[[Chunks], Iterator[State]]
"""Yields the sums of chunks in their order."""


def measure(
    artefact: Artefact,
    source: AnnGraph,
    x: Rows,
    y: Labels,
    *,
    simulator: Simulator,
    task: Task | str | None = None,
    timesteps: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    elsewhere: Elsewhere | None = None,
) -> Measurement:
    """Measure a conversion.

    Args:
        artefact: the spiking network.
        source: the network that was lowered; see :func:`snnc.report.origin.prepared_source`.
        x: (n, ...) rows as the artefact takes them; of several inputs a batch of them.
        y: (n, ...) labels, or ``None``; of several outputs by their names.
        simulator: what runs the spiking network.
        task: what the user says of the outputs; else what the artefact remembers, or the labels tell.
        timesteps: T; the calibrated value by default.
        threads: used by the source network.
        progress: where to show how far it is.
        elsewhere: sums up all chunks somewhere else; see :mod:`snnc.remote.measuring`.

    Raises:
        InputError: rows or labels do not fit.
        NonFiniteError: a network answers with NaN or infinity.
    """
    if len(x) == 0:
        raise InputError("there are no rows to measure on")
    graph, shapes = artefact.graph, artefact.gives
    several = len(shapes) > 1
    ends = dict(artefact.source_ends)
    if artefact.host is None:
        for name, node in zip(graph.output_names, source.outputs, strict=True):
            ends[name] = ends[name] or _softmax(source, node)
    stored = None if several else artefact.metadata.stored_task
    outputs = recognise_outputs(shapes, rows=len(x), labels=y, ends=ends, given=task, stored=stored)
    steps = graph.timesteps if timesteps is None else timesteps
    first = next(iter(outputs.values())).classes
    chunks = [slice(start, min(start + CHUNK, len(x))) for start in range(0, len(x), CHUNK)]
    tracked = (progress or Silent()).track(chunks, len(chunks), f"measuring at T = {steps}")
    # One BLAS thread: the order of a sum, and with it the last bit, must not depend on their number.
    with threadpool_limits(1, "blas"), SerialWorker(threads) as behind:
        work = ChunkSums(artefact, source, simulator, steps, threads, behind, outputs, ends)
        if elsewhere is None:
            work.joined(
                (rows, work.chunk(x[rows], rows, None if first is None else first[rows])) for rows in tracked
            )
        else:
            asked = Chunks(tuple(chunks), first, outputs, ends, steps)
            work.joined(zip(tracked, elsewhere(asked), strict=True))
        if several or len(graph.inputs) > 1 or isinstance(x, Batch):
            return work.result(None, None)
        (only,) = outputs.values()
        return work.result(*_judged(artefact, source, x, threads, only.task))


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


def _softmax(source: AnnGraph, name: str) -> str:
    """Return the softmax that an output ends with, as an ONNX operator; empty for none."""
    last = source[name]
    if not isinstance(last, Softmax):
        return ""
    return "LogSoftmax" if last.logarithm else "Softmax"
