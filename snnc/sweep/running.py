"""A sweep at work: which tasks are left, handing them out, and keeping what comes back.

A cell is a conversion, then tasks of its rows, beside those of the source network on the same rows. Every
result goes into the store under all that it depends on, before anything is made of it: whatever ends the
sweep, the same command goes on from there. Records of finished cells are made of what the store holds, in
the order of the rows.
"""

from __future__ import annotations

import heapq
import itertools
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from snnc.analysis.artefacts import evaluate_artefact, stored_tasks
from snnc.analysis.evaluation import Evaluation
from snnc.analysis.parts import Asking, Part, ask
from snnc.analysis.scores import Answers
from snnc.backends import load_simulator
from snnc.errors import ClusterError, InternalError, SnncError
from snnc.progress import Progress, Silent
from snnc.remote.conversion import Made, conversion, told_of_options
from snnc.remote.evaluation import Subject, kept_of, part_of, told_rows
from snnc.scale.plain import packed, unpacked
from snnc.scale.store import Store, key_of
from snnc.scale.tasks import Done, Shared, Task, read
from snnc.scale.workers import Workers
from snnc.sweep.material import Materials, Measured, Ready
from snnc.sweep.plan import Cell, Plan
from snnc.sweep.record import Failure, Record, points_lost_of, record_of

KEPT = 4
"""Converted networks that are held in memory."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sweep came to.

    Attributes:
        cells: all of them, in the order of the plan, each with its record, or ``None`` where it is left.
        was_there: how many records were in the store before.
        seconds: wall time.
    """

    cells: tuple[tuple[Cell, Record | None], ...]
    was_there: int
    seconds: float

    @property
    def records(self) -> tuple[Record, ...]:
        """Those that there are."""
        return tuple(record for _, record in self.cells if record is not None)

    @property
    def left(self) -> int:
        """How many cells are not measured yet."""
        return sum(record is None for _, record in self.cells)


@dataclass(slots=True)
class _Job:
    """A result that somebody waits for."""

    key: str
    make: Callable[[], Task]
    then: list[Callable[[Failure | None], None]]


@dataclass(slots=True)
class _Open:
    """A cell that is not finished.

    Attributes:
        cell: which.
        index: its place.
        ready: its network.
        measured: its rows.
        conversion: key of its conversion.
        waiting: for so many results.
        keys, source_keys: of the results of its rows.
    """

    cell: Cell
    index: int
    ready: Ready
    measured: Measured
    conversion: str
    waiting: int = 0
    keys: tuple[str, ...] = ()
    source_keys: tuple[str, ...] = ()


@dataclass
class Sweep:
    """One run of a plan.

    Attributes:
        plan: what is asked for.
        store: where results are kept.
        workers: who does the tasks.
        progress: where to show how far it is.
        seconds: hand out no task after so long; ``None`` for no limit.
        retry: whether cells that failed are tried again.
        told: called with all records after some cells, for whoever looks meanwhile.
    """

    plan: Plan
    store: Store
    workers: Workers
    progress: Progress = field(default_factory=Silent)
    seconds: float | None = None
    retry: bool = False
    told: Callable[[Outcome], None] = lambda outcome: None

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self._began = time.monotonic()
        self._materials = Materials(self.plan, reads_paths=self.workers.reads_paths)
        self._cells = list(self.plan.cells())
        self._records: list[Record | None] = [None] * len(self._cells)
        self._jobs: dict[str, _Job] = {}
        self._queue: list[tuple[int, int, str]] = []
        self._order = itertools.count()
        self._made: OrderedDict[str, Made] = OrderedDict()
        self._was_there = 0
        self._depends = dict(self.workers.fingerprint)

    def run(self) -> Outcome:
        """Measure every cell that is not in the store.

        Raises:
            SnncError: a network or a file of rows cannot be read, or there is nobody to do tasks.
        """
        for index, cell in enumerate(self._cells):
            self._begin(index, cell)
        left = sum(record is None for record in self._records)
        for _ in self.progress.track(self._finishing(), left, "measuring cells"):
            self.told(self._outcome())
        return self._outcome()

    def _outcome(self) -> Outcome:
        cells = tuple(zip(self._cells, self._records, strict=True))
        return Outcome(cells, self._was_there, time.monotonic() - self._began)

    def _finishing(self) -> Iterator[None]:
        """Hand out tasks and take them back; yield whenever a cell is finished."""
        numbers: dict[int, str] = {}
        done = sum(record is not None for record in self._records)
        while True:
            is_late = self.seconds is not None and time.monotonic() - self._began > self.seconds
            while self._queue and self.workers.has_room and not is_late:
                key = heapq.heappop(self._queue)[2]
                numbers[self.workers.submit(self._jobs[key].make())] = key
            now = sum(record is not None for record in self._records)
            yield from itertools.repeat(None, now - done)
            done = now
            if not self.workers.waiting:
                return
            for number, data in self.workers.take():
                self._came(numbers.pop(number), data)

    def _want(
        self, key: str, rank: int, make: Callable[[], Task], then: Callable[[Failure | None], None]
    ) -> None:
        """Ask for a result: what is in the store is there at once."""
        if key in self._jobs:
            self._jobs[key].then.append(then)
        elif (content := self.store.get(key)) is not None and not (
            self.retry and failure_in(content) is not None
        ):
            then(failure_in(content))
        else:
            self._jobs[key] = _Job(key, make, [then])
            heapq.heappush(self._queue, (rank, next(self._order), key))

    def _came(self, key: str, data: bytes) -> None:
        """Keep a result, and tell those who wait for it."""
        job = self._jobs.pop(key)
        found: Failure | None = None
        try:
            done = read(data)
        except (ClusterError, InternalError) as error:  # which another try may not meet again
            found = Failure(type(error).__name__, str(error))
        except SnncError as error:
            found = Failure(type(error).__name__, str(error))
            self.store.put(key, packed({"failure": [found.kind, found.message]}))
        else:
            self.store.put(key, packed(done.values, done.arrays))
        for then in job.then:
            then(found)

    def _begin(self, index: int, cell: Cell) -> None:
        """Look a cell up, or ask for its conversion."""
        ready = self._materials.network(cell.network)
        measured = self._materials.measured(ready, cell.data)
        depends = {
            **self._depends,
            "name": ready.located.name,
            "source": ready.sha256,
            "calibration": ready.calibration_digest,
            "origin": ready.origin,
            "options": told_of_options(cell.options),
            "preprocessing": ready.told["preprocessing"],
        }
        opened = _Open(cell, index, ready, measured, key_of("conversion", depends))
        content = self.store.get(self._record_key(opened))
        record = None if content is None else json.loads(content)
        if record is not None and not (self.retry and record["error"] is not None):
            self._records[index] = record
            self._was_there += 1
            return

        def task() -> Task:
            return conversion(
                ready.files,
                ready.located.name,
                ready.calibration,
                cell.options,
                ready.preprocessing,
                ready.origin,
            )

        self._want(opened.conversion, 2, task, lambda failure: self._converted(opened, failure))

    def _record_key(self, opened: _Open) -> str:
        return key_of(
            "cell",
            {
                "conversion": opened.conversion,
                "rows": list(opened.measured.digests),
                "labels": opened.measured.labels_digest,
                "metrics": list(self.plan.metrics),
                "backend": self.plan.backend,
                "data": opened.measured.name,
            },
        )

    def _converted(self, opened: _Open, failure: Failure | None) -> None:
        """Ask for the answers of a converted network, and of its source."""
        if failure is not None:
            self._finish(opened, failure)
            return
        try:
            self._ask(opened, self._network(opened.conversion))
        except InternalError:
            raise
        except SnncError as error:  # rows that do not fit, metrics that are none of this network
            self._finish(opened, Failure(type(error).__name__, str(error)))

    def _ask(self, opened: _Open, made: Made) -> None:
        ready, measured, artefact = opened.ready, opened.measured, made.artefact
        artefact.check_rows(measured.rows.rows, measured.name)
        asked = self._asking(opened, made)
        spiking, analogue = map(kept_of, asked.collectors())
        source = (ready.files, ready.told)
        subject = Subject(made.files, artefact.graph.timesteps, self.plan.backend, self.plan.rows_layout)
        keys, source_keys = [], []
        jobs: list[tuple[str, int, Callable[[], Task]]] = []
        for part, digest, rows in zip(measured.parts, measured.digests, measured.shared, strict=True):
            depends = {
                **self._depends,
                "conversion": opened.conversion,
                "timesteps": subject.timesteps,
                "backend": subject.backend,
                "rows_layout": subject.rows_layout,
                "rows": digest,
                "kept": spiking,
            }
            keys.append(key_of("evaluation", depends))
            jobs.append((keys[-1], 0, _evaluation(subject, part, rows, spiking, measured.name)))
            depends = {
                **self._depends,
                "source": ready.sha256,
                "told": dict(source[1]),
                "rows": digest,
                "kept": analogue,
            }
            source_keys.append(key_of("source", depends))
            jobs.append((source_keys[-1], 1, _answers(source, part, rows, analogue, measured.name)))
        opened.keys, opened.source_keys = tuple(keys), tuple(source_keys)
        opened.waiting = len(jobs)
        failures: list[Failure] = []

        def came(failure: Failure | None) -> None:
            opened.waiting -= 1
            if failure is not None:
                failures.append(failure)
            if opened.waiting == 0:
                self._finish(opened, failures[0] if failures else None)

        for key, rank, task in jobs:
            self._want(key, rank, task, came)

    def _network(self, key: str) -> Made:
        """Return a converted network of the store."""
        if key not in self._made:
            content = self.store.get(key)
            if content is None:
                raise ClusterError(f"the result {key} went from {self.store.folder} meanwhile: sweep again")
            made = Made.of(*unpacked(content))
            self._made[key] = Made(
                Shared(made.files.sha256, lambda: self._files(key)), made.artefact, made.chosen, made.warnings
            )
            while len(self._made) > KEPT:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return self._made[key]

    def _files(self, key: str) -> bytes:
        return unpacked(self.store.get(key) or b"")[1]["files"].tobytes()

    def _asking(self, opened: _Open, made: Made) -> Asking:
        artefact, given = made.artefact, opened.cell.options.task
        return ask(
            artefact.graph,
            len(opened.measured.rows),
            opened.measured.y,
            ends=opened.ready.source.session.all_ends,
            task=stored_tasks(artefact) if given is None else given,
            metrics=self.plan.metrics,
            layouts=artefact.output_layouts,
            finish=artefact.finish,
            has_source=True,
        )

    def _finish(self, opened: _Open, failure: Failure | None) -> None:
        """Make the record of a cell, and keep it."""
        evaluation: Evaluation | None = None
        made: Made | None = None
        points: float | None = None
        if failure is None:
            made = self._network(opened.conversion)
            try:
                evaluation = self._evaluated(opened, made)
                points = points_lost_of(evaluation, self._asking(opened, made))
            except InternalError:
                raise
            except SnncError as error:
                failure = Failure(type(error).__name__, str(error))
        record = record_of(opened.cell, opened.ready, opened.measured, made, evaluation, points, failure)
        self._records[opened.index] = record
        if failure is None or failure.kind not in ("ClusterError", "InternalError"):
            text = json.dumps(record, sort_keys=True, allow_nan=False)
            self.store.put(self._record_key(opened), text.encode())

    def _evaluated(self, opened: _Open, made: Made) -> Evaluation:
        """Join what the store holds of a cell, in the order of the rows."""

        def parts(
            spiking: Mapping[str, Answers], analogue: Mapping[str, Answers]
        ) -> Iterator[tuple[slice, Part]]:
            for part, key, beside in zip(opened.measured.parts, opened.keys, opened.source_keys, strict=True):
                ours, theirs = self._part(key), self._part(beside)
                yield part, Part(ours.spiking, theirs.analogue, ours.activity)

        return evaluate_artefact(
            made.artefact,
            opened.measured.rows.rows,
            opened.measured.y,
            simulator=load_simulator(self.plan.backend, 1),
            counter=load_simulator("numba", 1) if self.plan.backend == "onnx" else None,
            source=opened.ready.source,
            task=opened.cell.options.task,
            metrics=self.plan.metrics,
            parts=parts,
        )

    def _part(self, key: str) -> Part:
        content = self.store.get(key)
        if content is None:
            raise ClusterError(f"the result {key} went from {self.store.folder} meanwhile: sweep again")
        return part_of(Done(*unpacked(content), "", 0.0))


def failure_in(content: bytes) -> Failure | None:
    """Return the failure that a result of the store is, if it is one."""
    if b"failure" not in content[:4096]:
        return None
    values, _ = unpacked(content)
    return Failure(*values["failure"]) if "failure" in values else None


def _evaluation(
    subject: Subject, part: slice, rows: Shared, kept: Mapping[str, Any], name: str
) -> Callable[[], Task]:
    return lambda: subject.task(part, rows, kept, {}, name)


def _answers(
    source: tuple[Shared, Mapping[str, Any]], part: slice, rows: Shared, kept: Mapping[str, Any], name: str
) -> Callable[[], Task]:
    values = {"source": dict(source[1]), "kept": dict(kept), "start": part.start}
    return lambda: Task("answers", packed(values), (source[0], rows), told_rows(part, name))
