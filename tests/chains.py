"""Networks of one layer after the other, for targets that take nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from snnc.ir.bounds import provable_timesteps
from snnc.ir.geometry import Window
from snnc.ir.graph import IntArray, Shape
from snnc.ir.neuron import Neuron
from snnc.ir.snn import (
    Convolution,
    Encode,
    IntegrateFire,
    Linear,
    Readout,
    Reshape,
    SnnGraph,
    SnnNode,
    SumPool,
)


class Chain:
    """Builds a network of one layer after the other, with int8 weights."""

    def __init__(self, seed: int, shape: Shape, neuron: Neuron) -> None:
        self.rng = np.random.default_rng(seed)
        self.neuron = neuron
        self.nodes: list[SnnNode] = [Encode(name="x", origin="x", shape=shape, scale=0.1, limit=100)]

    def add(self, node: SnnNode) -> None:
        name = f"{type(node).__name__}_{len(self.nodes)}"
        self.nodes.append(node.with_(name=name, origin=f"/{name}", inputs=(self.nodes[-1].name,)))

    def weights(self, *shape: int) -> IntArray:
        return self.rng.integers(-127, 128, shape).astype(np.int8)

    def convolution(self, channels: int, window: Window, groups: int = 1) -> None:
        shape = self.nodes[-1].shape
        weight = self.weights(channels, shape[0] // groups, *window.kernel)
        size = window.output_size(shape[1], shape[2])
        self.add(Convolution(name="", shape=(channels, *size), weight=weight, window=window, groups=groups))

    def pool(self, window: Window) -> None:
        shape = self.nodes[-1].shape
        self.add(SumPool(name="", shape=(shape[0], *window.output_size(shape[1], shape[2])), window=window))

    def flat(self) -> None:
        self.add(Reshape(name="", shape=(int(np.prod(self.nodes[-1].shape)),)))

    def linear(self, outputs: int) -> None:
        weight = self.weights(outputs, *self.nodes[-1].shape)
        self.add(Linear(name="", shape=(outputs,), weight=weight))

    def fire(self, threshold: int) -> None:
        shape = self.nodes[-1].shape
        theta = self.rng.integers(threshold // 2, threshold, shape[0]).astype(np.int32)
        bias = self.rng.integers(-threshold // 9, threshold // 9, shape[0]).astype(np.int32)
        unit = np.ones(shape[0], np.float32)
        self.add(
            IntegrateFire(
                name="",
                shape=shape,
                threshold=theta,
                bias=bias,
                v_init=theta // 2,
                spike_scale=unit,
                neuron=self.neuron,
            )
        )

    def graph(self) -> SnnGraph:
        shape = self.nodes[-1].shape
        self.add(Readout(name="", shape=shape, bias=self.rng.integers(-99, 99, shape[0]).astype(np.int32)))
        graph = SnnGraph(name="chain", nodes=tuple(self.nodes), outputs=(self.nodes[-1].name,), timesteps=4)
        graph = replace(graph, max_timesteps=provable_timesteps(graph))
        graph.verify()
        return graph
