"""Divide a leaky rectifier between weights into two rectifiers, one for each sign.

    LeakyReLU(z) = max(z, 0) - c max(-z, 0)

Few levels of one unit do not carry both sides: those below zero are ``1 / c`` times smaller. Two rectifiers
have a threshold each. Where weights alone make ``z`` and weights alone read the result, nothing is added but
channels: rows ``w`` become ``w`` and ``-w``, and columns ``v`` that read become ``v`` and ``-c v``. The two
lie side by side, so that groups of channels stay groups. Of the two at most one fires.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir.ann import AnnGraph, AnnNode, Convolution, Linear, Pointwise, Relu
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray
from snnc.ir.operations import check_known
from snnc.ir.rewriter import Rewriter
from snnc.pipeline import Context

LEAKY = "LeakyRelu(x, c0)"
SIGNS = np.array([1, -1], np.float32)

Weights = Convolution | Linear


@dataclass(frozen=True, slots=True)
class SplitSlopes:
    """Give each side of a leaky rectifier a population of its own."""

    name: ClassVar[str] = "split-slopes"

    def run(self, graph: AnnGraph, context: Context, /) -> AnnGraph:
        """Return an equal network without leaky rectifiers that stand between weights."""
        check_known(graph)
        divided = [node for node in graph.of_type(Pointwise) if _stands_between_weights(graph, node)]
        if not divided:
            return graph
        rewriter: Rewriter[AnnNode] = Rewriter(graph)
        for node in divided:
            maker = rewriter[node.inputs[0]]
            if isinstance(maker, Weights):
                rewriter.replace(maker.name, _both_signs(maker))
            slopes = np.broadcast_to(node.constants[0], (node.channels,))
            for reader in graph.consumers[node.name]:
                weights = rewriter[reader.name]
                if isinstance(weights, Weights):
                    rewriter.replace(weights.name, _reading_both(weights, slopes))
            # The population keeps the name, and with it the name of the ONNX node.
            shape = (2 * node.channels, *node.shape[1:])
            rewriter.replace(
                node.name, Relu(name=node.name, inputs=node.inputs, shape=shape, origin=node.origin)
            )
        context.findings["divided"] = [node.name for node in divided]
        return graph.with_nodes(rewriter.nodes, rewriter.outputs)


def _stands_between_weights(graph: AnnGraph, node: Pointwise) -> bool:
    """Whether a function is a leaky rectifier that only weights read, of what only it reads from weights."""
    if node.program != LEAKY or node.step is not None or node.name in graph.outputs:
        return False
    around = (graph[node.inputs[0]], *graph.consumers[node.name])
    plain = all(isinstance(each, Weights) and each.weight_scale is None for each in around)
    return plain and len(around) > 1 and graph.read_once(node.inputs[0])


def _both_signs(maker: Weights) -> Weights:
    """Return weights that give each channel, and next to it its negative."""
    signs = np.tile(SIGNS, maker.channels)
    weight = np.repeat(maker.weight, 2, axis=0) * per_channel(signs, maker.weight.ndim)
    bias = np.repeat(maker.bias, 2) * signs
    return maker.with_(weight=weight, bias=bias, shape=(2 * maker.channels, *maker.shape[1:]))


def _reading_both(reader: Weights, slopes: FloatArray) -> Weights:
    """Return weights that read both sides of each channel."""
    groups = reader.groups if isinstance(reader, Convolution) else 1
    weight = reader.weight
    # Which channels each row reads: those of its group.
    read = np.repeat(slopes.reshape(groups, -1), len(weight) // groups, axis=0)
    factors = np.stack([np.ones_like(read), -read], axis=2).reshape(len(weight), -1)
    factors = factors.reshape(*factors.shape, *(1,) * (weight.ndim - 2)).astype(np.float32)
    return reader.with_(weight=np.repeat(weight, 2, axis=1) * factors)
