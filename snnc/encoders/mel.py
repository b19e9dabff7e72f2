"""Log-mel spectra, beside which spikes of sound are judged."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InputError

FLOOR = 1e-6
"""Least energy, relative to the largest of the sound, of which a logarithm is taken."""


def log_mel(
    x: NDArray[np.floating], rate: int, bands: int = 32, window: float = 0.025, hop: float = 0.01
) -> NDArray[np.float32]:
    """Return the logarithm of the energy in mel bands, relative to the largest.

    Args:
        x: (samples,) a sound.
        rate: samples per second.
        bands: triangular, between 50 Hz and half the rate, ``mel = 2595 log10(1 + f / 700)``.
        window: seconds of the Hann window.
        hop: seconds from one to the next.

    Returns:
        (frames, bands), from 0 down to log10 of 1e-6, plus 6: 0 to 6.

    Raises:
        InputError: it is no sound of one channel, or silent.
    """
    sound = np.asarray(x, np.float64)
    if sound.ndim != 1 or not sound.any():
        raise InputError("a sound is silent, or has several channels: leave it out, or mix it")
    width, step = round(window * rate), round(hop * rate)
    padded = np.pad(sound, (width // 2, width))
    parts = np.lib.stride_tricks.sliding_window_view(padded, width)[: len(sound) : step]
    power = np.abs(np.fft.rfft(parts * np.hanning(width), 512)) ** 2
    mel = np.linspace(_mel(50), _mel(rate / 2), bands + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequency = np.linspace(0, rate / 2, power.shape[1])
    rise = (frequency - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - frequency) / np.diff(edges)[1:, None]
    energy = power @ np.clip(np.minimum(rise, fall), 0, None).T
    found: NDArray[np.float32] = (np.log10(np.maximum(energy / energy.max(), FLOOR)) + 6).astype(np.float32)
    return found


def _mel(frequency: float) -> float:
    return 2595 * math.log10(1 + frequency / 700)
