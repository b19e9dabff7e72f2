"""Masks in front of a softmax: constants that put some of its arguments so far below that they weigh nothing.

Exporters write minus infinity, the least number that there is or -1e9 for what attention must not see. Any
number far below all others means the same to a softmax, and no levels hold both such a number and the others.
"""

from __future__ import annotations

import numpy as np
import onnx

from snnc.frontend.call import Call
from snnc.frontend.environment import Environment
from snnc.frontend.functions import DEFAULT_DOMAINS
from snnc.frontend.tensors import Constant

MASKED = np.float32(-1e4)
"""What stands for minus infinity where a softmax alone reads it: exp(-1e4) is 0."""

LOWEST = -1e18
"""The least number that stands for minus infinity, however a softmax scales it: float32 can square it."""

FAR = 20
"""How far below the others an argument of a softmax weighs nothing: exp(-20) is 2e-9."""

ADDS = frozenset({"Add", "Sub", "Sum"})
"""Operators by which a constant is added to activations."""

MOVES = frozenset(
    {"Cast", "Dropout", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose"}
    | {"Unsqueeze"}
)
"""Operators that change no value of their first input."""

REACH = 8
"""Most operators between a mask and its softmax."""


def softmax_scale(environment: Environment, name: str, reach: int = REACH) -> float:
    """Return the least factor by which softmaxes scale a tensor; 0 where anything else reads it, too."""
    readers = environment.readers.get(name, ())
    if not readers or not reach:
        return 0.0
    return min(_scale_of(environment, name, node, reach - 1) for node in readers)


def _scale_of(environment: Environment, name: str, node: onnx.NodeProto | None, reach: int) -> float:
    """Return the factor of one reader; see :func:`softmax_scale`."""
    if node is None or node.domain not in DEFAULT_DOMAINS:
        return 0.0
    if node.op_type == "Softmax":
        return 1.0
    beside = [environment.constant(each) for each in node.input if each != name]
    factor = 0.0
    if node.op_type in MOVES and node.input[0] == name:
        factor = 1.0
    elif node.op_type == "Where" and len(beside) == 2 and all(each is not None for each in beside):
        factor = 1.0  # another mask
    elif node.op_type == "Mul" or (node.op_type == "Div" and node.input[0] == name):
        factor = _least(beside, is_divisor=node.op_type == "Div")
    return factor * softmax_scale(environment, node.output[0], reach) if factor else 0.0


def _least(factors: list[Constant | None], *, is_divisor: bool) -> float:
    """Return the least value of the one constant that a tensor is multiplied with; 0 unless all are above."""
    if len(factors) != 1 or factors[0] is None or factors[0].dtype.kind != "f" or not factors[0].size:
        return 0.0
    values = factors[0].astype(np.float64)
    if not (values > 0).all() or not np.isfinite(values).all():
        return 0.0
    return float(1 / values.max() if is_divisor else values.min())


def masked(call: Call, constant: Constant) -> Constant:
    """Return the constant of a mask without minus infinity, where softmaxes alone read it."""
    if constant.dtype.kind != "f" or not call.softmax_scale:
        return constant
    low = np.float32(max(float(MASKED) / min(call.softmax_scale, 1), LOWEST))
    return np.where(constant < low, low, constant).astype(np.float32) if (constant < low).any() else constant


def is_mask(environment: Environment, node: onnx.NodeProto) -> bool:
    """Whether constants say which values are replaced, or add to some of them what puts these far below.

    A mask stays outside of every function of one number: what it puts elsewhere would stretch the range of
    the levels of all others.
    """
    operands = [environment.constant(name) for name in node.input]
    constants = [each for each in operands if each is not None]
    if node.domain not in DEFAULT_DOMAINS or not constants:
        return False
    if node.op_type == "Where":
        return operands[0] is not None and len(constants) == 2
    if node.op_type not in ADDS:
        return False
    scale = softmax_scale(environment, node.output[0])
    far = FAR / scale if scale else -MASKED
    with np.errstate(invalid="ignore"):  # all of them are minus infinity
        return any(float(np.ptp(each.astype(np.float64))) > far for each in constants if each.size)
