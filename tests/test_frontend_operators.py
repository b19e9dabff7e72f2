"""Whole small networks, folding, and the operator table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from snnc.frontend import check_onnx, supported_operators
from tests.onnx_models import check_equal, kinds, model, node, normal, saved

OPSETS = (7, 9, 10, 11, 12, 13, 15, 18, 21, 23)


@pytest.mark.parametrize("opset", OPSETS)
def test_small_network_in_every_opset(tmp_path: Path, opset: int) -> None:
    axes: dict[str, Any] = {"axes": [2, 3]} if opset < 13 else {}
    source = check_equal(
        tmp_path,
        model(
            [
                node("Conv", "x w b", "c", pads=[1, 1, 1, 1]),
                node("BatchNormalization", "c s t m v", "n", **({"spatial": 1} if opset < 9 else {})),
                node("Relu", "n", "r"),
                node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]),
                node("GlobalAveragePool", "p", "g"),
                node("Squeeze", "g" if opset < 13 else "g axes", "f", **axes),
                node("Gemm", "f w2 b2", "l", transB=1),
                node("Softmax", "l", "y", axis=1),
            ],
            ["N", 3, 6, 6],
            {
                "w": normal(4, 3, 3, 3),
                "b": normal(4),
                "s": normal(4),
                "t": normal(4),
                "m": normal(4),
                "v": np.abs(normal(4)) + 0.1,
                "w2": normal(5, 4),
                "b2": normal(5),
                **({} if opset < 13 else {"axes": np.array([2, 3])}),
            },
            opset=opset,
        ),
    )
    assert source.opset == opset
    expected = "Input Convolution BatchNormalisation Relu MaxPool AveragePool Reshape Linear Softmax"
    assert kinds(source.graph) == expected.split()


@pytest.mark.parametrize("opset", [8, 11, 13, 17])
def test_shape_chains_are_folded(tmp_path: Path, opset: int) -> None:
    unsqueeze = node("Unsqueeze", "g", "u", axes=[0]) if opset < 13 else node("Unsqueeze", "g zero1", "u")
    nodes = [
        node("Relu", "x", "r"),
        node("Shape", "r", "s"),
        helper.make_node("Constant", [], ["zero"], value=helper.make_tensor("v", TensorProto.INT64, [], [0])),
        node("Gather", "s zero", "g"),
        unsqueeze,
        node("Concat", "u rest", "t", axis=0),
        node("Reshape", "r t", "f"),
        node("Gemm", "f w b"),
    ]
    constants = {"rest": np.array([-1]), "zero1": np.array([0]), "w": normal(24, 2), "b": normal(2)}
    source = check_equal(tmp_path, model(nodes, ["N", 2, 3, 4], constants, opset=opset))
    assert kinds(source.graph) == ["Input", "Relu", "Linear"]


def test_constants_are_folded_and_dequantised(tmp_path: Path) -> None:
    nodes = [
        node("DequantizeLinear", "q scale zero", "w", axis=0),
        node("Transpose", "w", "wt", perm=[1, 0]),
        node("Mul", "wt two", "w2"),
        node("MatMul", "x w2"),
    ]
    constants = {
        "q": np.arange(-6, 6, dtype=np.int8).reshape(2, 6),
        "scale": np.array([0.5, 0.1], np.float32),
        "zero": np.array([1, -1], np.int8),
        "two": np.float32(2),
    }
    assert kinds(check_equal(tmp_path, model(nodes, ["N", 6], constants, opset=13)).graph) == [
        "Input",
        "Linear",
    ]


CONSTANTS = {
    "c": normal(1, 6),
    "image": normal(1, 1, 8, 8),
    "s": np.ones(6, np.float32),
    "half": np.float32(0.5),
    "yes": np.array(True),
}


@pytest.mark.parametrize(
    ("operation", "opset", "says"),
    [
        (node("RandomUniformLike", "c", "r"), 15, "RandomUniformLike is not supported"),
        (node("Dropout", "c half yes", "r"), 15, "training mode"),
        (node("Softmax", "c", "r"), 12, "before opset 13"),
        (node("LogSoftmax", "c", "r", axis=0), 12, "before opset 13"),
        (node("Hardmax", "c", "r"), 12, "before opset 13"),
        (node("BatchNormalization", "c s s s s", "r"), 13, "before opset 14"),
        (node("MaxPool", "image", "r", kernel_shape=[3, 3], pads=[1, 1, 0, 0]), 15, "not folded"),
        (node("AveragePool", "image", "r", kernel_shape=[3, 3], auto_pad="VALID", ceil_mode=1), 15, "not"),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else None,
)
def test_constants_that_would_be_folded_wrongly(
    tmp_path: Path, operation: onnx.NodeProto, opset: int, says: str
) -> None:
    problems = check_onnx(
        saved(tmp_path, model([operation, node("Add", "x r")], ["N", 6], CONSTANTS, opset=opset))
    )
    assert len(problems) == 1
    assert says in problems[0].message
    assert problems[0].node == operation.name


def test_softmax_and_dropout_of_constants_are_folded(tmp_path: Path) -> None:
    nodes = [node("Softmax", "c", "s"), node("Dropout", "s", "d"), node("Mul", "x d")]
    check_equal(tmp_path, model(nodes, ["N", 6], {"c": CONSTANTS["c"]}, opset=13))


def test_a_constant_branch_is_taken(tmp_path: Path) -> None:
    then = helper.make_graph(
        [node("Squeeze", "r", "t")],
        "then",
        [],
        [helper.make_value_info("t", helper.make_tensor_type_proto(1, None))],
    )
    other = helper.make_graph(
        [node("Identity", "r", "o")],
        "else",
        [],
        [helper.make_value_info("o", helper.make_tensor_type_proto(1, None))],
    )
    nodes = [
        node("Relu", "x", "r"),
        node("Shape", "r", "s"),
        node("Gather", "s last", "n"),
        node("Equal", "n one", "c"),
        node("If", "c", "f", then_branch=then, else_branch=other),
        node("MatMul", "f w"),
    ]
    constants = {"last": np.int64(2), "one": np.int64(1), "w": normal(5, 2)}
    check_equal(tmp_path, model(nodes, [1, 5, 1], constants))


def test_sizes_are_folded(tmp_path: Path) -> None:
    nodes = [
        node("Size", "x", "n"),
        node("Reshape", "n one", "s"),
        node("Reshape", "x s", "f"),
        node("Relu", "f", "r"),
        node("MatMul", "r w"),
    ]
    check_equal(tmp_path, model(nodes, [1, 2, 3], {"one": np.array([1]), "w": normal(6, 2)}))


def test_dead_code_is_ignored(tmp_path: Path) -> None:
    nodes = [node("Hardmax", "x", "t"), node("Relu", "x"), node("Relu", "t", "u")]
    assert kinds(check_equal(tmp_path, model(nodes, ["N", 4])).graph) == ["Input", "Relu"]


def test_every_operator_of_the_table_is_tested() -> None:
    text = "".join(
        path.read_text(encoding="utf-8")
        for kind in ("test_frontend_*.py", "test_quantised_*.py", "quantised_models.py", "test_recurrent.py")
        for path in Path(__file__).parent.glob(kind)
    )
    rows = supported_operators()
    assert len(rows) > 35
    names = [row.name.rpartition(":")[2] for row in rows if row.name != "any other"]
    assert [name for name in names if f'"{name}"' not in text] == []
    assert all(row.forms for row in rows)
    assert all(("-" in row.opsets) == (row.domain == "ai.onnx") for row in rows)
