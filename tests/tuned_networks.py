"""A small network to tune, and its rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from snnc.compiler import Options
from snnc.frontend import read_onnx
from snnc.simulation.ann_reference import run_ann
from tests.onnx_models import Array, model, node, saved

if TYPE_CHECKING:
    from snnc.training.tuning import Tuning

ROWS = 240
QUICK: dict[str, Any] = {"precision": "float32", "epochs": 6, "batch": 32, "held_back": 0.25, "rate": 1e-2}


@dataclass(frozen=True)
class Material:
    """A network, its rows, and what it says of them."""

    path: Path
    x: Array
    y: Array


def weights(random: np.random.Generator, *shape: int) -> Array:
    scale = (2 / np.prod(shape[1:])) ** 0.5
    return np.asarray(random.standard_normal(shape) * scale, np.float32)


def network(folder: Path, *, outputs: int = 3, pruned: bool = False) -> Path:
    """A network of two convolutions, one with a batch normalisation, a residual sum and a classifier."""
    random = np.random.default_rng(3)
    first = weights(random, 6, 1, 3, 3)
    if pruned:
        first[:, :, 0] = 0
    last = 3 * weights(random, outputs, 24)
    last -= last.mean(axis=0)  # as training leaves class scores
    constants = {
        "w1": first,
        "scale": np.linspace(0.8, 1.2, 6, dtype=np.float32),
        "shift": np.linspace(-0.1, 0.3, 6, dtype=np.float32),
        "mean": np.zeros(6, np.float32),
        "var": np.ones(6, np.float32),
        "w2": weights(random, 6, 6, 3, 3),
        "w3": last,
        "b3": np.zeros(outputs, np.float32),
    }
    proto = model(
        [
            node("Conv", "x w1", "c1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("BatchNormalization", "c1 scale shift mean var", "n1"),
            node("Relu", "n1", "r1"),
            node("Conv", "r1 w2", "c2", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("Add", "c2 r1", "a2"),
            node("Relu", "a2", "r2"),
            node("AveragePool", "r2", "p", kernel_shape=[3, 3], strides=[3, 3]),
            node("Flatten", "p", "f"),
            node("Gemm", "f w3 b3", transB=1),
        ],
        ("N", 1, 6, 6),
        constants,
    )
    return saved(folder, proto, f"net{outputs}{pruned}.onnx")


def answered(folder: Path) -> Material:
    """The network with random rows, labelled by its own answers."""
    path = network(folder)
    x = np.random.default_rng(0).standard_normal((ROWS, 1, 6, 6)).astype(np.float32)
    answers, _ = run_ann(read_onnx(path).graph, x)
    return Material(path, x, answers.argmax(axis=1))


def run(material: Material, **changes: Any) -> Tuning:
    """Tune a network quickly; torch is needed for it."""
    from snnc.training.tuning import tune

    given: dict[str, Any] = {**QUICK, "timesteps": 1, "options": Options(threads=1), **changes}
    return tune(material.path, material.x, given.pop("labels", None), **given)
