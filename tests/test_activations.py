"""Activations of any kind in the ANN dialect: onnxruntime computes what the reference defines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.ir import ann
from snnc.ir.function import IDENTITY, OPERATORS, Function
from snnc.ir.graph import FloatArray
from snnc.simulation.ann_reference import run_ann
from snnc.source.ann_session import AnnSession

SEED = 5


def both(nodes: list[ann.AnnNode], rows: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
    """Return what onnxruntime and the reference compute of a network's last node."""
    inputs = [node for node in nodes if isinstance(node, ann.Input)]
    graph = ann.AnnGraph(
        name="net", nodes=tuple(nodes), outputs=(nodes[-1].name,), output_names=(nodes[-1].name,)
    )
    graph.verify()
    if rows is None:
        rows = np.random.default_rng(SEED).normal(size=(3, *inputs[0].shape)).astype(np.float32)
    found = AnnSession(graph, graph.outputs, 1).run(rows)[nodes[-1].name]
    return found, run_ann(graph, rows)[0]


def given_input(*shape: int) -> ann.Input:
    return ann.Input(name="x", shape=shape)


def pointwise(program: str, constants: FloatArray, *shape: int, **levels: Any) -> ann.Pointwise:
    return ann.Pointwise(name="y", inputs=("x",), shape=shape, program=program, constants=constants, **levels)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("shape", [(4,), (4, 2, 3)])
def test_every_operator_of_a_function_is_exported(operator: str, shape: tuple[int, ...]) -> None:
    count = OPERATORS[operator][0]
    program = f"{operator}({', '.join(['x', 'c0', 'c1'][:count])})"
    constants = np.random.default_rng(SEED).uniform(0.5, 2, (max(count - 1, 0), 4)).astype(np.float32)
    found, wanted = both([given_input(*shape), pointwise(program, constants, *shape)])
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)


@given(st.data())
def test_a_composition_is_exported(data: st.DataObject) -> None:
    constants = np.array(
        data.draw(st.lists(st.floats(0.25, 4, width=32), min_size=2, max_size=3)), np.float32
    )
    calls: list[str] = []
    for number in range(data.draw(st.integers(1, 5))):
        operator = data.draw(st.sampled_from(["Tanh", "Sigmoid", "Mul", "Add", "Max", "Where", "Elu", "Abs"]))
        known = ["x", *(f"c{n}" for n in range(len(constants))), *(f"v{n}" for n in range(number))]
        read = [data.draw(st.sampled_from(known)) for _ in range(OPERATORS[operator][0])]
        calls.append(f"{operator}({', '.join(read)})")
    calls.append(f"Add(x, v{len(calls) - 1})")
    found, wanted = both([given_input(2), pointwise("; ".join(calls), constants[:, None], 2)])
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)


def test_chosen_levels_clip_what_is_carried() -> None:
    levels = {"step": np.array([0.25, 0.5], np.float32), "lowest": -2, "highest": 3}
    found, wanted = both([given_input(2), pointwise(IDENTITY.program, IDENTITY.constants, 2, **levels)])
    np.testing.assert_array_equal(found, wanted)
    assert found.min() >= -1
    assert found.max() <= 1.5


def test_products_spread() -> None:
    nodes = [
        given_input(3, 2, 4),
        ann.Maximum(name="m", inputs=("x",), shape=(3, 1, 1), axes=(1, 2)),
        ann.Product(name="y", inputs=("x", "m"), shape=(3, 2, 4)),
    ]
    found, wanted = both(nodes)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("transposed", [False, True])
def test_matrices_are_multiplied(transposed: bool) -> None:
    nodes = [
        given_input(2, 3, 3),
        ann.MatrixProduct(name="y", inputs=("x", "x"), shape=(2, 3, 3), transposed=transposed),
    ]
    found, wanted = both(nodes)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("centred", [False, True])
def test_values_are_normalised(axes: tuple[int, ...], centred: bool) -> None:
    norm = ann.Normalisation(
        name="y", inputs=("x",), shape=(3, 2, 4), axes=axes, epsilon=1e-3, centred=centred
    )
    found, wanted = both([given_input(3, 2, 4), norm])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 2])
def test_softmax_within_the_network(axis: int) -> None:
    node = ann.InnerSoftmax(name="y", inputs=("x",), shape=(3, 2, 4), axis=axis)
    found, wanted = both([given_input(3, 2, 4), node])
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_function_keeps_channels_apart() -> None:
    function = Function("Mul(x, c0)", np.array([[1, 2]], np.float32))
    np.testing.assert_array_equal(function(np.ones((2, 3), np.float32)), [[1] * 3, [2] * 3])
