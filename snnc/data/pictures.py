"""Pictures as rows, read by Pillow: 8 bits, one channel or three, every pixel as it is in the file."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from snnc.data.decoding import MODES, Decoding
from snnc.errors import InputError, UsageError
from snnc.ir.graph import NumberArray

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES: tuple[str, ...] = (
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
"""Endings of file names that are pictures, in small letters."""

MOST_PIXELS = 2**26
"""Most pixels of one picture, by its header: a file of a few bytes can claim far more than memory holds."""

DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, struct.error)
"""What Pillow's readers raise for damaged files."""


def read_picture(path: Path, decoding: Decoding) -> NumberArray:
    """Read a picture.

    Args:
        path: the file.
        decoding: what is done to it.

    Returns:
        (height, width) or (height, width, 3) uint8.

    Raises:
        InputError: it cannot be read, is too large, or has another mode than is wanted.
        UsageError: Pillow is not installed.
    """
    with _opened(path) as picture:
        changed = _prepared(path, _in_mode(path, picture, decoding.mode), decoding)
        return np.asarray(changed, np.uint8)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture whose header is plausible, and turn what its reader raises into one line."""
    try:
        from PIL import Image
    except ImportError:
        raise UsageError(
            f"{path} is a picture, and pillow, which reads it, is not installed: pip install pillow"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are checked here, and of odd metadata
            with Image.open(path) as picture:
                _check_header(path, picture)
                yield picture
    except Image.DecompressionBombError:
        raise InputError(_too_large(path, "more pixels than any picture")) from None
    except InputError:
        raise
    except MemoryError:
        raise InputError(_too_large(path, "more than memory holds")) from None
    except DAMAGED as error:
        reason = (
            " ".join(str(getattr(error, "strerror", None) or error).split())[:120] or type(error).__name__
        )
        raise InputError(
            f"{path} cannot be read as a picture: {reason}; copy it again or leave it out"
        ) from None


def _check_header(path: Path, picture: Image.Image) -> None:
    """Refuse, before any pixel is decoded, what is no single picture of a plausible size."""
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise InputError(_too_large(path, f"{width} x {height} pixels"))
    if getattr(picture, "n_frames", 1) > 1:
        raise InputError(f"{path} holds several pictures: save each in a file of its own")


def _too_large(path: Path, what: str) -> str:
    return f"{path} claims {what}; at most {MOST_PIXELS:,} are read: make it smaller or leave it out"


def _in_mode(path: Path, picture: Image.Image, wanted: str | None) -> Image.Image:
    """Return a picture of one of the modes that become rows."""
    mode = picture.mode
    if "transparency" in picture.info:
        raise InputError(f"{path} is a picture with transparent pixels: {resave(mode)}")
    if _is_deep(picture):
        raise InputError(f"{path} is a picture of more than 8 bits, {mode}: {resave('I')}")
    if mode in MODES and wanted in (None, mode):
        return picture
    if wanted is None or mode not in (*MODES, "P", "1"):
        cure = "set `mode` to RGB or L in the preprocessing" if mode in ("P", "1") else resave(mode)
        raise InputError(f"{path} is {described(mode)}: {cure}")
    return picture.convert(wanted)


def _is_deep(picture: Image.Image) -> bool:
    """Whether Pillow would cut samples of more than 8 bits down to 8 without a word."""
    deep = False
    for tile in getattr(picture, "tile", ()):
        parts = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        deep |= any(isinstance(part, str) and ";16" in part for part in parts)
        deep |= picture.format == "PPM" and any(isinstance(part, int) and part > 255 for part in parts[1:2])
    return deep


def described(mode: str) -> str:
    """Return what a picture of a mode is, in words."""
    named = {
        "1": "a picture of 1 bit",
        "P": "a picture with a palette",
        "PA": "a picture with a palette and transparency",
        "RGBA": "a picture with transparency, RGBA",
        "LA": "a picture with transparency, LA",
        "CMYK": "a picture for printing, CMYK",
        "F": "a picture of 32-bit floats",
    }
    if mode.startswith("I"):
        return f"a picture of more than 8 bits, {mode}"
    return named.get(mode, f"a picture of mode {mode}")


def resave(mode: str) -> str:
    """Return how a picture of a mode that becomes no row is brought to one that does."""
    if mode.startswith("I") or mode == "F":
        return "scale it to 8 bits as in training, and save it again; or give the rows as an .npz file"
    return "save it as RGB or as one channel, L, as in training"


def _prepared(path: Path, picture: Image.Image, decoding: Decoding) -> Image.Image:
    """Resize a picture and cut its centre out."""
    from PIL import Image

    if decoding.resize is not None:
        picture = picture.resize(
            _new_size(picture.size, decoding.resize), Image.Resampling[decoding.interpolation.upper()]
        )
    if decoding.crop is None:
        return picture
    high, wide = decoding.crop
    width, height = picture.size
    if high > height or wide > width:
        raise InputError(
            f"{path} is {height} x {width} where {high} x {wide} are cut out: give a larger `resize` or a "
            "smaller `crop`"
        )
    top, left = round((height - high) / 2), round((width - wide) / 2)
    return picture.crop((left, top, left + wide, top + high))


def _new_size(size: tuple[int, int], resize: Any) -> tuple[int, int]:
    """Return (width, height) after a resize; the longer side is rounded down, as torchvision does."""
    if not isinstance(resize, int):
        return resize[1], resize[0]
    width, height = size
    if width <= height:
        return resize, max(1, int(resize * height / width))
    return max(1, int(resize * width / height)), resize
