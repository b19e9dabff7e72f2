"""How far the answers of a spiking network are from those of its source: the error by which passes decide.

Class scores are compared by the divergence of their softmaxes, which counts no error that changes no
decision. Of one output that divergence is always 0, and of several numbers it sees neither a common shift
nor a common factor. So numbers are compared by their squared error, relative to how much the source varies.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.snn import Readout, SnnGraph
from snnc.metrics.task import Task, behaves_as_classifier

TEMPERATURES = tuple(2 ** (k / 4) for k in range(-12, 5))
"""Factors of the answers among which the divergence takes the best."""

HARDLY_VARIES = 0.3
"""Of a typical output's variance: below it an output is not divided by its own, which may be noise."""

NOTHING = 1e-30


class AnswerError(Enum):
    """The error of answers that passes lower; the value is its name in the artefact's record."""

    DIVERGENCE = "divergence"
    SQUARED = "relative squared error"

    def of(self, targets: FloatArray, answers: FloatArray) -> float:
        """Return the error of answers, (rows, outputs), from the source network's before a softmax."""
        return (divergence if self is AnswerError.DIVERGENCE else relative_error)(targets, answers)


def answer_error(task: Task | None, targets: FloatArray) -> AnswerError:
    """Return by which error answers are judged; where the task is not evident, their behaviour decides.

    Args:
        task: what the outputs are, if it is known.
        targets: (rows, outputs), the source network's answers before a softmax.
    """
    scores = targets.shape[1] > 1 and (
        task is Task.CLASSES or (task is None and behaves_as_classifier(targets))
    )
    return AnswerError.DIVERGENCE if scores else AnswerError.SQUARED


def real_logits(graph: SnnGraph, outputs: NumberArray) -> FloatArray:
    """Return the accumulated read-out, (rows, classes), in units of the source network."""
    (readout,) = graph.of_type(Readout)
    return (outputs * np.float32(readout.scale / graph.timesteps)).astype(np.float32)


def relative_error(targets: FloatArray, answers: FloatArray) -> float:
    """Return the mean over outputs of ``E[(y - s)^2] / var(s)``; 1 is what the mean of the source reaches.

    An output that hardly varies beside the typical one, the lower median, is divided by a share of the
    typical variance instead: a pixel that is nearly always black shall not outweigh all others.

    Args:
        targets: (rows, outputs), ``s``, the source network's answers.
        answers: (rows, outputs), ``y``, in the same units.
    """
    s = targets.astype(np.float64)
    errors = np.square(answers.astype(np.float64) - s).mean(axis=0)
    variances = s.var(axis=0)
    alive = np.sort(variances[variances > 0])
    typical = alive[(len(alive) - 1) // 2] if len(alive) else np.square(s).mean()
    return float((errors / np.maximum(variances, max(HARDLY_VARIES * typical, NOTHING))).mean())


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
