"""The steps of counts, channel by channel, where values are moved and multiplied."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from snnc.errors import UsageError
from snnc.ir import ann
from snnc.ir.channels import per_channel
from snnc.ir.geometry import ABSENT
from snnc.ir.graph import FloatArray


def steps_of(graph: ann.AnnGraph, levelled: Mapping[str, ann.AnnNode], name: str) -> FloatArray:
    """Return what one count of a value stands for, (channels,): of an activation, moved perhaps.

    Args:
        graph: the network.
        levelled: nodes that have got levels meanwhile, by name.
        name: of the value; no channel of it mixes several.

    Raises:
        UsageError: it is a sum that nothing sends.
    """
    node = levelled.get(name, graph[name])
    match node:
        case ann.Levelled(step=step) if step is not None:
            return step
        case ann.AveragePool():
            return steps_of(graph, levelled, node.inputs[0]) / np.float32(node.window.area)
        case ann.MaxPool():
            return steps_of(graph, levelled, node.inputs[0])
        case ann.Concat():
            return np.concatenate([steps_of(graph, levelled, source) for source in node.inputs])
        case ann.Pad():
            steps = steps_of(graph, levelled, node.inputs[0])
            return np.pad(steps, (node.before[0], node.after[0]), constant_values=steps.min())
        case ann.Slice():
            return steps_of(graph, levelled, node.inputs[0])[node.start[0] : node.stop[0] : node.step[0]]
        case ann.Reshape() | ann.Gather():
            steps, shape = steps_of(graph, levelled, node.inputs[0]), graph[node.inputs[0]].shape
            places = np.arange(math.prod(shape)) if isinstance(node, ann.Reshape) else node.index
            spread = np.broadcast_to(per_channel(steps, len(shape)), shape).ravel()
            rows = np.where(places == ABSENT, 0, spread[places]).reshape(node.channels, -1).max(axis=1)
            return np.where(rows > 0, rows, steps.min()).astype(np.float32)
        case _:
            raise UsageError(
                f"{name!r}, which a product reads, has no levels; put `rectify-linear` before "
                "`clip-activations`"
            )


def steps_of_product(
    graph: ann.AnnGraph, levelled: Mapping[str, ann.AnnNode], node: ann.Product
) -> FloatArray:
    """Return what a product of two counts of 1 stands for, (channels,)."""
    first, second = (steps_of(graph, levelled, name) for name in node.inputs)
    return np.broadcast_to(first * second, (node.channels,)).astype(np.float32)
