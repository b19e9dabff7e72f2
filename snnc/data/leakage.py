"""Recognising rows that a conversion has seen, by a short hash of each."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from snnc.errors import InputError
from snnc.ir.graph import IntArray

HASH_BYTES = 8
"""Two different rows of a million would share a hash with a chance of one in forty million."""


def row_hashes(parts: Iterable[IntArray]) -> str:
    """Return the hashes of all rows, each once, in the order of their values: the same for any order of rows.

    Args:
        parts: (n, *input shape) each, the quantised input: what the network cannot tell apart counts as one.

    Returns:
        Base64 text; 1,000 rows take 11 kB.
    """
    return base64.b64encode(b"".join(sorted({found for q in parts for found in _hashes(q)}))).decode("ascii")


def merged(stored: Sequence[str]) -> str:
    """Return the hashes of several sets of rows as those of one, each once.

    Raises:
        InputError: a stored text is damaged.
    """
    return base64.b64encode(b"".join(sorted(set().union(*map(_stored, stored))))).decode("ascii")


def count_seen(stored: str, q: IntArray) -> int:
    """Return how many rows of ``q`` are among those that ``stored`` was made from.

    Raises:
        InputError: the stored text is damaged.
    """
    known = _stored(stored)
    return sum(found in known for found in _hashes(q))


def _stored(text: str) -> set[bytes]:
    """Return the hashes that a text holds."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InputError("the artefact's record of its calibration rows is damaged; convert again") from error
    return {data[start : start + HASH_BYTES] for start in range(0, len(data), HASH_BYTES)}


def _hashes(q: IntArray) -> list[bytes]:
    rows = np.ascontiguousarray(q, "<i4")
    return [hashlib.blake2b(row.tobytes(), digest_size=HASH_BYTES).digest() for row in rows]
