"""Arrays of many rows in a temporary file instead of memory, read and written by rows."""

from __future__ import annotations

import math
import tempfile
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

IN_MEMORY = 64 << 20
"""Bytes up to which an array stays in memory."""


class RowFile:
    """An array, (rows, ...), on disk; it is gone with the last reference.

    Only slices of consecutive rows are read and written, as arrays in memory. The file lies where the
    system keeps temporary files (``TMPDIR``) and has no name.

    Attributes:
        shape: of the whole array.
        dtype: of its values.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Make the file; its values are zero."""
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._row_bytes = math.prod(shape[1:]) * self.dtype.itemsize
        self._file: Any = tempfile.TemporaryFile(prefix="snnc-")  # noqa: SIM115 - closed with the object
        self._file.truncate(shape[0] * self._row_bytes)
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read consecutive rows."""
        start, stop, _ = rows.indices(len(self))
        found = np.empty(max(stop - start, 0) * self._row_bytes, np.uint8)
        self._file.seek(start * self._row_bytes)
        if found.size and self._file.readinto(found.data) != found.size:
            raise OSError(f"a temporary file in {tempfile.gettempdir()} was cut short")
        return found.view(self.dtype).reshape(-1, *self.shape[1:])

    def __setitem__(self, rows: slice, values: NDArray[Any]) -> None:
        """Write consecutive rows."""
        self._file.seek(rows.indices(len(self))[0] * self._row_bytes)
        self._file.write(np.ascontiguousarray(values, self.dtype).reshape(-1).view(np.uint8).data)
        self._file.flush()


RowArray = NDArray[Any] | RowFile
"""An array in memory or on disk; slices of rows are all that is asked of it."""


def row_array(shape: tuple[int, ...], dtype: DTypeLike) -> RowArray:
    """Return an array to be filled: in memory if it is small, else on disk."""
    if math.prod(shape) * np.dtype(dtype).itemsize <= IN_MEMORY:
        return np.empty(shape, dtype)
    return RowFile(shape, dtype)
