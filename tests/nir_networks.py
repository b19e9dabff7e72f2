"""Networks for the tests of NIR, and what their outputs must be."""

from __future__ import annotations

from functools import cache
from math import prod

import numpy as np

from snnc.backends.nir import Nir
from snnc.ir.geometry import Window
from snnc.ir.graph import IntArray
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import (
    ChannelWeight,
    CountMaxPool,
    Encode,
    IntegrateFire,
    Linear,
    Readout,
    Reshape,
    SnnGraph,
    SnnNode,
    SumPool,
)
from snnc.simulation.reference import ReferenceSimulator
from tests.spiking_graphs import random_graph

BARRIER, TIME = Schedule.LAYERWISE, Schedule.SYNCHRONOUS
PLAIN = Neuron(count_memory=False)


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


def pooled(*, of: str) -> SnnGraph:
    """Return a barrier network with a maximum of counts: of ``input``, ``populations`` or ``sums``."""
    window, channels = Window((2, 2), (2, 2)), np.arange(1, 3)
    nodes: list[SnnNode] = [Encode(name="x", shape=(2, 8, 8), scale=0.01, limit=63)]
    if of != "input":
        weight = np.array([1, -1], np.int8)
        nodes += [
            ChannelWeight(name="current", inputs=("x",), shape=(2, 8, 8), weight=weight),
            IntegrateFire(
                name="population",
                inputs=("current",),
                shape=(2, 8, 8),
                threshold=(20 * channels).astype(np.int32),
                bias=np.zeros(2, np.int32),
                v_init=np.zeros(2, np.int32),
                spike_scale=np.ones(2, np.float32),
            ),
        ]
    if of == "sums":
        nodes.append(SumPool(name="sum", inputs=("population",), shape=(2, 4, 4), window=window))
    size = nodes[-1].shape[1] // 2
    shape = (2, size, size)
    count = prod(shape)
    weight = np.random.default_rng(0).integers(-127, 128, (3, count)).astype(np.int8)
    nodes += [
        CountMaxPool(name="pool", inputs=(nodes[-1].name,), shape=shape, window=window),
        Reshape(name="flat", inputs=("pool",), shape=(count,)),
        Linear(name="sum of all", inputs=("flat",), shape=(3,), weight=weight),
        Readout(name="y", inputs=("sum of all",), shape=(3,), bias=np.zeros(3, np.int32)),
    ]
    graph = SnnGraph(name="pooled", nodes=tuple(nodes), outputs=("y",), timesteps=2, schedule=BARRIER)
    graph.verify()
    return graph
