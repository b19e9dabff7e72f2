"""A replay buffer: counts at a cut, bit by bit, with a limit in bytes, the same number of each class.

The file is an ``.npz`` without pickles: ``header``, a JSON text as bytes; ``labels``, (rows,); ``packed``,
(rows, bytes of a row), each value in as few bits as the largest one needs. Which rows stay follows from the
rows alone: those whose packed bytes have the smallest hashes, which of different rows is a uniform sample
without replacement, whatever their order and however often the buffer is written (bottom-k sampling: Cohen
and Kaplan, "Summarizing Data Using Bottom-k Sketches", PODC 2007). So a buffer is a reservoir that needs no
random state.

Latents are the counts of the whole run, or spike trains of which ``window`` steps each are OR-ed to one bit
per neuron (Dequino et al., "Compressed Latent Replays for Lightweight Continual Learning on Spiking Neural
Networks", 2024): then the count of a neuron is the number of windows in which it fired.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.data.numpy_files import UNREADABLE, check_sizes
from snnc.errors import InputError, UsageError
from snnc.ir.bounds import count_bounds
from snnc.ir.cut import Cut, features
from snnc.ir.graph import IntArray
from snnc.ir.snn import SnnGraph
from snnc.ir.text import arrays_of, print_exact
from snnc.writing import replacing

SCHEMA = 1
MARK = "snnc replay buffer"
MOST_BITS = 32
Packed = NDArray[np.uint8]


def network_hash(graph: SnnGraph, cut: Cut) -> str:
    """Return the hash of all that makes the counts at a cut: buffers of other networks do not fit."""
    before = graph.ancestors([cut.latent])
    part = replace(
        graph,
        name="",
        nodes=tuple(node for node in graph if node.name in before),
        outputs=(cut.latent,),
        output_names=(cut.latent,),
        density={},
        max_timesteps=0,
    )
    digest = hashlib.sha256(print_exact(part).encode())
    for name, values in sorted(arrays_of(part).items()):
        digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class ReplayBuffer:
    """Rows of several classes.

    Attributes:
        network: see :func:`network_hash`.
        cut: the layer.
        limit: bytes of the file at most.
        shape: of one latent: (F,) counts, or (windows, F) of a train.
        labels: (rows,) int64, ascending.
        latents: (rows, *shape) int64.
        window: steps that were OR-ed to one; 0 for counts.
        steps: of the run, T + K.
        seen: rows that were offered so far, by class.
    """

    network: str
    cut: str
    limit: int
    shape: tuple[int, ...]
    labels: IntArray
    latents: IntArray
    window: int = 0
    steps: int = 0
    seen: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def empty(
        cls, graph: SnnGraph, cut: Cut, limit: int, shape: tuple[int, ...], window: int = 0
    ) -> ReplayBuffer:
        """Return a buffer without rows."""
        none = np.zeros(0, np.int64)
        return cls(
            network_hash(graph, cut),
            cut.name,
            limit,
            shape,
            none,
            np.zeros((0, *shape), np.int64),
            window,
            graph.timesteps + graph.settle_steps,
        )

    def __len__(self) -> int:
        """Return how many rows it holds."""
        return len(self.labels)

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes of which it holds rows."""
        return tuple(int(c) for c in np.unique(self.labels))

    @property
    def counts(self) -> IntArray:
        """The counts, (rows, F): of a train, how many of its windows have a spike."""
        return self.latents.sum(axis=1) if self.window else self.latents

    @property
    def low(self) -> int:
        """What is taken from every value before it is packed."""
        return min(int(self.latents.min(initial=0)), 0)

    @property
    def bits(self) -> int:
        """Bits of a value."""
        return max(1, (int(self.latents.max(initial=0)) - self.low).bit_length())

    def require_fit(self, graph: SnnGraph, cut: Cut, name: str) -> None:
        """Refuse a buffer of another network, or of another layer, or of values that it cannot have.

        Raises:
            InputError: it is one.
        """
        if self.cut != cut.name:
            raise InputError(
                f"{name}: a buffer of the layer {self.cut!r}, not of {cut.name!r}: give --cut {self.cut}, or "
                "another buffer"
            )
        if self.network != network_hash(graph, cut):
            raise InputError(f"{name}: a buffer of another network: its counts mean nothing here")
        width, bound = features(graph, cut), count_bounds(graph, graph.timesteps)[cut.latent]
        low, high = (0, 1) if self.window else (-bound, bound)
        fits = self.window >= 0 and len(self.shape) == (2 if self.window else 1) and self.shape[-1] == width
        fits = fits and self.latents.shape == (len(self), *self.shape)
        if not fits or self.latents.min(initial=0) < low or self.latents.max(initial=0) > high:
            raise InputError(f"{name}: damaged: it holds what this layer cannot send; make it anew")

    def with_rows(self, latents: IntArray, labels: IntArray, limit: int | None = None) -> ReplayBuffer:
        """Return a buffer in which rows were offered, within its limit.

        Args:
            latents: (rows, *shape).
            labels: (rows,).
            limit: another one; the same by default.

        Raises:
            UsageError: not even one row of each class fits.
        """
        limit = self.limit if limit is None else limit
        seen = dict(self.seen)
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            seen[int(label)] = seen.get(int(label), 0) + int(count)
        every = np.concatenate([self.latents, latents.astype(np.int64)])
        of = np.concatenate([self.labels, labels.astype(np.int64)])
        whole = replace(self, labels=of, latents=every, limit=limit, seen=seen)
        ranked = _ranked(whole)
        most = max((len(found) for found in ranked.values()), default=0)
        fits, low, high = None, 1, most
        while low <= high:  # the most rows of each class that fit
            middle = (low + high) // 2
            found = _first(whole, ranked, middle)
            if found.size <= limit:
                fits, low = found, middle + 1
            else:
                high = middle - 1
        if fits is None:
            least = _first(whole, ranked, 1).size
            raise UsageError(
                f"{limit:,} bytes do not hold one row of each of {len(ranked)} classes: give --replay-bytes "
                f"{least} or more"
            )
        return fits

    @property
    def size(self) -> int:
        """Bytes of the file."""
        row = -(-int(np.prod(self.shape)) * self.bits // 8)
        empty = self._file(np.zeros((0, row), np.uint8), np.zeros(0, np.uint16))
        return len(empty) + len(self) * (row + 2)

    def file(self) -> bytes:
        """Return the content of the file."""
        return self._file(_packed(self), self.labels.astype("<u2"))

    def _file(self, packed: Packed, labels: NDArray[np.uint16]) -> bytes:
        header = {
            "what": MARK,
            "schema": SCHEMA,
            "network": self.network,
            "cut": self.cut,
            "limit": self.limit,
            "shape": list(self.shape),
            "bits": self.bits,
            "low": self.low,
            "window": self.window,
            "steps": self.steps,
            "seen": {str(label): n for label, n in sorted(self.seen.items())},
        }
        text = np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8)
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name, values in (("header", text), ("labels", labels), ("packed", packed)):
                entry = io.BytesIO()
                np.lib.format.write_array(entry, np.ascontiguousarray(values), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue())
        return stream.getvalue()

    def save(self, path: Path) -> None:
        """Write the file; it appears whole or not at all."""
        with replacing(path) as stream:
            stream.write(self.file())

    def as_dict(self) -> dict[str, Any]:
        """Return what ``snnc inspect`` tells."""
        held = {int(c): int(n) for c, n in zip(*np.unique(self.labels, return_counts=True), strict=True)}
        return {
            "what": MARK,
            "schema": SCHEMA,
            "network": self.network,
            "cut": self.cut,
            "rows": len(self),
            "latents": "spike trains" if self.window else "counts",
            "shape": list(self.shape),
            "window": self.window,
            "steps": self.steps,
            "bits": self.bits,
            "bytes": self.size,
            "limit": self.limit,
            "bytes_per_row": -(-int(np.prod(self.shape)) * self.bits // 8),
            "held": {str(c): n for c, n in held.items()},
            "seen": {str(c): n for c, n in sorted(self.seen.items())},
        }


def or_windows(train: IntArray, window: int) -> IntArray:
    """Return a train, (steps, rows, F), with windows of steps OR-ed: (rows, windows, F) of 0 and 1.

    Raises:
        UsageError: spikes have signs or sizes, which an OR would lose.
    """
    if train.min(initial=0) < 0 or train.max(initial=0) > 1:
        raise UsageError("windows of graded or signed spikes cannot be OR-ed: leave out --replay-window")
    starts = np.arange(0, len(train), window)
    return np.moveaxis(np.maximum.reduceat(train, starts, axis=0), 0, 1).astype(np.int64)


def read_buffer(path: str | os.PathLike[str]) -> ReplayBuffer:
    """Read a buffer.

    Raises:
        InputError: it is missing, damaged, of another schema, or something else.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            check_sizes(stream)
        with np.load(path, allow_pickle=False) as arrays:
            header = json.loads(arrays["header"].tobytes().decode())
            if header.get("what") != MARK:
                raise ValueError("its header is of something else")
            if int(header["schema"]) > SCHEMA:
                raise InputError(f"{path}: a replay buffer of a newer snnc; upgrade snnc")
            return _unpacked(header, arrays["labels"], arrays["packed"])
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except (AttributeError, *UNREADABLE) as error:
        raise InputError(
            f"{path}: no replay buffer, or damaged ({error}); make one by --replay-bytes"
        ) from None


def is_buffer(path: Path) -> bool:
    """Say whether a file may be a buffer, from its first bytes and names."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {"header.npy", "labels.npy", "packed.npy"} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _ranked(buffer: ReplayBuffer) -> dict[int, list[int]]:
    """Return the rows of each class in the order in which they stay, each different one once."""
    found: dict[int, list[int]] = {}
    values = np.ascontiguousarray(buffer.latents, "<i4").reshape(len(buffer), -1)
    hashes = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in values]
    for label in buffer.classes:
        rows = np.flatnonzero(buffer.labels == label).tolist()
        different = {hashes[row]: row for row in rows}
        found[label] = [different[each] for each in sorted(different)]
    return found


def _first(buffer: ReplayBuffer, ranked: Mapping[int, Sequence[int]], most: int) -> ReplayBuffer:
    """Return the buffer with so many rows of each class."""
    chosen = [row for label in sorted(ranked) for row in ranked[label][:most]]
    rows = np.array(chosen, np.int64)
    return replace(buffer, labels=buffer.labels[rows], latents=buffer.latents[rows])


def _packed(buffer: ReplayBuffer) -> Packed:
    """Return each row's values as bits, the highest first, (rows, bytes)."""
    bits = buffer.bits
    values = (buffer.latents - buffer.low).reshape(len(buffer), -1)
    places = np.arange(bits - 1, -1, -1)
    ones = ((values[..., None] >> places) & 1).astype(np.uint8)
    return np.packbits(ones.reshape(len(buffer), int(np.prod(buffer.shape)) * bits), axis=1)


def _unpacked(header: Mapping[str, Any], labels: IntArray, packed: Packed) -> ReplayBuffer:
    shape = tuple(int(size) for size in header["shape"])
    bits, rows, values = int(header["bits"]), len(labels), int(np.prod(shape, dtype=object))
    if not 0 < bits <= MOST_BITS or packed.dtype != np.uint8 or labels.dtype.kind != "u" or min(shape) < 1:
        raise ValueError("its header does not fit")
    if packed.shape != (rows, -(-values * bits // 8)) or labels.shape != (rows,):
        raise ValueError("its rows do not fit the header")
    ones = np.unpackbits(packed, axis=1, count=values * bits).reshape(rows, values, bits)
    places = np.int64(1) << np.arange(bits - 1, -1, -1, dtype=np.int64)
    found = (ones * places).sum(axis=2, dtype=np.int64) + int(header["low"])
    return ReplayBuffer(
        network=str(header["network"]),
        cut=str(header["cut"]),
        limit=int(header["limit"]),
        shape=shape,
        labels=labels.astype(np.int64),
        latents=found.reshape(rows, *shape),
        window=int(header["window"]),
        steps=int(header["steps"]),
        seen={int(label): int(n) for label, n in header["seen"].items()},
    )
