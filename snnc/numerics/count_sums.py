"""Sums over rows of integer counts: exact, so that no order of rows and no division into parts changes a bit.

Of rows ``x`` of class ``c``, both heads need no more than ``n_c``, ``s_c = sum x`` and, to fit a linear one,
``G = sum x x^T`` over all classes. All are integers below 2^63, which is proved before anything is summed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from snnc.errors import UsageError
from snnc.ir.graph import IntArray

EXACT = 2**53
"""Below it, sums of integers are exact in float64, in which NumPy multiplies matrices fast."""

LARGEST = 2**63
MOST_FEATURES = 4096
"""Beyond it a Gram matrix takes more than 64 MB, and solving it minutes."""

Wide = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class CountSums:
    """What is kept of rows.

    Attributes:
        features: F.
        rows: ``n_c`` by class.
        sums: ``s_c``, (F,) int64, by class.
        gram: ``G``, (F, F) int64; ``None`` where only prototypes are made.
    """

    features: int
    rows: Mapping[int, int] = field(default_factory=dict)
    sums: Mapping[int, Wide] = field(default_factory=dict)
    gram: Wide | None = None

    @property
    def count(self) -> int:
        """All rows."""
        return sum(self.rows.values())

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes that have rows, ascending."""
        return tuple(sorted(self.rows))

    def equals(self, other: CountSums) -> bool:
        """Whether both are the sums of the same rows, as far as sums tell."""
        return (
            self.rows == other.rows
            and all(np.array_equal(self.sums[c], other.sums[c]) for c in self.classes)
            and (self.gram is None or other.gram is None or np.array_equal(self.gram, other.gram))
        )

    def __add__(self, other: CountSums) -> CountSums:
        """Return the sums over the rows of both.

        Raises:
            UsageError: they exceed 63 bits.
        """
        rows, sums = dict(self.rows), dict(self.sums)
        for label in other.classes:
            rows[label] = rows.get(label, 0) + other.rows[label]
            sums[label] = _added(sums[label], other.sums[label]) if label in sums else other.sums[label]
        gram = None if self.gram is None or other.gram is None else _added(self.gram, other.gram)
        return CountSums(self.features, rows, sums, gram)


def _added(one: Wide, other: Wide) -> Wide:
    """Return the sum of two arrays; what is proved of each of them says nothing of both."""
    found = one + other
    if (((one ^ found) & (other ^ found)) < 0).any():  # the sign of neither
        raise UsageError(
            "the sums over the rows of all edits exceed 63 bits: revoke an edit, or cut behind a layer with "
            "smaller counts"
        )
    return found


def total(parts: Iterable[CountSums]) -> CountSums:
    """Return the sums over the rows of all parts, of which there is one at least."""
    first, *others = parts
    for part in others:
        first = first + part
    return first


def check_size(features: int, rows: int, bound: int, *, gram: bool) -> None:
    """Refuse sums that could exceed 63 bits, or a Gram matrix that is too large.

    Args:
        features: F.
        rows: so many are summed at most.
        bound: the largest magnitude of a count.
        gram: whether products are summed.

    Raises:
        UsageError: saying what is too large.
    """
    if gram and features > MOST_FEATURES:
        raise UsageError(
            f"{features:,} counts a row are too many for a linear head, which takes {MOST_FEATURES:,}: cut "
            "behind a layer with fewer, or take --head prototype"
        )
    largest = bound * bound if gram else bound
    if rows * max(largest, 1) >= LARGEST or (gram and largest >= EXACT):
        raise UsageError(f"counts of up to {bound:,} on {rows:,} rows could exceed 63 bits: give fewer rows")


def summed(counts: IntArray, labels: IntArray, bound: int, *, gram: bool) -> CountSums:
    """Return the sums over rows.

    Args:
        counts: (rows, F) integers of magnitudes up to ``bound``.
        labels: (rows,) classes.
        bound: proved of the network.
        gram: whether to sum products, too.

    Raises:
        UsageError: they could exceed 63 bits.
    """
    features = counts.shape[1]
    check_size(features, len(counts), bound, gram=gram)
    classes, rows = np.unique(labels, return_counts=True)
    sums = {int(c): counts[labels == c].sum(axis=0, dtype=np.int64) for c in classes}
    products = None
    if gram:
        products = np.zeros((features, features), np.int64)
        chunk = max(1, min(8192, (EXACT - 1) // max(bound * bound, 1)))
        for start in range(0, len(counts), chunk):
            part = counts[start : start + chunk].astype(np.float64)
            products += (part.T @ part).astype(np.int64)  # every partial sum is an integer below 2^53
    return CountSums(features, {int(c): int(n) for c, n in zip(classes, rows, strict=True)}, sums, products)
