"""Passes, targets and presets of other distributions, found by their entry points."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from snnc.artefact import Artefact, load, save
from snnc.backends import BACKENDS, load_backend
from snnc.cli import main
from snnc.errors import UsageError
from snnc.passes import PASSES, PRESETS
from snnc.plugins import Plugged
from snnc.report.targets import fits
from tests import quadrants
from tests.spiking_graphs import random_graph

MODULE = """\
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from snnc.ir.snn import SnnGraph
from snnc.passes import Preset
from snnc.pipeline import Context, require
from snnc.simulation.protocol import Capabilities, Emission, VerificationResult


@dataclass(frozen=True, slots=True)
class Rename:
    name: ClassVar[str] = "rename"
    digit: int = 1

    def __post_init__(self) -> None:
        require("digit", self.digit, 0, 9)

    def run(self, graph: SnnGraph, context: Context, /) -> SnnGraph:
        return replace(graph, name=f"renamed {self.digit}")


PIPELINE = "fold-batchnorm,clip-activations,lower,rename{digit=3},quantise-weights"
PRESET = Preset("renaming", "one more name", PIPELINE)


class Notes:
    name: ClassVar[str] = "notes"
    capabilities = Capabilities("a file of notes", True, "nobody", {"short": "a line"}, "everything")

    def __init__(self, profile: str | None = None) -> None:
        self.profile = self.capabilities.chosen(self.name, profile)

    def check(self, graph):
        return ()

    def emit(self, artefact, golden, directory: Path) -> Emission:
        (directory / "notes.txt").write_text(artefact.graph.name, encoding="utf-8")
        return Emission("Read `notes.txt`.", {})

    def verify(self, directory: Path, golden) -> VerificationResult:
        return VerificationResult("an eye", len(golden.y), 0, "nothing")


class Moody(Notes):
    name = "moody"

    def check(self, graph):
        raise RuntimeError("not today")
"""

ENTRY_POINTS = """\
[snnc.passes]
rename = other_snnc:Rename
lower = other_snnc:Rename
no-pass = other_snnc:PRESET
no-module = other_snnc_missing:Rename

[snnc.presets]
renaming = other_snnc:PRESET
no-preset = other_snnc:Rename

[snnc.backends]
notes = other_snnc:Notes
moody = other_snnc:Moody
no-backend = other_snnc:PRESET
exits = other_snnc_exits:Notes
"""


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution as pip leaves it on the path."""
    site = tmp_path / "site"
    info = site / "other_snnc-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "other_snnc.py").write_text(MODULE, encoding="utf-8")
    (site / "other_snnc_exits.py").write_text("raise SystemExit('no licence')", encoding="utf-8")
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: other-snnc\nVersion: 1.0\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    for table in (PASSES, PRESETS, BACKENDS):
        monkeypatch.setattr(table, "_found", None)
    yield
    sys.modules.pop("other_snnc", None)


@pytest.mark.usefixtures("other")
def test_a_preset_and_a_pass_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files, out = quadrants.write(tmp_path), tmp_path / "n.snn.onnx"
    data = ["--calib", str(files.calibration), "--preprocess", str(files.preprocessing), "-o", str(out)]
    assert main(["convert", str(files.model), *data, "--preset", "renaming"]) == 0
    assert load(out).graph.name == "renamed 3"
    arguments = ["convert", str(files.model), *data, "--preset", "renaming", "--force", "--set"]
    assert main([*arguments, "rename.digit=4"]) == 0
    assert load(out).graph.name == "renamed 4"
    capsys.readouterr()
    assert main([*arguments, "rename.digit=10"]) == 2
    assert "digit must lie in [0, 9], not 10" in capsys.readouterr().err


@pytest.mark.usefixtures("other")
def test_a_target_writes_and_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, bundle = tmp_path / "n.snn.onnx", tmp_path / "bundle"
    save(Artefact(random_graph(4)), network)
    assert main(["check", str(network), "--target", "notes"]) == 0
    assert main(["deploy", str(network), "--target", "notes", "-o", str(bundle)]) == 0
    assert (bundle / "notes.txt").read_text(encoding="utf-8") == "random-4"
    assert main(["verify", str(bundle)]) == 0
    assert "an eye" in capsys.readouterr().out


@pytest.mark.usefixtures("other")
def test_what_is_broken_is_a_warning_and_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--json"]) == 0
    out, err = capsys.readouterr()
    names = [row["name"] for row in json.loads(out)["targets"]]
    assert names[-2:] == ["moody", "notes"]
    assert len(names) == len(set(names)) == 8
    warnings = err.splitlines()
    assert len(warnings) == 2
    assert all(line.startswith("warning: ") for line in warnings)
    assert "'exits' of the entry points snnc.backends cannot be used: SystemExit: no licence" in err
    assert "'no-backend'" in err


@pytest.mark.usefixtures("other")
def test_a_name_of_snnc_is_never_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "zoo:fashion-resnet", "--dry-run", "--preset", "renaming"]) == 0
    assert (
        "warning: snnc.passes: 'lower' of other-snnc is ignored: snnc itself provides it"
        in capsys.readouterr().err
    )
    assert PASSES["lower"]().__module__ == "snnc.passes.lower"
    assert list(PASSES)[-3:] == ["no-module", "no-pass", "rename"]


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--pipeline", "no-pass"], "no-pass"),
        (["--pipeline", "no-module"], "no-module"),
        (["--preset", "no-preset"], "no-preset"),
    ],
)
def test_what_is_broken_is_refused_where_it_is_asked_for(
    arguments: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "zoo:fashion-resnet", "--dry-run", *arguments]) == 2
    err = capsys.readouterr().err
    line = err.splitlines()[-1]
    assert line.startswith(f"error: {name!r} of the entry points snnc.")
    assert "cannot be used" in line
    assert "Traceback" not in err


@pytest.mark.usefixtures("other")
def test_a_target_that_fails_while_it_is_asked_is_left_out_of_the_report() -> None:
    targets = {fit.target for fit in fits(random_graph(4))}
    assert "notes" in targets
    assert "moody" not in targets
    with pytest.raises(UsageError, match="'no-backend' of the entry points"):
        load_backend("no-backend")


def test_names_of_snnc_are_found_without_a_look_at_other_distributions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look(group: str) -> object:
        raise AssertionError("entry points were read")

    monkeypatch.setattr("snnc.plugins.entry_points", look)
    table = Plugged("snnc.nothing", {"own": 1}, lambda name, load: 2)
    assert "own" in table
    assert table["own"] == 1


def test_damaged_metadata_on_the_path_stop_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(group: str) -> object:
        raise OSError("damaged")

    monkeypatch.setattr("snnc.plugins.entry_points", look)
    table = Plugged("snnc.nothing", {"own": np.int64(1)}, lambda name, load: np.int64(2))
    assert list(table) == ["own"]
    assert "other" not in table
