"""A spiking network as a chain of layers, for targets that support only sequences.

Each layer is a convolution or a dense matrix in int8, followed by its population (or the read-out). Sums
over windows are merged into the weights that read them, which is exact in integers. Padding that differs
between two sides becomes a larger kernel with a border of zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc.ir.geometry import Window
from snnc.ir.graph import IntArray, Shape
from snnc.ir.kinds import ValueKind, value_kinds
from snnc.ir.operations import operations
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
from snnc.simulation.targets import Unsupported

LARGEST_WEIGHT = 127


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A synapse and what receives its current.

    Attributes:
        synapse: the node whose weights these are.
        neurons: the population, or the read-out.
        weight: (outputs, inputs per group, height, width) or (outputs, inputs), integers.
        shape: of the input, channels first, as the chain has it.
        window: geometry, with the same padding on both sides; ``None`` for a dense matrix.
        groups: channel groups.
    """

    synapse: SnnNode
    neurons: IntegrateFire | Readout
    weight: IntArray
    shape: Shape
    window: Window | None
    groups: int = 1


class _Refused(Exception):  # noqa: N818 - it never leaves this module
    """A node that the chain cannot hold: the reason and the cure."""


SEQUENCE = "use a network without branches: the target takes one layer after the other"


def chain(graph: SnnGraph) -> tuple[tuple[Layer, ...], tuple[Unsupported, ...]]:
    """Return the layers of a network, and all that cannot be one. Either is empty."""
    problems: list[Unsupported] = []
    for node in operations(graph):
        readers = graph.consumers[node.name]
        if len(readers) > 1:
            what = f"is read by {len(readers)} nodes"
            problems.append(Unsupported(node.name, node.origin, what, SEQUENCE))
        if reason := _node_problem(graph, node):
            problems.append(Unsupported(node.name, node.origin, *reason))
    if problems:
        return (), tuple(problems)
    layers: list[Layer] = []
    for node in operations(graph):
        if isinstance(node, IntegrateFire | Readout):
            try:
                layers.append(_layer(graph, node))
            except _Refused as refused:
                reason_text, cure = refused.args
                problems.append(Unsupported(node.name, node.origin, reason_text, cure))
    return ((), tuple(problems)) if problems else (tuple(layers), ())


def _node_problem(graph: SnnGraph, node: SnnNode) -> tuple[str, str] | None:
    """Return why a node can be no part of a chain, and the cure."""
    match node:
        case Encode() | Convolution() | Linear():
            return None
        case Reshape() if len(node.shape) == 1 or node.shape == graph[node.inputs[0]].shape:
            return None
        case Reshape():
            return "gives flat values the shape of an image", "let the network begin with an image"
        case SumPool() if value_kinds(graph)[node.inputs[0]] is ValueKind.SPIKES:
            return None
        case SumPool():
            return "averages currents", "put the pooling behind the activation function"
        case IntegrateFire() | Readout():
            return None if len(node.inputs) == 1 else (f"sums {len(node.inputs)} currents", SEQUENCE)
        case _:
            return f"{type(node).__name__} is no layer of this target", _cure(node)


def _cure(node: SnnNode) -> str:
    if "Max" in type(node).__name__:
        return "use average pooling or strides in place of max-pooling"
    return SEQUENCE


def _layer(graph: SnnGraph, neurons: IntegrateFire | Readout) -> Layer:
    """Return the layer that ends in a population, which has one input."""
    synapse = graph[neurons.inputs[0]]
    pools: list[SumPool] = []
    if isinstance(synapse, Reshape) and isinstance(neurons, Readout):
        if synapse.channels != graph[synapse.inputs[0]].channels:
            raise _Refused("a map is read out", "end the network with a global pooling or a dense layer")
        synapse = graph[synapse.inputs[0]]  # what a read-out accumulates may be flattened afterwards
    if isinstance(synapse, Reshape):
        raise _Refused("its currents are reshaped", "flatten before the layer, not behind it")
    before = graph[synapse.inputs[0]]
    while isinstance(before, SumPool | Reshape):
        if isinstance(before, SumPool):
            pools.append(before)
        before = graph[before.inputs[0]]
    match synapse:
        case Convolution():
            return _convolution(graph, neurons, synapse, pools)
        case Linear():
            return _dense(graph, neurons, synapse, pools, before.shape)
        case _:
            raise _Refused("nothing weighs its inputs", SEQUENCE)


def _dense(
    graph: SnnGraph, neurons: IntegrateFire | Readout, node: Linear, pools: list[SumPool], shape: Shape
) -> Layer:
    """Return a dense layer that reads what lies before the pools."""
    weight: IntArray = node.weight.astype(np.int64)
    for pool in pools:
        pooled, source = pool.shape, graph[pool.inputs[0]].shape
        weight = _unpooled(weight.reshape(len(weight), *pooled), pool.window, source).reshape(len(weight), -1)
    _check_weights(weight)
    return Layer(node, neurons, weight, shape, None)


def _unpooled(weight: IntArray, window: Window, source: Shape) -> IntArray:
    """Return weights of pooled values, (outputs, channels, height, width), as weights of what was pooled."""
    top, left, bottom, right = window.pads
    down, across = window.strides
    full = np.zeros((*weight.shape[:2], source[1] + top + bottom, source[2] + left + right), np.int64)
    for y in range(window.kernel[0]):
        for x in range(window.kernel[1]):
            row, column = y * window.dilations[0], x * window.dilations[1]
            rows = slice(row, row + down * (weight.shape[2] - 1) + 1, down)
            columns = slice(column, column + across * (weight.shape[3] - 1) + 1, across)
            full[:, :, rows, columns] += weight
    return full[:, :, top : top + source[1], left : left + source[2]]


def _convolution(
    graph: SnnGraph, neurons: IntegrateFire | Readout, node: Convolution, pools: list[SumPool]
) -> Layer:
    """Return a convolution that reads what lies before the pools."""
    weight, window = _spread(node.weight.astype(np.int64), node.window)
    shape = graph[node.inputs[0]].shape
    for pool in pools:
        shape = graph[pool.inputs[0]].shape
        weight, window = _composed(weight, window, pool, shape)
    weight, window = _symmetric(weight, window)
    _check_weights(weight)
    return Layer(node, neurons, weight, shape, window, node.groups)


def _spread(weight: IntArray, window: Window) -> tuple[IntArray, Window]:
    """Return a dilated kernel as a larger one with zeros between."""
    down, right = window.dilations
    if (down, right) == (1, 1):
        return weight, window
    height, width = (d * (k - 1) + 1 for d, k in zip(window.dilations, window.kernel, strict=True))
    full = np.zeros((*weight.shape[:2], height, width), np.int64)
    full[:, :, ::down, ::right] = weight
    return full, Window((height, width), window.strides, window.pads)


def _composed(weight: IntArray, window: Window, pool: SumPool, source: Shape) -> tuple[IntArray, Window]:
    """Return the kernel over the source of a pool that equals a kernel over its sums."""
    inner = pool.window
    (height, width), (down, right) = inner.kernel, inner.strides
    whole = [(n - 1) * s + k for n, s, k in zip(pool.shape[1:], inner.strides, inner.kernel, strict=True)]
    if any(inner.pads) or inner.dilations != (1, 1):
        raise _Refused("reads sums over padded or dilated windows", "pool without padding")
    if any(window.pads) and (height > down or width > right or whole != list(source[1:])):
        raise _Refused(
            "pads sums over windows that overlap or leave a rest", "pool in whole, separate windows"
        )
    kernel = [s * (k - 1) + p for s, k, p in zip(inner.strides, window.kernel, inner.kernel, strict=True)]
    full = np.zeros((*weight.shape[:2], *kernel), np.int64)
    for y in range(height):
        for x in range(width):
            rows = slice(y, y + down * (window.kernel[0] - 1) + 1, down)
            columns = slice(x, x + right * (window.kernel[1] - 1) + 1, right)
            full[:, :, rows, columns] += weight
    top, left, bottom, far = window.pads
    strides = (window.strides[0] * down, window.strides[1] * right)
    pads = (top * down, left * right, bottom * down, far * right)
    return full, Window((kernel[0], kernel[1]), strides, pads)


def _symmetric(weight: IntArray, window: Window) -> tuple[IntArray, Window]:
    """Return the same with equal padding on both sides."""
    top, left, bottom, right = window.pads
    down, across = max(top, bottom), max(left, right)
    border = ((down - top, down - bottom), (across - left, across - right))
    full = np.pad(weight, ((0, 0), (0, 0), *border))
    return full, Window((full.shape[2], full.shape[3]), window.strides, (down, across, down, across))


def _check_weights(weight: IntArray) -> None:
    largest = int(np.abs(weight).max(initial=0))
    if largest > LARGEST_WEIGHT:
        raise _Refused(f"has weights up to {largest}, beyond 8 bits", "pool in separate windows")
