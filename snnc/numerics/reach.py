"""How far levels reach beyond the values that were seen, judged by rows that were left out.

Rows that were not calibrated on take values beyond those of the rows that were, and what lies beyond the last
level is cut off. With few levels that hardly matters beside their rounding. With hundreds of them a range
that ends at the largest value seen is far too narrow: of few rows, that value is a poor guess of what others
bring. How poor, the channels of a layer tell together: each part of the rows is carried by levels that the
other parts gave, with several ranges, and the range that does best is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snnc.ir.graph import FloatArray

Real = NDArray[np.float64]

MANY_LEVELS = 128
"""From so many levels on, cutting off costs more than rounding, and ranges are judged by rows left out."""

PARTS = 4
"""Parts of the rows, in their order: neighbours, as of a sound, are alike, and do not judge each other."""

FACTORS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0)
"""Factors of a channel's own range that are tried."""

CLEARLY = 0.98
"""By which factor the error must fall for a wider range to be taken."""

UNFELT, UNFELT_OF_ROW = 1e-4, 2e-3
"""Rounding, relative to the power of the values, that is not felt beside that of 8 bits; and the same times
the number of rows."""

WIDEST = 4.0
"""Factor by which a range is widened out of caution, at most."""

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Shares of the widest range of a layer that every channel has at least, that are tried."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How ranges are widened.

    Attributes:
        factor: of a channel's own range.
        share: of the widest range of all channels, that each has at least.
    """

    factor: float = 1.0
    share: float = 0.0

    def of(self, step: FloatArray | Real) -> Real:
        """Return steps, (channels,), so that as many levels of them reach as far as they should."""
        own = step.astype(np.float64)
        return np.maximum(own * self.factor, own.max(initial=0) * self.share)


def cautious(step: Real, power: Real, rows: int) -> Real:
    """Return steps, (channels,), that are wider where their rounding is not felt.

    The fewer rows were seen, the more values will come that are larger.

    Args:
        step: (channels,), as it is.
        power: (channels,), mean square of the values.
        rows: how many were seen.
    """
    tolerated = min(UNFELT, UNFELT_OF_ROW / rows)
    return np.clip(np.sqrt(12 * tolerated * power), step, WIDEST * step)


def chosen_reach(
    values: FloatArray,
    fitted: Callable[[FloatArray], Real],
    error: Callable[[Real, FloatArray], Real],
    weights: Real | None = None,
) -> Reach:
    """Return the reach with which levels carry rows best that did not choose them.

    Args:
        values: (channels, rows, positions) float32.
        fitted: returns the steps, (channels,), that values of some rows give, (channels, samples); 0 for a
            silent channel.
        error: returns the squared error of values with steps, (channels,).
        weights: (channels,), what the readers of a channel make of its squared error. By default, where
            readers are none whose weights tell, the reciprocal of the channel's root mean square: between
            channels that count by their power, and those that count alike.
    """
    power = np.einsum("crp,crp->c", values, values, dtype=np.float64)
    rows = values.shape[1]
    if rows < 2 or not power.any():
        return Reach()
    if weights is None:
        weights = np.where(power > 0, 1 / np.sqrt(np.where(power > 0, power, 1)), 0)
    parts = np.array_split(values, min(PARTS, rows), axis=1)
    flat = [part.reshape(len(values), -1) for part in parts]
    steps = [fitted(np.concatenate([other for other in flat if other is not part], axis=1)) for part in flat]

    def lost(reach: Reach) -> float:
        total = 0.0
        for step, part in zip(steps, flat, strict=True):
            wide = reach.of(step)
            # A channel that was silent in the other parts has no range of its own.
            total += float(weights @ error(np.where(wide > 0, wide, wide.max() or 1), part))
        return total

    best = Reach()
    least = lost(best)
    for tried in (Reach(factor) for factor in FACTORS[1:]):
        if (now := lost(tried)) < CLEARLY * least:
            best, least = tried, now
    for tried in (Reach(factor, share) for share in SHARES for factor in sorted({1.0, best.factor})):
        if (now := lost(tried)) < CLEARLY * least:
            best, least = tried, now
    return best
