"""Weights that the core fetches from an external memory: where they lie, when they come, what they cost."""

from __future__ import annotations

import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from snnc.artefact import Artefact
from snnc.backends import load_backend, manifest
from snnc.backends.deployment import deploy, verify
from snnc.backends.fpga import files, simulate
from snnc.backends.fpga.additions import TooFew, cut
from snnc.backends.fpga.bundle import BOARD
from snnc.backends.fpga.external import Buffer, external_beats
from snnc.backends.fpga.layout import Design
from snnc.backends.fpga.lowering import Fetching, design
from snnc.backends.fpga.mapper import Designs, Mapped, estimated
from snnc.backends.fpga.parts import DEVICES
from snnc.backends.fpga.units import units
from snnc.backends.programs import run
from snnc.errors import InputError, UsageError
from snnc.ir.neuron import Schedule
from snnc.ir.snn import SnnGraph
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests.fpga_networks import FETCHED, UNUSUAL, wide_perceptron
from tests.fpga_simulations import (
    assert_equal_to_reference,
    needs_either,
    needs_icarus,
    needs_verilator,
    simulated,
)
from tests.spiking_graphs import graphs, random_graph, with_step_functions


def built(made: Design, folder: Path) -> list[str]:
    (folder / files.SIZES).write_text(files.header(made.sizes, 10_000), encoding="ascii")
    return simulate.build("icarus", folder)


def runs(made: Design) -> int:
    return sum(len(work.fetched) for work in made.work.values())


@pytest.fixture(scope="module")
def universal(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    folder = tmp_path_factory.mktemp("verilator")
    (folder / files.SIZES).write_text(files.header(FETCHED, 65_536), encoding="ascii")
    return simulate.build("verilator", folder, quick=True), folder


@needs_verilator
@settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
@given(graphs(functions=(0,)), st.sampled_from((48, 100, 512)), st.booleans())
def test_random_networks_in_verilator(
    universal: tuple[list[str], Path], graph: SnnGraph, buffer: int, at_once: bool
) -> None:
    command, folder = universal
    found = units(graph)
    assume(not found.problems)
    try:
        made = design(found, FETCHED.lanes, FETCHED, fetching=Fetching(buffer, at_once))
    except (TooFew, UsageError):  # for this core
        assume(False)
    q, got = simulated(graph, command, folder, made)
    assert_equal_to_reference(graph, q, got)


@needs_verilator
@pytest.mark.parametrize("network", UNUSUAL, ids=lambda network: network.__name__)
def test_unusual_networks_in_verilator(network: Any, universal: tuple[list[str], Path]) -> None:
    command, folder = universal
    graph = network()
    made = design(units(graph), FETCHED.lanes, FETCHED, fetching=Fetching(FETCHED.weights))
    q, got = simulated(graph, command, folder, made)
    assert_equal_to_reference(graph, q, got)


NETWORKS = {
    "signed": random_graph(5, flat=True, blocks=1),
    "settling": random_graph(3, blocks=1, settle_steps=2, flat=True),
    "layerwise": random_graph(9, blocks=1, schedule=Schedule.LAYERWISE, flat=True),
    "steps": with_step_functions(random_graph(3, flat=True, blocks=1), 3, share=1.1),
}


@needs_icarus
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("lanes", "buffer"), [(1, 40), (4, 12), (16, 4)])
def test_more_weights_than_the_chip_holds(name: str, lanes: int, buffer: int, tmp_path: Path) -> None:
    graph = NETWORKS[name]
    whole, parts = (design(units(graph), lanes, fetching=Fetching(words)) for words in (100_000, buffer))
    assert runs(parts) > runs(whole)
    assert parts.sizes.weights <= buffer
    q, got = simulated(graph, built(parts, tmp_path), tmp_path, parts)
    assert_equal_to_reference(graph, q, got)


def test_weights_are_fetched_once_for_an_image_where_currents_are_kept() -> None:
    found = units(NETWORKS["signed"])
    once, each_step = (design(found, 4, fetching=Fetching(12, at_once)) for at_once in (True, False))
    fetched = [sum(sum(work.fetched) for work in made.work.values()) for made in (once, each_step)]
    assert fetched[0] * external_beats(4) == once.sizes.external
    assert fetched[1] > fetched[0]
    assert once.sizes.potentials > each_step.sizes.potentials


@needs_icarus
@pytest.mark.parametrize(
    ("arguments", "populations"),
    [(("+stall=5",), 6), (("+reset=8500", "+stall=2"), 0), (("+reset=10200",), 2)],
    ids=["pauses", "reset while weights are brought", "reset in an image"],
)
def test_pauses_and_resets(arguments: tuple[str, ...], populations: int, tmp_path: Path) -> None:
    graph = NETWORKS["signed"]
    made = design(units(graph), 4, fetching=Fetching(12))
    q, got = simulated(graph, built(made, tmp_path), tmp_path, made, *arguments)
    assert_equal_to_reference(graph, q, got)
    before = (tmp_path / "states.txt").read_text(encoding="ascii").partition("reset")[0]
    assert before.count("population") == populations  # that were complete when the reset came


@needs_icarus
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("RCD = 1", "RCD = 0"),
        ("RP = 1", "RP = 0"),
        ("RFC = 6", "RFC = 4"),
        ("WRITTEN = 5", "WRITTEN = 2"),
        ("IDLE: if (due != 0)", "IDLE: if (0)"),
        ("timer <= powered ? RFC : 16'(POWER)", "timer <= RFC"),
    ],
)
def test_a_controller_in_too_great_a_hurry_is_found(right: str, wrong: str, tmp_path: Path) -> None:
    made = design(units(NETWORKS["signed"]), 4, fetching=Fetching(12))
    text = files.core_text("snnc_sdram.sv")
    assert right in text
    built(made, tmp_path)
    (tmp_path / "snnc_sdram.sv").write_text(text.replace(right, wrong), encoding="ascii")
    with pytest.raises(UsageError, match="FAULT: SDRAM"):
        simulated(NETWORKS["signed"], simulate.compiled("icarus", tmp_path), tmp_path, made)


# What is kept on the chip


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 10)), max_size=30))
def test_words_that_are_known_do_not_overlap(fetched: list[tuple[int, int]]) -> None:
    sizes = dict(fetched)
    buffer = Buffer(16)
    for address, _ in fetched:
        if address not in buffer.known:
            buffer.place(address, sizes[address])
        extents = sorted((at, at + sizes[known]) for known, at in buffer.known.items())
        assert all(end <= after for (_, end), (after, _) in pairwise(extents))
        assert all(end <= 16 for _, end in extents)


@given(
    *(st.integers(0, 20), st.integers(0, 20), st.integers(0, 5), st.integers(0, 5)),
    *(st.integers(1, 9), st.sampled_from((1, 4, 16)), st.integers(1, 100)),
)
def test_parts_of_a_weight_hold_each_channel_once(
    first: int, channels: int, low: int, blocks: int, kernel: int, lanes: int, most: int
) -> None:
    assume(kernel <= most)
    seen = []
    for a, z, bottom, top in cut((first, first + channels, low, low + blocks), kernel, lanes, most):
        assert (z - a + 1) * (top - bottom + 1) * kernel <= most
        seen += [(channel, block) for channel in range(a, z + 1) for block in range(bottom, top + 1)]
    whole = [(c, b) for c in range(first, first + channels + 1) for b in range(low, low + blocks + 1)]
    assert sorted(seen) == whole


# Parts


def test_weights_lie_on_the_chip_where_they_fit() -> None:
    graph = random_graph(5, flat=True, blocks=1)
    mapped = Designs(units(graph)).fitted(DEVICES["ecp5-25"])
    assert isinstance(mapped, Mapped)
    assert mapped.design.sizes.external == 0


@needs_icarus
def test_cycles_are_estimated(tmp_path: Path) -> None:
    graph = NETWORKS["signed"]
    made = design(units(graph), 4, fetching=Fetching(12))
    q, got = simulated(graph, built(made, tmp_path), tmp_path, made)
    trace = ReferenceSimulator().run(graph, q, graph.timesteps, RecordOptions(activity=True))
    estimate = estimated(units(graph), made, trace.density(graph.settle_steps))
    assert abs(estimate.cycles / got.activity["cycles"].mean() - 1) < 0.15
    resident = design(units(graph), 4)
    (tmp_path / "resident").mkdir()
    _, beside = simulated(graph, built(resident, tmp_path / "resident"), tmp_path / "resident", resident)
    longer = (got.activity["cycles"] - beside.activity["cycles"]).mean()
    assert 0 < estimate.fetching < 1.5 * longer
    np.testing.assert_array_equal(got.scores, beside.scores)


LESS = 'like = "ecp5-25"\nblocks = 20\n'
"""A part whose block RAMs hold all that `wide_perceptron` needs but its weights."""


def test_a_network_that_needs_external_memory_is_refused_without_it(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(LESS, encoding="utf-8")
    assert load_backend("fpga", str(path)).check(wide_perceptron()) == ()
    path.write_text(f"{LESS}sdram_words = 0\n", encoding="utf-8")
    (found,) = load_backend("fpga", str(path)).check(wide_perceptron())
    assert re.search(r"takes \d+ block RAMs of 20 of small with one lane;", found.reason)
    path.write_text(f"{LESS}sdram_words = 1000\n", encoding="utf-8")
    (found,) = load_backend("fpga", str(path)).check(wide_perceptron())
    assert "words of external memory of 1,000" in found.reason
    path.write_text('like = "ecp5-25"\nblocks = 5\n', encoding="utf-8")
    (found,) = load_backend("fpga", str(path)).check(wide_perceptron())
    assert re.search(
        r"\d+ block RAMs of 5 of small with one lane and weights in external memory", found.reason
    )
    assert "--profile ecp5-" in found.help


@pytest.mark.parametrize("value", ["-1", "2.5", "true", "100000000"])
def test_memories_that_make_no_sense(value: str, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(f"sdram_words = {value}\n", encoding="utf-8")
    with pytest.raises(InputError, match="no whole number from 0 to 16,777,216"):
        load_backend("fpga", str(path))


@needs_either
def test_a_bundle_with_external_memory(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(LESS, encoding="utf-8")
    bundle = deploy(Artefact(wide_perceptron()), load_backend("fpga", str(path)), tmp_path / "b").directory
    assert manifest.read(bundle)["facts"]["core"]["external"] > 0
    assert "external.hex" in (bundle / "README.md").read_text(encoding="utf-8")
    assert "sdram_address[12]" in (bundle / "board.lpf").read_text(encoding="ascii")
    assert not (bundle / "weights.hex").exists()
    verdict = verify(bundle).verdict
    assert verdict is not None
    assert (verdict.wrong, verdict.rows) == (0, 8)


@needs_verilator
def test_the_core_with_external_memory_is_free_of_warnings(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(LESS, encoding="utf-8")
    bundle = deploy(Artefact(wide_perceptron()), load_backend("fpga", str(path)), tmp_path / "b").directory
    command = [str(shutil.which("verilator")), "--lint-only", "-Wall", "-DSYNTHESIS", "--top-module"]
    result = run([*command, "snnc_board", *files.MODULES, *BOARD], 120, bundle)
    assert (result.returncode, result.stderr) == (0, "")
