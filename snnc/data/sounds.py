"""Sounds as rows: PCM in .wav files, by the standard library, every sample in [-1, 1)."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np

from snnc.data.decoding import Decoding
from snnc.errors import InputError
from snnc.ir.graph import FloatArray

SUFFIXES: tuple[str, ...] = (".wav",)
MOST_SAMPLES = 2**28
"""Most samples of one sound, by its header."""


def read_sound(path: Path, decoding: Decoding) -> tuple[FloatArray, int]:
    """Read a sound and its rate.

    Samples of 8 bits are unsigned, ``(v - 128) / 128``; of 16, 24 and 32 bits signed, ``v / 2**(bits - 1)``.

    Args:
        path: the file.
        decoding: the rate that it must have, and the length that it gets.

    Returns:
        (samples,) float32 of one channel, (samples, channels) of several, which are never mixed; and the
        samples per second.

    Raises:
        InputError: it is damaged or empty, is not PCM, or has another rate than is wanted.
    """
    try:
        with wave.open(str(path), "rb") as sound:
            width, channels, rate = sound.getsampwidth(), sound.getnchannels(), sound.getframerate()
            frames = sound.getnframes()
            if frames * channels > MOST_SAMPLES:
                raise InputError(f"{path} claims {frames:,} samples: cut it, or leave it out")
            if frames == 0:  # which padding would make a row of zeros
                raise InputError(f"{path} holds no samples: leave it out")
            wanted = frames if decoding.samples is None else min(frames, decoding.samples)
            data = sound.readframes(wanted)
    except (
        wave.Error,
        EOFError,
        RuntimeError,
        ValueError,
        struct.error,
    ) as error:  # of chunks beyond the end
        reason = str(error) or "it ends too early"
        cure = "save it as PCM of 8, 16, 24 or 32 bits"
        raise InputError(f"{path} cannot be read as a sound: {reason}; {cure}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    if width not in (1, 2, 3, 4):
        raise InputError(f"{path} has samples of {8 * width} bits: save it with 8, 16, 24 or 32")
    if len(data) < wanted * channels * width:
        raise InputError(f"{path} is cut short: copy it again, or leave it out")
    if decoding.sample_rate is not None and rate != decoding.sample_rate:
        raise InputError(
            f"{path} has {rate} samples per second where `sample_rate` is {decoding.sample_rate}: resample it"
        )
    x = _scaled(data, width).reshape(-1, channels)
    if decoding.samples is not None:
        x = np.pad(x, ((0, decoding.samples - len(x)), (0, 0)))
    return (x[:, 0] if channels == 1 else x), rate


def _scaled(data: bytes, width: int) -> FloatArray:
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if width == 3:  # the three bytes become the upper ones of four
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        whole = wide.view("<i4").ravel()
    else:
        whole = np.frombuffer(data, f"<i{width}")
    bits = 32 if width == 3 else 8 * width
    return (whole / 2.0 ** (bits - 1)).astype(np.float32)
