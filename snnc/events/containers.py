"""Events in files of other libraries: NumPy's structured arrays, HDF5, and AEDAT 4."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from snnc.errors import InputError, UsageError
from snnc.events.recording import CHUNK, EventArray, events_of

NAMES: Mapping[str, tuple[str, ...]] = {
    "t": ("t", "ts", "timestamp", "time"),
    "x": ("x",),
    "y": ("y",),
    "p": ("p", "pol", "polarity", "on"),
}
"""What each column is called in files."""

AEDAT4 = b"#!AER-DAT4.0\r\n"

PLACES = ("events", "CD/events", "/")
"""Where HDF5 files hold events: of DSEC and most others, of Prophesee, and of those without a group."""


def read_npy(path: Path) -> Iterator[EventArray]:
    """Yield the events of a structured array, (n,), with columns of time, x, y and polarity.

    Raises:
        InputError: it is no such array.
    """
    try:
        events = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is no NumPy array, or cut short ({error}): save it again") from None
    if not isinstance(events, np.ndarray) or events.ndim != 1 or events.dtype.names is None:
        raise InputError(
            f"{path} holds no events: give a structured array, (events,), with the fields t, x, y and p"
        )
    named = _named(path, events.dtype.names)
    yield from _columns(path, {column: events[name] for column, name in named.items()})


def read_hdf5(path: Path) -> Iterator[EventArray]:
    """Yield the events of an HDF5 file: datasets t, x, y and p, or one of structured events.

    A number ``t_offset`` beside them is added to the times, as DSEC has it.

    Raises:
        InputError: there are none, or they cannot be unpacked.
        UsageError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise UsageError("events in HDF5 need h5py: python -m pip install h5py") from None
    try:
        with h5py.File(path, "r") as file:
            held: Any = next((file[place] for place in PLACES if place in file), file)
            keys = tuple(held) if isinstance(held, h5py.Group) else held.dtype.names or ()
            named = _named(path, keys)
            offset: Any = file.get("t_offset")
            later = 0 if offset is None else int(offset[()])
            if isinstance(held, h5py.Group):
                columns: Any = {column: held[name] for column, name in named.items()}
            else:
                columns = {column: held.fields(name) for column, name in named.items()}
            for events in _columns(path, columns):
                events["t"] += later
                yield events
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} cannot be read as HDF5 ({reason}): copy it again, or save it with a common compression"
        ) from None


def sensor_of_aedat4(path: Path) -> tuple[int, int]:
    """Return (height, width) of the one sensor in an AEDAT 4 file.

    Raises:
        InputError: the file is damaged, or holds the events of no sensor, or of several.
        UsageError: faery is not installed.
    """
    _check_whole(path)
    with _aedat4(path) as decoder:
        sizes = [track.dimensions for track in decoder.tracks() if track.data_type == "events"]
    if len(sizes) != 1:
        raise InputError(f"{path} holds the events of {len(sizes)} sensors: save each as a file of its own")
    width, height = sizes[0]
    return height, width


def read_aedat4(path: Path) -> Iterator[EventArray]:
    """Yield the events of an AEDAT 4 file; see :func:`sensor_of_aedat4`."""
    with _aedat4(path) as decoder:
        for track, packet in decoder:
            if track.data_type == "events":
                yield events_of(packet["t"], packet["x"], packet["y"], packet["on"])


@contextmanager
def _aedat4(path: Path) -> Iterator[Any]:
    try:
        faery: Any = importlib.import_module("faery")
    except ImportError:
        raise UsageError("AEDAT 4 files need faery: python -m pip install faery") from None
    try:
        with faery.aedat.Decoder(path) as decoder:
            yield decoder
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{path} is no AEDAT 4 file, or cut short ({str(error).splitlines()[0]}): copy it again"
        ) from None


def _check_whole(path: Path) -> None:
    """Refuse an AEDAT 4 file that ends within a packet, which faery passes over.

    After 14 bytes of magic and a header behind its size come packets, each behind its stream and size
    (4 bytes each), up to the table at the place that the second field of the header (a flatbuffer) names; -1
    where the recording was not closed.

    Raises:
        InputError: it is cut short, or no such file.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            magic, (length,) = file.read(14), struct.unpack("<I", file.read(4))
            if magic != AEDAT4:
                raise ValueError
            header = file.read(length)
            (root,) = struct.unpack_from("<I", header)
            entries = root - struct.unpack_from("<i", header, root)[0]
            (place,) = struct.unpack_from("<H", header, entries + 6)
            (table,) = struct.unpack_from("<q", header, root + place) if place else (-1,)
            at, end = 18 + length, size if table < 0 else table
            while at < end <= size:
                file.seek(at + 4)
                at += 8 + struct.unpack("<I", file.read(4))[0]
    except (struct.error, ValueError):
        raise InputError(f"{path} is no AEDAT 4 file, or cut short: copy it again") from None
    if at != end:
        raise InputError(f"{path} is cut short: its packets end at byte {at}, not at {end}; copy it again")


def _named(path: Path, keys: tuple[str, ...]) -> dict[str, str]:
    """Return what each column is called among the names that there are."""
    found = {column: [name for name in names if name in keys] for column, names in NAMES.items()}
    for column, names in found.items():
        if len(names) != 1:
            listed = ", ".join(map(str, keys[:8])) or "nothing"
            raise InputError(
                f"{path} holds {listed}, and {len(names)} of them can be the {column} of events: name the "
                "columns t, x, y and p"
            )
    return {column: names[0] for column, names in found.items()}


def _columns(path: Path, columns: Mapping[str, Any]) -> Iterator[EventArray]:
    """Yield columns of integers as events, some at a time.

    Raises:
        InputError: they differ in length, or hold something else.
    """
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise InputError(f"{path}: its columns have {sorted(lengths)} values: give as many of each")
    for start in range(0, lengths.pop(), CHUNK):
        part = {column: np.asarray(values[start : start + CHUNK]) for column, values in columns.items()}
        for column, values in part.items():
            if values.dtype.kind not in "bui":
                cure = "give microseconds as integers" if column == "t" else "give integers"
                raise InputError(f"{path}: its {column} is {values.dtype}: {cure}")
        for column in "xy":
            if part[column].dtype.kind == "i" and (part[column] < 0).any():
                raise InputError(f"{path}: its {column} is negative: give columns and rows from 0 on")
            if (part[column] > np.iinfo(np.uint16).max).any():
                raise InputError(f"{path}: its {column} is beyond 65,535: copy the file again")
        polarity = np.unique(part["p"]).tolist()
        if not any(set(polarity) <= allowed for allowed in ({0, 1}, {-1, 1})):
            raise InputError(f"{path}: its polarities are {polarity[:5]}: give 0 and 1, or -1 and 1")
        yield events_of(part["t"], part["x"], part["y"], part["p"].astype(np.int8) > 0)
