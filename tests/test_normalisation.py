"""Rows judged by what a trained network makes of them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.data.normalisation import Mistake, against_running, judge, readings
from snnc.ir.ann import BatchNormalisation
from snnc.ir.blocks import in_blocks
from snnc.ir.graph import FloatArray
from snnc.metrics.task import Task
from snnc.source.ann_session import AnnSession
from snnc.source.calibration import Calibration
from tests.ann_graphs import Builder

CLASSES, SHAPE = 5, (3, 8, 8)


def prototypes() -> FloatArray:
    """One picture per class, in bytes, whose colours differ."""
    random = np.random.default_rng(0)
    return random.uniform(0, 255, (CLASSES, *SHAPE)).astype(np.float32)


def bytes_of(n: int, seed: int) -> FloatArray:
    random = np.random.default_rng(seed)
    own = prototypes()[random.integers(0, CLASSES, n)]
    return np.clip(own + 60 * random.standard_normal(own.shape), 0, 255).astype(np.float32)


def taught(sharpness: float = 1.0, unit: float = 255.0) -> Callable[[FloatArray], FloatArray]:
    """A network that knows the classes: two layers, trained on rows in 0 .. 1 where ``unit`` is 255."""
    centres = (prototypes() / unit).reshape(CLASSES, -1)
    deviation = 60 / unit

    def run(rows: FloatArray) -> FloatArray:
        distance = np.square(rows.reshape(len(rows), 1, -1) - centres).mean(axis=2) / deviation**2
        hidden = np.maximum(3 - distance, 0)
        return (sharpness * hidden).astype(np.float32)

    return run


def channels_last(x: FloatArray) -> FloatArray:
    return np.moveaxis(x, 1, -1).reshape(x.shape)


MISTAKES: dict[str, tuple[Callable[[FloatArray], FloatArray], Mistake]] = {
    "bytes": (lambda x: x, Mistake.SCALE),
    "divided twice": (lambda x: x / 255**2, Mistake.SCALE),
    "signed": (lambda x: x / 127.5 - 1, Mistake.SCALE),
    "centred": (lambda x: x - 128, Mistake.SCALE),
    "colours": (lambda x: x[:, ::-1] / 255, Mistake.CHANNELS),
    "channels last": (lambda x: channels_last(x / 255), Mistake.AXES),
    "height and width": (lambda x: x.swapaxes(2, 3) / 255, Mistake.AXES),
}


@pytest.mark.parametrize("sharpness", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_however_sure_the_network_is(name: str, sharpness: float) -> None:
    mistake, kind = MISTAKES[name]
    found = judge(taught(sharpness), np.ascontiguousarray(mistake(bytes_of(128, 1))), task=None)
    assert found is not None
    assert found.mistake is kind
    assert found.diagnostic().code.number == "SNN202"


@given(st.integers(0, 10**6), st.sampled_from([0.01, 1.0, 20.0]), st.sampled_from([1.0, 255.0]))
def test_right_rows_are_not_reported(seed: int, sharpness: float, unit: float) -> None:
    rows = bytes_of(128, seed) / np.float32(unit)
    assert judge(taught(sharpness, unit), rows, task=Task.CLASSES) is None


@pytest.mark.parametrize("contrast", [0.15, 0.07])
@pytest.mark.parametrize("seed", range(20))
def test_a_weak_network_is_not_reported(seed: int, contrast: float) -> None:
    """Its classes are so alike that it is right on 90 % or on half of the rows, and sure of none."""
    random = np.random.default_rng(seed)
    centres = (128 + (prototypes() - 128) * np.float32(contrast)) / np.float32(255)
    own = centres[random.integers(0, CLASSES, 128)]
    rows = np.clip(own + 60 / 255 * random.standard_normal(own.shape), 0, 1).astype(np.float32)

    def run(values: FloatArray) -> FloatArray:
        return -np.square(values[:, None] - centres).mean(axis=(2, 3, 4)).astype(np.float32)

    assert judge(run, rows, task=Task.CLASSES) is None


@pytest.mark.parametrize("offset", [0.5, 3.0])
def test_an_untrained_network_is_hardly_ever_reported(offset: float) -> None:
    """Rows off the centre tell it less than centred ones, whatever it was meant to read."""
    said = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        rows = (offset + random.standard_normal((128, 64))).astype(np.float32)
        first = random.standard_normal((64, 32)) * np.sqrt(2 / 64)
        second = random.standard_normal((32, 10)) * np.sqrt(1 / 32)

        def run(values: FloatArray, first: Any = first, second: Any = second) -> Any:
            return np.maximum(values @ first, 0) @ second

        said += judge(run, rows, task=Task.CLASSES) is not None
    assert said <= 1


def test_a_network_without_biases_betrays_the_scale_by_its_logits() -> None:
    weights = np.linalg.pinv(prototypes().reshape(CLASSES, -1) / 255)  # gives 1 for the right class

    def run(rows: FloatArray) -> FloatArray:
        return (10 * (rows.reshape(len(rows), -1) @ weights)).astype(np.float32)

    assert judge(run, bytes_of(128, 1) / np.float32(255), task=Task.CLASSES) is None
    found = judge(run, bytes_of(128, 1), task=Task.CLASSES)
    assert found is not None
    assert "a lead of" in found.text


def test_several_values_are_no_classes() -> None:
    def run(rows: FloatArray) -> FloatArray:
        level = rows.reshape(len(rows), -1).mean(axis=1, keepdims=True)
        return (1e4 * level + np.arange(6) * 1e3).astype(np.float32)

    assert judge(run, bytes_of(128, 1), task=None) is None


@pytest.mark.parametrize("outputs", [1, int(np.prod(SHAPE))])
def test_one_value_and_a_reconstruction_are_not_judged(outputs: int) -> None:
    def run(rows: FloatArray) -> FloatArray:
        return rows.reshape(len(rows), -1)[:, :outputs]

    assert judge(run, bytes_of(128, 1), task=None) is None


def test_few_rows_tell_nothing() -> None:
    assert judge(taught(), bytes_of(31, 1), task=Task.CLASSES) is None


def test_the_message_says_what_was_seen_and_what_to_do() -> None:
    found = judge(taught(), bytes_of(128, 1), task=Task.CLASSES)
    assert found is not None
    assert found.text.startswith("the rows lie in 0 .. 255, and the network ")
    assert "0 .. 1" in found.text or "divided by 255" in found.text
    assert "divide, mean and std" in found.cure


@given(st.integers(0, 10**6), st.sampled_from([(1.0, 0.0), (1.5, 0.5)]))
def test_batch_normalisation_knows_its_rows(seed: int, change: tuple[float, float]) -> None:
    random = np.random.default_rng(seed)
    mean, std = 10 * random.standard_normal(16), random.uniform(0.1, 10, 16)
    std[0] = 1e-9  # a dead channel
    values = (mean + std * (change[1] + change[0] * random.standard_normal((64, 16)))).astype(np.float32)
    running = mean.astype(np.float32), np.square(std).astype(np.float32)
    assert against_running("bn", values, *running) is None
    for wrong in (values / 255, values * 255, values - 50 * std.astype(np.float32)):
        found = against_running("bn", wrong, *running)
        assert found is not None
        assert found.node == "bn"


def test_regression_with_batch_normalisation_is_judged_by_it() -> None:
    b = Builder(0)
    graph = b.graph(b.linear("fc", b.flatten("flat", b.norm("bn", b.conv("conv", "x", 8))), 1))
    rows = np.random.default_rng(0).standard_normal((120, *SHAPE)).astype(np.float32)
    values = AnnSession(graph, ["conv"], 1).run(rows)["conv"]
    norm = graph["bn"]
    assert isinstance(norm, BatchNormalisation)
    running = norm.with_(mean=values.mean(axis=(0, 2, 3)), variance=values.var(axis=(0, 2, 3)))
    trained = graph.replacing({"bn": running})
    assert Calibration(rows, 1).warnings(trained) == ()
    (found,) = Calibration(rows * 255, 1).warnings(trained)
    assert (found.code.number, found.node) == ("SNN202", "bn")


def test_readings_that_change_nothing_are_left_out() -> None:
    rows = bytes_of(32, 0)
    words = {item.words for item in readings(rows)}
    assert "brought to 0 .. 255" not in words
    assert "brought to 0 .. 1" in words
    assert {item.mistake for item in readings(rows, order_only=True)} == {Mistake.AXES, Mistake.CHANNELS}
    assert all(item.way(rows).shape == rows.shape for item in readings(rows))


def test_readings_in_blocks_are_those_of_the_whole() -> None:
    rows = bytes_of(32, 0).reshape(32, -1, 4) / 255
    whole = {item.words: item.way(rows) for item in readings(rows)}
    with patch("snnc.ir.blocks.BLOCK", 5 * rows[0].nbytes):
        for item in readings(rows):
            made = np.concatenate([item.way(rows[some]) for some in in_blocks(rows)])
            np.testing.assert_allclose(made, whole[item.words], rtol=1e-5, atol=1e-6)
    values = rows.astype(np.float64)
    over = (0, 2)
    standard = (values - values.mean(over, keepdims=True)) / values.std(over, keepdims=True)
    np.testing.assert_allclose(whole["standardised per channel"], standard, rtol=1e-5, atol=1e-6)


def test_judging_takes_little_memory() -> None:
    """The rows are large already: no second copy of them is held, in no reading."""
    rows = np.random.default_rng(0).standard_normal((64, 3, 48, 48)).astype(np.float32)
    classes = np.random.default_rng(1).standard_normal((rows[0].size, 10)).astype(np.float32)
    blocks = []

    def run(some: np.ndarray) -> np.ndarray:
        blocks.append(len(some))
        return some.reshape(len(some), -1) @ classes

    with patch("snnc.ir.blocks.BLOCK", rows.nbytes // 16):
        tracemalloc.start()
        try:
            judge(run, rows, task=Task.CLASSES)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert len(blocks) > 12 * 16
    assert set(blocks) == {4}
    assert peak < 0.8 * rows.nbytes
