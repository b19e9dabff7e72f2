"""Training rows: those that are learned from, and those that are held back to decide."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from snnc.data.preprocessing import Preprocessing, for_inputs, prepared_rows
from snnc.errors import InputError
from snnc.frontend import SourceModel
from snnc.ir.batch import Batch, Rows, rows_of
from snnc.ir.graph import FloatArray, IntArray, NumberArray

MOST_HELD = 2000
"""Rows that decide at most: a difference of two points shows on them."""

FEWEST_ROWS = 50
"""Rows below which nothing is learned."""

CALIBRATED = 1000
"""Of the training rows, those that the passes of the compiler look at."""

CHUNK = 1000


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRows:
    """Rows as they are stored, and how they become what the graph takes.

    Attributes:
        raw: (n, ...) rows.
        labels: (n, ...) of each output that is learned from, by its name.
        source: the network.
        preprocessing: from ``raw`` to what its file takes.
        name: what the rows are called in messages.
        trained: indices of the rows that are learned from, ascending.
        held: indices of the others.
    """

    raw: Rows
    labels: Mapping[str, NumberArray]
    source: SourceModel
    preprocessing: Preprocessing | None
    name: str
    trained: IntArray
    held: IntArray

    @classmethod
    def split(
        cls,
        raw: Rows,
        labels: Mapping[str, NumberArray],
        source: SourceModel,
        preprocessing: Preprocessing | None,
        name: str,
        share: float,
    ) -> TrainingRows:
        """Hold a share of the rows back, spread over all of them.

        Raises:
            InputError: there are too few.
        """
        count = len(raw)
        if count < FEWEST_ROWS:
            raise InputError(f"{name} are {count} rows, too few to learn from: give at least {FEWEST_ROWS}")
        held = spread(np.arange(count), min(max(int(share * count), 1), MOST_HELD))
        return cls(raw, labels, source, preprocessing, name, np.setdiff1d(np.arange(count), held), held)

    def prepared(self, indices: IntArray) -> dict[str, FloatArray]:
        """Return rows as the graph takes them, (n, *shape) float32, by the inputs' names.

        Raises:
            InputError: they do not fit the network.
        """
        taken: dict[str, NumberArray] = {}
        several = len(self.source.takes) > 1
        prepares = for_inputs(self.preprocessing, self.source.takes)
        for given, form in self.source.takes.items():
            what = f"{self.name} for {given!r}" if several else self.name
            taken[given] = prepared_rows(rows_of(self.raw, given)[indices], form, prepares[given], what)
        known = taken if self.source.host is None else self.source.host.before(taken)
        return dict(self.source.entries(known))

    def everything(self, indices: IntArray) -> dict[str, FloatArray]:
        """Return many rows, prepared a few at a time."""
        parts = [self.prepared(indices[at : at + CHUNK]) for at in range(0, len(indices), CHUNK)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def calibration(self) -> Rows:
        """Return the rows that the compiler's passes look at, as they are stored."""
        return self.raw[spread(self.trained, CALIBRATED)]

    def labels_of(self, indices: IntArray) -> dict[str, NumberArray]:
        """Return the labels of some rows."""
        return {name: labels[indices] for name, labels in self.labels.items()}

    @property
    def digest(self) -> str:
        """Hash of rows and labels."""
        found = hashlib.sha256()
        arrays = self.raw.arrays if isinstance(self.raw, Batch) else {"": self.raw}
        for name, array in (*arrays.items(), *self.labels.items()):
            found.update(f"{name} {array.dtype} {array.shape}".encode())
            for start in range(0, len(array), CHUNK):
                found.update(np.ascontiguousarray(array[start : start + CHUNK]).tobytes())
        return found.hexdigest()


def spread(items: IntArray, most: int) -> IntArray:
    """Return at most so many of the items, evenly."""
    count = min(most, len(items))
    return items[np.arange(count) * len(items) // max(count, 1)]
