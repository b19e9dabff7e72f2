"""The integers of functions of counts: they compute what they stand for, and never leave 64 bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.ir import ann, snn
from snnc.ir.counts import ROOT_BITS
from snnc.numerics.counting import Operand, counted
from snnc.numerics.requantisation import (
    MOST,
    UnboundedError,
    exponential_table,
    normaliser,
    requantiser,
)
from snnc.simulation.count_functions import count_function

drawn = settings(max_examples=40, deadline=None)
steps = st.floats(1e-6, 1e3)


@drawn
@given(steps, steps, st.integers(1, 2**40), st.randoms())
def test_a_requantiser_divides_steps(of_sum: float, of_result: float, largest: int, r: object) -> None:
    quotient = of_sum / of_result
    try:
        found = requantiser(of_sum, of_result, largest)
    except UnboundedError:
        assert quotient * largest * 2**12 > 2**30  # few bits are left only where results are large
        return
    assert 1 <= found.multiplier < 2**31
    assert 0 <= found.shift <= 62
    assert largest * found.multiplier + (1 << found.shift >> 1) < MOST
    for total in {0, 1, largest // 3, largest, -largest, -largest // 7}:
        count = (total * found.multiplier + (1 << found.shift >> 1)) >> found.shift
        wanted = total * of_sum
        assert abs(count * found.step - wanted) <= 0.5001 * found.step + 1e-15 * abs(wanted)  # in float64
    if quotient * largest >= 0.5:
        assert found.step == pytest.approx(of_result, rel=2**-12)


def test_sums_without_room_are_refused() -> None:
    with pytest.raises(UnboundedError, match="64 bits"):
        requantiser(1.0, 0.37, 2**61)
    with pytest.raises(UnboundedError, match="64 bits"):
        normaliser(0.1, 1e-5, 0.1, 2**20, 2**8, centred=True)
    with pytest.raises(UnboundedError, match="32 bits"):
        exponential_table(0.1, 255, 2**24, 15)


@drawn
@given(st.floats(1e-4, 20), st.integers(1, 500), st.integers(2, 2000), st.integers(1, 32767))
def test_tables_of_the_exponential_function(step: float, span: int, size: int, levels: int) -> None:
    table = exponential_table(step, span, size, levels)
    assert table.dtype == np.int32
    assert len(table) <= span + 1
    assert (np.diff(table) <= 0).all()
    top = int(table[0])
    assert top * max(size, levels) < 2**31
    assert np.abs(table - top * np.exp(-step * np.arange(len(table)))).max() <= 0.5
    assert len(table) == span + 1 or table[-1] == 0


@drawn
@given(
    st.floats(0.01, 1),
    st.sampled_from([1e-12, 1e-5, 1e-2, 3.0]),
    st.floats(0.005, 0.7),
    st.integers(2, 64),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_normalisation_of_counts(
    step: float, epsilon: float, wanted: float, size: int, centred: bool, seed: int
) -> None:
    counts = np.random.default_rng(seed).integers(-100, 101, (3, size, 1, 2))
    node = ann.Normalisation(
        name="n",
        inputs=("x",),
        shape=counts.shape[1:],
        axes=(0,),
        epsilon=epsilon,
        centred=centred,
        step=np.full(size, wanted, np.float32),
        lowest=-4000,
        highest=4000,
    )
    made = counted(node, [Operand("x", node.shape, np.full(size, step), 100)])
    assert isinstance(made.node, snn.CountNormalisation)
    x = step * counts
    moved = x - x.mean(axis=1, keepdims=True) if centred else x
    exact = moved / np.sqrt((moved**2).mean(axis=1, keepdims=True) + epsilon)
    found = count_function(made.node, [counts]) * made.step[0]
    assert made.step[0] == pytest.approx(wanted, rel=0.5 * wanted / 2**ROOT_BITS + 1e-6)
    # An epsilon below (step / size)^2 counts as that.
    smallest = np.sqrt((moved**2).mean(axis=1, keepdims=True)).min()
    slack = 0 if epsilon > (step / size) ** 2 * 100 else (step / size / max(smallest, step / size)) ** 2
    assert np.abs(found - exact).max() <= 0.51 * made.step[0] + (0.01 + slack) * np.abs(exact).max()


@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (-1, -1)])
@pytest.mark.parametrize("matrix", [False, True])
def test_products_of_counts_of_either_sign(signs: tuple[int, int], matrix: bool) -> None:
    rng = np.random.default_rng(3)
    shapes = [(2, 3, 4), (2, 4, 5)] if matrix else [(2, 3, 4), (2, 1, 4)]
    counts = [rng.integers(-20, 21, (5, *shape)) for shape in shapes]
    scales = [0.03 * signs[0], 0.11 * signs[1]]
    kind = ann.MatrixProduct if matrix else ann.Product
    shape = (2, 3, 5) if matrix else (2, 3, 4)
    node = kind(
        name="p",
        inputs=("a", "b"),
        shape=shape,
        step=np.full(2, 0.01, np.float32),
        lowest=-90,
        highest=300,
    )
    operands = [
        Operand(name, shape_, np.full(2, scale), 20)
        for name, shape_, scale in zip("ab", shapes, scales, strict=True)
    ]
    made = counted(node, operands)
    a, b = (scale * count for scale, count in zip(scales, counts, strict=True))
    exact = np.clip(a @ b if matrix else a * b, -0.9, 3.0)
    assert np.abs(count_function(made.node, counts) * made.step[0] - exact).max() <= 0.501 * 0.01
    assert math.copysign(1, made.step[0]) == signs[0] * signs[1]
    again = counted(node, operands, exact_step=True)
    assert abs(again.step[0]) == pytest.approx(0.01, abs=1e-9)


def test_a_softmax_of_long_uniform_rows() -> None:
    """No count becomes 0 by rounding alone."""
    node = ann.InnerSoftmax(
        name="s", inputs=("x",), shape=(2, 1, 100), axis=2, step=np.full(2, 1 / 400, np.float32), highest=400
    )
    made = counted(node, [Operand("x", node.shape, np.full(2, 0.1), 127)])
    found = count_function(made.node, [np.zeros((1, 2, 1, 100), np.int64)])
    assert (found == 4).all()
    counts = np.random.default_rng(0).integers(-127, 128, (4, 2, 1, 100))
    weights = np.exp(0.1 * counts)
    exact = weights / weights.sum(axis=3, keepdims=True)
    assert np.abs(count_function(made.node, [counts]) * made.step[0] - exact).max() < 0.51 / 400
