"""Events of 40 bits: ``.bin`` of N-MNIST and N-Caltech101, and ``.bs2`` of SLAYER.

Five bytes each, the most significant first: column (8 bits), row (8), polarity (1), microseconds (23). In
``.bin`` an event in row 240 is none: there the clock turned, and later times are 2^13 us later (Orchard et
al. 2015, "Converting static image datasets to spiking neuromorphic datasets using saccades", and its reader).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from snnc.events.recording import EventArray, events_of, words

TURN_ROW, TURN = 240, 1 << 13


def read_bin(path: Path) -> Iterator[EventArray]:
    """Yield the events of an N-MNIST file."""
    later = 0
    for events in read_bs2(path):
        turns = events["y"] == TURN_ROW
        events["t"] += later + np.cumsum(turns) * TURN
        later += int(turns.sum()) * TURN
        yield events[~turns]


def read_bs2(path: Path) -> Iterator[EventArray]:
    """Yield the events of a SLAYER file of spikes with two coordinates."""
    for data in words(path, 0, "u1", 5):
        x, y, high, middle, low = data.reshape(-1, 5).T.astype(np.int64)
        yield events_of((high & 127) << 16 | middle << 8 | low, x, y, high >> 7)
