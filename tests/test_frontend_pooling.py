"""Poolings and reductions compute what onnxruntime does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from snnc.frontend import check_onnx
from tests.onnx_models import check_equal, model, node, saved

POOL_FORMS: dict[str, tuple[list[int], dict[str, Any], int]] = {
    "plain": ([1, 3, 6, 8], {"kernel_shape": [2, 2], "strides": [2, 2]}, 7),
    "default strides": ([1, 3, 6, 8], {"kernel_shape": [2, 3]}, 7),
    "size that does not fit": ([1, 3, 7, 9], {"kernel_shape": [2, 2], "strides": [2, 2]}, 7),
    "1-D": ([1, 3, 11], {"kernel_shape": [3], "strides": [2]}, 7),
    "same that needs no pads": (
        [1, 3, 6, 8],
        {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        7,
    ),
    "pads that no window reaches": (
        [1, 3, 6, 6],
        {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [0, 0, 1, 2]},
        7,
    ),
    "ceil_mode that changes nothing": (
        [1, 3, 6, 6],
        {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
        10,
    ),
}
MAX_FORMS: dict[str, tuple[list[int], dict[str, Any], int]] = {
    "pads": ([1, 3, 6, 8], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, 7),
    "one-sided pads": ([1, 3, 6, 8], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 1, 2, 0]}, 7),
    "same lower": ([1, 3, 7, 8], {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"}, 7),
    "ceil": ([1, 3, 8, 7], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, 10),
    "ceil with pads": (
        [1, 3, 7, 6],
        {"kernel_shape": [3, 3], "strides": [3, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
        10,
    ),
    "dilated": ([1, 3, 8, 9], {"kernel_shape": [3, 2], "dilations": [2, 3]}, 10),
}


@pytest.mark.parametrize("form", POOL_FORMS)
@pytest.mark.parametrize("op", ["AveragePool", "MaxPool"])
def test_pools(tmp_path: Path, op: str, form: str) -> None:
    shape, attributes, opset = POOL_FORMS[form]
    check_equal(tmp_path, model([node(op, "x", **attributes)], shape, opset=opset))


@pytest.mark.parametrize("form", MAX_FORMS)
def test_max_pool_forms(tmp_path: Path, form: str) -> None:
    shape, attributes, opset = MAX_FORMS[form]
    check_equal(tmp_path, model([node("MaxPool", "x", **attributes)], shape, opset=opset))


@pytest.mark.parametrize("opset", [7, 10, 19])
def test_average_pool_that_counts_its_padding(tmp_path: Path, opset: int) -> None:
    pool = node(
        "AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1
    )
    check_equal(tmp_path, model([pool], ["N", 2, 6, 6], opset=opset))


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [["N", 3, 5, 4], ["N", 3, 7]])
def test_global_pools(tmp_path: Path, op: str, shape: Any) -> None:
    source = check_equal(tmp_path, model([node(op, "x")], shape))
    assert source.graph[source.graph.output].shape == (3,)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("opset", [7, 11, 13, 18, 21])
@pytest.mark.parametrize(
    ("op", "axes", "shape"),
    [
        ("ReduceMean", [2, 3], ["N", 3, 5, 4]),
        ("ReduceMean", [-1, -2], ["N", 3, 5, 4]),
        ("ReduceMax", [3, 2], ["N", 3, 5, 4]),
        ("ReduceMean", [1, 2], ["N", 5, 4, 3]),
        ("ReduceMean", [2], ["N", 3, 7]),
        ("ReduceMean", [1], ["N", 7, 3]),
        ("ReduceMean", [3], ["N", 3, 5, 1]),
    ],
)
def test_reductions(tmp_path: Path, op: str, axes: list[int], shape: Any, opset: int, keepdims: int) -> None:
    if opset < 18:
        proto = model([node(op, "x", axes=axes, keepdims=keepdims)], shape, opset=opset)
    else:
        proto = model([node(op, "x a", keepdims=keepdims)], shape, {"a": np.array(axes)}, opset=opset)
    check_equal(tmp_path, proto)


@pytest.mark.parametrize("batch", ["N", 4])
@pytest.mark.parametrize("axes", [None, [0], [0, 2, 3]])
def test_a_reduction_of_the_batch_mixes_rows(tmp_path: Path, batch: Any, axes: list[int] | None) -> None:
    reduction = node("ReduceMean", "x", "m") if axes is None else node("ReduceMean", "x", "m", axes=axes)
    path = saved(tmp_path, model([reduction, node("Add", "x m")], [batch, 3, 5, 4]))
    assert "the batch" in check_onnx(path)[0].message


def test_a_batch_of_one_can_be_reduced(tmp_path: Path) -> None:
    check_equal(tmp_path, model([node("ReduceMean", "x", axes=[0, 2, 3])], [1, 3, 5, 4]), rows=1)


def test_a_mean_of_integers_is_no_mean(tmp_path: Path) -> None:
    """The operator cuts it to a whole number; behind a cast it is the mean of floats."""
    shape: list[int | str | None] = ["N", 3, 5, 4]
    whole = [node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("ReduceMean", "t", "m", axes=[1, 2])]
    cast = node("Cast", "m", to=TensorProto.FLOAT)
    path = saved(tmp_path, model([*whole, cast], shape, dtype=TensorProto.INT32))
    (found,) = (item for item in check_onnx(path) if item.code.number == "SNN102")
    assert found.node == "ReduceMean_m"
    assert "integers is truncated to an integer" in found.message
    first = [node("Cast", "x", "f", to=TensorProto.FLOAT), node("ReduceMean", "f", axes=[2, 3])]
    path = saved(tmp_path, model(first, shape, dtype=TensorProto.INT32))
    assert not [item for item in check_onnx(path) if item.code.number == "SNN102"]
