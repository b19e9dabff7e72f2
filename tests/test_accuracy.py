"""The benchmark of accuracy: its fast part, on tiny networks in place of the real ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import quadrants

ROOT = Path(__file__).parent.parent
FIRST = "chenyaofo_cifar10_resnet20"
"""The network that the benchmark looks at most closely."""


def accuracy(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.accuracy", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder as the benchmark expects it, with a tiny network under the name of the first real one."""
    folder = tmp_path / "shared"
    (folder / "models").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "models" / f"{FIRST}.onnx").write_bytes(quadrants.network().SerializeToString())
    entry = {"file": f"{FIRST}.onnx", "data": "toy", "preprocessing": quadrants.PREPROCESSING}
    (folder / "models" / "index.json").write_text(json.dumps([entry]), encoding="utf-8")
    for name, n, seed in (("toy_train", 150, 1), ("toy_test_dev", 80, 2)):
        x, y = quadrants.images(n, seed)
        np.savez(folder / "data" / f"{name}.npz", x=x, y=y)
    return folder


def test_measurements_are_kept_and_shown(shared: Path, tmp_path: Path) -> None:
    measured, page = tmp_path / "measured", tmp_path / "docs" / "accuracy.md"
    parts = ("--shared", shared, "--measured", measured, "--networks", FIRST, "--threads", "1")
    settings = ("--settings", "t1,t2,t4-two,a4-p999,a4-layer,a4-float,a4-ramp,if4")
    done = accuracy(*parts, *settings)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 8
    rows = [json.loads(line) for line in (measured / "accuracy.jsonl").read_text().splitlines()]
    assert {row["n"] for row in rows} == {80}
    assert len({row["sources"] for row in rows}) == 1
    by_name = {row["setting"]: row for row in rows}
    assert by_name["t4-two"]["payload"] == "levels:2"
    assert by_name["t4-two"]["latency_steps"] == 4
    assert by_name["if4"]["payload"] == "binary"
    assert accuracy(*parts, *settings).stdout == ""  # nothing is measured twice
    page.parent.mkdir()
    written = accuracy("--measured", measured, "--report", page)
    assert written.returncode == 0, written.stderr
    text = page.read_text(encoding="utf-8")
    gained = 100 * (by_name["a4-layer"]["top1"] - by_name["a4-p999"]["top1"])
    for part in (
        f"8 by the sources `{rows[0]['sources']}`",
        "| + ramp (`balanced`) |",
        "| the same in float32 |",
        f"instead of the 99.9th percentile {gained:+.2f}",
        "### CIFAR-10 ResNet-20, T = 4",
        "| T=4, plain IF |",
        "## Several levels a step",
    ):
        assert part in text
    assert (page.parent / "pictures" / "accuracy-against-operations.svg").exists()


def test_unknown_names_are_refused(shared: Path) -> None:
    for arguments, words in (
        (("--networks", "nobody"), "no network is called 'nobody'"),
        (("--networks", FIRST, "--settings", "nothing"), "no setting is called 'nothing'"),
    ):
        done = accuracy("--shared", shared, "--measured", shared / "measured", *arguments)
        assert done.returncode == 1
        assert words in done.stderr
