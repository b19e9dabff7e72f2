"""How far levels reach: judged by rows that were left out, weighed by what reads them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from snnc.compensation.reader_weights import squared_weights
from snnc.ir.ann import Convolution, Linear, Product, Relu
from snnc.ir.graph import FloatArray
from snnc.numerics.reach import FACTORS, SHARES, UNFELT, WIDEST, Reach, cautious, chosen_reach
from snnc.numerics.step_functions import Measured, carried
from snnc.numerics.thresholds import Method, reach_beyond
from snnc.passes.clip_activations import ClipActivations
from snnc.pipeline import Context
from snnc.simulation.reference import ReferenceSimulator
from snnc.source.calibration import Calibration
from tests.ann_graphs import HALVE, Builder

LEVELS = 255


def widest(values: FloatArray) -> NDArray[np.float64]:
    return values.max(axis=1).astype(np.float64)


def beyond(step: NDArray[np.float64], values: FloatArray) -> NDArray[np.float64]:
    return np.square(np.maximum(values - step[:, None], 0), dtype=np.float64).sum(axis=1)


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=5),
    st.sampled_from(FACTORS),
    st.sampled_from((0.0, *SHARES)),
)
def test_no_step_becomes_smaller(steps: list[float], factor: float, share: float) -> None:
    step = np.array(steps)
    wide = Reach(factor, share).of(step)
    assert (wide >= step).all()
    assert (wide >= share * step.max()).all()


def test_rows_that_are_alike_are_no_reason_to_reach_further() -> None:
    row = np.random.default_rng(0).random((3, 1, 20_000)).astype(np.float32)
    assert reach_beyond(np.repeat(row, 12, axis=1), LEVELS, None) == Reach()


def test_few_rows_with_rare_large_values_are() -> None:
    values = np.random.default_rng(0).exponential(size=(40, 12, 1)).astype(np.float32)
    found = reach_beyond(values, LEVELS, None)
    assert found != Reach()
    new = np.random.default_rng(1).exponential(size=(40, 4000)).astype(np.float32)
    own = widest(values[:, :, 0])
    assert beyond(found.of(own), new).sum() < 0.5 * beyond(own, new).sum()


def test_a_few_levels_are_not_spread() -> None:
    values = np.random.default_rng(0).exponential(size=(40, 12, 1)).astype(np.float32)
    assert reach_beyond(values, 15, None) == Reach()


@pytest.mark.parametrize("shape", [(4, 1, 9), (4, 6, 3)])
def test_one_row_or_silence_says_nothing(shape: tuple[int, int, int]) -> None:
    values = np.zeros(shape, np.float32) if shape[1] > 1 else np.ones(shape, np.float32)
    assert chosen_reach(values, widest, beyond) == Reach()


def test_a_channel_that_few_rows_know_gets_a_share_of_the_widest() -> None:
    values = np.full((8, 8, 1), 0.01, np.float32)
    values[np.arange(8), np.arange(8)] = 1  # each row wakes another channel
    found = chosen_reach(values, widest, beyond)
    assert found.share > 0.5
    assert found.factor == 1


def test_only_channels_that_are_read_count() -> None:
    values = np.ones((2, 8, 1), np.float32)
    values[1] = np.random.default_rng(0).exponential(size=(8, 1)) ** 3
    assert reach_beyond(values, LEVELS, np.array([1.0, 0.0])) == Reach()
    assert reach_beyond(values, LEVELS, np.array([0.0, 1.0])).factor > 1


def begun() -> Builder:
    """Return four channels of 4 x 4, rectified."""
    b = Builder(3, (4, 4, 4))
    b.relu("relu", "x")
    return b


def test_weights_of_convolutions_add_up() -> None:
    b = begun()
    graph = b.graph(b.sum("sum", b.conv("one", "relu", 4), b.conv("two", "relu", 4, groups=4)))
    one, two = (graph[name] for name in ("one", "two"))
    assert isinstance(one, Convolution)
    assert isinstance(two, Convolution)
    each = np.square(one.weight, dtype=float).sum(axis=(0, 2, 3)) + np.square(two.weight).sum(axis=(1, 2, 3))
    assert squared_weights(graph, "relu") == pytest.approx(each)


def test_weights_behind_a_pool_and_a_flat_map_add_up_over_positions() -> None:
    b = begun()
    graph = b.graph(b.linear("read", b.flatten("flat", b.mean("pool", "relu", HALVE)), 5))
    read = graph["read"]
    assert isinstance(read, Linear)
    each = np.square(read.weight.reshape(5, 4, 4), dtype=float).sum(axis=(0, 2))
    assert squared_weights(graph, "relu") == pytest.approx(each)


def test_without_weights_nothing_is_known() -> None:
    b = begun()
    assert squared_weights(b.graph(b.sum("sum", "relu", "x")), "relu") is None
    assert squared_weights(b.graph("relu"), "relu") is None
    graph = b.graph(b.conv("last", "relu", 4))
    assert squared_weights(graph, "last") is None


def test_the_pass_reaches_further_with_many_levels_alone() -> None:
    b = begun()
    network = b.graph(b.conv("read", "relu", 4))
    rows = np.random.default_rng(0).exponential(size=(12, 4, 4, 4)).astype(np.float32) ** 2
    thresholds = {}
    for levels in (LEVELS, 15):
        clipped = ClipActivations(levels=levels).run(
            network, Context(Calibration(rows), 1, ReferenceSimulator())
        )
        node = clipped["relu"]
        assert isinstance(node, Relu)
        assert node.threshold is not None
        thresholds[levels] = node.threshold
    highest = rows.max(axis=(0, 2, 3))
    assert (thresholds[LEVELS] > 1.05 * highest).any()
    assert (thresholds[15] <= highest * 1.0001).all()


@given(st.lists(st.floats(1e-6, 100), min_size=1, max_size=5), st.floats(0.1, 1000), st.integers(1, 5000))
def test_caution_costs_what_is_not_felt(steps: list[float], size: float, rows: int) -> None:
    step = np.array(steps)
    power = np.square(size * step)
    wide = cautious(step, power, rows)
    assert (wide >= step).all()
    assert (wide <= WIDEST * step).all()
    assert (cautious(step, power, rows + 1) <= wide).all()
    wider = wide > step
    assert (wide[wider] ** 2 / 12 <= UNFELT * power[wider] * (1 + 1e-9)).all()


def test_of_few_rows_a_product_reaches_further_than_it_was_seen() -> None:
    values = np.random.default_rng(0).normal(0, 1, (3, 22, 50)).astype(np.float32)
    node = Product(name="p", inputs=("a", "b"), shape=(3,))
    reaches = []
    for rows in (22, 11_000):
        some = np.tile(values, (1, rows // 22, 1))
        flat = some.reshape(3, -1)
        measured = Measured(node, flat, flat.min(axis=1), flat.max(axis=1), rows)
        (found,) = carried([measured], 1023, common=True, method=Method.MSE)
        assert isinstance(found, Product)
        assert found.step is not None
        reaches.append(float(found.step[0]) * max(found.highest, -found.lowest))
    assert reaches[0] > 1.5 * reaches[1]
