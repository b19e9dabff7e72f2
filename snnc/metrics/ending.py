"""What a source network ends with: the softmax or sigmoid that keeps the order of its answers."""

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
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    maker = makers.get(output or graph.output[0].name)
    logarithm = False
    while maker is not None and (maker.op_type in SHAPING or (maker.op_type == "Log" and not logarithm)):
        logarithm = logarithm or maker.op_type == "Log"
        maker = makers.get(maker.input[0])
    found = "" if maker is None else str(maker.op_type)
    if logarithm:
        return "LogSoftmax" if found == "Softmax" else ""
    return found if found in (*SOFTMAXES, SIGMOID) else ""
