"""Rows of arrays that may be larger than the memory, some at a time."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.ir.batch import Batch, Rows

BLOCK = 1 << 22
"""Bytes of rows, in four bytes a value, that are worked on at once."""


def in_blocks(x: NDArray[Any]) -> Iterator[slice]:
    """Yield the rows of an array, (rows, ...), some at a time: what is made of them stays small.

    Of an array that is mapped from a file, no more than a block stays in memory.
    """
    rows = _rows_of_a_block(x)
    for start in range(0, len(x), rows):
        yield slice(start, min(start + rows, len(x)))
        released(x)


def spread_blocks(x: NDArray[Any], most: int) -> Iterator[NDArray[Any]]:
    """Yield copies of at most ``most`` rows of an array, (rows, ...), evenly over all, some at a time."""
    places, rows = evenly(len(x), most), _rows_of_a_block(x)
    for start in range(0, len(places), rows):
        yield x[places[start : start + rows]]
        released(x)


def evenly(rows: int, most: int) -> NDArray[np.int64]:
    """Return the places of at most ``most`` of so many rows, evenly over all."""
    return np.linspace(0, rows - 1, min(rows, most)).astype(np.int64)


def released(x: Rows) -> None:
    """Give back the memory of what was read of rows that are mapped from a file; they can be read again."""
    for array in x.arrays.values() if isinstance(x, Batch) else (x,):
        mapping = _mapping(array)
        if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)


def _mapping(array: NDArray[Any]) -> mmap.mmap | None:
    """Return the mapping of which an array is a view; ``None`` for one whose changes it alone holds."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and base.mode not in ("r", "r+"):
            return None
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def _rows_of_a_block(x: NDArray[Any]) -> int:
    return max(1, BLOCK // max(1, 4 * math.prod(x.shape[1:])))
