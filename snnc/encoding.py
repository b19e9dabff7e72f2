"""How large a network's quantised input may be, and what the encoder takes in of it."""

from __future__ import annotations

import numpy as np

from snnc.ir import ann, snn
from snnc.ir.graph import FloatArray

ROOM_TIMESTEPS = 64
"""A network can be run for at least so many steps, unless its first layer is too wide for 8 bits of input."""

LEAST_LIMIT = 127
"""The coarsest input for the sake of long runs: 8 bits with sign."""

MIXED_LIMIT = 23
"""Where the input stands beside spikes, with about 127 steps for the product of both: its values
and its weights are then rounded about equally."""


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


def first_layer(graph: ann.AnnGraph) -> frozenset[str]:
    """Return the names of the values that weights compute directly from the input: currents constant in time.

    A maximum of the input itself is one of spike counts, which change from step to step.
    """
    found: set[str] = set()
    raw: set[str] = set()
    for node in graph:
        moves = isinstance(node, ann.Concat | ann.Reshape | ann.Slice | ann.Pad)
        if isinstance(node, ann.Input) or (moves and raw.issuperset(node.inputs)):
            raw.add(node.name)
        elif (isinstance(node, ann.Convolution | ann.Linear) and node.inputs[0] in raw) or (
            isinstance(node, ann.MaxPool) and node.inputs[0] in found
        ):
            found.add(node.name)
    return frozenset(found)


def input_limit(graph: ann.AnnGraph, timesteps: int) -> int:
    """Return the largest magnitude that a quantised input of the network may have.

    First-layer potentials stay far from overflow: with int8 weights a current is at most ``127 limit r``,
    where ``r`` is the largest ``sum |w| / max |w|``, times the area where a mean is taken, and a potential
    gathers T of them. Wide first layers, such as a perceptron's, get fewer than 12 bits of input for it.

    Where a sum or a concatenation puts the input beside spikes, their weights share one scale per channel:
    a finer input would leave nothing of its weights in int8.
    """
    reach: dict[str, float] = {}
    mixed = False
    for node in graph:
        read = [reach[name] for name in node.inputs if name in reach]
        match node:
            case ann.Input():
                reach[node.name] = 1.0
            case ann.Constant():
                continue
            case ann.Relu():
                reach[node.name] = 0.0
            case ann.Convolution() | ann.Linear():
                reach[node.name] = read[0] * _weight_sum(node.weight)
            case ann.AveragePool():
                reach[node.name] = read[0] * node.window.area
            case ann.Add():
                reach[node.name] = sum(read)
            case _:
                reach[node.name] = max(read)
        mixed |= isinstance(node, ann.Add | ann.Concat) and 0.0 in read and any(read)
    steps = max(ROOM_TIMESTEPS, 4 * timesteps)
    widest = max(1.0, *reach.values())
    limit = int(np.clip(2**30 / (127 * widest * steps), LEAST_LIMIT, snn.INPUT_LIMIT))
    return min(limit, MIXED_LIMIT) if mixed else limit


def _weight_sum(weight: FloatArray) -> float:
    """Return the largest ``sum |w| / max |w|`` of an output channel."""
    magnitude = np.abs(weight.astype(np.float64)).reshape(len(weight), -1)
    largest = magnitude.max(axis=1)
    return float((magnitude.sum(axis=1)[largest > 0] / largest[largest > 0]).max(initial=1.0))
