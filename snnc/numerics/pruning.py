"""Which weights of a least-squares fit go: optimal brain surgeon on the normal equations.

With the error ``J(w) = |y - X w|^2 / n + lambda |w - w0|^2`` and ``A = X^T X / n + lambda I``, taking out the
weight ``w_q`` and fitting the others anew raises the error by ``w_q^2 / [A^-1]_qq``. The weights that raise
it least go, in rounds: after each, the others are fitted and the curvature is taken anew, without those that
are gone.

Sources: Hassibi and Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", NeurIPS
1992; for one layer of a trained network Frantar and Alistarh, "Optimal Brain Compression", NeurIPS 2022. N of
M neighbours: Mishra et al., "Accelerating Sparse Deep Neural Networks", arXiv 2104.08378 (2021).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from snnc.errors import UsageError
from snnc.ir.graph import IntArray
from snnc.numerics.regression import Float64Array, Normal, penalty_of

Mask = NDArray[np.bool_]

ROUNDS = 3
"""Rounds in which weights are taken out."""

MOST_WORK = 1e11
"""Multiplications of a round, beyond which all weights go in one: each output has its own curvature."""


@dataclass(frozen=True, slots=True)
class Sparsity:
    """How many weights of a layer stay.

    Attributes:
        density: share of all weights of the layer, whichever matter most; 1 where a pattern decides.
        n, m: of M weights that read neighbouring channels N stay; 0 for no pattern.
    """

    density: float = 1.0
    n: int = 0
    m: int = 0

    @classmethod
    def of(cls, density: float, pattern: str) -> Sparsity | None:
        """Return what a density and a pattern ``N:M`` ask for; ``None`` where all weights stay.

        Raises:
            UsageError: the pattern is none, or both are given.
        """
        if not pattern:
            return None if density == 1 else cls(density)
        match = re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", pattern)
        if match is None or int(match[1]) >= int(match[2]):
            raise UsageError(f"pattern {pattern} is not N:M with 0 < N < M, such as 2:4")
        if density != 1:
            raise UsageError(f"the pattern {pattern} sets the density: leave density={density:g} out")
        return cls(n=int(match[1]), m=int(match[2]))

    def blocks(self, channels: int, positions: int) -> IntArray:
        """Return which weights of an output are neighbours, by number, (channels * positions,).

        Args:
            channels: that a synapse reads.
            positions: of its kernel; neighbours have the same.
        """
        where = np.arange(channels)[:, None] // max(self.m, 1) * positions + np.arange(positions)
        return where.reshape(-1)


def kept_weights(
    normal: Normal,
    start: Float64Array,
    strength: float,
    free: Mask,
    sparsity: Sparsity,
    blocks: IntArray,
) -> Mask:
    """Return which weights stay, (features, outputs); the bias, the last feature, always does.

    Args:
        normal: the equations.
        start: (features, outputs), ``w0``.
        strength: of the ridge, as in :func:`snnc.numerics.regression.ridge`.
        free: (features, outputs), weights that there are: what is zero already counts as gone.
        sparsity: how many stay.
        blocks: (features - 1,), which of them are neighbours.
    """
    gram = normal.gram / normal.rows
    penalty = penalty_of(gram, strength)
    system = gram + penalty * np.eye(len(gram))
    wanted = normal.cross / normal.rows + penalty * start
    # What an output varies by: an error there counts by it.
    power = np.maximum(np.einsum("fo,fo->o", start, gram @ start) - (gram[-1] @ start) ** 2, 1e-30)
    kept = free.copy()
    rounds = ROUNDS if len(system) ** 3 * start.shape[1] <= MOST_WORK else 1
    with threadpool_limits(1):  # whose products are the same bits everywhere
        for number in range(1, rounds + 1):
            rise = _rise(system, wanted, kept) / power
            kept = _chosen(rise, kept, sparsity, blocks, number / rounds)
    return kept


def _rise(system: Float64Array, wanted: Float64Array, kept: Mask) -> Float64Array:
    """Return by how much the error rises without each of the weights that are left, (features, outputs)."""
    rise = np.zeros(kept.shape)
    patterns, which = np.unique(kept, axis=1, return_inverse=True)
    for index, free in enumerate(patterns.T):
        outputs = np.flatnonzero(which.reshape(-1) == index)
        inverse = np.linalg.inv(system[np.ix_(free, free)])
        weights = inverse @ wanted[np.ix_(free, outputs)]
        rise[np.ix_(free, outputs)] = weights**2 / np.diag(inverse)[:, None]
    return rise


def _chosen(rise: Float64Array, kept: Mask, sparsity: Sparsity, blocks: IntArray, done: float) -> Mask:
    """Return the weights that stay after a share ``done`` of the rounds."""
    rise = np.where(kept, rise, -1)[:-1]  # without the bias
    found = kept.copy()
    if sparsity.m:
        stay = sparsity.m - round((sparsity.m - sparsity.n) * done)
        order = np.lexsort((-rise, np.broadcast_to(blocks[:, None], rise.shape)), axis=0)
        rank = np.empty_like(order)
        starts = np.concatenate([[0], np.flatnonzero(np.diff(np.sort(blocks))) + 1])
        sizes = np.diff([*starts, len(blocks)])
        within = np.arange(len(blocks)) - np.repeat(starts, sizes)
        np.put_along_axis(rank, order, np.broadcast_to(within[:, None], order.shape), axis=0)
        found[:-1] &= rank < stay
        return found
    count = round(rise.size * (1 - (1 - sparsity.density) * done))
    gone = np.argsort(rise, axis=None, kind="stable")[: rise.size - count]
    found[:-1].reshape(-1)[gone] = False
    return found
