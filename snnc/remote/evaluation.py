"""Evaluation in tasks of consecutive rows: a network, and its source, on some of them.

What comes back of a row is its decision and its five best classes, or its values where metrics need them,
and of all rows together the events of every neuron, which are integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snnc.analysis.answers import SHARD
from snnc.analysis.parts import Part, Parts, run_part
from snnc.analysis.scores import Answers, Reduced
from snnc.backends import load_simulator
from snnc.data.shared_rows import SharedRows, rows_of_blob, rows_of_task
from snnc.ir.batch import Rows
from snnc.ir.graph import NumberArray
from snnc.progress import Progress
from snnc.remote.files import artefact_of, in_parts, source_of
from snnc.scale.plain import packed
from snnc.scale.tasks import Arrays, Blob, Done, Found, Shared, Task
from snnc.scale.workers import Workers
from snnc.simulation.protocol import Activity
from snnc.simulation.remote import narrow

TASK_ROWS = 2 * SHARD
"""Rows of one task; a whole number of shards, so that every batch is the same as in one process."""

ACTIVITY = ("events", "units", "bits")
KEPT = ("classes", "top", "values")


@dataclass(frozen=True, slots=True)
class Subject:
    """The networks that rows are run through.

    Attributes:
        artefact: the files of the spiking network.
        timesteps: T.
        backend: the simulator.
        rows_layout: of the rows.
        source: the files of the source network, and what is told of it; ``None`` where there is none.
    """

    artefact: Shared
    timesteps: int
    backend: str = "numba"
    rows_layout: str | None = None
    source: tuple[Shared, Mapping[str, Any]] | None = None

    def task(
        self,
        rows: slice,
        given: tuple[dict[str, Any], Arrays] | Shared,
        spiking: Mapping[str, Mapping[str, Any]],
        analogue: Mapping[str, Mapping[str, Any]],
        name: str = "the rows",
    ) -> Task:
        """Return the task of some rows.

        Args:
            rows: which.
            given: the rows, as :class:`snnc.data.shared_rows.SharedRows` gives them.
            spiking: what is kept of each output; see :func:`kept_of`.
            analogue: the same of the source.
            name: what the rows are called.
        """
        sent, arrays = ({}, {}) if isinstance(given, Shared) else given
        shared = [self.artefact]
        if self.source is not None:
            shared.append(self.source[0])
        if isinstance(given, Shared):
            shared.append(given)
        values = {
            "rows": sent,
            "start": rows.start,
            "timesteps": self.timesteps,
            "backend": self.backend,
            "rows_layout": self.rows_layout,
            "source": None if self.source is None else dict(self.source[1]),
            "spiking": spiking,
            "analogue": analogue,
        }
        return Task("evaluate", packed(values, arrays), tuple(shared), told_rows(rows, name))


def told_rows(rows: slice, name: str) -> str:
    """Return what a task is about, for messages."""
    return f"rows {rows.start} to {rows.stop - 1} of {name}"


def kept_of(answers: Mapping[str, Answers]) -> dict[str, dict[str, Any]]:
    """Return what is kept of the answers at each output, as values of a task."""
    return {
        name: {"threshold": each.threshold, "keep": each.keep, "have_classes": each.outputs.have_classes}
        for name, each in answers.items()
    }


def evaluated(values: dict[str, Any], arrays: Arrays, blobs: Sequence[Blob]) -> Found:
    """Run both networks on some rows, in a worker."""
    blobs = list(blobs)
    artefact = artefact_of(blobs.pop(0), values["rows_layout"])
    source = None if values["source"] is None else source_of(blobs.pop(0), values["source"])
    x = rows_of_blob(blobs[0]) if blobs else rows_of_task(values["rows"], arrays)
    simulator = counter = _simulator(values["backend"])
    if simulator.name == "onnx":  # which gives answers, but no look inside
        counter = _simulator("numba")
    finish = artefact.finish
    if finish is not None:
        one = counter is simulator
        simulator = finish.simulator(simulator)
        counter = simulator if one else finish.simulator(counter)
    first, parts = int(values["start"]), []
    for start in range(0, len(x), SHARD):
        found = run_part(
            artefact.graph,
            artefact.encode,
            x[start : start + SHARD],
            int(values["timesteps"]),
            simulator=simulator,
            counter=counter,
            source=source,
            layouts=artefact.output_layouts,
            finish=finish,
            outputs=tuple(values["analogue"]),
        )
        told = {
            side: {
                name: Reduced.of(np.asarray(each), first=first + start, **values[side][name])
                for name, each in answers.items()
            }
            for side, answers in (("spiking", found.spiking), ("analogue", found.analogue))
        }
        parts.append(Part(told["spiking"], told["analogue"], found.activity))
    return _plain(parts)


_simulators: dict[str, Any] = {}


def _simulator(name: str) -> Any:
    if name not in _simulators:
        _simulators[name] = load_simulator(name, 1)
    return _simulators[name]


def _plain(parts: Sequence[Part]) -> Found:
    """Return what was made of consecutive rows as values and arrays."""
    made: Arrays = {}
    told: dict[str, Any] = {"spiking": {}, "analogue": {}, "activity": list(parts[0].activity)}
    for side in ("spiking", "analogue"):
        for index, name in enumerate(getattr(parts[0], side)):
            each = [part.spiking[name] if side == "spiking" else part.analogue[name] for part in parts]
            reduced = [item for item in each if isinstance(item, Reduced)]
            told[side][name] = sum(item.n for item in reduced)
            for field in KEPT:
                found = [getattr(item, field) for item in reduced]
                if found[0] is not None:
                    made[f"{side}:{index}:{field}"] = np.concatenate(found)
    for index, name in enumerate(parts[0].activity):
        total = parts[0].activity[name]
        for part in parts[1:]:
            total = total + part.activity[name]
        made |= {f"activity:{index}:{field}": each for field, each in sent_activity(total).items()}
    return told, made


def sent_activity(total: Activity) -> Arrays:
    """Return events as they are sent: in few bytes, and once where all spikes are of one unit."""
    sent: Arrays = {"events": narrow(total.events)}
    for field in ACTIVITY[1:]:
        if not np.array_equal(found := getattr(total, field), total.events):
            sent[field] = narrow(found)
    return sent


def part_of(done: Done) -> Part:
    """Return what a task made of its rows."""
    told, made = done.values, done.arrays

    def side(name: str) -> dict[str, NumberArray | Reduced]:
        found: dict[str, NumberArray | Reduced] = {}
        for index, (output, n) in enumerate(told[name].items()):
            classes, top, values = (made.get(f"{name}:{index}:{field}") for field in KEPT)
            found[output] = Reduced(classes, top, values, int(n))
        return found

    activity = {}
    for index, name in enumerate(told["activity"]):
        events = made[f"activity:{index}:events"].astype(np.int64)
        units, bits = (made.get(f"activity:{index}:{field}", events) for field in ACTIVITY[1:])
        activity[name] = Activity(events, units.astype(np.int64), bits.astype(np.int64))
    return Part(side("spiking"), side("analogue"), activity)


def parts_on(
    workers: Workers, subject: Subject, x: Rows, path: Path | None, progress: Progress, name: str = "the rows"
) -> Parts:
    """Return what runs an evaluation on workers; see :func:`snnc.analysis.evaluation.evaluate`.

    Args:
        workers: who runs it.
        subject: the networks.
        x: the rows.
        path: the file that they come from, if there is one.
        progress: where to show how far it is.
        name: what the rows are called.
    """
    rows = SharedRows.of(x, path, reads_paths=workers.reads_paths)

    def run(spiking: Mapping[str, Answers], analogue: Mapping[str, Answers]) -> Iterator[tuple[slice, Part]]:
        cut = in_parts(len(x), TASK_ROWS)
        kept = kept_of(spiking), ({} if subject.source is None else kept_of(analogue))
        tasks = (subject.task(part, rows.part(part), *kept, name) for part in cut)
        found = progress.track(
            workers.results(tasks), len(cut), f"evaluating at T = {subject.timesteps} on workers"
        )
        for part, done in zip(cut, found, strict=True):
            yield part, part_of(done)

    return run


def answers_on(
    workers: Workers,
    source: tuple[Shared, Mapping[str, Any]],
    x: Rows,
    path: Path | None,
    progress: Progress,
    name: str = "the rows",
) -> Iterator[tuple[slice, Mapping[str, NumberArray]]]:
    """Yield what a source network answers to consecutive rows by output, (n, *shape), run by workers."""
    rows, cut = SharedRows.of(x, path, reads_paths=workers.reads_paths), in_parts(len(x), TASK_ROWS)

    def task(part: slice) -> Task:
        sent, arrays = rows.part(part)
        values = {"rows": sent, "source": dict(source[1])}
        return Task("answers", packed(values, arrays), (source[0],), told_rows(part, name))

    found = progress.track(workers.results(map(task, cut)), len(cut), "evaluating the ANN on workers")
    for part, done in zip(cut, found, strict=True):
        yield part, done.arrays


def answered(values: dict[str, Any], arrays: Arrays, blobs: Sequence[Blob]) -> Found:
    """Run a source network on some rows, in a worker."""
    source = source_of(blobs[0], values["source"])
    x = rows_of_blob(blobs[1]) if len(blobs) > 1 else rows_of_task(values["rows"], arrays)
    found: list[dict[str, NumberArray]] = [
        source.session.run_all(source.prepare(x[start : start + SHARD])) for start in range(0, len(x), SHARD)
    ]
    whole = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
    if "kept" not in values:
        return {}, whole
    reduced = {
        name: Reduced.of(whole[name].reshape(len(x), -1), first=int(values["start"]), **kept)
        for name, kept in values["kept"].items()
    }
    return _plain([Part({}, reduced, {})])
