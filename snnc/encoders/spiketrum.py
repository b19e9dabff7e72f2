"""Sound as sparse spikes: matching pursuit on a dictionary (Neural Spiketrum, 2023).

Repeat ``(c, t) = arg max |<r, g_c(t)>|``, send a spike of channel c at time t with the size of that
product, and take ``<r, g> g`` from r; r begins as the sound. The number of spikes a second sets the quality;
the first of many are those of few. Matching pursuit: Mallat and Zhang, "Matching pursuits with time-frequency
dictionaries", 1993; of sound: Smith and Lewicki, "Efficient auditory coding", 2006.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.encoders.dictionary import Dictionary, Floats
from snnc.errors import InputError, NonFiniteError, UsageError

BLOCK = 64
"""Samples of which the largest product is kept, so that not all are searched."""


@dataclass(frozen=True, slots=True)
class Spiketrum:
    """Spikes of one sound, in the order in which they were found: the largest first.

    Attributes:
        times: (n,) the sample at which each atom begins.
        channels: (n,) the atom.
        sizes: (n,) what it is multiplied by, with its sign.
        samples: length of the sound.
        residual: (samples,) what the spikes leave of it.
        power: mean square of the sound.
    """

    times: NDArray[np.int64]
    channels: NDArray[np.int64]
    sizes: Floats
    samples: int
    residual: Floats
    power: float

    @property
    def snr(self) -> float:
        """Power of the sound by that of what is left, in dB; infinite where nothing is."""
        left = float(np.mean(self.residual**2))
        return float("inf") if left == 0 else 10 * float(np.log10(self.power / left))

    def sound(self, dictionary: Dictionary) -> Floats:
        """Return what the spikes stand for, (samples,): the sum of their atoms."""
        length = dictionary.atoms.shape[1]
        found = np.zeros(self.samples + length)
        for time, channel, size in zip(self.times, self.channels, self.sizes, strict=True):
            found[time : time + length] += size * dictionary.atoms[channel]
        return found[: self.samples]

    def first(self, count: int, x: NDArray[np.floating], dictionary: Dictionary) -> Spiketrum:
        """Return the first spikes alone: those that a lower rate gives for the same sound x, (samples,)."""
        few = replace(
            self, times=self.times[:count], channels=self.channels[:count], sizes=self.sizes[:count]
        )
        return replace(few, residual=np.asarray(x, np.float64) - few.sound(dictionary))

    def frames(
        self, steps: int, channels: int, samples: int | None = None, levels: int = 1
    ) -> NDArray[np.float32]:
        """Count the spikes into frames of equal length.

        Args:
            steps: how many frames.
            channels: of the dictionary.
            samples: what the frames span from the first sample on; later spikes are left out. The whole
                sound by default.
            levels: the most that a spike counts: so much for sizes above half of the largest of the sound,
                one less for each further half, and 1 at least.

        Returns:
            (steps, channels) of spikes.
        """
        span = samples or self.samples
        inside = self.times < span
        found = np.zeros((steps, channels), np.float32)
        amount = np.ones(len(self.times), np.float32)
        if levels > 1 and len(self.sizes):
            below = np.floor(np.log2(np.abs(self.sizes).max() / np.abs(self.sizes)))
            amount = np.clip(levels - below, 1, levels).astype(np.float32)
        np.add.at(found, (self.times[inside] * steps // span, self.channels[inside]), amount[inside])
        return found


def encoded(x: NDArray[np.floating], dictionary: Dictionary, spikes_per_second: float) -> Spiketrum:
    """Return the spikes of a sound; the same on every run.

    Args:
        x: (samples,) a sound of the dictionary's rate.
        dictionary: of atoms.
        spikes_per_second: how many spikes to send, rounded to one at least; fewer where nothing is left.

    Raises:
        InputError: it is no sound of one channel, or silent.
        NonFiniteError: it holds NaN or infinity.
        UsageError: the number of spikes is not positive.
    """
    if not 0 < spikes_per_second < float("inf"):
        raise UsageError(f"{spikes_per_second} spikes a second: give a positive number")
    sound = np.asarray(x, np.float64)
    if sound.ndim != 1 or not len(sound):
        raise InputError(f"a sound of shape {sound.shape}: give (samples,) of one channel")
    if not np.isfinite(sound).all():
        raise NonFiniteError("a sound holds NaN or infinity: leave it out")
    largest = float(np.abs(sound).max())
    if largest == 0:
        raise InputError("a sound is silent: leave it out")
    atoms = dictionary.atoms
    length = atoms.shape[1]
    count = max(1, round(spikes_per_second * len(sound) / dictionary.rate))
    size = quick_length(len(sound) + length - 1)
    spectrum = np.fft.rfft(sound / largest, size)
    products = np.fft.irfft(spectrum * np.fft.rfft(atoms, size).conj(), size)[:, : len(sound)]
    blocks = -(-len(sound) // BLOCK)
    padded = np.zeros((len(atoms), blocks * BLOCK), np.float32)
    padded[:, : len(sound)] = products
    times, channels, sizes = _pursuit()(padded, padded.view(np.int32), dictionary.products, len(sound), count)
    made = Spiketrum(
        times,
        channels,
        sizes.astype(np.float64) * largest,
        len(sound),
        sound,
        float(np.mean(sound**2)),
    )
    return made.first(count, sound, dictionary)


def quick_length(least: int) -> int:
    """Return the smallest product of 2, 3 and 5 from ``least`` on: other lengths take longer."""
    best = 1 << (least - 1).bit_length()
    fives = 1
    while fives < best:
        threes = fives
        while threes < best:
            twos = -(-least // threes)
            best = min(best, threes << (twos - 1).bit_length())
            threes *= 3
        fives *= 5
    return best


@cache
def _pursuit() -> Any:
    """Return the compiled search."""
    from numba import njit

    @njit
    def pursuit(products: Any, bits: Any, pairs: Any, samples: int, count: int) -> Any:
        # Rows are filled up to whole blocks, behind the samples, where products stay zero.
        channels = len(products)
        reach = (pairs.shape[2] - 1) // 2
        best = np.zeros((products.shape[1] // BLOCK, channels), np.int32)
        top = np.zeros(len(best), np.int32)
        times, chosen = np.zeros(count, np.int64), np.zeros(count, np.int64)
        sizes = np.zeros(count, np.float32)
        first, end, start, size, channel, found = 0, samples, 0, np.float32(0), 0, 0
        while True:
            for c in range(channels):
                if size != 0:
                    row, pair = products[c, first:end], pairs[c, channel, start : start + end - first]
                    for at in range(len(row)):
                        row[at] -= size * pair[at]
                for b in range(first // BLOCK, (end - 1) // BLOCK + 1):
                    # Magnitudes of floats are in the order of their bits as integers, whose maximum is quick.
                    most = np.int32(0)
                    for at in range(b * BLOCK, (b + 1) * BLOCK):
                        most = max(most, bits[c, at] & np.int32(0x7FFFFFFF))
                    best[b, c] = most
            for b in range(first // BLOCK, (end - 1) // BLOCK + 1):
                top[b] = best[b].max()
            block = int(np.argmax(top))
            if found == count or top[block] == 0:
                return times[:found], chosen[:found], sizes[:found]
            channel = int(np.argmax(best[block]))
            time = block * BLOCK
            while bits[channel, time] & np.int32(0x7FFFFFFF) != top[block]:
                time += 1
            size = products[channel, time]
            times[found], chosen[found], sizes[found] = time, channel, size
            found += 1
            first, end = max(0, time - reach), min(samples, time + reach + 1)
            start = first - (time - reach)

    return pursuit
