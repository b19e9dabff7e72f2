"""Rows in the forms that users have: arrays, lists, tensors of other libraries, and NumPy files."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from snnc.data.numpy_files import UNREADABLE, SwollenError, check_sizes
from snnc.data.preprocessing import LARGEST_INPUT, row_out_of_range
from snnc.errors import InputError, NonFiniteError
from snnc.ir.batch import Batch, arrays_by_name, check_names
from snnc.ir.graph import NumberArray

CHECKED = 1 << 24
"""Values that are checked at once."""


def as_rows(value: Any, name: str = "the rows") -> NumberArray:
    """Return rows as an array.

    Args:
        value: a NumPy array, lists of numbers, what NumPy can make an array of (such as a tensor of PyTorch
            on any device, of JAX or of TensorFlow), or the path of a ``.npy`` or ``.npz`` file. No other
            library is imported.
        name: what the rows are called in messages.

    Returns:
        (n, ...), of the numbers' own type.

    Raises:
        InputError: it is no array of numbers.
    """
    if isinstance(value, str | os.PathLike):
        return read_rows(Path(value))
    if isinstance(value, Mapping):  # an open .npz file, too
        keys = ", ".join(map(repr, list(value)[:4]))
        raise InputError(
            f"{name} are a mapping with the keys {keys}: give the array in it, such as DATA['x']"
        )
    array = as_array(value, name)
    if array.dtype.kind == "O" and not isinstance(value, np.ndarray | list | tuple):
        raise InputError(f"{name} are {type(value).__name__}; give an array of numbers, (rows, ...)")
    if array.dtype.kind not in "buif":
        raise InputError(f"{name} are {array.dtype}; give an array of numbers, (rows, ...)")
    if array.ndim < 2:
        raise InputError(f"{name} have the shape {array.shape}; give (rows, ...), a batch of one included")
    return array


def named_rows(value: Any, names: Sequence[str], network: str, what: str) -> dict[str, NumberArray]:
    """Return the rows of every input of a network by its name, in the network's order.

    Args:
        value: as for :func:`as_rows` where there is one input; else a mapping of these by the inputs'
            names, the path of a ``.npz`` file of such arrays, or a sequence in the network's order.
        names: of the inputs.
        network: what it is called, for messages.
        what: the rows are called in messages.

    Raises:
        InputError: an input is missing or unknown, their numbers of rows differ, or one is no array of
            numbers.
    """
    if isinstance(value, str | os.PathLike) and len(names) > 1:
        value = read_arrays(Path(value), names)
    by_name = isinstance(value, Batch) or (isinstance(value, Mapping) and set(value) == set(names))
    if len(names) == 1 and not by_name:
        return {names[0]: as_rows(value, what)}
    if isinstance(value, Batch):
        value = value.arrays
    if isinstance(value, Mapping):
        check_names(value, names, network)
        value = [value[name] for name in names]
    if isinstance(value, list | tuple) and len(value) == len(names):
        called = [what] if len(names) == 1 else [f"{what} for {name!r}" for name in names]
        value = {name: as_rows(array, text) for name, array, text in zip(names, value, called, strict=True)}
    return arrays_by_name(value, names, network)


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, NumberArray]:
    """Read the arrays of a ``.npz`` file by the names of a network's inputs; labels beside them do not count.

    Raises:
        InputError: it is no such file, or one of them is missing.
    """
    listed = ", ".join(map(repr, names))
    if path.suffix != ".npz":
        raise InputError(
            f"{path}: the network has {len(names)} inputs; give a .npz file with an array for each: {listed}"
        )
    with opened(path) as archive:
        held = () if isinstance(archive, np.ndarray) else archive.files
        missing = [name for name in names if name not in held]
        if missing or isinstance(archive, np.ndarray):
            known = ", ".join(map(repr, held)) or "nothing"
            raise InputError(
                f"{path} holds {known}, but no rows for the input {missing[0]!r}: name its arrays {listed}"
            )
        found = {name: archive[name] for name in names}
    for array in found.values():
        check_rows(path, array)
    return found


def as_array(value: Any, name: str) -> np.ndarray:
    """Return anything that is like an array as one.

    Raises:
        InputError: it is not.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise InputError(f"{name} are a masked array, and masked elements have no value: fill them first")
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    try:
        if all(callable(getattr(value, step, None)) for step in ("detach", "cpu", "numpy")):
            value = value.detach().cpu()
            try:
                return np.asarray(value.numpy())
            except TypeError:  # such as bfloat16, for which NumPy has no type
                return np.asarray(value.float().numpy())
        return np.asarray(value)
    except Exception as error:  # another library's conversion may raise anything
        raise InputError(
            f"{name} are {type(value).__name__}, which cannot become an array: give an array of numbers"
        ) from error


def as_labels(value: Any) -> np.ndarray | None:
    """Return labels as an array; ``None`` stays.

    Raises:
        InputError: no array can be made of them.
    """
    return None if value is None else as_array(value, "the labels")


def read_rows(path: Path) -> NumberArray:
    """Read an ``.npy`` file, or ``x`` of an ``.npz`` file.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    with opened(path) as archive:
        x = archive if isinstance(archive, np.ndarray) else rows_in(path, archive)
    check_rows(path, x)
    return x


def rows_in(path: Path, archive: np.lib.npyio.NpzFile) -> NumberArray:
    """Return ``x`` of an open file, as it is.

    Raises:
        InputError: there is none.
    """
    if "x" not in archive.files:
        keys = ", ".join(archive.files) or "nothing"
        raise InputError(f"{path} holds {keys}, but no `x`: save it by numpy.savez(FILE, x=rows, y=labels)")
    x: NumberArray = archive["x"]
    return x


@contextmanager
def opened(path: Path) -> Iterator[np.ndarray | np.lib.npyio.NpzFile]:
    """Open a NumPy file, and turn what it raises, now or while it is read, into one line."""
    try:
        with path.open("rb") as stream:
            if path.is_file():  # of a pipe, no size is known
                check_sizes(stream)
            yield np.load(stream, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: check the path of the data") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except SwollenError as error:
        raise InputError(f"{path}: {error}, which no rows do: give them uncompressed") from None
    except InputError:
        raise
    except UNREADABLE as error:
        if "Object arrays" in str(error):
            raise InputError(f"{path} holds Python objects, not numbers: save plain arrays") from None
        raise InputError(
            f"{path} is not a NumPy file, or it is damaged: save it by numpy.savez(FILE, x=rows, y=labels)"
        ) from None


def check_rows(path: Path, x: np.ndarray) -> None:
    """Refuse what no network takes.

    Raises:
        InputError: there are no rows, or no numbers, or one is too large.
        NonFiniteError: one is none.
    """
    if x.dtype.kind not in "uif" or x.ndim < 2:
        raise InputError(f"the rows in {path} are {x.dtype} of shape {x.shape}; give numbers, (rows, ...)")
    if len(x) == 0:
        raise InputError(f"{path} holds no rows")
    if x.dtype.kind != "f":
        return
    each = max(1, CHECKED // max(1, math.prod(x.shape[1:])))
    for start in range(0, len(x), each):  # what is made of them is as large as they are
        rows = x[start : start + each]
        if not np.isfinite(rows).all():
            raise NonFiniteError(f"the rows in {path} hold NaN or infinity: leave those rows out")
        if (row := row_out_of_range(rows)) is not None:
            raise InputError(
                f"row {start + row} in {path} holds numbers beyond {LARGEST_INPUT:.0e}: leave it out"
            )
