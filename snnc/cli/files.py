"""Reading rows of data, and refusing outputs that could not be written before the work begins."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from snnc.errors import InputError, NonFiniteError, UsageError
from snnc.ir.graph import NumberArray
from snnc.preprocessing import LARGEST_INPUT, row_out_of_range

DAMAGED = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, RuntimeError)
"""What ``zipfile`` raises for members that are damaged, packed in another way, or encrypted."""


def read_labelled(path: Path) -> tuple[NumberArray, NumberArray | None]:
    """Read ``x`` and, if it is there, ``y`` of an ``.npz`` file.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    with _opened(path) as archive:
        if isinstance(archive, np.ndarray):
            raise InputError(f"{path} is a single array; save it by numpy.savez(FILE, x=rows, y=labels)")
        if "x" not in archive.files:
            keys = ", ".join(archive.files) or "nothing"
            raise InputError(
                f"{path} holds {keys}, but no `x`: save it by numpy.savez(FILE, x=rows, y=labels)"
            )
        x = archive["x"]
        y = archive["y"] if "y" in archive.files else None
    _check_rows(path, x)
    if y is not None and (y.dtype.kind not in "buif" or y.shape[:1] != (len(x),)):
        raise InputError(
            f"`y` in {path} is {y.dtype} of shape {y.shape}; it must hold one class number per row of `x`, "
            f"integers of shape ({len(x)},), or as many numbers as the network gives, ({len(x)}, outputs)"
        )
    if y is not None and not np.isfinite(y).all():
        raise NonFiniteError(f"the labels in {path} hold NaN or infinity: leave those rows out")
    return x, y


def read_rows(path: Path) -> NumberArray:
    """Read an ``.npy`` file, or ``x`` of an ``.npz`` file.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    with _opened(path) as archive:
        if isinstance(archive, np.ndarray):
            _check_rows(path, archive)
            return archive
    return read_labelled(path)[0]


@contextmanager
def _opened(path: Path) -> Iterator[np.ndarray | np.lib.npyio.NpzFile]:
    """Open a NumPy file, and turn what it raises, now or while it is read, into one line."""
    try:
        with path.open("rb") as stream:
            yield np.load(stream, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: check the path of the data") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except (EOFError, ValueError, *DAMAGED) as error:
        if "Object arrays" in str(error):
            raise InputError(f"{path} holds Python objects, not numbers: save plain arrays") from None
        raise InputError(
            f"{path} is no NumPy file, or it is damaged: save it by numpy.savez(FILE, x=rows, y=labels)"
        ) from None


def _check_rows(path: Path, x: np.ndarray) -> None:
    if x.dtype.kind not in "uif" or x.ndim < 2:
        raise InputError(f"the rows in {path} are {x.dtype} of shape {x.shape}; give numbers, (rows, ...)")
    if len(x) == 0:
        raise InputError(f"{path} holds no rows")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise NonFiniteError(f"the rows in {path} hold NaN or infinity: leave those rows out")
    if x.dtype.kind == "f" and (row := row_out_of_range(x)) is not None:
        raise InputError(f"row {row} in {path} holds numbers beyond {LARGEST_INPUT:.0e}: leave it out")


def check_outputs(*outputs: Path | None, others: Iterable[Path | None] = (), force: bool) -> None:
    """Refuse outputs that could not be written, or would destroy something, before the work begins.

    Args:
        outputs: files to be written.
        others: what the same command reads, or writes beside them; ``force`` does not give it up.
        force: whether files that exist may be replaced.

    Raises:
        UsageError: an output is one of the others, or there is a file already that is not to be replaced.
        InputError: a folder is missing or closed.
    """
    taken = [path for path in others if path is not None]
    for output in outputs:
        if output is not None:
            if any(_same(output, other) for other in taken):
                raise UsageError(f"{output} is named twice, once as an output: name another file for it")
            _check_output(output, force)
            taken.append(output)


def _same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def _check_output(path: Path, force: bool) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it")
    if path.exists() and not force:
        raise UsageError(f"{path} exists already: name another file, or replace it by --force")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"the folder {folder} does not exist: make it first")
    if not os.access(folder, os.W_OK):
        raise InputError(f"the folder {folder} cannot be written: choose another")
