"""The softmax or sigmoid at the end of a source network, which keeps the order of its answers.

A spiking network leaves out a softmax over class scores. One along an axis of a map, and any sigmoid that no
host computes, are functions of spike counts: what the read-out holds lies behind them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnc.ir.counts import CountSoftmax
from snnc.ir.operations import check_known
from snnc.ir.snn import ChannelWeight, Gather, IntegrateFire, Pad, Reshape, Slice, SnnGraph, SnnNode
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


def computes_end(graph: SnnGraph, output: str, ends: str) -> bool:
    """Say whether the spikes that an output's read-out reads have passed the source's last activation.

    Args:
        graph: the spiking network.
        output: the name of one of its outputs.
        ends: the activation, as an ONNX operator; empty for none.
    """
    check_known(graph)
    if output not in graph.readouts or ends not in ("Softmax", SIGMOID):
        return False  # a logarithm of a softmax that is no answer of classes is refused
    last = _source(graph, graph.readouts[output])
    if ends == "Softmax":
        return isinstance(last, CountSoftmax)
    return isinstance(last, IntegrateFire) and last.step_values is not None


def _source(graph: SnnGraph, node: SnnNode) -> SnnNode | None:
    """Return what sends the counts that a node reads, each scaled or moved at most; ``None`` for several."""
    while len(node.inputs) == 1:
        node = graph[node.inputs[0]]
        if not isinstance(node, ChannelWeight | Reshape | Gather | Slice | Pad):
            return node
    return None
