"""Files of Prophesee's cameras: ``.dat``, and ``.raw`` in EVT 2.0 and 3.0, by their published formats.

Libraries read them too (expelliarmus, faery), but pass over a cut end without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InputError
from snnc.events.recording import EventArray, Unwrapped, events_of, words

MOST_HEADER = 1 << 16
"""Bytes of the longest header."""

CHANGES = (0x00, 0x0C)
"""Kinds of ``.dat`` events that are changes of brightness."""


@dataclass(frozen=True, slots=True)
class Header:
    """The lines of text before the events.

    Attributes:
        fields: by key in lower case, what stands behind it.
        end: the byte at which events begin.
    """

    fields: dict[str, str]
    end: int

    @property
    def sensor(self) -> tuple[int, int] | None:
        """(height, width), if it is said."""
        size = re.fullmatch(r"(\d+)x(\d+)", self.fields.get("geometry", ""))
        if size is not None:
            return int(size[2]), int(size[1])
        said = dict(re.findall(r"(width|height)=(\d+)", self.fields.get("format", "")))
        said |= {key: self.fields[key] for key in ("width", "height") if self.fields.get(key, "").isdigit()}
        return (int(said["height"]), int(said["width"])) if len(said) == 2 else None

    @classmethod
    def read(cls, path: Path) -> Header:
        """Read the lines that begin with a percent sign."""
        try:
            with path.open("rb") as file:
                data = file.read(MOST_HEADER)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
        fields: dict[str, str] = {}
        at = 0
        while data[at : at + 2] == b"% " and (end := data.find(b"\n", at)) >= 0:
            key, _, value = data[at + 2 : end].decode("latin-1").strip().partition(" ")
            fields.setdefault(key.lower(), value.strip())
            at = end + 1
            if key == "end":
                break
        return cls(fields, at)


def sensor_of(path: Path) -> tuple[int, int] | None:
    """Return (height, width) as the header of a file says."""
    return Header.read(path).sensor


def read_dat(path: Path) -> Iterator[EventArray]:
    """Yield the events of a ``.dat`` file, versions 1 and 2: 32 bits of microseconds, 32 of the address.

    Raises:
        InputError: it holds other events than changes of brightness, is of another version, or cut short.
    """
    header = Header.read(path)
    version = header.fields.get("version", "1")
    shifts = {"1": (0x1FF, 9, 0xFF, 17), "2": (0x3FFF, 14, 0x3FFF, 28)}.get(version)
    if shifts is None:
        raise InputError(f"{path} is a .dat file of version {version}: save it as version 2")
    columns, row, rows, sign = shifts
    kind = next(words(path, header.end, "u1"), np.zeros(0, np.uint8))[:2]
    if len(kind) < 2:
        raise InputError(f"{path} is cut short: it ends with its header; copy it again")
    if kind[0] not in CHANGES or kind[1] != 8:
        raise InputError(
            f"{path} holds events of kind {kind[0]:#04x} and {kind[1]} bytes: give one of changes of "
            "brightness, kind 0x0c and 8 bytes"
        )
    clock = Unwrapped(32)
    for data in words(path, header.end + 2, "<u4", 2):
        t, a = data.reshape(-1, 2).T.astype(np.int64)
        yield events_of(clock.of(t), a & columns, a >> row & rows, a >> sign & 1)


def read_raw(path: Path) -> Iterator[EventArray]:
    """Yield the events of a ``.raw`` file, EVT 2.0 or 3.0, by its header.

    Events before the first word of time have none, and are left out, as Prophesee's own reader does.

    Raises:
        InputError: it is of another version, or cut short.
    """
    header = Header.read(path)
    said = header.fields.get("format", "").partition(";")[0].upper() or f"EVT{header.fields.get('evt', '')}"
    version = said.removeprefix("EVT").removesuffix(".0")
    if version == "2":
        yield from _evt2(words(path, header.end, "<u4"))
    elif version == "3":
        yield from _evt3(words(path, header.end, "<u2"))
    else:
        named = f"is {said}" if version else "has a header that does not name its format"
        raise InputError(f"{path} {named}: save it as EVT2 or EVT3")


def _evt2(parts: Iterator[NDArray[Any]]) -> Iterator[EventArray]:
    """Decode words of 32 bits: kind (4), then time (28), or low bits of time (6), column (11), row (11)."""
    clock, high, is_timed = Unwrapped(28), 0, False
    for part in parts:
        data = part.astype(np.int64)
        kind = data >> 28
        times = kind == 0x8
        highs = np.concatenate([[high], clock.of(data[times] & 0xFFFFFFF)])
        seen = np.cumsum(times)
        changed = (kind <= 1) & (is_timed | (seen > 0))
        a = data[changed]
        t = highs[seen[changed]] << 6 | a >> 22 & 0x3F
        high, is_timed = int(highs[-1]), is_timed or bool(times.any())
        yield events_of(t, a >> 11 & 0x7FF, a & 0x7FF, a >> 28)


class _Latest:
    """The last word of one kind at each place of a part, those of the parts before included."""

    def __init__(self) -> None:
        self._value = 0

    def of(self, here: NDArray[np.bool_], values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the value at the last place at or before each that is marked, (n,)."""
        found = np.concatenate([[self._value], values[here]])
        self._value = int(found[-1])
        return found[np.cumsum(here)]


def _evt3(parts: Iterator[NDArray[Any]]) -> Iterator[EventArray]:
    """Decode words of 16 bits: kind (4), and what changes of the state (12).

    The state is the row, the time in two parts, and the column from which vectors of 12 or 8 pixels go on.
    """
    clock, rows, highs, lows = Unwrapped(12), _Latest(), _Latest(), _Latest()
    base, base_sign, is_timed, last_high = 0, 0, False, -1
    for part in parts:
        data = part.astype(np.int64)
        kind, low12 = data >> 12, data & 0xFFF
        is_high = kind == 0x8
        turned = np.zeros(len(data), np.int64)
        turned[is_high] = clock.of(low12[is_high])
        high = highs.of(is_high, turned)
        # A new high part begins at low part 0: the low part follows it.
        renewed = is_high & (high != np.concatenate([[last_high], high[:-1]]))
        low = lows.of((kind == 0x6) | renewed, np.where(renewed, 0, low12))
        y = rows.of(kind == 0x0, data & 0x7FF)
        timed = is_timed | (np.cumsum(is_high) > 0)
        t = high << 12 | low

        is_base = kind == 0x3
        wide = np.where(kind == 0x4, 12, np.where(kind == 0x5, 8, 0))
        passed = np.concatenate([[0], np.cumsum(wide)])
        nth = np.cumsum(is_base)
        starts = np.concatenate([[base], (data[is_base] & 0x7FF) - passed[:-1][is_base]])
        signs = np.concatenate([[base_sign], data[is_base] >> 11 & 1])
        first = starts[nth] + passed[:-1]

        single = (kind == 0x2) & timed
        many = (wide > 0) & timed
        bits = (low12[many, None] >> np.arange(12) & 1).astype(bool) & (np.arange(12) < wide[many, None])
        word, bit = bits.nonzero()
        at = np.concatenate([single.nonzero()[0], many.nonzero()[0][word]])
        x = np.concatenate([data[single] & 0x7FF, first[many][word] + bit])
        p = np.concatenate([data[single] >> 11 & 1, signs[nth[many]][word]])
        order = np.argsort(at, kind="stable")
        base, base_sign = int(starts[-1] + passed[-1]), int(signs[-1])
        is_timed, last_high = bool(timed[-1]), int(high[-1])
        yield events_of(t[at[order]], x[order], y[at[order]], p[order])
