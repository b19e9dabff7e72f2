"""Weights rounded to integers one after the other, each making up for the errors of those before it.

A weight ``w_i`` that is rounded to ``q_i`` leaves the error ``(q_i - w_i) N_i`` in the current. Counts rise
and fall together, so the weights that are not rounded yet can take most of it back::

    e = (w_i - q_i) / U_ii        w_j <- w_j - e U_ij   for all j > i        C^-1 = U^T U

with the covariance ``C`` of the counts and the upper Cholesky factor ``U`` of its inverse. What all errors
together leave on average is a constant, which a bias takes back.

Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
ICLR 2023; after Hassibi and Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon",
NIPS 1992.
"""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from snnc.ir.graph import IntArray
from snnc.numerics.regression import Float64Array

STRENGTH = 0.01
"""Of the ridge that keeps the inverse from following chance, relative to the mean variance."""


def round_in_turn(weights: Float64Array, covariance: Float64Array, limit: int) -> IntArray:
    """Return integers near the weights whose currents have the least error, (outputs, features) int32.

    For each output the nearest integers are kept where they leave no more error. A weight of zero stays zero.

    Args:
        weights: (outputs, features), in units of the integers.
        covariance: (features, features) of the counts that they weigh.
        limit: the largest magnitude of an integer.
    """
    nearest = np.clip(np.rint(weights), -limit, limit)
    power = float(np.trace(covariance)) / len(covariance)
    if power <= 0:
        return nearest.astype(np.int32)
    order = np.argsort(-np.diag(covariance), kind="stable")
    with threadpool_limits(1):  # the same bits on every number of threads
        damped = covariance[np.ix_(order, order)] + STRENGTH * power * np.eye(len(order))
        factor = np.linalg.cholesky(np.linalg.inv(damped)).T
        left = weights[:, order].copy()
        found = np.zeros_like(left)
        is_synapse = left != 0
        for i in range(len(order)):
            rounded = np.clip(np.rint(left[:, i]), -limit, limit)
            found[:, i] = np.where(is_synapse[:, i], rounded, 0)
            error = (left[:, i] - found[:, i]) / factor[i, i]
            left[:, i:] -= np.outer(error, factor[i, i:])
        in_turn = np.empty_like(found)
        in_turn[:, order] = found
        better = _error(in_turn - weights, covariance) < _error(nearest - weights, covariance)
    return np.where(better[:, None], in_turn, nearest).astype(np.int32)


def _error(difference: Float64Array, covariance: Float64Array) -> Float64Array:
    """Return the mean squared error of each output's current about its mean, (outputs,)."""
    found: Float64Array = np.einsum("of,of->o", difference @ covariance, difference)
    return found
