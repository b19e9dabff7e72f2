"""Parts: their files, what does not fit them, what would, how many cycles a network takes there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snnc.artefact import Artefact, save
from snnc.backends import load_backend
from snnc.backends.fpga import files, simulate
from snnc.backends.fpga.lowering import design
from snnc.backends.fpga.mapper import Designs, Mapped, block_rams, smaller, use
from snnc.backends.fpga.parts import DEVICES
from snnc.backends.fpga.units import units
from snnc.cli import main
from snnc.errors import InputError, UsageError
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests.fpga_networks import small_perceptron
from tests.fpga_simulations import (
    ROWS,
    needs_icarus,
    simulated,
)
from tests.spiking_graphs import random_graph, random_inputs


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
        ("like = [", "is not TOML"),
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


def test_parts_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ecp5-85"):
        load_backend("fpga", "ecp5-900")
    with pytest.raises(InputError, match="cannot be read"):
        load_backend("fpga", str(tmp_path / "none.toml"))


def test_the_part_of_a_bundle_is_no_profile() -> None:
    with pytest.raises(UsageError, match=r"PART\.toml"):
        load_backend("fpga", "custom").check(random_graph(5, flat=True, blocks=1))


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
    mapped = Designs(units(graph)).fitted(DEVICES["ecp5-85"])
    assert isinstance(mapped, Mapped)
    (tmp_path / files.SIZES).write_text(files.header(mapped.design.sizes, 10_000), encoding="ascii")
    _, found = simulated(graph, simulate.build("icarus", tmp_path), tmp_path, mapped.design)
    measured = found.activity["cycles"].mean()
    assert abs(mapped.estimate.cycles / measured - 1) < 0.15
