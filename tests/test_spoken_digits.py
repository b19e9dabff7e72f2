"""Features of spoken digits: they find tones, keep to their range, and are read from both forms."""

from __future__ import annotations

import shutil
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc import models
from snnc.errors import InputError, UsageError
from snnc.models import spoken_digits
from snnc.models.spoken_digits import (
    BANDS,
    FRAMES,
    HOP,
    LEVELS,
    RATE,
    WINDOW,
    features,
    levels,
    powers,
    read,
    synthesised,
)


def tone(hertz: float, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    return 8000 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def write_wave(path: Path, samples: np.ndarray, rate: int = RATE) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(samples.astype("<i2").tobytes())


def test_a_tone_is_loudest_in_its_band_and_silent_behind_its_end() -> None:
    lowest, highest = 2595 * np.log10(1 + np.array([60.0, RATE / 2]) / 700)
    centres = np.linspace(lowest, highest, BANDS + 2)[1:-1]
    for hertz in (300, 1000, 3000):
        row = features(tone(hertz))
        assert row.shape == (FRAMES, BANDS)
        assert row.dtype == np.uint8
        assert row.max() == LEVELS
        nearest = int(np.abs(centres - 2595 * np.log10(1 + hertz / 700)).argmin())
        assert abs(int(row[5].argmax()) - nearest) <= 1
        assert not row[RATE // 2 // HOP + 1 :].any()
    assert not features(np.zeros(100)).any()


def test_loudness_does_not_count_and_long_sounds_are_cut() -> None:
    sound = tone(700, 3)
    np.testing.assert_array_equal(features(sound), features(sound / 50))
    length = (FRAMES - 1) * HOP + WINDOW
    np.testing.assert_array_equal(features(sound), features(sound[:length]))


def test_levels_count_from_any_loudness_and_end_at_both_ends() -> None:
    sound = tone(700)[: 5 * HOP + WINDOW]
    energies = powers(sound)
    assert energies.shape == (6, BANDS)
    loudest = float(energies.max())
    np.testing.assert_array_equal(levels(energies, loudest), features(sound)[:6])
    softer = levels(energies, 100 * loudest)  # 20 dB
    np.testing.assert_array_equal(softer, np.maximum(levels(energies, loudest).astype(int) - 10, 0))
    assert levels(energies, loudest / 100).max() == LEVELS
    assert not levels(energies, 0.0).any()


def test_both_forms_of_the_recordings_are_read(tmp_path: Path) -> None:
    sounds = [tone(hertz).astype(np.int16) for hertz in (400, 800, 1200)]
    for digit, sound in enumerate(sounds):
        write_wave(tmp_path / f"{digit}_someone_{digit * 3}.wav", sound)  # 0 and 3 are test rows, 6 is not
    x, y = read(tmp_path, "test")
    assert y.tolist() == [0, 1]
    np.testing.assert_array_equal(x[0], features(sounds[0].astype(float)))
    assert read(tmp_path, "train")[1].tolist() == [2]
    offsets = np.cumsum([0, *map(len, sounds[:2])])
    packed: dict[str, Any] = {
        "audio": np.concatenate(sounds[:2]),
        "offsets": offsets,
        "y": [0, 1],
        "rate": RATE,
    }
    np.savez(tmp_path / "fsdd_test_dev.npz", **packed)
    again = read(tmp_path, "test")
    np.testing.assert_array_equal(again[0], x)
    np.testing.assert_array_equal(again[1], y)


def test_a_sound_of_another_rate_is_resampled(tmp_path: Path) -> None:
    write_wave(tmp_path / "7_someone_0.wav", tone(1000, rate=22050), 22050)
    (found,), _ = read(tmp_path, "test")
    assert np.abs(found[:20].astype(int) - features(tone(1000))[:20]).max() <= 3


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"RIFF", r"7_a_0\.wav: not a \.wav file"), (None, "holds neither fsdd_test_dev.npz nor recordings")],
)
def test_bad_recordings_are_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "7_a_0.wav").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path, "test")


def test_the_synthesiser_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="apt install espeak-ng"):
        synthesised(spoken_digits.TEST_VOICES, 1, 0)


def test_the_bundled_rows_are_made_again() -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    entry = models.resolve("zoo:spoken-digits")
    for voices, seed, (x, y) in (
        (spoken_digits.TRAINING_VOICES, 1, models.calibration_data(entry)),
        (spoken_digits.TEST_VOICES, 2, models.test_data(entry)),
    ):
        again, labels = synthesised(voices, 3, seed)
        assert np.abs(again.astype(int) - x[:3]).max() <= 1  # another FFT may round otherwise
        np.testing.assert_array_equal(labels, y[:3])
    assert not set(spoken_digits.TRAINING_VOICES) & set(spoken_digits.TEST_VOICES)
