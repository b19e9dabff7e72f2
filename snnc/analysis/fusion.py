"""Answers of several spiking networks about one thing, an image and a sound, put together step by step.

Each modality m has a network, whose scores after step t give probabilities ``p_m(t)``, the softmax. They are
added with weights that depend on the step, on the modality, and on how sure all of them are of this row:

    y(t) = sum_m (a_m(t) + sum_k b_mk(t) c_k(t)) (p_m(t) - 1 / C)        c_k = 1 - H(p_k) / log C

with the entropy H, for C classes. So a modality that is noisy or missing, and therefore unsure, has little to
say. The weights solve a least-squares problem with one-hot targets, in closed form and without gradients:
``M (M + 1)`` unknowns for each step, of M modalities.

Attention over modalities and time as in temporal attention-guided adaptive fusion (TAAF, 2025), which learns
it by gradients with the networks; here the networks stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
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


@dataclass(frozen=True, slots=True, eq=False)
class Fusion:
    """Weights of modalities.

    Attributes:
        modalities: their names, in order.
        weights: (T, M, M + 1): of each step and modality ``a_m``, and ``b_mk`` of each confidence.
    """

    modalities: tuple[str, ...]
    weights: Float64Array

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
        parts, names = _parts(scores)
        steps, rows, size, classes = parts.shape
        labels = np.asarray(labels)
        if labels.shape != (rows,) or labels.min() < 0 or labels.max() >= classes:
            raise InputError(
                f"labels {labels.shape} are not one of {classes} classes for each of {rows} rows"
            )
        wanted = (np.eye(classes)[labels] - 1 / classes).ravel()
        found = np.zeros((steps, size))
        for t in range(steps):
            x = np.moveaxis(parts[t], 1, 0).reshape(size, -1)
            gram = x @ x.T
            pull = ridge * np.trace(gram) / size
            found[t] = np.linalg.solve(gram + max(pull, 1e-12) * np.eye(size), x @ wanted)
        return cls(names, found.reshape(steps, len(names), -1))

    def answers(self, scores: Scores) -> Float64Array:
        """Return the fused scores after each step, (T, n, classes).

        Raises:
            InputError: other modalities or steps than were fitted.
            NonFiniteError: a score is NaN or infinite.
        """
        parts, names = _parts({name: scores[name] for name in self.modalities if name in scores})
        if names != self.modalities or len(parts) != len(self.weights):
            raise InputError(
                f"these are {len(parts)} steps of {', '.join(names)}, and the weights are of "
                f"{len(self.weights)} steps of {', '.join(self.modalities)}"
            )
        weights = self.weights.reshape(len(parts), -1)
        found: Float64Array = np.einsum("tnfc,tf->tnc", parts, weights)
        return found


def averaged(scores: Scores) -> Float64Array:
    """Return the plain mean of the probabilities of all modalities, (T, n, classes)."""
    checked = _checked(scores)
    found: Float64Array = np.mean([probabilities(each) for each in checked.values()], axis=0)
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


def _parts(scores: Scores) -> tuple[Float64Array, tuple[str, ...]]:
    """Return what weights multiply, (T, n, M (M + 1), classes), and the names of the modalities."""
    checked = _checked(scores)
    shares = [probabilities(each) for each in checked.values()]
    sure = [confidences(p)[..., np.newaxis] for p in shares]
    centred = [p - 1 / p.shape[-1] for p in shares]
    parts = [p * factor for p in centred for factor in (np.ones_like(sure[0]), *sure)]
    return np.stack(parts, axis=2), tuple(checked)


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
