"""Levels of activations, and step functions that give them: held against rounding the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.ir.ann import Pointwise
from snnc.ir.function import IDENTITY, Function
from snnc.ir.graph import FloatArray, IntArray
from snnc.numerics.step_functions import (
    Levels,
    Measured,
    StepFunction,
    carried,
    choose_levels,
    step_function,
)
from snnc.numerics.thresholds import Method

NONE = np.zeros((0, 1), np.float32)
PROGRAMS = {
    "sigmoid": ("Sigmoid(x)", NONE),
    "tanh": ("Tanh(x)", NONE),
    "silu": ("Sigmoid(x); Mul(x, v0)", NONE),
    "gelu": (
        "Mul(x, c0); Erf(v0); Add(v1, c1); Mul(x, v2); Mul(v3, c2)",
        np.array([[0.5**0.5], [1], [0.5]], np.float32),
    ),
    "mish": ("Softplus(x); Tanh(v0); Mul(x, v1)", NONE),
    "abs": ("Abs(x)", NONE),
    "sine": ("Sin(x)", NONE),
    "leaky": ("LeakyRelu(x, c0)", np.array([[0.1]], np.float32)),
    "prelu": ("LeakyRelu(x, c0)", np.array([[0.1, -0.4, 1.0]], np.float32)),
    "shifted silu": ("Add(x, c0); Sigmoid(v0); Mul(v0, v1)", np.array([[0.0, 2.0, -1.0]], np.float32)),
    "parabolas": ("Mul(x, x); Mul(v0, c0)", np.array([[1.0, -1.0, 0.5]], np.float32)),
    "softsign": ("Softsign(x)", NONE),
    "reciprocal": ("Add(x, c0); Reciprocal(v0)", np.array([[12.0]], np.float32)),
    "root": ("Sqrt(x)", NONE),
    "exponential": ("Exp(x)", NONE),
    "limited exponential": ("Min(x, c0); Exp(v0)", np.array([[6.0]], np.float32)),
    "steps": ("Mul(x, c0); Floor(v0)", np.array([[1.5]], np.float32)),
}


def counted(table: StepFunction, x: FloatArray) -> IntArray:
    """Return the counts of a step function at arguments, (channels, n)."""
    found = np.empty(x.shape, np.int64)
    for channel in range(len(x)):
        points = table.breakpoints[channel % len(table.breakpoints)]
        found[channel] = table.step_values[np.searchsorted(points, x[channel], side="right")]
    return found


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("reach", [1, 2, 7, 60, 255])
def test_a_step_function_rounds_what_the_function_gives(name: str, reach: int) -> None:
    function = Function(*PROGRAMS[name])
    random = np.random.default_rng(reach)
    x = random.normal(0, 2, (3, 4000)).astype(np.float32)
    if name == "root":
        x = np.abs(x)
    y = function(x.astype(np.float64)).astype(np.float32)
    most = 255
    while True:
        levels = choose_levels(y, reach, most=most, common=False)
        table = step_function(function, levels, x.min(axis=1), x.max(axis=1))
        if isinstance(table, StepFunction):
            break
        most -= 32  # too many changes: a function that falls and rises takes counts twice
    assert table.breakpoints.shape[1] <= 255
    assert max(levels.highest, -levels.lowest) == reach or levels.highest - levels.lowest == most
    assert max(levels.highest, -levels.lowest) <= reach
    assert levels.highest - levels.lowest <= most
    assert (np.diff(table.breakpoints, axis=1) >= 0).all()
    exact = y / levels.step[:, None]
    wanted = np.clip(np.floor(exact + 0.5), levels.lowest, levels.highest)
    tie = np.abs(exact + 0.5 - np.rint(exact + 0.5)) < 1e-3
    np.testing.assert_array_equal(np.where(tie, 0, counted(table, x)), np.where(tie, 0, wanted))


@given(
    st.lists(st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3), min_size=1, max_size=4),
    st.integers(1, 40),
)
def test_channels_of_any_shapes_share_their_counts(roots: list[list[float]], span: int) -> None:
    # Cubics with other roots in each channel rise and fall at other places.
    constants = np.array(roots, np.float32).T
    function = Function("Sub(x, c0); Sub(x, c1); Sub(x, c2); Mul(v0, v1); Mul(v2, v3)", constants)
    x = np.broadcast_to(np.linspace(-4, 4, 801, dtype=np.float32), (len(roots), 801))
    y = function(x.astype(np.float64)).astype(np.float32)
    levels = choose_levels(y, span, common=False)
    table = step_function(function, levels, x.min(axis=1), x.max(axis=1))
    if isinstance(table, int):
        return
    exact = y / levels.step[:, None]
    wanted = np.clip(np.floor(exact + 0.5), levels.lowest, levels.highest)
    tie = np.abs(exact + 0.5 - np.rint(exact + 0.5)) < 1e-2
    # A dip between two points of the grid is not seen.
    assert np.mean((counted(table, x) != wanted) & ~tie) < 0.005


def test_counts_beyond_the_calibrated_range_follow_the_function_as_far_as_they_fit() -> None:
    x = np.linspace(-1, 1, 101, dtype=np.float32)[None]
    table = step_function(
        Function("Abs(x)", NONE), Levels(np.ones(1, np.float32), 0, 100), x.min(1), x.max(1)
    )
    assert isinstance(table, StepFunction)
    np.testing.assert_array_equal(
        counted(table, np.array([[-80.2, -3.3, 0, 60.4, 1e6]])), [[80, 3, 0, 60, 100]]
    )


def test_a_function_that_is_not_defined_everywhere_stays_what_it_is_nearest() -> None:
    levels = Levels(np.ones(1, np.float32), -3, 3)
    table = step_function(
        Function("Log(x)", NONE), levels, np.array([0.1], np.float32), np.array([9.0], np.float32)
    )
    assert isinstance(table, StepFunction)
    np.testing.assert_array_equal(counted(table, np.array([[-5, 0.0, 1, 8, 1e3]])), [[-3, -3, 0, 2, 3]])


def test_a_constant_function_has_one_count() -> None:
    table = step_function(
        Function("Mul(x, c0)", np.zeros((1, 1), np.float32)),
        Levels(np.ones(1, np.float32), 0, 3),
        -np.ones(1, np.float32),
        np.ones(1, np.float32),
    )
    assert isinstance(table, StepFunction)
    np.testing.assert_array_equal(counted(table, np.array([[-5.0, 0, 7]])), [[0, 0, 0]])


@pytest.mark.parametrize(("reach", "most"), [(3, 3), (15, 30), (15, 20), (255, 255), (200, 400)])
def test_levels_hold_zero_and_are_no_worse_than_those_that_reach_the_whole_range(
    reach: int, most: int
) -> None:
    y = np.random.default_rng(1).normal(0.3, 1, (4, 5000)).astype(np.float32)

    def error(levels: Levels) -> float:
        step = levels.step[:, None]
        return float(np.square(np.clip(np.rint(y / step), levels.lowest, levels.highest) * step - y).sum())

    found = choose_levels(y, reach, most=most, common=False)
    whole = choose_levels(y, reach, most=most, common=False, method=Method.MAXIMUM)
    for levels in (found, whole):
        assert -reach <= levels.lowest <= 0 <= levels.highest <= reach
        assert levels.highest - levels.lowest <= most
    assert error(found) <= error(whole)


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (-0.1, 1), (-1, 0.2), (0, 1), (-1, 0)])
def test_both_signs_may_use_all_magnitudes(low: float, high: float) -> None:
    """Values of both signs are as finely rounded as those of one; levels that no value needs are left out."""
    y = np.linspace(low, high, 4001, dtype=np.float32)[None]
    levels = choose_levels(y, 15, common=False)
    assert levels.step.item() == pytest.approx(max(high, -low) / 15, rel=0.06)
    needed = np.clip(np.rint(np.array([low, high]) / levels.step.item()), -15, 15)
    assert 1.25 * needed[0] - 1 <= levels.lowest <= needed[0]
    assert needed[1] <= levels.highest <= 1.25 * needed[1] + 1


def test_a_common_step_is_one_number() -> None:
    y = np.random.default_rng(1).normal(0, [[1], [5]], (2, 500)).astype(np.float32)
    assert len(set(choose_levels(y, 15, common=True).step.tolist())) == 1
    assert len(set(choose_levels(y, 15, common=False).step.tolist())) == 2


def test_a_silent_channel_gets_the_step_of_others() -> None:
    y = np.array([[0, 0, 0], [1, 2, 3]], np.float32)
    levels = choose_levels(y, 3, common=False)
    assert levels.step[0] == levels.step[1] == 1


def test_the_identity_rounds() -> None:
    levels = Levels(np.full(1, 0.5, np.float32), -4, 4)
    table = step_function(IDENTITY, levels, -np.ones(1, np.float32), np.ones(1, np.float32))
    assert isinstance(table, StepFunction)
    np.testing.assert_allclose(table.breakpoints, [[-1.75, -1.25, -0.75, -0.25, 0.25, 0.75, 1.25, 1.75]])


def gate(program: str = "sigmoid") -> Pointwise:
    text, constants = PROGRAMS[program]
    return Pointwise(name="gate", inputs=("x",), shape=(2,), program=text, constants=constants)


def levels_of(node: Pointwise, x: FloatArray, *, answers: bool, reach: int = 255) -> Pointwise:
    """Give a function levels for arguments of eight rows, (2, samples)."""
    y = node.function(x.astype(np.float64)).astype(np.float32)
    measured = Measured(node, y, x.min(axis=1), x.max(axis=1), 8, None, answers)
    (found,) = carried([measured], reach, common=False, method=Method.MSE)
    assert isinstance(found, Pointwise)
    return found


def ends_of(node: Pointwise) -> tuple[FloatArray, FloatArray]:
    """Return what the lowest and the highest count stand for, (channels,) each."""
    assert node.step is not None
    return node.lowest * node.step, node.highest * node.step


def test_a_probability_that_is_an_answer_may_become_certain() -> None:
    """Rows on which a detector finds nothing do not cut off what it says where there is something."""
    x = np.random.default_rng(0).normal(-6, 0.5, (2, 800)).astype(np.float32)
    whole = levels_of(gate(), x, answers=True)
    np.testing.assert_allclose(ends_of(whole)[1], 1, rtol=1e-6)
    assert whole.breakpoints is not None
    assert whole.step_values is not None
    table = StepFunction(whole.breakpoints, whole.step_values)
    assert counted(table, np.full((2, 1), 9, np.float32)).min() == 255
    for other in (levels_of(gate(), x, answers=False), levels_of(gate(), x, answers=True, reach=15)):
        assert ends_of(other)[1].max() < 0.1


def test_what_never_ends_is_as_wide_as_it_was_seen() -> None:
    x = np.random.default_rng(1).normal(0, 1, (2, 800)).astype(np.float32)
    for program in ("silu", "leaky", "exponential", "limited exponential"):  # e^6 is a hundred times as much
        one, other = (ends_of(levels_of(gate(program), x, answers=each)) for each in (True, False))
        np.testing.assert_array_equal(one, other)


@given(st.integers(0, 99), st.sampled_from(["sigmoid", "tanh", "softsign"]), st.floats(0.5, 8))
def test_levels_of_one_sign_at_most_lie_beyond_the_end(seed: int, program: str, width: float) -> None:
    x = np.random.default_rng(seed).normal(0, width, (2, 80)).astype(np.float32)
    low, high = ends_of(levels_of(gate(program), x, answers=False))
    shorter = np.where(low < 0, np.minimum(-low, high), high)
    assert shorter.max() <= 1 + 1e-6


@pytest.mark.parametrize("program", ["Identity(x)", "Relu(x)"])
@pytest.mark.parametrize("reach", [1, 7, 60, 255])
def test_breakpoints_of_what_is_linear_are_evenly_apart(program: str, reach: int) -> None:
    """To the last bit: a step has few digits, and its multiples are exact."""
    node = Pointwise(name="sent", inputs=("x",), shape=(3,), program=program, constants=NONE)
    x = np.random.default_rng(reach).normal(0, np.array([[0.1], [3], [70]]), (3, 800)).astype(np.float32)
    found = levels_of(node, x, answers=False, reach=reach)
    assert found.breakpoints is not None
    assert found.step is not None
    points, step = found.breakpoints.astype(np.float64), found.step.astype(np.float64)
    counts = np.arange(found.lowest + 1, found.highest + 1)
    np.testing.assert_array_equal(points, (counts - 0.5) * step[:, None])


def test_a_rectifier_that_shares_levels_with_a_negative_current_stays_at_zero() -> None:
    x = np.random.default_rng(0).normal(0, 3, (2, 800)).astype(np.float32)
    nodes = [
        Pointwise(name=program, inputs=("x",), shape=(2,), program=program, constants=NONE)
        for program in ("Identity(x)", "Relu(x)")
    ]
    measured = [
        Measured(
            node, node.function(x.astype(np.float64)).astype(np.float32), x.min(axis=1), x.max(axis=1), 8
        )
        for node in nodes
    ]
    for found in carried(measured, 20, common=True, method=Method.MSE):
        assert isinstance(found, Pointwise)
        assert found.lowest < 0
        assert found.breakpoints is not None
        assert found.step_values is not None
        assert found.step is not None
        counts = counted(StepFunction(found.breakpoints, found.step_values), x)
        wanted = np.clip(
            np.floor(found.function(x.astype(np.float64)) / found.step[0] + 0.5), found.lowest, found.highest
        )
        near = np.abs(x / found.step[0] + 0.5 - np.round(x / found.step[0] + 0.5)) < 1e-3
        np.testing.assert_array_equal(counts[~near], wanted[~near])
