"""Activations of any kind are read as one function of one number, and compute what onnxruntime does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper

from snnc.errors import UnsupportedModelError
from snnc.frontend import read_onnx
from snnc.ir import ann
from tests.onnx_models import check_equal, kinds, model, node, read_again, saved

SHAPE: list[int | str | None] = ["N", 3, 4, 4]
HALF, ONE, TWO, THREE, SIX = (np.float32(value) for value in (0.5, 1, 2, 3, 6))
SLOPES = np.array([0.1, -0.3, 0.7], np.float32).reshape(3, 1, 1)

SINGLE: dict[str, tuple[str, dict[str, Any], int]] = {
    "Sigmoid": ("x", {}, 13),
    "Tanh": ("x", {}, 13),
    "HardSigmoid": ("x", {"alpha": 0.3, "beta": 0.4}, 13),
    "HardSwish": ("x", {}, 14),
    "Elu": ("x", {"alpha": 0.7}, 13),
    "Selu": ("x", {}, 13),
    "Celu": ("x", {"alpha": 2.0}, 13),
    "Softplus": ("x", {}, 13),
    "Softsign": ("x", {}, 13),
    "Mish": ("x", {}, 18),
    "LeakyRelu": ("x", {"alpha": 0.2}, 13),
    "ThresholdedRelu": ("x", {"alpha": 0.3}, 13),
    "Shrink": ("x", {"lambd": 0.4, "bias": 0.1}, 13),
    "Abs": ("x", {}, 13),
    "Exp": ("x", {}, 13),
    "Erf": ("x", {}, 13),
    "Sin": ("x", {}, 13),
    "Cos": ("x", {}, 13),
    "Atan": ("x", {}, 13),
    "Round": ("x", {}, 13),
    "Ceil": ("x", {}, 13),
    "Sign": ("x", {}, 13),
    "Sinh": ("x", {}, 13),
    "Cosh": ("x", {}, 13),
    "Asinh": ("x", {}, 13),
    "PRelu": ("x slopes", {}, 13),
    "Max": ("x half", {}, 13),
    "Min": ("x half", {}, 13),
    "Pow": ("x three", {}, 13),
    "Gelu": ("x", {"approximate": "tanh"}, 20),
}

CONSTANTS = {
    "slopes": SLOPES,
    "half": HALF,
    "one": ONE,
    "two": TWO,
    "three": THREE,
    "six": SIX,
    "minus": np.float32(-1),
    "root": np.float32(np.sqrt(0.5)),
    "shift": np.array([3, 4, 5], np.float32).reshape(1, 3, 1, 1),
    "zero": np.float32(0),
}


def used(nodes: list[NodeProto]) -> dict[str, Any]:
    names = {name for each in nodes for name in each.input}
    return {name: value for name, value in CONSTANTS.items() if name in names}


@pytest.mark.parametrize("op", SINGLE)
def test_single_operators(tmp_path: Path, op: str) -> None:
    inputs, attributes, opset = SINGLE[op]
    nodes = [node(op, inputs, **attributes)]
    source = check_equal(tmp_path, model(nodes, SHAPE, used(nodes), opset=opset))
    assert kinds(source.graph) == ["Input", "Pointwise"]


CHAINS = {
    "SiLU": [node("Sigmoid", "x", "s"), node("Mul", "x s")],
    "SiLU the other way round": [node("Sigmoid", "x", "s"), node("Mul", "s x")],
    "GELU": [
        node("Mul", "x root", "a"),
        node("Erf", "a", "b"),
        node("Add", "b one", "c"),
        node("Mul", "x c", "d"),
        node("Mul", "d half"),
    ],
    "GELU, halved first": [
        node("Mul", "x half", "h"),
        node("Div", "x two", "a"),
        node("Erf", "a", "b"),
        node("Add", "b one", "c"),
        node("Mul", "h c"),
    ],
    "HardSwish": [
        node("Add", "x three", "a"),
        node("Clip", "a zero six", "b"),
        node("Mul", "x b", "c"),
        node("Div", "c six"),
    ],
    "Mish": [node("Softplus", "x", "a"), node("Tanh", "a", "b"), node("Mul", "x b")],
    "HardTanh": [node("Clip", "x minus one")],
    "logarithm": [node("Add", "x shift", "a"), node("Log", "a")],
    "root of a square": [node("Mul", "x x", "a"), node("Add", "a one", "b"), node("Sqrt", "b")],
    "reciprocal": [node("Mul", "x x", "a"), node("Add", "a one", "b"), node("Div", "two b")],
    "rectifier inside": [node("Relu", "x", "a"), node("Sub", "a shift", "b"), node("Tanh", "b")],
    "choice": [
        node("Greater", "x zero", "a"),
        node("Mul", "x half", "b"),
        node("Where", "a x b"),
    ],
    "both": [
        node("Greater", "x minus", "a"),
        node("Less", "x half", "b"),
        node("And", "a b", "c"),
        node("Where", "c x half"),
    ],
    "either": [
        node("Greater", "x half", "a"),
        node("Less", "x minus", "b"),
        node("Or", "a b", "c"),
        node("Where", "c x half"),
    ],
    "inverse functions": [
        node("Sigmoid", "x", "a"),
        node("Acos", "a", "b"),
        node("Asin", "a", "c"),
        node("Atanh", "a", "d"),
        node("Tan", "a", "e"),
        node("Sum", "b c d e", "f"),
        node("Add", "a two", "g"),
        node("Acosh", "g", "h"),
        node("Mul", "f h"),
    ],
    "comparison": [
        node("Less", "x half", "a"),
        node("Cast", "a", "b", to=TensorProto.FLOAT),
        node("Mul", "x b"),
    ],
    "many of one": [node("Exp", "x", "a"), node("Sum", "a x one", "b"), node("Max", "b x half")],
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains_are_one_function(tmp_path: Path, name: str) -> None:
    nodes = CHAINS[name]
    source = check_equal(tmp_path, model(nodes, SHAPE, used(nodes)))
    assert len(source.graph.of_type(ann.Pointwise)) == 1
    assert not source.graph.of_type(ann.Relu)
    assert len(source.graph.nodes) <= 3  # an affine map at the head stays one


@pytest.mark.parametrize("op", ["Gelu", "FastGelu", "QuickGelu", "BiasGelu"])
def test_operators_of_onnxruntime(tmp_path: Path, op: str) -> None:
    bias = {"bias": np.array([0.1, 0.2, 0.3, 0.4], np.float32)} if op == "BiasGelu" else {}
    made = helper.make_node(op, ["x", *bias], ["y"], domain="com.microsoft")
    proto = model([made], ["N", 4], bias)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    source = check_equal(tmp_path, proto)
    assert kinds(source.graph) == ["Input", "Pointwise"]


def test_swish_has_a_slope(tmp_path: Path) -> None:
    proto = model([node("Swish", "x", alpha=0.5)], SHAPE, opset=24, ir_version=10)
    source = read_onnx(saved(tmp_path, proto))
    x = np.linspace(-3, 3, 48, dtype=np.float32).reshape(1, 3, 4, 4)
    np.testing.assert_allclose(read_again(source, x), (x / (1 + np.exp(-x / 2))).reshape(1, -1), rtol=1e-5)


def test_constants_of_channels_are_kept_apart(tmp_path: Path) -> None:
    nodes = [node("PRelu", "x slopes", "a"), node("Sub", "a shift", "b"), node("Sigmoid", "b")]
    (found,) = check_equal(tmp_path, model(nodes, SHAPE, used(nodes))).graph.of_type(ann.Pointwise)
    assert found.constants.shape == (2, 3)


def test_constants_of_places_make_each_value_a_channel(tmp_path: Path) -> None:
    places = {"places": np.linspace(1, 3, 16, dtype=np.float32).reshape(1, 1, 4, 4)}
    nodes = [node("Sigmoid", "x", "s"), node("Pow", "s places", "p"), node("Conv", "p w")]
    weight = {"w": np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)}
    (found,) = check_equal(tmp_path, model(nodes, SHAPE, {**places, **weight})).graph.of_type(ann.Pointwise)
    assert found.shape == (48,)


def test_integers_are_no_numbers(tmp_path: Path) -> None:
    nodes = [node("Abs", "x", "a"), node("Cast", "a", to=TensorProto.FLOAT)]
    path = saved(tmp_path, model(nodes, SHAPE, dtype=TensorProto.INT8))
    with pytest.raises(UnsupportedModelError, match="computes in integers"):
        read_onnx(path)


def test_what_lies_within_is_read_once_more_where_others_read_it(tmp_path: Path) -> None:
    weight = {"w": np.random.default_rng(0).normal(size=(2, 3, 1, 1)).astype(np.float32)}
    nodes = [
        node("Sigmoid", "x", "s"),
        node("Tanh", "s", "t"),
        node("Conv", "s w", "p"),
        node("Conv", "t w", "q"),
        node("Add", "p q"),
    ]
    source = check_equal(tmp_path, model(nodes, SHAPE, weight))
    functions = source.graph.of_type(ann.Pointwise)
    assert [each.program for each in functions] == ["Sigmoid(x); Tanh(v0)", "Sigmoid(x)"]
    assert {each.inputs for each in functions} == {("x",)}


def test_scaled_copies_share_one_function(tmp_path: Path) -> None:
    weight = {"w": np.random.default_rng(0).normal(size=(2, 3, 1, 1)).astype(np.float32)}
    nodes = [
        node("Sigmoid", "x", "s"),
        node("Mul", "s two", "t"),
        node("Conv", "s w", "p"),
        node("Conv", "t w", "q"),
        node("Add", "p q"),
    ]
    source = check_equal(tmp_path, model(nodes, SHAPE, {**used(nodes), **weight}))
    assert kinds(source.graph).count("Pointwise") == 1


RECTIFIERS = {
    "Relu": [node("Relu", "x")],
    "Relu6": [node("Clip", "x zero six")],
    "affine": [node("Mul", "x two", "a"), node("Add", "a shift")],
    "Relu and affine": [node("Relu", "x", "a"), node("Mul", "a two", "b"), node("Relu", "b")],
    "Where": [node("Less", "x zero", "a"), node("Where", "a zero x")],
    "Where and affine": [
        node("Less", "x zero", "a"),
        node("Where", "a zero x", "b"),
        node("Add", "b shift", "c"),
        node("Relu", "c"),
    ],
    "Max": [node("Max", "x zero")],
    "Min behind Relu": [node("Relu", "x", "a"), node("Min", "a six")],
    "residual": [node("Relu", "x", "a"), node("Add", "a x", "b"), node("Relu", "b")],
}


@pytest.mark.parametrize("name", RECTIFIERS)
def test_rectifiers_and_affine_maps_stay_what_they_are(tmp_path: Path, name: str) -> None:
    nodes = RECTIFIERS[name]
    source = check_equal(tmp_path, model(nodes, SHAPE, used(nodes)))
    assert not source.graph.of_type(ann.Pointwise)


CALLS = ["Sigmoid", "Tanh", "Abs", "Neg", "Softplus", "Elu", "Sin"]
PAIRS = ["Mul", "Add", "Sub", "Max", "Min"]


@given(st.data())
def test_any_composition_is_what_onnxruntime_computes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    nodes, known = [], ["x"]
    for number in range(data.draw(st.integers(1, 6))):
        name = f"t{number}"
        if data.draw(st.booleans()):
            nodes.append(node(data.draw(st.sampled_from(CALLS)), data.draw(st.sampled_from(known)), name))
        else:
            first = data.draw(st.sampled_from(known))
            second = data.draw(st.sampled_from([*known, "half", "shift", "minus"]))
            nodes.append(node(data.draw(st.sampled_from(PAIRS)), f"{first} {second}", name))
        known.append(name)
    nodes.append(node("Tanh", known[-1]))
    check_equal(tmp_path_factory.mktemp("net"), model(nodes, SHAPE, used(nodes)))
