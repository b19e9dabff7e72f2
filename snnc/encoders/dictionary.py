"""Dictionaries of short sounds, such as gammatones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from snnc.errors import UsageError

Floats = NDArray[np.float64]

ORDER, BANDWIDTH = 4, 1.019
"""Order of the filters, and their bandwidth in equivalent rectangular bandwidths (Patterson et al. 1987)."""


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Short sounds of one length.

    Attributes:
        atoms: (channels, samples), each of length 1.
        rate: samples per second.
    """

    atoms: Floats
    rate: int

    @cached_property
    def products(self) -> NDArray[np.float32]:
        """Return the inner products of all pairs, (channels, channels, 2 samples - 1), by their shift.

        Entry (c, d, samples - 1 + k) is that of atom c, moved by k samples, with atom d.
        """
        length = self.atoms.shape[1]
        size = 2 * length - 1
        spectra = np.fft.rfft(self.atoms, size)
        cross = np.fft.irfft(spectra[:, None].conj() * spectra[None], size)
        # Negative shifts stand at the end; atom c moved by k meets d where d is read k later.
        return np.roll(cross, length - 1, axis=2).astype(np.float32)


def gammatones(
    rate: int, channels: int = 32, lowest: float = 80.0, highest: float | None = None, samples: int = 400
) -> Dictionary:
    """Return gammatones, ``t^3 exp(-2 pi b ERB(f) t) cos(2 pi f t)``, of length 1.

    Centre frequencies are equally spaced on the scale of equivalent rectangular bandwidths,
    ``ERB(f) = 24.7 + f / 9.265`` Hz (Glasberg and Moore 1990).

    Args:
        rate: samples per second.
        channels: how many.
        lowest: centre frequency in Hz.
        highest: likewise, 0.45 of the rate by default.
        samples: length; low ones are cut there.

    Raises:
        UsageError: the frequencies are not in order, or beyond half the rate.
    """
    top = 0.45 * rate if highest is None else highest
    if not 0 < lowest < top <= rate / 2:
        raise UsageError(
            f"gammatones from {lowest:g} to {top:g} Hz at {rate} samples a second: give frequencies in "
            "order, up to half the rate"
        )
    corner = 24.7 * 9.265  # Hz, where the scale turns from linear to logarithmic
    steps = np.linspace(math.log1p(lowest / corner), math.log1p(top / corner), channels)
    centres = np.expm1(steps) * corner
    t = np.arange(samples) / rate
    width = BANDWIDTH * (24.7 + centres / 9.265)
    envelope = t ** (ORDER - 1) * np.exp(-2 * np.pi * width[:, None] * t)
    atoms = envelope * np.cos(2 * np.pi * centres[:, None] * t)
    return Dictionary(atoms / np.linalg.norm(atoms, axis=1, keepdims=True), rate)
