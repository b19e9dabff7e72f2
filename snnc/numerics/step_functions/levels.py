"""Levels of activations, chosen by least squares.

A spike carries a sign of its own, so that values of both signs may use all magnitudes on either side of zero.
Where fewer levels are allowed than that, the share of either sign is chosen, too.

Source: Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28 (1982).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc.ir.graph import FloatArray
from snnc.numerics.reach import MANY_LEVELS, Reach, Real, cautious, chosen_reach
from snnc.numerics.thresholds import LLOYD_ROUNDS, SCALES, Method

SPLITTING_VALUES = 50_000
"""Values by which the share of negative levels is chosen."""

ALL_SPLITS = 31
"""Up to so many levels, every share of negative ones is tried."""

ROOM = 1.25
"""By how much the counts reach further than the values that need the fewer of both signs."""

NEAR_SPLITS = (0.0, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5)
"""Beyond, these multiples of the share of the range that is negative."""

HEADROOMS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0)
"""Factors of the step among which the other half of the values decides."""

ENOUGH_VALUES = 4000
"""Values of a channel from which on the step that fits them best is taken as it is."""


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels of an activation: see :class:`snnc.ir.ann.Levelled`.

    Attributes:
        step: (channels,) float32, positive.
        lowest, highest: of the counts.
    """

    step: FloatArray
    lowest: int
    highest: int


def choose_levels(
    values: FloatArray,
    reach: int,
    *,
    common: bool,
    most: int | None = None,
    method: Method = Method.MSE,
    percentile: float = 99.9,
    by_row: FloatArray | None = None,
    weights: Real | None = None,
    bounds: tuple[Real, Real] | None = None,
    whole: bool = False,
) -> Levels:
    """Return the levels that carry activations with the least squared error.

    Args:
        values: (channels, samples) float32, of any sign.
        reach: the largest magnitude of a count.
        common: whether all channels share one step.
        most: ``highest - lowest`` at most; ``None`` for all that are within reach.
        method: least squares; or the range from a percentile, or the largest and least value.
        percentile: for that method.
        by_row: (channels, rows, positions), or (1, rows, positions) if all share a step: the values, where it
            is known which row they are from.
        weights: (channels,), see :func:`snnc.numerics.reach.chosen_reach`.
        bounds: (channels,) or (1,) each, the least and the largest value that there can be, beyond which no
            levels are wasted.
        whole: whether levels, where they are many, reach up to the bounds, whatever was seen.
    """
    channels = len(values)
    values = values.reshape(1, -1) if common else values
    width = 2 * reach if most is None else min(most, 2 * reach)
    if method in (Method.PERCENTILE, Method.MAXIMUM):
        share = percentile if method is Method.PERCENTILE else 100.0
        low, high = (np.percentile(values.astype(np.float64), part, axis=1) for part in (100 - share, share))
        lowest, highest = _natural(float(low.min()), float(high.max()), reach, width)
        step = _reaching(low, high, lowest, highest)
    else:
        some = values[:, :: max(1, values.size // SPLITTING_VALUES)]
        tried = {each: float(_fitted(some, *each)[1].sum()) for each in _ranges(some, reach, width)}
        lowest, highest = min(tried, key=lambda each: (tried[each], -each[0]))
        step = _fitted(values, lowest, highest)[0]
        if by_row is not None and by_row.shape[1] > 1 and highest - lowest >= MANY_LEVELS:
            step = _reach(by_row, lowest, highest, weights).of(step)
            if bounds is None:  # functions of counts, whose levels are finer than those of what they read
                step = cautious(step, np.square(values, dtype=np.float64).mean(axis=1), by_row.shape[1])
        else:
            step = step * _headroom(values, lowest, highest)
    if bounds is not None:
        # Bounds are those of a grid, between whose points a function may give a little more.
        low, high = np.minimum(bounds[0], values.min(axis=1)), np.maximum(bounds[1], values.max(axis=1))
        limit = _reaching(low, high, lowest, highest)
        takes_all = whole and highest - lowest >= MANY_LEVELS
        step = np.where(limit > 0, limit if takes_all else np.minimum(step, limit), step)
    alive = step > 0
    step = np.where(alive, step, step[alive].max(initial=0) or 1 / (highest - lowest))
    if highest - lowest == 2 * reach:
        lowest, highest = _needed(values, step, reach)
    return Levels(np.broadcast_to(step, (channels,)).astype(np.float32), lowest, highest)


def _needed(values: FloatArray, step: Real, reach: int) -> tuple[int, int]:
    """Return the range of the counts without those far beyond all values of the sign that needs fewer."""
    down, up = (
        int(np.ceil(min(float(most), reach)))
        for most in (ROOM * (-values.min(axis=1) / step).max(), ROOM * (values.max(axis=1) / step).max())
    )
    return (-reach, max(up, 0)) if down > up else (-max(down, 0), reach)


def _headroom(values: FloatArray, lowest: int, highest: int) -> float:
    """Return by how much a step should exceed the one that fits best, as few values say little of others.

    Steps are fitted to each half of the values, and the factor is the one with which they carry the other
    half best, all channels together.
    """
    n = values.shape[1]
    if n < 4 or n >= ENOUGH_VALUES:
        return 1.0
    halves = (values[:, : n // 2], values[:, n // 2 :])
    error = np.zeros(len(HEADROOMS))
    for fitted, other in (halves, halves[::-1]):
        step = _fitted(fitted, lowest, highest)[0]
        step = np.where(step > 0, step, step.max(initial=0) or 1 / (highest - lowest))
        for place, factor in enumerate(HEADROOMS):
            none, all_ = np.zeros(len(step)), np.full(len(step), np.inf)
            error[place] += _better(none, all_, step * factor, other, lowest, highest)[1].sum()
    return HEADROOMS[int(error.argmin())]


def _reach(by_row: FloatArray, lowest: int, highest: int, weights: Real | None) -> Reach:
    """Return how far many levels should reach beyond the values."""

    def fitted(values: FloatArray) -> Real:
        return _reaching(values.min(axis=1), values.max(axis=1), lowest, highest)

    def error(step: Real, values: FloatArray) -> Real:
        return _squared_error(values, step, lowest, highest)

    return chosen_reach(by_row, fitted, error, weights)


def _ranges(values: FloatArray, reach: int, width: int) -> list[tuple[int, int]]:
    """Return the ranges of the counts to try, each of a width that is at most twice the reach."""
    low, high = float(values.min()), float(values.max())
    if low >= 0 or high <= 0 or width == 2 * reach:
        return [_natural(low, high, reach, width)]
    if width <= ALL_SPLITS:
        below = list(range(width + 1))
    else:
        low, high = (float(np.percentile(values, share)) for share in (0.1, 99.9))
        natural, _ = _natural(low, high, reach, width)
        below = [round(-natural * factor) for factor in NEAR_SPLITS]
    return sorted({_within(each, reach, width) for each in below})


def _natural(low: float, high: float, reach: int, width: int) -> tuple[int, int]:
    """Return the range of the counts that gives either sign its share of the range of values."""
    low, high = min(low, 0.0), max(high, 0.0)
    if low == 0 or high == 0:
        most = min(reach, width)
        return (0, most) if low == 0 else (-most, 0)
    return _within(round(width * -low / (high - low)), reach, width)


def _within(below: int, reach: int, width: int) -> tuple[int, int]:
    """Return the range with so many counts below zero, or as many as are within reach."""
    below = min(max(below, width - reach), reach, width)
    return -below, width - below


def _reaching(low: Real, high: Real, lowest: int, highest: int) -> Real:
    """Return the step with which the counts reach a range, (channels,)."""
    up = np.maximum(high, 0) / highest if highest else np.zeros(len(high))
    down = np.maximum(-low, 0) / -lowest if lowest else np.zeros(len(low))
    return np.maximum(up, down)


def _fitted(values: FloatArray, lowest: int, highest: int) -> tuple[Real, Real]:
    """Return the step of least squared error, and the error, (channels,) each; 0 for a silent channel."""
    reach = _reaching(values.min(axis=1), values.max(axis=1), lowest, highest)
    alive = reach > 0
    safe = np.where(alive, reach, 1)
    best, least = safe, np.full(len(safe), np.inf)
    for scale in SCALES:
        best, least = _better(best, least, safe * float(scale), values, lowest, highest)
    for _ in range(LLOYD_ROUNDS):
        counts = _counts(values, best, lowest, highest)
        energy = np.einsum("cs,cs->c", counts, counts, dtype=np.float64)
        product = np.einsum("cs,cs->c", values, counts, dtype=np.float64)
        usable = (energy > 0) & (product > 0)
        fitted = np.where(usable, product / np.where(usable, energy, 1), best)
        best, least = _better(best, least, fitted, values, lowest, highest)
    return np.where(alive, best, 0), np.where(alive, least, np.square(values, dtype=np.float64).sum(axis=1))


def _better(
    best: Real, least: Real, step: Real, values: FloatArray, lowest: int, highest: int
) -> tuple[Real, Real]:
    error = _squared_error(values, step, lowest, highest)
    return np.where(error < least, step, best), np.minimum(error, least)


def _squared_error(values: FloatArray, step: Real, lowest: int, highest: int) -> Real:
    missing = _counts(values, step, lowest, highest) * step.astype(np.float32)[:, None] - values
    return np.einsum("cs,cs->c", missing, missing, dtype=np.float64)


def _counts(values: FloatArray, step: Real, lowest: int, highest: int) -> FloatArray:
    return np.clip(np.floor(values / step.astype(np.float32)[:, None] + np.float32(0.5)), lowest, highest)
