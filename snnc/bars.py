"""Progress bars with the time left, on stderr, for what takes longer than two seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from threading import Lock, Timer
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds after which a bar appears."""


class Bars:
    """Shows bars for tracked work, one below the other where one is inside another."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Keep ``say`` for messages."""
        self._say = say
        self._open: list[TaskID] = []
        self._lock = Lock()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _TimeLeft(),
            TextColumn("{task.fields[message]}"),
            console=Console(stderr=True),
            transient=True,
        )

    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[T]:
        """Yield the items; see :class:`snnc.progress.Progress`."""
        task = self._progress.add_task(description, total=total, message="", steady=True)
        timer = Timer(PATIENCE, self._show)
        timer.daemon = True
        with self._lock:
            for outer in self._open:
                self._progress.update(outer, steady=False)
            self._open.append(task)
        timer.start()
        try:
            for item in items:
                yield item
                self._progress.advance(task)
        finally:
            timer.cancel()
            self._progress.remove_task(task)
            with self._lock:
                self._open.remove(task)
                if not self._open:
                    self._progress.stop()

    def _show(self) -> None:
        with self._lock:
            if self._open:
                self._progress.start()

    def message(self, text: str) -> None:
        """Show it beside the innermost bar, and tell it to those who want details."""
        with self._lock:
            if self._open:
                self._progress.update(self._open[-1], message=text)
        self._say(text)


class _TimeLeft(TimeRemainingColumn):
    """The time left, but for work whose items are as unequal as those that have bars of their own."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.fields["steady"] else Text("")
