"""Values and arrays as plain bytes: an ``.npz`` file in memory, which nothing has to be unpickled of."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InputError

HEAD = "json"
"""Name of the member that holds the values and the names of the arrays, which may be called anything."""

DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, OverflowError, MemoryError)
"""What damaged archives raise beside errors of values."""

Arrays = Mapping[str, NDArray[Any]]


def packed(values: Mapping[str, Any], arrays: Arrays = MappingProxyType({})) -> bytes:
    """Return values and arrays as bytes; the same ones always give the same bytes.

    Args:
        values: what JSON holds.
        arrays: by name.
    """
    text = json.dumps({"values": values, "arrays": list(arrays)}, sort_keys=True)
    members = {str(number): np.asarray(array) for number, array in enumerate(arrays.values())}
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **{HEAD: np.frombuffer(text.encode(), np.uint8)}, **members)
    return stream.getvalue()


def unpacked(data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return what :func:`packed` was given.

    Raises:
        InputError: the bytes are something else.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            head = json.loads(archive[HEAD].tobytes())
            arrays = {str(name): archive[str(number)] for number, name in enumerate(head["arrays"])}
            values = head["values"]
            if not isinstance(values, dict):
                raise TypeError("the values are no object")
            return values, arrays
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        EOFError,
        OSError,
        RuntimeError,
        *DAMAGED,
    ) as error:
        raise InputError(f"{len(data)} bytes are not what a worker of snnc sends: {_line(error)}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
