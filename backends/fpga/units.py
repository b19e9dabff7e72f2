"""What a network is for the core, before any memory is laid out: maps of spikes, synapses, neurons.

Nothing here depends on the number of lanes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

import numpy as np

from snnc.backends.fpga.views import (
    Part,
    Piece,
    Positions,
    Refused,
    View,
    Volume,
    arrivals,
    composed,
    derived_view,
    each,
    separated,
    source_view,
    volume,
)
from snnc.ir.bounds import step_bounds
from snnc.ir.geometry import ABSENT, Window
from snnc.ir.graph import IntArray
from snnc.ir.kinds import ValueKind, value_kinds
from snnc.ir.operations import operations
from snnc.ir.snn import (
    ChannelWeight,
    Concat,
    ConstantCurrent,
    Convolution,
    CountMaxPool,
    CurrentMaxPool,
    Encode,
    Gather,
    IntegrateFire,
    Linear,
    Pad,
    Readout,
    Reshape,
    Slice,
    SnnGraph,
    SnnNode,
    SumPool,
)
from snnc.simulation.targets import Unsupported

MOST_SPIKES = 2**23
"""A neuron sends fewer in one step: instructions hold the limit in 24 bits with sign."""

ONE = ""
"""The source that sends a one in each of the T steps: what is constant is a weight on it."""

POINT = Window((1, 1))

Taps = tuple[tuple[tuple[int, int], ...], ...]
"""For each row of a source pairs of a row of the target and a row of the kernel; likewise of columns."""


@dataclass(frozen=True, slots=True, eq=False)
class Synapse:
    """What the spikes of one map add to the potentials of one population.

    Attributes:
        source: name of the node that sends them, or :data:`ONE`.
        weight: (target channels, source channels, kernel rows, kernel columns), integers.
        rows: where a row of the source arrives, and by which row of the kernel.
        columns: likewise.
    """

    source: str
    weight: IntArray
    rows: Taps
    columns: Taps


@dataclass(frozen=True, slots=True, eq=False)
class Maximum:
    """Windows of which the maximum is taken.

    Attributes:
        node: whose windows these are.
        synapses: what fills the values that are compared.
        source: their volume.
        target: volume of the maxima.
        rows: for each row of the maxima the rows that are compared.
        columns: likewise.
    """

    node: SnnNode
    synapses: tuple[Synapse, ...]
    source: Volume
    target: Volume
    rows: Positions
    columns: Positions


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """A population, a read-out, or a pooling of counts, which sends spikes, too.

    Attributes:
        node: which.
        volume: how its neurons lie.
        synapses: what it integrates.
        maximum: for a pooling, the counts whose maximum it sends; for a population, a constant current that
            it integrates; else ``None``.
    """

    node: IntegrateFire | Readout | CountMaxPool
    volume: Volume
    synapses: tuple[Synapse, ...]
    maximum: Maximum | None = None

    def sources(self) -> Iterator[str]:
        """Go through the names of the maps that it reads."""
        yield from (synapse.source for synapse in self.synapses)
        if self.maximum is not None:
            yield from (synapse.source for synapse in self.maximum.synapses)


@dataclass(slots=True)
class Units:
    """Everything that the core does for a network, and what it cannot do.

    Attributes:
        graph: the network.
        units: in the order of execution: read-outs at the end, in the order of the outputs.
        problems: nodes that it has no place for.
    """

    graph: SnnGraph
    units: list[Unit] = field(default_factory=list)
    problems: list[Unsupported] = field(default_factory=list)


def units(graph: SnnGraph) -> Units:
    """Return the units of an integer network."""
    return _Reader(graph).read()


class _Reader:
    def __init__(self, graph: SnnGraph) -> None:
        self.graph = graph
        self.kinds = value_kinds(graph)
        self.bounds = step_bounds(graph, graph.timesteps)
        self.views: dict[str, View] = {}
        self.found = Units(graph)

    def read(self) -> Units:
        for node in operations(self.graph):
            try:
                self.node(node)
            except Refused as refused:
                self.found.problems.append(Unsupported(node.name, node.origin, refused.reason, refused.cure))
            except KeyError:
                pass  # reads something that was refused already
        order = {name: place for place, name in enumerate(self.graph.outputs)}
        self.found.units.sort(key=lambda unit: order.get(unit.node.name, -1))
        return self.found

    def node(self, node: SnnNode) -> None:
        if isinstance(node, IntegrateFire | CountMaxPool) and self.bounds[node.name] >= MOST_SPIKES:
            raise Refused(
                f"may send {self.bounds[node.name]:,} in a step; the core counts to {MOST_SPIKES - 1:,}",
                "ask for fewer levels",
            )
        match node:
            case Encode():
                self.views[node.name] = source_view(node)
            case IntegrateFire() | Readout():
                self.found.units.append(self.population(node))
                if isinstance(node, IntegrateFire):
                    self.views[node.name] = source_view(node)
            case CountMaxPool():
                self.found.units.append(self.pooling(node))
                self.views[node.name] = source_view(node)
            case Concat() | Reshape() | Pad() | Slice() | Gather() | SumPool():
                if self.kinds[node.name] is ValueKind.SPIKES:
                    self.views[node.name] = derived_view(node, [self.views[name] for name in node.inputs])
            case Convolution() | Linear() | ChannelWeight() | ConstantCurrent() | CurrentMaxPool():
                pass  # part of what reads it
            case _:
                raise Refused(f"the core knows no {type(node).__name__}")

    def pooling(self, node: CountMaxPool) -> Unit:
        part = self.views[node.inputs[0]].sole
        kernel = np.eye(part.volume[0], dtype=np.int64)[:, :, None, None]
        size = part.volume
        filled = tuple(_synapse(piece, kernel, POINT, size, _straight(size)) for piece in part.pieces)
        return Unit(node, volume(node.shape), (), _maximum(node, node.window, filled, size))

    # Currents

    def population(self, node: IntegrateFire | Readout) -> Unit:
        target = self.target(node)
        found = _Currents()
        for name in node.inputs:
            self.current(self.graph[name], target, _straight(target), found)
        if len(found.maxima) > 1:
            raise Refused(
                f"sums {len(found.maxima)} maxima of currents", "put an activation behind max-pooling"
            )
        return Unit(node, target, tuple(found.synapses), found.maxima[0] if found.maxima else None)

    def target(self, node: IntegrateFire | Readout) -> Volume:
        """Return how the neurons lie: as the map whose current they flatten, if they do."""
        for name in node.inputs:
            source = self.graph[name]
            if isinstance(source, Reshape):
                shape = volume(self.graph[source.inputs[0]].shape)
                if isinstance(node, IntegrateFire) and shape != volume(node.shape):
                    raise Refused("its current is reshaped", "flatten behind the population, not before it")
                return shape
        return volume(node.shape)

    def current(self, node: SnnNode, shape: Volume, onwards: _Onwards, found: _Currents) -> None:
        """Add what makes a current.

        Args:
            node: that gives it.
            shape: how its reader sees it.
            onwards: where it arrives.
            found: what makes the current of the whole population.
        """
        if not isinstance(node, Linear | ConstantCurrent | Reshape) and volume(node.shape) != shape:
            raise Refused(f"a current of the shape {node.shape} is reshaped", "flatten behind the population")
        match node:
            case Convolution():
                part = self.views[node.inputs[0]].sole
                weight = _ungrouped(node.weight.astype(np.int64), node.groups)
                found.synapses += [
                    _synapse(piece, weight, node.window, shape, onwards) for piece in part.pieces
                ]
            case ChannelWeight():
                part = self.views[node.inputs[0]].sole
                weight = np.diag(node.weight.astype(np.int64))[:, :, None, None]
                found.synapses += [_synapse(piece, weight, POINT, shape, onwards) for piece in part.pieces]
            case Linear():
                for part in self.views[node.inputs[0]].parts:
                    inside = slice(part.offset, part.offset + prod(part.volume))
                    weight = node.weight[:, inside].astype(np.int64)
                    found.synapses += [_dense(piece, part, weight, shape, onwards) for piece in part.pieces]
            case ConstantCurrent():
                piece = Piece(ONE, np.zeros(1, np.int64), ((0,),), ((0,),))
                weight = node.values.astype(np.int64).reshape(-1, 1)
                found.synapses.append(_dense(piece, Part(0, (1, 1, 1), (piece,)), weight, shape, onwards))
            case Reshape():
                self.current(self.graph[node.inputs[0]], shape, onwards, found)
            case SumPool():
                before = volume(self.graph[node.inputs[0]].shape)
                down = _windows(node.window, 0, before[1], shape[1])
                across = _windows(node.window, 1, before[2], shape[2])
                self.current(self.graph[node.inputs[0]], before, onwards.behind(down, across), found)
            case Gather():
                before = volume(self.graph[node.inputs[0]].shape)
                channels, places, columns = separated(node, before)
                moved = onwards.behind(arrivals(places, before[1]), arrivals(columns, before[2]), channels)
                self.current(self.graph[node.inputs[0]], before, moved, found)
            case CurrentMaxPool():
                if not onwards.straight:
                    raise Refused(
                        "a maximum of currents is pooled or moved", "put an activation between both"
                    )
                size = volume(self.graph[node.inputs[0]].shape)
                inner = _Currents()
                self.current(self.graph[node.inputs[0]], size, _straight(size), inner)
                if inner.maxima:
                    raise Refused("takes a maximum of maxima", "put an activation between both")
                found.maxima.append(_maximum(node, node.window, tuple(inner.synapses), size))
            case _:
                raise Refused(f"the core knows no {type(node).__name__} of a current")


@dataclass(slots=True)
class _Currents:
    """What makes the current of a population."""

    synapses: list[Synapse] = field(default_factory=list)
    maxima: list[Maximum] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class _Onwards:
    """Where a current arrives in a population.

    Attributes:
        rows, columns: of the population, for each row and column of the current.
        channels: of the current, for each channel of the population; ``ABSENT`` for none.
        straight: whether it arrives where it is.
    """

    rows: Positions
    columns: Positions
    channels: IntArray
    straight: bool = False

    def behind(self, rows: Positions, columns: Positions, channels: IntArray | None = None) -> _Onwards:
        """Return where a current arrives that goes through other positions first."""
        of = self.channels
        if channels is not None:
            of = np.where(of == ABSENT, ABSENT, channels[of])
        return _Onwards(composed(rows, self.rows), composed(columns, self.columns), of)


def _straight(shape: Volume) -> _Onwards:
    return _Onwards(each(shape[1]), each(shape[2]), np.arange(shape[0]), straight=True)


def _windows(window: Window, axis: int, count: int, outputs: int) -> Positions:
    return tuple(tuple(target for target, _ in taps) for taps in _slide(each(count), window, axis, outputs))


def _maximum(node: SnnNode, window: Window, synapses: tuple[Synapse, ...], source: Volume) -> Maximum:
    target = volume(node.shape)

    def looked_at(axis: int) -> Positions:
        step, pad, apart = window.strides[axis], window.pads[axis], window.dilations[axis]
        rows = [
            [o * step - pad + k * apart for k in range(window.kernel[axis])] for o in range(target[1 + axis])
        ]
        return tuple(tuple(row for row in found if 0 <= row < source[1 + axis]) for found in rows)

    return Maximum(node, synapses, source, target, looked_at(0), looked_at(1))


def _slide(rows: Positions, window: Window, axis: int, outputs: int) -> Taps:
    """Return the windows that hold each row, and by which row of the kernel."""
    step, pad, apart = window.strides[axis], window.pads[axis], window.dilations[axis]
    found = []
    for places in rows:
        taps = []
        for row in places:
            for tap in range(window.kernel[axis]):
                target, rest = divmod(row + pad - tap * apart, step)
                if rest == 0 and 0 <= target < outputs:
                    taps.append((target, tap))
        found.append(tuple(taps))
    return tuple(found)


def _sent_on(taps: Taps, rows: Positions) -> Taps:
    return tuple(tuple((last, tap) for target, tap in row for last in rows[target]) for row in taps)


def _synapse(piece: Piece, weight: IntArray, window: Window, shape: Volume, onwards: _Onwards) -> Synapse:
    """Return a convolution of one piece of a view.

    Args:
        piece: the piece.
        weight: (channels of the current, channels of the view, kernel rows, kernel columns).
        window: of the kernel.
        shape: volume of the current that it gives.
        onwards: where that current arrives.
    """
    down = _sent_on(_slide(piece.rows, window, 0, shape[1]), onwards.rows)
    across = _sent_on(_slide(piece.columns, window, 1, shape[2]), onwards.columns)
    return Synapse(piece.source, _of_channels(piece, weight, onwards), down, across)


def _of_channels(piece: Piece, weight: IntArray, onwards: _Onwards) -> IntArray:
    """Return a weight from the channels of the piece's source to those of the population."""
    picked = weight[:, piece.channels]
    picked[:, piece.channels == ABSENT] = 0
    sent = picked[onwards.channels]
    sent[onwards.channels == ABSENT] = 0
    return sent


def _dense(piece: Piece, part: Part, weight: IntArray, shape: Volume, onwards: _Onwards) -> Synapse:
    """Return a matrix of (values of the current, values of the part) as a kernel over all pairs of pixels."""
    channels, height, width = part.volume
    kernel = weight.reshape(*shape, channels, height, width).transpose(0, 3, 1, 4, 2, 5)
    kernel = kernel.reshape(shape[0], channels, shape[1] * height, shape[2] * width)

    def taps(rows: Positions, size: int, count: int) -> Taps:
        return tuple(tuple((t, t * size + row) for row in found for t in range(count)) for found in rows)

    down = _sent_on(taps(piece.rows, height, shape[1]), onwards.rows)
    across = _sent_on(taps(piece.columns, width, shape[2]), onwards.columns)
    return Synapse(piece.source, _of_channels(piece, kernel, onwards), down, across)


def _ungrouped(weight: IntArray, groups: int) -> IntArray:
    """Return the weight of a grouped convolution with zeros between the groups."""
    if groups == 1:
        return weight
    outputs, inputs = weight.shape[:2]
    full = np.zeros((outputs, inputs * groups, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        of = slice(group * outputs // groups, (group + 1) * outputs // groups)
        full[of, group * inputs : (group + 1) * inputs] = weight[of]
    return full
