"""Batch normalisations behind the weights of a folded network, for training.

Training with the statistics of a batch needs normalisations, which a conversion has folded away, and which
some networks never had. One behind weights with output ``z`` is the identity if its scale is the deviation of
``z`` and its shift the mean. Where the activations that the weights read are then rounded, it still gives
that mean and deviation, while the statistics of the batch are others. The weights have one size in all
channels, which does not matter behind it but for the length of a step. `fold-batchnorm` takes normalisations
out again.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from snnc.ir import ann
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray
from snnc.ir.rewriter import Rewriter
from snnc.training.ann_network import AnnNetwork

SIZE = 1 / 20
"""Root mean square of a channel's weights: a step of Adam at the rate 1e-3 changes them by a fiftieth."""

EPSILON = 1e-5
"""Of a normalisation, relative to the mean variance in front of it."""

SUFFIX = ".norm"

Moments = dict[str, tuple[FloatArray, FloatArray]]
"""Mean and variance, (channels,) float64 each, by node."""


def weighted(graph: ann.AnnGraph) -> list[str]:
    """Return the names of the weights that are normalised: all but those that give an answer."""
    answers = set(graph.answers.values()) | set(graph.outputs)
    found = []
    for node in graph:
        if isinstance(node, ann.Convolution | ann.Linear) and node.name not in answers:
            readers = graph.consumers[node.name]
            if not any(isinstance(reader, ann.BatchNormalisation) for reader in readers):
                found.append(node.name)
    return found


def moments(network: AnnNetwork, batches: Iterable[Mapping[str, Tensor]], names: list[str]) -> Moments:
    """Measure mean and variance of each channel over batches of rows."""
    count = dict.fromkeys(names, 0)
    total: dict[str, FloatArray] = {}
    squares: dict[str, FloatArray] = {}
    with torch.no_grad():
        for batch in batches:
            for name, values in network(batch, names).kept.items():
                flat = values.transpose(0, 1).flatten(1).double()
                first, second = (each.cpu().numpy() for each in (flat.sum(dim=1), flat.square().sum(dim=1)))
                total[name] = total.get(name, 0) + first
                squares[name] = squares.get(name, 0) + second
                count[name] += flat.shape[1]
    found: Moments = {}
    for name in names:
        mean = total[name] / count[name]
        found[name] = mean, np.maximum(squares[name] / count[name] - mean**2, 0)
    return found


def normalised(graph: ann.AnnGraph, found: Moments) -> ann.AnnGraph:
    """Return the same function with a batch normalisation behind each of the weights.

    Args:
        graph: the network.
        found: moments of what these weights give.
    """
    rewriter: Rewriter[ann.AnnNode] = Rewriter(graph)
    for name, (mean, variance) in found.items():
        node = graph[name]
        if not isinstance(node, ann.Convolution | ann.Linear):
            continue
        rows = node.weight.reshape(len(node.weight), -1).astype(np.float64)
        size = np.sqrt(np.square(rows).mean(axis=1))
        gain = np.where(size > 0, size / SIZE, 1.0)
        inside = variance / gain**2
        epsilon = EPSILON * float(inside.mean()) or EPSILON
        inner = node.with_(
            weight=(node.weight / per_channel(gain, node.weight.ndim)).astype(np.float32),
            bias=np.zeros_like(node.bias),
            weight_scale=None,
        )
        norm = ann.BatchNormalisation(
            name=rewriter.fresh(name + SUFFIX),
            inputs=(name,),
            shape=node.shape,
            origin=node.origin,
            scale=(gain * np.sqrt(inside + epsilon)).astype(np.float32),
            shift=mean.astype(np.float32),
            mean=((mean - node.bias) / gain).astype(np.float32),
            variance=inside.astype(np.float32),
            epsilon=epsilon,
        )
        readers = [reader.name for reader in graph.consumers[name]]
        rewriter.replace(name, inner)
        rewriter.insert_after(name, norm)
        rewriter.replace_uses(name, norm.name, readers)
    return graph.with_nodes(rewriter.nodes, rewriter.outputs)


def transferred(graph: ann.AnnGraph, learned: ann.AnnGraph, ratio: Mapping[str, FloatArray]) -> ann.AnnGraph:
    """Return a network with what was learned in another, whose nodes bear the same names.

    Args:
        graph: clipped for another number of steps.
        learned: the network that was trained, folded.
        ratio: (channels,) by how much thresholds and floors change with the number of steps, by rectifier.
    """

    def taken(node: ann.AnnNode) -> ann.AnnNode:
        if node.name not in learned:
            return node
        other = learned[node.name]
        if type(other) is not type(node) or other.shape != node.shape:
            return node
        match node, other:
            case ann.Convolution(), ann.Convolution():
                return node.with_(weight=other.weight, bias=other.bias, weight_scale=None)
            case ann.Linear(), ann.Linear():
                return node.with_(weight=other.weight, bias=other.bias, weight_scale=None)
            case ann.ChannelAffine(), ann.ChannelAffine():
                return node.with_(scale=other.scale, shift=other.shift)
            case ann.Constant(), ann.Constant():
                return node.with_(values=other.values)
            case ann.Relu(), ann.Relu() if node.threshold is not None and other.threshold is not None:
                factor = ratio.get(node.name, np.ones(node.channels, np.float32))
                floor = None if other.floor is None else (other.floor * factor).astype(np.float32)
                return node.with_(threshold=(other.threshold * factor).astype(np.float32), floor=floor)
            case _:
                return node

    return graph.with_nodes([taken(node) for node in graph])
