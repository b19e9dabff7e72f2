"""The source network on workers: calls of the same rows, in the same order, as in one process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from snnc.ir.batch import Batch, Rows
from snnc.ir.blocks import released
from snnc.ir.graph import FloatArray, IntArray
from snnc.scale.plain import packed
from snnc.scale.tasks import Arrays, Blob, Found, Shared, Task, ready
from snnc.scale.workers import Workers

CHUNK = 32
"""Rows per call. Fixed, so that results do not depend on the number of threads or workers."""

MOST_CALLS = 4
"""Calls of one task at most."""

TASK_BYTES = 16 << 20
"""Bytes of rows of one task, as long as it is more than one call."""


def task_rows(x: Rows) -> int:
    """Return the rows of one task: whole calls, fixed by the rows alone."""
    arrays = x.arrays.values() if isinstance(x, Batch) else (x,)
    row = sum(4 * math.prod(array.shape[1:]) for array in arrays)
    return CHUNK * max(1, min(MOST_CALLS, TASK_BYTES // max(1, CHUNK * row)))


def session_of(data: bytes) -> ort.InferenceSession:
    """Return what runs a model on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # Merged into a pooling, a padding whose input is asked for, too, would read a name that is gone.
    return ort.InferenceSession(
        data, options, providers=["CPUExecutionProvider"], disabled_optimizers=["Pad_Fusion"]
    )


def streamed(
    workers: Workers,
    model: Shared,
    names: Sequence[str],
    feeds: Callable[[Rows], Mapping[str, FloatArray]],
    x: Rows,
) -> Iterator[tuple[slice, dict[str, FloatArray]]]:
    """Yield the values of consecutive calls with the rows that they belong to.

    Args:
        workers: who computes them.
        model: the ONNX model.
        names: what its outputs are called here.
        feeds: what it is given of some rows.
        x: all rows.
    """
    size = task_rows(x)
    starts = range(0, len(x), size)

    def task(start: int) -> Task:
        rows = slice(start, start + size)
        label = f"rows {start} to {min(start + size, len(x)) - 1} of the calibration"
        sent = packed({}, feeds(x[rows]))
        released(x)
        return Task("activations", sent, (model,), label)

    for start, done in zip(starts, workers.results(map(task, starts)), strict=True):
        whole = [done.arrays[str(index)] for index in range(len(names))]
        for at in range(0, len(whole[0]), CHUNK):
            rows = slice(start + at, start + at + CHUNK)
            yield rows, {name: each[at : at + CHUNK] for name, each in zip(names, whole, strict=True)}


def _calls(session: ort.InferenceSession, arrays: Mapping[str, Any]) -> Iterator[tuple[slice, list[Any]]]:
    """Yield what each call of consecutive rows gives."""
    count = len(next(iter(arrays.values())))
    for start in range(0, count, CHUNK):
        rows = slice(start, start + CHUNK)
        feeds = {name: np.ascontiguousarray(array[rows]) for name, array in arrays.items()}
        yield rows, list(map(np.asarray, session.run(None, feeds)))


def activations(values: dict[str, Any], arrays: Arrays, blobs: Sequence[Blob]) -> Found:
    """Compute the values of some rows, in a worker."""
    session = ready("session", blobs[0], session_of)
    parts = [found for _, found in _calls(session, arrays)]
    return {}, {str(index): np.concatenate(each) for index, each in enumerate(zip(*parts, strict=True))}


PLACES = "places:"
"""Put before the name of an array of positions among those of a task."""

CHOSEN = "chosen"
"""The name of the array that says of which rows values are kept."""

Sample = tuple[FloatArray, FloatArray, FloatArray]
"""What is kept of values, (rows, channels, positions), and their largest and smallest, (channels,) each."""


def within(chosen: IntArray, rows: slice) -> slice:
    """Return which of some rows, given in order, lie within consecutive ones."""
    first, last = np.searchsorted(chosen, (rows.start, rows.stop))
    return slice(int(first), int(last))


def sample(value: FloatArray, rows: IntArray, places: IntArray) -> Sample:
    """Return what is kept of the values of a node, (batch, channels, ...), and their extremes.

    Args:
        value: the values.
        rows: those of which something is kept.
        places: (rows, positions), what is kept of these.
    """
    flat = value.reshape(*value.shape[:2], -1)
    kept = np.take_along_axis(flat[rows], places[:, None, :], axis=2)
    return kept, flat.max(axis=(0, 2)), flat.min(axis=(0, 2))


def sampled(
    workers: Workers,
    model: Shared,
    names: Sequence[str],
    feeds: Callable[[Rows], Mapping[str, FloatArray]],
    x: Rows,
    chosen: IntArray,
    places: Mapping[str, IntArray],
) -> Iterator[dict[str, Sample]]:
    """Yield samples of consecutive rows; see :meth:`snnc.source.ann_session.AnnSession.sampled`.

    Args:
        workers: who computes them.
        model: the ONNX model.
        names: what its outputs are called here.
        feeds: what it is given of some rows.
        x: all rows.
        chosen: (rows,), in order, those of which values are kept.
        places: (rows, positions) of each output by its name, the positions that are kept of these.
    """
    size = task_rows(x)
    starts = range(0, len(x), size)

    def task(start: int) -> Task:
        rows = slice(start, start + size)
        inside = within(chosen, rows)
        asked = {CHOSEN: chosen[inside] - start}
        asked |= {f"{PLACES}{index}": places[name][inside] for index, name in enumerate(names)}
        sent = packed({"count": len(names)}, {**feeds(x[rows]), **asked})
        released(x)
        label = f"rows {start} to {min(start + size, len(x)) - 1} of the calibration"
        return Task("samples", sent, (model,), label)

    for done in workers.results(map(task, starts)):
        yield {
            name: (
                done.arrays[f"kept:{index}"],
                done.arrays[f"highest:{index}"],
                done.arrays[f"lowest:{index}"],
            )
            for index, name in enumerate(names)
        }


def samples(values: dict[str, Any], arrays: Arrays, blobs: Sequence[Blob]) -> Found:
    """Sample the values of some rows, in a worker."""
    session = ready("session", blobs[0], session_of)
    chosen = arrays.pop(CHOSEN)
    places = [arrays.pop(f"{PLACES}{index}") for index in range(int(values["count"]))]
    parts: list[list[Sample]] = [[] for _ in places]
    for rows, found in _calls(session, arrays):
        inside = within(chosen, rows)
        for index, value in enumerate(found):
            parts[index].append(sample(value, chosen[inside] - rows.start, places[index][inside]))
    made: Arrays = {}
    for index, each in enumerate(parts):
        kept, highest, lowest = zip(*each, strict=True)
        made[f"kept:{index}"] = np.concatenate(kept)
        made[f"highest:{index}"] = np.maximum.reduce(highest)
        made[f"lowest:{index}"] = np.minimum.reduce(lowest)
    return {}, made
