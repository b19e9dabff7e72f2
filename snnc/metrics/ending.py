"""The softmax or sigmoid at the end of a source network, which keeps the order of its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnc.metrics.task import SIGMOID, SOFTMAXES

if TYPE_CHECKING:
    import onnx

SHAPING = frozenset(
    {"Cast", "DequantizeLinear", "Dropout", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze"}
    | {"Unsqueeze"}
)
"""Operators that leave every value what it is, or nearly."""


def final_activation(model: onnx.ModelProto, output: str = "") -> str:
    """Return the ONNX softmax or sigmoid that makes an output; empty for none.

    Args:
        model: the network.
        output: the name of one of its outputs; the one that there is by default.
    """
    return last_activation(model, output or model.graph.output[0].name)[0]


def last_activation(model: onnx.ModelProto, output: str) -> tuple[str, str]:
    """Return the activation as above, and the tensor that it is computed from; both empty for none."""
    makers = {name: node for node in model.graph.node for name in node.output}
    maker = makers.get(output)
    logarithm = False
    while maker is not None and (maker.op_type in SHAPING or (maker.op_type == "Log" and not logarithm)):
        logarithm = logarithm or maker.op_type == "Log"
        maker = makers.get(maker.input[0])
    found = "" if maker is None else str(maker.op_type)
    if logarithm:
        found = "LogSoftmax" if found == "Softmax" else ""
    if maker is None or found not in (*SOFTMAXES, SIGMOID):
        return "", ""
    return found, str(maker.input[0])
