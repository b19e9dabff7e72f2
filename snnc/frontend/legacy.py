"""Operators as they were before opset 7, in the words of opset 7.

Arithmetic aligned its second operand by an attribute, some operators had a switch between training and use,
and others had other names for their attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import onnx

from snnc.diagnostics import OLD_OPSET, UNSUPPORTED_ATTRIBUTE, Diagnostic
from snnc.frontend.call import Value
from snnc.frontend.refusals import refuse
from snnc.frontend.simplify import label
from snnc.frontend.views import View

MODERN = 7
"""The first opset that needs none of this."""

ALIGNED = frozenset({"Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor"})

_Value = TypeVar("_Value")


def old(opset: int) -> tuple[Diagnostic, ...]:
    """Return what to tell about a network of that opset."""
    if opset >= MODERN:
        return ()
    message = f"the model uses opset {opset}, of which onnxruntime has only parts"
    return (Diagnostic(OLD_OPSET, message, "", "export it again with opset 13 or newer"),)


def modern(node: onnx.NodeProto, opset: int) -> onnx.NodeProto:
    """Return a node as opset 7 would write it.

    Raises:
        RefusalError: it is in training mode, or casts to an unknown type.
    """
    if opset >= MODERN:
        return node
    attributes = {attribute.name: attribute for attribute in node.attribute}
    training = "is_test" not in attributes or not attributes["is_test"].i
    if node.op_type in ("BatchNormalization", "Dropout") and training:
        message = f"{node.op_type}: is_test is not set, so it is in training mode"
        refuse(UNSUPPORTED_ATTRIBUTE, label(node), message, "export the model for inference")
    changed = onnx.NodeProto()
    changed.CopyFrom(node)
    for attribute in changed.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.s:
            name = attribute.s.decode(errors="replace")
            if name not in onnx.TensorProto.DataType.keys():  # noqa: SIM118 - no mapping
                refuse(
                    UNSUPPORTED_ATTRIBUTE,
                    label(node),
                    f"Cast: the type {name!r} is unknown",
                    "export it again",
                )
            attribute.CopyFrom(onnx.helper.make_attribute("to", onnx.TensorProto.DataType.Value(name)))
        elif node.op_type == "Pad" and attribute.name == "paddings":
            attribute.name = "pads"
    return changed


def aligned(node: onnx.NodeProto, operands: Sequence[_Value], opset: int) -> tuple[_Value, ...]:
    """Return operands that broadcast by the rules of opset 7: the second with axes of size 1 behind its own.

    Raises:
        RefusalError: it has too many axes.
    """
    if opset >= MODERN or len(operands) != 2:
        return tuple(operands)
    first, second = operands
    if not isinstance(first, View | np.ndarray) or not isinstance(second, View | np.ndarray):
        return tuple(operands)
    rank, own = len(first.shape), len(second.shape)
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), None)
    if node.op_type == "PRelu" and own == 1 and rank > 1:
        axis = 1
    elif node.op_type not in ALIGNED or axis is None:
        return tuple(operands)
    behind = rank - own - axis
    if axis < 0 or behind < 0:
        message = f"{node.op_type}: the axis {axis} does not fit the ranks {rank} and {own}"
        refuse(UNSUPPORTED_ATTRIBUTE, label(node), message, "export the model again")
    return (first, _longer(second, behind))  # type: ignore[return-value]


def _longer(value: View | np.ndarray, behind: int) -> Value:
    if isinstance(value, View):
        return replace(value, index=value.index.reshape(*value.shape, *(1,) * behind))
    return value.reshape(*value.shape, *(1,) * behind)
