"""Masks in front of a softmax, however they are spelled: apart from all functions, with finite numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import snnc
from snnc.errors import UnsupportedModelError
from snnc.frontend import read_onnx
from snnc.frontend.masks import MASKED
from snnc.ir import ann
from tests.onnx_models import check_equal, model, node, normal, original, saved

LENGTH, WIDTH, HEADS = 6, 8, 2
HIDDEN = np.triu(np.ones((LENGTH, LENGTH), bool), 1)
BY_HEAD = np.stack([HIDDEN, HIDDEN | HIDDEN.T[::-1]]) & ~np.eye(LENGTH, dtype=bool)
LEAST = float(np.finfo(np.float32).min)
FILLS = [-1e4, -1e9, LEAST, -np.inf]

MASKS = {
    "where": "Where hidden fill s m",
    "not": "Not hidden seen; Where seen s fill m",
    "add": "Where hidden fill zero a; Add s a m",
    "subtract": "Where hidden far zero a; Sub s a m",
    "divided behind": "Where hidden fill s n; Div n root m",
    "multiplied behind": "Where hidden fill s n; Mul root n m",
    "reshaped behind": "Where hidden fill s n; Reshape n flat m",
    "twice": "Where hidden fill s n; Where column fill n m",
    "capped": "Tanh s t; Mul t root u; Where hidden fill u m",
    "capped, added": "Tanh s t; Mul t root u; Where hidden fill zero a; Add u a m",
}

CONDITIONS = {
    "constant": "Identity given hidden",
    "Trilu": "Trilu ones one h; Cast h hidden",
    "Range": "Range nil size one r; Unsqueeze r behind i; Less i r hidden",
    "sizes": "Shape x z; Gather z one l; Range nil l one r; Unsqueeze r behind i; Less i r hidden",
    "CumSum": "CumSum counted nil r; Unsqueeze r behind i; Less i r hidden",
}


def made(text: str) -> list[onnx.NodeProto]:
    return [
        node(op, " ".join(read), written, **({"to": TensorProto.BOOL} if op == "Cast" else {}))
        for op, *read, written in (line.split() for line in text.split("; "))
    ]


def network(mask: str, fill: float, hidden: Any = HIDDEN, condition: str = "constant") -> onnx.ModelProto:
    """Return attention of two heads with a mask on its scores."""
    nodes = [*made(CONDITIONS[condition])]
    for name in "qkv":
        nodes += [
            node("MatMul", f"x w{name}", f"{name}0"),
            node("Reshape", f"{name}0 apart", f"{name}1"),
            node("Transpose", f"{name}1", name, perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]),
        ]
    nodes += [node("MatMul", "q k", "s"), *made(MASKS[mask]), node("Softmax", "m", "p", axis=-1)]
    nodes += [node("Reshape", "p square", "p1"), node("MatMul", "p1 v")]
    constants = {
        **{f"w{name}": normal(WIDTH, WIDTH) / 2 for name in "qkv"},
        "apart": np.array([0, LENGTH, HEADS, WIDTH // HEADS]),
        "square": np.array([-1, HEADS, LENGTH, LENGTH]),
        "flat": np.array([-1, LENGTH, LENGTH]),
        "root": np.array(2 if "behind" not in mask or mask[0] == "d" else 0.5, np.float32),
        "fill": np.array(fill, np.float32),
        "far": np.array(-fill, np.float32),
        "zero": np.zeros((), np.float32),
        "given": hidden,
        "column": np.arange(LENGTH) == 3,
        "ones": np.ones((LENGTH, LENGTH), np.int64),
        "counted": np.ones(LENGTH, np.int64),
        "nil": np.array(0),
        "one": np.array(1),
        "size": np.array(LENGTH),
        "behind": np.array([1]),
    }
    read = {name for each in nodes for name in each.input}
    return model(
        nodes, ["N", LENGTH, WIDTH], {name: value for name, value in constants.items() if name in read}
    )


def require_mask(graph: ann.AnnGraph, *, curves: int = 0) -> None:
    """Assert that nothing but curves is a function of one number, and that a mask is finite."""
    assert len(graph.of_type(ann.Pointwise)) == curves
    lowest = [float(each.values.min()) for each in graph.of_type(ann.Constant)]
    assert lowest
    assert all(4 * MASKED <= each < MASKED / 4 for each in lowest)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("mask", MASKS)
def test_masks_in_front_of_a_softmax(tmp_path: Path, mask: str, fill: float) -> None:
    source = check_equal(tmp_path, network(mask, fill))
    require_mask(source.graph, curves=int(mask.startswith("capped")))


@pytest.mark.parametrize("condition", CONDITIONS)
def test_computed_conditions(tmp_path: Path, condition: str) -> None:
    require_mask(check_equal(tmp_path, network("where", -1e9, condition=condition)).graph)


def test_a_mask_for_each_head(tmp_path: Path) -> None:
    require_mask(check_equal(tmp_path, network("where", -1e9, BY_HEAD)).graph)


def test_a_mask_that_is_read_elsewhere_keeps_its_numbers(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "s"), *made("Where hidden fill s m; Softmax m p; Add p m y")]
    constants = {
        "w": normal(WIDTH, LENGTH),
        "hidden": HIDDEN,
        "fill": np.array(-2e4, np.float32),
    }
    graph = check_equal(tmp_path, model(nodes, ["N", LENGTH, WIDTH], constants)).graph
    assert min(float(each.values.min()) for each in graph.of_type(ann.Constant)) == -2e4


@pytest.mark.parametrize("fill", [-100.0, -1000.0, -1e9, LEAST])
@pytest.mark.parametrize("mask", ["where", "divided behind", "capped", "capped, added"])
def test_masks_do_not_stretch_levels(tmp_path: Path, mask: str, fill: float) -> None:
    path = saved(tmp_path, network(mask, fill))
    rows = np.random.default_rng(0).standard_normal((96, LENGTH, WIDTH)).astype(np.float32)
    found = snnc.convert(path, rows[:64], preset="precise", timesteps=1, threads=1)
    ((_, y),) = found.decode(snnc.simulate(found, rows[64:], threads=1), rows[64:]).items()
    wanted = original(path, "x", rows[64:])
    error = np.square(np.reshape(y, wanted.shape) - wanted).sum()
    assert 10 * np.log10(np.square(wanted - wanted.mean(axis=0)).sum() / error) > 20


@pytest.mark.parametrize(
    "condition",
    [
        "Unsqueeze m one u; Less u half hidden",
        "Less m half h; Unsqueeze h one hidden",
        "Unsqueeze m one u; Equal u zero hidden",
    ],
)
def test_a_mask_of_an_input_names_the_form_that_is_read(tmp_path: Path, condition: str) -> None:
    nodes = [node("MatMul", "x w", "s"), *made(f"{condition}; Where hidden fill s n")]
    nodes += [node("Softmax", "n", "p", axis=-1), node("MatMul", "p v")]
    constants = {
        "w": normal(WIDTH, LENGTH),
        "v": normal(LENGTH, 3),
        "fill": np.array(-1e9, np.float32),
        "half": np.array(0.5, np.float32),
        "zero": np.zeros((), np.float32),
        "one": np.array([1]),
    }
    graph = helper.make_graph(
        nodes,
        "masked",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", LENGTH, WIDTH]),
            helper.make_tensor_value_info("m", TensorProto.FLOAT, ["N", LENGTH]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(UnsupportedModelError, match=r"masks what a softmax reads.*\(1 - m\) \* -10000"):
        read_onnx(saved(tmp_path, proto))
