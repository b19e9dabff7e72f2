"""Pictures and sounds of noise, and what is read of a path."""

from __future__ import annotations

import wave
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from snnc.data.material import Material, read_material
from snnc.data.preprocessing import Preprocessing
from snnc.errors import InputError


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (8, 6), **options: Any) -> np.ndarray:
    """Write a picture of noise; ``size`` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    values = np.random.default_rng(zlib.crc32(path.name.encode())).integers(0, 256, shape, np.uint8)
    Image.fromarray(values).save(path, **options)
    return values


def sound(path: Path, frames: bytes, width: int = 2, channels: int = 1, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setsampwidth(width)
        file.setnchannels(channels)
        file.setframerate(rate)
        file.writeframes(frames)


def refused(path: Path, preprocessing: dict[str, Any] | None = None) -> str:
    given = None if preprocessing is None else Preprocessing.from_dict(preprocessing)
    with pytest.raises(InputError) as caught:
        read_material(path, given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(path: Path, **preprocessing: Any) -> Material:
    return read_material(path, Preprocessing.from_dict(preprocessing))
