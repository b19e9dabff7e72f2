"""Arrangements of functions of spike counts, as real networks have them, for random spiking networks.

Their integers are chosen from simulated counts, so that what they give is neither constant nor clipped
everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from snnc.ir.graph import FloatArray, IntArray, Shape
from snnc.ir.neuron import Neuron
from snnc.ir.snn import (
    CountMatrixProduct,
    CountMaximum,
    CountNormalisation,
    CountProduct,
    CountSoftmax,
    Gather,
    IntegrateFire,
    Reshape,
    SnnNode,
)
from tests.spiking_graph_builder import Builder


def add_functions(builder: Builder, x: SnnNode) -> SnnNode:
    """Add an arrangement of functions behind spikes, drawn among all that fit; it gives spikes."""
    made = Functions(builder)
    if len(x.shape) == 1:
        blocks: tuple[Callable[[SnnNode], SnnNode], ...] = (made.gated_vector, made.normalised, made.square)
    else:
        blocks = (
            *(made.gated, made.attention, made.heads, made.windows, made.normalised, made.square),
            *(made.softmax_of_maps, made.highest),
        )
    return blocks[builder.draw(0, len(blocks) - 1)](x)


class Functions:
    """Adds functions to the network of a builder."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder

    def unit(self, channels: int) -> FloatArray | None:
        """Return what the counts of each channel stand for, where that is told."""
        rng = self.builder.rng
        if rng.random() < 0.3:
            return None
        return (rng.choice([-1, 1]) * rng.uniform(0.01, 2, channels)).astype(np.float32)

    def counts(self, node: SnnNode) -> IntArray:
        """Return the largest magnitude that the counts of a node reach on the probes."""
        return np.cumsum(self.builder.trains[node.name].astype(np.int64), axis=0)

    def signed(self, *currents: SnnNode) -> SnnNode:
        """Add a population that follows a random step function, of negative levels, too."""
        builder = self.builder
        total = np.add.reduce([builder.trains[node.name] for node in currents]).astype(np.int64)
        sums = np.cumsum(total, axis=0)
        channels, n = currents[0].channels, int(builder.rng.choice([2, 6, 15, 63]))
        rows = channels if builder.rng.random() < 0.5 else 1
        points = builder.rng.choice(sums.ravel(), (rows, n)) + builder.rng.integers(-2, 3, (rows, n))
        points = np.sort(points, axis=1)
        values = np.arange(n + 1) - builder.draw(0, n)
        if builder.rng.random() < 0.3:
            values = builder.rng.permutation(values)
        furthest = int(np.abs(values).max())
        limit = None if builder.rng.random() < 0.7 else 1
        ones = np.ones(channels, np.int32)
        return builder.add(
            IntegrateFire(
                name="",
                inputs=tuple(node.name for node in currents),
                shape=currents[0].shape,
                threshold=ones,
                bias=builder.rng.integers(-3, 4, channels).astype(np.int32),
                v_init=ones,
                spike_scale=builder.rng.uniform(0.1, 2, channels).astype(np.float32),
                neuron=Neuron(levels=-(-furthest // builder.timesteps), spikes_per_step=limit),
                breakpoints=points.astype(np.int32),
                step_values=values.astype(np.int32),
            )
        )

    def requantiser(self, total: IntArray) -> dict[str, Any]:
        """Return a requantiser that brings sums up to that of the probes to a few levels."""
        rng = self.builder.rng
        levels = int(rng.choice([7, 15, 100, 255]))
        most = int(np.abs(total).max()) + 1
        shift = int(rng.choice([8, 16, 24]))
        multiplier = max(1, min(int(levels / most * 2**shift * rng.uniform(0.7, 1.5)), 2**24))
        if multiplier == 1:  # so few bits that the sum is divided by a power of two
            shift = max(0, int(np.log2(most / levels)))
        return {
            "multiplier": multiplier,
            "shift": shift,
            "lowest": -int(rng.choice([0, 3, levels])),
            "highest": levels,
        }

    def product(self, a: SnnNode, b: SnnNode) -> SnnNode:
        shape = tuple(map(max, a.shape, b.shape))
        settings = self.requantiser(self.counts(a) * self.counts(b))
        return self.builder.add(
            CountProduct(name="", inputs=(a.name, b.name), shape=shape, unit=self.unit(shape[0]), **settings)
        )

    def matrix(self, a: SnnNode, b: SnnNode, transposed: bool) -> SnnNode:
        second = self.counts(b).swapaxes(-1, -2) if transposed else self.counts(b)
        total = self.counts(a) @ second
        return self.builder.add(
            CountMatrixProduct(
                unit=self.unit(total.shape[2]),
                name="",
                inputs=(a.name, b.name),
                shape=total.shape[2:],
                transposed=transposed,
                **self.requantiser(total),
            )
        )

    def softmax(self, x: SnnNode, axis: int) -> SnnNode:
        rng = self.builder.rng
        size, bits = int(rng.choice([2, 4, 40, 300])), int(rng.choice([4, 12, 24]))
        spread = self.counts(x)[-1].std() + 0.5
        table = np.rint(2.0**bits * np.exp(-np.arange(size) / spread * rng.uniform(0.3, 2)))
        return self.builder.add(
            CountSoftmax(
                unit=self.unit(x.shape[0]),
                name="",
                inputs=(x.name,),
                shape=x.shape,
                axis=axis,
                table=table.astype(np.int32),
                levels=int(rng.choice([7, 63, 255, 2000])),
            )
        )

    def normalise(self, x: SnnNode, axes: Shape, centred: bool | None = None) -> SnnNode:
        rng = self.builder.rng
        centred = bool(rng.random() < 0.6) if centred is None else centred
        levels = int(rng.choice([7, 31, 127]))
        return self.builder.add(
            CountNormalisation(
                unit=self.unit(x.shape[0]),
                name="",
                inputs=(x.name,),
                shape=x.shape,
                axes=axes,
                epsilon=int(rng.choice([1, 50, 1000])),
                factor=int(256 * levels / rng.uniform(1, 5)),
                lowest=-levels,
                highest=levels,
                centred=centred,
            )
        )

    def maximum(self, x: SnnNode, axes: Shape) -> SnnNode:
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
        return self.builder.add(
            CountMaximum(name="", inputs=(x.name,), shape=shape, axes=axes, unit=self.unit(shape[0]))
        )

    def reshaped(self, x: SnnNode, shape: Shape) -> SnnNode:
        return self.builder.add(Reshape(name="", inputs=(x.name,), shape=shape))

    def axes(self, rank: int) -> Shape:
        """Draw some axes."""
        chosen = [axis for axis in range(rank) if self.builder.rng.random() < 0.5]
        return tuple(chosen) or (self.builder.draw(0, rank - 1),)

    def gated(self, x: SnnNode) -> SnnNode:
        """Squeeze and excitation: a map times one number per channel, or per position."""
        if self.builder.rng.random() < 0.3:
            return self.product(self.maximum(x, (0,)), x)
        squeezed = self.maximum(x, (1, 2))
        gate = self.signed(self.builder.convolution(squeezed, x.channels, kernel=1))
        return self.product(x, gate)

    def gated_vector(self, x: SnnNode) -> SnnNode:
        """A gate of a recurrent cell."""
        size = self.builder.draw(3, 40)
        a, b = (self.signed(self.builder.linear(x, size)) for _ in range(2))
        return self.product(a, b)

    def square(self, x: SnnNode) -> SnnNode:
        return self.product(x, x)

    def softmax_of_maps(self, x: SnnNode) -> SnnNode:
        return self.softmax(x, self.builder.draw(0, len(x.shape) - 1))

    def normalised(self, x: SnnNode) -> SnnNode:
        current = self.builder.linear(x, 21) if len(x.shape) == 1 else self.builder.convolution(x, 5)
        return self.normalise(self.signed(current), self.axes(len(x.shape)))

    def highest(self, x: SnnNode) -> SnnNode:
        low = self.maximum(x, self.axes(len(x.shape)))
        return self.product(low, self.normalise(x, (0,)))

    def tokens(self, x: SnnNode, channels: int) -> SnnNode:
        """Add a population that depends on ``x`` and gives one row for each channel, (channels, places)."""
        made = self.signed(self.builder.convolution(x, channels, kernel=1))
        return self.reshaped(made, (channels, prod(x.shape[1:])))

    def attention(self, x: SnnNode) -> SnnNode:
        """Let channels attend to channels: queries, keys and values of two axes."""
        q, k, v = self.tokens(x, 3), self.tokens(x, 5), self.tokens(x, 5)
        p = self.softmax(self.matrix(q, k, True), 1)
        y = self.matrix(p, v, False)
        return self.reshaped(y, (y.shape[0], *x.shape[1:]))

    def heads(self, x: SnnNode) -> SnnNode:
        """Let positions attend to positions, in two heads; the rows are turned by index maps."""
        height, width = x.shape[1:]
        places, wide = height * width, 2 * self.builder.draw(2, 4)
        made = self.signed(self.builder.convolution(x, 2 * wide, kernel=1))
        index = np.arange(prod(made.shape), dtype=np.int32).reshape(2, 2, wide // 2, places)
        rows, columns = index[0].swapaxes(1, 2), index[1]
        q, k = (
            self.builder.add(
                Gather(name="", inputs=(made.name,), shape=part.shape, index=np.ascontiguousarray(part))
            )
            for part in (rows, columns)
        )
        p = self.softmax(self.matrix(q, k, False), 2)  # (2, places, places)
        y = self.matrix(p, q, False)  # (2, places, wide / 2)
        back = np.arange(prod(y.shape), dtype=np.int32).reshape(y.shape).swapaxes(1, 2)
        back = np.ascontiguousarray(back.reshape(wide, height, width))
        return self.builder.add(Gather(name="", inputs=(y.name,), shape=back.shape, index=back))

    def windows(self, x: SnnNode) -> SnnNode:
        """Values of four axes: groups that are normalised, multiplied and joined again."""
        made = self.signed(self.builder.convolution(x, 6, kernel=1))
        groups = self.reshaped(made, (2, 3, *x.shape[1:]))
        normal = self.normalise(groups, (1, 2, 3) if self.builder.rng.random() < 0.5 else (2, 3))
        spread = self.product(normal, self.maximum(groups, (1, 3)))
        square = self.matrix(spread, groups, True)
        y = self.matrix(square, self.softmax(groups, self.builder.draw(0, 3)), False)
        return self.reshaped(y, made.shape)
