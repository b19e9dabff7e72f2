"""The benchmark of the paper's parts, on a network of a few hundred weights."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from snnc.frontend import read_onnx
from snnc.simulation.ann_reference import run_ann
from tests.tuned_networks import network

ROOT = Path(__file__).parent.parent


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    return import_module("benchmarks.paper")


def test_settings_are_four_kinds_of_neurons_and_all_combinations_of_parts(paper: Any) -> None:
    found = list(paper.settings(quantised=False))
    assert len(found) == 4 * 4 + 8 * 4
    assert len({(each.table, each.label, each.timesteps) for each in found}) == len(found)
    exact = [each for each in paper.settings(quantised=True) if each.pipeline == "exact"]
    assert [each.timesteps for each in exact] == [1, 2, 4, 8]


def test_measurements_are_kept_and_not_repeated(paper: Any, tmp_path: Path) -> None:
    path = network(tmp_path)
    x = np.random.default_rng(0).standard_normal((80, 1, 6, 6)).astype(np.float32)
    answers, _ = run_ann(read_onnx(path).graph, x)
    np.savez(tmp_path / "rows.npz", x=x, y=answers.argmax(axis=1))
    measured = tmp_path / "paper.jsonl"
    rows = str(tmp_path / "rows.npz")
    command = ["--network", str(path), "--train", rows, "--test", rows, "--measured", str(measured)]
    more = ["--name", "small", "--only", "dual threshold, init", "--limit", "40", "--threads", "1"]
    first = CliRunner().invoke(paper.main, [*command, *more])
    assert first.exit_code == 0, first.output
    lines = measured.read_text().splitlines()
    assert len(lines) == 8
    assert CliRunner().invoke(paper.main, [*command, *more]).exit_code == 0
    assert measured.read_text().splitlines() == lines
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- paper: begin -->\nwas here\n<!-- paper: end -->\nbehind\n")
    printed = CliRunner().invoke(
        paper.main, ["--print", "--measured", str(measured), "--report", str(page)], catch_exceptions=False
    )
    text = page.read_text()
    assert text.startswith("before\n<!-- paper: begin -->\n## small (100.00 [")
    assert text.endswith("\n<!-- paper: end -->\nbehind\n")
    assert "was here" not in text
    assert "## small (100.00 [" in printed.output
    assert "n = 40): parts" in printed.output
    assert "| thresholds, dual threshold, initialisation |" in printed.output
    assert "| QCFS, ICLR 2022 | CIFAR-10 ResNet-18 | 96.04 | - | 75.44 | 90.43 | 94.82 |" in printed.output


def test_a_page_without_marks_is_left_alone(paper: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- paper: begin -->\nall of it\n")
    with pytest.raises(ValueError, match="has no marks"):
        paper.write_between(page, "paper", "new\n")
    assert page.read_text() == "<!-- paper: begin -->\nall of it\n"
