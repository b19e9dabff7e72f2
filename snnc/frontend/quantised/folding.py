"""Quantised constants: their values, and the scales of which their elements are integer multiples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from snnc.frontend.quantised.qonnx import QONNX_DOMAINS, folded_bipolar, folded_quant
from snnc.frontend.simplify import evaluate
from snnc.frontend.tensors import Constant
from snnc.ir.graph import FloatArray

CONSTANTS_MOVE = frozenset(
    {"Cast", "Concat", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators of constants that leave every element a multiple of what it was."""


def folded(node: onnx.NodeProto, operands: Sequence[Constant | None]) -> tuple[FloatArray, Constant] | None:
    """Compute an operator of another domain than ONNX's that quantises constants.

    Returns:
        The numbers of which the elements are integer multiples, and the elements; ``None`` for another node.

    Raises:
        ValueError: it rounds in an unknown way.
    """
    given = [np.asarray(value) for value in operands if value is not None]
    settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.domain in QONNX_DOMAINS and node.op_type in ("Quant", "IntQuant"):
        mode = settings.get("rounding_mode", b"ROUND").decode().upper()
        signed, narrow = bool(settings.get("signed", 1)), bool(settings.get("narrow", 0))
        values = folded_quant(given, signed, narrow, mode)
    elif node.domain in QONNX_DOMAINS and node.op_type == "BipolarQuant":
        values = folded_bipolar(given[0], given[1])
    elif node.domain == "com.microsoft" and node.op_type == "DequantizeLinear":
        spread = dequantising_scale(node, given[0], given[1])
        zeros = np.zeros(1, np.float32) if len(given) < 3 else given[2].astype(np.float32)
        if zeros.size > 1:
            zeros = dequantising_scale(node, given[0], zeros)
        return spread, ((given[0].astype(np.float32) - zeros) * spread).astype(np.float32)
    else:
        return None
    return np.broadcast_to(given[1].astype(np.float32), values.shape).copy(), values


def dequantising_scale(node: onnx.NodeProto, values: Constant, scale: Constant) -> FloatArray:
    """Return the scale of each element of a constant that is dequantised."""
    settings = {a.name: a.i for a in node.attribute}
    axis = settings.get("axis", 1)
    if scale.size > 1 and scale.ndim == 1:
        shape = [1] * values.ndim
        shape[axis] = scale.size
        scale = scale.reshape(shape)
    if scale.size > 1 and scale.ndim == values.ndim and scale.shape != values.shape:  # by blocks
        for place, (count, size) in enumerate(zip(scale.shape, values.shape, strict=True)):
            if count not in (1, size):
                block = settings.get("block_size", 0) or -(-size // count)
                scale = np.repeat(scale, block, axis=place)[
                    tuple(slice(0, n) if p == place else slice(None) for p, n in enumerate(values.shape))
                ]
    return np.broadcast_to(scale.astype(np.float32), values.shape).copy()


def scales_of(
    node: onnx.NodeProto, given: Mapping[str, Constant], known: Mapping[str, FloatArray], opset: int
) -> dict[str, FloatArray]:
    """Return, for what a node makes of constants, the numbers of which its elements are integer multiples.

    Args:
        node: the node.
        given: its inputs.
        known: such numbers of constants.
        opset: version of the default domain.
    """
    if node.op_type == "DequantizeLinear":
        names = [given[name] for name in node.input[:2]]
        return {node.output[0]: dequantising_scale(node, *names)}
    if node.op_type not in CONSTANTS_MOVE or not node.input or node.input[0] not in known:
        return {}
    if node.op_type == "Concat" and not all(name in known for name in node.input):
        return {}
    same = {name: known.get(name, value) for name, value in given.items()}
    return {node.output[0]: np.asarray(evaluate(node, same, opset)[0], np.float32)}
