"""What goes on in the place of a node that could not be read, so that what follows is checked, too."""

from __future__ import annotations

import math

import numpy as np
import onnx

from snnc.frontend.advice import is_quantised
from snnc.frontend.environment import UNKNOWN, Environment, Unknown
from snnc.frontend.refusals import MAX_VALUES
from snnc.frontend.simplify import infer_shapes, label
from snnc.frontend.views import View
from snnc.ir.graph import Shape

KEEP_SHAPE = frozenset(
    {
        "BipolarQuant",
        "DequantizeLinear",
        "FloatQuant",
        "IntQuant",
        "MultiThreshold",
        "Quant",
        "QuantizeLinear",
        "Trunc",
    }
)
"""Operators of quantised networks that give a tensor of the shape of their first input."""


def stand_ins(environment: Environment, node: onnx.NodeProto) -> tuple[View | Unknown, ...]:
    """Return tensors of the shapes of a node's outputs, as far as these are known."""
    values = {name: environment.values.get(name, UNKNOWN) for name in node.input if name}
    shapes = {name: value.shape for name, value in values.items() if isinstance(value, View)}
    if not shapes or any(isinstance(value, Unknown) for value in values.values()):
        return (UNKNOWN,) * len(node.output)
    if is_quantised(node.op_type):
        # Only these keep the shape of what they read; of the others nothing is known here.
        kept = shapes.get(node.input[0]) if node.op_type in KEEP_SHAPE else None
        found: list[Shape | None] = [kept] * len(node.output)
    else:
        constants = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        found = infer_shapes(node, shapes, constants, environment.opset)
    return tuple(
        environment.builder.stand_in_view(shape, label(node))
        if shape is not None and math.prod(shape) <= MAX_VALUES
        else UNKNOWN
        for shape in found
    )
