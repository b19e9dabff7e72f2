"""Weights in an external memory: what of them is on the chip, and how long a run of it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


def external_beats(lanes: int) -> int:
    """Return how many words of the external memory, of 16 bits, hold a word of weights."""
    return max(1, lanes // 2)


@dataclass(slots=True)
class Buffer:
    """The memory of weights on the chip, as it is when the program has run so far.

    Attributes:
        words: that it has.
        known: for each address of the external memory that was fetched from, where the words lie.
        end: the first address behind them.
        used: words that were used at any time.
    """

    words: int
    known: dict[int, int] = field(default_factory=dict)
    end: int = 0
    used: int = 1

    def place(self, address: int, words: int) -> int:
        """Return where fetched words go; all others are forgotten if they need the place."""
        if self.end + words > self.words:
            self.known.clear()
            self.end = 0
        at = self.known[address] = self.end
        self.end += words
        self.used = max(self.used, self.end)
        return at

    def make_room(self, wanted: Mapping[int, int]) -> bool:
        """Forget what is there if it is in the way of words that are wanted together; say if they have room.

        Args:
            wanted: addresses of the external memory, and how many words are read from each.
        """
        total = sum(wanted.values())
        if total > self.words:
            return False
        missing = sum(words for address, words in wanted.items() if address not in self.known)
        if self.end + missing > self.words:
            self.known.clear()
            self.end = 0
        return True


ROW = 512
"""Words of a row of the external memory."""

BEGIN, OPEN, REFRESH = 9, 9, 9
"""Cycles until the first word of a run is there, between rows, and of a refresh."""


def fetching_cycles(words: int, lanes: int, interval: int) -> float:
    """Return how long a run takes, on average over where rows begin, in cycles.

    Args:
        words: of weights.
        lanes: of the core.
        interval: cycles between refreshes.
    """
    beats = words * external_beats(lanes)
    cycles = BEGIN + beats + OPEN * (beats - 1) / ROW
    return cycles * (1 + REFRESH / interval)
