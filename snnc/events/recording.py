"""A recording: where it lies, how large its sensor is, and its events, some at a time and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InputError

EVENT = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
"""One event: time in microseconds, column, row (0 at the top), and 1 where it became brighter, else 0."""

EventArray = NDArray[Any]
"""(n,) of :data:`EVENT`."""

CHUNK = 1 << 20
"""Events, or words of a file, that are read at once."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Events of one sensor in a file.

    Attributes:
        path: the file.
        sensor: (height, width) in pixels.
        read: begins anew at the first event, and yields some events at a time.
    """

    path: Path
    sensor: tuple[int, int]
    read: Callable[[], Iterator[EventArray]]

    def chunks(self) -> Iterator[EventArray]:
        """Yield all events in their order, (n,) at a time.

        Raises:
            InputError: the file is damaged, an event lies outside the sensor, or comes before the one that
                stands before it.
        """
        height, width = self.sensor
        count, last = 0, None
        for events in self.read():
            if not len(events):
                continue
            outside = (events["x"] >= width) | (events["y"] >= height)
            if outside.any():
                first = int(outside.argmax())
                x, y = int(events["x"][first]), int(events["y"][first])
                raise InputError(
                    f"{self.path}, event {count + first}: column {x}, row {y} is outside the sensor of "
                    f"{height} x {width} (height x width): set `sensor` to its true size, or copy the file "
                    "again"
                )
            t = events["t"]
            before = np.concatenate([t[:1] if last is None else [last], t[:-1]])
            back = t < before
            if back.any():
                first = int(back.argmax())
                raise InputError(
                    f"{self.path}, event {count + first}: it is at {t[first]} us, after one at "
                    f"{before[first]} us: sort the events by time"
                )
            yield events
            count, last = count + len(events), t[-1]


def events_of(t: Any, x: Any, y: Any, p: Any) -> EventArray:
    """Return columns, (n,) each, as events."""
    events = np.empty(len(t), EVENT)
    events["t"], events["x"], events["y"], events["p"] = t, x, y, p
    return events


def words(path: Path, start: int, word: str, each: int = 1) -> Iterator[NDArray[Any]]:
    """Yield the words of a file from a byte on, (n,) at a time, ``each`` of them belonging together.

    Raises:
        InputError: the file ends within such a group, or cannot be read.
    """
    size = np.dtype(word).itemsize * each
    try:
        rest = path.stat().st_size - start
        if rest % size:
            raise InputError(
                f"{path} is cut short: it ends {rest % size} bytes into an event of {size}; copy it again"
            )
        with path.open("rb") as file:
            file.seek(start)
            while data := file.read(size * CHUNK):
                if len(data) % size:
                    raise InputError(f"{path} changes while it is read: wait until it is written")
                yield np.frombuffer(data, word)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


class Unwrapped:
    """A clock of few bits that begins again at zero: its times without the jumps."""

    def __init__(self, bits: int) -> None:
        self._size, self._last, self._base = 1 << bits, 0, 0

    def of(self, t: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return times, (n,) in the unit of the clock, that go on where those before ended.

        A step back by more than half the range is the clock's beginning again; a smaller one is left as it
        is, to be refused.
        """
        if not len(t):
            return t
        before = np.concatenate([[self._last], t[:-1]])
        turns = np.cumsum(t - before < -(self._size // 2)) * self._size + self._base
        self._last, self._base = int(t[-1]), int(turns[-1])
        return t + turns
