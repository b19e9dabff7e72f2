"""Arrays of rows that are filled row by row: in memory while they are small, else in a temporary file."""

from __future__ import annotations

import math
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from snnc.errors import InputError
from snnc.ir.blocks import BLOCK, in_blocks

IN_MEMORY = 64 << 20
"""Bytes up to which an array stays in memory."""


def stored(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array to be filled, (rows, ...).

    A large one is mapped from a file without a name, where the system keeps temporary files (``TMPDIR``): it
    fills no memory, and is gone with the last reference.

    Raises:
        InputError: there is no room for it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="snnc-") as file:
        try:
            # A hole in the file that the disk cannot fill would end the process when it is written to.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError as error:
            raise InputError(
                f"the rows take {size / 2**30:.1f} GiB in {tempfile.gettempdir()}, and there is no room: "
                f"{error.strerror}; use fewer rows, or set TMPDIR to a folder on a larger disk"
            ) from None
        return np.memmap(file, np.dtype(dtype), "r+", shape=shape)


def as_float32(x: NDArray[Any]) -> NDArray[np.float32]:
    """Return rows, (rows, ...), as float32: themselves if they are, else where :func:`stored` puts them."""
    if x.dtype == np.float32:
        return x
    found = stored(x.shape, np.float32)
    for rows in in_blocks(x):
        found[rows] = x[rows]
    return found


def mapped(path: Path) -> NDArray[Any] | None:
    """Return the array of a large ``.npy`` file, mapped from it; ``None`` for any other."""
    try:
        with path.open("rb") as file:
            is_array = file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX
        if not is_array or path.stat().st_size <= IN_MEMORY:
            return None
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None  # told where it is read


def unpacked(path: Path, name: str) -> NDArray[Any] | None:
    """Return a large array of an ``.npz`` file, unpacked block by block; ``None`` for any other."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        if member.file_size <= IN_MEMORY:
            return None
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in read:
                return None
            shape, is_fortran, dtype = read[version](file)
            size = math.prod(shape) * dtype.itemsize
            if is_fortran or dtype.hasobject or not shape or file.tell() + size != member.file_size:
                return None
            found = stored(shape, dtype)
            flat = found.reshape(-1).view(np.uint8)
            start = 0
            while block := file.read(BLOCK):
                flat[start : start + len(block)] = np.frombuffer(block, np.uint8)
                start += len(block)
            return found
