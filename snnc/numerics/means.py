"""Means over rows in chunks, with the same bits for every chunk size, and those of NumPy for all at once."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class ChannelSums:
    """Sums of some rows of several channels, or the values of one channel.

    Attributes:
        parts: (parts, channels) float64, or the values, (rows, 1, ...) float32.
        count: how many values of each channel are summed; 0 where they are not.
    """

    parts: FloatArray
    count: int


class ChannelMean:
    """The mean of each channel."""

    def __init__(self) -> None:
        self._total: FloatArray | None = None
        self._single = Mean()
        self._count = 0

    def add(self, values: FloatArray) -> None:
        """Add values, (rows, channels, ...) float32."""
        self.put(self.sums(values))

    @staticmethod
    def sums(values: FloatArray) -> ChannelSums:
        """Return what :meth:`put` adds of values, (rows, channels, ...) float32."""
        rows, channels = values.shape[:2]
        if channels == 1:  # all values follow each other
            return ChannelSums(values, 0)
        flat = values.reshape(rows, channels, -1)
        starts = range(0, flat.shape[2], BLOCK)
        sums = [np.add.reduce(flat[:, :, at : at + BLOCK], axis=2, dtype=np.float64) for at in starts]
        return ChannelSums(np.stack(sums, axis=1).reshape(-1, channels), rows * flat.shape[2])

    def put(self, sums: ChannelSums) -> None:
        """Add sums; the order in which they come decides about the last bits."""
        if not sums.count:
            self._single.add(sums.parts)
            return
        parts = sums.parts
        if self._total is not None:
            parts = np.concatenate([self._total, parts])
        self._total = np.add.accumulate(parts, axis=0)[-1:]
        self._count += sums.count

    @property
    def value(self) -> FloatArray:
        """The means of what was added, (channels,) float64."""
        if self._total is None:
            return np.array([self._single.value])
        return np.asarray(self._total[0] / self._count)
