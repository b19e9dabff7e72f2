"""Fusion of modalities: closed-form weights per step, modality and confidence."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.analysis.fusion import Fusion, averaged, confidences, probabilities
from snnc.errors import InputError, NonFiniteError


def scores(rows: int, noise: tuple[float, float], seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return scores of two modalities after three steps, the later the better, (3, rows, 4)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, rows)
    right = np.eye(4)[y]
    found = {
        name: np.stack([(t + 1) * right + sigma * rng.normal(size=(rows, 4)) for t in range(3)])
        for name, sigma in zip(("image", "sound"), noise, strict=True)
    }
    return found, y


def accuracy(answers: np.ndarray, y: np.ndarray) -> float:
    return float((answers[-1].argmax(axis=-1) == y).mean())


def mixed(rows: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return rows of which one modality, the other, or none says nothing."""
    parts = [scores(rows, (1.0, 1.0), seed + k) for k in range(3)]
    for k, name in enumerate(("image", "sound")):
        values = parts[k][0][name]
        parts[k][0][name] = 0.1 * np.random.default_rng(seed).normal(size=values.shape)
    names = ("image", "sound")
    return (
        {name: np.concatenate([part[0][name] for part in parts], axis=1) for name in names},
        np.concatenate([part[1] for part in parts]),
    )


def test_the_fit_is_that_of_least_squares() -> None:
    given, y = scores(200, (1.0, 2.0), 0)
    fusion = Fusion.fit(given, y, ridge=1e-12)
    values = [each[1] for each in given.values()]
    p = [probabilities(s) for s in values]
    numbers = [
        n
        for s, q in zip(values, p, strict=True)
        for n in (confidences(q), s.std(axis=1), np.log(np.exp(s).sum(axis=1)))
    ]
    z = [np.clip((n - n.mean()) / n.std(), -3, 3)[:, None] for n in numbers]
    gates = [np.ones((200, 1)), *z, *(each**2 for each in z)]
    logs = [np.log(np.maximum(q, 1e-3)) for q in p]
    columns = [(each - each.mean(axis=1, keepdims=True)) * gate for each in logs for gate in gates]
    x = np.stack([each.ravel() for each in columns], axis=1)
    expected, *_ = np.linalg.lstsq(x, (np.eye(4)[y] - 0.25).ravel(), rcond=None)
    assert fusion.weights.shape == (3, 2, 13)
    np.testing.assert_allclose(fusion.answers(given)[1].ravel(), x @ expected, atol=1e-5)


def test_what_is_unsure_has_little_to_say() -> None:
    fusion = Fusion.fit(*mixed(300, 0))
    given, y = mixed(300, 10)
    assert accuracy(fusion.answers(given), y) > 0.95  # as the plain mean: what is unsure is flat
    loud, y = scores(600, (1.0, 6.0), 5)  # the sound is sure of the wrong
    noisy = Fusion.fit(*scores(600, (1.0, 6.0), 6))
    assert accuracy(noisy.answers(loud), y) > accuracy(averaged(loud), y) + 0.1


def test_confidence() -> None:
    p = np.array([[1.0, 0, 0, 0], [0.25] * 4])
    np.testing.assert_allclose(confidences(p), [1, 0], atol=1e-12)


def test_what_does_not_fit() -> None:
    given, y = scores(20, (1.0, 1.0), 0)
    fusion = Fusion.fit(given, y)
    with pytest.raises(InputError, match="the same of each modality"):
        Fusion.fit({**given, "sound": given["sound"][:2]}, y)
    with pytest.raises(InputError, match="are not one of 4 classes"):
        Fusion.fit(given, y[:5])
    with pytest.raises(InputError, match="and the weights are of 3 steps of image, sound"):
        fusion.answers({"image": given["image"]})
    with pytest.raises(NonFiniteError, match="scores of image hold NaN"):
        fusion.answers({**given, "image": np.full_like(given["image"], np.nan)})
