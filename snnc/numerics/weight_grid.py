"""Weights of fewer than 8 bits: which integers they may be, and which scale suits them.

A weight of B bits is an int8 whose lowest ``8 - B`` bits are zero, ``w = 2^(8-B) q`` with ``|q|`` at most
``2^(B-1) - 1``. A potential is then ``2^(8-B)`` times finer than a step of the weights, so thresholds, biases
and identity branches are rounded about as finely as with weights of 8 bits.

With few bits the scale that the largest magnitude dictates leaves most weights at zero. So the step of a
channel is the one of a short geometric series that leaves the least squared error of its weights; what lies
beyond the last step is clipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc.ir.graph import FloatArray, NumberArray

WEIGHT_BITS = 8
"""Bits of the type in which weights are stored."""

FEWEST_BITS = 2
"""With one bit nothing but zero would be left."""

SHRUNK = tuple(2.0 ** (-k / 4) for k in range(13))
"""Steps that are tried, relative to the one at which the largest weight is not clipped: 1 to 1 / 8."""


@dataclass(frozen=True, slots=True)
class WeightGrid:
    """The integers that the weights of a layer may be.

    Attributes:
        bits: of a weight, sign included.
    """

    bits: int = WEIGHT_BITS

    @property
    def step(self) -> int:
        """What all integers are multiples of."""
        return int(2 ** (WEIGHT_BITS - self.bits))

    @property
    def limit(self) -> int:
        """The largest multiple."""
        return int(2 ** (self.bits - 1)) - 1

    def scale(self, weight: NumberArray) -> FloatArray:
        """Return what an integer should stand for, (channels,) float64.

        Args:
            weight: (channels, ...), in real units.
        """
        flat = weight.astype(np.float64).reshape(len(weight), -1)
        plain = np.maximum(np.abs(flat).max(axis=1) / self.limit, np.finfo(np.float32).tiny)
        best, least = plain, np.full(len(flat), np.inf)
        for share in SHRUNK:
            unit = share * plain
            error = np.square(self.multiples(flat, unit) * unit[:, None] - flat).sum(axis=1)
            best = np.where(error < least, unit, best)
            least = np.minimum(error, least)
        return best / self.step

    def multiples(self, weight: NumberArray, unit: NumberArray) -> FloatArray:
        """Return the nearest multiples of the step, (channels, features), where one stands for ``unit``."""
        found: FloatArray = np.clip(np.rint(weight / unit[:, None]), -self.limit, self.limit)
        return found

    def holds(self, weight: NumberArray) -> bool:
        """Whether integer weights are of so few bits."""
        whole = weight.astype(np.int64)
        return not (whole % self.step).any() and int(np.abs(whole).max(initial=0)) <= self.limit * self.step


def bits_of(weight: NumberArray) -> int:
    """Return how many bits integer weights take, from 2 to 8; those of identity branches take 16."""
    few = (bits for bits in range(FEWEST_BITS, WEIGHT_BITS + 1) if WeightGrid(bits).holds(weight))
    return next(few, 8 * weight.itemsize)
