"""Prototypes of classes as an int8 linear layer, in integers alone, as a microcontroller computes them.

A row ``x`` belongs to the class whose prototype, the sum ``s_c`` of the counts of its rows, has the largest
cosine with it. The norm of the row is common to all classes, so that the cosine is linear in ``x``. In
int8, with ``e_c = floor(s_c / 2^k_c)``, ``k_c`` the least for which all magnitudes are below 2^16::

    r_c = isqrt(256^2 sum e_c^2),   q = min_c floor(127 r_c / max |e_c|)
    w_c = round(q e_c / r_c),       y_c = w_c x

``q`` is 127 times 256 or more; ``round(a / b) = floor((2 a + b) / (2 b))`` is to the nearest, halves up. All
fits 63 bits.

Sources: Snell et al., "Prototypical Networks for Few-shot Learning", NeurIPS 2017; Qi et al., "Low-Shot
Learning with Imprinted Weights", CVPR 2018 (cosine as a linear layer).
"""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from snnc.errors import UsageError
from snnc.numerics.count_sums import CountSums

FRACTION = 256
"""Units of a norm."""

BITS = 16
"""Of the magnitudes whose squares are summed."""

LIMIT = 127
MOST_FEATURES = 2**14


def prototypes(sums: CountSums) -> NDArray[np.int8]:
    """Return the weights, (classes, F), classes ascending.

    Raises:
        UsageError: a class has silent rows alone, or there are too many counts.
    """
    if sums.features > MOST_FEATURES:
        raise UsageError(f"prototypes take up to {MOST_FEATURES:,} counts a row, not {sums.features:,}")
    short, norms = [], []
    for label in sums.classes:
        row = sums.sums[label].tolist()
        shift = max(0, max(map(abs, row)).bit_length() - BITS)
        row = [value >> shift for value in row]
        norm = isqrt(FRACTION**2 * sum(value * value for value in row))
        if norm == 0:
            raise UsageError(
                f"the rows of class {label} are silent at the cut: nothing can be learned from them"
            )
        short.append(row)
        norms.append(norm)
    q = min(LIMIT * norm // max(map(abs, row)) for norm, row in zip(norms, short, strict=True))
    weight = [[nearest(q * value, norm) for value in row] for norm, row in zip(norms, short, strict=True)]
    return np.array(weight, np.int8)


def nearest(value: int, divisor: int) -> int:
    """Return the integer nearest to a quotient, halves up."""
    return (2 * value + divisor) // (2 * divisor)
