"""Event Stream files, ``.es`` version 2, of changes of brightness.

A header of 20 bytes, ``Event Stream``, version (3 bytes), kind of events (1), width and height (2 each). Then
bytes: 0xff is 127 us without an event, 0xfe resets; any other byte is microseconds since the last event (7
bits) and polarity (1), and column and row follow, 2 bytes each. Rows count from the bottom there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InputError
from snnc.events.recording import EventArray, events_of, words

MAGIC, HEADER, KIND = b"Event Stream", 20, 1
SILENCE, RESET, EVENT_BYTES = 0xFF, 0xFE, 5


def sensor_of(path: Path) -> tuple[int, int]:
    """Return (height, width) as the header says.

    Raises:
        InputError: it is no such file, of another version, or holds other events.
    """
    try:
        with path.open("rb") as file:
            header = file.read(HEADER)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(header) < HEADER or header[:12] != MAGIC:
        raise InputError(f"{path} is no Event Stream file, or cut short: copy it again")
    if header[12] != 2 or header[15] != KIND:
        raise InputError(
            f"{path} is of version {header[12]} and holds events of kind {header[15]}: give version 2 and "
            "changes of brightness, kind 1"
        )
    width, height = np.frombuffer(header[16:], "<u2").tolist()
    return height, width


def read_es(path: Path) -> Iterator[EventArray]:
    """Yield the events of a file.

    Raises:
        InputError: it ends within an event, or is no such file.
    """
    height, _ = sensor_of(path)
    rest, now = np.zeros(0, np.uint8), 0
    for data in words(path, HEADER, "u1"):
        data = np.concatenate([rest, data])
        starts, used = _starts(data.tobytes())
        silent = np.concatenate([[0], np.cumsum(data[:used] == SILENCE)])
        # Within an event the byte may be a coordinate: silence counts between events alone.
        within = silent[starts + EVENT_BYTES] - silent[starts]
        passed = silent[starts] - np.concatenate([[0], np.cumsum(within)[:-1]])[: len(starts)]
        t = now + np.cumsum(data[starts].astype(np.int64) >> 1) + 127 * passed
        now += int((data[starts].astype(np.int64) >> 1).sum() + 127 * (silent[-1] - within.sum()))
        x, y = (data[starts + at] | data[starts + at + 1].astype(np.int64) << 8 for at in (1, 3))
        if len(y) and y.max() >= height:
            raise InputError(
                f"{path}: row {y.max()} is outside the sensor of {height} rows: copy the file again"
            )
        yield events_of(t, x, height - 1 - y, data[starts] & 1)
        rest = data[used:]
    if len(rest):
        raise InputError(f"{path} is cut short: it ends {len(rest)} bytes into an event of 5; copy it again")


def _starts(data: bytes) -> tuple[NDArray[np.int64], int]:
    """Return the byte at which each whole event begins, (n,), and how many bytes are used.

    Which byte begins an event depends on all before it, so they are walked through.
    """
    starts, at = [], 0
    while at < len(data):
        if data[at] in (SILENCE, RESET):
            at += 1
        elif at + EVENT_BYTES > len(data):
            break
        else:
            starts.append(at)
            at += EVENT_BYTES
    return np.array(starts, np.int64), at
