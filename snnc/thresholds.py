"""Where to clip an activation: percentile, maximum, and the closed form of the least squared error."""

from __future__ import annotations

from enum import Enum

import numpy as np

from snnc.ir.graph import FloatArray


class Method(Enum):
    """How a threshold is found.

    ``MSE``, ``PERCENTILE`` and ``MAXIMUM`` look at a layer's activations alone. ``LEARN`` begins with the
    first and then searches on the finished network: see :mod:`snnc.learning`.
    """

    MSE = "mse"
    PERCENTILE = "percentile"
    MAXIMUM = "max"
    LEARN = "learn"


SCALES = np.linspace(1.0, 0.06, 24, dtype=np.float32)
"""Fractions of the maximum from which the fixed-point iteration picks its start."""

LLOYD_ROUNDS = 6


def quantise(values: FloatArray, threshold: FloatArray, levels: int) -> FloatArray:
    """Return the counts ``k = clip(floor(n a / theta + 1/2), 0, n)`` of a population of ``n`` levels.

    Args:
        values: (channels, samples).
        threshold: (channels,), positive.
        levels: n.
    """
    step = (threshold / np.float32(levels))[:, None]
    return np.clip(np.floor(values / step + np.float32(0.5)), 0, levels)


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


def percentile_threshold(values: FloatArray, percentile: float) -> FloatArray:
    """Return the given percentile of each channel's activations, (channels,) float32."""
    return np.percentile(np.maximum(values, 0), percentile, axis=1).astype(np.float32)


def _squared_error(values: FloatArray, threshold: FloatArray, levels: int) -> FloatArray:
    step = (threshold / np.float32(levels))[:, None]
    difference = quantise(values, threshold, levels) * step - values
    return np.einsum("cs,cs->c", difference, difference, dtype=np.float64)
