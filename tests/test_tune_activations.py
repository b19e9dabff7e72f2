"""Tuning of networks with step functions and functions of counts: levels are trained, the node is named."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from snnc.cli.tune import lines
from snnc.compiler import Options
from snnc.errors import UsageError
from snnc.frontend import read_onnx
from snnc.ir import ann, snn
from snnc.simulation.ann_reference import run_ann
from tests.onnx_models import Array, model, node, saved
from tests.tuned_networks import weights

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed (extra snnc[train])", allow_module_level=True)

import torch

from snnc.training.activations import activation
from snnc.training.tuning import tune


def excited(folder: Path) -> Path:
    """A convolution with HardSwish, squeeze and excitation, and a classifier: what MobileNetV3 is made of."""
    random = np.random.default_rng(1)
    constants = {
        "w1": weights(random, 6, 1, 3, 3),
        "w2": weights(random, 6, 6, 1, 1),
        "w3": weights(random, 6, 6, 3, 3),
        "w4": 3 * weights(random, 3, 6),
        "b4": np.zeros(3, np.float32),
    }
    nodes = [
        node("Conv", "x w1", "c1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("HardSwish", "c1", "h1"),
        node("GlobalAveragePool", "h1", "s1"),
        node("Conv", "s1 w2", "s2", kernel_shape=[1, 1]),
        node("HardSigmoid", "s2", "s3", alpha=1 / 6, beta=0.5),
        node("Mul", "h1 s3", "m"),
        node("Conv", "m w3", "c3", kernel_shape=[3, 3]),
        node("Relu", "c3", "r3"),
        node("GlobalAveragePool", "r3", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f w4 b4", transB=1),
    ]
    return saved(folder, model(nodes, ("N", 1, 6, 6), constants), "excited.onnx")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Array]:
    path = excited(tmp_path_factory.mktemp("excited"))
    return path, np.random.default_rng(0).standard_normal((200, 1, 6, 6)).astype(np.float32)


def test_levels_of_step_functions_and_products_are_trained(given: tuple[Path, Array]) -> None:
    path, x = given
    graph = read_onnx(path).graph
    assert graph.of_type(ann.Pointwise)
    assert graph.of_type(ann.Product)
    answers, _ = run_ann(graph, x)
    found = tune(
        path,
        x,
        answers.argmax(axis=1),
        timesteps=2,
        epochs=6,
        batch=32,
        held_back=0.25,
        rate=5e-3,
        options=Options(threads=1),
    )
    kept = found.results[2]
    assert kept.tuned is not None
    assert kept.steps[1] == 0
    assert "HardSwish_h1" in kept.untrained
    assert "cannot be trained yet" in kept.untrained
    assert min(line["error"] for line in kept.history[1:]) < kept.history[0]["error"], kept.history
    (told,) = lines(found)
    assert "only the levels are trained: 'HardSwish_h1'" in told
    if kept.is_tuned:
        made = found.artefact.graph
        assert any(isinstance(each, snn.CountProduct) for each in made)
        assert any(each.breakpoints is not None for each in made.of_type(snn.IntegrateFire))


def test_steps_cannot_be_finished(given: tuple[Path, Array]) -> None:
    with pytest.raises(UsageError, match="cannot be trained yet: leave --finish out"):
        tune(*given, timesteps=2, epochs=1, finish="rate", options=Options(threads=1))


def test_an_activation_gives_its_levels_and_the_gradient_of_the_clip() -> None:
    """Step 0.5, levels -1 to 2, y = a b: 0.6, 3 and -2 become 0.5, 1 and -0.5."""
    product = ann.Product(
        name="p",
        inputs=("a", "b"),
        shape=(3,),
        step=np.full(3, 0.5, np.float32),
        lowest=-1,
        highest=2,
    )
    a = torch.tensor([[0.6, 3.0, -2.0]], requires_grad=True)
    b = torch.ones(1, 3)
    y = activation(product, [a, b], rounded=True)
    assert y.tolist() == [[0.5, 1.0, -0.5]]
    (gradient,) = torch.autograd.grad(y.sum(), [a])
    assert gradient.tolist() == [[1.0, 0.0, 0.0]]
    torch.testing.assert_close(activation(product, [a, b]), torch.tensor([[0.6, 1.0, -0.5]]))
