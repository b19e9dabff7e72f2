"""Index maps: what stands for every rearrangement that is neither a view nor a slice.

An index map of an index map is one, and so is one of a slice, a padding or a reshape. Where a map reads
several parts of a join, it is the sum of the maps of the parts, each with zeros in the place of the others:
currents can be summed, so that joins along any axis become possible.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from snnc.frontend.views import PADDED, Index, View, is_range, row_major
from snnc.ir import ann
from snnc.ir.geometry import sole_channels
from snnc.ir.graph import Shape

if TYPE_CHECKING:
    from snnc.frontend.builder import GraphBuilder


class Routes:
    """Makes the index maps of a network in the making."""

    def __init__(self, builder: GraphBuilder) -> None:
        """Begin with the network."""
        self.builder = builder

    def layout(self, view: View) -> tuple[tuple[int, ...], Shape]:
        """Choose which axis of a tensor becomes the channels.

        Spikes of one channel have one unit, so best is an axis along which the channels of the node are kept
        apart; then the second axis, as of images.

        Returns:
            The axes of the tensor in the new order, and the shape of the node: (channels, height, width), or
            (features,) of a vector.
        """
        long = [axis for axis, n in enumerate(view.shape) if n > 1]
        everything = tuple(range(len(view.shape)))
        if len(long) < 2:
            return everything, (view.index.size,)
        usual = 1 if len(view.shape) > 2 and 1 in long else long[-1]
        shape = self.builder.shape(view.node)
        channels = usual
        for axis in (usual, *long):
            rows = np.moveaxis(view.index, axis, 0).reshape(view.shape[axis], -1)
            if sole_channels(rows, shape) is not None:
                channels = axis
                break
        rest = [axis for axis in everything if axis != channels]
        sizes = [view.shape[axis] for axis in rest if view.shape[axis] > 1]
        height, width = (1, sizes[0]) if len(sizes) == 1 else (sizes[0], math.prod(sizes[1:]))
        return (channels, *rest), (view.shape[channels], height, width)

    def node(self, name: str, index: Index, origin: str) -> str:
        """Return the node of the shape of ``index`` that holds the values of another node where it says."""
        if name in self.builder.doubtful:
            return self.builder.stand_in(index.shape)
        found: dict[str, Index] = {}
        self._trace(name, index, found)
        terms = [self._map(source, places, origin) for source, places in (found or {name: index}).items()]
        if len(terms) == 1:
            return terms[0]
        total = ann.Add(name=origin, inputs=tuple(terms), shape=index.shape, origin=origin)
        return self.builder.emit(total)

    def moves(self, name: str, index: Index) -> bool:
        """Say whether values must move, so that a node holds those of another where an index says."""
        found: dict[str, Index] = {}
        self._trace(name, index, found)
        return not all(
            is_range(places) and places.size == math.prod(self.builder.shape(source))
            for source, places in (found or {name: index}).items()
        )

    def _map(self, name: str, index: Index, origin: str) -> str:
        """Return one index map."""
        if is_range(index) and index.size == math.prod(self.builder.shape(name)):
            return self.builder.reshape(name, index.shape, origin)
        key = (name, index.shape, index.tobytes())
        if key not in self.builder.maps:
            made = ann.Gather(
                name=origin, inputs=(name,), shape=index.shape, origin=origin, index=index.astype(np.int32)
            )
            self.builder.maps[key] = self.builder.emit(made)
        return self.builder.maps[key]

    def _trace(self, name: str, index: Index, found: dict[str, Index]) -> None:
        """Find which nodes hold the values themselves, and where, behind all that only moves or joins them.

        Args:
            name: the node that is read.
            index: where.
            found: the index map of each node, to which is added.
        """
        node = self.builder.nodes[name]
        inner = _as_map(node, self.builder)
        if inner is not None and not (is_range(index) and index.shape == node.shape):
            composed = np.where(index == PADDED, PADDED, inner.ravel()[index])
            self._trace(node.inputs[0], composed, found)
        elif isinstance(node, ann.Concat) and not self._keeps_channels(index, node.shape):
            start = 0
            for part in node.inputs:
                size = math.prod(self.builder.shape(part))
                inside = (index >= start) & (index < start + size)
                if inside.any():
                    self._trace(part, np.where(inside, index - start, PADDED), found)
                start += size
        else:
            other = found.get(name)
            found[name] = index if other is None else np.where(other == PADDED, index, other)

    def _keeps_channels(self, index: Index, shape: Shape) -> bool:
        """Whether spikes that are joined can be moved as they are."""
        return len(index.shape) == 3 and index.min() >= 0 and sole_channels(index, shape) is not None


def _as_map(node: ann.AnnNode, builder: GraphBuilder) -> Index | None:
    """Return a node that moves values as an index map of what it reads; ``None`` for any other node."""
    match node:
        case ann.Gather():
            return node.index.astype(np.int64)
        case ann.Reshape():
            return row_major(node.shape)
        case ann.Slice():
            cut = tuple(map(slice, node.start, node.stop, node.step))
            return row_major(builder.shape(node.inputs[0]))[cut]
        case ann.Pad():
            sides = tuple(zip(node.before, node.after, strict=True))
            return np.pad(row_major(builder.shape(node.inputs[0])), sides, constant_values=PADDED)
        case _:
            return None
