"""Checkpoints of a run: gone on from to the same bits, refused where they are another run's, or damaged."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snnc.errors import InputError
from snnc.ir.text import print_exact
from tests.tuned_networks import Material, answered, run

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed (extra snnc[train])", allow_module_level=True)

import torch

from snnc.training import stage as stages
from snnc.training.tuning import Tuning


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return answered(tmp_path_factory.mktemp("tune"))


@pytest.fixture(scope="module")
def whole(material: Material) -> Tuning:
    """A run that was not interrupted, with labels."""
    return run(material, labels=material.y, timesteps=(2, 1))


class Stop:
    """Interrupts a run at one of its steps."""

    def __init__(self, at: int, step: Callable[..., Any]) -> None:
        self.left, self.step = at, step

    def __call__(self, *arguments: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.step(*arguments)


@pytest.mark.parametrize("at", [7, 30])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    at: int,
    whole: Tuning,
    material: Material,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stages, "CHECKPOINT_SECONDS", 0.0)
    stop = Stop(at, stages.Stage.take)
    with monkeypatch.context() as patched:
        patched.setattr(stages.Stage, "take", lambda *arguments: stop(*arguments))
        with pytest.raises(KeyboardInterrupt):
            run(material, labels=material.y, timesteps=(2, 1), checkpoints=tmp_path)
    assert list(tmp_path.glob("*.pt"))
    again = Stop(10**6, stages.Stage.take)
    monkeypatch.setattr(stages.Stage, "take", lambda *arguments: again(*arguments))
    resumed = run(material, labels=material.y, timesteps=(2, 1), checkpoints=tmp_path)
    assert 10**6 - again.left == 2 * 34 - (at - 1)
    for T, artefact in whole.artefacts.items():
        assert print_exact(artefact.graph) == print_exact(resumed.artefacts[T].graph)
        assert whole.results[T] == resumed.results[T]


@pytest.mark.parametrize("change", [{"rate": 2e-3}, {"seed": 1}, {"timesteps": 2}, {"labels": None}])
def test_checkpoints_of_another_run_are_refused(
    change: dict[str, Any], material: Material, tmp_path: Path
) -> None:
    few = {"epochs": 0.5, "labels": material.y, "checkpoints": tmp_path}
    run(material, **few)
    with pytest.raises(InputError, match="belongs to another run"):
        run(material, **{**few, **change})


def test_a_damaged_checkpoint_is_told(material: Material, tmp_path: Path) -> None:
    few = {"epochs": 0.5, "checkpoints": tmp_path}
    run(material, **few)
    (tmp_path / "T1.levels.pt").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match=r"T1.levels.pt is no checkpoint, or damaged"):
        run(material, **few)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(InputError, match="no plan of a run"):
        run(material, **few)


def test_a_checkpoint_of_another_form_is_not_misread(material: Material, tmp_path: Path) -> None:
    """Before the form was told, parameters were held in other units under the same names."""
    few = {"epochs": 0.5, "checkpoints": tmp_path}
    run(material, **few)
    path = tmp_path / "T1.levels.pt"
    held = torch.load(path, weights_only=True)
    del held["form"]
    torch.save(held, path)
    with pytest.raises(InputError, match=r"T1.levels.pt was written by another state of snnc"):
        run(material, **few)
