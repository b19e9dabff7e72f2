"""Reports in tasks: the sums of one chunk of rows each, joined in the order of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from snnc.artefact import Artefact
from snnc.backends import load_simulator
from snnc.data.shared_rows import SharedRows, rows_of_task
from snnc.ir.ann import AnnGraph
from snnc.ir.batch import Rows
from snnc.metrics.task import Outputs
from snnc.metrics.task import Task as Kind
from snnc.remote.evaluation import told_rows
from snnc.remote.files import Unpacked, artefact_of, shared_files
from snnc.report.chunks import ChunkSums, State
from snnc.report.measuring import Chunks, Elsewhere
from snnc.report.origin import prepared_source
from snnc.report.serial_worker import SerialWorker
from snnc.scale.plain import packed
from snnc.scale.tasks import Arrays, Blob, Found, Task, ready
from snnc.scale.workers import Workers
from snnc.simulation.protocol import Simulator


@dataclass(frozen=True, slots=True)
class Reported:
    """What a report is of.

    Attributes:
        artefact: the file of the spiking network.
        source: the file of its source.
        rows_layout: of the rows.
        x: the rows.
        path: the file that they come from.
    """

    artefact: Path
    source: Path
    rows_layout: str | None
    x: Rows
    path: Path | None


def chunks_on(workers: Workers, reported: Reported) -> Elsewhere:
    """Return what sums up the chunks of a report on workers.

    Args:
        workers: who does it.
        reported: what it is of.
    """
    files = shared_files(reported.artefact), shared_files(reported.source)
    rows = SharedRows.of(reported.x, reported.path, reads_paths=workers.reads_paths)

    def elsewhere(asked: Chunks) -> Iterator[State]:
        def task(part: slice) -> Task:
            sent, arrays = rows.part(part)
            outputs = {
                name: [None if each.task is None else each.task.value, each.size, each.is_map]
                for name, each in asked.outputs.items()
            }
            values = {
                "rows": sent,
                "first": part.start,
                "timesteps": asked.timesteps,
                "ends": dict(asked.ends),
                "outputs": outputs,
                "rows_layout": reported.rows_layout,
            }
            if asked.labels is not None:
                arrays["labels"] = asked.labels[part]
            return Task("chunk", packed(values, arrays), files, told_rows(part, "the report"))

        return ((done.values, done.arrays) for done in workers.results(map(task, asked.rows)))

    return elsewhere


@dataclass(eq=False)
class _Prepared:
    """What a worker keeps of a report."""

    artefact: Artefact
    source: AnnGraph
    sums: dict[str, ChunkSums]


def chunk(values: dict[str, Any], arrays: Arrays, blobs: Sequence[Blob]) -> Found:
    """Sum up one chunk, in a worker."""
    artefact = artefact_of(blobs[0], values["rows_layout"])
    simulator: Simulator = ready("simulator", blobs[0], lambda data: load_simulator("numba", 1))

    def prepared(data: bytes) -> _Prepared:
        files = Unpacked.of(data)
        return _Prepared(artefact, prepared_source(artefact, files.path, simulator), {})

    kept = ready("reported", blobs[1], prepared, blobs[0].sha256, str(values["rows_layout"]))
    first = int(values["first"])
    x = rows_of_task(values["rows"], arrays)
    key = repr((values["timesteps"], values["ends"], values["outputs"]))
    with threadpool_limits(1, "blas"), SerialWorker(1) as behind:
        if key not in kept.sums:
            kept.sums[key] = _sums(kept, simulator, values, behind)
        labels = arrays.get("labels")
        return kept.sums[key].chunk(x, slice(first, first + len(x)), labels)


def _sums(
    kept: _Prepared, simulator: Simulator, values: Mapping[str, Any], behind: SerialWorker
) -> ChunkSums:
    """Return what sums up chunks; it does every task at once, so that it needs no thread that stays."""
    outputs = {
        name: Outputs(None if task is None else Kind(task), "", None, int(size), bool(is_map))
        for name, (task, size, is_map) in values["outputs"].items()
    }
    return ChunkSums(
        kept.artefact, kept.source, simulator, int(values["timesteps"]), 1, behind, outputs, values["ends"]
    )
