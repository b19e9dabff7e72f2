"""The error of a spiking network's answers against those of its source, by which passes decide.

Class scores are compared by the divergence of their softmaxes, which ignores errors that change no
decision. For one output this divergence is always 0, and for several numbers it ignores a common shift
and a common factor. Numbers are therefore compared by their squared error, relative to the variance of the
source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from snnc.errors import InternalError
from snnc.ir.batch import Batch, Rows, joined, rows_of
from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.snn import SnnGraph
from snnc.metrics.task import Task, behaves_as_classifier

TEMPERATURES = tuple(2 ** (k / 4) for k in range(-12, 5))
"""Factors of the answers among which the divergence takes the best."""

HARDLY_VARIES = 0.3
"""Of a typical output's variance: below it an output is not divided by its own, which may be noise."""

NOTHING = 1e-30

COLUMNS = 1 << 14
"""Outputs that are compared at once, however many a map has."""


class AnswerError(Enum):
    """The error of answers that passes lower; the value is its name in the artefact's record."""

    DIVERGENCE = "divergence"
    SQUARED = "relative squared error"

    def of(self, targets: Rows, answers: Rows) -> float:
        """Return the error of one output's answers, (rows, *shape), from the source's before a softmax."""
        if isinstance(targets, Batch) or isinstance(answers, Batch):
            raise InternalError("the answers of several outputs are judged one by one")
        flat = (values.reshape(len(values), -1) for values in (targets, answers))
        return (divergence if self is AnswerError.DIVERGENCE else relative_error)(*flat)

    def single(self, _name: str) -> AnswerError:
        """Return the error of one output; of the one that there is."""
        return self


@dataclass(frozen=True, slots=True)
class AnswersError:
    """The error of the answers of several outputs: the mean of each one's.

    Attributes:
        each: the error of each output, by its name.
    """

    each: Mapping[str, AnswerError]

    @property
    def value(self) -> str:
        """Its name in the artefact's record."""
        return "mean of " + ", ".join(f"{error.value} of {name!r}" for name, error in self.each.items())

    def of(self, targets: Rows, answers: Rows) -> float:
        """Return the error of the answers of all outputs."""
        found = [e.of(rows_of(targets, name), rows_of(answers, name)) for name, e in self.each.items()]
        return float(np.mean(found))

    def single(self, name: str) -> AnswerError:
        """Return the error of one output."""
        return self.each[name]


def answer_error(task: Task | None, targets: FloatArray) -> AnswerError:
    """Return by which error answers are judged; where the task is not evident, their behaviour decides.

    Args:
        task: what the outputs are, if it is known.
        targets: (rows, *shape), the source network's answers before a softmax; maps are no class scores.
    """
    vector = targets.ndim == 2 and targets.shape[1] > 1
    scores = vector and (task is Task.CLASSES or (task is None and behaves_as_classifier(targets)))
    return AnswerError.DIVERGENCE if scores else AnswerError.SQUARED


def real_logits(graph: SnnGraph, outputs: Mapping[str, NumberArray]) -> Rows:
    """Return accumulated read-outs, (rows, *shape) float32, in units of the source network.

    Args:
        graph: the network.
        outputs: of a trace of its T steps.
    """
    return joined(
        {name: graph.readouts[name].decoded(value, graph.timesteps) for name, value in outputs.items()}
    )


def relative_error(targets: FloatArray, answers: FloatArray) -> float:
    """Return the mean over outputs of ``E[(y - s)^2] / var(s)``; 1 is what the mean of the source reaches.

    An output that hardly varies beside the typical one, the lower median, is divided by a share of the
    typical variance instead: a pixel that is nearly always black shall not outweigh all others.

    Args:
        targets: (rows, outputs), ``s``, the source network's answers.
        answers: (rows, outputs), ``y``, in the same units.
    """
    errors, variances, powers = (np.empty(targets.shape[1]) for _ in range(3))
    for start in range(0, targets.shape[1], COLUMNS):
        part = slice(start, start + COLUMNS)
        s = targets[:, part].astype(np.float64)
        errors[part] = np.square(answers[:, part].astype(np.float64) - s).mean(axis=0)
        variances[part] = s.var(axis=0)
        powers[part] = np.square(s).mean(axis=0)
    alive = np.sort(variances[variances > 0])
    typical = alive[(len(alive) - 1) // 2] if len(alive) else powers.mean()
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
