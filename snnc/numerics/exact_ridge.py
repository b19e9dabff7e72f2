"""Ridge regression from integer sums, with the same bits on every machine.

With the sums of :mod:`snnc.numerics.count_sums` over ``n`` rows of the classes ``c``, one-hot targets and a
bias that is not pulled::

    A = (n G - s s^T) / n^2 + lambda I,   r_c = (n s_c - n_c s) / n^2
    A w_c = r_c,   b_c = (n_c - w_c s) / n

What could cancel is computed in integers and rounded once. ``A = L D L^T`` is then factored in float64 by
operations on whole arrays that add nothing up: each element is one product and one difference after the
other, in one order, whatever the processor and the libraries. So the weights depend on the sums alone.

Source: Golub and Van Loan, "Matrix Computations", section 4.1 (outer-product form of LDL^T).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snnc.errors import UsageError
from snnc.numerics.count_sums import CountSums

Float64Array = NDArray[np.float64]


def ridge(sums: CountSums, strength: float) -> tuple[Float64Array, Float64Array]:
    """Return weights, (classes, F), and biases, (classes,), of the classes that have rows, ascending.

    Args:
        sums: with products.
        strength: lambda, in units of the mean variance of a count.

    Raises:
        UsageError: there is nothing to tell apart: counts that never differ; or the ridge is out of range.
    """
    gram = sums.gram
    if gram is None:
        raise UsageError("a linear head needs sums of products: these are of prototypes")
    n = sums.count
    each = np.array([sums.sums[c] for c in sums.classes], dtype=object)
    counts = np.array([sums.rows[c] for c in sums.classes], dtype=object)
    s = each.sum(axis=0)
    centred = _rounded(n * gram.astype(object) - np.outer(s, s), n * n)
    right = _rounded(n * each - np.outer(counts, s), n * n)
    mean = float(np.add.accumulate(np.diagonal(centred))[-1]) / len(centred)
    if mean <= 0:
        raise UsageError("the counts at the cut are the same on all rows: nothing can be learned from them")
    if not 0 < strength * mean < np.inf:
        raise UsageError(f"a ridge of {strength} is out of range: give one above 0, such as 0.001")
    system = centred.copy()
    system[np.diag_indices_from(system)] += strength * mean
    weight = _solved(system, right)
    moved = _accumulated(weight * _rounded(s, 1))
    bias = (_rounded(counts, 1) - moved) / float(n)
    return weight, bias


def means(sums: CountSums) -> Float64Array:
    """Return the mean counts, (classes, F), of the classes that have rows, ascending."""
    return np.array([_rounded(sums.sums[c].astype(object), sums.rows[c]) for c in sums.classes])


def products(weight: Float64Array, x: Float64Array) -> Float64Array:
    """Return ``weight x^T``, (outputs, rows), for (outputs, F) and (rows, F), summed in one order."""
    return np.array([_accumulated(weight * row) for row in x]).reshape(len(x), len(weight)).T


def _accumulated(values: Float64Array) -> Float64Array:
    """Return the sums of the rows of a matrix, each added up from its first element to its last."""
    found: Float64Array = np.add.accumulate(values, axis=-1)[..., -1]
    return found


def _rounded(values: NDArray[np.object_], divisor: int) -> Float64Array:
    """Return quotients of Python's integers, each rounded once."""
    flat = [value / divisor for value in values.ravel().tolist()]
    return np.array(flat, np.float64).reshape(values.shape)


def _solved(system: Float64Array, right: Float64Array) -> Float64Array:
    """Return ``X`` of ``X A = R``, (outputs, F), for a positive definite ``A``; ``system`` is used up.

    Raises:
        UsageError: it is not positive definite.
    """
    size = len(system)
    x = right.copy()
    pivots = np.empty(size)
    for k in range(size):
        pivot = system[k, k]
        if not pivot > 0:
            raise UsageError("the ridge is too weak for these rows: give more rows, or a larger --ridge")
        pivots[k] = pivot
        column = system[k + 1 :, k] / pivot
        system[k + 1 :, k + 1 :] -= np.multiply.outer(column, system[k, k + 1 :])
        x[:, k + 1 :] -= np.multiply.outer(x[:, k], column)
        system[k + 1 :, k] = column
    x /= pivots
    for k in range(size - 1, 0, -1):
        x[:, :k] -= np.multiply.outer(x[:, k], system[k, :k])
    return x
