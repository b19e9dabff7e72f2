"""Tensors as views of nodes, so that layout changes need no operation.

Every ONNX tensor that depends on the input is represented by a node of the network, whose values are stored
channels first, and an index map from the tensor's positions to the node's. Transposes, reshapes and slices
change only the map. A map that is a permutation of channels is folded into the next weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from snnc.ir.graph import Shape

Index = NDArray[np.int64]
PADDED = -1
"""What stands in an index map where the tensor holds a zero of no node."""
LOWEST = -2
"""What stands there where the tensor holds minus infinity, as a max-pooling pads with."""


@dataclass(frozen=True, slots=True)
class View:
    """What an ONNX tensor holds for one sample.

    Attributes:
        node: name of the node of the network that holds the values.
        index: (*shape of the ONNX tensor at batch 1,), flat positions in the node's output, or ``PADDED``.
        origin: the ONNX node that made the tensor.
    """

    node: str
    index: Index
    origin: str

    @property
    def shape(self) -> Shape:
        """Shape of the ONNX tensor at batch 1."""
        return self.index.shape

    @property
    def ordered(self) -> bool:
        """Whether the tensor holds the node's values in their own order, row by row."""
        return is_range(self.index)

    def to(self, index: Index, origin: str) -> View:
        """Return the same node seen through another map."""
        return replace(self, index=index, origin=origin)


@dataclass(frozen=True, slots=True)
class Image:
    """A node of shape (channels, height, width) that an operation can read.

    Attributes:
        node: its name.
        shape: its shape.
        channels: (channels,), the channel of the node that each channel of the tensor is.
    """

    node: str
    shape: tuple[int, int, int]
    channels: Index

    @property
    def plain(self) -> bool:
        """Whether the channels stand in order."""
        return is_range(self.channels)


def is_range(index: Index) -> bool:
    """Say whether a map counts 0, 1, 2 ... row by row."""
    return np.array_equal(index.ravel(), np.arange(index.size))


def is_bijection(index: Index, size: int) -> bool:
    """Say whether a map reads each of ``size`` positions exactly once."""
    if index.size != size or index.min(initial=0) < 0:
        return False
    return is_range(index) or bool((np.bincount(index.ravel(), minlength=size) == 1).all())


def row_major(shape: Shape) -> Index:
    """Return the map of a tensor that holds its node's values in order."""
    return np.arange(math.prod(shape), dtype=np.int64).reshape(shape)


def bounding_box(index: Index) -> tuple[slice, ...]:
    """Return the smallest box that holds all positions that are not padded."""
    present = np.nonzero(index != PADDED)
    return tuple(
        slice(int(axis.min()), int(axis.max()) + 1) if axis.size else slice(0, 0) for axis in present
    )


def outer_sum(index: Index) -> tuple[Index, Index] | None:
    """Split ``index[c, p]`` into ``channel[c] * positions + place[p]``, both permutations.

    Args:
        index: (channels, positions), a bijection.

    Returns:
        The channel of each row and the place of each column, or ``None`` where the map mixes them.
    """
    positions = index.shape[1]
    channel, place = index[:, 0] // positions, index[0] % positions
    return (channel, place) if np.array_equal(index, channel[:, None] * positions + place) else None


@dataclass(frozen=True, slots=True)
class Cut:
    """An index map expressed as a strided slice of one node, with zeros around it.

    Attributes:
        start, stop, step: the slice, per axis of the node.
        before, after: the zeros, per axis of the node.
        axes: for each axis of the node, the tensor's axis that it becomes; -1 for a dropped one of length 1.
    """

    start: Shape
    stop: Shape
    step: Shape
    before: Shape
    after: Shape
    axes: tuple[int, ...]


def find_cut(index: Index, shape: Shape) -> Cut | None:
    """Express a map as a cut of a node of the given shape, or return ``None`` where it is none."""
    box = bounding_box(index)
    inner = index[box]
    if not inner.size or inner.min() < 0:
        return None
    coordinates = np.unravel_index(inner, shape)
    progressions: list[tuple[int, int, int]] = []
    axes: list[int] = []
    for place in coordinates:
        varying = [axis for axis, n in enumerate(place.shape) if n > 1 and np.diff(place, axis=axis).any()]
        if len(varying) > 1 or (varying and varying[0] in axes):
            return None
        axes.append(varying[0] if varying else -1)
        line = (
            np.moveaxis(place, varying[0], 0).reshape(place.shape[varying[0]], -1)[:, 0]
            if varying
            else place.flat[:1]
        )
        step = int(line[1] - line[0]) if varying else 1
        if step < 1 or (np.diff(line) != step).any():
            return None
        progressions.append((int(line[0]), int(line[-1]) + 1, step))
    if math.prod(len(range(*p)) for p in progressions) != inner.size:
        return None  # an axis of the tensor repeats values
    pads = [(b.start, n - b.stop) for b, n in zip(box, index.shape, strict=True)]
    padded = [axis for axis in range(index.ndim) if sum(pads[axis]) and axis not in axes]
    for position, axis in enumerate(axes):
        if axis < 0 and padded:  # an axis of length 1 of both
            axes[position] = padded.pop()
    if padded:
        return None
    around = [pads[axis] if axis >= 0 else (0, 0) for axis in axes]
    return Cut(
        start=tuple(start for start, _, _ in progressions),
        stop=tuple(stop for _, stop, _ in progressions),
        step=tuple(step for _, _, step in progressions),
        before=tuple(before for before, _ in around),
        after=tuple(after for _, after in around),
        axes=tuple(axes),
    )
