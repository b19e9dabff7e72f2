"""How long-running work tells how far it is, without knowing about terminals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from snnc.errors import UsageError

T = TypeVar("T")


class Progress(Protocol):
    """Shows the advance of one task at a time."""

    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[T]:
        """Yield the items, showing how many of ``total`` are done and the time left."""
        ...

    def message(self, text: str) -> None:
        """Show one line about what is happening now."""
        ...


class Silent:
    """Shows nothing."""

    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[T]:
        """Yield the items."""
        return iter(items)

    def message(self, text: str) -> None:
        """Do nothing."""


Callback = Callable[[int, int, str], object]
"""Called with how many items are done, of how many, and what is done; first with none of them."""


class Told(Silent):
    """Tells a callback."""

    def __init__(self, callback: Callback) -> None:
        """Keep the callback."""
        self._callback = callback

    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[T]:
        """Yield the items, and tell after each."""
        self._callback(0, total, description)
        for done, item in enumerate(items, 1):
            yield item
            self._callback(done, total, description)


def as_progress(value: Any) -> Progress:
    """Return what shows progress: as it is, or what tells a :data:`Callback`; ``None`` shows nothing.

    Raises:
        UsageError: it is neither.
    """
    if value is None:
        return Silent()
    if callable(getattr(value, "track", None)) and callable(getattr(value, "message", None)):
        found: Progress = value
        return found
    if callable(value):
        return Told(value)
    raise UsageError(f"progress is {type(value).__name__}; give a function of (done, total, description)")
