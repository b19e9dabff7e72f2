"""Who reads an activation: what they make of an error of each of its channels, and whether any computes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snnc.ir.ann import (
    Add,
    AnnGraph,
    AveragePool,
    Concat,
    Convolution,
    Gather,
    Linear,
    MaxPool,
    Pad,
    Reshape,
    Slice,
)

PASSING = (AveragePool, MaxPool, Reshape)
"""Nodes that hand the error of a channel on, by the same factor for all channels."""


MOVING = (Add, Concat, Gather, Pad, Reshape, Slice)
"""Nodes that move values, or put them beside others."""


def squared_weights(graph: AnnGraph, name: str) -> NDArray[np.float64] | None:
    """Return the sum of the squared weights that read each channel of a node.

    An error of variance ``v_c`` in channel c, independent between positions, gives the sums of the readers
    the variance ``sum_c v_c |w_c|^2``.

    Args:
        graph: the network.
        name: the node.

    Returns:
        (channels,); ``None`` where some reader has no weights.
    """
    channels = graph[name].channels
    total = np.zeros(channels)
    open_ends, seen = [name], {name}
    while open_ends:
        readers = graph.consumers[open_ends.pop()]
        if not readers:
            return None
        for reader in readers:
            if isinstance(reader, PASSING):
                if reader.name not in seen:
                    seen.add(reader.name)
                    open_ends.append(reader.name)
                continue
            found = _by_input(reader) if isinstance(reader, Convolution | Linear) else None
            if found is None or len(found) % channels:
                return None
            total += found.reshape(channels, -1).sum(axis=1)  # positions of a map that was made flat
    return total


def is_answer(graph: AnnGraph, name: str) -> bool:
    """Say whether the values of a node are answers as they are, behind nothing but moves and sums."""
    open_ends, seen = [name], {name}
    while open_ends:
        now = open_ends.pop()
        readers = graph.consumers[now]
        if not readers and now not in graph.outputs:
            return False
        for reader in readers:
            if not isinstance(reader, MOVING):
                return False
            if reader.name not in seen:
                seen.add(reader.name)
                open_ends.append(reader.name)
    return True


def _by_input(reader: Convolution | Linear) -> NDArray[np.float64]:
    """Return the sum of the squared weights of each input, (inputs,)."""
    squared = np.square(reader.weight, dtype=np.float64)
    if isinstance(reader, Linear):
        return np.asarray(squared.sum(axis=0))
    outputs, inputs = squared.shape[:2]
    parts = squared.reshape(reader.groups, outputs // reader.groups, inputs, -1)
    return np.asarray(parts.sum(axis=(1, 3)).reshape(-1))
