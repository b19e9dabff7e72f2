"""How far the answers of a spiking network are from those of its source."""

from __future__ import annotations

import numpy as np

from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.snn import Readout, SnnGraph

TEMPERATURES = tuple(2 ** (k / 4) for k in range(-12, 5))
"""Factors of the answers among which the divergence takes the best."""


def real_logits(graph: SnnGraph, outputs: NumberArray) -> FloatArray:
    """Return the accumulated read-out, (rows, classes), in units of the source network."""
    (readout,) = graph.of_type(Readout)
    return (outputs * np.float32(readout.scale / graph.timesteps)).astype(np.float32)


def divergence(targets: FloatArray, logits: FloatArray) -> float:
    """Return the mean Kullback-Leibler divergence of softmaxes, in nats, at the best temperature.

    A common factor of the answers changes no decision, so it is not counted as an error.

    Args:
        targets: (rows, classes), the source network's answers before a softmax.
        logits: (rows, classes), in the same units.
    """
    p = log_softmax(targets.astype(np.float64))
    answers = [log_softmax(logits.astype(np.float64) * factor) for factor in TEMPERATURES]
    return min(float((np.exp(p) * (p - q)).sum(axis=1).mean()) for q in answers)


def log_softmax(values: FloatArray) -> FloatArray:
    """Return the logarithm of the softmax of each row."""
    shifted = values - values.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
