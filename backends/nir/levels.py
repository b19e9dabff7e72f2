"""A network in one step: a neuron's ``C`` spikes over time become one spike of each of ``C`` neurons.

In the layerwise schedule a population integrates all its input before it fires, so that its counts are
``N = clip(floor(v / Theta), 0, C)`` with ``v = v_init + T B + sum_t I_t``. As many neurons with thresholds at
``Theta, 2 Theta .. C Theta`` represent the same count in one step: ``N`` of them fire. The network then needs
neither time nor memory, the reset after a spike does not matter, and the results equal the artefact's bit
for bit with any integrate-and-fire neuron. It needs ``C`` times as many neurons. A synchronous
network of one step without settle steps is layerwise, too.

A synapse reads all copies with the same weight, and its current is copied by a 1x1 convolution whose bias
holds the thresholds. Max-pooling of a population is exact, too: the maximum of several counts is, level by
level, whether any of the neurons fired.
"""

from __future__ import annotations

from math import ceil, log2

import numpy as np

from snnc.backends.nir.layers import convolution, movement, pointwise, synapse, window_sum
from snnc.backends.nir.profiles import Profile, Rule
from snnc.backends.nir.program import EXACT, INPUT, Builder, Dense, Fire, Layer, Program, UnfitError
from snnc.errors import InternalError
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray, Shape
from snnc.ir.kinds import ValueKind, constant_nodes, value_kinds
from snnc.ir.operations import largest_count, operations
from snnc.ir.snn import (
    ChannelWeight,
    Convolution,
    CountMaxPool,
    CurrentMaxPool,
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

LARGEST_LAYER = 2**28
"""Weights, at most, of a layer that copies currents or compares copies: 1 GiB in float32."""


def lower(graph: SnnGraph, profile: Profile) -> Program:
    """Return the layers of a network of one step that :mod:`snnc.backends.nir.limits` has nothing against.

    Raises:
        UnfitError: a sum may be too large for float32, or a layer for the memory.
    """
    lowering = _Levels(graph, profile)
    kinds = value_kinds(graph)
    for node in graph:
        if isinstance(node, Encode):
            lowering.spikes[node.name] = (INPUT, 1)
        elif isinstance(node, IntegrateFire):
            lowering.population(node)
        elif isinstance(node, CountMaxPool):
            lowering.spikes[node.name] = lowering.any_of(node, *lowering.spikes[node.inputs[0]])
        elif isinstance(node, Readout):
            lowering.readout(node)
        elif kinds[node.name] is ValueKind.SPIKES:
            read, copies = lowering.spikes[node.inputs[0]]
            lowering.spikes[node.name] = (lowering.moved(node, read, copies), copies)
    return Program(graph.nodes[0].shape, tuple(lowering.build.steps), 1)


class _Levels:
    def __init__(self, graph: SnnGraph, profile: Profile) -> None:
        self.graph = graph
        self.profile = profile
        self.build = Builder()
        self.spikes: dict[str, tuple[str, int]] = {}
        self.constant = constant_nodes(graph)
        self.largest = largest_counts(graph)

    def population(self, node: IntegrateFire) -> None:
        """Emit the currents of a population, its copies, and the neurons."""
        steps, copies = self.graph.timesteps, largest_count(node, self.graph.timesteps)
        level = np.arange(1, copies + 1)[:, None] * node.threshold.astype(np.int64) - node.v_init
        first = all(name in self.constant for name in node.inputs)
        # The first layer's condition, T B + T I >= level, is divided by T: it stays one of integers.
        least = -(-level // steps) - node.bias if first else level - steps * node.bias.astype(np.int64)
        pool = self.graph[node.inputs[0]]
        wide = pool if isinstance(pool, CurrentMaxPool) else None
        shape = node.shape if wide is None else self.graph[wide.inputs[0]].shape
        sources = node.inputs if wide is None else wide.inputs
        reach = self.reach(sources, node.channels, 1 if first else steps) + np.abs(least).max(axis=0)
        mark = self.mark(node, float(reach.max()), first)
        bias = (mark - least).astype(np.float64)
        factor = 1 if first else steps
        if copies == 1:
            read = self.branches(sources, node.channels, bias[0], factor)
        else:
            _require_room(node, copies, copies * node.channels**2)
            currents = self.branches(sources, node.channels, np.zeros(node.channels), factor)
            layer = _copied(node.channels, bias, len(shape))
            read = (self.build.add(f"{node.name}_levels", layer, currents, _times(shape, copies)),)
        name = self.neurons(node.name, read, _times(shape, copies), mark)
        self.spikes[node.name] = (name, copies)
        if wide is not None:
            self.spikes[node.name] = self.any_of(wide, name, copies)

    def readout(self, node: Readout) -> None:
        """Emit what the read-out sums."""
        steps = self.graph.timesteps
        bias = steps * node.bias.astype(np.float64)
        reach = float((self.reach(node.inputs, node.channels, steps) + np.abs(bias)).max())
        if reach >= EXACT:
            raise self.unfit(node, reach, self.constant.issuperset(node.inputs))
        self.build.join(node.name, self.branches(node.inputs, node.channels, bias, steps), node.shape)

    def neurons(self, name: str, read: tuple[str, ...], shape: Shape, mark: float) -> str:
        """Emit neurons that fire where their current is at least ``mark``, and less than twice that."""
        threshold = mark - 0.5 if self.profile.rule is Rule.ZERO_ABOVE else mark
        fire = Fire(np.full(shape[0], threshold, np.float32), name)
        return self.build.add(name, fire, read, shape)

    def mark(self, node: SnnNode, reach: float, first: bool = False) -> float:
        """Return a threshold that nothing reaches twice where a neuron may send several spikes."""
        mark = 1.0 if self.profile.rule is not Rule.SUBTRACT else 2.0 ** ceil(log2(reach + 2))
        if reach + mark >= EXACT:
            raise self.unfit(node, reach, first)
        return mark

    def unfit(self, node: SnnNode, reach: float, first: bool) -> UnfitError:
        """Return the error of sums that float32 cannot hold, the ``first`` layer's because of the input."""
        room = EXACT / 2 if self.profile.rule is Rule.SUBTRACT else EXACT
        cure = "use the target c99 or spiking-onnx"
        if first:
            limit = int(self.largest[self.graph.nodes[0].name] * 0.98 * room / reach)
            cure = f"quantise the input more coarsely: convert with --set lower.input-limit={limit}"
        reason = f"its sums may reach {reach:.0f}, too much to be exact in float32"
        return UnfitError(reason, cure, node.name)

    def any_of(self, node: CountMaxPool | CurrentMaxPool, read: str, copies: int) -> tuple[str, int]:
        """Emit neurons that fire where any neuron of a window has fired."""
        mark = self.mark(node, float(node.window.area))
        channels = copies * node.channels
        _require_room(node, copies, channels**2 * node.window.area)
        layer = window_sum(channels, node.window, np.full(channels, mark - 1))
        shape = _times(node.shape, copies)
        summed = self.build.add(f"{node.name}_window", layer, (read,), shape)
        return self.neurons(node.name, (summed,), shape, mark), copies

    def reach(self, names: tuple[str, ...], channels: int, factor: int) -> FloatArray:
        """Return the largest magnitude that the sum of all currents into each channel can have."""
        total = np.zeros(channels)
        for name in names:
            area, source = 1, self.graph[name]
            while isinstance(source, SumPool | Reshape):
                area *= source.window.area if isinstance(source, SumPool) else 1
                source = self.graph[source.inputs[0]]
            if isinstance(source, Weighted):
                weight = np.abs(source.weight.astype(np.float64)).reshape(channels, -1).sum(axis=1)
                times = factor if source.name in self.constant else 1
                total += times * area * weight * self.largest[source.inputs[0]]
        return total

    def branches(
        self, names: tuple[str, ...], channels: int, bias: FloatArray, factor: int
    ) -> tuple[str, ...]:
        """Emit several currents; the first carries the bias, and what is constant in time counts T times."""
        return tuple(
            self.current(
                self.graph[name],
                np.zeros(channels) if index else bias,
                factor if name in self.constant else 1,
            )
            for index, name in enumerate(names)
        )

    def current(self, node: SnnNode, bias: FloatArray, times: int) -> str:
        match node:
            case Reshape():
                return self.moved(node, self.current(self.graph[node.inputs[0]], bias, times), 1)
            case SumPool():
                inner = self.current(self.graph[node.inputs[0]], np.zeros_like(bias), times)
                if not bias.any():
                    return self.moved(node, inner, 1)
                pool = window_sum(node.channels, node.window, bias)
                return self.build.add(node.name, pool, (inner,), node.shape)
            case Convolution() | Linear() | ChannelWeight():
                read, copies = self.spikes[node.inputs[0]]
                layer = synapse(node, node.weight.astype(np.int64) * times, bias, copies)
                return self.build.add(node.name, layer, (read,), node.shape)
            case _:
                raise InternalError(f"no layer for {type(node).__name__}")

    def moved(self, node: SnnNode, read: str, copies: int) -> str:
        """Emit pooling, padding, slicing or flattening, of spikes or of a current."""
        layer = movement(node, self.graph[node.inputs[0]].shape, copies)
        if layer is None:
            return read
        return self.build.add(node.name, layer, (read,), _times(node.shape, copies))


def _times(shape: Shape, copies: int) -> Shape:
    return (copies * shape[0], *shape[1:])


def _require_room(node: SnnNode, copies: int, weights: int) -> None:
    """Refuse a layer before it takes more memory than there is."""
    if weights > LARGEST_LAYER:
        raise UnfitError(
            f"{copies} copies of each of its {node.channels} channels take {weights:.1e} weights, "
            f"and {LARGEST_LAYER:.1e} are the most",
            "use fewer steps, or the target c99 or spiking-onnx",
            node.name,
        )


def _copied(channels: int, bias: FloatArray, rank: int) -> Layer:
    """Return the layer that copies each channel as often as ``bias``, (copies, channels), has rows."""
    matrix = np.tile(np.eye(channels, dtype=np.float32), (len(bias), 1))
    flat = bias.reshape(-1)
    if rank == 1:
        return Dense(matrix, flat.astype(np.float32))
    return convolution(pointwise(matrix), flat, Window((1, 1)))


def largest_counts(graph: SnnGraph) -> dict[str, int]:
    """Return the largest magnitude of what each node sends in a run; the input is presented once."""
    largest: dict[str, int] = {}
    for node in operations(graph):
        match node:
            case Encode():
                largest[node.name] = node.limit
            case IntegrateFire():
                largest[node.name] = largest_count(node, graph.timesteps)
            case SumPool():
                largest[node.name] = node.window.area * largest[node.inputs[0]]
            case _:
                largest[node.name] = max((largest[name] for name in node.inputs), default=1)
    return largest
