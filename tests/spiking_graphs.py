"""Small, lively spiking networks and inputs for tests, made from a seed.

The networks hold every operation of the spiking dialect in the arrangements that real networks
have: plain, grouped, strided and dilated convolutions, residual sums with identity, projected and
padded shortcuts, concatenation, pooling of spikes, currents and counts, fine skips, several inputs that
meet, and several outputs: vectors, maps, and what populations send themselves. Thresholds
are chosen from simulated currents, so that neurons fire often but not always: two simulators that
agree on silence have shown nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
from hypothesis import strategies as st

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
    Weighted,
)
from snnc.simulation.protocol import RecordOptions, Trace
from snnc.simulation.reference import ReferenceSimulator
from tests.function_blocks import Functions, add_functions

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

CLASSES = 7
PROBES = 12


MAP_FROM = 0.85
"""Share of the networks from which on the read-out is a flattened map."""


def random_graph(
    seed: int,
    *,
    timesteps: int = 4,
    settle_steps: int = 0,
    schedule: Schedule = Schedule.SYNCHRONOUS,
    neuron: Neuron | None = None,
    negative: bool = False,
    blocks: int = 3,
    flat: bool = False,
    routed: bool = False,
    several: bool = False,
    functions: int = 0,
) -> SnnGraph:
    """Return a small integer network whose bounds are proved; it passes its own verification.

    Args:
        seed: everything random follows from it.
        timesteps: T, for which the thresholds are chosen.
        settle_steps: K.
        schedule: when populations fire.
        neuron: settings of every population; ``None`` draws others for each.
        negative: whether populations that can have a negative threshold get one.
        blocks: arrangements between the first layer and the classifier.
        flat: a perceptron in place of a convolutional network.
        routed: whether an index map comes behind the arrangements.
        several: several inputs and outputs.
        functions: arrangements of functions of counts behind the others; it then runs for its T alone.
    """
    builder = Builder(np.random.default_rng(seed), timesteps, schedule, neuron, negative)
    x = builder.encode((11,) if flat else (builder.draw(1, 3), builder.draw(6, 9), builder.draw(6, 9)))
    others = builder.more_inputs(x) if several else []
    top = builder.fire(builder.linear(x, 9)) if flat else builder.first_layer(x)
    if others:
        top = builder.meet(top, x, others)
    inner = top
    for _ in range(blocks):
        top = builder.fire(builder.linear(top, builder.draw(5, 12))) if flat else builder.block(top, x)
    for number in range(functions):
        top = add_functions(builder, top)
        if number % 2 == 0:
            top = builder.fire(builder.linear(top, 9) if flat else builder.convolution(top, 4))
    if several:
        builder.more_outputs(inner, top)
    builder.classify(builder.routed(top) if routed and not flat else top)
    return builder.proved(seed, settle_steps)


def with_every_function(seed: int = 0) -> SnnGraph:
    """Return a small integer network that has every function of counts, in every form."""
    builder = Builder(np.random.default_rng(seed), 4, Schedule.SYNCHRONOUS, None, False)
    top = builder.fire(builder.convolution(builder.encode((2, 5, 6)), 4))
    functions = Functions(builder)
    for block in (functions.gated, functions.heads, functions.attention, functions.windows):
        top = block(top)
    for centred in (True, False):
        top = functions.normalise(top, (0, 2), centred)
    builder.classify(functions.square(functions.softmax_of_maps(top)))
    return builder.proved(seed)


def wide_graph(seed: int, *, neuron: Neuron | None = None) -> SnnGraph:
    """Return a small integer network with many channels: more than fit into any one vector or list."""
    builder = Builder(np.random.default_rng(seed), 4, Schedule.SYNCHRONOUS, neuron, False)
    top = builder.fire(builder.convolution(builder.encode((2, 7, 8)), 70))
    top = builder.fire(builder.convolution(top, 35))
    top = builder.fire(
        builder.convolution(top, 48, stride=3, dilation=2), builder.convolution(top, 48, stride=3)
    )
    top = builder.fire(builder.convolution(top, 34, groups=2))
    builder.classify(top)
    return builder.proved(seed)


def side_by_side(
    seed: int, channels: Sequence[int], neuron: Neuron, schedule: Schedule, *, negative: bool = False
) -> SnnGraph:
    """Return a small integer network with two populations in turn for each number of channels."""
    builder = Builder(np.random.default_rng(seed), 4, schedule, neuron, negative)
    image = builder.encode((2, 2, 3))
    tops = []
    for count in channels:
        first = builder.fire(builder.convolution(image, count))
        tops.append(builder.fire(builder.convolution(first, count, kernel=1)))
    joined = builder.concat(tops)
    builder.classify(builder.add(Reshape(name="", inputs=(joined.name,), shape=(prod(joined.shape),))))
    return builder.proved(seed)


def with_large_thresholds(graph: SnnGraph, seed: int) -> SnnGraph:
    """Return a network of one step whose thresholds lie beyond 2^29, with biases such that inputs matter."""
    rng = np.random.default_rng(seed)

    def enlarge(node: IntegrateFire) -> IntegrateFire:
        threshold = rng.integers(2**29 + 1, 2**29 + 10**8, node.channels)
        start = threshold // 2
        bias = rng.integers(1, 3, node.channels) * threshold - start - rng.integers(-9, 9, node.channels)
        return node.with_(
            threshold=threshold.astype(np.int32), v_init=start.astype(np.int32), bias=bias.astype(np.int32)
        )

    graph = replace(graph.map(IntegrateFire, enlarge), timesteps=1, max_timesteps=1)
    graph.verify()
    return graph


def with_step_functions(graph: SnnGraph, seed: int, share: float = 0.6) -> SnnGraph:
    """Return a network some of whose populations send the change of a random step function."""
    rng = np.random.default_rng(seed)

    def stepped(node: IntegrateFire) -> IntegrateFire:
        if rng.random() > share:
            return node
        n = int(rng.choice([1, 2, 7, 31, 255]))
        reach = int(node.threshold.max()) * (node.neuron.capacity(graph.timesteps) + 1)
        rows = node.channels if rng.random() < 0.7 else 1
        points = np.sort(rng.integers(-reach // 3 - 1, reach + 1, (rows, n)), axis=1)
        rising = np.arange(-(n // 3), n - n // 3 + 1)
        values = rising if rng.random() < 0.5 else rng.integers(-4, 9, n + 1)
        span = max(int(values.max()), 0) - min(int(values.min()), 0)
        spikes = None if rng.random() < 0.5 else int(rng.integers(1, 3))
        known = rng.random() < 0.7
        unit, zero = rng.uniform(0.01, 1, node.channels), rng.normal(size=node.channels)
        return node.with_(
            neuron=Neuron(levels=max(1, -(-span // graph.timesteps)), spikes_per_step=spikes),
            negative_threshold=None,
            breakpoints=points.astype(np.int32),
            step_values=values.astype(np.int32),
            potential_unit=unit.astype(np.float32) if known else None,
            potential_zero=zero.astype(np.float32) if known else None,
        )

    stepping = replace(graph.map(IntegrateFire, stepped), max_timesteps=0)
    proved = provable_timesteps(stepping, at_most=max(64, graph.timesteps))
    stepping = replace(stepping, max_timesteps=proved)
    stepping.verify()
    return stepping


def random_inputs(graph: SnnGraph, batch: int, seed: int) -> Rows:
    """Return distinct, structured inputs ``q``, (batch, *input shape) int32: blots of several sizes."""
    return _all_inputs(graph.encoders, batch, seed)


def as_float(graph: SnnGraph, unit: float = 1 / 64) -> SnnGraph:
    """Return the network before quantisation: every current, threshold and bias times ``unit``.

    With a power of two, float32 arithmetic stays exact and the spikes are those of ``graph``.
    """

    def scaled(values: NumberArray) -> NumberArray:
        return values.astype(np.float32) * np.float32(unit)

    def convert(node: SnnNode) -> SnnNode:
        match node:
            case Weighted():
                return node.with_(weight=scaled(node.weight))
            case ConstantCurrent():
                return node.with_(values=scaled(node.values))
            case IntegrateFire():
                low = node.negative_threshold
                return node.with_(
                    threshold=scaled(node.threshold),
                    bias=scaled(node.bias),
                    v_init=scaled(node.v_init),
                    negative_threshold=None if low is None else scaled(low),
                )
            case Readout():
                return node.with_(bias=scaled(node.bias), scale=node.scale / unit)
            case _:
                return node

    return SnnGraph(
        name=graph.name,
        nodes=tuple(map(convert, graph)),
        outputs=graph.outputs,
        output_names=graph.output_names,
        timesteps=graph.timesteps,
        settle_steps=graph.settle_steps,
        schedule=graph.schedule,
    )


def assert_same_outputs(found: Trace, expected: Trace) -> None:
    """Compare every output of two runs, down to the types, shapes and order."""
    assert list(found.outputs) == list(expected.outputs)
    for name, y in expected.outputs.items():
        assert (found.outputs[name].dtype, found.outputs[name].shape) == (y.dtype, y.shape)
        np.testing.assert_array_equal(found.outputs[name], y, err_msg=name)


@st.composite
def graphs(draw: st.DrawFn, functions: Sequence[int] = (0, 0, 0, 1, 2)) -> SnnGraph:
    """Draw a random network: seed, size, schedule, K, neurons and number of functions of counts.

    With functions it runs for its own T alone, and in integers alone.
    """
    schedule = draw(st.sampled_from(Schedule))
    return random_graph(
        draw(st.integers(0, 2**20)),
        timesteps=draw(st.sampled_from((1, 2, 4, 8))),
        settle_steps=draw(st.integers(0, 3)) if schedule is Schedule.SYNCHRONOUS else 0,
        schedule=schedule,
        neuron=draw(st.sampled_from((None, *NEURONS))),
        negative=draw(st.booleans()),
        blocks=draw(st.integers(0, 3)),
        flat=draw(st.sampled_from((False, False, False, True))),
        routed=draw(st.booleans()),
        several=draw(st.booleans()),
        functions=draw(st.sampled_from(functions)),
    )


def plain_graphs() -> st.SearchStrategy[SnnGraph]:
    """Draw a random network without functions: it runs for any T, and before quantisation."""
    return graphs(functions=(0,))


@st.composite
def stepping_graphs(draw: st.DrawFn) -> SnnGraph:
    """Draw a random network with step functions, of negative levels, too: it runs for its own T alone."""
    return with_step_functions(draw(plain_graphs()), draw(st.integers(0, 2**20)))


@st.composite
def counting_graphs(draw: st.DrawFn) -> SnnGraph:
    """Draw a random network with functions of counts: it runs for its own T alone."""
    return draw(graphs(functions=(1, 2, 3)))


def _all_inputs(encoders: Sequence[Encode], batch: int, seed: int) -> Rows:
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
            _all_inputs([node for node in self.nodes if isinstance(node, Encode)], PROBES, 1),
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

    def more_inputs(self, x: SnnNode) -> list[SnnNode]:
        """Add one or two inputs beside ``x``: of its height and width, and a vector."""
        beside = self.encode((self.draw(1, 3), *x.shape[1:]))
        return [beside, self.encode((self.draw(3, 8),))] if self.rng.random() < 0.5 else [beside]

    def meet(self, top: SnnNode, x: SnnNode, others: Sequence[SnnNode]) -> SnnNode:
        """Join what an input says with the others: images with each other, a vector as a bias of all."""
        image, *vectors = others
        both = self.concat([x, image])
        if len(top.shape) == 1:
            currents = [self.linear(source, 9) for source in (top, both, *vectors)]
            return self.fire(*currents)
        joined_ = self.fire(self.convolution(both, 4))
        if top.shape[1:] == joined_.shape[1:]:
            top = self.concat([top, joined_])
        else:
            self.read(self.identity(joined_))
        current = self.convolution(top, 4)
        if not vectors:
            return self.fire(current)
        spread = self.linear(vectors[0], prod(current.shape))
        shape = current.shape
        return self.fire(current, self.add(Reshape(name="", inputs=(spread.name,), shape=shape)))

    def more_outputs(self, inner: SnnNode, top: SnnNode) -> None:
        """Add read-outs of an inner value, of a map, or of a current that a read-out already sums."""
        kinds = self.rng.permutation(3)[: self.draw(1, 3)]
        for kind in sorted(kinds):
            if kind == 0:
                self.read(self.identity(inner))
            elif kind == 1 and len(top.shape) == 3:
                self.read(self.convolution(top, self.draw(1, 4)))
            else:
                self.read(self.identity(top), self.identity(top))

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

    def first_layer(self, x: SnnNode) -> SnnNode:
        current = self.convolution(x, 2 * self.draw(2, 4))
        match self.draw(0, 4):
            case 0:
                current = self.pool(current, CurrentMaxPool, Window((3, 3), (1, 2), (1, 0, 1, 1)))
            case 1:
                current = self.pool(current, SumPool, Window((2, 2), (1, 1), (0, 1, 1, 0)))
            case 2:
                return self.fire(current, self.border(current))
            case _:
                pass
        return self.fire(current)

    def block(self, x: SnnNode, image: SnnNode) -> SnnNode:
        """Add one arrangement, drawn among all that fit."""
        arrangements = (
            self._plain,
            self._grouped,
            self._residual,
            self._projected,
            self._padded_shortcut,
            self._bordered,
            self._fine_skip,
            self._joined,
            self._pooled,
            lambda y: self._with_input(y, image),
        )
        return arrangements[self.draw(0, len(arrangements) - 1)](x)

    def _plain(self, x: SnnNode) -> SnnNode:
        kernel = int(self.rng.choice([1, 3]))
        return self.fire(self.convolution(x, 2 * self.draw(1, 4), kernel, self.draw(1, 2), self.draw(1, 2)))

    def _grouped(self, x: SnnNode) -> SnnNode:
        groups = x.channels if self.rng.random() < 0.5 else 2
        return self.fire(self.convolution(x, x.channels, groups=groups))

    def _residual(self, x: SnnNode) -> SnnNode:
        inner = self.fire(self.convolution(x, 4))
        return self.fire(self.convolution(inner, x.channels), self.identity(x))

    def _projected(self, x: SnnNode) -> SnnNode:
        channels = 2 * self.draw(2, 4)
        inner = self.fire(self.convolution(x, 4, stride=2))
        return self.fire(self.convolution(inner, channels), self.convolution(x, channels, kernel=1, stride=2))

    def _padded_shortcut(self, x: SnnNode) -> SnnNode:
        main = self.convolution(x, x.channels + 2, stride=2)
        start, stop, step = (0, 0, 0), x.shape, (1, 2, 2)
        shape = (x.channels, *main.shape[1:])
        short = self.add(Slice(name="", inputs=(x.name,), shape=shape, start=start, stop=stop, step=step))
        before, after = (1, 0, 0), (1, 0, 0)
        short = self.add(Pad(name="", inputs=(short.name,), shape=main.shape, before=before, after=after))
        return self.fire(main, self.identity(short))

    def _bordered(self, x: SnnNode) -> SnnNode:
        """Give the border of a convolution another bias than its inside."""
        current = self.convolution(x, x.channels)
        return self.fire(current, self.border(current))

    def border(self, current: SnnNode) -> SnnNode:
        values = self.rng.normal(size=current.shape) * self.trains[current.name].std()
        values[:, 1:-1, 1:-1] = 0
        values = np.rint(values).astype(np.int32)
        return self.add(ConstantCurrent(name="", shape=current.shape, values=values))

    def _fine_skip(self, x: SnnNode) -> SnnNode:
        current = self.convolution(x, x.channels)
        coarse, fine = self.fire(current), self.fire(current, neuron=Neuron(levels=4))
        return self.fire(self.convolution(coarse, x.channels), self.identity(fine))

    def _joined(self, x: SnnNode) -> SnnNode:
        parts = [self.fire(self.convolution(x, 2 * self.draw(1, 2))) for _ in range(2)]
        return self.concat([*parts, x])

    def concat(self, parts: Sequence[SnnNode]) -> SnnNode:
        shape = (sum(part.channels for part in parts), *parts[0].shape[1:])
        return self.add(Concat(name="", inputs=tuple(part.name for part in parts), shape=shape))

    def _pooled(self, x: SnnNode) -> SnnNode:
        size = (min(2, x.shape[1]), min(2, x.shape[2]))
        match self.draw(0, 2):
            case 0:
                return self.pool(x, CountMaxPool, Window(size, (1, 1), (size[0] - 1, 0, 0, size[1] - 1)))
            case 1:
                return self.fire(self.convolution(self.pool(x, SumPool, Window(size, size)), x.channels))
            case _:
                return self.fire(self.pool(self.convolution(x, x.channels), SumPool, Window(size, size)))

    def routed(self, x: SnnNode) -> SnnNode:
        """Move spikes or currents by an index map: shuffled, repeated and spread, evenly or at random."""
        channels, height, width = x.shape
        places = np.arange(prod(x.shape), dtype=np.int32).reshape(x.shape)
        match self.draw(0, 3):
            case 0:  # pixel shuffle, whose channels are rows and columns
                places = places[: channels // 2 * 2].reshape(-1, 2, height, width)
                places = places.transpose(0, 2, 1, 3).reshape(len(places), 2 * height, width)
                y = self.add(Gather(name="", inputs=(x.name,), shape=places.shape, index=places))
            case 1:  # mirrored, and spread with zeros between
                spread = np.full((channels, 2 * height - 1, width + 1), -1, np.int32)
                spread[:, ::2, 1:] = places[:, :, ::-1]
                y = self.add(Gather(name="", inputs=(x.name,), shape=spread.shape, index=spread))
            case 2:
                shape = (self.draw(1, 6), self.draw(1, 4), self.draw(1, 5))
                index = self.rng.integers(-1, places.size, shape).astype(np.int32)
                y = self.add(Gather(name="", inputs=(x.name,), shape=shape, index=index))
            case _:
                current = self.convolution(x, 4)
                turned = np.arange(prod(current.shape), dtype=np.int32).reshape(2, 2, *current.shape[1:])
                turned = turned.transpose(0, 2, 3, 1).reshape(2, height, 2 * width)
                moved = Gather(name="", inputs=(current.name,), shape=turned.shape, index=turned)
                return self.fire(self.add(moved))
        return self.fire(self.convolution(y, 2 * self.draw(1, 3)))

    def _with_input(self, x: SnnNode, image: SnnNode) -> SnnNode:
        """Let a later layer read the analogue input beside spikes."""
        if image.shape[1:] != x.shape[1:]:
            return self._plain(x)
        return self.fire(self.convolution(self.concat([image, x]), x.channels))

    def _flat(self, x: SnnNode) -> SnnNode:
        return self.add(Reshape(name="", inputs=(x.name,), shape=(prod(x.shape),)))

    def classify(self, x: SnnNode) -> SnnNode:
        kind = self.rng.random() if len(x.shape) == 3 else 0.0
        if kind > MAP_FROM:
            y = self._flat(self.convolution(x, self.draw(1, 2)))
        else:
            if len(x.shape) == 3 and kind < 0.5:
                size = (x.shape[1], x.shape[2])
                x = self.pool(x, SumPool, Window(size, size))
            y = self.linear(self._flat(x) if len(x.shape) == 3 else x, CLASSES)
        bias = np.rint(self.rng.normal(size=y.channels) * 20).astype(np.int32)
        scale = float(self.rng.uniform(0.001, 0.1))
        return self.add(Readout(name="", inputs=(y.name,), shape=y.shape, bias=bias, scale=scale))
