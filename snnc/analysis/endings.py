"""Whether spikes compute the softmax or sigmoid that a source network ends with, or leave it out.

A softmax over class scores keeps their order and is left out. One along an axis of a map, and any sigmoid
that no host computes, are functions of spike counts: what the read-out holds lies behind them.
"""

from __future__ import annotations

from snnc.ir.counts import CountSoftmax
from snnc.ir.operations import check_known
from snnc.ir.snn import ChannelWeight, Gather, IntegrateFire, Pad, Reshape, Slice, SnnGraph, SnnNode
from snnc.metrics.task import SIGMOID


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
