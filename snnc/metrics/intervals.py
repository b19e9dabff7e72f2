"""95 % intervals of measures other than shares of rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from snnc.ir.graph import FloatArray
from snnc.metrics.shares import Z95

Interval = tuple[float, float]

RESAMPLES = 1000
SEED = 0
CHUNK = 100
"""Resamples that are summed at once."""

FEWEST_ROWS = 10
"""Rows below which resampling says nothing: one row has no spread."""


def bootstrap(rows: FloatArray, statistic: Callable[[FloatArray], FloatArray]) -> Interval | None:
    """Return the 95 % percentile interval of a statistic of sums over rows, or ``None`` for too few rows.

    The same rows give the same interval: the seed is fixed.

    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7 (1979); the
    percentile interval of Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.

    Args:
        rows: (n, terms), what each row adds to the sums.
        statistic: from (resamples, terms) sums to (resamples,) values.
    """
    if len(rows) < FEWEST_ROWS:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        return percentiles(statistic(resampled(rows)))


def resampled(rows: FloatArray) -> FloatArray:
    """Return the sums over resampled rows, (resamples, terms); always over the same ones of n rows.

    Args:
        rows: (n, terms).
    """
    n = len(rows)
    random = np.random.default_rng(SEED)
    found = []
    # One BLAS thread: the last bit of a sum must not depend on their number.
    with threadpool_limits(1, "blas"):
        for _ in range(0, RESAMPLES, CHUNK):
            drawn = random.integers(0, n, (CHUNK, n))
            weights = np.stack([np.bincount(each, minlength=n) for each in drawn]).astype(np.float64)
            found.append(weights @ rows)
    return np.concatenate(found)


def percentiles(values: FloatArray) -> Interval | None:
    """Return where the middle 95 % of resampled values lie; ``None`` if no resample tells."""
    told = values[~np.isnan(values)]  # a resample may hold no spread at all
    if len(told) == 0:
        return None
    low, high = np.quantile(told, (0.025, 0.975), method="nearest")
    return float(low), float(high)


def of_auc(value: float, positive: int, negative: int) -> Interval:
    """Return the 95 % interval of an area under the ROC curve.

    The variance is taken at the bound and not at the estimate, as in Wilson's interval, so that it is
    honest where the area is 1.

    Source: Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic.
    Part 2", Statistics in Medicine 25 (2006), method 5; variance by Hanley and McNeil, Radiology 143 (1982).

    Args:
        value: the area.
        positive: rows of the class 1.
        negative: rows of the class 0.
    """
    star = (positive + negative) / 2 - 1

    def apart(theta: float) -> float:
        spread = 1 + star * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return abs(value - theta) - Z95 * math.sqrt(theta * (1 - theta) * spread / (positive * negative))

    return _bound(apart, value, 0.0), _bound(apart, value, 1.0)


def _bound(apart: Callable[[float], float], inside: float, outside: float) -> float:
    """Return where a function leaves the negative numbers, by bisection."""
    if apart(outside) <= 0:
        return outside
    for _ in range(60):
        middle = (inside + outside) / 2
        if apart(middle) <= 0:
            inside = middle
        else:
            outside = middle
    return inside
