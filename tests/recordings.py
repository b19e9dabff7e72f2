"""Recordings of noise, written in every format by its published description, a word at a time."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from snnc.events.recording import EVENT

SENSOR = (12, 20)
"""(height, width) of the sensor in the tests."""


def noise(count: int = 300, seed: int = 0, last: int = 300_000) -> np.ndarray:
    """Return events in order, some of them at one time."""
    rng = np.random.default_rng(seed)
    events = np.zeros(count, EVENT)
    events["t"] = np.sort(rng.integers(0, last, count))
    events["t"][1::7] = events["t"][0 : count - 1 : 7]
    events["y"], events["x"] = rng.integers(0, SENSOR[0], count), rng.integers(0, SENSOR[1], count)
    events["p"] = rng.integers(0, 2, count)
    return events


def write_bin(path: Path, events: np.ndarray, turns: bool = True) -> None:
    data, base = b"", 0
    for t, x, y, p in events.tolist():
        while turns and t - base > 1 << 14:  # of N-MNIST's sensor, whose clock turned
            data += bytes((0, 240, 0, 0, 0))
            base += 1 << 13
        data += bytes((x, y)) + (p << 23 | t - base).to_bytes(3, "big")
    path.write_bytes(data)


def write_bs2(path: Path, events: np.ndarray) -> None:
    write_bin(path, events, turns=False)


def write_dat(path: Path, events: np.ndarray, version: int = 2) -> None:
    shifts = {1: (9, 17), 2: (14, 28)}[version]
    head = f"% Version {version}\n% Height {SENSOR[0]}\n% Width {SENSOR[1]}\n".encode()
    body = b"".join(
        struct.pack("<II", t % 2**32, p << shifts[1] | y << shifts[0] | x) for t, x, y, p in events.tolist()
    )
    path.write_bytes(head + b"\x0c\x08" + body)


def _raw(path: Path, version: int, words: bytes) -> None:
    head = f"% evt {version}.0\n% format EVT{version};width={SENSOR[1]};height={SENSOR[0]}\n% end\n"
    path.write_bytes(head.encode() + words)


def write_evt2(path: Path, events: np.ndarray) -> None:
    words, high = [0x1 << 28 | 7 << 11 | 7], -1  # an event before the first time
    for t, x, y, p in events.tolist():
        if t >> 6 != high:
            high = t >> 6
            words += [0x8 << 28 | high % 2**28, 0xA << 28]  # and a trigger, which is passed over
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    _raw(path, 2, struct.pack(f"<{len(words)}I", *words))


def write_evt3(path: Path, events: np.ndarray) -> None:
    """Write single pixels, and neighbours of one time, row and polarity as vectors of 12 and 8."""
    words, high, low, row = [0x2 << 12 | 3], -1, -1, -1
    rest = events.tolist()
    while rest:
        t, x, y, p = rest.pop(0)
        if t >> 12 != high:
            high, low = t >> 12, -1
            words += [0x8 << 12 | high % 4096, 0x8 << 12 | high % 4096]
        if t & 4095 != low:
            low = t & 4095
            words.append(0x6 << 12 | low)
        if y != row:
            row = y
            words.append(y)
        run = [x]
        while rest and rest[0][0] == t and rest[0][2:] == (y, p) and run[-1] < rest[0][1] < x + 20:
            run.append(rest.pop(0)[1])
        if len(run) == 1:
            words.append(0x2 << 12 | p << 11 | x)
            continue
        bits = sum(1 << at - x for at in run)
        words += [0x3 << 12 | p << 11 | x, 0x4 << 12 | bits & 0xFFF, 0x5 << 12 | bits >> 12]
    _raw(path, 3, struct.pack(f"<{len(words)}H", *words))


def write_es(path: Path, events: np.ndarray) -> None:
    data, now = b"Event Stream" + bytes((2, 0, 0, 1)) + struct.pack("<HH", SENSOR[1], SENSOR[0]), 0
    for t, x, y, p in events.tolist():
        passed = t - now
        data += b"\xff" * (passed // 127) + bytes((passed % 127 << 1 | p,))
        data += struct.pack("<HH", x, SENSOR[0] - 1 - y)
        now = t
    path.write_bytes(data)


def write_npy(path: Path, events: np.ndarray) -> None:
    np.save(path, events)


def write_h5(path: Path, events: np.ndarray) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name in "txyp":
            file[f"events/{name}"] = events[name] - 5 * (name == "t")
        file["t_offset"] = 5


def write_compound(path: Path, events: np.ndarray) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["CD/events"] = events


WRITERS: dict[str, tuple[str, Callable[..., Any]]] = {
    "bin": (".bin", write_bin),
    "bs2": (".bs2", write_bs2),
    "dat2": (".dat", write_dat),
    "dat1": (".dat", lambda path, events: write_dat(path, events, 1)),
    "evt2": (".raw", write_evt2),
    "evt3": (".raw", write_evt3),
    "es": (".es", write_es),
    "npy": (".npy", write_npy),
    "h5": (".h5", write_h5),
    "compound": (".hdf5", write_compound),
}


def written(folder: Path, kind: str, events: np.ndarray) -> Path:
    """Write events as a kind of file, and return its path."""
    suffix, write = WRITERS[kind]
    path = folder / f"recording{suffix}"
    write(path, events)
    return path
