"""Operators that move values about compute what onnxruntime does, and cost nothing where they can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from snnc.frontend import read_onnx
from snnc.ir import ann
from tests.onnx_models import check_equal, kinds, model, node, normal, read_again


@pytest.mark.parametrize("opset", [7, 11, 13])
@pytest.mark.parametrize("axis", [1, -3])
def test_concat_of_channels(tmp_path: Path, opset: int, axis: int) -> None:
    if axis < 0 and opset < 11:
        pytest.skip("negative axes since opset 11")
    nodes = [
        node("Relu", "x", "r"),
        node("Conv", "x w", "c"),
        node("Concat", "r c x", "j", axis=axis),
        node("Conv", "j v"),
    ]
    constants = {"w": normal(2, 3, 1, 1), "v": normal(4, 8, 3, 3)}
    source = check_equal(tmp_path, model(nodes, [1, 3, 5, 5], constants, opset=opset))
    assert source.graph.of_type(ann.Concat)[0].shape == (8, 5, 5)


def test_concat_of_flat_features_with_images(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("Flatten", "c", "f"),
        node("GlobalAveragePool", "x", "g"),
        node("Flatten", "g", "h"),
        node("Concat", "f h", "j", axis=1),
        node("Gemm", "j v"),
    ]
    constants = {"w": normal(2, 3, 3, 3), "v": normal(2 * 9 + 3, 4)}
    check_equal(tmp_path, model(nodes, ["N", 3, 5, 5], constants, opset=11))


@pytest.mark.parametrize("order", ["r z", "z r", "z r z"])
def test_concat_with_zeros_pads(tmp_path: Path, order: str) -> None:
    nodes = [node("Relu", "x", "r"), node("Concat", order, "j", axis=1), node("Relu", "j")]
    zeros = {"z": np.zeros((1, 2, 4, 4), np.float32)}
    source = check_equal(tmp_path, model(nodes, [1, 3, 4, 4], zeros))
    assert len(source.graph.of_type(ann.Pad)) == 1
    assert not source.graph.of_type(ann.Concat)


@pytest.mark.parametrize("opset", [7, 10, 11, 13, 18])
@pytest.mark.parametrize(
    "pads", [[0, 0, 1, 2, 0, 0, 3, 0], [0, 2, 0, 0, 0, 1, 0, 0], [0, 0, -1, 1, 0, 0, 0, -2], [0] * 8]
)
def test_pad(tmp_path: Path, opset: int, pads: list[int]) -> None:
    if opset < 11:
        pad = node("Pad", "r", "p", pads=pads, mode="constant")
        constants: dict[str, Any] = {}
    else:
        pad = node("Pad", "r pads value" if opset > 11 else "r pads", "p")
        constants = {"pads": np.array(pads), "value": np.float32(0)}
    check_equal(
        tmp_path,
        model([node("Relu", "x", "r"), pad, node("Relu", "p")], [1, 3, 5, 5], constants, opset=opset),
    )


def test_pad_with_axes(tmp_path: Path) -> None:
    constants = {"pads": np.array([1, 2, 3, 4]), "axes": np.array([-1, 2])}
    source = check_equal(
        tmp_path,
        model([node("Pad", "x pads - axes", "p"), node("Relu", "p")], [1, 3, 5, 5], constants, opset=18),
    )
    pad = source.graph.of_type(ann.Pad)[0]
    assert (pad.before, pad.after) == ((0, 2, 1), (0, 4, 3))


SLICES = [
    ([0], [2], [1], [1]),
    ([1, 0], [5, 6], [2, 3], [2, 2]),
    ([-2], [1000], [2], [1]),
    ([1], [-1], [-1], [1]),
]


@pytest.mark.parametrize("opset", [7, 10, 13])
@pytest.mark.parametrize(("starts", "ends", "axes", "steps"), SLICES)
def test_slice(tmp_path: Path, opset: int, starts: Any, ends: Any, axes: Any, steps: Any) -> None:
    if opset < 10:
        if set(steps) != {1}:
            pytest.skip("steps since opset 10")
        proto = model(
            [
                node("Relu", "x", "r"),
                node("Slice", "r", "s", starts=starts, ends=ends, axes=axes),
                node("Relu", "s"),
            ],
            [1, 3, 6, 6],
            opset=opset,
        )
    else:
        constants = {
            "st": np.array(starts),
            "en": np.array(ends),
            "ax": np.array(axes),
            "sp": np.array(steps),
        }
        proto = model(
            [node("Relu", "x", "r"), node("Slice", "r st en ax sp", "s"), node("Relu", "s")],
            [1, 3, 6, 6],
            constants,
            opset=opset,
        )
    source = check_equal(tmp_path, proto)
    cut = source.graph.of_type(ann.Slice)
    assert [n.origin for n in cut] == ["Slice_s"]


def test_slices_in_a_row_are_one(tmp_path: Path) -> None:
    constants = {
        "a": np.array([0]),
        "b": np.array([100]),
        "h": np.array([2]),
        "w": np.array([3]),
        "s": np.array([2]),
    }
    nodes = [
        node("Relu", "x", "r"),
        node("Slice", "r a b h s", "p"),
        node("Slice", "p a b w s", "q"),
        node("Relu", "q"),
    ]
    source = check_equal(tmp_path, model(nodes, [1, 3, 6, 6], constants))
    assert source.graph.of_type(ann.Slice)[0].step == (1, 2, 2)


def test_reversed_channels_fold_into_the_weights(tmp_path: Path) -> None:
    constants = {"a": np.array([-1]), "b": np.array([-1000]), "h": np.array([1]), "s": np.array([-1])}
    nodes = [node("Slice", "x a b h s", "p"), node("Conv", "p w")]
    source = check_equal(tmp_path, model(nodes, ["N", 3, 6, 6], constants | {"w": normal(4, 3, 3, 3)}))
    assert kinds(source.graph) == ["Input", "Convolution"]


@pytest.mark.parametrize("indices", [np.array([2, 0, 1]), np.array([1, 2]), np.int64(1), np.int64(-1)])
def test_gather(tmp_path: Path, indices: Any) -> None:
    nodes = [
        node("Relu", "x", "r"),
        node("Gather", "r i", "g", axis=1),
        node("Flatten", "g", "f"),
        node("MatMul", "f w"),
    ]
    size = np.size(indices) * 16
    check_equal(tmp_path, model(nodes, ["N", 3, 4, 4], {"i": np.asarray(indices), "w": normal(size, 2)}))


@pytest.mark.parametrize("opset", [7, 13, 18])
def test_split(tmp_path: Path, opset: int) -> None:
    attributes: dict[str, Any] = {"axis": 1} | ({"split": [1, 3]} if opset < 13 else {})
    split = node("Split", "r" if opset < 13 else "r parts", "p q", **attributes)
    nodes = [node("Relu", "x", "r"), split, node("Conv", "q w", "c"), node("Concat", "c p", axis=1)]
    constants = {"w": normal(2, 3, 1, 1)} | ({} if opset < 13 else {"parts": np.array([1, 3])})
    check_equal(tmp_path, model(nodes, [1, 4, 3, 3], constants, opset=opset))


def test_split_in_equal_parts(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "r"), node("Split", "r", "p q", axis=1, num_outputs=2), node("Add", "p q")]
    check_equal(tmp_path, model(nodes, [1, 4, 3, 3], opset=18))


@pytest.mark.parametrize("axis", [0, 1, 2, 3, 4, -1])
def test_flatten(tmp_path: Path, axis: int) -> None:
    nodes = [
        node("Flatten", "x", "f", axis=axis),
        node("Relu", "f", "r"),
        node("Reshape", "r s", "q"),
        node("MatMul", "q w"),
    ]
    constants = {"s": np.array([1, 24]), "w": normal(24, 2)}
    check_equal(tmp_path, model(nodes, [1, 2, 3, 4], constants, opset=11))


@pytest.mark.parametrize("shape", [[0, -1], [1, 24], [-1, 24], [0, 0, -1], [1, 2, 3, 4], [-1]])
def test_reshape(tmp_path: Path, shape: list[int]) -> None:
    nodes = [
        node("Reshape", "x s", "f"),
        node("Relu", "f", "r"),
        node("Reshape", "r t", "q"),
        node("MatMul", "q w"),
    ]
    constants = {"s": np.array(shape), "t": np.array([1, 24]), "w": normal(24, 2)}
    check_equal(tmp_path, model(nodes, [1, 2, 3, 4], constants, opset=13))


def test_reshape_spells_out_a_batch_that_is_not_one(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "r"), node("Reshape", "r s", "f"), node("Gemm", "f w")]
    constants = {"s": np.array([64, 24]), "w": normal(24, 3)}
    path = tmp_path / "fixed.onnx"
    path.write_bytes(model(nodes, [64, 2, 3, 4], constants, opset=11).SerializeToString())
    free = check_equal(tmp_path, model(nodes, [1, 2, 3, 4], constants | {"s": np.array([1, 24])}, opset=11))
    fixed = read_onnx(path)
    x = normal(3, 2, 3, 4)
    assert (fixed.batch, free.batch) == (64, 1)
    assert np.array_equal(read_again(fixed, x), read_again(free, x))


def test_allowzero_is_not_a_copy(tmp_path: Path) -> None:
    nodes = [node("Reshape", "x s", "f", allowzero=1), node("MatMul", "f w")]
    check_equal(tmp_path, model(nodes, [1, 2, 3], {"s": np.array([1, 6]), "w": normal(6, 2)}))


@pytest.mark.parametrize("opset", [7, 13])
def test_squeeze_and_unsqueeze(tmp_path: Path, opset: int) -> None:
    old = opset < 13
    nodes = [
        node("Unsqueeze", "x" if old else "x u", "a", **({"axes": [1, 4]} if old else {})),
        node("Relu", "a", "r"),
        node("Squeeze", "r" if old else "r s", "b", **({"axes": [4]} if old else {})),
        node("Conv", "b w"),
    ]
    constants = {"w": normal(2, 1, 3, 3)} | ({} if old else {"u": np.array([1, -1]), "s": np.array([-1])})
    check_equal(tmp_path, model(nodes, ["N", 5, 5], constants, opset=opset))


def test_squeeze_of_everything_keeps_a_free_batch(tmp_path: Path) -> None:
    nodes = [node("GlobalAveragePool", "x", "g"), node("Squeeze", "g", "s"), node("MatMul", "s w")]
    check_equal(tmp_path, model(nodes, ["N", 3, 5, 5], {"w": normal(3, 2)}))
    check_equal(tmp_path, model(nodes, [1, 3, 5, 5], {"w": normal(3, 2)}))


def test_identity_dropout_cast_expand(tmp_path: Path) -> None:
    nodes = [
        node("Identity", "x", "a"),
        node("Dropout", "a ratio off", "b"),
        node("Cast", "b", "c", to=TensorProto.FLOAT),
        node("Expand", "c s", "d"),
        node("Relu", "d"),
    ]
    constants = {"ratio": np.float32(0.5), "off": np.array(False), "s": np.array([1, 1, 6])}
    assert kinds(check_equal(tmp_path, model(nodes, ["N", 6], constants)).graph) == ["Input", "Relu"]


@pytest.mark.parametrize("opset", [7, 10])
def test_dropout_of_old_opsets(tmp_path: Path, opset: int) -> None:
    check_equal(
        tmp_path, model([node("Dropout", "x", "d", ratio=0.5), node("Relu", "d")], ["N", 6], opset=opset)
    )


def test_numbers_without_an_axis_are_read(tmp_path: Path) -> None:
    nodes = [
        node("Gather", "x one", "a", axis=1),
        node("Squeeze", "a zero", "first"),
        node("Gather", "x two", "b", axis=1),
        node("Squeeze", "b zero", "second"),
        node("Add", "first second", "sum"),
        node("Relu", "sum", "r"),
        node("Reshape", "r shape", "y"),
    ]
    constants = {"one": np.array(1), "two": np.array(2), "zero": np.array([0]), "shape": np.array([1, 1])}
    check_equal(tmp_path, model(nodes, [1, 5], constants))
