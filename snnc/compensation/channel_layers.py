"""Which channels of a lowered network can be taken out, and the layers that they belong to."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from snnc.errors import UsageError
from snnc.ir.channel_sets import ChannelSets, channel_sets
from snnc.ir.graph import FloatArray
from snnc.ir.operations import check_known
from snnc.ir.snn import IntegrateFire, SnnGraph

TINY = 1e-30


def free_sets(graph: SnnGraph, divisible: Collection[str]) -> ChannelSets:
    """Return the sets of channels that go together; those that are no population's stay.

    Args:
        graph: the network.
        divisible: names of the populations whose channels can be told apart; others keep theirs.
    """
    check_known(graph)
    sets = channel_sets(graph)
    fixed = sets.fixed.copy()
    populated = np.zeros(len(fixed), np.bool_)
    for node in graph.of_type(IntegrateFire):
        populated[sets.of[node.name]] = True
        if node.name not in divisible:
            fixed[sets.of[node.name]] = True
    return ChannelSets(sets.of, fixed | ~populated)


def layers_of(graph: SnnGraph, sets: ChannelSets) -> tuple[NDArray[np.int64], ...]:
    """Return the sets that can go, by the populations that they have channels of."""
    members: dict[int, list[str]] = {}
    for node in graph.of_type(IntegrateFire):
        for number in np.unique(sets.of[node.name]):
            members.setdefault(int(number), []).append(node.name)
    layers: dict[tuple[str, ...], list[int]] = {}
    for number, names in members.items():
        if not sets.fixed[number]:
            layers.setdefault(tuple(names), []).append(number)
    return tuple(np.array(sorted(numbers)) for numbers in layers.values())


def removal_order(
    layers: Sequence[NDArray[np.int64]], scores: FloatArray, spared: FloatArray, gone: NDArray[np.bool_]
) -> list[int]:
    """Return the sets that can go, in the order in which they go until a limit is kept.

    The next is the one that loses least of what its layer still sends for what it spares,
    ``scores[c] / sum(scores left in the layer) / spared[c]``: a layer with few channels left is spared while
    others are whole. Every layer keeps its best.

    Args:
        layers: the sets of each that can go.
        scores: (sets,), what each contributes.
        spared: (sets,), what the network costs less without it.
        gone: (sets,), those that have gone already.
    """
    queues = []
    for members in layers:
        there = members[~gone[members]]
        queues.append(list(there[np.argsort(scores[there] / spared[there], kind="stable")])[:-1])
    left = [float(scores[members[~gone[members]]].sum()) for members in layers]
    order: list[int] = []
    while any(queues):
        loss = [
            float(scores[queue[0]] / max(rest, TINY) / spared[queue[0]]) if queue else np.inf
            for queue, rest in zip(queues, left, strict=True)
        ]
        layer = int(np.argmin(loss))
        number = int(queues[layer].pop(0))
        left[layer] -= float(scores[number])
        order.append(number)
    return order


def require_some(option: str, share: float, layers: Sequence[NDArray[np.int64]]) -> None:
    """Refuse a share of the channels of every layer that takes nothing out.

    Args:
        option: what the share is called.
        share: of each layer, what goes, rounded down.
        layers: the sets that can go, of each.

    Raises:
        UsageError: no layer loses a channel.
    """
    if any(int(share * len(members)) for members in layers):
        return
    if not layers:
        raise UsageError(f"no layer of this network can lose channels: leave {option} out")
    most = max(map(len, layers))
    if most == 1:
        raise UsageError(f"{option}={share:g} takes no channel out: every layer has only one that can go")
    raise UsageError(
        f"{option}={share:g} takes no channel out of any layer, as the largest has {most} that can go: "
        f"give {math.ceil(1000 / most) / 1000:g} or more"
    )
