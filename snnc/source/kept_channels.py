"""The source network with the rectifiers of a pruned network: those of the channels that were kept.

The source itself loses nothing: a rectifier ``R`` becomes two, ``R`` of the channels that populations still
stand for and another of those that are gone, and what read ``R`` reads both, put together in the old order.
So the targets of a pruned population are what the whole source has at its channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from snnc.errors import InternalError
from snnc.ir.ann import AnnGraph, AnnNode, Concat, Gather, Relu
from snnc.ir.graph import FloatArray, IntArray
from snnc.ir.rewriter import Rewriter


def is_divisible(node: AnnNode) -> bool:
    """Whether a node is a rectifier whose channels can be told apart: it rounds to no levels."""
    return isinstance(node, Relu) and node.scale is None and node.points is None and node.gain is None


def with_kept_channels(source: AnnGraph, kept: Mapping[str, Sequence[int] | IntArray]) -> AnnGraph:
    """Return a network that computes the same, and whose rectifiers have some of their channels.

    In onnxruntime the last bits of its values may differ, for other operations are fused.

    Args:
        source: the network that was lowered.
        kept: for each rectifier that lost some, the channels that are left, ascending.

    Raises:
        InternalError: a rectifier has no such channels.
    """
    rewriter = Rewriter(source)
    for name, channels in kept.items():
        if name not in source or not is_divisible(node := source[name]) or not isinstance(node, Relu):
            raise InternalError(f"{name!r} is no rectifier of the source whose channels can be told apart")
        chosen = np.zeros(node.channels, np.bool_)
        chosen[np.asarray(channels, np.int64)] = True
        _split(rewriter, node, np.flatnonzero(chosen), np.flatnonzero(~chosen))
    found = source.with_nodes(rewriter.nodes, rewriter.outputs)
    found.verify()
    return found


def _split(rewriter: Rewriter[AnnNode], node: Relu, kept: IntArray, gone: IntArray) -> None:
    """Divide a rectifier into one of its own name with the channels ``kept``, and one with the rest."""
    if not gone.size:
        return
    apart: list[AnnNode] = []
    for name, channels in ((node.name, kept), (rewriter.fresh(f"{node.name}.pruned"), gone)):
        read = _channels_of(rewriter.fresh(f"{name}.read"), node, channels)
        apart += [read, _part(node, channels).with_(name=name, inputs=(read.name,))]
    joined = Concat(
        name=rewriter.fresh(f"{node.name}.joined"),
        inputs=(apart[1].name, apart[3].name),
        shape=node.shape,
        origin=node.origin,
    )
    order = np.argsort(np.concatenate([kept, gone]))
    whole = _channels_of(rewriter.fresh(f"{node.name}.whole"), joined, order)
    rewriter.replace(node.name, *apart, joined, whole.with_(inputs=(joined.name,)))


def _channels_of(name: str, node: AnnNode, channels: IntArray) -> Gather:
    """Return what takes some channels of what ``node`` reads, which has its shape."""
    index = np.arange(prod(node.shape), dtype=np.int32).reshape(node.shape)[channels]
    return Gather(name=name, inputs=node.inputs[:1], shape=index.shape, origin=node.origin, index=index)


def _part(node: Relu, channels: IntArray) -> Relu:
    """Return a rectifier of some channels."""

    def some(values: FloatArray | None) -> FloatArray | None:
        return None if values is None else values[channels]

    return node.with_(
        shape=(len(channels), *node.shape[1:]),
        ceiling=some(node.ceiling),
        threshold=some(node.threshold),
        floor=some(node.floor),
        shift=some(node.shift),
    )
