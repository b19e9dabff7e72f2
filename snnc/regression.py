"""Weights fitted to spikes by ridge regression, the same bits on every number of threads.

Inputs are spike counts, small integers: a product of two of them is an integer, and a chunk of rows is
kept so short that every partial sum is exact in float32, or in float64 where one product alone is beyond
that. Such a Gram matrix is exact whatever the order of summation. The right-hand sides are real numbers;
they are summed in chunks of a fixed size, in order, by one thread each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from snnc.ir.bounds import EXACT_FLOAT32
from snnc.ir.graph import FloatArray, IntArray

Float64Array = NDArray[np.float64]

CHUNK = 4096
"""Rows per partial sum of the right-hand sides."""


@dataclass(frozen=True, slots=True)
class Normal:
    """Normal equations of ``y = X w`` over sampled positions.

    Attributes:
        gram: (features, features) float64, ``X^T X``, exact.
        cross: (features, outputs) float64, ``X^T Y``.
        rows: number of rows.
    """

    gram: Float64Array
    cross: Float64Array
    rows: int


def normal_equations(counts: Sequence[IntArray], targets: FloatArray) -> Normal:
    """Sum up the normal equations.

    Args:
        counts: blocks of columns, each (rows, features) integers.
        targets: (rows, outputs).

    Returns:
        The equations of all columns side by side, and a last column of ones for the bias.
    """
    rows = len(targets)
    largest = max((int(max(block.max(initial=0), -block.min(initial=0))) for block in counts), default=0)
    square = max(1, largest * largest)
    dtype = np.float32 if square < EXACT_FLOAT32 else np.float64
    chunk = min(CHUNK, (EXACT_FLOAT32 - 1) // square) if dtype is np.float32 else CHUNK
    features = sum(block.shape[1] for block in counts) + 1
    gram = np.zeros((features, features))
    cross = np.zeros((features, targets.shape[1]))
    with threadpool_limits(1):
        for start in range(0, rows, chunk):
            part = slice(start, start + chunk)
            columns = [block[part].astype(dtype) for block in counts]
            x = np.concatenate([*columns, np.ones((len(columns[0]), 1), dtype)], axis=1)
            gram += x.T @ x
            cross += x.T @ targets[part].astype(dtype)
    return Normal(gram, cross, rows)


def ridge(normal: Normal, start: Float64Array, strength: float) -> Float64Array:
    """Return the weights with the least squared error that stay near ``start``.

    ``w = w0 + (X^T X + n lambda I)^-1 X^T (y - X w0)`` with ``lambda = strength`` times the mean of the
    diagonal of ``X^T X / n``; the bias, the last feature, is pulled as well.

    Args:
        normal: the equations.
        start: (features, outputs), ``w0``.
        strength: relative, positive.

    Raises:
        numpy.linalg.LinAlgError: the system has no unique solution even with the ridge.
    """
    gram = normal.gram / normal.rows
    penalty = strength * max(float(np.trace(gram)) / len(gram), 1e-12)
    with threadpool_limits(1):
        # Products and solvers may differ in the last bit between thread counts; those of one thread may not.
        residual = normal.cross / normal.rows - gram @ start
        step = np.linalg.solve(gram + penalty * np.eye(len(gram)), residual)
    if not np.isfinite(step).all():
        raise np.linalg.LinAlgError("the fitted weights are not finite")
    return start + step
