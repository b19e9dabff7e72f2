"""Causes are told by the name that people know them by, once for all places, the most frequent first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto

from snnc.diagnostics import UNSUPPORTED_OPERATOR, UNSUPPORTED_STRUCTURE, Diagnostic, causes
from snnc.frontend import check_onnx
from tests.onnx_models import model, node, normal, saved

NUMBERS: dict[str, Any] = {
    "one": np.float32(1),
    "two": np.float32(2),
    "three": np.float32(3),
    "six": np.float32(6),
    "half": np.float32(0.5),
    "zero": np.float32(0),
    "root": np.float32(2**0.5),
    "c": np.float32(0.044715),
    "k": np.float32(0.797885),
    "q": np.float32(1.702),
    "eps": np.float32(1e-5),
    "g": np.ones(4, np.float32),
    "first": np.array([0]),  # the batch, which mixes rows
    "w": normal(4, 4),
}
MEAN, MOVED = node("ReduceMean", "i first", "m"), node("Sub", "i m", "s")
PATTERNS: dict[str, list[NodeProto]] = {
    "LayerNorm": [
        MEAN,
        MOVED,
        node("Pow", "s two", "p"),
        node("ReduceMean", "p first", "v"),
        node("Add", "v eps", "e"),
        node("Sqrt", "e", "d"),
        node("Div", "s d", "n"),
        node("Mul", "n g", "o"),
    ],
    "RMSNorm": [
        node("Mul", "i i", "p"),
        node("ReduceMean", "p first", "v"),
        node("Add", "v eps", "e"),
        node("Sqrt", "e", "d"),
        node("Reciprocal", "d", "r"),
        node("Mul", "i r", "o"),
    ],
    "attention": [
        node("Transpose", "i", "t", perm=[1, 0]),
        node("MatMul", "i t", "a"),
        node("Mul", "a half", "b"),
        node("Softmax", "b", "s"),
        node("MatMul", "s i", "o"),
    ],
}


def repeated(pattern: list[NodeProto], times: int) -> onnx.ModelProto:
    """A network with a pattern so many times in a row, a matrix in front of each."""
    nodes = []
    top = "x"
    for index in range(times):
        nodes.append(node("MatMul", f"{top} w", f"i{index}"))
        made = {"i", *(name for item in pattern for name in item.output)}
        for item in pattern:
            read = " ".join(f"{name}{index}" if name in made else name for name in item.input)
            copy = node(item.op_type, read, f"{item.output[0]}{index}")
            copy.attribute.extend(item.attribute)
            nodes.append(copy)
        top = f"o{index}"
    return model(nodes, ["N", 4], NUMBERS, opset=18, output=top)


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_are_told_once_by_their_name(tmp_path: Path, name: str) -> None:
    found = check_onnx(saved(tmp_path, repeated(PATTERNS[name], 3)))
    assert len(found) == 3
    (cause,) = causes(found)
    assert f" {name.strip()} (3 times, first at '" in str(cause)
    assert cause.as_dict()["count"] == 3
    assert cause.as_dict()["nodes"] == [item.node for item in found]


def test_parts_of_a_pattern_alone_are_told_as_such(tmp_path: Path) -> None:
    nodes = [node("Add", "x three", "a"), node("Clip", "a zero six", "b"), node("MatMul", "b w", "y")]
    assert check_onnx(saved(tmp_path, model(nodes, ["N", 4], NUMBERS))) == ()


def test_causes_are_grouped_and_sorted() -> None:
    found = [
        Diagnostic(UNSUPPORTED_STRUCTURE, "Mul: combines two tensors", "m0", "use none"),
        Diagnostic(UNSUPPORTED_OPERATOR, "its input, made by 'a', of shape (1, 2) is odd", "n1", "h"),
        Diagnostic(UNSUPPORTED_OPERATOR, "its input, made by 'b', of shape (3, 4) is odd", "n2", "h"),
        Diagnostic(UNSUPPORTED_OPERATOR, "the operator LSTM is not supported", "n3", "h"),
        Diagnostic(UNSUPPORTED_OPERATOR, "the operator LSTM is not supported", "n4", "h"),
        Diagnostic(UNSUPPORTED_OPERATOR, "the operator LSTM is not supported", "n5", "h"),
        Diagnostic(UNSUPPORTED_OPERATOR, "the operator LSTM is not supported", "n6", "h"),
    ]
    assert list(map(str, causes(found))) == [
        "error SNN101: the operator LSTM (4 times, first at 'n3', 'n4', 'n5') is not supported (h)",
        "error SNN101: its input, made by 'a', of shape (1, 2) is odd, 2 times, first at 'n1', 'n2' (h)",
        "error SNN103 at 'm0': Mul: combines two tensors (use none)",
    ]


def test_no_message_says_that_a_node_made_its_own_input(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("Transpose", "c", "t", perm=[0, 3, 1, 2]),
        node("Slice", "t starts ends axes steps", "s"),
        node("Mul", "s factor", "y"),
    ]
    constants = {
        "w": normal(4, 3, 1, 1),
        "starts": np.array([-1]),
        "ends": np.array([-99]),
        "axes": np.array([2]),
        "steps": np.array([-2]),
        "factor": normal(1, 1, 1, 3, 1),
    }
    for item in check_onnx(saved(tmp_path, model(nodes, ["N", 3, 3, 3], constants))):
        assert f"made by {item.node!r}" not in item.message
