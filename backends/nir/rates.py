"""A network in time: a population's spikes are those of its neurons in the consumer, step by step.

What the consumer's neurons do differently is compensated where that takes no data:

- an initial potential cannot be written, so the bias carries ``v_init / T`` in every step;
- a neuron that is reset to zero forgets what lay above the threshold. Driven by a constant ``x`` it fires in
  one of ``ceil(threshold / x)`` steps; the mean of that rate over ``x`` in ``[0, u]`` equals the mean of
  ``x / u`` for ``threshold = u / (2 (pi^2 / 6 - 1))``, about ``0.775 u``. In one or two steps nothing is
  forgotten that would have mattered.

All thresholds of a population become one power of two where the consumer wants that; weights and biases are
scaled alike and rounded to integers, so that every sum stays exact.
"""

from __future__ import annotations

from math import floor, log2, pi

import numpy as np

from snnc.backends.nir.layers import movement, synapse, window_sum
from snnc.backends.nir.profiles import Profile, Rule
from snnc.backends.nir.program import EXACT, INPUT, Builder, Fire, Program
from snnc.errors import InternalError
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray
from snnc.ir.kinds import ValueKind, value_kinds
from snnc.ir.operations import operations
from snnc.ir.snn import (
    ChannelWeight,
    Convolution,
    Encode,
    IntegrateFire,
    Linear,
    Readout,
    Reshape,
    SnnGraph,
    SnnNode,
    SumPool,
    Weighted,
)

FINEST = 8
"""Bits behind the binary point, at most, to which a bias is rounded."""

FORGETFUL = 1 / (2 * (pi**2 / 6 - 1))
"""The threshold of a neuron that is reset to zero, in units of what its spike stands for."""


def lower(graph: SnnGraph, profile: Profile) -> Program:
    """Return the layers of a network that :mod:`snnc.backends.nir.limits` has nothing against."""
    lowering = _Rates(graph, profile)
    kinds = value_kinds(graph)
    for node in graph:
        if isinstance(node, Encode):
            lowering.spikes[node.name] = INPUT
        elif isinstance(node, IntegrateFire):
            lowering.population(node)
        elif isinstance(node, Readout):
            bias = node.bias.astype(np.float64)
            currents = lowering.currents(node, np.ones(node.channels), bias, bits=0)
            lowering.build.join(node.name, currents, node.shape)
        elif kinds[node.name] is ValueKind.SPIKES:
            lowering.spikes[node.name] = lowering.moved(node, lowering.spikes[node.inputs[0]])
    return Program(graph.nodes[0].shape, tuple(lowering.build.steps), graph.timesteps)


class _Rates:
    def __init__(self, graph: SnnGraph, profile: Profile) -> None:
        self.graph = graph
        self.profile = profile
        self.build = Builder()
        self.spikes: dict[str, str] = {}
        self.largest = largest_spikes(graph)
        forgets = profile.rule is not Rule.SUBTRACT and graph.timesteps > 2
        self.share = FORGETFUL if forgets else 1.0

    def population(self, node: IntegrateFire) -> None:
        """Emit the branches of a population, then its neurons."""
        steps = self.graph.timesteps
        theta = np.rint(node.threshold * self.share)
        drive = node.bias + node.v_init / steps
        reach = (steps * (self.reach(node) + np.abs(drive)) + 2 * theta) * 1.01
        if self.profile.one_threshold:
            common = 2.0 ** floor(log2(EXACT / (reach / theta).max()))
            scale, threshold, bits = common / theta, np.full(len(theta), common), 0
        else:
            bits = min(FINEST, max(0, floor(log2(EXACT / reach.max()))))
            scale, threshold = np.ones(len(theta)), theta
        currents = self.currents(node, scale, drive * scale, bits)
        if self.profile.rule is Rule.ZERO_ABOVE:
            threshold = threshold - 0.5 ** (bits + 1)
        fire = Fire(threshold.astype(np.float32), node.name)
        self.spikes[node.name] = self.build.add(node.name, fire, currents, node.shape)

    def reach(self, node: SnnNode) -> FloatArray:
        """Return the largest magnitude of the current into each channel in one step."""
        total = np.zeros(node.channels)
        for name in node.inputs:
            area, source = 1, self.graph[name]
            while isinstance(source, SumPool | Reshape):
                area *= source.window.area if isinstance(source, SumPool) else 1
                source = self.graph[source.inputs[0]]
            if isinstance(source, Weighted):
                weight = np.abs(source.weight.astype(np.float64)).reshape(node.channels, -1).sum(axis=1)
                total += area * weight * self.largest[source.inputs[0]]
        return total

    def currents(
        self, node: IntegrateFire | Readout, scale: FloatArray, bias: FloatArray, bits: int
    ) -> tuple[str, ...]:
        """Emit what a population or the read-out sums; the first branch carries the bias."""
        grid = 2.0**bits
        rounded = np.rint(bias * grid) / grid
        return tuple(
            self.current(self.graph[name], scale, np.zeros_like(rounded) if index else rounded)
            for index, name in enumerate(node.inputs)
        )

    def current(self, node: SnnNode, scale: FloatArray, bias: FloatArray) -> str:
        """Emit one branch, its weights multiplied per channel."""
        match node:
            case Reshape():
                return self.moved(node, self.current(self.graph[node.inputs[0]], scale, bias))
            case SumPool():
                inner = self.current(self.graph[node.inputs[0]], scale, np.zeros_like(bias))
                if not bias.any():
                    return self.moved(node, inner)
                layer = window_sum(node.channels, node.window, bias)
                return self.build.add(node.name, layer, (inner,), node.shape)
            case Convolution() | Linear() | ChannelWeight():
                weight = np.rint(node.weight * per_channel(scale, node.weight.ndim))
                read = self.spikes[node.inputs[0]]
                return self.build.add(node.name, synapse(node, weight, bias), (read,), node.shape)
            case _:
                raise InternalError(f"no layer for {type(node).__name__}")

    def moved(self, node: SnnNode, read: str) -> str:
        """Emit pooling, padding, slicing or flattening, of spikes or of a current."""
        layer = movement(node, self.graph[node.inputs[0]].shape)
        return read if layer is None else self.build.add(node.name, layer, (read,), node.shape)


def largest_spikes(graph: SnnGraph) -> dict[str, int]:
    """Return the largest magnitude of what each node sends in a step, if populations send one spike."""
    largest: dict[str, int] = {}
    for node in operations(graph):
        match node:
            case Encode():
                largest[node.name] = node.limit
            case IntegrateFire():
                largest[node.name] = 1
            case SumPool():
                largest[node.name] = node.window.area * largest[node.inputs[0]]
            case _:
                largest[node.name] = max((largest[name] for name in node.inputs), default=1)
    return largest
