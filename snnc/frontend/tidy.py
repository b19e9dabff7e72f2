"""What is merged after reading: forms that exporters spell with two operations, and the IR with one.

1. A convolution or dense layer, then a constant shift: a bias.
2. Zero padding of height and width, then a convolution: the convolution's own pads.
3. Two rectifiers in a row, as in ``Clip(Relu(x), 0, 6)``: one with the lower ceiling.
4. Two scalings in a row: one.

The second operation gives the merged node its place, the operation with weights its name and origin.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnc.ir import ann


def tidy(graph: ann.AnnGraph) -> ann.AnnGraph:
    """Merge until nothing changes, and drop the nodes that the output does not need."""
    while True:
        needed = graph.ancestors([graph.output])
        graph = graph.with_nodes([n for n in graph if n.name in needed or isinstance(n, ann.Input)])
        merged = _merge_one(graph)
        if merged is None:
            return graph
        graph = merged


def _merge_one(graph: ann.AnnGraph) -> ann.AnnGraph | None:
    for second in graph:
        if len(second.inputs) != 1:
            continue
        first = graph[second.inputs[0]]
        shared = len(graph.consumers[first.name]) > 1
        together: ann.AnnNode | None
        if isinstance(first, ann.Pad) and isinstance(second, ann.Convolution):
            together = _pad_into(first, second)  # other readers of the padded image keep it
        elif shared or first.name == graph.output:
            continue
        else:
            together = _merged(first, second)
        if together is not None:
            return _replaced(graph, second, together)
    return None


def _merged(first: ann.AnnNode, second: ann.AnnNode) -> ann.AnnNode | None:
    match first, second:
        case (ann.Convolution() | ann.Linear(), ann.ChannelAffine()) if (second.scale == 1).all():
            return first.with_(bias=first.bias + second.shift)
        case ann.Relu(), ann.Relu():
            limits = [limit for limit in (first.ceiling, second.ceiling) if limit is not None]
            return first.with_(ceiling=np.minimum.reduce(limits) if limits else None)
        case ann.ChannelAffine(), ann.ChannelAffine():
            return second.with_(
                inputs=first.inputs,
                scale=second.scale * first.scale,
                shift=second.scale * first.shift + second.shift,
            )
        case _:
            return None


def _pad_into(first: ann.Pad, second: ann.Convolution) -> ann.Convolution | None:
    if len(first.shape) != 3 or first.before[0] or first.after[0]:
        return None
    top, left, bottom, right = second.window.pads
    pads = (top + first.before[1], left + first.before[2], bottom + first.after[1], right + first.after[2])
    window = type(second.window)(second.window.kernel, second.window.strides, pads, second.window.dilations)
    return second.with_(inputs=first.inputs, window=window)


def _replaced(graph: ann.AnnGraph, old: ann.AnnNode, new: ann.AnnNode) -> ann.AnnGraph:
    """Put ``new``, which may take over the name of the node before it, in the place of ``old``."""
    nodes: Sequence[ann.AnnNode] = [
        new if node is old else node for node in graph if node is old or node.name != new.name
    ]
    renamed = [
        node
        if old.name not in node.inputs
        else node.with_(inputs=tuple(new.name if name == old.name else name for name in node.inputs))
        for node in nodes
    ]
    return graph.with_nodes(renamed, new.name if graph.output == old.name else graph.output)
