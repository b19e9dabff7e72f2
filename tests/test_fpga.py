"""The target `fpga`: what the core computes in Verilog simulators, what it refuses, how it fits parts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fpga import toggles
from benchmarks.fpga.prices import priced
from snnc.artefact import Artefact, save
from snnc.backends import load_backend, manifest
from snnc.backends.deployment import deploy, verify
from snnc.backends.fpga import files, simulate
from snnc.backends.fpga.layout import Design, Sizes
from snnc.backends.fpga.lowering import design
from snnc.backends.fpga.mapper import Mapped, block_rams, fitted, smaller, use
from snnc.backends.fpga.parts import DEVICES
from snnc.backends.fpga.program import RESTART, Program, Words, digits, packed, packed_bytes
from snnc.backends.fpga.units import units
from snnc.backends.programs import run
from snnc.cli import main
from snnc.errors import ArtefactError, InputError, UsageError
from snnc.ir.graph import IntArray
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import Encode, IntegrateFire, Linear, Readout, SnnGraph
from snnc.report.energy import MODELS
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests.fpga_networks import UNUSUAL, small_perceptron
from tests.spiking_graphs import NEURONS, as_float, random_graph, random_inputs, with_step_functions

ROWS = 2

needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")
needs_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="Verilator is not installed")
needs_either = pytest.mark.skipif(
    shutil.which("iverilog") is None and shutil.which("verilator") is None,
    reason="neither Icarus nor Verilator is installed",
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


def images(made: Design, folder: Path) -> None:
    for name, text in files.texts(made, 0).items():
        if name != files.SIZES:
            (folder / name).write_text(text, encoding="ascii")


def assert_equal_to_reference(graph: SnnGraph, q: Any, found: simulate.Simulated) -> None:
    """Compare every score, count and potential of every row."""
    expected = ReferenceSimulator().run(graph, q, graph.timesteps, RecordOptions(states=True))
    scores = np.concatenate([y.reshape(len(y), -1) for y in expected.outputs.values()], axis=1)
    np.testing.assert_array_equal(found.scores, scores)
    for node in graph.of_type(IntegrateFire):
        for name, got, wanted in (
            ("counts", found.counts[node.name], expected.counts[node.name]),
            ("potentials", found.potentials[node.name], expected.potentials[node.name]),
        ):
            np.testing.assert_array_equal(got.reshape(wanted.shape), wanted, err_msg=f"{name} of {node.name}")


def simulated(
    graph: SnnGraph, command: list[str], folder: Path, made: Design, *arguments: str
) -> tuple[Any, simulate.Simulated]:
    q = random_inputs(graph, ROWS, 7)
    stimulus = files.stream(q, [node.name for node in graph.encoders])
    images(made, folder)
    return q, simulate.simulate(command, made, stimulus, folder, arguments=arguments)


def alone(graph: SnnGraph, folder: Path, lanes: int, *arguments: str, simulator: str = "icarus") -> Design:
    """Run a network on a core of its own sizes, and compare it."""
    made = design(units(graph), lanes)
    (folder / files.SIZES).write_text(files.header(made.sizes, 10_000), encoding="ascii")
    q, found = simulated(graph, simulate.build(simulator, folder), folder, made, *arguments)
    assert_equal_to_reference(graph, q, found)
    return made


@needs_icarus
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_every_neuron(neuron: Any, tmp_path: Path) -> None:
    alone(random_graph(11, neuron=neuron, negative=True, settle_steps=1, blocks=1, flat=True), tmp_path, 4)


@needs_icarus
def test_step_functions(tmp_path: Path) -> None:
    alone(with_step_functions(random_graph(3, flat=True, blocks=1), 3, share=1.1), tmp_path, 4)


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


@needs_icarus
@pytest.mark.parametrize(("levels", "furthest"), [(100, 3), (32, 60)], ids=["limit", "change"])
def test_steps_that_are_wider_than_potentials(levels: int, furthest: int, tmp_path: Path) -> None:
    graph = small_steps(levels, furthest)
    made = design(units(graph), 1)
    (tmp_path / files.SIZES).write_text(files.header(made.sizes, 10), encoding="ascii")
    images(made, tmp_path)
    q = np.array([[1], [-1], [0]], np.int32)
    command = simulate.build("icarus", tmp_path)
    assert_equal_to_reference(graph, q, simulate.simulate(command, made, files.stream(q, ["x"]), tmp_path))


@needs_icarus
@pytest.mark.parametrize("lanes", [1, 8])
def test_convolutions_on_any_number_of_lanes(lanes: int, tmp_path: Path) -> None:
    alone(random_graph(12, blocks=1), tmp_path, lanes)


@needs_icarus
@pytest.mark.parametrize("arguments", [("+stall=5",), ("+reset=300",), ("+stall=3", "+reset=450")], ids=str)
def test_streams_that_pause_and_resets_in_an_image(arguments: tuple[str, ...], tmp_path: Path) -> None:
    alone(random_graph(5, flat=True, blocks=1), tmp_path, 4, *arguments)


@pytest.fixture(scope="module")
def universal(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    folder = tmp_path_factory.mktemp("verilator")
    (folder / files.SIZES).write_text(files.header(ROOM, 65_536), encoding="ascii")
    return simulate.build("verilator", folder, quick=True), folder


SEEDS = (0, 2, 4, 6, 7, 8, 10, 14, 22, 39)


@needs_verilator
def test_random_networks_in_verilator(universal: tuple[list[str], Path]) -> None:
    """`python -m benchmarks.fpga` runs 300 of them."""
    command, folder = universal
    ran = 0
    for seed in SEEDS:
        schedule = Schedule.LAYERWISE if seed % 5 == 4 else Schedule.SYNCHRONOUS
        settle = 0 if schedule is Schedule.LAYERWISE else seed % 3
        graph = random_graph(
            seed, schedule=schedule, settle_steps=settle, negative=seed % 2 == 0, flat=seed % 7 == 3
        )
        if seed % 8 == 7:
            graph = with_step_functions(graph, seed)
        found = units(graph)
        assert not found.problems, seed
        q, got = simulated(graph, command, folder, design(found, ROOM.lanes, ROOM))
        assert_equal_to_reference(graph, q, got)
        ran += 1
    assert ran == len(SEEDS)


@needs_verilator
@pytest.mark.parametrize("network", UNUSUAL, ids=lambda network: network.__name__)
def test_unusual_networks_in_verilator(network: Any, universal: tuple[list[str], Path]) -> None:
    command, folder = universal
    graph = network()
    q, got = simulated(graph, command, folder, design(units(graph), ROOM.lanes, ROOM))
    assert_equal_to_reference(graph, q, got)


@needs_verilator
def test_the_core_is_free_of_warnings(tmp_path: Path) -> None:
    bundle = deploy(Artefact(random_graph(3, flat=True)), load_backend("fpga"), tmp_path / "b").directory
    names = [*files.MODULES, "snnc_uart.sv", "snnc_board.sv"]
    command = [
        str(shutil.which("verilator")),
        "--lint-only",
        "-Wall",
        "-DSYNTHESIS",
        "--top-module",
        "snnc_board",
    ]
    result = run([*command, *names], 120, bundle)
    assert (result.returncode, result.stderr) == (0, "")


# Bundles


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph = random_graph(5, flat=True, blocks=1)
    return deploy(Artefact(graph), load_backend("fpga"), tmp_path_factory.mktemp("fpga") / "b").directory


@needs_either
def test_a_bundle_is_verified_by_simulation(bundle: Path) -> None:
    verdict = verify(bundle).verdict
    assert verdict is not None
    assert (verdict.wrong, verdict.rows) == (0, 8)
    assert "Verilog" in verdict.runner or "Verilator" in verdict.runner


def test_a_bundle_says_what_it_takes(bundle: Path) -> None:
    facts = manifest.read(bundle)["facts"]
    assert 0 < facts["estimated"]["cycles_per_image"] < 10_000
    assert facts["core"]["lanes"] >= 8
    readme = (bundle / "README.md").read_text(encoding="utf-8")
    assert "block RAMs" in readme
    assert "Never run on a board" in readme
    part = DEVICES["ecp5-85"]
    for clock in (part.clock_mhz, part.board_mhz):  # of place and route, and of the oscillator
        assert f"images/s at {clock:g} MHz" in readme


def test_without_a_simulator_it_is_said(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match=r"install the package verilator or iverilog"):
        verify(bundle)


@needs_either
@pytest.mark.parametrize("name", ["weights.hex", "snnc_core.sv", "Makefile", "network.vh", "board.lpf"])
def test_an_altered_bundle_is_not_run(name: str, bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    text = (copy / name).read_text(encoding="ascii")
    (copy / name).write_text(f"{text}\n", encoding="ascii")
    kept = {k: v for k, v in manifest.read(copy).items() if k not in ("files", manifest.OWN_HASH)}
    manifest.write(copy, kept)
    with pytest.raises(ArtefactError, match=f"{name} altered"):
        verify(copy)


def test_a_bundle_names_no_file_of_a_part(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    left_out = ("files", manifest.OWN_HASH)
    kept = {k: v for k, v in manifest.read(copy).items() if k not in left_out}
    manifest.write(copy, {**kept, "profile": str(tmp_path / "none.toml")})
    with pytest.raises(ArtefactError, match="does not know"):
        verify(copy)


def test_a_design_for_a_part_of_its_own(tmp_path: Path) -> None:
    part = tmp_path / "mine.toml"
    part.write_text('like = "ecp5-25"\nblocks = 40\nclock_mhz = 30\n', encoding="utf-8")
    artefact, out = tmp_path / "n.snn.onnx", tmp_path / "out"
    save(Artefact(random_graph(5, flat=True, blocks=1)), artefact)
    command = ["deploy", str(artefact), "--target", "fpga", "--profile", str(part), "-o", str(out)]
    assert main(command) == 0
    assert "mine" in (out / "README.md").read_text(encoding="utf-8")
    if shutil.which("iverilog"):
        assert main(["verify", str(out)]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("like = 'virtex'\n", "no known part"),
        ("like = [", "no TOML"),
        ("blocks = -3\n", "no positive number"),
        ("blocks = 2.5\n", "no whole number"),
        ("bramms = 3\n", "unknown key"),
        ("package = 3\n", "no text"),
        ("like = [1]\n", "no known part"),
        ("clock_mhz = inf\n", "no positive number"),
        ("board_mhz = nan\n", "no positive number"),
        ("board_mhz = 0.01\n", "too slow"),
        ('name = "größe"\n', "other characters"),
        ('package = "a; b"\n', "other characters"),
        ('option = "--x"\n', "other characters"),
        ('constraints = "# für uns"\n', "not ASCII"),
    ],
)
def test_parts_that_make_no_sense(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_backend("fpga", str(path))


@pytest.mark.parametrize("profile", DEVICES)
def test_place_and_route_is_asked_for_the_clock_of_the_part(profile: str, tmp_path: Path) -> None:
    graph = random_graph(5, flat=True, blocks=1)
    bundle = deploy(Artefact(graph), load_backend("fpga", profile), tmp_path / "b").directory
    makefile = (bundle / "Makefile").read_text(encoding="ascii")
    assert f"CLOCK = {DEVICES[profile].clock_mhz:g}\n" in makefile
    assert "--freq $(CLOCK)" in makefile
    # A frequency in the file of pins would silently take precedence.
    assert "frequency" not in DEVICES[profile].constraints.lower()


def test_parts_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ecp5-85"):
        load_backend("fpga", "ecp5-900")
    with pytest.raises(InputError, match="cannot be read"):
        load_backend("fpga", str(tmp_path / "none.toml"))


def test_the_part_of_a_bundle_is_no_profile() -> None:
    with pytest.raises(UsageError, match=r"PART\.toml"):
        load_backend("fpga", "custom").check(random_graph(5, flat=True, blocks=1))


# What is refused


def test_float_networks_are_refused() -> None:
    found = load_backend("fpga").check(as_float(random_graph(4)))
    assert found
    assert all("--precision int8" in problem.help for problem in found)


def test_what_is_too_large_is_refused_with_a_part_that_suffices(tmp_path: Path) -> None:
    part = tmp_path / "tiny.toml"
    part.write_text("blocks = 2\n", encoding="utf-8")
    (found,) = load_backend("fpga", str(part)).check(random_graph(4))
    assert "block RAMs of 2" in found.reason
    assert "ecp5-" in found.help


@pytest.mark.parametrize(
    ("changes", "blocks", "said"),
    [
        # 98 block RAMs of spikes, 74 with 3 of 4 steps, and 10 of other memories
        (
            {"spikes": 200_000, "spike": 8},
            90,
            "-T 3 or about 80 % of its channels: prune-channels{share=0.2}",
        ),
        ({"weights": 200_000}, 90, "about 85 % of its channels: prune-channels{share=0.15}"),
    ],
)
def test_how_much_smaller_a_network_would_fit(changes: dict[str, int], blocks: int, said: str) -> None:
    sizes = replace(design(units(random_graph(4)), 1).sizes, **changes)
    part = replace(DEVICES["ecp5-85"], blocks=blocks)
    assert use(sizes, part).beyond(part) is not None
    assert smaller(sizes, 4, part) == f"it would fit with {said}"


def test_a_part_may_be_too_small_for_any_network_of_the_kind() -> None:
    sizes = design(units(random_graph(4)), 1).sizes
    part = replace(DEVICES["ecp5-85"], luts=10)
    assert smaller(sizes, 4, part) == "a network of this kind does not fit"


def test_node_by_node() -> None:
    graph = random_graph(1, routed=True, functions=2)
    found = load_backend("fpga").check(graph)
    assert {problem.node for problem in found} <= {node.name for node in graph}
    assert any("knows no Count" in problem.reason for problem in found)


def test_more_spikes_than_an_instruction_counts_are_refused() -> None:
    graph = small_steps(levels=2**22)
    (found,) = load_backend("fpga").check(graph)
    assert "may send 16,777,216 in a step" in found.reason


# The pieces


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20))
def test_weights_are_sums_of_bytes(values: list[int]) -> None:
    weight = np.array(values, np.int64)
    parts = digits(weight)
    assert all(np.abs(2 * low + 1).max() <= 256 for _, low in parts)
    total: IntArray = sum((low << (8 * shift) for shift, low in parts), np.zeros_like(weight))
    np.testing.assert_array_equal(total.astype(np.int32), weight.astype(np.int32))


@given(st.lists(st.lists(st.integers(-8, 7), min_size=3, max_size=3), min_size=1, max_size=5))
def test_lanes_are_packed_from_the_lowest_bits(rows: list[list[int]]) -> None:
    words = packed(np.array(rows), 4)
    assert [[(word >> 4 * lane & 15 ^ 8) - 8 for lane in range(3)] for word in words] == rows
    assert packed_bytes(np.array(rows)) == packed(np.array(rows), 8)


def test_tables_are_stored_once() -> None:
    words = Words()
    assert [words.place(each) for each in ([1, 2], [3], [1, 2])] == [0, 2, 0]


def test_registers_are_set_only_where_they_change() -> None:
    program = Program()
    program.set(rows=3, columns=4)
    program.set(rows=3, columns=5)
    program.run(RESTART)
    assert [line.split()[1:] for line in program.listing().splitlines()] == [
        ["set", "rows", "3"],
        ["set", "columns", "4"],
        ["set", "columns", "5"],
        ["restart"],
    ]


@pytest.mark.parametrize(
    ("profile", "words", "bits", "blocks"),
    [
        ("ice40up5k", 1, 20, 0),  # the tables of a network without maps
        ("ice40up5k", 2, 20, 2),
        ("ice40up5k", 735, 32, 6),
        ("ecp5-85", 16, 400, 0),
        ("ecp5-85", 2048, 400, 45),
    ],
)
def test_block_rams_of_a_memory(profile: str, words: int, bits: int, blocks: int) -> None:
    assert block_rams(words, bits, DEVICES[profile]) == blocks


@needs_icarus
@pytest.mark.parametrize("network", [lambda: random_graph(12, blocks=1), small_perceptron])
def test_cycles_are_estimated_from_the_density(network: Any, tmp_path: Path) -> None:
    graph = network()
    q = random_inputs(graph, ROWS, 7)
    trace = ReferenceSimulator().run(graph, q, graph.timesteps, RecordOptions(activity=True))
    graph = replace(graph, density=trace.density(graph.settle_steps))
    mapped = fitted(units(graph), DEVICES["ecp5-85"])
    assert isinstance(mapped, Mapped)
    (tmp_path / files.SIZES).write_text(files.header(mapped.design.sizes, 10_000), encoding="ascii")
    _, found = simulated(graph, simulate.build("icarus", tmp_path), tmp_path, mapped.design)
    measured = found.activity["cycles"].mean()
    assert abs(mapped.estimate.cycles / measured - 1) < 0.15


def test_the_bundle_is_listed_as_json(bundle: Path) -> None:
    content = json.loads((bundle / manifest.NAME).read_text(encoding="utf-8"))
    assert content["exact"]
    assert {"network.vh", "program.hex", "weights.hex", "Makefile"} < set(content["files"])


def test_counts_of_a_simulation_are_priced_in_all_lanes() -> None:
    counted = {"taps": 10.0, "weight_reads": 8.0, "potential_reads": 3.0, "potential_writes": 2.0}
    spent = priced(counted, 4, MODELS["45nm"])
    assert spent == pytest.approx({"additions": 12.0, "weights": 40.0, "potentials": 100.0})


WAVEFORM = """\
$scope module snnc_tb $end
$var wire 1 ! clk $end
$scope module dut $end
$var wire 1 ! clk $end
$scope module core $end
$var wire 3 # sum [2:0] $end
$var parameter 8 % LANES $end
$scope module lanes $end
$var wire 3 # total [2:0] $end
$upscope $end
$upscope $end
$upscope $end
$var reg 1 & outside $end
$upscope $end
$enddefinitions $end
#0
bx #
x!
0&
#5
b1 #
0!
1&
#10
b110 #
1!
0&
#15
b11 #
"""


def test_changed_bits_of_a_waveform_are_counted_once_a_net(tmp_path: Path) -> None:
    path = tmp_path / "w.vcd"
    path.write_text(WAVEFORM, encoding="ascii")
    # The clock 0 to 1; the sum 001 to 110 to 011; nothing from unknown, and nothing beside the design.
    assert toggles.counted(path) == {"core": 1, "lanes": 5}
