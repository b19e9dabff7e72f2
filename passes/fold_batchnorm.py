"""Fold batch normalisation and other per-channel affine maps into the weights beside them.

At inference ``y = g (W x + b) + h`` with ``g = scale / sqrt(variance + epsilon)`` is the linear map of
weight ``g W`` and bias ``g b + h``. An affine map in front of weights folds in too, ``W (g x + h)``,
where no zero padding stands between them (a padded zero would not become ``h``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir.ann import (
    AnnGraph,
    AnnNode,
    AveragePool,
    BatchNormalisation,
    ChannelAffine,
    Convolution,
    Input,
    Linear,
)
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray
from snnc.ir.operations import check_known
from snnc.ir.rewriter import Rewriter
from snnc.pipeline import Context


@dataclass(frozen=True, slots=True)
class FoldBatchnorm:
    """Remove every batch normalisation, and every affine map that a neighbour can take in."""

    name: ClassVar[str] = "fold-batchnorm"

    def run(self, graph: AnnGraph, context: Context, /) -> AnnGraph:
        """Return the graph without batch normalisation."""
        check_known(graph)
        folded = graph.map(BatchNormalisation, _as_affine)
        while (smaller := _fold_one(folded)) is not folded:
            folded = smaller
        context.findings["folded"] = len(graph.nodes) - len(folded.nodes)
        return folded


def _as_affine(node: BatchNormalisation) -> ChannelAffine:
    deviation = np.sqrt(node.variance.astype(np.float64) + node.epsilon)
    gain = node.scale.astype(np.float64) / deviation
    shift = node.shift.astype(np.float64) - node.mean.astype(np.float64) * gain
    return ChannelAffine(
        name=node.name,
        inputs=node.inputs,
        shape=node.shape,
        origin=node.origin,
        scale=gain.astype(np.float32),
        shift=shift.astype(np.float32),
    )


def _fold_one(graph: AnnGraph) -> AnnGraph:
    """Fold the first affine map that can be folded; the same graph if there is none."""
    for affine in graph.of_type(ChannelAffine):
        before = graph[affine.inputs[0]]
        after = graph.consumers[affine.name]
        alone = graph.read_once(before.name)
        if alone and isinstance(before, Convolution | Linear | ChannelAffine):
            return _replace(graph, before.name, _scaled(before, affine), affine)
        # A pool without padding commutes with an affine map: moved up, the map may meet weights.
        if alone and isinstance(before, AveragePool) and not any(before.window.pads):
            source = graph[before.inputs[0]]
            if isinstance(source, Convolution) and graph.read_once(source.name):
                return _replace(graph, source.name, _scaled(source, affine), affine)
        if isinstance(before, Input) or affine.name in graph.outputs:
            continue
        if after and all(_takes(node, affine) for node in after):
            changed = {node.name: _absorbed(node, affine) for node in after}
            return _without(graph, affine, changed)
    return graph


def _scaled(node: Convolution | Linear | ChannelAffine, affine: ChannelAffine) -> AnnNode:
    """Return ``affine`` after ``node`` as one node."""
    if isinstance(node, ChannelAffine):
        return node.with_(scale=node.scale * affine.scale, shift=node.shift * affine.scale + affine.shift)
    gain = per_channel(affine.scale, node.weight.ndim)
    return node.with_(weight=node.weight * gain, bias=node.bias * affine.scale + affine.shift)


def _takes(node: AnnNode, affine: ChannelAffine) -> bool:
    """Whether ``node`` can take in the affine map that it reads."""
    if isinstance(node, Linear):
        return True
    return isinstance(node, Convolution) and (not any(node.window.pads) or not affine.shift.any())


def _absorbed(node: AnnNode, affine: ChannelAffine) -> AnnNode:
    """Return ``node`` after ``affine`` as one node."""
    if isinstance(node, Linear):
        return node.with_(
            inputs=affine.inputs,
            weight=node.weight * affine.scale[None, :],
            bias=node.bias + node.weight @ affine.shift,
        )
    if not isinstance(node, Convolution):
        raise TypeError(f"{type(node).__name__} takes in no affine map")
    scale, shift = (_per_group(values, node) for values in (affine.scale, affine.shift))
    bias = node.bias + np.einsum("oikl,oi->o", node.weight, shift)
    return node.with_(inputs=affine.inputs, weight=node.weight * scale[:, :, None, None], bias=bias)


def _per_group(values: FloatArray, node: Convolution) -> FloatArray:
    """Spread (input channels,) over the (outputs, inputs / groups) of a grouped weight."""
    return np.repeat(values.reshape(node.groups, -1), node.channels // node.groups, axis=0)


def _replace(graph: AnnGraph, name: str, node: AnnNode, affine: ChannelAffine) -> AnnGraph:
    return _without(graph, affine, {name: node})


def _without(graph: AnnGraph, affine: ChannelAffine, changed: dict[str, AnnNode]) -> AnnGraph:
    """Take ``affine`` out: its readers read its input, and some nodes change."""
    rewriter = Rewriter(graph)
    for name, node in changed.items():
        rewriter.replace(name, node)
    rewriter.replace_uses(affine.name, affine.inputs[0])
    rewriter.erase(affine.name)
    return graph.with_nodes(rewriter.nodes, rewriter.outputs)
