"""Every kernel against the reference: one layer, spikes of every kind, weights up to their limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.backends.numba_cpu import NumbaSimulator
from snnc.backends.numba_cpu.codegen.micro_products import largest_byte
from snnc.backends.numba_cpu.layout.event_layout import event_choice
from snnc.backends.numba_cpu.layout.terms import Synapse, Values
from snnc.backends.numba_cpu.planning import plan
from snnc.errors import InputError
from snnc.ir import snn
from snnc.ir.geometry import Window
from snnc.ir.graph import IntArray, Shape
from snnc.ir.neuron import Neuron, Schedule
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests.spiking_graphs import as_float

pytestmark = pytest.mark.usefixtures("shared_images")

BANDS = (1 << 12, 1 << 14, 1 << 17)
PLAIN = Neuron()


@dataclass(frozen=True)
class Layer:
    """One convolution between two populations, with the spikes of the first."""

    graph: snn.SnnGraph
    train: IntArray
    inputs: IntArray
    rare: bool

    @property
    def shape(self) -> Shape:
        return self.graph["reader"].shape


def population(name: str, shape: Shape, current: str, threshold: IntArray, neuron: Neuron) -> snn.SnnNode:
    rng = np.random.default_rng(len(threshold))
    return snn.IntegrateFire(
        name=name,
        inputs=(current,),
        shape=shape,
        threshold=threshold,
        bias=rng.integers(-20, 20, len(threshold)).astype(np.int32),
        v_init=threshold // 2,
        spike_scale=np.ones(len(threshold), np.float32),
        neuron=neuron,
    )


def layer(
    seed: int,
    source: Shape,
    synapse: snn.Weighted,
    *,
    timesteps: int,
    batch: int,
    levels: int,
    signed: bool,
    density: float,
    neuron: Neuron = PLAIN,
    settle_steps: int = 0,
    schedule: Schedule = Schedule.SYNCHRONOUS,
) -> Layer:
    """Put random spikes through a synapse; thresholds are such that about half of the neurons fire."""
    rng = np.random.default_rng(seed)
    steps = timesteps + settle_steps
    spikes = rng.integers(1, levels + 1, (steps, batch, *source)) * (
        rng.random((steps, batch, *source)) < density
    )
    if signed:
        spikes *= rng.choice([-1, 1], spikes.shape)
    encode = snn.Encode(name="input", shape=source, scale=1.0)
    given_population = population("given", source, "first", np.full(source[0], 9, np.int32), neuron)
    first = snn.ChannelWeight(
        name="first", inputs=("input",), shape=source, weight=np.ones(source[0], np.int8)
    )
    spread = float(
        np.sqrt((synapse.weight.astype(float) ** 2).reshape(len(synapse.weight), -1).sum(axis=1).mean())
    )
    theta = np.maximum(1, rng.uniform(0.1, 2, synapse.shape[0]) * spread * max(density, 0.01)).astype(
        np.int32
    )
    nodes = (
        encode,
        first,
        given_population,
        synapse,
        population("reader", synapse.shape, synapse.name, theta, neuron),
    )
    graph = snn.SnnGraph(
        name="layer",
        nodes=nodes,
        outputs=("reader",),
        timesteps=timesteps,
        settle_steps=settle_steps,
        schedule=schedule,
    )
    for node in nodes:
        assert node.verify([graph[name].shape for name in node.inputs]) is None, node
    return Layer(graph, spikes.astype(np.int32), np.zeros((batch, *source), np.int32), bool(rng.integers(2)))


def weights(seed: int, shape: Shape, kind: str) -> IntArray:
    rng = np.random.default_rng(seed)
    match kind:
        case "int16":
            return rng.integers(-300, 301, shape).astype(np.int16)
        case "lowest":
            return np.full(shape, -127, np.int8)
        case "highest":
            return np.full(shape, 127, np.int8)
        case "beyond":
            return rng.choice([-128, 127], shape).astype(np.int8)
        case "small":
            return rng.integers(-15, 16, shape).astype(np.int8)
        case _:
            return rng.integers(-127, 128, shape).astype(np.int8)


WEIGHTS = st.sampled_from(["any", "any", "small", "lowest", "highest", "beyond", "int16"])


@st.composite
def convolutions(draw: st.DrawFn) -> Layer:
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    strides = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilations = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    pads = tuple(draw(st.integers(0, 2)) for _ in range(4))
    window = Window(kernel, strides, (pads[0], pads[1], pads[2], pads[3]), dilations)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    size = (draw(st.integers(reach[0], 9)), draw(st.integers(reach[1], 9)))
    channels = draw(st.sampled_from([1, 3, 16, 20, 32, 33, 64]))
    kind = draw(st.sampled_from(["plain", "plain", "plain", "grouped", "depthwise"]))
    outputs = draw(st.sampled_from([1, 5, 16, 17, 32, 64, 96]))
    groups = 1
    if kind == "depthwise":
        groups = outputs = channels
    elif kind == "grouped" and channels % 2 == 0:
        groups, outputs = 2, 2 * outputs
    seed = draw(st.integers(0, 2**20))
    shape = (outputs, channels // groups, *kernel)
    synapse = snn.Convolution(
        name="synapse",
        inputs=("given",),
        shape=(outputs, *window.output_size(*size)),
        weight=weights(seed, shape, draw(WEIGHTS)),
        window=window,
        groups=groups,
    )
    return draw(layers(synapse, (channels, *size), seed))


@st.composite
def linears(draw: st.DrawFn) -> Layer:
    inputs, outputs = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    seed = draw(st.integers(0, 2**20))
    weight = weights(seed, (outputs, inputs), draw(WEIGHTS))
    synapse = snn.Linear(name="synapse", inputs=("given",), shape=(outputs,), weight=weight)
    return draw(layers(synapse, (inputs,), seed))


@st.composite
def identities(draw: st.DrawFn) -> Layer:
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    seed = draw(st.integers(0, 2**20))
    weight = weights(seed, shape[:1], draw(WEIGHTS))
    synapse = snn.ChannelWeight(name="synapse", inputs=("given",), shape=shape, weight=weight)
    return draw(layers(synapse, shape, seed))


@st.composite
def layers(draw: st.DrawFn, synapse: snn.Weighted, source: Shape, seed: int) -> Layer:
    schedule = draw(st.sampled_from(Schedule))
    return layer(
        seed,
        source,
        synapse,
        timesteps=draw(st.integers(1, 11)),
        batch=draw(st.integers(1, 3)),
        levels=draw(st.sampled_from([1, 1, 1, 2, 3, 64, 127, 300])),
        signed=draw(st.booleans()),
        density=draw(st.sampled_from([0, 0.05, 0.3, 1])),
        neuron=draw(st.sampled_from([PLAIN, Neuron(count_memory=False), Neuron(spikes_per_step=2)])),
        settle_steps=draw(st.integers(0, 2)) if schedule is Schedule.SYNCHRONOUS else 0,
        schedule=schedule,
    )


def check(case: Layer, threads: int, band: int) -> None:
    record = RecordOptions(states=True, trains=("reader",), until=("reader",))
    steps = case.graph.timesteps
    trains = {"given": case.train}
    expected = ReferenceSimulator().run(case.graph, case.inputs, steps, record, given=trains)
    with patch.object(plan, "BAND_BYTES", band):
        simulator = NumbaSimulator(threads, density={"given": 0.0 if case.rare else 1.0})
        found = simulator.run(case.graph, case.inputs, steps, record, given=trains)
    np.testing.assert_array_equal(expected.trains["reader"], found.trains["reader"])
    np.testing.assert_array_equal(expected.potentials["reader"], found.potentials["reader"])
    np.testing.assert_array_equal(expected.counts["reader"], found.counts["reader"])


@settings(max_examples=120)
@given(case=convolutions(), threads=st.integers(1, 4), band=st.sampled_from(BANDS))
def test_convolutions(case: Layer, threads: int, band: int) -> None:
    check(case, threads, band)


@st.composite
def sliding(draw: st.DrawFn) -> Layer:
    """Layers whose sums stay in registers from column to column, if the weights allow."""
    pads = tuple(draw(st.integers(0, 3)) for _ in range(4))
    rows = draw(st.integers(1, 4))
    window = Window((rows, 3), (draw(st.integers(1, 2)), 1), (pads[0], pads[1], pads[2], pads[3]))
    source = (
        draw(st.sampled_from([5, 16, 32, 48, 64, 130])),
        draw(st.integers(rows, 6)),
        draw(st.integers(3, 9)),
    )
    outputs, seed = draw(st.sampled_from([20, 32, 64, 96, 128])), draw(st.integers(0, 2**20))
    synapse = snn.Convolution(
        name="synapse",
        inputs=("given",),
        shape=(outputs, *window.output_size(*source[1:])),
        weight=weights(seed, (outputs, source[0], rows, 3), draw(st.sampled_from(["small", "small", "any"]))),
        window=window,
        groups=1,
    )
    return layer(
        seed,
        source,
        synapse,
        timesteps=draw(st.integers(1, 9)),
        batch=draw(st.integers(1, 2)),
        levels=draw(st.integers(1, 3)),
        signed=draw(st.booleans()),
        density=draw(st.sampled_from([0, 0.05, 0.3, 1])),
    )


WIDE_KERNELS = (
    # outputs, kernel width, column stride, inputs
    (96, 7, 2, 16),
    (96, 7, 2, 64),
    (64, 11, 2, 16),
    (32, 15, 2, 16),
    (16, 13, 1, 64),
    (10, 14, 1, 16),
    (16, 21, 1, 16),
    (128, 5, 3, 32),
)


@pytest.mark.parametrize(("outputs", "width", "stride", "inputs"), WIDE_KERNELS)
def test_wide_kernels(outputs: int, width: int, stride: int, inputs: int) -> None:
    """Phases of the stride reach different numbers of columns, and each needs code for as many sums."""
    window = Window((2, width), (1, stride), (0, 2, 0, 2))
    source = (inputs, 4, 30)
    synapse = snn.Convolution(
        name="synapse",
        inputs=("given",),
        shape=(outputs, *window.output_size(*source[1:])),
        weight=weights(width, (outputs, inputs, 2, width), "small"),
        window=window,
        groups=1,
    )
    case = layer(width, source, synapse, timesteps=2, batch=1, levels=1, signed=True, density=0.1)
    check(replace(case, rare=True), 1, 1 << 17)


@pytest.mark.parametrize("kind", ["any", "lowest", "highest", "beyond"])
def test_signed_spikes_that_fill_a_byte(kind: str) -> None:
    """Graded spikes of either sign span 240 values: more than the sums of two products in 16 bits take."""
    source, window = (32, 5, 6), Window((3, 3), pads=(1, 1, 1, 1))
    synapse = snn.Convolution(
        name="synapse",
        inputs=("given",),
        shape=(16, 5, 6),
        weight=weights(1, (16, 32, 3, 3), kind),
        window=window,
        groups=1,
    )
    case = layer(3, source, synapse, timesteps=2, batch=2, levels=120, signed=True, density=0.9)
    assert case.train.max() - case.train.min() == 240
    check(replace(case, rare=False), 1, 1 << 17)


def test_bytes_are_multiplied_as_far_as_their_products_have_room() -> None:
    for least in (-128, -127):
        assert largest_byte(least, 1) == 255
        assert 2 * -least * largest_byte(least, 2) < 1 << 15
        assert 2 * -least * (largest_byte(least, 2) + 1) >= 1 << 15


@pytest.mark.parametrize(("levels", "threshold"), [(2, 9), (2, 2**29 + 1), (3, 2**29 + 1)])
def test_several_spikes_at_a_large_threshold(levels: int, threshold: int) -> None:
    neuron = Neuron(levels=levels, spikes_per_step=1)
    graph = snn.SnnGraph(
        name="large",
        nodes=(
            snn.Encode(name="input", shape=(2, 1, 1), scale=1.0),
            snn.ChannelWeight(
                name="synapse", inputs=("input",), shape=(2, 1, 1), weight=np.array([32767, 1], np.int16)
            ),
            population("reader", (2, 1, 1), "synapse", np.full(2, threshold, np.int32), neuron).with_(
                bias=np.full(2, threshold // 2 + 7, np.int32),
                v_init=np.full(2, threshold + threshold // 2, np.int32),
            ),
        ),
        outputs=("reader",),
        timesteps=2,
    )
    record = RecordOptions(states=True, trains=("reader",), until=("reader",))
    inputs = np.array([1500, -3], np.int32).reshape(1, 2, 1, 1)
    expected, found = (
        simulator.run(graph, inputs, 2, record) for simulator in (ReferenceSimulator(), NumbaSimulator(1))
    )
    assert expected.trains["reader"].max() == 2
    np.testing.assert_array_equal(expected.trains["reader"], found.trains["reader"])
    np.testing.assert_array_equal(expected.potentials["reader"], found.potentials["reader"])


def test_spikes_too_large_for_a_kernel_are_refused() -> None:
    synapse = snn.ChannelWeight(
        name="synapse", inputs=("given",), shape=(2, 1, 1), weight=np.ones(2, np.int8)
    )
    neuron = Neuron(levels=40_000)
    case = layer(
        1, (2, 1, 1), synapse, timesteps=1, batch=1, levels=1, signed=False, density=1, neuron=neuron
    )
    with pytest.raises(InputError, match=r"40000 spikes in a step, and .* 32767; .* `reference`"):
        check(case, 1, 1 << 17)


@settings(max_examples=60)
@given(case=sliding(), threads=st.integers(1, 8), band=st.sampled_from(BANDS))
def test_sums_that_stay_in_registers(case: Layer, threads: int, band: int) -> None:
    check(replace(case, rare=True), threads, band)


@settings(max_examples=30)
@given(case=sliding(), threads=st.integers(1, 3), band=st.sampled_from(BANDS))
def test_products_of_floats(case: Layer, threads: int, band: int) -> None:
    """Sums so small are exact in float32."""
    check(replace(case, graph=as_float(case.graph)), threads, band)


@pytest.mark.parametrize(
    ("scale", "channels", "slides"), [(15, 64, True), (127, 64, True), (127, 128, False)]
)
def test_sums_slide_where_they_fit(scale: int, channels: int, slides: bool) -> None:
    weight = np.full((64, channels, 3, 3), scale, np.int8)
    source = Values(8, 8, channels, channels, np.dtype(np.int8), -1, 1)
    choice = event_choice(Synapse(weight, Window((3, 3)), 1, source, 8, 64))
    assert choice is not None
    assert choice.slides is slides
    columns = 3 if slides else 1
    assert choice.joined_rows * columns * channels * scale < 2**15


@settings(max_examples=30)
@given(case=linears(), threads=st.integers(1, 2))
def test_linear_layers(case: Layer, threads: int) -> None:
    check(case, threads, BANDS[-1])


@settings(max_examples=20)
@given(case=identities(), band=st.sampled_from(BANDS))
def test_identities(case: Layer, band: int) -> None:
    check(case, 1, band)
