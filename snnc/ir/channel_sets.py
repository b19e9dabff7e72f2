"""Channels that can only be taken out of a spiking network together, and the network without them.

A channel of a population is one of a convolution's outputs, and one of the inputs of whatever reads it: a
residual sum ties channels of several populations together, a pooling its result to what it pools, a
concatenation each part to its place, a flattened map every feature to its channel. Weights tie nothing: a
convolution or dense layer without some of its inputs or outputs is a smaller one. What is tied is a *set*,
which is kept or taken out as a whole. Sets that hold a channel of an input, of an output, of a function of
counts, or one that a grouped convolution reads or gives, stay; a depthwise convolution ties its channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from snnc.ir.geometry import ABSENT
from snnc.ir.graph import IntArray, Shape
from snnc.ir.operations import Operation, channel_links, classified, operations, unmatched
from snnc.ir.snn import (
    ChannelWeight,
    Concat,
    ConstantCurrent,
    Convolution,
    CountMatrixProduct,
    CountMaximum,
    CountMaxPool,
    CountNormalisation,
    CountProduct,
    CountSoftmax,
    CurrentMaxPool,
    Delay,
    Encode,
    Gather,
    IntegrateFire,
    Linear,
    Pad,
    Readout,
    Reshape,
    Slice,
    SnnGraph,
    SnnNode,
    SumPool,
)

Mask = NDArray[np.bool_]
Values = TypeVar("Values", bound=NDArray[Any])


@dataclass(frozen=True, slots=True, eq=False)
class ChannelSets:
    """Which channels go together.

    Attributes:
        of: by node, the number of the set of each of its channels, (channels,).
        fixed: (sets,), those that have to stay.
    """

    of: Mapping[str, IntArray]
    fixed: Mask

    def kept(self, gone: Mask) -> dict[str, Mask]:
        """Return which channels of each node stay, (channels,), without the sets ``gone``, (sets,)."""
        return {name: ~gone[sets] for name, sets in self.of.items()}


def channel_sets(graph: SnnGraph) -> ChannelSets:
    """Return which channels of a network can only be taken out together."""
    nodes = operations(graph)
    start = dict(
        zip((node.name for node in nodes), np.cumsum([0, *(n.channels for n in nodes)]), strict=False)
    )
    edges: list[tuple[IntArray, IntArray]] = []
    fixed: list[IntArray] = []
    for node in nodes:
        here = start[node.name] + np.arange(node.channels)
        sources = (*node.inputs, *node.earlier)
        there = [start[name] + np.arange(graph[name].channels) for name in sources]
        pairs = _tied(node, [graph[name].shape for name in node.inputs])
        if pairs is None:
            fixed += [here, *there]
            continue
        edges += [(here[own], read[other]) for read, (own, other) in zip(there, pairs, strict=True)]
        if isinstance(node, Readout):
            fixed.append(here)
    labels = _joined(sum(node.channels for node in nodes), edges)
    found, numbers = np.unique(labels, return_inverse=True)
    held = np.zeros(len(found), np.bool_)
    for channels in fixed:
        held[numbers[channels]] = True
    of = {node.name: numbers[start[node.name] :][: node.channels] for node in nodes}
    return ChannelSets(of, held)


def _tied(node: Operation, shapes: list[Shape]) -> list[tuple[IntArray, IntArray]] | None:
    """Return for each input which channels of a node are tied to which of the input's; ``None``: all stay."""
    none = np.zeros(0, np.int64)
    every = np.arange(node.channels)
    match node:
        case Encode() | Delay():
            return None
        case Convolution() if node.groups == 1:
            return [(none, none)]
        case Convolution() if node.groups == shapes[0][0] == node.channels:
            return [(every, every)]
        case Convolution():
            return None
        case Linear():
            return [(none, none)]
        case ConstantCurrent():
            return []
        case ChannelWeight() | SumPool() | CurrentMaxPool() | CountMaxPool() | IntegrateFire() | Readout():
            return [(every, every) for _ in shapes]
        case Concat():
            ends = np.cumsum([0, *(shape[0] for shape in shapes)])
            return [
                (first + np.arange(s[0]), np.arange(s[0])) for first, s in zip(ends, shapes, strict=False)
            ]
        case Reshape() | Gather():
            return [channel_links(node, shapes[0]) or (every, every)]
        case Pad():
            read = np.arange(shapes[0][0])
            return [(node.before[0] + read, read)]
        case Slice():
            whole = node.channels == shapes[0][0]
            return [(every, every)] if whole else None
        case CountProduct() | CountMatrixProduct() | CountSoftmax() | CountNormalisation() | CountMaximum():
            return None
        case _:
            raise unmatched(node)


def _joined(size: int, edges: list[tuple[IntArray, IntArray]]) -> IntArray:
    """Return for each of ``size`` things the least number that it is connected with."""
    labels = np.arange(size)
    while True:
        before = labels.copy()
        for one, other in edges:
            least = np.minimum(labels[one], labels[other])
            np.minimum.at(labels, one, least)
            np.minimum.at(labels, other, least)
        labels = labels[labels]
        if np.array_equal(labels, before):
            return labels


def without_channels(graph: SnnGraph, kept: Mapping[str, Mask]) -> SnnGraph:
    """Return a network with some of the channels of its nodes.

    Args:
        graph: the network.
        kept: for each node which of its channels stay, (channels,), whole sets of them and at least one: see
            :class:`ChannelSets`.
    """
    nodes = [_smaller(classified(node), graph, kept) for node in graph]
    return graph.with_nodes(nodes)


def _smaller(node: Operation, graph: SnnGraph, kept: Mapping[str, Mask]) -> SnnNode:
    """Return a node without the channels that go, here and in what it reads."""
    here = kept[node.name]
    there = [kept[name] for name in node.inputs]
    if all(mask.all() for mask in (here, *there)):
        return node
    shape = (int(here.sum()), *node.shape[1:])
    match node:
        case Convolution() if node.groups > 1:
            return node.with_(weight=node.weight[here], groups=shape[0], shape=shape)
        case Convolution() | Linear():
            return node.with_(weight=node.weight[here][:, there[0]], shape=shape)
        case ChannelWeight():
            return node.with_(weight=node.weight[here], shape=shape)
        case ConstantCurrent():
            return node.with_(values=node.values[here], shape=shape)
        case IntegrateFire():
            return _smaller_population(node, here)
        case Pad():
            first, last = node.before[0], node.before[0] + len(there[0])
            before = (int(here[:first].sum()), *node.before[1:])
            after = (int(here[last:].sum()), *node.after[1:])
            return node.with_(before=before, after=after, shape=shape)
        case Slice():
            return node.with_(stop=(shape[0], *node.stop[1:]), shape=shape)
        case Gather():
            source = graph[node.inputs[0]].shape
            stays = np.repeat(there[0], prod(source[1:]))
            place = np.where(stays, np.cumsum(stays) - 1, ABSENT)
            index = np.where(node.index == ABSENT, ABSENT, place[node.index])[here]
            return node.with_(index=index.astype(np.int32), shape=shape)
        case _:
            return node.with_(shape=shape)


def _smaller_population(node: IntegrateFire, kept: Mask) -> IntegrateFire:
    """Return a population without some of its channels."""

    def some(values: Values | None) -> Values | None:
        return None if values is None else cast(Values, values[kept])

    steps = node.breakpoints
    return node.with_(
        shape=(int(kept.sum()), *node.shape[1:]),
        threshold=node.threshold[kept],
        bias=node.bias[kept],
        v_init=node.v_init[kept],
        spike_scale=node.spike_scale[kept],
        floor=some(node.floor),
        negative_threshold=some(node.negative_threshold),
        breakpoints=steps if steps is None or len(steps) == 1 else steps[kept],
        potential_unit=some(node.potential_unit),
        potential_zero=some(node.potential_zero),
        decay=some(node.decay),
        synapse_decay=some(node.synapse_decay),
        reset_to=some(node.reset_to),
        reset_by=some(node.reset_by),
    )
