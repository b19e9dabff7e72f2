"""The benchmark of networks beyond classifiers measures, reports, and does without its networks."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.corpus import wild

SHARED = Path(__file__).parents[2] / "shared"


def test_without_the_networks_nothing_is_measured(tmp_path: Path) -> None:
    page = tmp_path / "wild.md"
    result = CliRunner().invoke(wild.main, ["--shared", str(tmp_path), "--report", str(page)])
    assert result.exit_code == 0
    assert "nothing to measure" in result.output
    assert not page.exists()


@pytest.mark.skipif(not (SHARED / "wild/index.json").exists(), reason="no ../shared")
def test_one_that_converts_and_one_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wild, "CACHE", tmp_path / "cache.jsonl")
    page = tmp_path / "wild.md"
    names = "hls4ml_three_layer_keras,ecg_model"
    result = CliRunner().invoke(wild.main, ["--networks", names, "--report", str(page)])
    assert result.exit_code == 0, result.output
    text = page.read_text(encoding="utf-8")
    assert "Of 2 networks 1 can be converted" in text
    assert "% equal" in text
    assert "its sequence of 2500 steps is too long" in text
