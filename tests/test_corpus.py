"""The benchmark over a corpus, on a corpus of two tiny networks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import quadrants

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


def corpus(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.corpus", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder as the benchmark expects it: one network in scope, one out of scope, one without data."""
    folder = tmp_path / "shared"
    (folder / "models").mkdir(parents=True)
    (folder / "data").mkdir()
    proto = quadrants.network()
    names = ("good", "blind", "bad")
    for name in names:
        if name == "bad":
            proto.graph.node[1].op_type = "Hardmax"
        (folder / "models" / f"{name}.onnx").write_bytes(proto.SerializeToString())
    entries: list[dict[str, Any]] = [
        {"file": f"{name}.onnx", "data": None if name == "blind" else "toy", "preprocessing": None}
        for name in names
    ]
    for entry in entries:
        if entry["data"]:
            entry["preprocessing"] = quadrants.PREPROCESSING
    (folder / "models" / "index.json").write_text(json.dumps(entries), encoding="utf-8")
    for name, n, seed in (("toy_train", 150, 1), ("toy_test_dev", 80, 2)):
        x, y = quadrants.images(n, seed)
        np.savez(folder / "data" / f"{name}.npz", x=x, y=y)
    return folder


def test_every_network_has_its_place(shared: Path, tmp_path: Path) -> None:
    page, cache = tmp_path / "corpus.md", tmp_path / "cache.jsonl"
    parts = ("--shared", shared, "--cache", cache, "--settings", "fast@2,one-step@4", "--report", page)
    done = corpus(*parts)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3 + 2 + 2  # T = 0 of all three; T = 2, 4 of two
    text = page.read_text(encoding="utf-8")
    for part in (
        "--settings fast@2,one-step@4",
        "| network | data | n | ANN | `fast`, T = 2 | `one-step`, T = 4 |",
        "| good | toy | 80 |",
        "| blind | `one-step`, T = 4 | 0.",
        "| bad |",
        "SNN101",
    ):
        assert part in text
    rows = [json.loads(line) for line in cache.read_text(encoding="utf-8").splitlines()]
    (row,) = [row for row in rows if row["network"] == "good" and row["timesteps"] == 4]
    assert row["n"] == 80
    assert row["top1"] > 0.9
    assert row["ann"]["top1"] > 0.9
    again = corpus(*parts, "--any-code")
    assert again.stdout == ""  # nothing is measured twice
    assert page.read_text(encoding="utf-8") == text


def test_what_is_not_there(tmp_path: Path) -> None:
    done = corpus("--shared", tmp_path)
    assert done.returncode == 1
    assert "is not there" in done.stderr
    assert "--shared" in done.stderr


def test_unknown_networks(shared: Path) -> None:
    done = corpus("--shared", shared, "--networks", "good,missing")
    assert done.returncode == 2
    assert "not in the corpus: missing" in done.stderr


@pytest.mark.parametrize("settings", ["fast", "fast@0", "fast@x", "slow@4", "fast@4,"])
def test_settings_that_are_none(settings: str, shared: Path) -> None:
    done = corpus("--shared", shared, "--settings", settings)
    assert done.returncode == 2
    assert "write PRESET@T" in done.stderr


@pytest.mark.skipif(
    not SHARED.exists(), reason="the corpus of networks, ../shared, is not beside this checkout"
)
def test_a_real_network_of_the_corpus(tmp_path: Path) -> None:
    cache = tmp_path / "cache.jsonl"
    parts = ("--networks", "cntk_mnist_winml", "--limit", "500", "--cache", cache)
    done = corpus("--settings", "fast@8", *parts)
    assert done.returncode == 0, done.stderr
    (row,) = [r for r in map(json.loads, cache.read_text(encoding="utf-8").splitlines()) if r["timesteps"]]
    assert row["ann"]["top1"] > 0.97
    assert row["drop"] < 0.02
