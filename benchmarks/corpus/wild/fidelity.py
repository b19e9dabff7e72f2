"""How near answers come to those of the source, the mean of the source removed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def sqnr(
    source: NDArray[np.float64], spiking: NDArray[np.float64], mean: float | None = None
) -> float | None:
    """Return ``10 log10(sum (s - mean s)^2 / sum (y - s)^2)`` in dB; ``None`` where the source never varies.

    Args:
        source: (rows, ...), s; the mean is over all rows and values.
        spiking: likewise, y.
        mean: what is taken away in its place; 0 for a signal of which the mean is a part.
    """
    signal = float(np.square(source - (source.mean() if mean is None else mean)).sum())
    noise = float(np.square(spiking - source).sum())
    if not signal:
        return None
    return float(10 * np.log10(signal / noise)) if noise else float("inf")


def cosine(source: NDArray[np.float64], spiking: NDArray[np.float64]) -> float | None:
    """Return the cosine of both, the source's mean removed from both; ``None`` where one does not vary."""
    mean = source.mean()
    s, y = (source - mean).ravel(), (spiking - mean).ravel()
    length = float(np.linalg.norm(s) * np.linalg.norm(y))
    return float(s @ y) / length if length else None
