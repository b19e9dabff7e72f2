"""Levels of what a softmax reads, chosen by the error of the softmax.

A softmax knows differences alone, and of these only the small ones: what lies 10 below the largest of its row
has a weight of 5e-5. So the counts begin at zero a certain range below the largest argument, all below is
silent, and least squares over the probabilities decides how wide the range is: a wide one takes in all that
has any weight, a narrow one has fine steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snnc.ir.graph import FloatArray

Reals = NDArray[np.float64]

RANGES = np.exp2(np.arange(0, 6.25, 0.25))
"""Ranges that are tried: from 1, within which nothing is unlikely, to 64."""

MOST_VALUES = 2_000_000
"""Arguments by which the range is chosen."""


@dataclass(frozen=True, slots=True)
class ArgumentLevels:
    """Counts ``N = clip(round((x - zero) / step), 0, span)`` of the arguments of a softmax.

    Attributes:
        zero: what silence stands for.
        step: of one count.
    """

    zero: float
    step: float


def argument_levels(x: FloatArray, axis: int, span: int) -> ArgumentLevels:
    """Return the levels of arguments with the least squared error of the softmax.

    Args:
        x: (rows, ...) float32, arguments, as many rows as are to be looked at.
        axis: along which the softmax is.
        span: the largest count.
    """
    rows = max(1, MOST_VALUES // max(1, x[0].size))
    x = x[:rows].astype(np.float64)
    wanted = _softmax(x, axis)
    top = float(x.max())
    best, least = ArgumentLevels(top - 1, 1 / span), np.inf
    for width in RANGES:
        step = float(width) / span
        counts = np.clip(np.rint((x - (top - width)) / step), 0, span)
        error = float(np.square(_softmax(counts * step, axis) - wanted).sum())
        if error < least:
            best, least = ArgumentLevels(top - float(width), step), error
    return best


def _softmax(x: Reals, axis: int) -> Reals:
    exponential = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(exponential / exponential.sum(axis=axis, keepdims=True))
