"""Small pictures and sounds, and some whose headers claim what nothing holds."""

from __future__ import annotations

import io
import random
import struct
import wave
import zlib

import numpy as np
from PIL import Image

ENDINGS = {
    "png": "PNG",
    "bmp": "BMP",
    "gif": "GIF",
    "tif": "TIFF",
    "jpg": "JPEG",
    "ppm": "PPM",
    "webp": "WEBP",
}
SIZES = (0, 1, 255, 8192, 65_535, 2**20, 2**31 - 1)
"""Widths and heights that a forged header claims."""


def recording(rng: random.Random) -> tuple[str, bytes]:
    """Return the name and the bytes of a file."""
    kind = rng.random()
    if kind < 0.25:
        return "sound.wav", _sound(rng)
    if kind < 0.45:
        return "picture.png", _forged(rng)
    ending = rng.choice(list(ENDINGS))
    file = io.BytesIO()
    pixels = np.frombuffer(rng.randbytes(5 * 7 * 3), np.uint8).reshape(5, 7, 3)
    picture = Image.fromarray(pixels)
    if rng.random() < 0.3:
        picture = picture.convert(rng.choice(("L", "P", "1")))
    if ending in ("jpg", "webp", "ppm"):
        picture = picture.convert("RGB")
    picture.save(file, ENDINGS[ending])
    return f"picture.{ending}", file.getvalue()


def _sound(rng: random.Random) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(rng.choice((1, 2)))
        sound.setsampwidth(rng.choice((1, 2, 3, 4)))
        sound.setframerate(16_000)
        sound.writeframes(rng.randbytes(240))
    data = file.getvalue()
    if rng.random() < 0.4:  # another length of the file, the format or the samples
        place = rng.choice((4, 16, 22, 24, 34, 40))
        data = (
            data[:place]
            + struct.pack("<I", rng.choice((0, 1, 2**16, 2**31 - 1, 2**32 - 1)))
            + data[place + 4 :]
        )
    return data


def _forged(rng: random.Random) -> bytes:
    """Return a PNG that is valid but for its size, or that unpacks to far more than it is."""
    size = [rng.choice(SIZES) for _ in range(2)]
    packed = zlib.compress(bytes(rng.choice((10, 2**20, 2**24))), 9)
    chunks = (
        (
            b"IHDR",
            struct.pack(
                ">IIBBBBB", *size, rng.choice((8, 16)), rng.choice((0, 2, 3)), 0, 0, rng.choice((0, 1))
            ),
        ),
        (rng.choice((b"IDAT", b"zTXt", b"iCCP")), packed),
        (b"IDAT", packed),
        (b"IEND", b""),
    )
    framed = (
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)
