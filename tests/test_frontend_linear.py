"""Convolutions, matrix products and batch normalisation compute what onnxruntime does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.ir import ann
from tests.onnx_models import check_equal, kinds, model, node, normal

CONV_FORMS: dict[str, tuple[list[int], tuple[int, ...], dict[str, Any]]] = {
    "plain": ([1, 3, 7, 8], (4, 3, 3, 2), {}),
    "no kernel_shape, strided": ([1, 3, 9, 8], (4, 3, 3, 2), {"strides": [2, 3]}),
    "with kernel_shape": ([1, 3, 9, 8], (4, 3, 3, 2), {"kernel_shape": [3, 2]}),
    "one-sided pads": ([1, 3, 7, 8], (4, 3, 3, 3), {"pads": [1, 0, 2, 3]}),
    "dilated": ([1, 3, 9, 9], (4, 3, 3, 2), {"dilations": [2, 3], "pads": [1, 1, 1, 1]}),
    "grouped": ([1, 6, 7, 7], (4, 3, 3, 3), {"group": 2}),
    "depthwise": ([1, 6, 7, 7], (6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1]}),
    "depthwise, two per channel": ([1, 3, 7, 7], (6, 1, 3, 3), {"group": 3}),
    "same upper": ([1, 3, 7, 8], (4, 3, 3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ([1, 3, 7, 8], (4, 3, 3, 2), {"auto_pad": "SAME_LOWER", "strides": [2, 1]}),
    "valid": ([1, 3, 7, 8], (4, 3, 3, 2), {"auto_pad": "VALID", "strides": [2, 1]}),
    "notset": ([1, 3, 7, 8], (4, 3, 3, 2), {"auto_pad": "NOTSET", "pads": [1, 1, 1, 1]}),
    "1-D": ([1, 3, 17], (4, 3, 5), {"pads": [2, 1], "strides": [2]}),
    "1-D, same, dilated groups": ([1, 4, 17], (6, 2, 3), {"auto_pad": "VALID", "dilations": [3], "group": 2}),
}


@pytest.mark.parametrize("opset", [7, 11, 22])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("form", CONV_FORMS)
def test_conv(tmp_path: Path, form: str, bias: bool, opset: int) -> None:
    shape, weight, attributes = CONV_FORMS[form]
    constants = {"w": normal(*weight), "b": normal(weight[0])}
    proto = model([node("Conv", "x w b" if bias else "x w", **attributes)], shape, constants, opset=opset)
    source = check_equal(tmp_path, proto)
    convolution = source.graph.of_type(ann.Convolution)[0]
    assert convolution.origin == "Conv_y"
    assert len(convolution.shape) == 3


@pytest.mark.parametrize(
    ("weight", "bias", "attributes"),
    [
        ((6, 4), (4,), {}),
        ((4, 6), (4,), {"transB": 1}),
        ((4, 6), (1, 4), {"transB": 1, "alpha": 0.5, "beta": 2.0}),
        ((6, 4), (), {}),
        ((6, 4), (1,), {"beta": 0.25}),
        ((6, 4), (1, 1), {}),
        ((6, 4), None, {"alpha": 3.0}),
    ],
)
@pytest.mark.parametrize("opset", [7, 9, 11, 13])
def test_gemm(tmp_path: Path, weight: Any, bias: Any, attributes: dict[str, Any], opset: int) -> None:
    if bias is None and opset < 11:
        pytest.skip("the bias may be left out since opset 11")
    constants = {"w": normal(*weight)} | ({} if bias is None else {"b": np.asarray(normal(*bias))})
    proto = model(
        [node("Gemm", "x w" if bias is None else "x w b", **attributes)], ["N", 6], constants, opset=opset
    )
    check_equal(tmp_path, proto)


@pytest.mark.parametrize(
    ("shape", "inputs", "weight", "expected"),
    [
        (["N", 6], "x w", (6, 4), "Linear"),
        (["N", 6], "x w", (6,), "Linear"),
        (["N", 1, 6], "x w", (6, 4), "Linear"),
        (["N", 1, 6], "x w", (1, 6, 4), "Linear"),
        (["N", 6, 1], "w x", (4, 6), "Linear"),
        (["N", 6, 1], "w x", (1, 4, 6), "Linear"),
        (["N", 5, 7, 6], "x w", (6, 4), "Convolution"),
        (["N", 5, 6], "x w", (6, 4), "Convolution"),
        (["N", 6, 5], "w x", (4, 6), "Convolution"),
    ],
)
@pytest.mark.parametrize("opset", [7, 9, 13])
def test_matmul(tmp_path: Path, shape: Any, inputs: str, weight: Any, expected: str, opset: int) -> None:
    nodes = [node("MatMul", inputs)]
    if expected == "Convolution" and inputs == "x w":  # else the output would lie channels last
        nodes = [node("MatMul", inputs, "m"), node("ReduceMean", "m", axes=list(range(1, len(shape) - 1)))]
    source = check_equal(tmp_path, model(nodes, shape, {"w": normal(*weight)}, opset=opset))
    assert kinds(source.graph)[:2] == ["Input", expected]


def test_bias_after_matmul_and_conv_is_fused(tmp_path: Path) -> None:
    source = check_equal(
        tmp_path,
        model(
            [
                node("Conv", "x w", "c"),
                node("Add", "b c", "cb"),
                node("Relu", "cb", "r"),
                node("Flatten", "r", "f"),
                node("MatMul", "f m", "mm"),
                node("Add", "mm n", "mn"),
                node("Sub", "mn n", "y"),
            ],
            ["N", 2, 4, 4],
            {"w": normal(3, 2, 3, 3), "b": normal(3, 1, 1), "m": normal(12, 5), "n": normal(5)},
        ),
    )
    assert kinds(source.graph) == ["Input", "Convolution", "Relu", "Reshape", "Linear"]
    assert [n.origin for n in source.graph][1:] == ["Conv_c", "Relu_r", "Flatten_f", "MatMul_mm"]
    assert source.graph.of_type(ann.Linear)[0].name == "MatMul_mm"


def test_a_shared_convolution_keeps_its_bias_apart(tmp_path: Path) -> None:
    source = check_equal(
        tmp_path,
        model(
            [node("Conv", "x w", "c"), node("Add", "c b", "cb"), node("Add", "c cb")],
            [1, 2, 4, 4],
            {"w": normal(2, 2, 3, 3), "b": normal(2, 1, 1)},
        ),
    )
    assert kinds(source.graph) == ["Input", "Convolution", "ChannelAffine", "Add"]


@pytest.mark.parametrize("opset", [7, 9, 14, 15, 21])
@pytest.mark.parametrize("shape", [["N", 5], ["N", 5, 7], ["N", 5, 3, 4]])
def test_batch_normalisation(tmp_path: Path, shape: Any, opset: int) -> None:
    constants = {"s": normal(5), "t": normal(5), "m": normal(5), "v": np.abs(normal(5))}
    proto = model([node("BatchNormalization", "x s t m v", epsilon=0.01)], shape, constants, opset=opset)
    source = check_equal(tmp_path, proto)
    assert source.graph.of_type(ann.BatchNormalisation)[0].epsilon == pytest.approx(0.01)


def test_pad_before_convolution_becomes_its_own(tmp_path: Path) -> None:
    nodes = [node("Pad", "x pads", "p"), node("Conv", "p w", pads=[0, 1, 0, 0])]
    constants = {"pads": np.array([0, 0, 1, 2, 0, 0, 0, 1]), "w": normal(2, 3, 3, 3)}
    source = check_equal(tmp_path, model(nodes, ["N", 3, 5, 5], constants))
    assert kinds(source.graph) == ["Input", "Convolution"]
    assert source.graph.of_type(ann.Convolution)[0].window.pads == (1, 3, 0, 1)


def test_a_padded_image_that_others_read_stays(tmp_path: Path) -> None:
    nodes = [
        node("Pad", "x pads", "p"),
        node("Conv", "p w", "c"),
        node("MaxPool", "p", "m", kernel_shape=[3, 3]),
        node("Add", "c m"),
    ]
    constants = {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "w": normal(2, 2, 3, 3)}
    source = check_equal(tmp_path, model(nodes, ["N", 2, 5, 5], constants))
    assert kinds(source.graph) == ["Input", "Pad", "Convolution", "MaxPool", "Add"]
    assert source.graph.of_type(ann.Convolution)[0].inputs == ("x",)


def test_padding_with_channels_is_not_merged(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "r"), node("Pad", "r pads", "p"), node("Conv", "p w")]
    constants = {"pads": np.array([0, 1, 1, 1, 0, 0, 1, 1]), "w": normal(2, 3, 3, 3)}
    source = check_equal(tmp_path, model(nodes, ["N", 2, 5, 5], constants))
    assert kinds(source.graph) == ["Input", "Relu", "Pad", "Convolution"]


def test_batch_normalisation_of_flattened_images(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("Relu", "c", "r"),
        node("Transpose", "r", "t", perm=[0, 2, 3, 1]),
        node("Flatten", "t", "f"),
        node("BatchNormalization", "f a b m v", "n"),
        node("Gemm", "n u"),
    ]
    constants = {name: normal(18) for name in "abm"} | {
        "v": np.abs(normal(18)) + 0.1,
        "w": normal(2, 2, 3, 3),
        "u": normal(18, 4),
    }
    source = check_equal(tmp_path, model(nodes, ["N", 2, 5, 5], constants))
    assert kinds(source.graph) == ["Input", "Convolution", "Relu", "Reshape", "BatchNormalisation", "Linear"]


def test_a_bias_after_the_output_stays_apart(tmp_path: Path) -> None:
    proto = model(
        [node("MatMul", "x w"), node("Add", "y b", "z"), node("Relu", "z", "r")],
        ["N", 4],
        {"w": normal(4, 2), "b": normal(2)},
    )
    assert kinds(check_equal(tmp_path, proto).graph) == ["Input", "Linear"]
