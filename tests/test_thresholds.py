"""Thresholds: the closed form beats its neighbours, and finds what can be found exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.numerics.thresholds import mse_range, mse_threshold, percentile_threshold, quantise


def error(values: np.ndarray, threshold: np.ndarray, levels: int) -> np.ndarray:
    step = threshold[:, None] / levels
    return np.square(quantise(values, threshold, levels) * step - values).mean(axis=1)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 4, 15]))
def test_no_scaled_maximum_is_better(seed: int, levels: int) -> None:
    values = np.maximum(np.random.default_rng(seed).standard_normal((3, 400)), 0).astype(np.float32)
    best = error(values, mse_threshold(values, levels), levels)
    for scale in (1.0, 0.8, 0.5, 0.3):
        assert (best <= error(values, values.max(axis=1) * np.float32(scale), levels) * 1.02).all()


def range_error(values: np.ndarray, floor: np.ndarray, threshold: np.ndarray, levels: int) -> np.ndarray:
    return error(values - floor[:, None], threshold - floor, levels)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 4, 15]), st.floats(0, 3))
def test_a_floor_never_adds_error_and_helps_where_a_channel_is_never_silent(
    seed: int, levels: int, offset: float
) -> None:
    noise = np.random.default_rng(seed).standard_normal((3, 400))
    values = np.maximum(noise + offset, 0).astype(np.float32)
    floor, threshold = mse_range(values, levels)
    assert (floor >= 0).all()
    assert (floor < threshold).all()
    plain = error(values, mse_threshold(values, levels), levels)
    found = range_error(values, floor, threshold, levels)
    assert (found <= plain * (1 + 1e-5)).all()
    if offset > 2.5 and levels < 4:
        assert (found < 0.7 * plain).all()


@pytest.mark.parametrize("levels", [1, 3, 8])
def test_a_raised_grid_is_recovered(levels: int) -> None:
    values = (2 + 0.5 * (np.arange(100) % (levels + 1)))[None].astype(np.float32)
    floor, threshold = mse_range(values, levels)
    assert floor == pytest.approx(2, rel=1e-4)
    assert threshold == pytest.approx(2 + 0.5 * levels, rel=1e-4)


def test_constant_and_silent_channels_have_a_range() -> None:
    floor, threshold = mse_range(np.array([[0.0] * 50, [1.5] * 50], np.float32), 4)
    assert floor[0] == threshold[0] == 0
    assert 0 <= floor[1] < threshold[1]
    assert range_error(np.full((1, 50), 1.5, np.float32), floor[1:], threshold[1:], 4) < 1e-6


@pytest.mark.parametrize("levels", [1, 3, 8])
def test_values_on_a_grid_are_recovered(levels: int) -> None:
    values = (np.arange(100) % (levels + 1))[None].astype(np.float32) * np.float32(0.7)
    assert mse_threshold(values, levels) == pytest.approx(0.7 * levels, rel=1e-5)


def test_a_silent_channel_has_the_threshold_zero() -> None:
    values = np.stack([np.zeros(50), np.linspace(0, 1, 50)]).astype(np.float32)
    threshold = mse_threshold(values, 4)
    assert threshold[0] == 0
    assert threshold[1] > 0


def test_the_percentile_is_taken_per_channel() -> None:
    values = np.stack([np.arange(101), 2 * np.arange(101)]).astype(np.float32)
    assert percentile_threshold(values, 90).tolist() == [90, 180]
