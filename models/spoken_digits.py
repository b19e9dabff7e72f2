"""Spoken digits: features of sound, recordings to train on, and the synthesised rows that are bundled.

    python -m snnc.models.spoken_digits -o models/spoken_digits.npz

makes the bundled rows: English words "zero" to "nine", spoken by the formant synthesiser espeak-ng in several
accents and voices, with noise. Calibration rows and test rows have no voice in common. Nothing is recorded,
so the rows may be given away; figures on real speech are measured on the Free Spoken Digit Dataset, of which
nothing is bundled. Its folder may hold either

- the recordings, ``DIGIT_SPEAKER_INDEX.wav``, of which those with index 0 to 4 are test rows, or
- ``fsdd_train.npz`` and ``fsdd_test_dev.npz`` with arrays ``audio``, ``offsets``, ``y`` and ``rate``.

Source: Jackson et al., Free Spoken Digit Dataset, https://github.com/Jakobovski/free-spoken-digit-dataset
(CC BY-SA 4.0). The mel scale is that of O'Shaughnessy, "Speech Communication", 1987.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import wave
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import click
import numpy as np
from numpy.typing import NDArray

from snnc.errors import InputError, UsageError

Bytes = NDArray[np.uint8]
Sound = NDArray[np.float64]
Split = Literal["train", "test"]

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE = 8000  # samples per second
WINDOW, HOP = 256, 160  # samples: 32 ms every 20 ms
FRAMES, BANDS = 48, 20  # one second, and mel bands up to half the rate
STEP, LEVELS = 2, 30  # decibels of a level, and levels up to the loudest value; what is softer is 0
CALIBRATION_ROWS, TEST_ROWS = 300, 400

ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp")
TRAINING_VOICES = ("m1", "m2", "m3", "m5", "m7", "m8", "f1", "f3", "f5")
TEST_VOICES = ("m4", "m6", "f2", "f4")


def features(sound: Sound) -> Bytes:
    """Return one row of log-mel energies: (FRAMES, BANDS), in steps of ``STEP`` decibels, at most ``LEVELS``.

    Args:
        sound: (samples,) at ``RATE``; its end is cut, or filled up with silence.
    """
    length = (FRAMES - 1) * HOP + WINDOW
    energies = powers(np.pad(sound[:length].astype(float), (0, max(0, length - len(sound)))))
    return levels(energies, float(energies.max()))


def powers(sound: Sound) -> NDArray[np.float64]:
    """Return the energies of the mel bands, (frames, BANDS), in every whole window of a sound, (samples,)."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP] * np.hanning(WINDOW)
    energies: NDArray[np.float64] = np.abs(np.fft.rfft(frames, axis=1)) ** 2 @ filters().T
    return energies


def levels(energies: NDArray[np.float64], loudest: float) -> Bytes:
    """Return energies in steps of ``STEP`` decibels, (frames, BANDS), from 0 to ``LEVELS``.

    Args:
        energies: (frames, BANDS), of :func:`powers`.
        loudest: the energy that becomes ``LEVELS``, as all above it do. Where it is 0, so is everything.
    """
    if loudest <= 0:
        return np.zeros(energies.shape, np.uint8)
    decibels = 10 * np.log10(np.maximum(energies / loudest, 1e-12))
    return np.clip(np.rint(decibels / STEP) + LEVELS, 0, LEVELS).astype(np.uint8)


def filters() -> NDArray[np.float64]:
    """Return triangles of equal width on the mel scale, (BANDS, WINDOW / 2 + 1)."""
    mels = np.linspace(_mel(60.0), _mel(RATE / 2), BANDS + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    bins = np.fft.rfftfreq(WINDOW, 1 / RATE)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles: NDArray[np.float64] = np.maximum(
        0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    )
    return triangles


def _mel(hertz: float) -> float:
    return 2595 * float(np.log10(1 + hertz / 700))


def read(folder: Path, split: Split) -> tuple[Bytes, Bytes]:
    """Return the features of the recordings, (N, FRAMES, BANDS), and their digits, (N,), both uint8.

    Raises:
        InputError: the folder holds neither form, or a file is not what its name says.
    """
    archive = folder / f"fsdd_{'train' if split == 'train' else 'test_dev'}.npz"
    if archive.is_file():
        try:
            with archive.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                audio, offsets, y, rate = (arrays[name] for name in ("audio", "offsets", "y", "rate"))
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{archive}: not an .npz file with audio, offsets, y and rate") from error
        if int(rate) != RATE:
            raise InputError(f"{archive}: {int(rate)} samples per second where {RATE} are needed")
        sounds: Iterable[Sound] = np.split(audio.astype(float), offsets[1:-1].astype(int))
        return np.stack([features(sound) for sound in sounds]), y.astype(np.uint8)
    files = sorted(
        path
        for path in folder.glob("[0-9]_*_*.wav")
        if (int(path.stem.rpartition("_")[2]) < 5) == (split == "test")
    )
    if not files:
        raise InputError(f"{folder}: holds neither {archive.name} nor recordings DIGIT_SPEAKER_INDEX.wav")
    digits = np.array([int(path.name[0]) for path in files], np.uint8)
    return np.stack([features(_read_wave(path.read_bytes(), path.name)) for path in files]), digits


def _read_wave(content: bytes, name: str) -> Sound:
    """Return 16-bit samples of one channel, brought to ``RATE`` by cutting the spectrum."""
    try:
        with wave.open(io.BytesIO(content)) as sound:
            rate, form = sound.getframerate(), (sound.getnchannels(), sound.getsampwidth())
            data = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError) as error:
        raise InputError(f"{name}: not a .wav file ({str(error) or 'it ends too early'})") from error
    if form != (1, 2):
        raise InputError(f"{name}: {form[0]} channels of {8 * form[1]} bits, where 1 of 16 is needed")
    samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(float)
    wanted = round(len(samples) * RATE / rate)
    if wanted == len(samples):
        return samples
    spectrum = np.fft.rfft(samples)[: wanted // 2 + 1]
    resampled: Sound = np.fft.irfft(spectrum, wanted) * (wanted / max(1, len(samples)))
    return resampled


def synthesised(voices: Sequence[str], count: int, seed: int) -> tuple[Bytes, Bytes]:
    """Return features of spoken words, (count, FRAMES, BANDS), and their digits, (count,), both uint8.

    Accent, voice, speed, pitch, place in the second and noise are drawn at random; digits follow each other.

    Args:
        voices: variants of espeak-ng.
        count: how many rows.
        seed: of the draws.

    Raises:
        UsageError: espeak-ng is not installed.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        raise UsageError("espeak-ng, which speaks the words, is not installed: apt install espeak-ng")
    draws = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        voice = f"{draws.choice(ACCENTS)}+{draws.choice(voices)}"
        speed, pitch = str(draws.integers(120, 231)), str(draws.integers(15, 86))
        command = [program, "-v", voice, "-s", speed, "-p", pitch, "--stdout", WORDS[number % len(WORDS)]]
        spoken = subprocess.run(command, capture_output=True, check=True).stdout
        sound = _trimmed(_read_wave(_with_length(spoken), voice))
        sound = np.pad(sound, (int(draws.integers(0, RATE // 5)), 0))
        noise = draws.normal(size=max(len(sound), FRAMES * HOP + WINDOW))
        ratio = draws.uniform(20, 45)  # decibels between the loudest 20 ms and the noise
        loudness = np.sqrt(max(np.convolve(sound**2, np.full(HOP, 1 / HOP), "same").max(), 1e-9))
        noise *= loudness * 10 ** (-ratio / 20)
        noise[: len(sound)] += sound
        rows.append(features(noise))
    return np.stack(rows), (np.arange(count) % len(WORDS)).astype(np.uint8)


def _with_length(content: bytes) -> bytes:
    """Return a .wav file whose header tells its length: one that is written to a pipe cannot."""
    start = content.index(b"data") + 8
    size = len(content) - start
    return (
        content[:4]
        + (len(content) - 8).to_bytes(4, "little")
        + content[8 : start - 4]
        + size.to_bytes(4, "little")
        + content[start:]
    )


def _trimmed(sound: Sound) -> Sound:
    """Return a sound without what is softer than a hundredth of its peak at either end."""
    (loud,) = np.nonzero(np.abs(sound) > 0.01 * np.abs(sound).max())
    return sound[loud[0] : loud[-1] + 1] if len(loud) else sound


@click.command(help=str(__doc__).partition("\n")[0])
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(output: Path) -> None:
    """Write the bundled rows; the same release of espeak-ng gives the same bytes."""
    try:
        calibration_x, calibration_y = synthesised(TRAINING_VOICES, CALIBRATION_ROWS, 1)
        test_x, test_y = synthesised(TEST_VOICES, TEST_ROWS, 2)
    except UsageError as error:
        raise click.ClickException(str(error)) from error
    temporary = output.with_name(f".{output.name}.partial.npz")  # numpy appends .npz to any other name
    np.savez_compressed(
        temporary, calibration_x=calibration_x, calibration_y=calibration_y, test_x=test_x, test_y=test_y
    )
    temporary.replace(output)
    click.echo(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
