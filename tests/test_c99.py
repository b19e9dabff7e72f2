"""The C source: what it computes, bit for bit, and what it needs."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.backends.c99.kernels import STRUCTURES, kernel_text
from snnc.backends.c99.memory import Buffer, Life, place
from snnc.backends.c99.selftest import fnv
from snnc.backends.c99.source import HEADER, SOURCE
from snnc.backends.c99.synapses import EVENTS, MOST_IN_SHORT_SUMS
from snnc.backends.c99.widths import Width, longest, widths
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import Concat, Convolution, Encode, IntegrateFire, Linear, Readout, Reshape, SnnGraph
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests.c99_bundles import (
    SANE,
    compile_strictly,
    emitted,
    needs_gcc,
    run_selftest,
)
from tests.spiking_graphs import CLASSES, NEURONS, graphs, random_graph, random_inputs, wide_graph


class Library:
    """The network as a shared library."""

    def __init__(self, bundle: Path) -> None:
        compile_strictly(bundle, "-O1", "-shared", "-fPIC", SOURCE, "-o", "network.so")
        text = (bundle / HEADER).read_text(encoding="ascii")
        self._sizes = {name: int(value) for name, value in re.findall(r"#define (SNNC_\w+) (\d+)", text)}
        self._functions = ctypes.CDLL(str(bundle / "network.so"))
        self.state = ctypes.create_string_buffer(self["SNNC_RAM_BYTES"])

    def __getitem__(self, name: str) -> int:
        return self._sizes[name]

    def infer(self, q: np.ndarray, timesteps: int) -> tuple[bool, np.ndarray]:
        row = np.ascontiguousarray(q, np.int16)
        y = np.zeros(self["SNNC_OUTPUTS"], np.int32)
        began = self._functions.snnc_infer(self.state, row.ctypes, timesteps, y.ctypes)
        return bool(began), y

    def steps(self, q: np.ndarray, timesteps: int) -> list[np.ndarray]:
        """Return what the read-out holds after every step."""
        row, found = np.ascontiguousarray(q, np.int16), []
        assert self._functions.snnc_begin(self.state, row.ctypes, timesteps)
        while self._functions.snnc_step(self.state):
            y = np.zeros(self["SNNC_OUTPUTS"], np.int32)
            self._functions.snnc_output(self.state, y.ctypes)
            found.append(y)
        return found


@needs_gcc
@settings(max_examples=6)
@given(graph=graphs())
def test_outputs_counts_and_potentials_are_bit_exact(
    graph: SnnGraph, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run_selftest(emitted(graph, tmp_path_factory.mktemp("c")), *SANE)


@needs_gcc
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_every_neuron(neuron: Neuron, tmp_path: Path) -> None:
    graph = random_graph(11, neuron=neuron, negative=True, settle_steps=1, blocks=1, flat=True)
    run_selftest(emitted(graph, tmp_path))


@needs_gcc
@pytest.mark.parametrize("neuron", [Neuron(spikes_per_step=2), Neuron(spikes_per_step=None)], ids=str)
def test_many_channels(neuron: Neuron, tmp_path: Path) -> None:
    graph = wide_graph(4, neuron=neuron)
    bundle = emitted(graph, tmp_path)
    text = (bundle / SOURCE).read_text(encoding="ascii")
    assert "add_rows_i8_i8_i16" in text
    assert ("cut_i8" in text) == (neuron.limit is None), "graded spikes may be too large for sums in 16 bits"
    run_selftest(bundle, *SANE)


@needs_gcc
def test_lists_of_large_spikes_are_cut(tmp_path: Path) -> None:
    graph = wide_graph(4, neuron=Neuron(spikes_per_step=None))
    graph = graph.map(IntegrateFire, lambda node: node.with_(threshold=node.threshold // 40 + 1))
    graph = graph.map(Convolution, lambda node: node.with_(weight=np.sign(node.weight) * np.int8(127)))
    library = Library(emitted(graph, tmp_path))
    q, timesteps = random_inputs(graph, 6, 5), longest(graph)
    wide = graph.of_type(IntegrateFire)[0].name
    expected = ReferenceSimulator().run(graph, q, timesteps, RecordOptions(trains=(wide,)))
    listed = np.abs(expected.trains[wide][:, :, :EVENTS]).sum(axis=2)
    assert listed.max() > MOST_IN_SHORT_SUMS
    found = np.array([library.infer(row, timesteps)[1] for row in q])
    np.testing.assert_array_equal(found, expected.logits)


FIRING = ("fire_graded", "fire_several", "fire_plain")


@pytest.fixture(scope="module")
def firing_kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels that find spikes by parts, in one library."""
    folder = tmp_path_factory.mktemp("kernels")
    texts = [
        kernel_text(name, (Width.I8, Width.I8, Width.I32)).replace("static void", "void") for name in FIRING
    ]
    (folder / "k.c").write_text(f"#include <stdint.h>\n{STRUCTURES}{''.join(texts)}", encoding="ascii")
    compile_strictly(folder, "-O3", "-shared", "-fPIC", "k.c", "-o", "k.so")
    return ctypes.CDLL(str(folder / "k.so"))


@needs_gcc
@pytest.mark.parametrize(
    ("kernel", "levels", "spikes_per_step", "memory"),
    [
        *[("fire_graded", levels, None, True) for levels in (1, 2, 3, 5, 7, 15)],
        *[("fire_several", levels, 1, True) for levels in (3, 4, 7, 13, 15)],
        *[("fire_plain", levels, 1, False) for levels in (1, 2, 6, 15)],
    ],
)
def test_spikes_found_by_parts_are_those_of_a_division(
    kernel: str, levels: int, spikes_per_step: int | None, memory: bool, firing_kernels: ctypes.CDLL
) -> None:
    fire = firing_kernels[kernel + "_i8_i8_i32"]
    timesteps = 4
    neuron = Neuron(levels, spikes_per_step, memory)
    capacity, limit = neuron.capacity(timesteps), neuron.limit
    theta = np.array([1, 7, 1000, (2**30 - 1) // capacity], np.int32)
    near = np.arange(-capacity - 2, capacity + 3, dtype=np.int64)[:, None] * theta
    m = np.concatenate([near - 1, near, near + 1])
    sent = np.arange(capacity + 1 if memory else 1)[:, None, None]
    m, before = (np.ascontiguousarray(x) for x in np.broadcast_arrays(m, sent))
    # What a neuron has received in all fits an int32; so it has to with what it has sent.
    m = np.clip(m, -(2**31), 2**31 - 1 - before * theta)
    high = np.minimum(capacity - before, limit or capacity) if memory else np.int64(levels)
    low = -np.minimum(before, limit or capacity) if memory else np.int64(0)
    expected = np.clip(m // theta, low, high)

    v, counts, spikes = m.astype(np.int32), before.astype(np.int8), np.empty(m.shape, np.int8)
    settings = np.zeros(1, [("tables", np.uintp, 3), ("sizes", np.int32, 4)])
    settings["tables"] = theta.ctypes.data, 0, 0
    settings["sizes"] = m.size // len(theta), len(theta), levels, limit or 0
    fire(settings.ctypes, None, 1, timesteps, v.ctypes, counts.ctypes, spikes.ctypes)
    np.testing.assert_array_equal(spikes, expected)
    np.testing.assert_array_equal(v, m - expected * theta)
    np.testing.assert_array_equal(counts, before + expected)


@pytest.mark.parametrize("kernel", FIRING)
def test_no_number_is_shifted_beyond_an_int_of_16_bits(kernel: str) -> None:
    text = kernel_text(kernel, (Width.I32, Width.I32, Width.I32))
    assert " << " in text
    assert not re.search(r"(?<!\(int32_t\))\b\d+ << ", text)


@needs_gcc
@pytest.mark.parametrize(("schedule", "settle_steps"), [(Schedule.SYNCHRONOUS, 2), (Schedule.LAYERWISE, 0)])
def test_every_t(schedule: Schedule, settle_steps: int, tmp_path: Path) -> None:
    graph = random_graph(3, schedule=schedule, settle_steps=settle_steps, neuron=Neuron(levels=2))
    library = Library(emitted(graph, tmp_path))
    q = random_inputs(graph, 8, 5)
    for timesteps in range(1, 9):
        expected = ReferenceSimulator().run(graph, q, timesteps).logits
        found = np.array([library.infer(row, timesteps)[1] for row in q])
        np.testing.assert_array_equal(found, expected)
        assert len(np.unique(expected, axis=0)) > 4
    steps = library.steps(q[0], 4)
    assert len(steps) == (1 if schedule is Schedule.LAYERWISE else 4 + settle_steps)
    np.testing.assert_array_equal(steps[-1], ReferenceSimulator().run(graph, q[:1], 4).logits[0])


@needs_gcc
@pytest.mark.parametrize("schedule", Schedule)
def test_an_input_that_is_read_again_in_another_shape(schedule: Schedule, tmp_path: Path) -> None:
    population = random_graph(5, flat=True, blocks=0).of_type(IntegrateFire)[0]
    weight = np.random.default_rng(0).integers(-127, 128, (CLASSES, 16 + population.channels))
    first = weight.astype(np.int8)[:1, :16].repeat(population.channels, axis=0)
    graph = SnnGraph(
        name="the input beside spikes",
        nodes=(
            Encode(name="image", shape=(1, 4, 4), scale=0.01, limit=127),
            Reshape(name="flat", inputs=("image",), shape=(16,)),
            Linear(name="first", inputs=("flat",), shape=population.shape, weight=first),
            population.with_(inputs=("first",)),
            Concat(name="both", inputs=("flat", population.name), shape=weight.shape[1:]),
            Linear(name="last", inputs=("both",), shape=(CLASSES,), weight=weight.astype(np.int8)),
            Readout(name="y", inputs=("last",), shape=(CLASSES,), bias=np.zeros(CLASSES, np.int32)),
        ),
        outputs=("y",),
        timesteps=4,
        schedule=schedule,
        max_timesteps=4,
    )
    graph.verify()
    run_selftest(emitted(graph, tmp_path), *SANE)


@needs_gcc
def test_what_cannot_be_run_is_refused(tmp_path: Path) -> None:
    graph = random_graph(5)
    library = Library(emitted(graph, tmp_path))
    q = random_inputs(graph, 1, 0)[0]
    limit = graph.encoder.limit
    assert library["SNNC_MAX_TIMESTEPS"] == longest(graph)
    for timesteps in (0, -1, longest(graph) + 1):
        began, y = library.infer(q, timesteps)
        assert not began
        assert not y.any()
    for value in (limit + 1, -limit - 1):
        row = q.copy()
        row.flat[-1] = value
        assert not library.infer(row, 4)[0]
    assert library.infer(np.clip(q, -limit, limit), longest(graph))[0]


@given(
    st.lists(
        st.tuples(st.sampled_from(Width), st.integers(1, 9), st.integers(0, 12), st.integers(0, 6)),
        max_size=12,
    )
)
def test_values_that_are_needed_together_do_not_share_memory(
    wanted: list[tuple[Width, int, int, int]],
) -> None:
    lives = [(Buffer(width, size), Life(first, first + length)) for width, size, first, length in wanted]
    found = place(lives)
    for i, (one, life) in enumerate(lives):
        low = found.offsets[one]
        assert low + one.size <= found.sizes[one.width]
        for other, time in lives[:i]:
            if one.width is other.width and life.meets(time):
                start = found.offsets[other]
                assert low + one.size <= start or start + other.size <= low
    for width in Width:
        alone = [life for buffer, life in lives if buffer.width is width]
        if not any(a.meets(b) for i, a in enumerate(alone) for b in alone[:i]):
            assert found.sizes[width] == max((b.size for b, _ in lives if b.width is width), default=0)


@given(graph=graphs())
@settings(max_examples=10)
def test_a_longer_run_than_stated_would_need_wider_types(graph: SnnGraph) -> None:
    most = longest(graph)
    assert graph.timesteps <= most <= graph.max_timesteps
    assert widths(graph, most) == widths(graph, graph.timesteps)
    assert most == graph.max_timesteps or widths(graph, most + 1) != widths(graph, most)


def test_the_hash_is_fnv_1a() -> None:
    assert fnv(np.array([], np.int32)) == 2166136261
    assert fnv(np.frombuffer(b"foob", "<i4")) == 0x3F5076EF, "a test vector of its authors"
