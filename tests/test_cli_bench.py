"""`snnc bench` and `snnc inspect --plan`: what they tell and refuse. How fast anything is, is not tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnc
from snnc.backends import load_simulator
from snnc.cli import main
from snnc.cores import available_cores
from snnc.ir.snn import IntegrateFire
from snnc.simulation.protocol import RecordOptions
from tests import quadrants
from tests.quadrants import Files

ROUNDS = ["--rounds", "2"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return quadrants.write(tmp_path_factory.mktemp("user"))


def converted(files: Files, preset: str) -> Path:
    path = files.folder / f"{preset}.snn.onnx"
    data = ["--calib", str(files.calibration), "--preprocess", str(files.preprocessing)]
    assert main(["convert", str(files.model), *data, "-o", str(path), "-T", "4", "--preset", preset]) == 0
    return path


@pytest.fixture(scope="module")
def artefact(files: Files) -> Path:
    return converted(files, "fast")


@pytest.fixture(scope="module")
def graded(files: Files) -> Path:
    return converted(files, "graded")


def shown(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_the_contract(artefact: Path, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, "bench", artefact, "--against", files.model, "--data", files.test, *ROUNDS)
    assert found["ratio"] == pytest.approx(found["ms"] / found["ann_ms"], rel=0.01)
    assert found["ms"] == found["snn"]["minimum"] <= found["snn"]["median"] <= found["snn"]["p90"]
    assert (found["threads"], found["batch"], found["mode"], found["rounds"]) == (1, 1, "spikes", 2)
    network = snnc.load(artefact)
    x, _ = quadrants.images(150, 2)
    q = network.encode(x[:1])
    trace = load_simulator("reference").run(network.graph, q, 4, RecordOptions(activity=True))
    fired = sum(int(activity.events.sum()) for activity in trace.activity.values())
    neurons = sum(activity.events.size for activity in trace.activity.values())
    assert found["density"] == pytest.approx(fired / neurons / 4, abs=1e-4)


def test_the_source_is_found_by_itself(
    artefact: Path, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(artefact), "--data", str(files.test), "--batch", "5", "-T", "2", *ROUNDS]) == 0
    captured = capsys.readouterr()
    assert "The spiking network takes" in captured.out
    assert "T = 2, K = 0" in captured.out
    assert "not calibrated for T = 2" in captured.err


def test_counts_have_rows_of_their_own(
    graded: Path, artefact: Path, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    found = shown(capsys, "bench", graded, "--data", files.test, "--mode", "counts", *ROUNDS)
    assert found["mode"] == "counts"
    spikes = shown(capsys, "bench", graded, "--data", files.test, *ROUNDS)
    assert spikes["mode"] == "spikes"
    # The density and the operations are those of the spikes, whatever was run.
    assert found["density"] == spikes["density"]
    assert main(["bench", str(graded), "--data", str(files.test), "--mode", "counts", *ROUNDS]) == 0
    assert "one pass over spike counts without spikes" in capsys.readouterr().out
    message = refused(capsys, 2, "bench", artefact, "--data", files.test, "--mode", "counts")
    assert "counts" in message
    assert "--preset graded" in message


def test_a_limit_that_is_missed(artefact: Path, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", files.test, *ROUNDS, "--max-ratio"]
    assert shown(capsys, "bench", artefact, *options, 1e9)["batch"] == 1
    capsys.readouterr()
    assert main(["bench", str(artefact), *map(str, options), "1e-9"]) == 4
    captured = capsys.readouterr()
    assert "times as long" in captured.out
    assert captured.err.startswith("error: ")
    missed = shown(capsys, "bench", artefact, *options, 1e-9, code=4)
    assert missed["batch"] == 1
    assert missed["error"]["exit_code"] == 4


def test_no_more_threads_than_cores(artefact: Path, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    many = ["--data", files.test, "--threads", 100_000_000]
    assert shown(capsys, "bench", artefact, *many, *ROUNDS)["threads"] == available_cores()
    assert shown(capsys, "eval", artefact, *many, "--against", "source", "--limit", 3)["n"] == 3
    assert shown(capsys, "eval", artefact, *many, "--backend", "onnx", "--limit", 3)["n"] == 3


def test_refusals(artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in refused(capsys, 5, "bench", artefact, "--against", "nowhere.onnx")
    assert "no rows" in refused(capsys, 2, "bench", artefact)
    assert "150 rows" in refused(capsys, 5, "bench", artefact, "--data", files.test, "--batch", 151)
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, x=np.zeros((4, 5, 5), np.uint8))
    assert "shape" in refused(capsys, 5, "bench", artefact, "--data", wrong, *ROUNDS)
    broken = tmp_path / "broken.npz"
    np.savez(broken, x=np.full((4, 8, 8), np.nan, np.float32))
    assert "NaN" in refused(capsys, 5, "bench", artefact, "--data", broken)


def test_the_density_travels_with_the_artefact(artefact: Path) -> None:
    graph = snnc.load(artefact).graph
    assert graph.density.keys() == {node.name for node in graph.of_type(IntegrateFire)}
    assert all(0 < share < 1 for share in graph.density.values())


def test_the_plan(artefact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = snnc.load(artefact).graph
    found = shown(capsys, "inspect", artefact, "--plan", "--threads", 2, "--batch", 1)
    assert found["threads_per_image"] == 1  # two would wait for each other longer than they work
    names = [layer["name"] for layer in found["layers"]]
    assert names == [node.name for node in graph.of_type(IntegrateFire)] + [graph.output]
    assert {term["density"] for layer in found["layers"] for term in layer["terms"]} <= {
        None,
        *graph.density.values(),
    }
    assert shown(capsys, "inspect", artefact, "--plan", "--batch", 3)["threads_per_image"] == 1
    assert main(["inspect", str(artefact), "--plan", "--threads", "1"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("plan for ")
    assert all(name in text for name in names)
