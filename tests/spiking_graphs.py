"""Small, lively spiking networks and inputs for tests, made from a seed.

The networks hold every operation of the spiking dialect in the arrangements that real networks
have: plain, grouped, strided and dilated convolutions, residual sums with identity, projected and
padded shortcuts, concatenation, pooling of spikes, currents and counts, fine skips, several inputs that
meet, and several outputs: vectors, maps, and what populations send themselves. Thresholds
are chosen from simulated currents, so that neurons fire often but not always: two simulators that
agree on silence have shown nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
from hypothesis import strategies as st

from snnc.ir.batch import Rows
from snnc.ir.bounds import provable_timesteps
from snnc.ir.graph import NumberArray
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import (
    ConstantCurrent,
    Convolution,
    IntegrateFire,
    Linear,
    Readout,
    Reshape,
    SnnGraph,
    SnnNode,
    Weighted,
)
from snnc.simulation.protocol import Trace
from tests.function_blocks import Functions, add_functions
from tests.spiking_graph_blocks import CLASSES as CLASSES
from tests.spiking_graph_blocks import (
    arrangement,
    classify,
    first_layer,
    meet,
    more_inputs,
    more_outputs,
    route,
)
from tests.spiking_graph_builder import NEURONS as NEURONS
from tests.spiking_graph_builder import Builder, random_rows


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
    others = more_inputs(builder, x) if several else []
    top = builder.fire(builder.linear(x, 9)) if flat else first_layer(builder, x)
    if others:
        top = meet(builder, top, x, others)
    inner = top
    for _ in range(blocks):
        top = builder.fire(builder.linear(top, builder.draw(5, 12))) if flat else arrangement(builder, top, x)
    for number in range(functions):
        top = add_functions(builder, top)
        if number % 2 == 0:
            top = builder.fire(builder.linear(top, 9) if flat else builder.convolution(top, 4))
    if several:
        more_outputs(builder, inner, top)
    classify(builder, route(builder, top) if routed and not flat else top)
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
    classify(builder, functions.square(functions.softmax_of_maps(top)))
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
    classify(builder, top)
    return builder.proved(seed)


def short_rows(width: int, timesteps: int, neuron: Neuron) -> SnnGraph:
    """Return a small integer network of maps of so few columns, with whole cache lines of channels."""
    builder = Builder(np.random.default_rng(width), timesteps, Schedule.SYNCHRONOUS, neuron, False)
    top = builder.fire(builder.convolution(builder.encode((2, 5, width)), 64))
    top = builder.fire(builder.convolution(top, 40), builder.convolution(top, 40, kernel=1))
    top = builder.fire(builder.convolution(top, 64, kernel=5))
    top = builder.fire(builder.convolution(top, 128, stride=2))
    classify(builder, top)
    return builder.proved(width)


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
    classify(builder, builder.add(Reshape(name="", inputs=(joined.name,), shape=(prod(joined.shape),))))
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
        furthest = max(int(np.abs(values).max()), 1)
        spikes = None if rng.random() < 0.5 else int(rng.integers(1, 3))
        known = rng.random() < 0.7
        unit, zero = rng.uniform(0.01, 1, node.channels), rng.normal(size=node.channels)
        return node.with_(
            neuron=Neuron(levels=-(-furthest // graph.timesteps), spikes_per_step=spikes),
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
    return random_rows(graph.encoders, batch, seed)


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


def sparse(graph: SnnGraph, density: float, seed: int = 0) -> SnnGraph:
    """Return a network of which so many weights are left, but for those that read inputs."""
    random = np.random.default_rng(seed)
    changed = {}
    for node in graph:
        if isinstance(node, Convolution | Linear) and node.inputs[0] not in {e.name for e in graph.encoders}:
            kept = random.random(node.weight.shape) < density
            changed[node.name] = node.with_(weight=(node.weight * kept).astype(node.weight.dtype))
    assert changed
    return graph.replacing(changed)
