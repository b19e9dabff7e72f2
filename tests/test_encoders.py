"""Sound as spikes: held to a plain matching pursuit, to equations, and to sounds whose spikes are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from snnc.encoders import Dictionary, Spiketrum, delta_spikes, encoded, gammatones, learned, log_mel
from snnc.encoders.spiketrum import quick_length
from snnc.errors import InputError, NonFiniteError, UsageError

RATE = 8000
SMALL = gammatones(RATE, channels=6, lowest=200, samples=70)


def noise(samples: int = 700, seed: int = 0) -> np.ndarray:
    """Return noise that swells."""
    return np.random.default_rng(seed).normal(0, 1, samples) * np.linspace(0.2, 1, samples)


def plain(x: np.ndarray, dictionary: Dictionary, count: int) -> list[tuple[int, int, float]]:
    """Search all products anew for each spike."""
    length = dictionary.atoms.shape[1]
    left, found = np.pad(x, (0, length - 1)), []
    for _ in range(count):
        products = np.lib.stride_tricks.sliding_window_view(left, length) @ dictionary.atoms.T
        time, channel = np.unravel_index(np.abs(products).argmax(), products.shape)
        size = products[time, channel]
        left[time : time + length] -= size * dictionary.atoms[channel]
        found.append((int(time), int(channel), float(size)))
    return found


class TestDictionary:
    def test_gammatones(self) -> None:
        found = gammatones(RATE, channels=16, lowest=100)
        assert np.allclose(np.linalg.norm(found.atoms, axis=1), 1)
        peaks = np.abs(np.fft.rfft(found.atoms, 8000)).argmax(axis=1)  # in Hz
        assert (np.diff(peaks) > 0).all()
        assert peaks[0] == pytest.approx(100, abs=15)
        assert peaks[-1] == pytest.approx(3600, rel=0.02)

    def test_products_of_shifted_atoms(self) -> None:
        length = SMALL.atoms.shape[1]
        for c, d, shift in ((0, 0, 0), (1, 4, 13), (5, 2, -40)):
            a, b = np.zeros(3 * length), np.zeros(3 * length)
            a[length + shift : 2 * length + shift], b[length : 2 * length] = SMALL.atoms[c], SMALL.atoms[d]
            assert SMALL.products[c, d, length - 1 + shift] == pytest.approx(a @ b, abs=1e-6)

    def test_frequencies(self) -> None:
        with pytest.raises(UsageError, match="gammatones from 80 to 5000 Hz at 8000 samples"):
            gammatones(RATE, highest=5000)

    def test_learning_lowers_the_error(self) -> None:
        rows = [noise(seed=seed) for seed in range(3)]
        found = learned(rows, SMALL, 300, passes=2)
        assert np.allclose(np.linalg.norm(found.atoms, axis=1), 1)
        for row in rows:
            assert encoded(row, found, 300).snr > encoded(row, SMALL, 300).snr
        with pytest.raises(InputError, match="no rows to learn"):
            learned([], SMALL, 300)


class TestSpiketrum:
    def test_like_a_plain_matching_pursuit(self) -> None:
        x = noise()
        found = encoded(x, SMALL, 40 * RATE / len(x))
        expected = plain(x, SMALL, 40)
        assert list(zip(found.times.tolist(), found.channels.tolist(), strict=True)) == [
            spike[:2] for spike in expected
        ]
        assert np.allclose(found.sizes, [size for *_, size in expected], rtol=1e-4)

    def test_energy_and_prefixes(self) -> None:
        x = noise()
        many, few = encoded(x, SMALL, 600), encoded(x, SMALL, 200)
        assert np.array_equal(many.times[: len(few.times)], few.times)
        assert many.snr > few.snr > 0
        cut = many.first(len(few.times), x, SMALL)
        assert np.array_equal(cut.residual, few.residual)
        assert np.allclose(cut.sound(SMALL) + cut.residual, x)
        left = (x**2).sum() - (
            few.sizes**2
        ).sum()  # each spike takes its energy away, at the end beyond the sound
        assert (few.residual**2).sum() <= left * (1 + 1e-4)
        again = encoded(x, SMALL, 600)
        assert np.array_equal(again.sizes, many.sizes)

    def test_atoms_are_found_again(self) -> None:
        x = np.zeros(500)
        x[100:170] += 3 * SMALL.atoms[2]
        x[300:370] -= 2 * SMALL.atoms[5]
        found = encoded(x, SMALL, 2 * RATE / 500)
        assert found.times.tolist() == [100, 300]
        assert found.channels.tolist() == [2, 5]
        assert np.allclose(found.sizes, [3, -2], rtol=1e-5)
        assert found.snr > 80

    @pytest.mark.parametrize("samples", [1, 63, 65, 100])
    def test_no_spike_behind_the_end(self, samples: int) -> None:
        """Lengths that fill no whole blocks, loudest at their end."""
        found = encoded(np.geomspace(0.01, 1, samples), SMALL, 20 * RATE)
        assert (found.times < samples).all()
        assert samples == 1 or found.snr > 5  # an atom begins with zero

    def test_frames(self) -> None:
        found = Spiketrum(
            np.array([0, 99, 50, 120]),
            np.array([0, 1, 1, 0]),
            np.array([8.0, -3, 1, 5]),
            200,
            np.zeros(200),
            1.0,
        )
        assert found.frames(2, 2).tolist() == [[1, 2], [1, 0]]
        assert found.frames(2, 2, samples=100).tolist() == [[1, 0], [0, 2]]
        assert found.frames(1, 2, levels=3).tolist() == [[6, 3]]
        assert math.isinf(found.snr)

    @pytest.mark.parametrize(
        ("x", "error", "said"),
        [
            (np.zeros(100), InputError, "silent"),
            (np.full(100, np.nan), NonFiniteError, "NaN"),
            (np.ones((2, 100)), InputError, "of shape \\(2, 100\\)"),
            (np.ones(0), InputError, "of shape \\(0,\\)"),
        ],
    )
    def test_no_sounds(self, x: np.ndarray, error: type[Exception], said: str) -> None:
        with pytest.raises(error, match=said):
            encoded(x, SMALL, 100)
        with pytest.raises(UsageError, match="0 spikes a second"):
            encoded(noise(), SMALL, 0)


class TestOthers:
    def test_delta_follows_within_a_step(self) -> None:
        values = np.cumsum(np.random.default_rng(0).normal(0, 1, (50, 3)), axis=0)
        found = delta_spikes(values, 0.5)
        followed = np.cumsum(found[:, 3:] - found[:, :3], axis=0) * 0.5
        assert (np.abs(followed - values) < 0.5 + 1e-9).all()
        assert not delta_spikes(np.full((9, 2), 0.4), 0.5).any()
        with pytest.raises(UsageError, match="a step of 0"):
            delta_spikes(values, 0)

    def test_log_mel_of_a_tone(self) -> None:
        found = log_mel(np.sin(2 * np.pi * 1000 * np.arange(4000) / RATE), RATE)
        assert found.shape == (50, 32)
        assert found.max() == 6
        assert found.min() >= 0
        edges = np.linspace(2595 * math.log10(1 + 50 / 700), 2595 * math.log10(1 + 4000 / 700), 34)
        band = np.abs(edges[1:-1] - 2595 * np.log10(1 + 1000 / 700)).argmin()
        assert (found[5:-5].argmax(axis=1) == band).all()
        with pytest.raises(InputError, match="silent"):
            log_mel(np.zeros(100), RATE)


@pytest.mark.parametrize("least", [1, 2, 7, 255, 256, 80_255, 81_001])
def test_lengths_of_quick_transforms(least: int) -> None:
    found = quick_length(least)
    assert _is_smooth(found)
    assert not any(map(_is_smooth, range(least, found)))


def _is_smooth(n: int) -> bool:
    for factor in (2, 3, 5):
        while n % factor == 0:
            n //= factor
    return n == 1
