"""``snnc tune`` and ``convert --tune``: what they say without PyTorch, what they refuse, what they write."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnc
from snnc.artefact import load
from snnc.cli import main
from snnc.errors import UsageError
from snnc.training import extra
from snnc.training.recipe import LOSSES, Recipe, read_losses, read_names
from tests.onnx_models import model, node, saved

WITH_TORCH = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed (extra snnc[train])"
)
PAGE = Path(__file__).parent.parent / "docs" / "training.md"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a network of four numbers and three classes, and rows with labels."""
    random = np.random.default_rng(0)
    first, second = (random.standard_normal(shape).astype(np.float32) for shape in ((8, 4), (3, 8)))
    zeros = {"b1": np.zeros(8, np.float32), "b2": np.zeros(3, np.float32)}
    nodes = [
        node("Gemm", "x w1 b1", "h", transB=1),
        node("Relu", "h", "r"),
        node("Gemm", "r w2 b2", transB=1),
    ]
    saved(tmp_path, model(nodes, ("N", 4), {"w1": first, "w2": second, **zeros}), "net.onnx")
    x = random.standard_normal((120, 4)).astype(np.float32)
    y = (np.maximum(x @ first.T, 0) @ second.T).argmax(axis=1)
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    np.savez(tmp_path / "bare.npz", x=x)
    return tmp_path


def tune(files: Path, *more: str, output: str = "out.snn.onnx") -> list[str]:
    given = ["tune", str(files / "net.onnx"), "--train", str(files / "rows.npz"), "--threads", "1"]
    return [*given, "-o", str(files / output), *more]


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int = 2) -> str:
    assert main(arguments) == code
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ")
    return said


def written(files: Path) -> set[str]:
    return {path.name for path in files.iterdir()} - {"net.onnx", "rows.npz", "bare.npz"}


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None)


@pytest.fixture
def as_if_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: object())


def test_without_pytorch_one_line_names_the_command(
    files: Path, capsys: pytest.CaptureFixture[str], without_torch: None
) -> None:
    wanted = "needs PyTorch, which is not installed: pip install torch"
    assert refused(capsys, tune(files, "--minutes", "1")) == f"error: snnc tune {wanted}"
    convert = ["convert", str(files / "net.onnx"), "--calib", str(files / "rows.npz"), "--tune", "1"]
    assert refused(capsys, [*convert, "-T", "2", "-o", str(files / "out")]) == f"error: --tune {wanted}"
    with pytest.raises(UsageError, match="tuning needs PyTorch"):
        snnc.tune(files / "net.onnx", np.zeros((60, 4), np.float32), minutes=1)
    assert not written(files)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "say how long to tune: minutes, or epochs"),
        (("--minutes", "1", "--epochs", "1"), "say how long to tune: minutes, or epochs"),
        (("--minutes", "0"), "--minutes"),
        (("--epochs", "1", "-T", "two"), "-T two: give a number of steps, or several"),
        (("--epochs", "1", "-T", "2,2"), "-T 2,2: give a number of steps, or several that differ"),
        (("--epochs", "1", "-T", "4,2"), "there are 2 networks: give -o a name with {T}"),
        (("--epochs", "1", "--loss", "kl=high"), "--loss kl=high: write NAME=WEIGHT"),
        (("--epochs", "1", "--loss", "kl=1,kl=2"), "the loss 'kl' is given twice"),
        (("--epochs", "1", "--loss", "mse"), "the loss 'mse' is unknown; known: kl"),
        (("--epochs", "1", "--learn", "everything"), "learn 'everything' is unknown; known: weights"),
        (("--epochs", "1", "--augment", "rotate"), "augment 'rotate' is unknown; known: crop"),
        (("--epochs", "1", "--set", "lower"), "write PASS.OPTION=VALUE"),
    ],
)
def test_options_that_make_no_sense(
    more: tuple[str, ...],
    message: str,
    files: Path,
    capsys: pytest.CaptureFixture[str],
    as_if_with_torch: None,
) -> None:
    assert message in refused(capsys, tune(files, *more))
    assert not written(files)


def test_what_convert_cannot_do_beside_tuning(
    files: Path, capsys: pytest.CaptureFixture[str], as_if_with_torch: None
) -> None:
    convert = ["convert", str(files / "net.onnx"), "--calib", str(files / "rows.npz"), "--tune", "1"]
    told = refused(capsys, [*convert, "--max-latency", "4", "-o", str(files / "out")])
    assert "--max-latency belongs to another search than --tune" in told
    assert "give -T" in refused(capsys, [*convert, "-o", str(files / "out")])
    assert not written(files)


def test_texts_of_the_command_line() -> None:
    assert read_losses("kl=0.9, labels") == {"kl": 0.9, "labels": 1.0}
    assert read_names("none") == ()
    assert read_names("crop, flip") == ("crop", "flip")
    assert Recipe(minutes=1).as_dict()["temperature"] == 3.0


def test_the_documentation_has_every_loss() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name in LOSSES)


def result(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@WITH_TORCH
def test_networks_for_several_steps_from_one_run(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    more = ("--epochs", "3", "-T", "1,2", "--labels", "--rate", "0.01", "--batch", "20")
    metrics = files / "m.jsonl"
    found = result(capsys, tune(files, *more, "--metrics", str(metrics), output="net.T{T}.snn.onnx"))
    assert [each["timesteps"] for each in found["networks"]] == [2, 1]
    assert written(files) == {"net.T1.snn.onnx", "net.T2.snn.onnx", "m.jsonl"}
    assert load(files / "net.T1.snn.onnx").graph.timesteps == 1
    for each in found["networks"]:
        assert each["kept"] in ("tuned", "closed form")
        assert each["closed_form"]["rows"] == 12
        if each["kept"] == "tuned":
            assert each["tuned"]["right"] >= each["closed_form"]["right"]
            assert each["equal_rows"] == 12
    assert len(metrics.read_text().splitlines()) == sum(len(each["curve"]) for each in found["networks"])


@WITH_TORCH
def test_minutes_are_planned_and_told(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tune(files, "--minutes", "0.02", "--preset", "graded")) == 0
    said = capsys.readouterr()
    assert "wrote" in said.out
    assert "T = 2: " in said.out
    assert "closed form error 0." in said.out
    assert written(files) == {"out.snn.onnx"}


@WITH_TORCH
def test_labels_that_are_not_there(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = tune(files, "--epochs", "1", "--labels")
    arguments[arguments.index(str(files / "rows.npz"))] = str(files / "bare.npz")
    assert "come without labels `y`: leave it out" in refused(capsys, arguments)


@WITH_TORCH
def test_an_interrupted_run_tells_where_it_goes_on(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from snnc.training import stage

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage.Stage, "take", interrupted)
    folder = files / "run"
    options = ("--epochs", "4", "--rounded", "0.5", "--precision", "float32", "--checkpoints", str(folder))
    said = refused(capsys, tune(files, *options), 130)
    assert said == f"error: interrupted; the same command continues from {folder}"
    assert (folder / "plan.json").exists()
    monkeypatch.undo()
    assert main(tune(files, *options)) == 0
    assert (folder / "T2.integers.pt").exists()


@WITH_TORCH
def test_a_conversion_with_tuning(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = files / "out.snn.onnx"
    convert = ["convert", str(files / "net.onnx"), "--calib", str(files / "rows.npz"), "-T", "1"]
    found = result(capsys, [*convert, "--tune", "0.02", "--threads", "1", "-o", str(out)])
    assert found["timesteps"] == 1
    assert any(record["pass"] == "tune" for record in load(out).metadata.records)
    # What was learned for one number of steps is not there for others.
    report = ["report", str(out), "--data", str(files / "rows.npz"), "--reconvert", "--curve", "1,2"]
    assert main([*report, "--source", str(files / "net.onnx")]) == 2
    assert "--reconvert would lose what was learned" in capsys.readouterr().err
