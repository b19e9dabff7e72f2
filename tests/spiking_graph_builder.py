"""Builds small, lively spiking networks node by node, simulating each on a few probe inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from snnc.ir.batch import Rows, joined
from snnc.ir.bounds import provable_timesteps
from snnc.ir.geometry import Window
from snnc.ir.graph import IntArray, NumberArray, Shape
from snnc.ir.neuron import Code, Neuron, Schedule
from snnc.ir.snn import (
    ChannelWeight,
    Concat,
    ConstantCurrent,
    Convolution,
    Encode,
    IntegrateFire,
    Linear,
    Readout,
    SnnGraph,
    SnnNode,
)
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator

NEURONS = (
    Neuron(),
    Neuron(spikes_per_step=2),
    Neuron(spikes_per_step=None),
    Neuron(count_memory=False),
    Neuron(levels=3, code=Code.BINARY),
    Neuron(levels=2, spikes_per_step=2),
    Neuron(levels=3, spikes_per_step=None, code=Code.BINARY),
    Neuron(levels=2, count_memory=False),
)
"""Every kind of neuron; one with a negative threshold is a :class:`Neuron` of limit 1 with memory."""

PROBES = 12


def random_rows(encoders: Sequence[Encode], batch: int, seed: int) -> Rows:
    found = {
        node.name: _inputs(node, batch, np.random.default_rng(seed + 1000 * k))
        for k, node in enumerate(encoders)
    }
    return joined(found)


def _inputs(encode: Encode, batch: int, rng: np.random.Generator) -> IntArray:
    shape = encode.shape
    signal = rng.normal(size=(batch, *shape)) * 0.3
    if len(shape) == 3:
        down, right = np.meshgrid(np.arange(shape[1]), np.arange(shape[2]), indexing="ij")
        for _ in range(3):
            middle = rng.uniform(0, shape[1:], size=(batch, 2))
            width = rng.uniform(1, 9, size=(batch, 1, 1))
            distance = (down - middle[:, :1, None]) ** 2 + (right - middle[:, 1:, None]) ** 2
            colour = rng.normal(size=(batch, shape[0], 1, 1))
            signal += colour * np.exp(-distance / width)[:, None]
    scaled = np.rint(signal * 0.4 * encode.limit)
    return np.clip(scaled, -encode.limit, encode.limit).astype(np.int32)


@dataclass
class Builder:
    """Adds nodes one by one and knows what flows through them on a few probe inputs."""

    rng: np.random.Generator
    timesteps: int
    schedule: Schedule
    neuron: Neuron | None
    negative: bool
    nodes: list[SnnNode] = field(default_factory=list)
    trains: dict[str, NumberArray] = field(default_factory=dict)

    def draw(self, low: int, high: int) -> int:
        """Draw an integer from ``low`` to ``high``, both included."""
        return int(self.rng.integers(low, high + 1))

    def graph(self, settle_steps: int = 0) -> SnnGraph:
        return SnnGraph(
            name="probe",
            nodes=tuple(self.nodes),
            outputs=tuple(node.name for node in self.nodes if isinstance(node, Readout)),
            timesteps=self.timesteps,
            settle_steps=settle_steps,
            schedule=self.schedule,
        )

    def proved(self, seed: int, settle_steps: int = 0) -> SnnGraph:
        """Return the finished network with its bounds."""
        graph = self.graph(settle_steps)
        longest = provable_timesteps(graph, at_most=max(64, self.timesteps))
        graph = replace(graph, name=f"random-{seed}", max_timesteps=longest)
        graph.verify()
        return graph

    def add(self, node: SnnNode) -> SnnNode:
        """Add a node under a name of its own and simulate it on the probes."""
        node = node.with_(
            name=f"{type(node).__name__.lower()}_{len(self.nodes)}", origin=f"/{len(self.nodes)}"
        )
        self.nodes.append(node)
        if isinstance(node, Readout):
            return node
        trace = ReferenceSimulator().run(
            self.graph(),
            random_rows([node for node in self.nodes if isinstance(node, Encode)], PROBES, 1),
            self.timesteps,
            RecordOptions(trains=(node.name,), until=(node.name,)),
            given=self.trains,
        )
        self.trains[node.name] = trace.trains[node.name]
        return node

    def encode(self, shape: Shape) -> SnnNode:
        normalised = self.rng.random() < 0.5
        return self.add(
            Encode(
                name="",
                shape=shape,
                scale=float(self.rng.uniform(0.01, 0.1)),
                limit=int(self.rng.choice([127, 255, 2047])),
                gain=self.rng.uniform(0.5, 2, shape[0]).astype(np.float32) if normalised else None,
                offset=self.rng.normal(size=shape[0]).astype(np.float32) if normalised else None,
            )
        )

    def read(self, *currents: SnnNode) -> SnnNode:
        """Add a read-out with a unit for each channel, or one for all."""
        channels = currents[0].channels
        apart = self.rng.random() < 0.5
        return self.add(
            Readout(
                name="",
                inputs=tuple(node.name for node in currents),
                shape=currents[0].shape,
                bias=np.rint(self.rng.normal(size=channels) * 20).astype(np.int32),
                scale=float(self.rng.uniform(0.001, 0.1)),
                gain=self.rng.uniform(1, 9, channels).astype(np.float32) if apart else None,
            )
        )

    def weights(self, shape: Shape, wide: bool = False) -> IntArray:
        values = self.rng.normal(size=shape)
        values *= (20_000 if wide else 127) / np.abs(values).max()
        return np.rint(values).astype(np.int16 if wide else np.int8)

    def convolution(
        self, x: SnnNode, channels: int, kernel: int = 3, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> SnnNode:
        pad = dilation * (kernel - 1) // 2
        window = Window((kernel, kernel), (stride, stride), (pad, pad, pad, pad), (dilation, dilation))
        shape = (channels, *window.output_size(*x.shape[1:]))
        weight = self.weights((channels, x.channels // groups, kernel, kernel))
        return self.add(
            Convolution(name="", inputs=(x.name,), shape=shape, weight=weight, window=window, groups=groups)
        )

    def linear(self, x: SnnNode, outputs: int) -> SnnNode:
        weight = self.weights((outputs, x.channels))
        return self.add(Linear(name="", inputs=(x.name,), shape=(outputs,), weight=weight))

    def identity(self, x: SnnNode) -> SnnNode:
        """Weight the identity branch so that it is about as strong as a convolution."""
        weight = np.maximum(np.abs(self.weights(x.shape[:1], wide=True)) // 64, 1).astype(np.int16)
        return self.add(ChannelWeight(name="", inputs=(x.name,), shape=x.shape, weight=weight))

    def pool(self, x: SnnNode, kind: Callable[..., SnnNode], window: Window) -> SnnNode:
        shape = (x.channels, *window.output_size(*x.shape[1:]))
        return self.add(kind(name="", inputs=(x.name,), shape=shape, window=window))

    def fire(self, *currents: SnnNode, neuron: Neuron | None = None) -> SnnNode:
        """Add a population with thresholds such that its busiest neurons reach half to full rate."""
        neuron = neuron or self.neuron or NEURONS[self.draw(0, len(NEURONS) - 1)]
        total = np.add.reduce([self.trains[node.name] for node in currents]).astype(np.int64)
        per_step = total.mean(axis=0)
        axes = (0, *range(2, per_step.ndim))
        bias = np.rint(self.rng.normal(size=per_step.shape[1]) * per_step.std(axis=axes) * 0.3)
        drive = per_step + bias.reshape(1, -1, *(1,) * (per_step.ndim - 2))
        highest = np.maximum(drive.max(axis=axes), drive.std(axis=axes) + 1)
        threshold = np.maximum(np.rint(highest * self.rng.uniform(0.4, 1, len(bias)) / neuron.levels), 1)
        low = None
        if self.negative and neuron.count_memory and neuron.limit == 1:
            low = np.rint(threshold * self.rng.uniform(0, 1, len(bias))).astype(np.int32)
        return self.add(
            IntegrateFire(
                name="",
                inputs=tuple(node.name for node in currents),
                shape=currents[0].shape,
                threshold=threshold.astype(np.int32),
                bias=bias.astype(np.int32),
                v_init=(threshold // 2).astype(np.int32),
                spike_scale=self.rng.uniform(0.1, 2, len(bias)).astype(np.float32),
                floor=np.arange(1, len(bias) + 1, dtype=np.float32) / 8 if len(bias) % 2 else None,
                neuron=neuron,
                negative_threshold=low,
            )
        )

    def border(self, current: SnnNode) -> SnnNode:
        values = self.rng.normal(size=current.shape) * self.trains[current.name].std()
        values[:, 1:-1, 1:-1] = 0
        values = np.rint(values).astype(np.int32)
        return self.add(ConstantCurrent(name="", shape=current.shape, values=values))

    def concat(self, parts: Sequence[SnnNode]) -> SnnNode:
        shape = (sum(part.channels for part in parts), *parts[0].shape[1:])
        return self.add(Concat(name="", inputs=tuple(part.name for part in parts), shape=shape))
