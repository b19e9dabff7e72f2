"""Large weights of few sources, split over several synapses so that the other weights keep their resolution.

All weights of an output share one scale, which the largest weight determines. After a batch normalisation a
channel that seldom fires may have a weight that is a hundred times larger than the others, which then keep
one bit. Such a source is read several times, each time by an equal part of its weight: the sum is the same,
and the scale of the output follows the largest part. Channels that seldom fire cause few operations even if
they are read several times; sources that are read once are unchanged.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snnc.ir.channels import per_channel
from snnc.ir.graph import IntArray, NumberArray
from snnc.ir.kinds import constant_nodes
from snnc.ir.operations import operations
from snnc.ir.rewriter import Names
from snnc.ir.snn import Concat, Convolution, Linear, Slice, SnnGraph, SnnNode, Weighted

UNUSUAL = 8.0
"""Weight of a source over the median of an output's from which on it may be an exception."""

STANDS_OUT = 8.0
"""Weight of an exception over the largest of the others from which on it is split."""

MOST_PARTS = 16
"""Into how many parts a weight is split at most: four bits for the others."""

FEW = 8
"""A source in this many may be split: more of them are no exception."""


WHOLE = {"i": np.int16, "f": np.float32}
"""What holds a weight that is whole again, by the kind of its parts."""

CLEAR_GAIN = 2.0
"""By how much the step of most outputs must get finer: one bit for all their other weights."""


def split_weights(graph: SnnGraph) -> tuple[SnnGraph, dict[str, int]]:
    """Split the weights that stand out.

    Args:
        graph: in float32.

    Returns:
        The network, the same object where nothing stands out; how many sources are read several times, by
        synapse.
    """
    constant = constant_nodes(graph)
    nodes: list[SnnNode] = []
    found: dict[str, int] = {}
    names = Names(node.name for node in graph)
    for node in operations(graph):
        dense = isinstance(node, Linear) or (isinstance(node, Convolution) and node.groups == 1)
        if dense and isinstance(node, Weighted) and node.name not in constant:
            parts = _parts(node.weight)
            if (parts > 1).any():
                found[node.name] = int((parts > 1).sum())
                nodes.extend(_split(graph, node, parts, names))
                continue
        nodes.append(node)
    return (graph.with_nodes(nodes), found) if found else (graph, found)


def _parts(weight: NumberArray) -> IntArray:
    """Return in how many parts each source is read, (sources,)."""
    columns = np.abs(weight.astype(np.float64)).reshape(*weight.shape[:2], -1).max(axis=2)
    one = np.ones(columns.shape[1], np.int64)
    rows = columns[(columns > 0).any(axis=1)]
    usual = medians_of_positive(rows)
    large = (rows > UNUSUAL * usual[:, None]).any(axis=0) if len(rows) else one == 0
    if not large.any() or FEW * large.sum() > len(one):
        return one
    others = rows[:, ~large].max(axis=1)
    with_others = others > 0
    ratio = (rows[with_others] / others[with_others, None]).max(axis=0, initial=1.0)
    parts = np.where(large & (ratio >= STANDS_OUT), np.clip(np.ceil(ratio), 1, MOST_PARTS), 1).astype(
        np.int64
    )
    gain = rows.max(axis=1) / (rows / parts).max(axis=1)
    return parts if np.median(gain) >= CLEAR_GAIN else one


def medians_of_positive(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of the positive values of each row, of which there are some, (rows,)."""
    ordered = np.sort(np.where(rows > 0, rows, np.inf), axis=1)
    count, row = (rows > 0).sum(axis=1), np.arange(len(rows))
    return np.asarray((ordered[row, (count - 1) // 2] + ordered[row, count // 2]) / 2)


def _split(graph: SnnGraph, node: Weighted, parts: IntArray, names: Names) -> list[SnnNode]:
    """Return the nodes that stand for a synapse: its sources, those that stand out once more, and itself."""
    source = graph[node.inputs[0]]
    rest = source.shape[1:]
    added: list[SnnNode] = []
    read = [source.name]
    chosen = [np.arange(len(parts))]
    for index in np.flatnonzero(parts > 1):
        place = Slice(
            name=names.fresh(f"{node.name}.source{index}"),
            inputs=(source.name,),
            shape=(1, *rest),
            origin=node.origin,
            start=(int(index), *(0 for _ in rest)),
            stop=(int(index) + 1, *rest),
            step=(1,) * (len(rest) + 1),
        )
        added.append(place)
        read += [place.name] * int(parts[index] - 1)
        chosen.append(np.full(parts[index] - 1, index))
    order = np.concatenate(chosen)
    joined = Concat(
        name=names.fresh(f"{node.name}.sources"),
        inputs=tuple(read),
        shape=(len(order), *rest),
        origin=node.origin,
    )
    share = per_channel((1 / parts).astype(np.float32), node.weight.ndim - 1)
    weight = (node.weight * share)[:, order]
    return [*added, joined, node.with_(inputs=(joined.name,), weight=np.ascontiguousarray(weight))]


def join_weights(graph: SnnGraph) -> SnnGraph:
    """Return a network whose split weights are whole again, for those who hold larger integers and no joins.

    Args:
        graph: in integers or float32.

    Returns:
        A network of the same currents in every step, the same object where nothing was split.
    """
    replaced: dict[str, SnnNode] = {}
    for node in operations(graph):
        dense = isinstance(node, Linear) or (isinstance(node, Convolution) and node.groups == 1)
        if not dense or not isinstance(node, Weighted):
            continue
        found = _sources(graph, graph[node.inputs[0]])
        if found is not None:
            source, channels = found
            width = graph[source].shape[0]
            weight = np.zeros(
                (len(node.weight), width, *node.weight.shape[2:]), WHOLE[node.weight.dtype.kind]
            )
            for column, channel in enumerate(channels):
                weight[:, channel] += node.weight[:, column]
            replaced[node.name] = node.with_(inputs=(source,), weight=weight)
    if not replaced:
        return graph
    nodes = [replaced.get(node.name, node) for node in graph]
    needed = graph.with_nodes(nodes).ancestors((*graph.outputs, *(node.name for node in graph.inputs)))
    return graph.with_nodes([node for node in nodes if node.name in needed])


def _sources(graph: SnnGraph, node: SnnNode) -> tuple[str, IntArray] | None:
    """Return the one node whose channels a join holds, and which; ``None`` for any other."""
    if not isinstance(node, Concat):
        return None
    sources: set[str] = set()
    channels = []
    for name in node.inputs:
        part, rest = graph[name], graph[name].shape[1:]
        if isinstance(part, Slice) and graph[part.inputs[0]].shape[1:] == rest and part.step[0] == 1:
            sources.add(part.inputs[0])
            channels.append(np.arange(part.start[0], part.stop[0]))
        else:
            sources.add(name)
            channels.append(np.arange(part.shape[0]))
    return (sources.pop(), np.concatenate(channels)) if len(sources) == 1 else None
