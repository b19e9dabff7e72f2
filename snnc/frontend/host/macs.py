"""Multiply-accumulates of ONNX operators, by which it is told what share of a network spikes do."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import onnx
from onnx import helper

from snnc.frontend.functions import nested
from snnc.ir.graph import Shape

CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "FusedConv", "QLinearConv"})
PRODUCTS = frozenset({"MatMul", "MatMulInteger", "QLinearMatMul"})
RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
COUNTED = CONVOLUTIONS | PRODUCTS | RECURRENT | {"ConvTranspose", "Einsum", "Gemm", "QGemm"}
UNCOUNTED = frozenset(
    {"Attention", "DeformConv", "FusedGemm", "FusedMatMul", "GroupQueryAttention", "MatMulNBits"}
    | {"MultiHeadAttention", "QAttention"}
)
"""Operators that multiply and accumulate, and of which nothing is counted."""

UNKNOWN = (ArithmeticError, AttributeError, LookupError, StopIteration, ValueError)
"""What counting ends in where a shape or an attribute is not known."""

WEIGHT = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}
"""Where the second factor stands among the inputs, if not in the second place."""


def macs(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Return the multiply-accumulates of one operator, 0 for all but products and cells.

    Counted as is the custom: every output times the size of its kernel, padding included.

    Args:
        node: the operator.
        shapes: of tensors, with the batch that is counted; where one is not known, nothing is counted.
    """
    try:
        return _macs(node, shapes)
    except UNKNOWN:
        return 0


def is_counted(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> bool:
    """Say whether :func:`macs` counts all multiply-accumulates of an operator.

    It does not where a shape is not known, nor those of operators inside of others, as in a branch or a loop.

    Args:
        node: the operator.
        shapes: as for :func:`macs`.
    """
    try:
        _macs(node, shapes)
    except UNKNOWN:
        return False
    inner = (each for each in nested([node]) if each is not node)
    return node.op_type not in UNCOUNTED and not any(each.op_type in COUNTED | UNCOUNTED for each in inner)


def _macs(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    kind = node.op_type
    if kind in CONVOLUTIONS:
        return prod(shapes[node.output[0]]) * prod(_weight(node, shapes)[1:])
    if kind == "ConvTranspose":
        return prod(shapes[node.input[0]]) * prod(_weight(node, shapes)[1:])
    if kind in PRODUCTS:
        return prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    if kind in ("Gemm", "QGemm"):
        turned = any(a.name == "transB" and a.i for a in node.attribute)
        return prod(shapes[node.output[0]]) * _weight(node, shapes)[1 if turned else 0]
    if kind == "Einsum":
        return _einsum(node, shapes)
    if kind in RECURRENT:
        weight, recurrence = shapes[node.input[1]], shapes[node.input[2]]
        steps = prod(shapes[node.input[0]]) // weight[-1]
        return steps * (prod(weight) + prod(recurrence))
    return 0


def _weight(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> Shape:
    return shapes[node.input[WEIGHT.get(node.op_type, 1)]]


def _einsum(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Return the size of all labels together: what a sum of products of two factors takes."""
    equation = next(helper.get_attribute_value(a) for a in node.attribute if a.name == "equation").decode()
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, name in zip(terms, node.input, strict=True):
        shape = shapes[name]
        rest = len(shape) - len(term.replace("...", ""))
        labels = list(term.replace("...", "")) if "..." not in term else _spread(term, rest)
        for label, size in zip(labels, shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    return prod(sizes.values()) if len(terms) > 1 else 0


def _spread(term: str, rest: int) -> list[str]:
    """Return the labels of a term with its ellipsis written out, aligned from its end."""
    before, _, behind = term.partition("...")
    return [*before, *(f"...{place}" for place in range(rest, 0, -1)), *behind]
