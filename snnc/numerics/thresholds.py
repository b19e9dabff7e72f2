"""Where to clip an activation: percentile, maximum, and the closed forms of the least squared error."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from snnc.ir.graph import FloatArray
from snnc.numerics.reach import MANY_LEVELS, Reach, Real, chosen_reach


class Method(Enum):
    """How a threshold is found.

    ``MSE``, ``PERCENTILE`` and ``MAXIMUM`` look at a layer's activations alone. ``LEARN`` begins with the
    first and then searches on the finished network: see :mod:`snnc.search.threshold_search`.
    """

    MSE = "mse"
    PERCENTILE = "percentile"
    MAXIMUM = "max"
    LEARN = "learn"


SCALES = np.linspace(1.0, 0.06, 24, dtype=np.float32)
"""Fractions of the maximum from which the fixed-point iteration picks its start."""

LLOYD_ROUNDS = 6

FLOOR_QUANTILES = (0.1, 0.25, 0.5)
"""Quantiles of the activations from which the iteration for a floor starts."""

FLOOR_ROUNDS = 12

STARTS = (0.8, 1.0, 1.25)
"""Factors of the threshold without a floor from which that for a floor starts."""

HIGHEST_FLOOR = np.float32(0.9)
"""Of the threshold: a floor stays below it."""


def quantise(values: FloatArray, threshold: FloatArray, levels: int) -> FloatArray:
    """Return the counts ``k = clip(floor(n a / theta + 1/2), 0, n)`` of a population of ``n`` levels.

    Args:
        values: (channels, samples).
        threshold: (channels,), positive.
        levels: n.
    """
    step = (threshold / np.float32(levels))[:, None]
    k = values / step
    k += np.float32(0.5)
    return np.clip(np.floor(k, out=k), 0, levels, out=k)


def mse_threshold(values: FloatArray, levels: int) -> FloatArray:
    """Return the threshold with the least squared error between activations and their levels.

    For fixed levels ``k_i`` the best threshold is the least-squares solution
    ``theta = n sum a_i k_i / sum k_i^2``; for a fixed threshold the best levels are the rounded
    ones. The two are alternated (Lloyd's iteration) from the best of a grid of starts.

    Source: Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28 (1982).

    Args:
        values: (channels, samples) float32, rectified.
        levels: n, the levels above zero.

    Returns:
        (channels,) float32; 0 for a channel that is never active.
    """
    values = np.maximum(values, 0)
    maximum = values.max(axis=1)
    alive = maximum > 0
    safe = np.where(alive, maximum, 1).astype(np.float32)
    best = safe.copy()
    least = np.full(len(safe), np.inf)
    for scale in SCALES:
        threshold = safe * scale
        error = _squared_error(values, threshold, levels)
        better = error < least
        best, least = np.where(better, threshold, best), np.where(better, error, least)
    for _ in range(LLOYD_ROUNDS):
        k = quantise(values, best, levels)
        energy = np.einsum("cs,cs->c", k, k, dtype=np.float64)
        fitted = levels * np.einsum("cs,cs->c", values, k, dtype=np.float64) / np.maximum(energy, 1)
        fitted = np.where(energy > 0, fitted, best).astype(np.float32)
        error = _squared_error(values, fitted, levels)
        better = error < least
        best, least = np.where(better, fitted, best), np.where(better, error, least)
    return np.where(alive, best, 0).astype(np.float32)


def mse_range(values: FloatArray, levels: int) -> tuple[FloatArray, FloatArray]:
    """Return the floor and the threshold with the least squared error between activations and their levels.

    With a floor ``l`` the levels are ``l + k u``, ``k = 0 .. n``, ``u = (theta - l) / n``. A channel that is
    hardly ever silent spends no level on the values that it does not take; what silence stands for, the
    readers add as a bias. As in :func:`mse_threshold` the levels ``k_i`` and the line through them are
    alternated: ``u = cov(a, k) / var(k)``, ``l = max(mean(a) - u mean(k), 0)``, and ``u = sum a k / sum k^2``
    where the maximum is 0. The start is the best of a grid, and a result never worse than without a floor.

    Source: Max, "Quantizing for minimum distortion", IRE Trans. Inf. Theory 6 (1960), for evenly spaced
    levels.

    Args:
        values: (channels, samples) float32, rectified.
        levels: n, the levels above the floor.

    Returns:
        The floors and the thresholds, (channels,) float32 each; 0 for a channel that is never active.
    """
    values = np.maximum(values, 0)
    plain = mse_threshold(values, levels)
    alive = plain > 0
    best = _Range(np.zeros_like(plain), np.where(alive, plain, 1).astype(np.float32))
    least = _range_error(values, best, levels)[1]
    for floor in np.quantile(values, FLOOR_QUANTILES, axis=1).astype(np.float32):
        for factor in STARTS:
            top = np.where(alive, plain * np.float32(factor), 1).astype(np.float32)
            start = _Range(np.minimum(floor, HIGHEST_FLOOR * top), top)
            best, least = _nearer(best, least, start, _range_error(values, start, levels)[1])
    moving, k = best, _range_error(values, best, levels)[0]
    for _ in range(FLOOR_ROUNDS):
        moving = _line(values, k, moving, levels)
        k, error = _range_error(values, moving, levels)
        best, least = _nearer(best, least, moving, error)
    return np.where(alive, best.floor, 0), np.where(alive, best.top, 0)


@dataclass(frozen=True, slots=True)
class _Range:
    """Floor and threshold, (channels,) float32 each."""

    floor: FloatArray
    top: FloatArray


def _range_error(values: FloatArray, given: _Range, levels: int) -> tuple[FloatArray, FloatArray]:
    """Return the levels nearest to the values, and their squared error, (channels,) float64."""
    above = values - given.floor[:, None]
    k = quantise(above, given.top - given.floor, levels)
    missing = k * ((given.top - given.floor) / np.float32(levels))[:, None]
    missing -= above
    return k, np.einsum("cs,cs->c", missing, missing, dtype=np.float64)


def _line(values: FloatArray, k: FloatArray, given: _Range, levels: int) -> _Range:
    """Return the least-squares line through the values of each level; it starts at zero or above."""
    n = values.shape[1]
    mean_k, mean_a = (x.mean(axis=1, dtype=np.float64) for x in (k, values))
    kk, ka = (np.einsum("cs,cs->c", k, x, dtype=np.float64) / n for x in (k, values))
    variance = kk - mean_k**2
    unit = np.where(variance > 0, (ka - mean_k * mean_a) / np.where(variance > 0, variance, 1), 0)
    floor = mean_a - unit * mean_k
    through_zero = np.where(kk > 0, ka / np.where(kk > 0, kk, 1), 0)
    unit, floor = np.where(floor < 0, through_zero, unit), np.maximum(floor, 0)
    found = _Range(floor.astype(np.float32), (floor + levels * unit).astype(np.float32))
    usable = (found.top > 0) & (found.floor <= HIGHEST_FLOOR * found.top)
    return _Range(np.where(usable, found.floor, given.floor), np.where(usable, found.top, given.top))


def _nearer(best: _Range, least: FloatArray, tried: _Range, error: FloatArray) -> tuple[_Range, FloatArray]:
    """Return the better of two ranges for each channel, and its error."""
    better = error < least
    chosen = _Range(np.where(better, tried.floor, best.floor), np.where(better, tried.top, best.top))
    return chosen, np.where(better, error, least)


def reach_beyond(values: FloatArray, levels: int, weights: Real | None) -> Reach:
    """Return how far thresholds should reach beyond the values: see :func:`chosen_reach`.

    Args:
        values: (channels, rows, positions) float32, rectified.
        levels: n, the levels above zero; a few are no reason to reach further.
        weights: (channels,), what readers make of a channel's error.
    """
    if levels < MANY_LEVELS:
        return Reach()

    def fitted(some: FloatArray) -> Real:
        return np.maximum(some.max(axis=1), 0).astype(np.float64)

    def error(threshold: Real, some: FloatArray) -> Real:
        return _squared_error(np.maximum(some, 0), threshold.astype(np.float32), levels).astype(np.float64)

    return chosen_reach(values, fitted, error, weights)


def percentile_threshold(values: FloatArray, percentile: float) -> FloatArray:
    """Return the given percentile of each channel's activations, (channels,) float32."""
    return np.percentile(np.maximum(values, 0), percentile, axis=1).astype(np.float32)


def _squared_error(values: FloatArray, threshold: FloatArray, levels: int) -> FloatArray:
    step = (threshold / np.float32(levels))[:, None]
    difference = quantise(values, threshold, levels)
    difference *= step
    difference -= values
    error: FloatArray = np.einsum("cs,cs->c", difference, difference, dtype=np.float64)
    return error
