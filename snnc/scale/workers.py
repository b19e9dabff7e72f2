"""Tasks handed to an engine, and their results taken back: in order, no more at once than there is room for.

A task that is lost, because its worker or the scheduler went away, is handed out again: it gives the same
bytes wherever it is done. One at which worker after worker ends is given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Protocol

from snnc.errors import ClusterError
from snnc.scale.fingerprint import Fingerprint
from snnc.scale.tasks import Done, Task, failure, read

AHEAD = 3
"""Tasks for each worker that are handed out or not yet taken at most: what they hold stays small."""

MOST_DEATHS = 5
"""Workers that may end at one task before it is given up."""

MOST_LOSSES = 100
"""How often a task is handed out again whose worker, data or scheduler went away for other reasons."""

PATIENCE = 0.5
"""Seconds between looks at the engine while nothing comes."""


class Lost(Enum):
    """How a task was lost."""

    DEATH = "its worker ended while it was at this task"
    AWAY = "its worker, its data or the scheduler went away"
    GIVEN_UP = "the scheduler gave it up, since worker after worker ended at it"


class Engine(Protocol):
    """Runs tasks somewhere."""

    @property
    def size(self) -> int:
        """How many tasks run at once, as far as is known now; at least 1."""
        ...

    @property
    def reads_paths(self) -> bool:
        """Whether workers see the files of this machine under the same paths."""
        ...

    @property
    def fingerprint(self) -> Fingerprint:
        """What the workers are; see :mod:`snnc.scale.fingerprint`."""
        ...

    def submit(self, number: int, task: Task) -> None:
        """Hand out a task under a number."""
        ...

    def finished(self, timeout: float) -> list[tuple[int, bytes | Lost]]:
        """Return what came back since the last call, waiting for so many seconds at most.

        Raises:
            ClusterError: there is nobody left to run tasks.
        """
        ...

    def cancel(self) -> None:
        """Give up all tasks that were handed out."""
        ...

    def close(self) -> None:
        """Let go of the workers."""
        ...


@dataclass(slots=True)
class _Given:
    task: Task
    deaths: int = 0
    losses: int = 0


class Workers:
    """Whoever runs tasks, as all of snnc sees them."""

    def __init__(self, engine: Engine) -> None:
        """Take an engine, and close it at the end."""
        self._engine = engine
        self._given: dict[int, _Given] = {}
        self._came: dict[int, bytes] = {}
        self._next = 0

    def __enter__(self) -> Workers:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End: what still runs is given up."""
        try:
            self._engine.cancel()
        finally:
            self._engine.close()

    @property
    def size(self) -> int:
        """How many tasks run at once."""
        return self._engine.size

    @property
    def reads_paths(self) -> bool:
        """Whether workers see the files of this machine under the same paths."""
        return self._engine.reads_paths

    @property
    def fingerprint(self) -> Fingerprint:
        """What the workers are; see :mod:`snnc.scale.fingerprint`."""
        return self._engine.fingerprint

    @property
    def has_room(self) -> bool:
        """Whether another task may be handed out now."""
        return len(self._given) < AHEAD * self._engine.size

    @property
    def waiting(self) -> int:
        """How many tasks are handed out."""
        return len(self._given)

    def submit(self, task: Task) -> int:
        """Hand out a task, and return its number."""
        number = self._next
        self._next += 1
        self._given[number] = _Given(task)
        self._engine.submit(number, task)
        return number

    def take(self) -> list[tuple[int, bytes]]:
        """Return results as they come, at least one; lost tasks are handed out again.

        What a task comes to that is lost too often is the error that says so.

        Raises:
            ClusterError: there is nobody left to run tasks.
        """
        if not self._given:
            return []
        found: list[tuple[int, bytes]] = []
        while not found:
            for number, outcome in self._engine.finished(PATIENCE):
                given = self._given.get(number)
                if given is None:
                    continue
                if isinstance(outcome, bytes):
                    del self._given[number]
                    found.append((number, outcome))
                elif self._is_spent(given, outcome):
                    del self._given[number]
                    found.append((number, _given_up(given)))
                else:
                    self._engine.submit(number, given.task)
        return found

    def _is_spent(self, given: _Given, how: Lost) -> bool:
        """Whether a task that was lost again is not to be handed out once more."""
        given.deaths += how is Lost.DEATH
        given.losses += 1
        return how is Lost.GIVEN_UP or given.deaths >= MOST_DEATHS or given.losses >= MOST_LOSSES

    def results(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """Yield what tasks give, in their order, whatever order they are done in.

        Args:
            tasks: made when there is room for them.

        Raises:
            SnncError: that of the first task in order that failed.
        """
        pending = iter(tasks)
        order: list[int] = []  # numbers handed out and not yet yielded, oldest first
        labels: dict[int, str] = {}
        came = self._came  # of whoever else waits meanwhile, too
        more = True
        try:
            while True:
                while more and len(order) < AHEAD * self._engine.size:
                    task = next(pending, None)
                    if task is None:
                        more = False
                    else:
                        order.append(self.submit(task))
                        labels[order[-1]] = task.label
                if not order:
                    return
                while order and order[0] in came:
                    first = order.pop(0)
                    yield named(came.pop(first), labels.pop(first))
                if order and (not more or len(order) >= AHEAD * self._engine.size) and order[0] not in came:
                    came.update(self.take())
        finally:
            self.drop(order)

    def drop(self, numbers: Iterable[int]) -> None:
        """Forget tasks that nobody waits for any more: what they give is thrown away."""
        for number in numbers:
            self._given.pop(number, None)
            self._came.pop(number, None)


def _given_up(given: _Given) -> bytes:
    """Return the result of a task at which worker after worker ended."""
    task = given.task
    return failure(
        "ClusterError",
        f"{task.label or task.name}: worker after worker ended at this task, {task.name}; see what their "
        "logs say, give them more memory, or leave those rows out",
    )


def named(data: bytes, label: str) -> Done:
    """Read what came back of a task; what is wrong with its form is told with its label."""
    try:
        return read(data)
    except ClusterError as error:
        if label and "worker of snnc" in str(error):
            raise ClusterError(f"{label}: {error}") from None
        raise
