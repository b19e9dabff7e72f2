"""Functions that a model brings along are inlined, as far as they end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from snnc.errors import InputError
from snnc.frontend import check_onnx, functions, read_onnx
from tests.onnx_models import (
    check_equal,
    kinds,
    model,
    node,
    normal,
    saved,
)

INT, BOOL = TensorProto.INT64, TensorProto.BOOL
FLAT: list[int | str | None] = ["N", 4]


def with_function(
    body: Sequence[NodeProto], *, name: str = "F", domain: str = "my", opset: int = 17, calls: int = 2
) -> onnx.ModelProto:
    """Return a network that calls a function from ``a`` to ``b`` one or more times."""
    function = helper.make_function(domain, name, ["a"], ["b"], list(body), [helper.make_opsetid("", opset)])
    names = ["x", *(f"h{index}" for index in range(1, calls)), "y"]
    nodes = [
        helper.make_node(name, [read], [made], f"call{index}", domain=domain)
        for index, (read, made) in enumerate(pairwise(names))
    ]
    proto = model(nodes, FLAT)
    proto.functions.append(function)
    if domain:
        proto.opset_import.append(helper.make_opsetid(domain, 1))
    return proto


def bias() -> NodeProto:
    return helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(normal(4)))


@pytest.mark.parametrize("opset", [17, 16])
def test_functions(tmp_path: Path, opset: int) -> None:
    body = [bias(), node("Add", "a k", "c"), node("Relu", "c", "b")]
    source = check_equal(tmp_path, with_function(body, opset=opset))
    assert kinds(source.graph).count("Relu") == 2


def test_a_function_of_an_operator_set_that_means_something_else(tmp_path: Path) -> None:
    proto = with_function([node("Softmax", "a", "b")], opset=12, calls=1)
    (found,) = check_onnx(saved(tmp_path, proto))
    assert (found.code.number, found.node) == ("SNN101", "call0")


def test_a_function_called_like_an_operator(tmp_path: Path) -> None:
    proto = with_function([node("Neg", "a", "b")], name="Relu", domain="")
    assert kinds(check_equal(tmp_path, proto).graph) == ["Input", "Relu"]


def test_functions_without_end(tmp_path: Path) -> None:
    proto = with_function([helper.make_node("F", ["a"], ["b"], domain="my")])
    proto.functions[0].opset_import.append(helper.make_opsetid("my", 1))
    with pytest.raises(InputError, match="'F' calls itself"):
        read_onnx(saved(tmp_path, proto))


def test_functions_that_multiply(tmp_path: Path) -> None:
    proto = with_function([node("Relu", "a", "b")], name="F0", calls=1)
    for index in range(1, 60):  # 2**60 nodes
        body = [
            helper.make_node(f"F{index - 1}", ["a"], ["m"], domain="my"),
            helper.make_node(f"F{index - 1}", ["m"], ["b"], domain="my"),
        ]
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
        proto.functions.append(helper.make_function("my", f"F{index}", ["a"], ["b"], body, imports))
    proto.graph.node[0].op_type = "F59"
    with pytest.raises(InputError, match=f"more than {functions.MOST_NODES} nodes"):
        read_onnx(saved(tmp_path, proto))
