"""How large a network's quantised input may be, and what the encoder takes in of it."""

from __future__ import annotations

import numpy as np

from snnc.ir import ann, snn
from snnc.ir.graph import FloatArray

ROOM_TIMESTEPS = 64
"""Any network can be run for at least this many steps, whatever it was calibrated for."""


def encoded(graph: ann.AnnGraph, rows: FloatArray) -> FloatArray:
    """Return the calibration rows after the affine map that the encoder takes in, if any."""
    affine = input_affine(graph)
    if affine is None:
        return rows
    shape = (1, -1, *(1,) * (rows.ndim - 2))
    return rows * affine.scale.reshape(shape) + affine.shift.reshape(shape)


def input_affine(graph: ann.AnnGraph) -> ann.ChannelAffine | None:
    """Return the normalisation at the head of the network, where all else reads its result."""
    readers = graph.consumers[graph.nodes[0].name]
    return readers[0] if len(readers) == 1 and isinstance(readers[0], ann.ChannelAffine) else None


def input_limit(graph: ann.AnnGraph, timesteps: int) -> int:
    """Return the largest input magnitude at which first-layer potentials stay far from overflow.

    With int8 weights a current is at most ``127 limit sum |w| / max |w|``, and a potential gathers T of
    them. Wide first layers, such as a perceptron's, get fewer than 12 bits of input for it.
    """
    widest = 1.0
    for node in graph:
        if isinstance(node, ann.Convolution | ann.Linear) and _reads_input(graph, node):
            magnitude = np.abs(node.weight.astype(np.float64)).reshape(len(node.weight), -1)
            largest = magnitude.max(axis=1)
            rows = magnitude.sum(axis=1)[largest > 0] / largest[largest > 0]
            widest = max(widest, float(rows.max(initial=1.0)))
    steps = max(ROOM_TIMESTEPS, 4 * timesteps)
    return int(np.clip(2**30 / (127 * widest * steps), 127, snn.INPUT_LIMIT))


def _reads_input(graph: ann.AnnGraph, node: ann.AnnNode) -> bool:
    while isinstance(
        node, ann.Convolution | ann.Linear | ann.ChannelAffine | ann.Reshape | ann.Pad | ann.Slice
    ):
        node = graph[node.inputs[0]]
    return isinstance(node, ann.Input)
