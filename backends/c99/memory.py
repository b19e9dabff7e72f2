"""Static memory: which values of a step may share their place because they are never needed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snnc.backends.c99.widths import Width


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """A value that lives for a part of a step, or from the beginning of a run to its end.

    Attributes:
        width: type of an element.
        size: number of elements.
    """

    width: Width
    size: int


@dataclass(frozen=True, slots=True)
class Life:
    """From which to which call a buffer is needed, both included."""

    first: int
    last: int

    def meets(self, other: Life) -> bool:
        """Whether both are needed at some time."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Places:
    """Where every buffer lies.

    Attributes:
        offsets: first element of each buffer in the array of its type.
        sizes: elements of the array of each type.
    """

    offsets: dict[Buffer, int]
    sizes: dict[Width, int]


def place(lives: Sequence[tuple[Buffer, Life]]) -> Places:
    """Give each buffer the lowest place of its type's array that is free all its life, large ones first."""
    offsets: dict[Buffer, int] = {}
    sizes = dict.fromkeys(Width, 0)
    placed: list[tuple[Buffer, Life]] = []
    for buffer, life in sorted(lives, key=lambda item: -item[0].size):
        taken = sorted(
            (offsets[other], offsets[other] + other.size)
            for other, time in placed
            if other.width is buffer.width and time.meets(life)
        )
        start = 0
        for low, high in taken:
            if start + buffer.size <= low:
                break
            start = max(start, high)
        offsets[buffer] = start
        sizes[buffer.width] = max(sizes[buffer.width], start + buffer.size)
        placed.append((buffer, life))
    return Places(offsets, sizes)
