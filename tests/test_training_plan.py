"""How long a run takes, how fast it learns, and by what its states are ordered."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util

import pytest

import snnc
from snnc.errors import UsageError
from snnc.training.judge import Judge, Measure
from snnc.training.memory import fitting
from snnc.training.plan import Plan, Speed
from snnc.training.recipe import Recipe

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed (extra snnc[train])", allow_module_level=True)

import torch

from snnc.training.pace import decay, evaluations, rate
from snnc.training.tuning import tune


def test_the_time_is_kept_by_counting_steps() -> None:
    recipe = Recipe(minutes=10, rounded=0.25)
    plan = Plan.of_minutes((4, 1), recipe, (Speed(0.5, 10.0), Speed(1.0, 10.0)))
    seconds = {
        T: (1 - recipe.second_share) * 0.5 * first / 0.5 + second for T, (first, second) in plan.steps.items()
    }
    assert plan.steps[1][0] == pytest.approx(2 * plan.steps[4][0], rel=0.1)
    whole = sum(0.5 * first + second + 20 for first, second in plan.steps.values())
    assert 580 <= whole <= 610
    assert seconds
    # Judging that would take most of the time leaves it to learning.
    slow = Plan.of_minutes((2,), recipe, (Speed(0.5, 1e4), Speed(1.0, 1e4)))
    assert slow.steps[2] == (int(0.85 * 450 / 0.5), int(0.85 * 150))
    assert Plan.of_epochs((2, 1), Recipe(epochs=3, batch=10), 100).steps == {2: (27, 3), 1: (27, 3)}
    finishing = Recipe(epochs=3, batch=10, finish="rate")
    assert Plan.of_epochs((2, 1), finishing, 100).steps == {2: (20, 10), 1: (20, 10)}


def test_a_batch_that_does_not_fit_memory_is_told_with_one_that_does() -> None:
    def timed(recipe: Recipe) -> Speed:
        if recipe.batch > 40:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")
        return Speed(1.0, 1.0)

    with pytest.raises(UsageError, match="a batch of 128 rows does not fit memory, 32 do: give --batch 32"):
        fitting(Recipe(minutes=1), timed)
    assert fitting(Recipe(minutes=1, batch=32), timed) == Speed(1.0, 1.0)


def test_rate_and_average() -> None:
    rates = [rate(step, 200) for step in range(200)]
    assert max(rates) == pytest.approx(1, abs=0.03)
    assert rates[0] < 0.1
    assert rates[-1] < 1e-3
    assert evaluations(3) == {1, 2, 3}
    assert evaluations(100) == set(range(10, 101, 10))
    assert evaluations(0) == set()
    assert decay(0, 1000) == pytest.approx(0.1)
    assert decay(999, 1000) == pytest.approx(1 - 1 / 50)


def test_measures_are_ordered_by_right_answers_and_then_by_the_error() -> None:
    from snnc.metrics.shares import Share

    best, second, third = (Measure(e, Share(h, 10)) for e, h in ((0.5, 9), (0.1, 8), (0.2, 8)))
    assert best.key < second.key < third.key < Measure(float("nan"), Share(8, 10)).key
    assert Measure(0.1, None).as_dict() == {"error": 0.1}
    assert Judge.__name__ == "Judge"
    assert torch.get_num_threads() >= 1
    assert snnc.tune is tune


def test_the_nearer_a_network_is_to_its_source_the_smaller_its_steps() -> None:
    recipe = Recipe(epochs=1, rate=1e-3)
    assert recipe.of_levels(1).rate == 1e-3
    assert recipe.of_levels(4).rate == pytest.approx(5e-4)
    assert Recipe(epochs=1, rate=1e-3, density=0.1).of_levels(15).rate == 1e-3
    assert Recipe(epochs=1, rate=1e-3, channels=0.5).of_levels(15).rate == 1e-3
    assert recipe.of_integers().rate == 1e-4
    assert Recipe(epochs=1, rate=1e-5).of_integers().rate == 1e-5
    assert Recipe(epochs=1, rate=1e-3, finish="rate").of_integers().rate == 1e-3
    assert Recipe(epochs=1, rate=1e-3, rounded=1.0).of_integers().rate == 1e-3


def test_weights_grow_again_by_default_and_channels_do_not() -> None:
    assert Recipe(epochs=1, density=0.1).as_dict()["regrow"] == "gradient"
    assert Recipe(epochs=1, channels=0.5).as_dict()["regrow"] == "none"
    assert Recipe(epochs=1, channels=0.5, regrow="random").as_dict()["regrow"] == "random"
