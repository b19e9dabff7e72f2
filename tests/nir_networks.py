"""Networks for the tests of NIR, and what their outputs must be."""

from __future__ import annotations

from functools import cache

import numpy as np

from snnc.backends.nir import Nir
from snnc.ir.graph import IntArray
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import (
    ChannelWeight,
    SnnGraph,
)
from snnc.reference import ReferenceSimulator
from tests.spiking_graphs import random_graph

BARRIER, TIME = Schedule.BARRIER, Schedule.SYNCHRONOUS
PLAIN = Neuron(memory=False)


def reference(graph: SnnGraph, q: IntArray) -> IntArray:
    return ReferenceSimulator().run(graph, q, graph.timesteps).logits.astype(np.int64)


SEEDS = (0, 11, 13, 14, 16, 25, 28, 30, 42, 57, 62, 65, 71, 79, 85)
"""Networks with every arrangement that NIR has words for: sums, pooling by sum and by maximum, strides."""


JOINED_AND_POOLED = 23
"""A network with a concatenation and max-pooling."""


@cache
def networks(schedule: Schedule, neuron: Neuron | None) -> tuple[SnnGraph, ...]:
    """Return random networks, T from 1 to 8."""
    return tuple(
        random_graph(
            seed, schedule=schedule, neuron=neuron, blocks=seed % 4, timesteps=(1, 2, 4, 8)[seed % 4]
        )
        for seed in SEEDS
    )


def fitting(profile: str, schedule: Schedule, neuron: Neuron | None = None) -> list[SnnGraph]:
    """Return those that the profile takes."""
    return [graph for graph in networks(schedule, neuron) if not Nir(profile).check(graph)]


@cache
def residual(schedule: Schedule = TIME) -> SnnGraph:
    """Return a network with an identity branch."""
    graphs = (random_graph(seed, schedule=schedule, neuron=PLAIN) for seed in range(100))
    return next(graph for graph in graphs if graph.of_type(ChannelWeight) and not Nir("norse").check(graph))
