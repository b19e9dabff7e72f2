"""Completion by the shell, and a configuration written for a network."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from snnc.cli import VERBS, main
from snnc.cli.config import KEYS, read_config, schema
from snnc.cli.new import example
from snnc.option_kinds import Kind
from tests import quadrants
from tests.onnx_models import model, node, normal

ROOT = Path(__file__).parent.parent


def completed(words: str, shell: str = "bash") -> list[str]:
    """Return what is offered behind some words."""
    environment = {**os.environ, "_SNNC_COMPLETE": f"{shell}_complete", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split(" ")) - 1)
    done = subprocess.run(
        [sys.executable, "-m", "snnc"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=True,
        cwd=ROOT,
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_verbs_and_options_are_completed() -> None:
    assert set(completed("snnc ")) == set(VERBS)
    assert completed("snnc ev") == ["eval"]
    assert "--kind" in completed("snnc plot a.snn.onnx --k")
    assert completed("snnc plot a.snn.onnx --kind r") == ["raster"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script(shell: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_SNNC_COMPLETE" in script
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    assert main(["completion", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["shell"], told["script"].strip()) == (shell, script.strip())
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n", "-c", script], check=True, timeout=20)


def test_it_is_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for shell, place in (
        ("bash", "data/bash-completion/completions/snnc"),
        ("fish", "config/fish/completions/snnc.fish"),
    ):
        assert main(["completion", shell, "--install"]) == 0
        assert "_SNNC_COMPLETE" in (tmp_path / place).read_text(encoding="utf-8")
        assert main(["completion", shell, "--install"]) == 2
        assert "exists already" in capsys.readouterr().err
        assert main(["completion", shell, "--install", "--force"]) == 0
    assert main(["completion", "zsh", "--install"]) == 2
    assert "~/.zshrc" in capsys.readouterr().err
    monkeypatch.setenv("SHELL", "/bin/elvish")
    assert main(["completion"]) == 2
    assert "name one of bash, zsh, fish" in capsys.readouterr().err
    assert main(["completion", "bash", "--force"]) == 2
    assert "needs --install" in capsys.readouterr().err


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> quadrants.Files:
    monkeypatch.chdir(tmp_path)
    return quadrants.write(tmp_path)


def test_what_it_writes_converts(
    files: quadrants.Files, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "inner").mkdir()
    options = ["--calib", "calibration.npz", "--preprocess", "preprocessing.json", "-o", "inner/made.toml"]
    assert main(["new", "quadrants.onnx", *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    text = (tmp_path / "inner" / "made.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text) == {"calib": "../calibration.npz", "preprocess": "../preprocessing.json"}
    assert "# input image: (batch, 1, 8, 8)" in text
    assert "# output scores: 6, not evident: give task" in text
    words = shlex.split(told["command"])
    assert words[0] == "snnc"
    assert main([*words[1:], "--preset", "fast", "-T", "2", "--threads", "1"]) == 0
    assert (tmp_path / "quadrants.snn.onnx").is_file()
    assert main(["new", "quadrants.onnx", *options]) == 2
    assert "exists already" in capsys.readouterr().err


def test_every_option_is_there_and_can_be_taken(files: quadrants.Files, tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert main(["new", "quadrants.onnx"]) == 0
    text = (tmp_path / "convert.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text) == {}
    taken = re.sub(r"^# (\[?[a-z.-]+(\]| = .*))$", r"\1", text, flags=re.MULTILINE)
    values = tomllib.loads(taken)
    assert list(values) == [*(n for n, o in KEYS.items() if o.kind is not Kind.OBJECT), "set"]
    jsonschema.validate(values, schema())
    (tmp_path / "taken.toml").write_text(taken, encoding="utf-8")
    assert set(read_config(tmp_path / "taken.toml")) == set(KEYS)
    for option in KEYS.values():
        assert f"# {option.facts.meaning}" in text
        if option.kind is not Kind.OBJECT:
            assert option.problem(example(option)) is None


def test_what_cannot_be_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [
        node("Gemm", "x a", "h"),
        node("Relu", "h", "r"),
        node("NonZero", "r", "z"),
        node("Cast", "z", to=1),
    ]
    path = tmp_path / "bad.onnx"
    path.write_bytes(model(nodes, ["N", 4], {"a": normal(4, 8)}).SerializeToString())
    target = tmp_path / "out.toml"
    assert main(["new", str(path), "-o", str(target)]) in (3, 5)
    assert main(["new", str(tmp_path / "missing.onnx"), "-o", str(target)]) == 5
    np.save(tmp_path / "x.npy", np.zeros(3))
    assert main(["new", str(tmp_path / "x.npy"), "-o", str(target)]) == 5
    assert not target.exists()
    assert len(capsys.readouterr().err.splitlines()) >= 3
