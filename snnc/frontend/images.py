"""Images: how a tensor becomes a node of (channels, height, width) that an operation over both can read."""

from __future__ import annotations

import math

import numpy as np

from snnc.diagnostics import UNSUPPORTED_ATTRIBUTE
from snnc.frontend.builder import GraphBuilder
from snnc.frontend.refusals import refuse
from snnc.frontend.views import Image, Index, View, is_range, outer_sum
from snnc.frontend.weaving import weave
from snnc.ir import ann


def image_of(builder: GraphBuilder, view: View, origin: str) -> Image:
    """Return the node that an operation over height and width reads.

    Args:
        builder: the network in the making.
        view: (1, channels, height, width), or (1, channels, length), which becomes height 1.
        origin: the operation.

    Raises:
        RefusalError: the tensor has another rank, or its layout is more than a permutation of channels.
    """
    if len(view.shape) not in (3, 4) or view.shape[0] != 1:
        refuse(
            UNSUPPORTED_ATTRIBUTE,
            origin,
            f"its input has the shape {view.shape}: only one- and two-dimensional images are supported",
            "use two-dimensional operations",
        )
    channels = view.shape[1]
    height, width = view.shape[2:] if len(view.shape) == 4 else (1, view.shape[2])
    builder.refuse_lowest(view, origin)
    builder.want(view.node, _of_input(builder, view.node, view.index.reshape(channels, height, width)))
    if view.node in builder.doubtful:
        return Image(
            builder.stand_in((channels, height, width)), (channels, height, width), np.arange(channels)
        )
    shape = (channels, height, width)
    found = _plain(builder, view, shape, origin) or weave(builder, view, shape)
    return found or Image(builder.ordered(view, shape).node, shape, np.arange(channels))


def _of_input(builder: GraphBuilder, name: str, index: Index) -> Index:
    """Return the channels of an image that are the network's input where it is joined with constants."""
    node = builder.nodes[name]
    start = 0
    for part in node.inputs if isinstance(node, ann.Concat) else ():
        size = math.prod(builder.shape(part))
        rows = ((index >= start) & (index < start + size)).all(axis=(1, 2))
        if (
            isinstance(builder.nodes[part], ann.Input)
            and (part in builder.pending or not builder.probing)
            and rows.any()
        ):
            return index[rows] - start
        start += size
    return index


def _plain(builder: GraphBuilder, view: View, shape: tuple[int, int, int], origin: str) -> Image | None:
    """Return a tensor whose channels are those of a node, in any order; ``None`` where they are not."""
    settled = builder.settled(view, origin)
    if settled is None:
        return None
    view = settled
    split = outer_sum(view.index.reshape(shape[0], -1))
    if split is None or not is_range(split[1]):
        return None
    return Image(builder.reshape(view.node, shape, view.origin), shape, split[0])
