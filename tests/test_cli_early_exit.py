"""`--exit-confidence` of `snnc run` and `snnc bench`: what rows answer when sure, and what that takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnc
from snnc.artefact import Artefact
from snnc.cli import main
from snnc.ir.graph import FloatArray
from tests import quadrants
from tests.quadrants import Files

T = 6


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return quadrants.write(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def artefact(files: Files) -> Path:
    path = files.folder / "quadrants.snn.onnx"
    data = ["--calib", str(files.calibration), "--preprocess", str(files.preprocessing)]
    assert main(["convert", str(files.model), *data, "-o", str(path), "-T", str(T), "--preset", "fast"]) == 0
    return path


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def scores_after(network: Artefact, path: Path, step: int) -> FloatArray:
    """The source's scores that the first steps of a run stand for, from what `run --per-step` writes."""
    return network.graph.readout.decoded(np.load(path)[step - 1], step)


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_rows_answer_with_the_scores_of_the_step_in_which_they_are_sure(
    backend: str, artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ("run", artefact, "--input", files.test)
    told(capsys, *rows, "-o", tmp_path / "steps.npy", "--per-step")
    out = tmp_path / "y.npy"
    options = ("--logits", "--exit-confidence", 0.8, "--backend", backend)
    found = told(capsys, *rows, "-o", out, *options)
    y, latency = np.load(out), np.array(found["latency_steps"])
    network = snnc.load(artefact)
    assert len(set(latency.tolist())) > 1
    assert y.dtype == np.float32
    for step in range(1, T + 1):
        scores = scores_after(network, tmp_path / "steps.npy", step)
        np.testing.assert_array_equal(y[latency == step], scores[latency == step])
        likely = np.exp(scores - scores.max(axis=1, keepdims=True))
        sure = 1 / likely.sum(axis=1) >= 0.8
        assert sure[latency == step].all() or step == T
        assert not sure[latency > step].any()
    assert found["classes"] == y.argmax(axis=1).tolist()
    assert found["early_exit"]["latency_steps"]["mean"] == latency.mean()
    assert (found["timesteps"], found["task"]) == (T, "classes")


def test_what_it_takes_is_that_of_eval(
    artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sure = ("--exit-confidence", 0.8)
    expected = told(capsys, "eval", artefact, "--data", files.test, *sure)["early_exit"]
    timed = told(capsys, "bench", artefact, "--data", files.test, "--rounds", 2, *sure)
    assert timed["early_exit"] == expected
    assert timed["latency_steps"] == T  # of what was timed: all steps
    plain = told(capsys, "bench", artefact, "--data", files.test, "--rounds", 2)
    assert "early_exit" not in plain
    assert plain["synops"] == timed["synops"]
    out = tmp_path / "y.npy"
    run = ("run", artefact, "--input", files.test, "-o", out, "--logits")
    found = told(capsys, *run, *sure)["early_exit"]
    assert found == {key: value for key, value in expected.items() if not key.startswith("top1")}
    assert main([*map(str, run), "--force", *map(str, sure)]) == 0
    assert "from 0.8 on" in capsys.readouterr().out
    assert main(["bench", str(artefact), "--data", str(files.test), "--rounds", "2", *map(str, sure)]) == 0
    assert "answers when sure" in capsys.readouterr().out


def test_refusals(artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ("run", artefact, "--input", files.test, "-o", tmp_path / "y.npy")
    sure = ("--exit-confidence", 0.8)
    assert "needs --logits" in refused(capsys, *run, *sure)
    assert "leave out --per-step" in refused(capsys, *run, *sure, "--logits", "--per-step")
    assert "--backend onnx gives none" in refused(capsys, *run, *sure, "--logits", "--backend", "onnx")
    assert "0<x<1" in refused(capsys, *run, "--exit-confidence", 1, "--logits")
    numbers = refused(capsys, *run, *sure, "--logits", "--task", "regression")
    assert "no scores of classes" in numbers
    bench = ("bench", artefact, "--data", files.test, *sure)
    assert "--mode counts has none" in refused(capsys, *bench, "--mode", "counts")
    assert list(tmp_path.iterdir()) == []
