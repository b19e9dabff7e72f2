"""Comparisons, and Where on their results: limits by a constant, written as a selection.

``Where(x > c, c, x)`` is ``min(x, c)``, and ``Where(x < 0, 0, x)`` is a rectifier. A constant condition, that
of a mask, makes a sum. No other choice between activations has a spiking form.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

import numpy as np
import onnx

from snnc.diagnostics import UNSUPPORTED_OPERATOR
from snnc.frontend import reshaping
from snnc.frontend.builder import GraphBuilder
from snnc.frontend.call import Call, Comparison, Limited
from snnc.frontend.elementwise import affine, broadcast, is_rectified, maximum, minimum, summed
from snnc.frontend.masks import masked
from snnc.frontend.simplify import Constant
from snnc.frontend.views import PADDED, View
from snnc.ir import ann

CURE = "write a limit as ReLU, ReLU6 or Clip from 0 to a constant; for others, use ReLU and fine-tune"

ADDED = (
    "add the mask to the scores: scores + (1 - m) * -10000 of an input m of floats, which is 1 for what is "
    "to be seen and 0 for what is not"
)
"""What to do about masks of the network's input."""

READERS = ("Where", "Not", "Cast", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Shape")
"""What may read comparisons and limits that wait for a rectifier."""


def above(call: Call) -> Comparison:
    """Read Greater or GreaterOrEqual of an activation and a constant."""
    return _compared(call, is_above=True)


def below(call: Call) -> Comparison:
    """Read Less or LessOrEqual of an activation and a constant."""
    return _compared(call, is_above=False)


def negation(call: Call) -> Comparison:
    """Read Not of a comparison; where both sides are equal, both choices of a limit are."""
    _require_choice(call, "makes steps")
    (condition,) = call.operands
    if not isinstance(condition, Comparison):
        _refuse(call, "negates something other than a comparison with a constant")
    return replace(condition, is_above=not condition.is_above)


def cast(call: Call) -> View | Comparison:
    """Read Cast to floats, or of a comparison to bool."""
    (value,) = call.operands
    if isinstance(value, Comparison) and call.integer("to", 0) == onnx.TensorProto.BOOL:
        _require_choice(call, "makes steps")
        return value
    if isinstance(value, Comparison | Limited):
        _refuse(call, "makes steps" if isinstance(value, Comparison) else "reads a limit from above alone")
    return reshaping.cast(call)


def where(call: Call) -> View | Limited:
    """Read Where by a constant, or that limits an activation by the constant with which it was compared."""
    condition, first, second = call.operands
    if isinstance(condition, np.ndarray) and condition.dtype == np.bool_:
        return _chosen(call, condition, first, second)
    if not isinstance(condition, Comparison):
        _refuse_choice(call, "its condition is not a comparison of an activation with a constant")
    if isinstance(first, np.ndarray) and isinstance(second, View | Limited):
        constant, value, from_above = first, second, condition.is_above
    elif isinstance(second, np.ndarray) and isinstance(first, View | Limited):
        constant, value, from_above = second, first, not condition.is_above
    else:
        _refuse(call, "chooses between two activations")
    view = value.view if isinstance(value, Limited) else value
    if not _equal(constant, condition.bound):
        _refuse_choice(
            call, "is discontinuous: it chooses another value than the constant that it compares with"
        )
    if not _limits_alike(call.builder, view, condition, from_above=from_above):
        _refuse_choice(call, "compares another activation than the one that it returns")
    limited = replace(call, operands=(view, constant))
    if not from_above:
        rectified = maximum(limited)
        if isinstance(value, View):
            return rectified
        return minimum(replace(call, operands=(rectified, value.bound)))
    if isinstance(value, Limited) or not np.all(constant >= 0):
        _refuse(call, "limits from above alone")
    if is_rectified(call.builder.nodes[view.node]):
        return minimum(limited)
    _require_choice(call, "limits from above alone")
    return Limited(view, constant)


def _chosen(call: Call, condition: Constant, first: object, second: object) -> View:
    """Return what a constant chooses, place by place: a sum of two tensors, each zero where the other is."""
    parts: list[View] = []
    constants: list[Constant] = []
    for value, mask in ((first, condition), (second, ~condition)):
        if isinstance(value, View):
            wide = broadcast(call, value, mask)
            parts.append(wide.to(np.where(mask, wide.index, PADDED), call.origin))
        elif isinstance(value, np.ndarray):
            constants.append(np.where(mask, masked(call, value), np.float32(0)))
        else:
            _refuse(call, "chooses what is no activation")
    view = parts[0] if len(parts) == 1 else summed(call, parts)
    return affine(call, view, np.float32(1), constants[0]) if constants else view


def _compared(call: Call, *, is_above: bool) -> Comparison:
    _require_choice(call, "makes steps")
    left, right = call.operands
    if isinstance(left, np.ndarray):
        left, right, is_above = right, left, not is_above
    if (
        isinstance(left, Limited) and isinstance(right, np.ndarray) and not np.any(right)
    ):  # its limit is no lower
        left = left.view
    if isinstance(left, Limited):
        _refuse(call, "compares a value that is limited from above with another number than 0")
    if not isinstance(left, View) or not isinstance(right, np.ndarray):
        _refuse(call, "compares two activations")
    return Comparison(left, right, is_above)


def _require_choice(call: Call, what: str) -> None:
    """Refuse what others read."""
    if any(node is None or node.op_type not in READERS for node in call.readers[0]):
        _refuse(call, what)


def _limits_alike(builder: GraphBuilder, view: View, condition: Comparison, *, from_above: bool) -> bool:
    """Say whether to limit what was compared limits what is chosen: rectifiers may lie between."""
    while view.node != condition.view.node:
        node = builder.nodes[view.node]
        if not isinstance(node, ann.Relu) or node.scale is not None:
            return False  # what is rounded may lie above a limit that the value lies below
        lower = node.ceiling is not None and float(node.ceiling.min()) < float(condition.bound.max())
        if from_above and lower:
            return False
        view = replace(view, node=node.inputs[0])
    return np.array_equal(view.index, condition.view.index)


def _equal(one: Constant, other: Constant) -> bool:
    try:
        return bool((one == other).all())
    except (AttributeError, ValueError):
        return False


def _refuse_choice(call: Call, what: str) -> NoReturn:
    """Refuse a choice; one of what a softmax must not see has a form that can be converted."""
    fills = [value for value in call.operands[1:] if isinstance(value, np.ndarray)]
    if call.softmax_scale and any((fill < 0).all() for fill in fills):
        what = "masks what a softmax reads by a condition on the network's input"
        call.refuse(what, ADDED, UNSUPPORTED_OPERATOR)
    _refuse(call, what)


def _refuse(call: Call, what: str) -> NoReturn:
    call.refuse(what, CURE, UNSUPPORTED_OPERATOR)
