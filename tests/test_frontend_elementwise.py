"""Activations and arithmetic compute what onnxruntime does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from snnc.errors import UnsupportedModelError
from snnc.frontend import read_onnx
from snnc.ir import ann
from tests.onnx_models import check_equal, kinds, model, node, normal, saved


def relu_forms(opset: int) -> dict[str, tuple[str, dict[str, Any], dict[str, Any]]]:
    bounds = {"low": np.float32(0), "high": np.float32(0.5), "huge": np.float32(3.4e38)}
    forms: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
        "Relu": ("x", {}, {}),
        "Max": ("x low", {}, bounds),
        "PRelu": ("x slope", {}, {"slope": np.zeros((3, 1, 1), np.float32)}),
        "LeakyRelu": ("x", {"alpha": 0.0}, {}),
    }
    if opset < 11:
        return forms | {"Clip": ("x", {"min": 0.0, "max": 0.5}, {})}
    return forms | {"Clip": ("x low high", {}, bounds)}


@pytest.mark.parametrize("opset", [8, 10, 11, 13, 18])
@pytest.mark.parametrize("op", ["Relu", "Max", "PRelu", "LeakyRelu", "Clip"])
def test_rectifiers(tmp_path: Path, op: str, opset: int) -> None:
    inputs, attributes, constants = relu_forms(opset)[op]
    source = check_equal(
        tmp_path, model([node(op, inputs, **attributes)], ["N", 3, 4, 4], constants, opset=opset)
    )
    relu = source.graph.of_type(ann.Relu)[0]
    assert (relu.ceiling is None) is (op != "Clip")


@pytest.mark.parametrize(
    ("inputs", "ceiling"), [("x low", None), ("x low -", None), ("x low huge", None), ("x low high", 0.5)]
)
def test_clip_without_an_upper_bound_is_relu(tmp_path: Path, inputs: str, ceiling: float | None) -> None:
    bounds = {"low": np.float32(0), "high": np.float32(0.5), "huge": np.float32(np.inf)}
    source = check_equal(tmp_path, model([node("Clip", inputs)], ["N", 3, 4, 4], bounds))
    found = source.graph.of_type(ann.Relu)[0].ceiling
    assert found is None if ceiling is None else found is not None and (found == np.float32(ceiling)).all()


def test_clip_without_bounds_is_nothing(tmp_path: Path) -> None:
    source = check_equal(tmp_path, model([node("Clip", "x", "c"), node("Relu", "c")], ["N", 3, 4, 4]))
    assert kinds(source.graph) == ["Input", "Relu"]


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Relu", "x", "r"), node("Clip", "r low high")],
        [node("Relu", "x", "r"), node("Min", "r high")],
        [node("Min", "x high", "m"), node("Relu", "m")],
        [node("Min", "high x", "m"), node("Max", "m low")],
        [node("Max", "low x", "m"), node("Min", "m high")],
    ],
    ids=lambda nodes: "-".join(n.op_type for n in nodes),
)
def test_relu6_in_two_operations_is_one_rectifier(tmp_path: Path, nodes: Any) -> None:
    bounds = {"low": np.float32(0), "high": np.float32(0.5)}
    source = check_equal(tmp_path, model(nodes, ["N", 3, 4, 4], bounds))
    assert kinds(source.graph) == ["Input", "Relu"]
    ceiling = source.graph.of_type(ann.Relu)[0].ceiling
    assert ceiling is not None
    assert (ceiling == np.float32(0.5)).all()


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("inputs", ["x c", "c x"])
@pytest.mark.parametrize("constant", [(), (1,), (3, 1, 1), (1, 3, 1, 1), (1, 1, 1, 1)])
def test_arithmetic_with_constants(tmp_path: Path, op: str, inputs: str, constant: tuple[int, ...]) -> None:
    if (op, inputs) == ("Div", "c x"):
        pytest.skip("a reciprocal is refused")
    proto = model([node(op, inputs)], ["N", 3, 4, 5], {"c": np.asarray(normal(*constant)) + np.float32(2)})
    source = check_equal(tmp_path, proto)
    assert kinds(source.graph) == ["Input", "ChannelAffine"]


def test_arithmetic_per_feature_and_in_channels_last(tmp_path: Path) -> None:
    check_equal(tmp_path, model([node("Mul", "x c")], ["N", 6], {"c": normal(6)}))
    proto = model(
        [
            node("Sub", "x mean", "a"),
            node("Div", "a std", "b"),
            node("Transpose", "b", "t", perm=[0, 3, 1, 2]),
            node("Conv", "t w"),
        ],
        ["N", 5, 4, 3],
        {"mean": normal(3), "std": np.abs(normal(3)) + 0.5, "w": normal(2, 3, 1, 1)},
    )
    source = check_equal(tmp_path, proto)
    assert kinds(source.graph) == ["Input", "ChannelAffine", "Convolution"]
    assert source.graph.nodes[0].shape == (3, 5, 4)


@pytest.mark.parametrize("op", ["Add", "Max", "Min"])
def test_a_constant_of_higher_rank_is_broadcast(tmp_path: Path, op: str) -> None:
    constant = np.abs(normal(1, 1, 6)) if op != "Max" else np.zeros((1, 1, 6), np.float32)
    # The last axis is the third: of the input alone there are two.
    nodes = [node("Relu", "x", "r"), node(op, "r c", "a"), node("Softmax", "a", axis=2)]
    check_equal(tmp_path, model(nodes, ["N", 6], {"c": constant}))


def test_a_quotient_of_integers_is_refused(tmp_path: Path) -> None:
    nodes = [node("Div", "x c", "d"), node("Cast", "d", to=TensorProto.FLOAT)]
    proto = model(nodes, ["N", 6], {"c": np.int32(7)}, dtype=TensorProto.INT32)
    with pytest.raises(UnsupportedModelError, match="quotients are truncated"):
        read_onnx(saved(tmp_path, proto))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_integers_that_may_overflow_are_refused(tmp_path: Path, op: str) -> None:
    nodes = [node(op, "x c", "d"), node("Cast", "d", to=TensorProto.FLOAT)]
    proto = model(nodes, ["N", 6], {"c": np.uint8(128)}, dtype=TensorProto.UINT8)
    with pytest.raises(UnsupportedModelError, match="uint8"):
        read_onnx(saved(tmp_path, proto))
    check_equal(tmp_path, model(nodes, ["N", 6], {"c": np.int32(128)}, dtype=TensorProto.INT32))


def test_negation_and_neutral_constants(tmp_path: Path) -> None:
    nodes = [node("Mul", "x one", "a"), node("Add", "a zero", "b"), node("Neg", "b", "c"), node("Relu", "c")]
    constants = {"one": np.float32(1), "zero": np.zeros((3, 1, 1), np.float32)}
    source = check_equal(tmp_path, model(nodes, ["N", 3, 2, 2], constants))
    assert kinds(source.graph) == ["Input", "ChannelAffine", "Relu"]


@pytest.mark.parametrize(("op", "inputs"), [("Add", "x r"), ("Sum", "x r x"), ("Sum", "x c r"), ("Sum", "x")])
def test_residual_sums(tmp_path: Path, op: str, inputs: str) -> None:
    proto = model([node("Relu", "x", "r"), node(op, inputs)], ["N", 3, 4, 4], {"c": normal(3, 1, 1)})
    check_equal(tmp_path, proto)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(
    ("opset", "attributes", "shape"),
    [
        (7, {}, ["N", 6]),
        (11, {"axis": 1}, ["N", 6]),
        (11, {"axis": 1}, [1, 6, 1, 1]),
        (11, {"axis": -1}, ["N", 6]),
        (13, {}, ["N", 6]),
        (13, {"axis": 1}, ["N", 6, 1, 1]),
    ],
)
def test_softmax(tmp_path: Path, op: str, opset: int, attributes: dict[str, Any], shape: Any) -> None:
    source = check_equal(tmp_path, model([node(op, "x", **attributes)], shape, opset=opset))
    assert source.graph.of_type(ann.Softmax)[0].logarithm is (op == "LogSoftmax")


def test_log_of_softmax_and_a_reshape_after_it(tmp_path: Path) -> None:
    nodes = [node("Softmax", "x", "s", axis=1), node("Log", "s", "l"), node("Reshape", "l t")]
    source = check_equal(tmp_path, model(nodes, ["N", 6], {"t": np.array([-1, 6, 1])}))
    assert kinds(source.graph) == ["Input", "Softmax"]
    assert source.graph.of_type(ann.Softmax)[0].logarithm


def test_scalings_in_a_row_are_one(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "r"), node("Mul", "r a", "m"), node("Add", "m b", "n"), node("Div", "n a")]
    constants = {"a": np.abs(normal(3, 1, 1)) + 0.5, "b": normal(3, 1, 1)}
    source = check_equal(tmp_path, model(nodes, ["N", 3, 4, 4], constants))
    assert kinds(source.graph) == ["Input", "Relu", "ChannelAffine"]
    assert source.graph.output == "Div_y"
