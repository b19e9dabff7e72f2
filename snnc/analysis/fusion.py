"""Answers of several spiking networks about one thing, an image and a sound, put together step by step.

Each modality m has a network, whose scores after step t are ``s_m(t)``, with the softmax ``p_m(t)``. Their
logarithms are added with weights that depend on the step, on the modality, and on what the scores of all
modalities look like on this row:

    y(t) = sum_m (a_m(t) + sum_k b_mk(t) z_k(t) + c_mk(t) z_k(t)^2) (l_m(t) - mean l_m(t))
    l_m = log max(p_m, 0.001)

The ``z_k`` are three numbers of each modality: its confidence ``1 - H(p) / log C`` for C classes, with the
entropy H, the standard deviation of its scores, and their log-sum-exp; all standardised on the rows of the
fit and clipped to 3 deviations. So a modality that is noisy or missing has little to say, whether it is
unsure or sure of what scores of good rows never look like. The weights solve a least-squares problem with
one-hot targets, in closed form and without gradients: ``M (1 + 6 M)`` unknowns a step, of M modalities.

Attention over modalities and time as in temporal attention-guided adaptive fusion (TAAF, 2025), which learns
it by gradients with the networks; here the networks stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InputError, NonFiniteError
from snnc.ir.graph import IntArray, NumberArray

Float64Array = NDArray[np.float64]
Scores = Mapping[str, NumberArray]
"""Of each modality, (T, n, classes): what its network's outputs stand for after each step."""

RIDGE = 1e-3
"""By how much weights are pulled to zero, in units of the mean square of what they multiply."""

LEAST = 1e-3
"""The least probability whose logarithm counts."""

FURTHEST = 3.0
"""Deviations beyond which a row looks no stranger."""


@dataclass(frozen=True, slots=True, eq=False)
class Fusion:
    """Weights of modalities.

    Attributes:
        modalities: their names, in order.
        weights: (T, M, 1 + 6 M): of each step and modality ``a_m``, all ``b_mk``, all ``c_mk``.
        centre, spread: (T, 3 M), by which the numbers are standardised.
    """

    modalities: tuple[str, ...]
    weights: Float64Array
    centre: Float64Array
    spread: Float64Array

    @classmethod
    def fit(cls, scores: Scores, labels: IntArray, ridge: float = RIDGE) -> Fusion:
        """Fit the weights to rows that no network has learned from.

        Args:
            scores: of each modality, rows as noisy as those to come.
            labels: (n,) classes.
            ridge: see :data:`RIDGE`.

        Raises:
            InputError: shapes differ between modalities, or do not fit the labels.
            NonFiniteError: a score is NaN or infinite.
        """
        checked = _checked(scores)
        values = list(checked.values())
        steps, rows, classes = values[0].shape
        labels = np.asarray(labels)
        if labels.shape != (rows,) or labels.min() < 0 or labels.max() >= classes:
            raise InputError(
                f"labels {labels.shape} are not one of {classes} classes for each of {rows} rows"
            )
        wanted = (np.eye(classes)[labels] - 1 / classes).ravel()
        numbers = [_numbers([each[t] for each in values]) for t in range(steps)]
        centre = np.stack([each.mean(axis=0) for each in numbers])
        spread = np.stack([np.maximum(each.std(axis=0), 1e-9) for each in numbers])
        found = []
        for t in range(steps):
            x = _parts([each[t] for each in values], centre[t], spread[t])
            x = x.reshape(-1, x.shape[-1])
            gram = x.T @ x
            pull = max(ridge * np.trace(gram) / len(gram), 1e-12)
            found.append(np.linalg.solve(gram + pull * np.eye(len(gram)), x.T @ wanted))
        return cls(tuple(checked), np.stack(found).reshape(steps, len(values), -1), centre, spread)

    def answers(self, scores: Scores) -> Float64Array:
        """Return the fused scores after each step, (T, n, classes).

        Raises:
            InputError: other modalities or steps than were fitted.
            NonFiniteError: a score is NaN or infinite.
        """
        checked = _checked({name: scores[name] for name in self.modalities if name in scores})
        values, steps = list(checked.values()), len(self.weights)
        if tuple(checked) != self.modalities or len(values[0]) != steps:
            raise InputError(
                f"these are {len(values[0])} steps of {', '.join(checked)}, and the weights are of {steps} "
                f"steps of {', '.join(self.modalities)}"
            )
        parts = (
            _parts([each[t] for each in values], self.centre[t], self.spread[t]) @ self.weights[t].ravel()
            for t in range(steps)
        )
        return np.stack(list(parts))


def averaged(scores: Scores) -> Float64Array:
    """Return the plain mean of the probabilities of all modalities, (T, n, classes)."""
    found: Float64Array = np.mean([probabilities(each) for each in _checked(scores).values()], axis=0)
    return found


def probabilities(scores: NumberArray) -> Float64Array:
    """Return the softmax along the last axis."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    found: Float64Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return found


def confidences(p: Float64Array) -> Float64Array:
    """Return ``1 - H(p) / log C`` along the last axis: 0 of equal probabilities, 1 of a sure answer."""
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=-1)
    found: Float64Array = 1 - entropy / np.log(p.shape[-1])
    return found


def _numbers(values: Sequence[Float64Array]) -> Float64Array:
    """Return what scores of one step, (n, classes) each, look like, (n, 3 M)."""
    found = []
    for s in values:
        top = s.max(axis=-1, keepdims=True)
        whole = np.log(np.exp(s - top).sum(axis=-1)) + top[:, 0]
        found += [confidences(probabilities(s)), s.std(axis=-1), whole]
    return np.stack(found, axis=-1)


def _parts(values: Sequence[Float64Array], centre: Float64Array, spread: Float64Array) -> Float64Array:
    """Return what weights multiply in one step, (n, classes, M (1 + 6 M))."""
    z = np.clip((_numbers(values) - centre) / spread, -FURTHEST, FURTHEST)
    gates = np.concatenate([np.ones((len(z), 1)), z, z**2], axis=1)
    logs = [np.log(np.maximum(probabilities(s), LEAST)) for s in values]
    centred = [each - each.mean(axis=-1, keepdims=True) for each in logs]
    return np.concatenate([each[:, :, None] * gates[:, None] for each in centred], axis=-1)


def _checked(scores: Scores) -> dict[str, Float64Array]:
    found = {name: np.asarray(each, np.float64) for name, each in scores.items()}
    shapes = {each.shape for each in found.values()}
    if not found or len(shapes) > 1 or len(next(iter(shapes))) != 3:
        told = ", ".join(f"{name} {each.shape}" for name, each in found.items()) or "none"
        raise InputError(f"scores are (steps, rows, classes), the same of each modality: {told}")
    for name, each in found.items():
        if not np.isfinite(each).all():
            raise NonFiniteError(f"scores of {name} hold NaN or infinity: leave those rows out")
    return found
