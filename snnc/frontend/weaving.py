"""Pixels folded into channels: a rearrangement that strided slices, joined along channels, express."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from snnc.frontend.views import Image, Index, View, find_cut, is_range
from snnc.ir import ann
from snnc.ir.graph import Shape

if TYPE_CHECKING:
    from snnc.frontend.builder import GraphBuilder

MOST_PARTS = 64
"""Most slices that are joined: pixels of 8 x 8."""


def weave(builder: GraphBuilder, view: View, shape: tuple[int, int, int]) -> Image | None:
    """Return the node of an image each of whose channels is a strided slice of one channel of another node.

    That is how exporters spell space-to-depth (pixel unshuffle): reshape, transpose, reshape.

    Args:
        builder: the network in the making.
        view: the tensor.
        shape: its channels, height and width.

    Returns:
        The image, ``None`` where the tensor is no such rearrangement.
    """
    key = (view.node, view.index.tobytes())
    if key not in builder.woven:
        made = _woven(builder, view, shape)
        if made is None:
            return None
        builder.woven[key] = made
    return builder.woven[key]


def _woven(builder: GraphBuilder, view: View, shape: tuple[int, int, int]) -> Image | None:
    node = builder.shape(view.node)
    index = view.index.reshape(shape[0], -1)
    groups = _groups(index, node)
    if groups is None or len(groups) > MOST_PARTS:
        return None
    cuts = [index[rows].reshape(len(rows), *shape[1:]) for rows in groups]
    if any(find_cut(cut, node) is None for cut in cuts):
        return None
    parts = [builder.settle(View(view.node, cut[None], view.origin), view.origin) for cut in cuts]
    if not all(is_range(part.index) for part in parts):
        return None
    names = tuple(
        builder.reshape(part.node, (len(rows), *shape[1:]), view.origin)
        for part, rows in zip(parts, groups, strict=True)
    )
    if len(names) == 1:
        joined = names[0]
    else:
        joined = builder.emit(ann.Concat(name=view.origin, inputs=names, shape=shape, origin=view.origin))
    order = np.empty(shape[0], np.int64)
    order[np.concatenate(groups)] = np.arange(shape[0])
    return Image(joined, shape, order)


def _groups(index: Index, node: Shape) -> list[list[int]] | None:
    """Group the rows of (channels, positions) that one slice can hold, in the order of the node's channels.

    Returns:
        The groups, ``None`` where a row reads more than one channel of the node.
    """
    if len(node) != 3 or index.min(initial=0) < 0:
        return None
    channel, place = np.divmod(index, node[1] * node[2])
    if (channel != channel[:, :1]).any():
        return None
    same: dict[bytes, list[int]] = {}
    for row in range(len(index)):
        same.setdefault(place[row].tobytes(), []).append(row)
    groups = []
    for rows in same.values():
        rows.sort(key=lambda row: channel[row, 0])
        steps = np.diff(channel[rows, 0])
        groups += [rows] if len(set(steps.tolist())) < 2 and (steps > 0).all() else [[row] for row in rows]
    return groups


def joined_axes(nodes: Mapping[str, ann.AnnNode], name: str, index: Index) -> list[str]:
    """Name the axes along which an image joins others, apart from the channels: height, width or both.

    Args:
        nodes: the network so far.
        name: the node that holds the image.
        index: (channels, height, width), positions in the values of the node.
    """
    if not isinstance(nodes[name], ann.Concat):
        return []
    ends = np.cumsum([math.prod(nodes[part].shape) for part in nodes[name].inputs])
    part = np.searchsorted(ends, index, side="right")
    found = {axis for axis in (1, 2) if np.diff(part, axis=axis).any()}
    pending = list(nodes[name].inputs) if found else []
    while pending:  # what is joined may have been joined along the other axis before
        node = nodes[pending.pop()]
        if isinstance(node, ann.Concat):
            shapes = [_unflattened(nodes, part) for part in node.inputs]
            images = all(len(shape) == 3 for shape in shapes)
            found |= {axis for axis in (1, 2) if images and len({shape[axis] for shape in shapes}) > 1}
        if isinstance(node, ann.Concat | ann.Slice | ann.Reshape):
            pending.extend(node.inputs)
    return [what for axis, what in ((1, "height"), (2, "width")) if axis in found]


def _unflattened(nodes: Mapping[str, ann.AnnNode], name: str) -> Shape:
    node = nodes[name]
    return nodes[node.inputs[0]].shape if isinstance(node, ann.Reshape) else node.shape
