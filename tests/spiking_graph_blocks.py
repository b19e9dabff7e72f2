"""Arrangements that real networks have: residual sums, shortcuts, pooling, several inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from snnc.ir.geometry import Window
from snnc.ir.neuron import Neuron
from snnc.ir.snn import CountMaxPool, CurrentMaxPool, Gather, Pad, Readout, Reshape, Slice, SnnNode, SumPool
from tests.spiking_graph_builder import Builder

CLASSES = 7

MAP_FROM = 0.85
"""Share of the networks from which on the read-out is a flattened map."""


def more_inputs(build: Builder, x: SnnNode) -> list[SnnNode]:
    """Add one or two inputs beside ``x``: of its height and width, and a vector."""
    beside = build.encode((build.draw(1, 3), *x.shape[1:]))
    return [beside, build.encode((build.draw(3, 8),))] if build.rng.random() < 0.5 else [beside]


def meet(build: Builder, top: SnnNode, x: SnnNode, others: Sequence[SnnNode]) -> SnnNode:
    """Join what an input says with the others: images with each other, a vector as a bias of all."""
    image, *vectors = others
    both = build.concat([x, image])
    if len(top.shape) == 1:
        currents = [build.linear(source, 9) for source in (top, both, *vectors)]
        return build.fire(*currents)
    joined_ = build.fire(build.convolution(both, 4))
    if top.shape[1:] == joined_.shape[1:]:
        top = build.concat([top, joined_])
    else:
        build.read(build.identity(joined_))
    current = build.convolution(top, 4)
    if not vectors:
        return build.fire(current)
    spread = build.linear(vectors[0], prod(current.shape))
    shape = current.shape
    return build.fire(current, build.add(Reshape(name="", inputs=(spread.name,), shape=shape)))


def more_outputs(build: Builder, inner: SnnNode, top: SnnNode) -> None:
    """Add read-outs of an inner value, of a map, or of a current that a read-out already sums."""
    kinds = build.rng.permutation(3)[: build.draw(1, 3)]
    for kind in sorted(kinds):
        if kind == 0:
            build.read(build.identity(inner))
        elif kind == 1 and len(top.shape) == 3:
            build.read(build.convolution(top, build.draw(1, 4)))
        else:
            build.read(build.identity(top), build.identity(top))


def first_layer(build: Builder, x: SnnNode) -> SnnNode:
    current = build.convolution(x, 2 * build.draw(2, 4))
    match build.draw(0, 4):
        case 0:
            current = build.pool(current, CurrentMaxPool, Window((3, 3), (1, 2), (1, 0, 1, 1)))
        case 1:
            current = build.pool(current, SumPool, Window((2, 2), (1, 1), (0, 1, 1, 0)))
        case 2:
            return build.fire(current, build.border(current))
        case _:
            pass
    return build.fire(current)


def arrangement(build: Builder, x: SnnNode, image: SnnNode) -> SnnNode:
    """Add one arrangement, drawn among all that fit."""
    arrangements: tuple[Callable[[Builder, SnnNode], SnnNode], ...] = (
        _plain,
        _grouped,
        _residual,
        _projected,
        _padded_shortcut,
        _bordered,
        _fine_skip,
        _joined,
        _pooled,
        lambda build, y: _with_input(build, y, image),
    )
    return arrangements[build.draw(0, len(arrangements) - 1)](build, x)


def _plain(build: Builder, x: SnnNode) -> SnnNode:
    kernel = int(build.rng.choice([1, 3]))
    return build.fire(build.convolution(x, 2 * build.draw(1, 4), kernel, build.draw(1, 2), build.draw(1, 2)))


def _grouped(build: Builder, x: SnnNode) -> SnnNode:
    groups = x.channels if build.rng.random() < 0.5 else 2
    return build.fire(build.convolution(x, x.channels, groups=groups))


def _residual(build: Builder, x: SnnNode) -> SnnNode:
    inner = build.fire(build.convolution(x, 4))
    return build.fire(build.convolution(inner, x.channels), build.identity(x))


def _projected(build: Builder, x: SnnNode) -> SnnNode:
    channels = 2 * build.draw(2, 4)
    inner = build.fire(build.convolution(x, 4, stride=2))
    return build.fire(build.convolution(inner, channels), build.convolution(x, channels, kernel=1, stride=2))


def _padded_shortcut(build: Builder, x: SnnNode) -> SnnNode:
    main = build.convolution(x, x.channels + 2, stride=2)
    start, stop, step = (0, 0, 0), x.shape, (1, 2, 2)
    shape = (x.channels, *main.shape[1:])
    short = build.add(Slice(name="", inputs=(x.name,), shape=shape, start=start, stop=stop, step=step))
    before, after = (1, 0, 0), (1, 0, 0)
    short = build.add(Pad(name="", inputs=(short.name,), shape=main.shape, before=before, after=after))
    return build.fire(main, build.identity(short))


def _bordered(build: Builder, x: SnnNode) -> SnnNode:
    """Give the border of a convolution another bias than its inside."""
    current = build.convolution(x, x.channels)
    return build.fire(current, build.border(current))


def _fine_skip(build: Builder, x: SnnNode) -> SnnNode:
    current = build.convolution(x, x.channels)
    coarse, fine = build.fire(current), build.fire(current, neuron=Neuron(levels=4))
    return build.fire(build.convolution(coarse, x.channels), build.identity(fine))


def _joined(build: Builder, x: SnnNode) -> SnnNode:
    parts = [build.fire(build.convolution(x, 2 * build.draw(1, 2))) for _ in range(2)]
    return build.concat([*parts, x])


def _pooled(build: Builder, x: SnnNode) -> SnnNode:
    size = (min(2, x.shape[1]), min(2, x.shape[2]))
    match build.draw(0, 2):
        case 0:
            return build.pool(x, CountMaxPool, Window(size, (1, 1), (size[0] - 1, 0, 0, size[1] - 1)))
        case 1:
            return build.fire(build.convolution(build.pool(x, SumPool, Window(size, size)), x.channels))
        case _:
            return build.fire(build.pool(build.convolution(x, x.channels), SumPool, Window(size, size)))


def route(build: Builder, x: SnnNode) -> SnnNode:
    """Move spikes or currents by an index map: shuffled, repeated and spread, evenly or at random."""
    channels, height, width = x.shape
    places = np.arange(prod(x.shape), dtype=np.int32).reshape(x.shape)
    match build.draw(0, 3):
        case 0:  # pixel shuffle, whose channels are rows and columns
            places = places[: channels // 2 * 2].reshape(-1, 2, height, width)
            places = places.transpose(0, 2, 1, 3).reshape(len(places), 2 * height, width)
            y = build.add(Gather(name="", inputs=(x.name,), shape=places.shape, index=places))
        case 1:  # mirrored, and spread with zeros between
            spread = np.full((channels, 2 * height - 1, width + 1), -1, np.int32)
            spread[:, ::2, 1:] = places[:, :, ::-1]
            y = build.add(Gather(name="", inputs=(x.name,), shape=spread.shape, index=spread))
        case 2:
            shape = (build.draw(1, 6), build.draw(1, 4), build.draw(1, 5))
            index = build.rng.integers(-1, places.size, shape).astype(np.int32)
            y = build.add(Gather(name="", inputs=(x.name,), shape=shape, index=index))
        case _:
            current = build.convolution(x, 4)
            turned = np.arange(prod(current.shape), dtype=np.int32).reshape(2, 2, *current.shape[1:])
            turned = turned.transpose(0, 2, 3, 1).reshape(2, height, 2 * width)
            moved = Gather(name="", inputs=(current.name,), shape=turned.shape, index=turned)
            return build.fire(build.add(moved))
    return build.fire(build.convolution(y, 2 * build.draw(1, 3)))


def _with_input(build: Builder, x: SnnNode, image: SnnNode) -> SnnNode:
    """Let a later layer read the analogue input beside spikes."""
    if image.shape[1:] != x.shape[1:]:
        return _plain(build, x)
    return build.fire(build.convolution(build.concat([image, x]), x.channels))


def _flat(build: Builder, x: SnnNode) -> SnnNode:
    return build.add(Reshape(name="", inputs=(x.name,), shape=(prod(x.shape),)))


def classify(build: Builder, x: SnnNode) -> SnnNode:
    kind = build.rng.random() if len(x.shape) == 3 else 0.0
    if kind > MAP_FROM:
        y = _flat(build, build.convolution(x, build.draw(1, 2)))
    else:
        if len(x.shape) == 3 and kind < 0.5:
            size = (x.shape[1], x.shape[2])
            x = build.pool(x, SumPool, Window(size, size))
        y = build.linear(_flat(build, x) if len(x.shape) == 3 else x, CLASSES)
    bias = np.rint(build.rng.normal(size=y.channels) * 20).astype(np.int32)
    scale = float(build.rng.uniform(0.001, 0.1))
    return build.add(Readout(name="", inputs=(y.name,), shape=y.shape, bias=bias, scale=scale))
