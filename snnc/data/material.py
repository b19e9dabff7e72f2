"""Rows and labels from whatever people keep them in: NumPy files, folders, lists and tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from snnc.data import csv_rows
from snnc.data.cifar import files_of, read_cifar
from snnc.data.collections import LISTS, Collection, collected, is_recording
from snnc.data.datasets import is_dataset, read_dataset
from snnc.data.decoding import Decoding
from snnc.data.pictures import read_picture
from snnc.data.preprocessing import Preprocessing
from snnc.data.row_files import check_rows, named_rows, opened, rows_in
from snnc.data.sounds import read_sound
from snnc.data.stored import mapped, stored, unpacked
from snnc.errors import InputError, NonFiniteError
from snnc.events import accumulated, open_recording
from snnc.ir.graph import NumberArray

BESIDE = "images.json"
"""The preprocessing file that lies beside pictures, sounds or recordings."""


@dataclass(frozen=True, slots=True)
class Material:
    """Rows as they are stored, or decoded.

    Attributes:
        x: (n, ...) rows; many of them are mapped from a temporary file.
        y: (n, ...) labels; ``None`` where there are none.
        name: what ``x`` is called in messages.
        preprocessing: from ``x`` to what a network takes; ``None`` for rows that are ready.
        told: what was chosen, one line; empty where nothing was.
    """

    x: NumberArray
    y: NumberArray | None
    name: str
    preprocessing: Preprocessing | None
    told: str = ""


def read_material(
    path: Path,
    preprocessing: Preprocessing | None = None,
    *,
    limit: int | None = None,
    is_fixed: bool = False,
) -> Material:
    """Read rows, and labels where there are some.

    Args:
        path: ``.npz`` with ``x`` and perhaps ``y``, ``.npy``, one recording, a folder of pictures, sounds or
            recordings, or of one folder for each class, CIFAR's binary files or their folder, a list of such
            files (``.txt``, ``.lst``), or a table (``.csv``, ``.tsv``), with ``#COLUMN`` behind its name
            for the column of labels.
        preprocessing: as it is known; without one, that beside the files counts.
        limit: read so many rows.
        is_fixed: whether the preprocessing is that of an artefact, which another one would contradict.

    Raises:
        InputError: the files are missing, damaged, or hold something else; the first such file is named.
        UsageError: an extra is missing.
    """
    table, column = _table_of(path)
    if table is not None:
        decoding = _decoding(preprocessing)
        found = csv_rows.read_table(table, column or decoding.labels, limit)
        check_rows(path, found.x)
        return Material(found.x, found.y, f"the features in {table}", preprocessing, found.told)
    known = read_cifar(path, limit)
    if known is not None:
        return Material(*known, f"the images of {path}", preprocessing)
    if path.is_dir() or is_recording(path) or path.suffix.lower() in LISTS:
        collection = collected(path)
        preprocessing = _beside(collection, preprocessing, is_fixed=is_fixed)
        return _decoded(collection, preprocessing, limit)
    x, y = _arrays(path)
    return Material(x[:limit], None if y is None else y[:limit], f"`x` of {path}", preprocessing)


def given_rows(
    value: Any,
    names: Sequence[str],
    network: str,
    what: str,
    preprocessing: Preprocessing | None,
    *,
    is_fixed: bool = False,
) -> dict[str, NumberArray]:
    """Return the rows of every input of a network; see :func:`snnc.data.row_files.named_rows`.

    The path of a folder, a list or a table is read as :func:`read_material` does it, and a data set or a
    loader as by :func:`snnc.data.datasets.read_dataset`.
    """
    if is_dataset(value):
        if len(names) > 1:
            listed = ", ".join(map(repr, names))
            raise InputError(f"{network} has {len(names)} inputs: give a mapping of {listed} to arrays")
        return {names[0]: read_dataset(value).x}
    if len(names) == 1 and isinstance(value, str | os.PathLike) and is_decoded(Path(value)):
        return {names[0]: read_material(Path(value), preprocessing, is_fixed=is_fixed).x}
    return named_rows(value, names, network, what)


def is_decoded(path: Path) -> bool:
    """Whether rows come from other files than NumPy's."""
    tables_and_lists = _table_of(path)[0] is not None or path.suffix.lower() in LISTS
    return tables_and_lists or path.is_dir() or is_recording(path) or files_of(path) is not None


def preprocessing_beside(path: Path, preprocessing: Preprocessing | None) -> Preprocessing | None:
    """Return what prepares the rows of a path, with the layout that decoded pictures have."""
    if not is_decoded(path) or _table_of(path)[0] is not None or files_of(path) is not None:
        return preprocessing
    collection = collected(path)
    return _laid_out(collection, _beside(collection, preprocessing, is_fixed=False))


def _table_of(path: Path) -> tuple[Path | None, str | None]:
    """Return the table that a path names, and the column behind it."""
    if path.suffix.lower() in csv_rows.SUFFIXES:
        return path, None
    name, mark, column = path.name.rpartition("#")
    table = path.with_name(name) if mark and name else path
    if mark and column and table.suffix.lower() in csv_rows.SUFFIXES and not path.exists():
        return table, column
    return None, None


def _decoding(preprocessing: Preprocessing | None) -> Decoding:
    return preprocessing.files if preprocessing is not None else Decoding()


def _beside(
    collection: Collection, preprocessing: Preprocessing | None, *, is_fixed: bool
) -> Preprocessing | None:
    """Return the preprocessing that counts for a collection.

    Raises:
        InputError: the one beside the files contradicts that of an artefact.
    """
    folder = collection.where if collection.where.is_dir() else collection.where.parent
    file = folder / BESIDE
    if not file.is_file():
        return preprocessing
    beside = Preprocessing.read(file)
    if preprocessing is None and not is_fixed:
        return beside
    if is_fixed and (preprocessing is None or not _alike(preprocessing, beside)):
        raise InputError(
            f"{file} prepares rows in another way than the artefact, which holds a preprocessing of its own: "
            "take the file away, or convert again"
        )
    return preprocessing


def _alike(one: Preprocessing, other: Preprocessing) -> bool:
    """Whether two preprocessings make the same of every picture, layouts of rows apart.

    Into how many frames a recording is cut is the artefact's own, ``one``, where the other does not say.
    """
    if other.files.events.frames is None:
        one = replace(one, files=replace(one.files, events=replace(one.files.events, frames=None)))
    return replace(one, rows_layout=None, legacy=False) == replace(other, rows_layout=None, legacy=False)


def _laid_out(collection: Collection, preprocessing: Preprocessing | None) -> Preprocessing | None:
    layout = {"picture": "NHWC", "recording": "NCHW"}.get(collection.kind)
    if layout is not None and preprocessing is not None and preprocessing.rows_layout is None:
        return replace(preprocessing, rows_layout=layout)
    return preprocessing


def _decoded(collection: Collection, preprocessing: Preprocessing | None, limit: int | None) -> Material:
    """Read every file of a collection, one at a time."""
    files = collection.files[:limit]
    decoding = _decoding(preprocessing)
    readers: dict[str, Callable[[Path], NumberArray]] = {
        "picture": lambda path: read_picture(path, decoding),
        "sound": _Sounds(decoding).read,
        "recording": lambda path: accumulated(open_recording(path, decoding.events.sensor), decoding.events),
    }
    reader = readers[collection.kind]
    first = reader(files[0])
    x = stored((len(files), *first.shape), first.dtype)
    x[0] = first
    for index, path in enumerate(files[1:], 1):
        row = reader(path)
        if row.shape != first.shape:
            raise InputError(
                f"{path} is {_size(row, collection.kind)} where the first, {files[0]}, is "
                f"{_size(first, collection.kind)}: {_cure(row, first, collection.kind)}"
            )
        x[index] = row
    labels = None if collection.labels is None else collection.labels[:limit]
    name = f"{files[0]}, the first of {len(files)} {collection.kind}s"
    return Material(x, labels, name, _laid_out(collection, preprocessing), collection.told)


class _Sounds:
    """Sounds of one rate."""

    def __init__(self, decoding: Decoding) -> None:
        self._decoding = decoding
        self._first: tuple[Path, int] | None = None

    def read(self, path: Path) -> NumberArray:
        x, rate = read_sound(path, self._decoding)
        if self._first is None:
            self._first = (path, rate)
        other, wanted = self._first
        if rate != wanted:
            raise InputError(
                f"{path} has {rate} samples per second where the first, {other}, has {wanted}: resample it"
            )
        return x


def _size(row: NumberArray, kind: str) -> str:
    if kind == "recording":
        return f"of {row.shape[-2]} x {row.shape[-1]} pixels"
    channels = f", {row.shape[-1]} channels" if row.ndim == (3 if kind == "picture" else 2) else ", 1 channel"
    if kind == "picture":
        return f"{row.shape[0]} x {row.shape[1]}{channels}"
    return f"{len(row)} samples long{channels}"


def _cure(row: NumberArray, first: NumberArray, kind: str) -> str:
    if kind == "recording":
        return "give recordings of one sensor"
    if row.ndim != first.ndim:
        return "set `mode` in the preprocessing" if kind == "picture" else "save all with as many channels"
    if kind == "picture":
        return "give `resize` and `crop` in the preprocessing, such as preset:imagenet"
    return (
        "save all with as many channels"
        if row.shape[1:] != first.shape[1:]
        else "give `samples` in the preprocessing"
    )


def _arrays(path: Path) -> tuple[NumberArray, NumberArray | None]:
    """Read ``x`` and, if it is there, ``y``.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    y: Any = None
    x: NumberArray | None = mapped(path)
    if x is None:
        with opened(path) as archive:
            if isinstance(archive, np.ndarray):
                x = archive
            else:
                x = unpacked(path, "x") if "x" in archive.files else None
                x = rows_in(path, archive) if x is None else x
                y = archive["y"] if "y" in archive.files else None
    check_rows(path, x)
    if y is not None and (y.dtype.kind not in "buif" or y.shape[:1] != (len(x),)):
        raise InputError(
            f"`y` in {path} is {y.dtype} of shape {y.shape}; it must hold one class number per row of `x`, "
            f"integers of shape ({len(x)},), or as many numbers as the network gives, ({len(x)}, outputs)"
        )
    if y is not None and not np.isfinite(y).all():
        raise NonFiniteError(f"the labels in {path} hold NaN or infinity: leave those rows out")
    return x, y
