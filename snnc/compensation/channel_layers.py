"""Which channels of a lowered network can be taken out, and the layers that they belong to."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from snnc.errors import UsageError
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
