"""Weights fitted to spikes by ridge regression, the same bits on every number of threads.

Inputs are spike counts, small integers: a product of two of them is an integer, and a chunk of rows is
kept so short that every partial sum is exact in float32, or in float64 where one product alone is beyond
that. Such a Gram matrix is exact whatever the order of summation. The right-hand sides are real numbers;
they are summed in chunks of a fixed size, in order, by one thread each.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from threadpoolctl import threadpool_limits

from snnc.ir.bounds import EXACT_FLOAT32
from snnc.ir.graph import FloatArray, IntArray
from snnc.scale.plain import packed
from snnc.scale.tasks import Arrays, Blob, Found, Task
from snnc.scale.workers import Workers

Float64Array = NDArray[np.float64]

CHUNK = 4096
"""Rows per partial sum of the right-hand sides."""

CHUNKS = 4
"""Partial sums of one task, where workers multiply."""


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


def normal_equations(
    counts: Sequence[IntArray], targets: FloatArray, workers: Workers | None = None, threads: int = 1
) -> Normal:
    """Sum up the normal equations.

    Args:
        counts: blocks of columns, each (rows, features) integers.
        targets: (rows, outputs).
        workers: who multiplies; the sums are the same bits whoever does, for products are of fixed chunks of
            rows, the Gram matrices are exact, and the right-hand sides are added in the order of the rows.
        threads: how many multiply where there are no workers; likewise without a difference.

    Returns:
        The equations of all columns side by side, and a last column of ones for the bias.
    """
    rows = len(targets)
    largest = max((max(int(block.max(initial=0)), -int(block.min(initial=0))) for block in counts), default=0)
    square = max(1, largest * largest)
    dtype = np.float32 if square < EXACT_FLOAT32 else np.float64
    chunk = min(CHUNK, (EXACT_FLOAT32 - 1) // square) if dtype is np.float32 else CHUNK
    features = sum(block.shape[1] for block in counts) + 1
    gram = np.zeros((features, features))
    cross = np.zeros((features, targets.shape[1]))
    size = chunk * CHUNKS
    if workers is None or rows <= size:
        starts = range(0, rows, chunk)
        multiplied = partial(_product, counts, targets, chunk, dtype)
        with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
            for first in range(0, len(starts), threads):  # no more products at once than threads
                for part_gram, part_cross in pool.map(multiplied, starts[first : first + threads]):
                    gram += part_gram
                    cross += part_cross
        return Normal(gram, cross, rows)

    def task(start: int) -> Task:
        part = slice(start, start + size)
        arrays = {f"block:{index}": narrow(block[part]) for index, block in enumerate(counts)}
        values = {"chunk": chunk, "dtype": np.dtype(dtype).str, "blocks": len(counts)}
        label = f"positions {start} to {min(start + size, rows) - 1} of a regression"
        return Task("products", packed(values, {**arrays, "targets": targets[part]}), label=label)

    for done in workers.results(map(task, range(0, rows, size))):
        gram += done.arrays["gram"]
        for part_cross in done.arrays["cross"]:
            cross += part_cross
    return Normal(gram, cross, rows)


def _product(
    counts: Sequence[IntArray], targets: FloatArray, chunk: int, dtype: DTypeLike, start: int
) -> tuple[FloatArray, FloatArray]:
    """Return Gram matrix and right-hand side of a chunk of rows, (features, ...) in the given type."""
    part = slice(start, start + chunk)
    y = targets[part].astype(dtype, copy=False)
    x = np.ones((len(y), sum(block.shape[1] for block in counts) + 1), dtype)
    column = 0
    for block in counts:
        x[:, column : column + block.shape[1]] = block[part]
        column += block.shape[1]
    return x.T @ x, x.T @ y


def narrow(counts: IntArray) -> IntArray:
    """Return integers in eight bits if they fit, else as they are."""
    small = counts.astype(np.int8)
    return small if np.array_equal(small, counts) else counts


def products(values: dict[str, Any], arrays: Arrays, blobs: Sequence[Blob]) -> Found:
    """Multiply some chunks of rows, in a worker: the exact sum of Gram matrices, and each right-hand side."""
    counts = [arrays[f"block:{index}"] for index in range(int(values["blocks"]))]
    targets, chunk, dtype = arrays["targets"], int(values["chunk"]), np.dtype(values["dtype"])
    parts = [_product(counts, targets, chunk, dtype, start) for start in range(0, len(targets), chunk)]
    gram = np.zeros(parts[0][0].shape)
    for each, _ in parts:
        gram += each
    return {}, {"gram": gram, "cross": np.stack([cross for _, cross in parts])}


def penalty_of(gram: Float64Array, strength: float) -> float:
    """Return ``lambda`` for a Gram matrix by rows, (features, features), and a relative strength."""
    return strength * max(float(np.trace(gram)) / len(gram), 1e-12)


def ridge(
    normal: Normal, start: Float64Array, strength: float, kept: NDArray[np.bool_] | None = None
) -> Float64Array:
    """Return the weights with the least squared error that stay near ``start``.

    ``w = w0 + (X^T X + n lambda I)^-1 X^T (y - X w0)`` with ``lambda = strength`` times the mean of the
    diagonal of ``X^T X / n``; the bias, the last feature, is pulled as well.

    Args:
        normal: the equations.
        start: (features, outputs), ``w0``.
        strength: relative, positive.
        kept: (features, outputs), the weights that may move; the others stay as they are in ``start``, and
            what the rest makes up for is solved again for each pattern. All may move by default.

    Raises:
        numpy.linalg.LinAlgError: the system has no unique solution even with the ridge.
    """
    gram = normal.gram / normal.rows
    penalty = penalty_of(gram, strength)
    with threadpool_limits(1):
        # Products and solvers may differ in the last bit between thread counts; those of one thread may not.
        residual = normal.cross / normal.rows - gram @ start
        system = gram + penalty * np.eye(len(gram))
        step: Float64Array = np.linalg.solve(system, residual).astype(np.float64, copy=False)
        if kept is not None and not kept.all():
            step = _restricted(system, residual.astype(np.float64, copy=False), step, kept)
    if not np.isfinite(step).all():
        raise np.linalg.LinAlgError("the fitted weights are not finite")
    return start + step


def _restricted(
    system: Float64Array, residual: Float64Array, step: Float64Array, kept: NDArray[np.bool_]
) -> Float64Array:
    """Return the steps of least error that are zero where nothing may move.

    Outputs of the same pattern are solved together. With ``S`` what moves and ``Z`` what does not, that is
    ``A_SS x_S = r_S``, or by the Gram matrix's inverse ``x - A^-1_:Z (A^-1_ZZ)^-1 x_Z`` with the free step
    ``x``: whichever system is smaller, so that neither few zeros nor many are slow.

    Args:
        system: (features, features), ``A``, positive definite.
        residual: (features, outputs), ``r``.
        step: (features, outputs), the solution without restriction.
        kept: (features, outputs), what may move.
    """
    step = step.copy()
    patterns, which = np.unique(kept, axis=1, return_inverse=True)
    inverse: Float64Array | None = None
    for index, free in enumerate(patterns.T):
        outputs = np.flatnonzero(which.reshape(-1) == index)
        if free.all():
            continue
        still = ~free
        if still.sum() < free.sum():
            if inverse is None:
                inverse = np.linalg.inv(system).astype(np.float64, copy=False)
            pull = np.linalg.solve(inverse[np.ix_(still, still)], step[np.ix_(still, outputs)])
            step[:, outputs] -= inverse[:, still] @ pull
        else:
            solved = np.linalg.solve(system[np.ix_(free, free)], residual[np.ix_(free, outputs)])
            step[np.ix_(free, outputs)] = solved
        step[np.ix_(still, outputs)] = 0
    return step
