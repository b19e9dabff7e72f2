"""Means over rows in chunks, with the same bits for every chunk size, and those of NumPy for all at once."""

from __future__ import annotations

import numpy as np

from snnc.ir.graph import FloatArray

BLOCK = 8192
"""Values that are summed pairwise, as in NumPy's buffer; sums of blocks are added one after the other."""


class Mean:
    """The mean of all values."""

    def __init__(self) -> None:
        self._total = np.zeros(1)
        self._rest: FloatArray = np.zeros(0, np.float32)
        self._count = 0

    def add(self, values: FloatArray) -> None:
        """Add values, (rows, ...) float32."""
        flat = np.concatenate([self._rest, values.reshape(-1)]) if len(self._rest) else values.reshape(-1)
        whole = len(flat) // BLOCK * BLOCK
        sums = np.add.reduce(flat[:whole].reshape(-1, BLOCK), axis=1, dtype=np.float64)
        self._total = np.add.accumulate(np.concatenate([self._total, sums]))[-1:]
        self._rest = flat[whole:].copy()
        self._count += values.size

    @property
    def value(self) -> float:
        """The mean of what was added."""
        return float((self._total[0] + np.add.reduce(self._rest, dtype=np.float64)) / self._count)


class ChannelMean:
    """The mean of each channel."""

    def __init__(self) -> None:
        self._total: FloatArray | None = None
        self._single = Mean()
        self._count = 0

    def add(self, values: FloatArray) -> None:
        """Add values, (rows, channels, ...) float32."""
        rows, channels = values.shape[:2]
        if channels == 1:  # all values follow each other
            self._single.add(values)
            return
        flat = values.reshape(rows, channels, -1)
        starts = range(0, flat.shape[2], BLOCK)
        sums = [np.add.reduce(flat[:, :, at : at + BLOCK], axis=2, dtype=np.float64) for at in starts]
        parts = np.stack(sums, axis=1).reshape(-1, channels)
        if self._total is not None:
            parts = np.concatenate([self._total, parts])
        self._total = np.add.accumulate(parts, axis=0)[-1:]
        self._count += rows * flat.shape[2]

    @property
    def value(self) -> FloatArray:
        """The means of what was added, (channels,) float64."""
        if self._total is None:
            return np.array([self._single.value])
        return np.asarray(self._total[0] / self._count)
