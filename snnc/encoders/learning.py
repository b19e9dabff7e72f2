"""A dictionary that training rows make of another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from snnc.encoders.dictionary import Dictionary
from snnc.encoders.spiketrum import encoded
from snnc.errors import InputError


def learned(
    rows: Sequence[NDArray[np.floating]],
    start: Dictionary,
    spikes_per_second: float,
    passes: int = 3,
    step: float = 1.0,
) -> Dictionary:
    """Return a dictionary adapted to sounds: each atom moves toward what is left where it was used.

    After each pass over the rows, with spikes of size a at times t and residuals r, all atoms move by
    ``g <- g + step sum a r[t : t + samples] / sum a^2`` and get length 1 again (the gradient of the
    squared error, Smith and Lewicki 2006). Nothing is random.

    Args:
        rows: sounds, (samples,) each, of training data.
        start: where to begin.
        spikes_per_second: as for encoding.
        passes: over all rows.
        step: 1 for the least squares of each atom alone.

    Raises:
        InputError: a row cannot be encoded.
    """
    if not len(rows):
        raise InputError("no rows to learn a dictionary from: give training rows")
    found = start
    length = start.atoms.shape[1]
    for _ in range(passes):
        moves, weights = np.zeros_like(found.atoms), np.zeros(len(found.atoms))
        for row in rows:
            made = encoded(row, found, spikes_per_second)
            left = np.pad(made.residual, (0, length))
            for time, channel, size in zip(made.times, made.channels, made.sizes, strict=True):
                moves[channel] += size * left[time : time + length]
                weights[channel] += size * size
        used = weights > 0
        atoms = found.atoms.copy()
        atoms[used] += step * moves[used] / weights[used, None]
        found = Dictionary(atoms / np.linalg.norm(atoms, axis=1, keepdims=True), found.rate)
    return found
