"""Take out the channels that matter least, whole: the network really gets smaller.

Channels that a residual sum, a pooling or a concatenation ties together go together
(:mod:`snnc.ir.channel_sets`). They are ranked by a score that is measured on the network's spikes
(:mod:`snnc.compensation.channel_scores`). With a ``share``, every layer loses that share of its channels. A
limit is kept by taking out first what costs most for what it contributes to its layer, in any layer. What a
channel sent on average is added to the biases of its readers; `compensate` then fits their weights to the
spikes that are left, with what the whole source network has at the remaining channels as target.

The operations that a limit is held against are those of the pruned network if the remaining neurons fire as
before. What the finished network costs is measured by `snnc eval`, and by the search for a budget.

Source of pruning by spiking channel activity: Li et al., "Towards Efficient Deep Spiking Neural Networks
Construction with Spiking Activity based Pruning", ICML 2024. It prunes and regrows while it trains; this pass
prunes once, after training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from snnc.analysis.costs import count, macs_of_ann
from snnc.analysis.node_costs import fan_outs
from snnc.compensation.channel_layers import free_sets, layers_of, removal_order, require_some
from snnc.compensation.channel_scores import Score, Spikes, channel_scores
from snnc.compensation.readers import raised_readers
from snnc.errors import GateError, UsageError
from snnc.ir.ann import AnnGraph
from snnc.ir.channel_sets import ChannelSets, without_channels
from snnc.ir.graph import FloatArray
from snnc.ir.operations import check_known
from snnc.ir.snn import Convolution, IntegrateFire, Linear, SnnGraph, Weighted
from snnc.pipeline import Context, require
from snnc.simulation.protocol import Activity
from snnc.simulation.reference import encode_all
from snnc.source.kept_channels import is_divisible, with_kept_channels

ROWS = 128
"""Calibration rows on which spikes are looked at: more move no score by more than its noise."""

LEAST_SPARED = 1e-9
"""Share of a cost below which a set is said to spare nothing."""

Mask = NDArray[np.bool_]
Cost = Callable[[Mask], float]
"""Returns what the network costs without some sets of channels, (sets,)."""


@dataclass(frozen=True, slots=True)
class PruneChannels:
    """Take channels out until a share is gone, or a limit is kept.

    Attributes:
        share: of the channels of every layer, what is taken out, rounded down; 0 where a limit decides.
        score: what channels are ranked by.
        max_synops: limit on the synaptic operations per row, relative to the source's multiply-accumulates;
            0 for none.
        max_weights: limit on the weights, relative to those that were given; 0 for none.
    """

    name: ClassVar[str] = "prune-channels"
    share: float = 0.0
    score: Score = Score.ACTIVITY
    max_synops: float = 0.0
    max_weights: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a share and limits that no network has."""
        require("share", self.share, 0, 1)
        require("max-synops", self.max_synops, 0, 1e6)
        require("max-weights", self.max_weights, 0, 1)
        if self.share == 1:
            raise UsageError("prune-channels.share=1 leaves no channel of any layer: give less than 1")

    def run(self, graph: SnnGraph, context: Context, /) -> SnnGraph:
        """Return the network without the channels.

        Raises:
            GateError: no pruning keeps to the limits.
            UsageError: there is neither a share nor a limit, or the network is quantised already.
        """
        check_known(graph)
        if not self.share and not self.max_synops and not self.max_weights:
            raise UsageError(
                "prune-channels prunes nothing: give it a share, such as prune-channels{share=0.5}, or a "
                "limit, max-synops or max-weights"
            )
        if graph.integer:
            raise UsageError("prune-channels works on float32 networks: put it before `compensate`")
        sets = free_sets(graph, _divisible(graph, context.ann()))
        rows = context.calibration.rows[:ROWS]
        inputs = encode_all(graph, rows)
        spikes = Spikes.of(graph, inputs, len(rows), context.simulator)
        scores = channel_scores(graph, sets, self.score, spikes, inputs, context.simulator)
        layers = layers_of(graph, sets)
        gone = np.zeros(len(sets.fixed), np.bool_)
        for members in layers:
            order = members[np.argsort(scores[members], kind="stable")]
            gone[order[: int(self.share * len(members))]] = True
        if self.share:
            require_some("prune-channels.share", self.share, layers)
        found = {}
        macs = sum(macs_of_ann(context.ann()).values())
        limits: dict[str, tuple[float, Cost]] = {}
        if self.max_synops:
            cost = _Synops(graph, sets, spikes, macs)
            limits["operations / MACs"] = (self.max_synops, cost.of)
            found["synops"] = {"before": round(cost.of(np.zeros_like(gone)), 4)}
        if self.max_weights:
            limits["weights"] = (self.max_weights, _weights(graph, sets))
        if limits:
            # What is spared of each cost that is limited, relative to all of it.
            spared = [_operations_of(graph, sets, spikes)] if self.max_synops else []
            spared += [_weights_of(graph, sets)] if self.max_weights else []
            relative = sum(each / max(each.sum(), 1.0) for each in spared)
            turns = removal_order(layers, scores, np.maximum(relative, LEAST_SPARED), gone)
            gone = _within(gone, limits, turns)
            found |= {
                name: {"limit": most, "after": round(of(gone), 4)} for name, (most, of) in limits.items()
            }
        if not gone.any():
            return graph
        smaller, kept = _pruned(graph, sets, gone, spikes)
        context.source = with_kept_channels(context.ann(), kept)
        context.findings.update(found)
        context.findings["channels"] = {
            "before": int((~sets.fixed).sum()),
            "after": int((~(sets.fixed | gone)).sum()),
        }
        context.findings["kept"] = kept
        return smaller


def _divisible(graph: SnnGraph, source: AnnGraph) -> frozenset[str]:
    """Return the populations that stand for rectifiers whose channels can be told apart."""
    return frozenset(
        node.name
        for node in graph.of_type(IntegrateFire)
        if node.stands_for in source and is_divisible(source[node.stands_for])
    )


def _within(gone: Mask, limits: dict[str, tuple[float, Cost]], order: list[int]) -> Mask:
    """Take out sets in their order until the limits are kept.

    Raises:
        GateError: they are not kept even without all of them.
    """

    def without(most: int) -> Mask:
        found = gone.copy()
        found[order[:most]] = True
        return found

    def kept(most: int) -> bool:
        found = without(most)
        return all(of(found) <= limit for limit, of in limits.values())

    low, high = 0, len(order)
    if not kept(high):
        said = ", ".join(
            f"{of(without(high)):.3g} {name} (limit {limit:g})" for name, (limit, of) in limits.items()
        )
        raise GateError(
            f"no pruning of channels meets the limits; nearest, with one channel left in each layer that can "
            f"lose any: {said}. Raise the limit, or take fewer steps or levels"
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if kept(middle) else (middle + 1, high)
    return without(low)


@dataclass(frozen=True, slots=True, eq=False)
class _Synops:
    """Counts operations of pruned networks whose neurons fire as those of the whole one."""

    graph: SnnGraph
    sets: ChannelSets
    spikes: Spikes
    macs: int

    def of(self, gone: Mask) -> float:
        """Return the operations per row, relative to the source's, without some sets."""
        kept = self.sets.kept(gone)
        smaller = without_channels(self.graph, kept)
        activity = {
            name: Activity(each.events[kept[name]], each.units[kept[name]], each.bits[kept[name]])
            for name, each in self.spikes.activity.items()
        }
        return count(smaller, activity, self.spikes.rows, self.graph.timesteps).synops / max(self.macs, 1)


def _weights(graph: SnnGraph, sets: ChannelSets) -> Cost:
    """Return what counts weights, relative to those of the whole network."""

    def total(of: SnnGraph) -> int:
        return sum(node.weight.size for node in of.of_type(Weighted))

    whole = total(graph)
    return lambda gone: total(without_channels(graph, sets.kept(gone))) / whole


def _weights_of(graph: SnnGraph, sets: ChannelSets) -> FloatArray:
    """Return the weights that go with a set alone, (sets,): those that it reads, and those that read it."""
    total = np.zeros(len(sets.fixed))
    for node in graph.of_type(Weighted):
        np.add.at(total, sets.of[node.name], node.weight[0].size)
        if isinstance(node, Linear) or (isinstance(node, Convolution) and node.groups == 1):
            np.add.at(total, sets.of[node.inputs[0]], node.weight[:, 0].size)
    return total


def _operations_of(graph: SnnGraph, sets: ChannelSets, spikes: Spikes) -> FloatArray:
    """Return the operations that a set alone takes, (sets,): those of its spikes, and those that reach it."""
    total = np.zeros(len(sets.fixed))
    reach = fan_outs(graph)
    for node in graph.of_type(IntegrateFire):
        sent = (spikes.activity[node.name].units * reach[node.name]).reshape(node.channels, -1).sum(axis=1)
        np.add.at(total, sets.of[node.name], sent)
        for name in node.inputs:
            synapse = graph[name]
            if isinstance(synapse, Weighted) and synapse.channels == node.channels:
                # Weights into a channel, each as often as it is used; the spikes are about as many for all.
                used = synapse.weight[0].size * np.prod(synapse.shape[1:], dtype=np.int64)
                np.add.at(total, sets.of[node.name], used * _mean_units(graph, synapse, spikes))
    return total


def _mean_units(graph: SnnGraph, synapse: Weighted, spikes: Spikes) -> float:
    """Return the mean of what the neurons that a synapse reads sent, all rows and steps together."""
    read = graph.ancestors(synapse.inputs, frozenset(spikes.activity))
    sent = [spikes.activity[name].units for name in read if name in spikes.activity]
    neurons = sum(each.size for each in sent)
    return sum(float(each.sum()) for each in sent) / neurons if neurons else 0.0


def _pruned(
    graph: SnnGraph, sets: ChannelSets, gone: Mask, spikes: Spikes
) -> tuple[SnnGraph, dict[str, list[int]]]:
    """Return the smaller network, and the channels left of each rectifier that lost some."""
    masks = sets.kept(gone)
    kept: dict[str, list[int]] = {}
    whole = graph
    for node in graph.of_type(IntegrateFire):
        mask = masks[node.name]
        if mask.all():
            continue
        mean = np.where(mask, np.float32(0), spikes.mean(node, graph.timesteps))
        whole = raised_readers(whole, node.name, mean.astype(np.float32))
        kept[node.stands_for] = [int(channel) for channel in np.flatnonzero(mask)]
    return without_channels(whole, masks), kept
