"""The C source: what it computes, what it needs, and that it is what it claims to be."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc import __version__
from snnc.artefact import Artefact
from snnc.backends import manifest
from snnc.backends.c99 import C99, backend, selftest
from snnc.backends.c99.kernels import STRUCTURES, kernel_text
from snnc.backends.c99.memory import Buffer, Life, place
from snnc.backends.c99.selftest import fnv
from snnc.backends.c99.source import HEADER, SOURCE, WEIGHTS, comment
from snnc.backends.c99.synapses import EVENTS, MOST_IN_SHORT_SUMS
from snnc.backends.c99.widths import Width, longest, widths
from snnc.backends.deployment import deploy, verify
from snnc.backends.golden import read_golden, replay
from snnc.errors import ArtefactError, UsageError
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import Concat, Convolution, Encode, IntegrateFire, Linear, Readout, Reshape, SnnGraph
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests.spiking_graphs import CLASSES, NEURONS, graphs, random_graph, random_inputs, wide_graph

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")
SANE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def emitted(graph: SnnGraph, folder: Path) -> Path:
    return deploy(Artefact(graph), C99(), folder / "bundle").directory


def compile_strictly(bundle: Path, *flags: str, compiler: str = "gcc") -> None:
    result = subprocess.run(
        [compiler, *STRICT, *flags], cwd=bundle, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr


def compile_as_cpp(bundle: Path, compiler: str, *flags: str) -> None:
    options = ["-std=c++11", *STRICT[1:], *flags]
    result = subprocess.run(
        [compiler, *options], cwd=bundle, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr


def run_selftest(bundle: Path, *flags: str, compiler: str = "gcc") -> None:
    if shutil.which("g++") is not None:
        compile_as_cpp(bundle, "g++", "-fsyntax-only", "-x", "c++", SOURCE, "selftest.c")
    compile_strictly(bundle, "-O1", *flags, SOURCE, "selftest.c", "-o", "selftest", compiler=compiler)
    result = subprocess.run([bundle / "selftest"], capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "PASSED"), result.stdout + result.stderr


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
    texts = [kernel_text(name, (Width.I8, Width.I8)).replace("static void", "void") for name in FIRING]
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
    fire = firing_kernels[kernel + "_i8_i8"]
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
    text = kernel_text(kernel, (Width.I32, Width.I32))
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


@needs_gcc
def test_it_is_freestanding_and_has_no_floats(tmp_path: Path) -> None:
    bundle = emitted(random_graph(7, blocks=4), tmp_path)
    compile_strictly(bundle, "-ffreestanding", "-fno-pie", "-O2", "-c", SOURCE, "-o", "network.o")
    symbols = subprocess.run(["nm", bundle / "network.o"], capture_output=True, text=True, check=True).stdout
    kinds = set(re.findall(r"^[ 0-9a-f]{16} (\w) \w+$", symbols, re.MULTILINE))
    assert kinds <= {"T", "t", "r"}, "no variables, only functions and constants"
    undefined = set(re.findall(r"^ {16} U (\w+)$", symbols, re.MULTILINE))
    assert undefined <= {"memset", "memcpy", "memmove", "__stack_chk_fail"}
    text = "".join((bundle / name).read_text(encoding="ascii") for name in (SOURCE, HEADER, WEIGHTS))
    assert set(re.findall(r"#include [<\"](.*)[>\"]", text)) == {"stdint.h", HEADER, WEIGHTS}
    assert not re.search(
        r"\b(float|double|malloc|static int)\b", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    )


@needs_gcc
def test_the_stated_memory_is_checked_by_the_compiler(tmp_path: Path) -> None:
    bundle = emitted(random_graph(8), tmp_path)
    compile_strictly(bundle, "-c", SOURCE, "-o", "network.o")
    path = bundle / HEADER
    text = re.sub(r"(SNNC_RAM_BYTES) (\d+)", lambda m: f"{m[1]} {int(m[2]) + 4}", path.read_text("ascii"))
    path.write_text(text, encoding="ascii")
    result = subprocess.run(["gcc", "-c", SOURCE], cwd=bundle, capture_output=True, text=True, check=False)
    assert "snnc_ram_is_as_stated" in result.stderr


@needs_gcc
@pytest.mark.skipif(shutil.which("clang") is None, reason="clang is not installed")
def test_clang(tmp_path: Path) -> None:
    run_selftest(emitted(random_graph(9), tmp_path), compiler="clang")


SKETCH = """\
#include "snnc_network.h"
#include "golden.h"

static snnc_state state;
static int32_t y[SNNC_OUTPUTS];
static int32_t row;
int32_t classes[GOLDEN_ROWS];

void setup() { row = 0; }

void loop()
{
    if (snnc_infer(&state, golden_q + row * SNNC_INPUTS, SNNC_TIMESTEPS, y)) {
        classes[row] = snnc_class(y);
    }
    row++;
}
"""
"""As the Arduino IDE compiles it: C++, beside the C of the network."""

CORE = """\
#include <cstdio>
#include <cstdint>
#include "golden.h"

void setup();
void loop();
extern int32_t classes[GOLDEN_ROWS];

int main()
{
    setup();
    for (int i = 0; i < GOLDEN_ROWS; i++) {
        loop();
        std::printf("%ld\\n", static_cast<long>(classes[i]));
    }
    (void)golden_q;
    (void)golden_y;
}
"""


@needs_gcc
@pytest.mark.parametrize(
    ("c", "cpp"), [("gcc", "g++"), ("clang", "clang++"), ("arm-none-eabi-gcc", "arm-none-eabi-g++")]
)
@pytest.mark.parametrize("network_as_cpp", [False, True], ids=["C", "C++"])
def test_a_sketch_in_cpp(c: str, cpp: str, network_as_cpp: bool, tmp_path: Path) -> None:
    if shutil.which(c) is None or shutil.which(cpp) is None:
        pytest.skip(f"{cpp} is not installed")
    bundle = emitted(random_graph(14), tmp_path)
    golden = read_golden(bundle)
    (bundle / "sketch.ino").write_text(SKETCH, encoding="ascii")
    (bundle / "core.cpp").write_text(CORE, encoding="ascii")
    if network_as_cpp:
        compile_as_cpp(bundle, cpp, "-c", "-x", "c++", SOURCE, "-o", "network.o")
    else:
        compile_strictly(bundle, "-c", SOURCE, "-o", "network.o", compiler=c)
    compile_as_cpp(bundle, cpp, "-Wno-unused-variable", "-c", "-x", "c++", "sketch.ino", "-o", "sketch.o")
    compile_as_cpp(bundle, cpp, "-c", "core.cpp", "-o", "core.o")
    bare = ["--specs=nosys.specs"] if cpp.startswith("arm") else []
    linked = subprocess.run(
        [cpp, *bare, "network.o", "sketch.o", "core.o", "-o", "program"],
        cwd=bundle,
        capture_output=True,
        text=True,
        check=False,
    )
    assert linked.returncode == 0, linked.stderr
    if not bare:
        told = subprocess.run([bundle / "program"], capture_output=True, text=True, check=True).stdout
        np.testing.assert_array_equal(list(map(int, told.split())), golden.y.argmax(axis=1))


@needs_gcc
def test_32_bits(tmp_path: Path) -> None:
    bundle = emitted(random_graph(10, schedule=Schedule.LAYERWISE), tmp_path)
    (bundle / "probe.c").write_text("#include <stdio.h>\nint main(void) { return 0; }\n", encoding="ascii")
    probe = ["gcc", "-m32", "probe.c", "-o", "probe"]
    if subprocess.run(probe, cwd=bundle, capture_output=True, check=False).returncode:
        pytest.skip("gcc has no 32-bit libraries here")
    run_selftest(bundle, "-m32")


@needs_gcc
def test_names_cannot_leave_their_comments(tmp_path: Path) -> None:
    evil = "*/ #error out /* ??/ \\\n é \x00"
    graph = random_graph(12, flat=True, blocks=0)
    graph = graph.with_nodes([node.with_(origin=evil) for node in graph])
    run_selftest(emitted(replace(graph, name=evil), tmp_path))
    assert "*/" not in comment(evil + "/*/")
    assert "/*" not in comment(evil + "/*/")


@needs_gcc
def test_verify_names_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = emitted(random_graph(13), tmp_path)
    verdict = verify(bundle).verdict
    assert verdict is not None
    assert (verdict.rows, verdict.wrong) == (8, 0)
    monkeypatch.setenv("CC", "no-such-compiler -O3")
    with pytest.raises(UsageError, match="no-such-compiler"):
        verify(bundle)
    monkeypatch.setenv("CC", "'no such compiler")
    with pytest.raises(UsageError, match=r"CC=.* cannot be read: No closing quotation"):
        verify(bundle)
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no C compiler"):
        verify(bundle)


@needs_gcc
def test_verify_finds_a_wrong_potential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that gives other C than the reference, as a new version may."""
    bundle = emitted(random_graph(13), tmp_path)
    golden = read_golden(bundle)
    assert C99().verify(bundle, golden).wrong == 0
    monkeypatch.setattr(selftest, "fnv", lambda values: 1)
    artefact = Artefact(random_graph(13))
    texts = backend._texts(artefact, replay(artefact.graph, golden, bundle))  # pyright: ignore[reportPrivateUsage]
    for name, text in texts.items():
        (bundle / name).write_text(text, encoding="ascii")
    assert C99().verify(bundle, golden).wrong == 1
    (bundle / SOURCE).write_text("#error broken\n", encoding="ascii")
    with pytest.raises(ArtefactError, match=r"snnc_network\.c altered"):
        C99().verify(bundle, golden)


@needs_gcc
def test_verify_of_a_bundle_by_another_version(tmp_path: Path) -> None:
    bundle = emitted(random_graph(13), tmp_path)
    for path in bundle.glob("*.[ch]"):
        path.write_text(
            path.read_text("ascii").replace(f"snnc {__version__}.", "snnc 0.0.9."), encoding="ascii"
        )
    rewrite(bundle, snnc_version="0.0.9")
    verdict = verify(bundle).verdict
    assert verdict is not None
    assert (verdict.wrong, verdict.foreign) == (0, ())
    (bundle / SOURCE).write_text("#error another C\n", encoding="ascii")
    rewrite(bundle)
    with pytest.raises(UsageError, match=r"snnc_network\.c of snnc 0\.0\.9, .* verify with that version"):
        verify(bundle)
    (bundle / backend.NETWORK).unlink()
    rewrite(bundle)
    with pytest.raises(UsageError, match=r"the files are as the manifest says, .* no network\.snn\.onnx"):
        verify(bundle)
    assert verify(bundle, run=False).verdict is None


def rewrite(bundle: Path, **changes: str) -> None:
    content = {k: v for k, v in manifest.read(bundle).items() if k not in ("files", manifest.OWN_HASH)}
    manifest.write(bundle, {**content, **changes})


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
