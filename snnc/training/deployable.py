"""From the network that was trained to one that can be lowered."""

from __future__ import annotations

import numpy as np

from snnc.errors import InternalError
from snnc.ir import ann
from snnc.ir.rewriter import Rewriter
from snnc.passes import PASSES
from snnc.pipeline import Context, Pipeline, run_pipeline


def deployable(graph: ann.AnnGraph, context: Context) -> ann.AnnGraph:
    """Return a network of convolutions, rectifiers and pools, ready to be lowered.

    The factor of the pixels goes into the weights that read them, each batch normalisation behind a pool in
    front of it, where it means the same as its scale is positive, and all of them into the weights.
    """
    moved = _pixels_inside(graph)
    for norm in moved.of_type(ann.BatchNormalisation):
        pool = moved[norm.inputs[0]]
        if isinstance(pool, ann.MaxPool):
            moved = _swapped(moved, pool, norm)
    made, _ = run_pipeline(Pipeline.parse("fold-batchnorm,exact-max-pool", PASSES), moved, context)
    if not isinstance(made, ann.AnnGraph):
        raise InternalError("folding leaves no source network")
    return made


def pooled_norms(graph: ann.AnnGraph) -> set[str]:
    """Return the names of the batch normalisations behind a maximum pool; their scale must stay positive."""
    norms = graph.of_type(ann.BatchNormalisation)
    return {norm.name for norm in norms if isinstance(graph[norm.inputs[0]], ann.MaxPool)}


def _swapped(graph: ann.AnnGraph, pool: ann.MaxPool, norm: ann.BatchNormalisation) -> ann.AnnGraph:
    if norm.scale.min() <= 0:
        raise InternalError(f"the scale of {norm.name!r} is not positive")
    source = graph[pool.inputs[0]]
    rewriter: Rewriter[ann.AnnNode] = Rewriter(graph)
    before = norm.with_(inputs=(source.name,), shape=source.shape, name=rewriter.fresh(norm.name + ".first"))
    rewriter.insert_after(source.name, before)
    rewriter.replace(pool.name, pool.with_(inputs=(before.name,)))
    rewriter.replace_uses(norm.name, pool.name)
    rewriter.erase(norm.name)
    return graph.with_nodes(rewriter.nodes, rewriter.outputs)


def _pixels_inside(graph: ann.AnnGraph) -> ann.AnnGraph:
    (given,) = graph.inputs
    (affine,) = graph.consumers[given.name]
    if not isinstance(affine, ann.ChannelAffine) or affine.shift.any():
        raise InternalError("the pixels are not scaled by a factor alone")
    rewriter: Rewriter[ann.AnnNode] = Rewriter(graph)
    for reader in graph.consumers[affine.name]:
        if not isinstance(reader, ann.Convolution) or reader.groups != 1:
            raise InternalError(f"{reader.name!r} reads pixels, and is no convolution")
        weight = (reader.weight * affine.scale[:, None, None]).astype(np.float32)
        rewriter.replace(reader.name, reader.with_(weight=weight))
    rewriter.replace_uses(affine.name, given.name)
    rewriter.erase(affine.name)
    return graph.with_nodes(rewriter.nodes, rewriter.outputs)
