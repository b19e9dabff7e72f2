"""Rows of data sets and of their loaders, as PyTorch, torchvision and Hugging Face have them.

None of these libraries is imported: a *data set* has a length and gives samples by their index, a *loader*
has a ``dataset`` and a ``batch_size`` and yields batches. A sample, or a batch, is the rows alone, or a pair
of rows and labels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc.data.decoding import MODES
from snnc.data.pictures import described, resave
from snnc.data.row_files import as_array
from snnc.data.stored import stored
from snnc.errors import InputError
from snnc.ir.batch import Batch
from snnc.ir.graph import NumberArray

PLAIN = (str, bytes, bytearray, memoryview, os.PathLike, list, tuple, range, Mapping, Batch, np.ndarray)
"""What has a length and is read otherwise."""

ARRAYS = ("__array__", "__array_interface__", "__dlpack__")
"""What an array of any library has."""

SORTED = 32
"""Rows of one label from which on a loader looks sorted by class."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """What was read.

    Attributes:
        x: (n, ...) rows.
        y: one label for each, as they came; ``None`` where there are none.
        name: what the rows are called in messages.
        is_part: whether there are more rows than were read.
    """

    x: NumberArray
    y: tuple[Any, ...] | None
    name: str
    is_part: bool

    def labels(self) -> NumberArray | None:
        """Return the labels, (n, ...), or ``None``.

        Raises:
            InputError: they are no numbers, or of several shapes.
        """
        if self.y is None:
            return None
        kinds = {type(label).__name__ for label in self.y}
        cure = "give numbers, one or as many as the output has per row"
        try:
            found = np.stack([as_array(label, f"the labels of {self.name}") for label in self.y])
        except ValueError:
            raise InputError(f"the labels of {self.name} are of several shapes: {cure}") from None
        if found.dtype.kind not in "buif":
            raise InputError(f"the labels of {self.name} are {' and '.join(sorted(kinds))}: {cure}")
        return found


def is_loader(value: Any) -> bool:
    """Whether a value yields the batches of a data set."""
    return all(hasattr(value, name) for name in ("__iter__", "dataset", "batch_size")) and not _is_plain(
        value
    )


def is_dataset(value: Any) -> bool:
    """Whether a value is a data set or a loader; arrays of any library, lists and mappings are none."""
    if _is_plain(value):
        return False
    return is_loader(value) or _has(value, "__getitem__")


def _has(value: Any, method: str) -> bool:
    """Whether the class of a value defines a method: what asks for it on the value may run code."""
    return hasattr(type(value), method)


def _is_plain(value: Any) -> bool:
    if value is None or isinstance(value, (*PLAIN, type)):
        return True
    if all(_has(value, step) for step in ("detach", "cpu", "numpy")):  # a tensor
        return True
    return any(_has(value, name) for name in ARRAYS)


def read_dataset(value: Any, limit: int | None = None, name: str = "") -> Sampled:
    """Read the rows and labels of a data set or of a loader.

    Args:
        value: of a data set, samples are read at even distances; of a loader, the first batches.
        limit: read so many rows.
        name: what the rows are called in messages; "the rows of TYPE" by default.

    Raises:
        InputError: it yields dicts, or something else than rows, or rows of several shapes; it is empty, or
            has no length; or those of a loader that were read have but one label, and there are more.
    """
    name = name or f"the rows of {_kind(value)}"
    found = _of_loader(value, limit, name) if is_loader(value) else _of_samples(value, limit, name)
    few = len(found.x) < SORTED or not is_loader(value) or not found.is_part
    if not few and found.y is not None and _is_single(found.y):
        raise InputError(
            f"the first {len(found.x)} of {name} all have the label {_said(found.y[0])}: shuffle the loader, "
            "so that all classes are among them"
        )
    return found


def _of_samples(value: Any, limit: int | None, name: str) -> Sampled:
    if not _has(value, "__len__"):
        raise InputError(
            f"{name} have no length: give a DataLoader of them, a data set with a length, or an array"
        )
    total = len(value)
    if total == 0:
        raise InputError(f"{name}: there are none; check the folder or the split")
    count = total if limit is None else min(limit, total)
    filling: _Filling | None = None
    labels: list[Any] = []
    for k, index in enumerate(np.linspace(0, total - 1, count).round().astype(int).tolist()):
        where = f"{name}, row {index}"
        with _readable(where):
            sample = value[index]
        x, *y = _parts(sample, where, "sample")
        row = _row(x, where)
        filling = filling or _Filling(name, row.shape, row.dtype, count)
        filling.add(row[None], where)
        _agree(labels, k, y, where)
        labels += y
    if filling is None:
        raise InputError(f"{name}: none were asked for")
    return Sampled(filling.rows, tuple(labels) if labels else None, name, count < total)


def _of_loader(value: Any, limit: int | None, name: str) -> Sampled:
    if value.batch_size is None and getattr(value, "batch_sampler", None) is None:
        raise InputError(f"{name} come without batches, as batch_size is None: give it a batch_size")
    filling: _Filling | None = None
    labels: list[Any] = []
    is_part = False
    bound = _most_rows(value, limit)
    for number, batch in enumerate(_batches(value, name)):
        if filling is not None and limit is not None and filling.count >= limit:
            is_part = True
            break
        where = f"{name}, batch {number}"
        x, *y = _parts(batch, where, "batch")
        rows = as_array(x, where)
        if rows.ndim < 2 or rows.dtype.kind not in "buif":
            raise InputError(f"{where} is {rows.dtype} of shape {rows.shape}: give batches, (rows, ...)")
        told = [] if not y else _unstacked(y[0], len(rows), where)
        if limit is not None:
            room = limit - (0 if filling is None else filling.count)
            is_part |= len(rows) > room
            rows, told = rows[:room], told[:room]
        filling = filling or _Filling(name, rows.shape[1:], rows.dtype, bound)
        before = filling.count
        filling.add(rows, where)
        _agree(labels, before, told, where)
        labels += told
    if filling is None:
        raise InputError(f"{name}: there are none; check the data set of the loader")
    return Sampled(filling.rows, tuple(labels) if labels else None, name, is_part)


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Turn what a data set raises into one line."""
    try:
        yield
    except Exception as error:  # another's code may raise anything
        told = next(iter(str(error).strip().splitlines()), "")[:160]
        raise InputError(
            f"{where} cannot be read, {type(error).__name__}: {told}; mend the data set or leave it out"
        ) from error


def _batches(loader: Any, name: str) -> Iterator[Any]:
    """Yield the batches of a loader."""
    with _readable(name):
        batches = iter(loader)
    number = 0
    while True:
        with _readable(f"{name}, batch {number}"):
            try:
                batch = next(batches)
            except StopIteration:
                return
        yield batch
        number += 1


def _most_rows(loader: Any, limit: int | None) -> int | None:
    """Return how many rows a loader gives at most; ``None`` where that is not known."""
    try:
        most = len(loader) * int(loader.batch_size)
    except (TypeError, NotImplementedError):
        return limit
    return most if limit is None else min(most, limit)


def _parts(item: Any, where: str, what: str) -> tuple[Any, ...]:
    """Return the rows of a sample or a batch, and the labels where there are some."""
    if isinstance(item, Mapping):
        keys = list(item)
        first = next((key for key in keys if _is_arraylike(item[key])), keys[0] if keys else "x")
        listed = ", ".join(map(repr, keys[:6]))
        made = (
            f"numpy.stack([numpy.asarray(row[{first!r}]) for row in data])"
            if what == "sample"
            else f"numpy.concatenate([batch[{first!r}] for batch in loader])"
        )
        raise InputError(
            f"{where} is a dict with the keys {listed}: give the rows themselves, such as {made}"
        )
    if isinstance(item, tuple | list) and not (isinstance(item, list) and _is_nested(item)):
        if len(item) in (1, 2):
            return tuple(item)
        raise InputError(
            f"{where} is a {type(item).__name__} of {len(item)}: give pairs of rows and labels; for a "
            f"network of "
            "several inputs a mapping of their names to arrays"
        )
    return (item,)


def _is_nested(item: list[Any]) -> bool:
    """Whether a list holds the numbers of one row."""
    return bool(item) and all(isinstance(part, int | float | list) for part in item)


def _is_arraylike(value: Any) -> bool:
    return any(hasattr(value, name) for name in ARRAYS) or isinstance(value, list)


def _row(x: Any, where: str) -> NumberArray:
    """Return a sample as an array; a picture of Pillow as its pixels."""
    mode = getattr(x, "mode", None)
    if isinstance(mode, str) and hasattr(x, "convert") and mode not in MODES:
        cure = (
            resave(mode)
            if mode.startswith(("I", "F"))
            else 'convert it in the data set, image.convert("RGB")'
        )
        raise InputError(f"{where} is {described(mode)}: {cure}")
    row = as_array(x, where)
    if row.ndim < 1 or row.dtype.kind not in "buif":
        raise InputError(
            f"{where} is {type(x).__name__}: give arrays of numbers, or pairs of them and labels"
        )
    return row


def _unstacked(y: Any, count: int, where: str) -> list[Any]:
    """Return the labels of a batch one by one."""
    labels = list(y) if isinstance(y, list | tuple) else list(as_array(y, f"the labels of {where}"))
    if len(labels) != count:
        raise InputError(f"{where} has {count} rows and {len(labels)} labels: give one for each")
    return labels


def _agree(labels: list[Any], rows: int, more: list[Any], where: str) -> None:
    """Refuse labels of some rows alone."""
    if rows and bool(labels) != bool(more):
        raise InputError(
            f"{where} has {'a' if more else 'no'} label, unlike those before it: give all or none"
        )


def _is_single(labels: tuple[Any, ...]) -> bool:
    """Whether all labels are one class."""
    try:
        found = np.stack([np.asarray(label) for label in labels])
    except Exception:  # labels may be anything  # noqa: BLE001
        return False
    return found.ndim == 1 and found.dtype.kind in "iub" and bool((found == found[0]).all())


class _Filling:
    """Rows as they come, all of one shape and type."""

    def __init__(self, name: str, shape: tuple[int, ...], dtype: Any, most: int | None) -> None:
        self._name, self._shape, self._dtype = name, shape, dtype
        self._parts: list[NumberArray] = []
        self._array: NumberArray | None = None if most is None else stored((most, *shape), dtype)
        self.count = 0

    def add(self, rows: NumberArray, where: str) -> None:
        """Add rows, (n, ...).

        Raises:
            InputError: they have another shape or type than those before.
        """
        if rows.shape[1:] != self._shape:
            raise InputError(
                f"{where} has the shape {rows.shape[1:]}, and those before {self._shape}: bring all to "
                f"one size, by "
                "a transform of the data set"
            )
        if rows.dtype != self._dtype:
            raise InputError(f"{where} is {rows.dtype}, and those before are {self._dtype}: give one type")
        if self._array is not None and self.count + len(rows) > len(
            self._array
        ):  # it yields more than it says
            self._parts, self._array = [self._array[: self.count]], None
        if self._array is None:
            self._parts.append(rows)
        else:
            self._array[self.count : self.count + len(rows)] = rows
        self.count += len(rows)

    @property
    def rows(self) -> NumberArray:
        """All of them."""
        return np.concatenate(self._parts) if self._array is None else self._array[: self.count]


def _kind(value: Any) -> str:
    inner = getattr(value, "dataset", None) if is_loader(value) else None
    return type(value).__name__ if inner is None else f"{type(value).__name__} of {type(inner).__name__}"


def _said(label: Any) -> str:
    return str(np.asarray(label).tolist())
