"""The ablation of losses and finishing stages, on a network of a few hundred weights."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.frontend import read_onnx
from snnc.simulation.ann_reference import run_ann
from snnc.training.recipe import FINISHES, LOSSES
from tests.tuned_networks import network

ROOT = Path(__file__).parent.parent


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    return import_module("benchmarks.learning.__main__")


def test_every_loss_and_every_finishing_stage_has_its_trials(learning: Any) -> None:
    found = [trial for make in learning.TABLES.values() for trial in make()]
    assert len({trial.name for trial in found}) == len(found)
    assert {name for trial in found for name in trial.losses} == set(LOSSES) - {"squared"}
    for method in FINISHES:
        assert [trial.timesteps for trial in found if trial.label == method] == [2, 2, 4, 4]


def test_trials_are_found_by_processes_of_their_own(learning: Any) -> None:
    # What `python -m` runs is called `__main__` there, and a process that is spawned cannot import it.
    assert learning.measure.__module__ == "benchmarks.learning.measuring"


class Inline:
    """A pool of processes that is none."""

    def __init__(self, count: int) -> None:
        assert count == 1

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def apply(self, call: Any, given: Any) -> Any:
        return call(*given)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_trials_are_measured_once(learning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "get_context", lambda _: type("Context", (), {"Pool": Inline}))
    path = network(tmp_path)
    x = np.random.default_rng(0).standard_normal((160, 1, 6, 6)).astype(np.float32)
    answers, _ = run_ann(read_onnx(path).graph, x)
    y = answers.argmax(axis=1)
    task: dict[str, Any] = {"network": str(path), "train": (x[:120], y[:120]), "test": (x[120:], y[120:])}
    task |= {"preprocessing": None, "epochs": 1.0, "threads": 1, "augment": (), "batch": 32}
    trials = [t for t in learning.TABLES["stages"]() if t.name.startswith("binary T=2")]
    measured = tmp_path / "learning.jsonl"
    learning.run(task, trials, measured)
    rows = [json.loads(line) for line in measured.read_text().splitlines()]
    assert [row["label"] for row in rows] == ["closed form", "levels alone", *FINISHES]
    assert all(row["payload"] == "binary" and row["n"] == 40 and row["memory_mib"] > 0 for row in rows)
    assert not list((tmp_path / "learning.checkpoints").iterdir())
    learning.run(task, trials, measured)
    assert len(measured.read_text().splitlines()) == len(rows)
    (page,) = learning.pages(rows)
    assert "| binary T=2 | rate | 2 |" in page
