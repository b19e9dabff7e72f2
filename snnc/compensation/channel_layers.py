"""Which channels of a lowered network can be taken out, and the layers that they belong to."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from snnc.ir.channel_sets import ChannelSets, channel_sets
from snnc.ir.operations import check_known
from snnc.ir.snn import IntegrateFire, SnnGraph


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
