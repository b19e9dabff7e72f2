"""What cannot be converted is refused with a stable code, a node and a cure; all of it at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

from snnc.compiler import Options, examine
from snnc.errors import UnsupportedModelError
from snnc.frontend import check_onnx, read_onnx
from tests.onnx_models import model, node, normal, saved

IMAGE: list[Any] = ["N", 3, 6, 6]
FLAT: list[Any] = ["N", 6]


def found(folder: Path, *arguments: Any, **options: Any) -> list[tuple[str, str]]:
    """Return code and node of all diagnostics, after a look at their form."""
    path = saved(folder, model(*arguments, **options))
    diagnostics = check_onnx(path)
    for diagnostic in diagnostics:
        assert diagnostic.help
        assert "\n" not in str(diagnostic)
        assert diagnostic.node in str(diagnostic)
    with pytest.raises(UnsupportedModelError) as raised:
        read_onnx(path)
    assert raised.value.diagnostics == diagnostics
    assert raised.value.exit_code == 3
    assert str(path) in str(raised.value)
    return [(diagnostic.code.number, diagnostic.node) for diagnostic in diagnostics]


def test_all_problems_are_found_at_once_and_none_causes_another(tmp_path: Path) -> None:
    nodes = [
        node("Hardmax", "x", "a"),
        node("Conv", "a w", "b"),
        node("CumSum", "b axis", "c"),
        node("Transpose", "c", "d", perm=[0, 2, 3, 1]),
        node("LpNormalization", "d", "e", p=1),
        node("Transpose", "e", "f", perm=[0, 3, 1, 2]),
        node("AveragePool", "f", "h", kernel_shape=[9, 9]),
        node("LpPool", "h", "j", kernel_shape=[1, 1]),
        node("Conv", "j v", "k"),
        node("Add", "k h", "l"),
        node("GlobalAveragePool", "l", "m"),
        node("Flatten", "m", "n"),
        node("Gemm", "n u", "o"),
        node("Softmax", "o", "p"),
        node("ArgMax", "p"),
    ]
    constants = {
        "axis": np.array(1),
        "w": normal(4, 3, 1, 1),
        "g": normal(4),
        "v": normal(4, 4, 1, 1),
        "u": normal(4, 2),
    }
    assert found(tmp_path, nodes, IMAGE, constants) == [
        ("SNN101", "Hardmax_a"),
        ("SNN101", "CumSum_c"),
        ("SNN102", "LpNormalization_e"),
        ("SNN102", "AveragePool_h"),
        ("SNN101", "LpPool_j"),
        ("SNN101", "ArgMax_y"),
    ]


def test_behind_an_unknown_shape_operators_are_still_listed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Custom", ["x"], ["a"], name="custom", domain="my.company"),
        node("Relu", "a", "b"),
        node("Hardmax", "b"),
    ]
    assert found(tmp_path, nodes, FLAT) == [("SNN101", "custom"), ("SNN101", "Hardmax_y")]
    assert "'my.company'" in check_onnx(tmp_path / "model.onnx")[0].message


BOUNDS = {"low": np.float32(-1), "zero": np.float32(0), "high": np.float32(6)}
PADS = np.array([0, 0, 1, 1] * 2)
ONES = np.ones((1, 2), np.float32)
ONE = np.array([1])
TWICE = np.array([1, 1, 2, 2], np.float32)
CASES: dict[str, tuple[str, list[NodeProto], list[Any], dict[str, Any]]] = {
    "3-D convolution": ("SNN102", [node("Conv", "x w")], ["N", 2, 4, 4, 4], {"w": normal(2, 2, 3, 3, 3)}),
    "negative pads": ("SNN102", [node("Conv", "x w", pads=[0, 0, -1, 0])], IMAGE, {"w": normal(2, 3, 3, 3)}),
    "window too large": ("SNN102", [node("Conv", "x w")], IMAGE, {"w": normal(2, 3, 7, 7)}),
    "wrong weight": ("SNN102", [node("Conv", "x w")], IMAGE, {"w": normal(2, 4, 3, 3)}),
    "wrong kernel_shape": (
        "SNN102",
        [node("Conv", "x w", kernel_shape=[2, 2])],
        IMAGE,
        {"w": normal(2, 3, 3, 3)},
    ),
    "computed weight": ("SNN103", [node("Conv", "x x")], [1, 3, 6, 6], {}),
    "constant image": ("SNN103", [node("Conv", "c x")], [1, 3, 6, 6], {"c": normal(1, 3, 6, 6)}),
    "transposed activations": ("SNN102", [node("Gemm", "x w", transA=1)], [1, 6], {"w": normal(1, 6)}),
    "bias per row": ("SNN102", [node("Gemm", "x w b")], [1, 6], {"w": normal(6, 3), "b": normal(3, 1)}),
    "matrix per row": ("SNN102", [node("MatMul", "x w")], ["N", 2, 6], {"w": normal(2, 6, 3)}),
    "wrong matrix": ("SNN102", [node("MatMul", "x w")], FLAT, {"w": normal(5, 3)}),
    "matrices of rows": ("SNN103", [node("Relu", "x", "r"), node("MatMul", "x r")], [4, 4], {}),
    "matrices that do not fit": ("SNN102", [node("MatMul", "x x")], ["N", 4, 3], {}),
    "product of other shapes": (
        "SNN103",
        [node("MatMul", "x w", "h"), node("Mul", "x h")],
        FLAT,
        {"w": normal(6, 4)},
    ),
    "softmax of rows": ("SNN103", [node("Softmax", "x", axis=0)], FLAT, {}),
    "norm of single values": (
        "SNN103",
        [node("MatMul", "x w", "h"), node("LayerNormalization", "h g")],
        FLAT,
        {"w": normal(6, 1), "g": normal(1)},
    ),
    "norm of rows": ("SNN102", [node("LayerNormalization", "x g", axis=0)], FLAT, {"g": normal(1, 6)}),
    "norm of no order": ("SNN102", [node("LpNormalization", "x", p=1)], FLAT, {}),
    "groups that do not fit": (
        "SNN102",
        [node("GroupNormalization", "x g g", num_groups=2)],
        IMAGE,
        {"g": normal(3)},
    ),
    "constant output": ("SNN103", [node("Relu", "c")], FLAT, {"c": normal(6)}),
    "expand that repeats the batch": ("SNN102", [node("Expand", "x s")], FLAT, {"s": np.array([4, 6])}),
    "tile that repeats the batch": ("SNN102", [node("Tile", "x s")], FLAT, {"s": np.array([2, 1])}),
    "pad by an unknown mode": ("SNN102", [node("Pad", "x p", mode="odd")], IMAGE, {"p": PADS}),
    "mirrored beyond the end": (
        "SNN102",
        [node("Pad", "x p", mode="reflect")],
        IMAGE,
        {"p": np.array([0, 0, 6, 0, 0, 0, 0, 0])},
    ),
    "cubic resize": ("SNN102", [node("Resize", "x - s", mode="cubic")], IMAGE, {"s": TWICE}),
    "resize of a cut": (
        "SNN102",
        [node("Resize", "x r s", coordinate_transformation_mode="tf_crop_and_resize")],
        IMAGE,
        {"s": TWICE, "r": np.ones(8, np.float32)},
    ),
    "maximum that repeats": (
        "SNN102",
        [node("Max", "x zeros")],
        FLAT,
        {"zeros": np.zeros((3, 6), np.float32)},
    ),
    "minimum that repeats": (
        "SNN102",
        [node("Relu", "x", "r"), node("Min", "r c")],
        FLAT,
        {"c": np.ones((3, 6), np.float32)},
    ),
    "minimum that does not fit": ("SNN102", [node("Relu", "x", "r"), node("Min", "r c")], FLAT, {"c": ONES}),
    "constants that do not fit": (
        "SNN102",
        [node("Sum", "x a b")],
        FLAT,
        {"a": normal(2), "b": normal(3)},
    ),
    "pool without kernel": ("SNN102", [node("MaxPool", "x", kernel_shape=[2])], IMAGE, {}),
    "pool of padding alone": (
        "SNN102",
        [node("MaxPool", "x", kernel_shape=[2, 2], pads=[2, 2, 0, 0])],
        IMAGE,
        {},
    ),
    "pool with indices": ("SNN102", [node("MaxPool", "x", "p y", kernel_shape=[2, 2])], IMAGE, {}),
    "same with large strides": (
        "SNN102",
        [node("MaxPool", "x", kernel_shape=[1, 1], strides=[3, 3], auto_pad="SAME_UPPER")],
        IMAGE,
        {},
    ),
    "same with dilations": (
        "SNN102",
        [node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 1], auto_pad="SAME_UPPER")],
        IMAGE,
        {},
    ),
    "pad of the batch": ("SNN102", [node("Pad", "x p")], IMAGE, {"p": np.array([1, 0, 0, 0] * 2)}),
    "pad that cuts more than there is": (
        "SNN102",
        [node("Pad", "x p")],
        IMAGE,
        {"p": np.array([0, 0, 2, 0, 0, 0, -7, 0])},
    ),
    "pad with nothing": (
        "SNN102",
        [node("Pad", "x p v")],
        IMAGE,
        {"p": PADS, "v": np.zeros(0, np.float32)},
    ),
    "empty slice": ("SNN103", [node("Slice", "x a a b")], FLAT, {"a": np.array([2]), "b": np.array([1])}),
    "shape from data": ("SNN102", [node("Cast", "x", "i", to=7), node("Reshape", "x i")], FLAT, {}),
    "wrong reshape": ("SNN102", [node("Reshape", "x s")], FLAT, {"s": np.array([-1, 4])}),
    "cast to integers": ("SNN102", [node("Cast", "x", to=7)], FLAT, {}),
    "dropout in training": (
        "SNN102",
        [node("Dropout", "x r t")],
        FLAT,
        {"r": np.float32(0.5), "t": np.array(True)},
    ),
    "normalisation in training": (
        "SNN102",
        [node("BatchNormalization", "x s s s s", training_mode=1)],
        FLAT,
        {"s": np.ones(6, np.float32)},
    ),
    "normalisation in training, by its outputs": (
        "SNN102",
        [node("BatchNormalization", "x s s s s", "y m v n u")],
        FLAT,
        {"s": np.ones(6, np.float32)},
    ),
    "negative variance": (
        "SNN102",
        [node("BatchNormalization", "x s s s v")],
        FLAT,
        {"s": np.ones(6, np.float32), "v": -np.ones(6, np.float32)},
    ),
    "logarithm in the middle": (
        "SNN103",
        [node("LogSoftmax", "x", "s"), node("MatMul", "s w")],
        FLAT,
        {"w": normal(6, 2)},
    ),
    "softmax of one value": (
        "SNN103",
        [node("MatMul", "x w", "h"), node("Softmax", "h", axis=1)],
        FLAT,
        {"w": normal(6, 1)},
    ),
    "logarithm over positions": ("SNN103", [node("LogSoftmax", "x", axis=-1)], ["N", 2, 3], {}),
    "nan": ("SNN106", [node("MatMul", "x w")], FLAT, {"w": np.full((6, 2), np.nan, np.float32)}),
    "infinity": ("SNN106", [node("Add", "x w")], FLAT, {"w": np.full(6, np.inf, np.float32)}),
    "too large for float32": (
        "SNN106",
        [node("Cast", "w", "c", to=1), node("Add", "x c")],
        FLAT,
        {"w": np.full(6, 1e300)},
    ),
    "division by zero": ("SNN106", [node("Div", "x zero")], FLAT, BOUNDS),
    "quantised dynamically": (
        "SNN107",
        [
            node("DynamicQuantizeLinear", "x", "q s z"),
            node("DequantizeLinear", "q s z", "d"),
            node("Relu", "d"),
        ],
        FLAT,
        {},
    ),
    "random": ("SNN101", [node("RandomNormal", "", "r", shape=[1, 6]), node("Add", "x r")], FLAT, {}),
    "unpooling": ("SNN101", [node("MaxUnpool", "x i", kernel_shape=[2, 2])], IMAGE, {"i": ONE}),
}


@pytest.mark.parametrize("case", CASES)
def test_refusals(tmp_path: Path, case: str) -> None:
    code, nodes, shape, constants = CASES[case]
    opset = 9 if case == "normalisation in training, by its outputs" else 15
    opset = 21 if case.startswith(("norm of", "groups")) else opset
    problems = found(tmp_path, nodes, shape, constants, opset=opset)
    assert [number for number, _ in problems][:1] == [code]
    assert len(problems) == 1 or case in ("shape from data", "logarithm in the middle")
    names = {item.name for item in nodes} | {"y"}
    assert {name for _, name in problems} <= names


def test_operators_of_one_kind_are_reported_once(tmp_path: Path) -> None:
    nodes = [
        node("DynamicQuantizeLinear", "x", "q s z"),
        node("MatMulInteger", "q w z", "m"),
        node("Cast", "m", "f", to=1),
        node("DynamicQuantizeLinear", "f", "r t u"),
        node("MatMulInteger", "r v u", "o"),
        node("Cast", "o", "g", to=1),
        node("Hardmax", "g"),
    ]
    constants = {"w": np.ones((6, 2), np.int8), "v": np.ones((2, 2), np.int8)}
    assert found(tmp_path, nodes, FLAT, constants, opset=13) == [
        ("SNN107", "DynamicQuantizeLinear_q"),
        ("SNN107", "MatMulInteger_m"),
        ("SNN101", "Hardmax_y"),
    ]
    (first, *_) = check_onnx(tmp_path / "model.onnx")
    assert "and 1 more DynamicQuantizeLinear" in first.message
    assert "quantize_static" in first.help


def test_unnamed_nodes_are_named_by_their_output(tmp_path: Path) -> None:
    proto = model([node("Hardmax", "x", "a"), node("Relu", "a")], FLAT)
    for item in proto.graph.node:
        item.name = ""
    assert check_onnx(saved(tmp_path, proto))[0].node == "a"


@pytest.mark.parametrize(
    ("shape", "shown"),
    [(["N", 3, "H", "W"], "(N, 3, H, W)"), (["N", 3, None, 6], "(N, 3, ?, 6)"), (["N"], "(N)"), (None, "()")],
)
def test_free_sizes(tmp_path: Path, shape: Any, shown: str) -> None:
    proto = model([node("Relu", "x")], shape)
    diagnostics = check_onnx(saved(tmp_path, proto))
    assert [(d.code.number, d.node) for d in diagnostics] == [("SNN104", "x")]
    assert shown in diagnostics[0].message


@pytest.mark.parametrize(
    ("shape", "cure"),
    [
        (["N", 3, "height", None], "--shape x=1,3,HEIGHT,SIZE,"),
        ([2, "N", 8], "--shape x=2,N,8,"),
        (["N"], "the shape (N, 1)"),
        (None, "by --fix x=VALUE, or export the model with the shape (batch, 1)"),
        (["N", 2**14, 2**14], "smaller inputs"),
    ],
)
def test_the_cure_of_free_sizes_fits_their_input(tmp_path: Path, shape: Any, cure: str) -> None:
    path = saved(tmp_path, model([node("Relu", "x")], shape))
    (found,) = check_onnx(path)
    assert cure in found.help
    (also,) = examine(path, Options(host="edges"))[1]
    assert also == found, "no host can take what is not known"


def test_sizes_are_no_operators_of_activations(tmp_path: Path) -> None:
    nodes = [
        node("Shape", "x", "s"),
        node("ConstantOfShape", "s", "zeros"),
        node("Add", "x zeros", "a"),
        node("Hardmax", "a"),
    ]
    told = [(d.code.number, d.node) for d in check_onnx(saved(tmp_path, model(nodes, ["N", "M"])))]
    assert told == [("SNN104", "x"), ("SNN101", "Hardmax_y")]


@pytest.mark.parametrize(("opset", "cure"), [(0, "opset 13 or newer"), (1000, "newer onnx")])
def test_opsets(tmp_path: Path, opset: int, cure: str) -> None:
    proto = model([node("Relu", "x", "a"), node("Hardmax", "a")], FLAT)
    proto.opset_import[0].version = opset
    diagnostics = check_onnx(saved(tmp_path, proto))
    assert [(d.code.number, d.node) for d in diagnostics] == [("SNN105", ""), ("SNN101", "Hardmax_y")]
    assert cure in diagnostics[0].help


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    proto = model([node("Relu", "x"), node("Add", "x z", "u"), node("Hardmax", "y", "t")], FLAT)
    proto.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, FLAT))
    proto.graph.output.append(helper.make_tensor_value_info("u", TensorProto.FLOAT, FLAT))
    diagnostics = check_onnx(saved(tmp_path, proto))
    assert not diagnostics, "what no output needs does not count"


def test_no_input(tmp_path: Path) -> None:
    proto = model([node("Relu", "c")], FLAT, {"c": normal(6)})
    del proto.graph.input[:]
    assert [d.message for d in check_onnx(saved(tmp_path, proto))] == ["the model has no input"]


def test_an_input_of_text(tmp_path: Path) -> None:
    proto = model([node("Identity", "x")], FLAT, dtype=TensorProto.STRING)
    assert [d.code.number for d in check_onnx(saved(tmp_path, proto))] == ["SNN103"]


def test_one_line_names_the_first_problem_and_counts_the_rest(tmp_path: Path) -> None:
    path = saved(tmp_path, model([node("Hardmax", "x", "a"), node("Hardmax", "a")], FLAT))
    with pytest.raises(UnsupportedModelError, match=r"SNN101 at 'Hardmax_a'.*and 1 more, see `snnc check`$"):
        read_onnx(path)
