"""How much the channels of a spiking network matter, measured on its spikes.

A score is that of a set of channels that go together (:mod:`snnc.ir.channel_sets`). ``potential`` is that of
spiking channel activity: the mean of ``|m| / threshold`` over rows, positions and steps, ``m`` the potential
before it fires. A large negative potential is silent, too, so there are others: ``activity`` is the share
that a channel has in the variance of what its readers receive, ``sum over readers of var(N) |w|^2``, its mean
being absorbed by their biases; ``weights`` is the sum of the magnitudes of the weights into it, by its
threshold.

Source: Li et al., "Towards Efficient Deep Spiking Neural Networks Construction with Spiking Activity based
Pruning", ICML 2024 (``potential``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from snnc.ir.batch import Given
from snnc.ir.channel_sets import ChannelSets
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray, IntArray
from snnc.ir.neuron import Schedule
from snnc.ir.snn import Convolution, IntegrateFire, Linear, SnnGraph, Weighted
from snnc.numerics.quantisation import groups
from snnc.simulation.protocol import Activity, RecordOptions, Simulator

NOTHING = 1e-30


class Score(Enum):
    """What channels are ranked by."""

    ACTIVITY = "activity"
    POTENTIAL = "potential"
    WEIGHTS = "weights"


@dataclass(frozen=True, slots=True, eq=False)
class Spikes:
    """What a network sent on some rows.

    Attributes:
        activity: of every population and function of counts.
        counts: (rows, *shape) per population.
        rows: how many.
    """

    activity: Mapping[str, Activity]
    counts: Mapping[str, IntArray]
    rows: int

    @classmethod
    def of(cls, graph: SnnGraph, inputs: Given, rows: int, simulator: Simulator) -> Spikes:
        """Run a network on encoded ``inputs``."""
        asked = RecordOptions(states=True, activity=True)
        trace = simulator.run(graph, inputs, graph.timesteps, asked)
        return cls(trace.activity, trace.counts, rows)

    def mean(self, node: IntegrateFire, timesteps: int) -> FloatArray:
        """Return the spikes of a neuron of each channel in a step, (channels,), of any sign."""
        counts = self.counts[node.name]
        axes = (0, *range(2, counts.ndim))
        return (counts.mean(axis=axes, dtype=np.float64) / timesteps).astype(np.float32)

    def variance(self, node: IntegrateFire) -> FloatArray:
        """Return the variance of the counts of each channel, (channels,) float64."""
        counts = self.counts[node.name]
        found: FloatArray = counts.var(axis=(0, *range(2, counts.ndim)), dtype=np.float64)
        return found


def channel_scores(
    graph: SnnGraph,
    sets: ChannelSets,
    score: Score,
    spikes: Spikes,
    inputs: Given,
    simulator: Simulator,
) -> FloatArray:
    """Return the score of each set, (sets,) float64: the sum over its populations or its readers.

    In each population, or at each reader, scores have the mean 1, so that those of different layers compare.

    Args:
        graph: the network, in floats.
        sets: which channels go together.
        score: what to rank by.
        spikes: what the network sent.
        inputs: encoded rows to measure potentials on.
        simulator: what runs it.
    """
    if score is Score.ACTIVITY:
        return _by_readers(graph, sets, spikes)
    total = np.zeros(len(sets.fixed))
    for node in graph.of_type(IntegrateFire):
        if score is Score.WEIGHTS:
            found = _weights_into(graph, node)
        else:
            found = _potential(graph, node, inputs, simulator)
        np.add.at(total, sets.of[node.name], found / max(float(found.mean()), NOTHING))
    return total


def _by_readers(graph: SnnGraph, sets: ChannelSets, spikes: Spikes) -> FloatArray:
    """Return the share of each set in the variance of the currents that it drives, summed over groups."""
    variance = np.zeros(len(sets.fixed))
    for node in graph.of_type(IntegrateFire):
        # Of populations that a sum or a second code ties together, a reader reads one: the livelier decides.
        np.maximum.at(variance, sets.of[node.name], spikes.variance(node))
    total = np.zeros(len(sets.fixed))
    for group in groups(graph):
        found: list[tuple[IntArray, FloatArray]] = []
        for name in group.synapses:
            synapse = graph[name]
            if isinstance(synapse, Linear) or (isinstance(synapse, Convolution) and synapse.groups == 1):
                read = sets.of[synapse.inputs[0]]
                squares = synapse.weight.astype(np.float64) ** 2
                power = squares.reshape(synapse.channels, len(read), -1).sum(axis=(0, 2))
                found.append((read, power * variance[read]))
        whole = sum(float(part.sum()) for _, part in found)
        channels = sum(len(np.unique(read)) for read, _ in found)
        for read, part in found:
            np.add.at(total, read, part * channels / max(whole, NOTHING))
    return total


def _weights_into(graph: SnnGraph, node: IntegrateFire) -> FloatArray:
    """Return the sum of the magnitudes of the weights into each channel, by its threshold, (channels,)."""
    total = np.zeros(node.channels)
    for name in node.inputs:
        synapse = graph[name]
        if isinstance(synapse, Weighted) and synapse.channels == node.channels:
            total += np.abs(synapse.weight.astype(np.float64)).reshape(node.channels, -1).sum(axis=1)
    return total / node.threshold


def _potential(graph: SnnGraph, node: IntegrateFire, inputs: Given, simulator: Simulator) -> FloatArray:
    """Return the mean ``|m| / threshold`` of each channel, (channels,)."""
    asked = RecordOptions(trains=(*dict.fromkeys(node.inputs), node.name), until=(node.name,))
    trains = simulator.run(graph, inputs, graph.timesteps, asked).trains
    T, rank = graph.timesteps, len(node.shape)
    current: FloatArray = np.stack([trains[name] for name in node.inputs]).sum(axis=0, dtype=np.float64)
    current[:T] += per_channel(node.bias, rank)
    if graph.schedule is Schedule.LAYERWISE:  # all input comes before the first spike
        m = current.sum(axis=0)[None]
    else:
        reset = np.zeros_like(current)
        if node.breakpoints is None:
            reset[1:] = np.cumsum(trains[node.name][:-1], axis=0) * per_channel(node.threshold, rank)
        m = np.cumsum(current, axis=0) - reset
    m += per_channel(node.v_init, rank)
    found: FloatArray = np.abs(m).mean(axis=(0, 1, *range(3, m.ndim))) / node.threshold
    return found
