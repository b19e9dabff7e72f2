"""Small networks of unusual geometry, which random ones do not reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np

from snnc.backends.fpga.layout import Sizes
from snnc.ir.geometry import Window
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import (
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
)
from tests.spiking_graph_builder import Builder

SAME = Window((3, 3), pads=(1, 1, 1, 1))
POINT = Window((1, 1))


def _builder(timesteps: int) -> Builder:
    return Builder(np.random.default_rng(3), timesteps, Schedule.SYNCHRONOUS, None, False)


def _convolution(builder: Builder, x: SnnNode, channels: int, window: Window, groups: int = 1) -> SnnNode:
    shape = (channels, *window.output_size(*x.shape[1:]))
    weight = builder.weights((channels, x.channels // groups, *window.kernel))
    return builder.add(
        Convolution(name="", inputs=(x.name,), shape=shape, weight=weight, window=window, groups=groups)
    )


def _flat(builder: Builder, x: SnnNode) -> SnnNode:
    return builder.add(Reshape(name="", inputs=(x.name,), shape=(prod(x.shape),)))


def large_kernels() -> SnnGraph:
    """Kernels larger than the map, strides larger than the kernel, pads of all sizes, odd channels."""
    b = _builder(3)
    x = b.encode((3, 5, 7))
    top = b.fire(_convolution(b, x, 5, Window((3, 5), (2, 3), (0, 2, 1, 1))))
    top = b.fire(_convolution(b, top, 7, Window((5, 7), pads=(3, 4, 3, 3))))
    top = b.fire(_convolution(b, top, 9, Window((1, 1), (3, 2))))
    b.read(b.linear(_flat(b, top), 3))
    return b.proved(3, 2)


def one_pixel() -> SnnGraph:
    """Maps of one pixel in one step: grouped, depthwise, and beside an identity."""
    b = _builder(1)
    first = b.fire(_convolution(b, b.encode((5, 1, 1)), 6, SAME))
    second = b.fire(_convolution(b, first, 6, POINT, 3))
    top = b.fire(_convolution(b, second, 6, SAME, 6), b.identity(second))
    b.read(b.linear(_flat(b, top), 3))
    return b.proved(3, 1)


def joined_scales() -> SnnGraph:
    """A join of an input and of populations of other settings, one of them twice, pooled in three ways."""
    b = _builder(4)
    x = b.encode((3, 6, 6))
    graded = b.fire(_convolution(b, x, 5, SAME), neuron=Neuron(levels=3, spikes_per_step=None))
    plain = b.fire(_convolution(b, x, 3, SAME), neuron=Neuron(count_memory=False))
    both = b.concat([graded, x, plain, graded])
    window = Window((2, 3), (2, 2), (1, 0, 0, 1))
    sums = b.pool(both, SumPool, window)
    highest = b.pool(both, CountMaxPool, window)
    current = b.pool(_convolution(b, both, 5, POINT), SumPool, window)
    top = b.fire(_convolution(b, sums, 5, POINT), _convolution(b, highest, 5, POINT), current)
    b.read(b.linear(_flat(b, top), 5), b.linear(_flat(b, sums), 5))
    b.read(_convolution(b, graded, 2, Window((3, 3))))
    b.read(b.linear(_flat(b, both), 2))
    return b.proved(3, 2)


def zero_weights() -> SnnGraph:
    """Weights that are all zero, read by several, one of them twice."""
    b = _builder(4)
    first = b.fire(_convolution(b, b.encode((3, 4, 4)), 5, Window((3, 3))))
    made = _convolution(b, first, 5, POINT)
    silent = b.add(made.with_(weight=np.zeros((5, 5, 1, 1), np.int8)))
    second, third = b.fire(silent, silent, b.identity(first)), b.fire(silent)
    b.read(b.linear(_flat(b, second), 5), b.linear(_flat(b, third), 5))
    return b.proved(3, 2)


def many_levels() -> SnnGraph:
    """Many levels and many spikes a step, behind a maximum of currents."""
    b = _builder(3)
    x = b.encode((2, 5, 5))
    highest = b.pool(_convolution(b, x, 5, SAME), CurrentMaxPool, Window((3, 3), (2, 2), (1, 1, 1, 1)))
    top = b.fire(highest, _convolution(b, x, 5, Window((1, 1), (2, 2))), neuron=Neuron(levels=255))
    top = b.fire(
        _convolution(b, top, 5, SAME), b.identity(top), neuron=Neuron(levels=200, spikes_per_step=None)
    )
    top = b.fire(_convolution(b, top, 5, Window((2, 2))), neuron=Neuron(spikes_per_step=700))
    b.read(b.linear(_flat(b, top), 5))
    return b.proved(3, 1)


def small_perceptron() -> SnnGraph:
    """Two layers, for a netlist that is quickly made."""
    b = _builder(3)
    b.read(b.linear(b.fire(b.linear(b.encode((6,)), 5)), 3))
    return b.proved(3, 2)


def small_steps(levels: int, furthest: int = 3) -> SnnGraph:
    """Return a network of tiny potentials, with a step function whose counts go far up and down."""
    one = np.ones(1, np.int32)
    nodes = (
        Encode(name="x", shape=(1,), scale=1.0, limit=1),
        Linear(name="w", inputs=("x",), shape=(1,), weight=np.ones((1, 1), np.int8)),
        IntegrateFire(
            name="p",
            inputs=("w",),
            shape=(1,),
            threshold=one,
            bias=0 * one,
            v_init=0 * one,
            spike_scale=one.astype(np.float32),
            neuron=Neuron(levels=levels, spikes_per_step=None),
            breakpoints=np.array([[0, 1, 2]], np.int32),
            step_values=np.array([0, -furthest, furthest, -furthest], np.int32),
        ),
        Linear(name="v", inputs=("p",), shape=(1,), weight=np.zeros((1, 1), np.int8)),
        Readout(name="y", inputs=("v",), shape=(1,), bias=0 * one),
    )
    graph = SnnGraph(name="steps", nodes=nodes, outputs=("y",), timesteps=4, max_timesteps=4)
    graph.verify()
    return graph


def wide_perceptron() -> SnnGraph:
    """44 kB of weights, and little else."""
    b = _builder(3)
    top = b.fire(b.linear(b.fire(b.linear(b.encode((64,)), 128)), 256))
    b.read(b.linear(top, 10))
    return b.proved(3, 2)


UNUSUAL: tuple[Callable[[], SnnGraph], ...] = (
    large_kernels,
    one_pixel,
    joined_scales,
    zero_weights,
    many_levels,
)

ROOM = Sizes(
    lanes=4,
    spike=12,
    input=12,
    potential=32,
    count=14,
    address=16,
    program=16384,
    weights=16384,
    heads=8192,
    rows=8192,
    columns=8192,
    parameters=16384,
    potentials=4096,
    counts=2048,
    spikes=32768,
    inputs=4096,
    steps=1,
    maxima=1,
)
"""A core on which all networks of these tests run, so that Verilator compiles once."""

FETCHED = replace(ROOM, weights=512, external=8192)
"""A core that keeps 512 words of weights, and fetches them from 4,096 others."""
