"""Attention as one operator of ONNX or of onnxruntime: read as what onnxruntime computes, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from snnc.frontend import check_onnx
from snnc.ir import ann
from tests.onnx_models import check_equal, model, node, normal, saved

ROWS, WIDTH = 5, 8


def network(inputs: str, op: str, constants: dict[str, Any], **attributes: Any) -> onnx.ModelProto:
    """Return a network whose queries, keys and values are linear in its input, (rows, width)."""
    own = dict(constants)
    own |= {f"w{name}": normal(WIDTH, own.pop(f"size {name}", WIDTH)) for name in "qkv"}
    nodes = [node("MatMul", f"x w{name}", name) for name in "qkv"]
    domain = "" if op == "Attention" else "com.microsoft"
    made = helper.make_node(op, inputs.split(" "), ["h"], "attention", domain=domain, **attributes)
    proto = model([*nodes, made, node("Relu", "h")], ["N", ROWS, WIDTH], own, opset=23, ir_version=10)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return proto


SEEN = np.tri(ROWS, ROWS, 1, dtype=bool)

FORMS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "two heads": ("q k v", "Attention", {}, {"q_num_heads": 2, "kv_num_heads": 2}),
    "scale": ("q k v", "Attention", {}, {"q_num_heads": 4, "kv_num_heads": 4, "scale": 0.7}),
    "causal": ("q k v", "Attention", {}, {"q_num_heads": 1, "kv_num_heads": 1, "is_causal": 1}),
    "shared heads": (
        "q k v",
        "Attention",
        {"size k": 4, "size v": 4},
        {"q_num_heads": 4, "kv_num_heads": 2},
    ),
    "mask of bits": ("q k v m", "Attention", {"m": SEEN}, {"q_num_heads": 2, "kv_num_heads": 2}),
    "mask that is added": (
        "q k v m",
        "Attention",
        {"m": np.where(SEEN, normal(2, ROWS, ROWS), -np.inf)[None]},
        {"q_num_heads": 2, "kv_num_heads": 2},
    ),
    "capped": ("q k v", "Attention", {}, {"q_num_heads": 2, "kv_num_heads": 2, "softcap": 0.5}),
    "constant keys and values": (
        "q c d",
        "Attention",
        {"c": normal(1, 3, WIDTH), "d": normal(1, 3, WIDTH)},
        {"q_num_heads": 2, "kv_num_heads": 2},
    ),
    "onnxruntime": ("q k v", "MultiHeadAttention", {}, {"num_heads": 2}),
    "bias": ("q k v b", "MultiHeadAttention", {"b": normal(3 * WIDTH)}, {"num_heads": 4}),
    "unidirectional": ("q k v", "MultiHeadAttention", {}, {"num_heads": 2, "unidirectional": 1}),
    "padding": (
        "q k v  p",
        "MultiHeadAttention",
        {"p": np.array([[1, 1, 1, 0, 0]], np.int32)},
        {"num_heads": 2, "scale": 0.3},
    ),
    "bias of the scores": (
        "q k v   m",
        "MultiHeadAttention",
        {"m": normal(1, 2, ROWS, ROWS)},
        {"num_heads": 2},
    ),
}


def shaped(form: str) -> onnx.ModelProto:
    """Return the network of a form."""
    inputs, op, constants, attributes = FORMS[form]
    given = {
        name: value.astype(np.float32) if getattr(value, "dtype", None) == np.float64 else value
        for name, value in constants.items()
    }
    return network(inputs, op, given, **attributes)


@pytest.mark.parametrize("form", FORMS)
def test_attention_is_what_onnxruntime_computes(form: str, tmp_path: Path) -> None:
    source = check_equal(tmp_path, shaped(form))
    assert len(source.graph.of_type(ann.InnerSoftmax)) == 1
    assert len(source.graph.of_type(ann.MatrixProduct)) == (0 if form.startswith("constant") else 2)


def test_four_axes_are_heads_already(tmp_path: Path) -> None:
    """Queries, keys and values of (batch, heads, rows, size) give results of the same form."""
    shape = np.array([-1, ROWS, 2, 4])
    nodes = [node("MatMul", f"x w{name}", name) for name in "qkv"]
    nodes += [node("Reshape", f"{name} s", f"{name}1") for name in "qkv"]
    nodes += [node("Transpose", f"{name}1", f"{name}2", perm=[0, 2, 1, 3]) for name in "qkv"]
    nodes += [node("Attention", "q2 k2 v2", "h"), node("Relu", "h")]
    weights = {f"w{name}": normal(WIDTH, WIDTH) for name in "qkv"}
    check_equal(tmp_path, model(nodes, ["N", ROWS, WIDTH], weights | {"s": shape}, opset=23, ir_version=10))


@pytest.mark.parametrize(
    ("inputs", "op", "constants", "attributes", "reason"),
    [
        ("q k v", "Attention", {}, {"q_num_heads": 3, "kv_num_heads": 3}, "has no 3 heads"),
        (
            "q k v m",
            "Attention",
            {"m": np.zeros((ROWS, ROWS), bool)},
            {"q_num_heads": 2, "kv_num_heads": 2},
            "hides all keys",
        ),
        (
            "q k v",
            "Attention",
            {},
            {"q_num_heads": 2, "kv_num_heads": 2, "is_causal": 1, "softcap": 1.0},
            "capped and masked",
        ),
        ("q k v", "MultiHeadAttention", {}, {"num_heads": 2.0}, "of another type"),
        ("q k v", "MultiHeadAttention", {}, {"num_heads": 2, "do_rotary": 1}, "'do_rotary' is not known"),
        ("q", "MultiHeadAttention", {}, {"num_heads": 2}, "no key of its own"),
        (
            "q k v  p",
            "MultiHeadAttention",
            {"p": np.array([3], np.int32)},
            {"num_heads": 2},
            "mask of padding",
        ),
        ("q k v b", "MultiHeadAttention", {"b": normal(5)}, {"num_heads": 2}, "does not fit"),
    ],
)
def test_other_forms_are_refused(
    inputs: str, op: str, constants: dict[str, Any], attributes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, network(inputs, op, constants, **attributes))
    found = [str(each) for each in check_onnx(path)]
    assert any(reason in each and "attention" in each for each in found), found
