"""What the core computes in Verilog simulators: every neuron, random and unusual networks, the streams."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.artefact import Artefact
from snnc.backends import load_backend
from snnc.backends.deployment import deploy
from snnc.backends.fpga import files, simulate
from snnc.backends.fpga.lowering import design
from snnc.backends.fpga.units import units
from snnc.backends.programs import run
from snnc.ir.neuron import Schedule
from tests.fpga_networks import ROOM, UNUSUAL, small_steps
from tests.fpga_simulations import (
    alone,
    assert_equal_to_reference,
    images,
    needs_icarus,
    needs_verilator,
    simulated,
)
from tests.spiking_graphs import NEURONS, random_graph, with_step_functions


@needs_icarus
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_every_neuron(neuron: Any, tmp_path: Path) -> None:
    alone(random_graph(11, neuron=neuron, negative=True, settle_steps=1, blocks=1, flat=True), tmp_path, 4)


@needs_icarus
def test_step_functions(tmp_path: Path) -> None:
    alone(with_step_functions(random_graph(3, flat=True, blocks=1), 3, share=1.1), tmp_path, 4)


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
