"""Judge a NumPy file by its headers, before anything is unpacked or allocated.

A header may state sizes that the file does not hold, and a compressed file may unpack to a thousand times its
size. Both are found without reading the arrays.
"""

from __future__ import annotations

import math
import os
import tokenize
import zipfile
import zlib
from typing import IO

import numpy as np

UNREADABLE = (
    EOFError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
)
"""What NumPy and ``zipfile`` raise for files that are damaged, packed in another way, or encrypted."""

SUSPECT_BYTES = 512 << 20
SUSPECT_RATIO = 100
"""Beyond so many bytes, arrays that unpack to so many times their size are refused: rows of data do not."""


class SwollenError(ValueError):
    """A file would unpack to far more than it holds."""


def check_sizes(stream: IO[bytes]) -> None:
    """Refuse a file whose arrays are larger than what it holds; the stream is at its start afterwards.

    Args:
        stream: of a ``.npy`` or ``.npz`` file, at its start.

    Raises:
        SwollenError: it would unpack to far more than it holds.
        ValueError: a header states more than there is; or anything of ``UNREADABLE``.
    """
    size = os.fstat(stream.fileno()).st_size
    beginning = stream.read(4)
    stream.seek(0)
    if beginning.startswith(b"PK"):
        with zipfile.ZipFile(stream) as archive:
            for member in archive.infolist():
                ratio = member.file_size / max(member.compress_size, 1)
                if member.file_size > SUSPECT_BYTES and ratio > SUSPECT_RATIO:
                    size_text = f"{member.file_size / 2**30:.1f} GiB, {ratio:.0f} times its size"
                    raise SwollenError(f"{member.filename} unpacks to {size_text}")
                if member.filename.endswith(".npy"):
                    with archive.open(member) as inner:
                        _check_header(inner, member.file_size)
    else:
        _check_header(stream, size)
    stream.seek(0)


def _check_header(stream: IO[bytes], size: int) -> None:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        return  # refused by NumPy, which is told not to unpickle
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"its header states {shape} of {dtype}, which is more than the file holds")
