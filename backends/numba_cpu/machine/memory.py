"""Arrays that begin where vectors like them to, and that are used again."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ALIGNMENT = 64
"""Bytes of a cache line, and of the widest vector."""

SLACK = 512
"""Spare bytes behind every array: kernels read and write whole vectors."""

BLOCK_BYTES = 32 << 20
"""From so many bytes at a time arrays are cut."""


def aligned(array: Array) -> Array:
    """Return a copy that begins at a multiple of 64 bytes, with spare bytes behind it."""
    copy = aligned_bytes(array.nbytes + SLACK)[: array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class _Block:
    """Memory from which arrays are cut one behind the other; it is freed with the last of them.

    It lies in huge pages where the system has them: events jump about in the weights, and wait less for
    addresses to be translated.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._rest = np.empty(0, np.uint8)

    def cut(self, size: int) -> Array:
        """Return ``size`` bytes that begin at a multiple of :data:`ALIGNMENT`."""
        room = -(-size // ALIGNMENT) * ALIGNMENT
        if room >= BLOCK_BYTES:  # has pages of its own: the rest serves smaller ones
            return _pages(room)[:size]
        with self._lock:
            if self._rest.nbytes < room:
                self._rest = _pages(BLOCK_BYTES)
            taken, self._rest = self._rest[:size], self._rest[room:]
        return taken


def _pages(size: int) -> Array:
    """Return ``size`` bytes of whole pages."""
    if os.name != "posix":
        memory = np.empty(size + ALIGNMENT, np.uint8)
        return memory[-memory.ctypes.data % ALIGNMENT :]
    try:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"{size} bytes are not to be had") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # Python knows of huge pages, this kernel may not
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8)


_BLOCK = _Block()


def aligned_bytes(size: int) -> Array:
    """Return ``size`` bytes of unknown content that begin at a multiple of 64."""
    return _BLOCK.cut(size)


class Memory:
    """Arrays that are handed out, taken back and handed out again."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._free: list[Array] = []
        self._owners: dict[int, Array] = {}

    def take(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> Array:
        """Return an array of unknown content, aligned, with spare bytes behind it."""
        size = int(np.prod(shape)) * kind.itemsize
        fitting = [memory for memory in self._free if memory.nbytes >= size + SLACK]
        if fitting:
            memory = min(fitting, key=lambda m: m.nbytes)
            self._free = [other for other in self._free if other is not memory]
        else:
            memory = aligned_bytes(size + SLACK)
        array = memory[:size].view(kind).reshape(shape)
        self._owners[array.ctypes.data] = memory
        return array

    def give_back(self, array: Array) -> None:
        """Let the memory of ``array`` be used for something else."""
        self._free.append(self._owners.pop(array.ctypes.data))
