"""Masks: constant density, what drops and grows again, resumed to the same bits, and what stays zero."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.compiler import Options
from snnc.errors import UsageError
from snnc.ir import ann, snn
from tests.onnx_models import Array
from tests.tuned_networks import Material, network

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed (extra snnc[train])", allow_module_level=True)

import torch

from snnc.training import sparsity_schedule as schedule
from snnc.training import stage as stages
from snnc.training.masks import Masks, prunable
from snnc.training.pace import Pace
from snnc.training.recipe import Recipe
from snnc.training.tuning import Tuning, tune

STEPS = 60


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    from snnc.frontend import read_onnx
    from snnc.simulation.ann_reference import run_ann

    path = network(tmp_path_factory.mktemp("masks"))
    x = np.random.default_rng(0).standard_normal((240, 1, 6, 6)).astype(np.float32)
    answers, _ = run_ann(read_onnx(path).graph, x)
    return Material(path, x, answers.argmax(axis=1))


def run(material: Material, **changes: Any) -> Tuning:
    given: dict[str, Any] = {
        "epochs": 6,
        "batch": 32,
        "held_back": 0.25,
        "rate": 1e-2,
        "precision": "float32",
        "timesteps": 1,
        "density": 0.25,
        "options": Options(threads=1),
        **changes,
    }
    return tune(material.path, material.x, **given)


def masks(regrow: str, weight: torch.nn.Parameter, density: float = 0.2, *, reverse: bool = False) -> Masks:
    """Return the mask of a layer that reads a rectifier."""
    graph = ann.AnnGraph(
        name="net",
        nodes=(
            ann.Input(name="x", shape=(8,)),
            ann.Relu(name="r", inputs=("x",), shape=(8,)),
            ann.Linear(
                name="y",
                inputs=("r",),
                shape=(10,),
                weight=np.ones((10, 8), np.float32),
                bias=np.zeros(10, np.float32),
            ),
        ),
        outputs=("y",),
        output_names=("y",),
    )
    return Masks(
        graph, [("y", "w", weight)], Recipe(epochs=1, density=density, regrow=regrow, reverse=reverse)
    )


def parameter(seed: int = 0) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(10, 8, generator=torch.Generator().manual_seed(seed)))


def follow(
    found: Masks,
    weight: torch.nn.Parameter,
    first: int,
    last: int,
    generator: torch.Generator,
    momentum: float | None = None,
) -> None:
    """Take steps whose gradients and weights are any."""
    optimiser = Pace(momentum=momentum).optimiser([{"params": [weight], "lr": 1e-3, "shrinks": True}])
    moment = "exp_avg" if momentum is None else "momentum_buffer"
    for step in range(first, last):
        weight.grad = torch.randn(weight.shape, generator=generator)
        found.follow(step, STEPS, generator)
        optimiser.step()
        found.keep_sparse(optimiser, {"w": weight.detach().clone()})
        outside = found.masks[0].held == 0
        assert not weight.detach()[outside].any()
        assert not weight.grad[outside].any()
        assert not optimiser.state[weight][moment][outside].any()


@pytest.mark.parametrize("regrow", ["gradient", "random", "none"])
def test_the_density_falls_by_magnitude_and_stays(regrow: str) -> None:
    weight, generator = parameter(), torch.Generator().manual_seed(1)
    found = masks(regrow, weight)
    assert found.falling(0, STEPS)
    before = weight.detach().abs().clone()
    weight.grad = torch.zeros_like(weight)
    found.follow(0, STEPS, generator)
    # 0.2 + 0.8 (1 - 1/20)^3 of 80 weights: the smallest go.
    kept = found.masks[0].held > 0
    assert int(kept.sum()) == round(80 * (0.2 + 0.8 * (1 - 1 / 20) ** 3)) == 71
    assert before[kept].min() >= before[~kept].max()
    follow(found, weight, 1, 20, generator)
    assert not found.falling(20, STEPS)
    sparse = found.masks[0].held.clone()
    assert int(sparse.sum()) == 16
    follow(found, weight, 20, 45, generator)
    settled = found.masks[0].held.clone()
    assert int(settled.sum()) == 16
    assert bool((settled != sparse).any()) == (regrow != "none")
    follow(found, weight, 45, STEPS, generator)
    assert torch.equal(found.masks[0].held, settled)


def test_what_is_no_synapse_has_no_momentum_of_gradient_descent() -> None:
    weight, generator = parameter(), torch.Generator().manual_seed(1)
    found = masks("random", weight)
    follow(found, weight, 0, 45, generator, momentum=0.9)
    assert int(found.masks[0].held.sum()) == 16


def test_what_grows_again_has_the_largest_gradient() -> None:
    weight, generator = parameter(), torch.Generator().manual_seed(1)
    found = masks("gradient", weight)
    follow(found, weight, 0, 20, generator)
    before, size = found.masks[0].held.clone(), weight.detach().abs().clone()
    gradient = torch.randn(weight.shape, generator=generator)
    weight.grad = gradient.clone()
    found.follow(20, STEPS, generator)
    now = found.masks[0].held
    dropped, grown = (before > 0) & (now == 0), (before == 0) & (now > 0)
    assert int(dropped.sum()) == int(grown.sum()) == int(0.3 * (1 + np.cos(np.pi / 25)) / 2 * 16)
    assert size[dropped].max() <= size[(before > 0) & (now > 0)].min()
    assert gradient.abs()[grown].min() >= gradient.abs()[(before == 0) & (now == 0)].max()


def test_a_weight_that_is_none_at_first_never_grows() -> None:
    weight, generator = parameter(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        weight[:, 0] = 0
    found = masks("random", weight)
    follow(found, weight, 0, STEPS, generator)
    assert not weight.detach()[:, 0].any()
    assert int(found.masks[0].held.sum()) == 0.2 * 80


def test_a_network_that_is_sparse_enough_stays_as_it_is() -> None:
    """As where a run of several T goes on with fewer steps: the density is that of all weights."""
    weight, generator = parameter(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        weight[2:] = 0
    found = masks("gradient", weight)
    follow(found, weight, 0, STEPS, generator)
    assert int(found.masks[0].held.sum()) == 16


def test_first_layers_stay_dense(material: Material) -> None:
    from snnc.frontend import read_onnx

    graph = read_onnx(material.path).graph
    weights = [node.name for node in graph if isinstance(node, ann.Convolution | ann.Linear)]
    assert [prunable(graph, name) for name in weights] == [False, True, True]


def weights_of(tuning: Tuning) -> list[Array]:
    graph = tuning.artefact.graph
    nodes = (node for node in graph if isinstance(node, snn.Convolution | snn.Linear))
    return [np.asarray(node.weight) for node in nodes]


@pytest.mark.parametrize("regrow", ["gradient", "none"])
def test_a_tuned_network_is_as_sparse_as_asked(regrow: str, material: Material) -> None:
    found = run(material, regrow=regrow)
    first, *others = weights_of(found)
    assert (first != 0).mean() > 0.9
    for weight in others:
        assert (weight != 0).mean() <= 0.26, weight.shape
    assert found.results[1].equal_rows == 60 or not found.results[1].is_tuned


DENSE = [20, 21, 22, 25, 26, 29, 30, 33, 34, 37, 38, 41, 42]
"""Steps of the denser network: every other of twelve turns from step 20 up to 45."""


def test_turns_of_a_denser_network() -> None:
    weight, generator = parameter(), torch.Generator().manual_seed(1)
    found = masks("gradient", weight, reverse=True)
    assert [step for step in range(STEPS) if schedule.dense_turn(step, STEPS)] == DENSE
    optimiser = torch.optim.Adam([weight])
    for step in range(STEPS):
        before = found.masks[0].held.clone()
        gradient = torch.randn(weight.shape, generator=generator)
        magnitude = weight.detach().abs().clone()
        weight.grad = gradient.clone()
        found.follow(step, STEPS, generator)
        optimiser.step()
        found.keep_sparse(optimiser, {"w": weight.detach().clone()})
        sparse = found.masks[0].held.clone()
        assert not weight.detach()[sparse == 0].any()
        assert found.opening == (step + 1 in DENSE and step not in DENSE)
        if found.opening:
            found.open()
        now = found.masks[0].held
        assert step < 19 or int(now.sum()) == (32 if step + 1 in DENSE else 16)
        grown, dropped = (now > 0) & (sparse == 0), (before > 0) & (now == 0)
        if grown.any():  # by the gradient, from zero
            assert gradient.abs()[grown].min() >= gradient.abs()[now == 0].max()
            assert not weight.detach()[grown].any()
        if dropped.any():
            assert magnitude[dropped].max() <= magnitude[now > 0].min()


def test_in_a_dense_turn_the_sparse_network_teaches(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[Any] = []
    given = stages.Stage.loss

    def watched(stage: stages.Stage, x: Any, seen: Any, labels: Any, teacher: Any = None) -> Any:
        if "levels" in stage.name:
            weights = None if teacher is None else {k: v.clone() for k, v in teacher.state_dict().items()}
            taught.append((weights, stage.learner.state()))
        return given(stage, x, seen, labels, teacher)

    monkeypatch.setattr(stages.Stage, "loss", watched)
    found = run(material, epochs=18, reverse=True)
    steps = len(taught)
    dense = [step for step in range(steps) if schedule.dense_turn(step, steps)]
    assert dense
    assert [step for step, (teacher, _) in enumerate(taught) if teacher is not None] == dense
    names = [name for name, value in taught[0][1].items() if name.endswith("weight") and value.ndim > 1]
    for step in dense:
        teacher, now = taught[step]
        if step - 1 not in dense:  # what it was when the turn began
            assert all(torch.equal(teacher[name], now[name]) for name in teacher)
        else:
            assert all(torch.equal(teacher[name], taught[step - 1][0][name]) for name in teacher)
        for name in names[1:]:
            assert (teacher[name] != 0).double().mean() <= 0.26
    assert any((taught[dense[1]][1][name] != 0).double().mean() > 0.4 for name in names[1:])
    curve = [line for line in found.results[1].history if "levels" in line["stage"] and line["step"]]
    assert {line["turn"] for line in curve} == {"sparse", "dense"}
    for weight in weights_of(found)[1:]:
        assert (weight != 0).mean() <= 0.26


@pytest.mark.parametrize("reverse", [False, True])
def test_a_sparse_run_goes_on_to_the_same_bits(
    reverse: bool, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices: dict[str, Any] = {"reverse": True, "epochs": 18} if reverse else {}
    whole = run(material, **choices)
    monkeypatch.setattr(stages, "CHECKPOINT_SECONDS", 0.0)
    left, given = (35 if reverse else 15), stages.Stage.take

    def stopping(*arguments: Any) -> bool:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return given(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(stages.Stage, "take", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(material, checkpoints=tmp_path, **choices)
    resumed = run(material, checkpoints=tmp_path, **choices)
    for one, other in zip(weights_of(whole), weights_of(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"density": 1.0}, "density must lie between 0 and 1, not 1.0"),
        ({"density": 0}, "density must lie between 0 and 1, not 0"),
        ({"regrow": "magnitude"}, "regrow 'magnitude' is unknown; known: gradient, random, none"),
        ({"rounded": 1.0}, "density takes weights out while the first stage learns them"),
        ({"learn": ("thresholds",)}, "density takes weights out while the first stage learns them"),
        ({"options": Options(preset="fast", threads=1)}, "compensate"),
        ({"reverse": True}, "reverse needs 60 steps of the first stage for its turns, and there are 31"),
        ({"reverse": True, "density": None}, "reverse lets a sparse network teach: give a density, too"),
        ({"reverse": True, "regrow": "none"}, "give regrow gradient or random"),
    ],
)
def test_densities_that_make_no_sense(changes: dict[str, Any], message: str, material: Material) -> None:
    with pytest.raises(UsageError, match=message):
        run(material, **changes)
