"""Bundles of the target `fpga`: simulated, described, altered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from snnc.artefact import Artefact
from snnc.backends import load_backend, manifest
from snnc.backends.deployment import deploy, verify
from snnc.backends.fpga.parts import DEVICES
from snnc.errors import ArtefactError, UsageError
from tests.fpga_simulations import (
    needs_either,
)
from tests.spiking_graphs import random_graph


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


def test_the_bundle_is_listed_as_json(bundle: Path) -> None:
    content = json.loads((bundle / manifest.NAME).read_text(encoding="utf-8"))
    assert content["exact"]
    assert {"network.vh", "program.hex", "weights.hex", "Makefile"} < set(content["files"])


@pytest.mark.parametrize("profile", DEVICES)
def test_place_and_route_is_asked_for_the_clock_of_the_part(profile: str, tmp_path: Path) -> None:
    graph = random_graph(5, flat=True, blocks=1)
    bundle = deploy(Artefact(graph), load_backend("fpga", profile), tmp_path / "b").directory
    makefile = (bundle / "Makefile").read_text(encoding="ascii")
    assert f"CLOCK = {DEVICES[profile].clock_mhz:g}\n" in makefile
    assert "--freq $(CLOCK)" in makefile
    # A frequency in the file of pins would silently take precedence.
    assert "frequency" not in DEVICES[profile].constraints.lower()
