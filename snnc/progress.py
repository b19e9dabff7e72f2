"""How long-running work tells how far it is, without knowing about terminals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

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
