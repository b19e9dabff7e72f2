"""`snnc adapt`: learning and taking back on the command line, and all that must be refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnc
from snnc.adaptation import read_buffer
from snnc.artefact import Artefact, save
from snnc.cli import main
from tests import quadrants
from tests.spiking_graphs import random_graph
from tests.test_adapt import KNOWN, everything, pairs

REFERENCE = ("--backend", "reference")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a network and rows of four new classes, each a file, and of the old ones."""
    path = tmp_path_factory.mktemp("user")
    x, y = quadrants.images(60, 0)
    model = quadrants.network().SerializeToString()
    network = snnc.convert(
        model, x, timesteps=4, preset="fast", preprocessing=quadrants.PREPROCESSING, threads=1
    )
    network.save(path / "base.snn.onnx")
    np.savez(path / "old.npz", x=x, y=y)
    new_x, new_y = pairs(80, 1)
    np.savez(path / "new.npz", x=new_x, y=new_y)
    for label in range(KNOWN, KNOWN + 4):
        np.savez(path / f"{label}.npz", x=new_x[new_y == label][:5], y=new_y[new_y == label][:5])
    test_x, test_y = everything(40, 3)
    np.savez(path / "test.npz", x=test_x, y=test_y)
    return path


def told(capsys: pytest.CaptureFixture[str], *parts: object) -> dict[str, Any]:
    code = main([*map(str, parts), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    found: dict[str, Any] = json.loads(captured.out)
    return found


def refused(capsys: pytest.CaptureFixture[str], code: int, *parts: object) -> str:
    assert main(list(map(str, parts))) == code
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("error: ")
    return captured.err.splitlines()[-1]


def test_learned_inspected_and_taken_back(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, first, second = folder / "base.snn.onnx", tmp_path / "1.snn.onnx", tmp_path / "2.snn.onnx"
    common = ("--head", "prototype", *REFERENCE)
    one = told(capsys, "adapt", base, "--data", folder / "6.npz", "-o", first, *common, "--name", "top")
    assert one["classes"] == [6]
    assert one["weights_added"] == one["counts_per_row"] + 1
    test = ("--test", folder / "test.npz")
    two = told(capsys, "adapt", first, "--data", folder / "7.npz", "-o", second, *common[2:])
    made = told(capsys, "inspect", second)["adaptation"]
    assert [edit["id"] for edit in made["edits"]] == [one["id"], two["id"]]
    assert made["head"] == "prototype"
    assert snnc.load(second).metadata.classes == (*map(str, range(KNOWN)), "top", "7")
    assert main(["inspect", str(second)]) == 0
    assert one["id"] in capsys.readouterr().out
    out = tmp_path / "3.snn.onnx"
    gone = told(capsys, "adapt", second, "--revoke", two["id"], "-o", out, *REFERENCE)
    assert gone["edits"] == [one["id"]]
    assert out.read_bytes() == first.read_bytes()
    gone = told(capsys, "adapt", out, "--revoke", one["id"][:4], "-o", out, "--force", *REFERENCE)
    assert gone["edits"] == []
    assert out.read_bytes() == base.read_bytes()
    judged = told(capsys, "adapt", base, "--data", folder / "new.npz", "-o", out, "--force", *common, *test)
    assert judged["test"]["new"]["n"] == 40
    assert judged["test"]["forgetting"]["n"] == 40
    told(capsys, "eval", out, "--data", folder / "test.npz", *REFERENCE)
    assert main(["eval", str(out), "--data", str(folder / "new.npz"), *REFERENCE]) == 0
    assert "80 of 80 rows were used for calibration, or learned since" in capsys.readouterr().err
    against = ("--data", folder / "test.npz", "--against", "source", *REFERENCE)
    assert "learned after its conversion" in refused(capsys, 5, "eval", out, *against)
    assert "learned after its conversion" in refused(
        capsys, 5, "report", out, *against[:2], "-o", tmp_path / "page.html"
    )
    low, high = judged["test"]["all"]["ci95"]
    assert low < judged["test"]["all"]["value"] < high


def test_a_buffer_brings_rows_of_old_classes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out, buffer = folder / "base.snn.onnx", tmp_path / "1.snn.onnx", tmp_path / "b.npz"
    made = ("--replay", buffer, "--replay-bytes", 1700, *REFERENCE)
    told(capsys, "adapt", base, "--data", folder / "old.npz", "--improve", "-o", out, *made)
    assert buffer.stat().st_size <= 1700
    assert set(read_buffer(buffer).classes) == {0, 1, 2, 3}
    out = tmp_path / "2.snn.onnx"
    found = told(capsys, "adapt", base, "--data", folder / "new.npz", "-o", out, *made)
    assert found["replayed_rows"] > 12
    assert found["kept_classes"] == [4, 5]
    assert found["buffer"]["bytes"] == buffer.stat().st_size <= 1700
    shown = told(capsys, "inspect", buffer)
    assert shown["held"].keys() == {"0", "1", "2", "3", "6", "7", "8", "9"}
    assert len(set(shown["held"].values())) <= 2
    assert main(["inspect", str(buffer)]) == 0
    assert "replay buffer" in capsys.readouterr().out


def test_bad_input(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, out = folder / "base.snn.onnx", tmp_path / "out.snn.onnx"

    def adapt(code: int, *parts: object) -> str:
        line = refused(capsys, code, "adapt", base, "-o", out, *REFERENCE, *parts)
        assert list(tmp_path.glob("*.onnx")) == []
        return line

    def rows(**arrays: object) -> Path:
        np.savez(tmp_path / "rows.npz", **arrays)  # type: ignore[arg-type]
        return tmp_path / "rows.npz"

    x, y = pairs(8, 1)
    assert "class 0 exists already" in adapt(2, "--data", folder / "old.npz")
    assert "class 6 has one row" in adapt(5, "--data", rows(x=x[:1], y=[6]))
    assert "class 6 has no rows" in adapt(5, "--data", rows(x=x, y=np.full(8, 7)))
    assert "no rows" in adapt(5, "--data", rows(x=x[:0], y=y[:0]))
    assert "labels" in adapt(5, "--data", rows(x=x))
    assert "give one class, an integer" in adapt(5, "--data", rows(x=x, y=y + 0.5))
    assert "classes from 0" in adapt(5, "--data", rows(x=x, y=y - 99))
    assert "no layer 'nowhere'" in adapt(2, "--data", folder / "6.npz", "--cut", "nowhere")
    assert "nothing to learn" in adapt(2)
    assert "has learned nothing" in adapt(2, "--revoke", "abc")
    assert "--data" in adapt(2, "--revoke", "abc", "--data", folder / "6.npz")
    assert "2 names for 1 new" in adapt(2, "--data", folder / "6.npz", "--name", "a", "--name", "b")
    assert "cannot be read" in adapt(5, "--data", folder / "6.npz", "--replay", tmp_path / "none.npz")
    assert "no replay buffer" in adapt(5, "--data", folder / "6.npz", "--replay", folder / "6.npz")
    assert "--replay-bytes" in adapt(2, "--data", folder / "6.npz", "--replay-bytes", 1000)
    small = ("--replay", tmp_path / "b.npz", "--replay-bytes", 100)
    assert "do not hold one row" in adapt(2, "--data", folder / "6.npz", *small)
    assert not (tmp_path / "b.npz").exists()
    assert "named twice" in refused(capsys, 2, "adapt", base, "--data", folder / "6.npz", "-o", base)


def test_a_buffer_of_another_network_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, buffer = tmp_path / "other.snn.onnx", tmp_path / "b.npz"
    x, _ = quadrants.images(60, 5)
    model = quadrants.network().SerializeToString()
    made = snnc.convert(
        model, x, timesteps=8, preset="fast", preprocessing=quadrants.PREPROCESSING, threads=1
    )
    made.save(other)
    rows = ("--data", folder / "6.npz", *REFERENCE)
    told(capsys, "adapt", other, *rows, "-o", tmp_path / "1.onnx", "--replay", buffer, "--replay-bytes", 3000)
    line = refused(
        capsys, 5, "adapt", folder / "base.snn.onnx", *rows, "-o", tmp_path / "2.onnx", "--replay", buffer
    )
    assert "of another network" in line
    assert not (tmp_path / "2.onnx").exists()


def test_what_was_learned_before_decides(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "1.snn.onnx", tmp_path / "2.snn.onnx"
    told(capsys, "adapt", folder / "base.snn.onnx", "--data", folder / "6.npz", "-o", out, *REFERENCE)
    more = ("adapt", out, "-o", again, *REFERENCE, "--data")
    assert "learned with 'linear'" in refused(capsys, 2, *more, folder / "7.npz", "--head", "prototype")
    assert "learned already" in refused(capsys, 2, *more, folder / "6.npz", "--improve")
    assert "no edits are called 'ffff'" in refused(capsys, 2, "adapt", out, "-o", again, "--revoke", "ffff")


def test_a_full_disk_and_a_kill_leave_the_old_artefact(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.snn.onnx"
    shutil.copy(folder / "base.snn.onnx", own)
    before = own.read_bytes()
    command = ("adapt", own, "--data", folder / "6.npz", "-o", own, "--force", *REFERENCE)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert "No space left" in refused(capsys, 5, *command)
    assert own.read_bytes() == before
    assert list(tmp_path.iterdir()) == [own]
    killed = (
        "import os, signal, sys\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from snnc.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", killed, *map(str, command)], capture_output=True, check=False, timeout=120
    )
    assert run.returncode == -signal.SIGKILL
    assert own.read_bytes() == before


def test_networks_without_classes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = random_graph(3, flat=True, blocks=1, several=True)
    save(Artefact(graph), tmp_path / "n.snn.onnx")
    arrays = {node.name: np.zeros((4, *node.shape), np.float32) for node in graph.inputs}
    labels = {name: np.zeros(4, np.int64) for name in graph.output_names}
    np.savez(tmp_path / "x.npz", **arrays, **labels)  # type: ignore[arg-type]
    line = refused(
        capsys, 2, "adapt", tmp_path / "n.snn.onnx", "--data", tmp_path / "x.npz", "-o", tmp_path / "o.onnx"
    )
    assert "takes a network of one input" in line
