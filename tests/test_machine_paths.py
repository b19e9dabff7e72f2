"""What snnc writes names no folder of the machine that made it, but where the user wrote the path so."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from snnc.backends import BACKENDS
from snnc.cli import main
from tests import quadrants

TEST = ["--data", "test.npz", "--limit", "20"]
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that snnc writes, made in one folder with relative names only."""
    folder = tmp_path_factory.mktemp("elsewhere")
    quadrants.write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        rows = ["--calib", "calibration.npz", "--preprocess", "preprocessing.json"]
        config = Path("convert.toml")
        config.write_text('preset = "fast"\n', encoding="utf-8")
        convert = ["convert", "quadrants.onnx", *rows, "--config", "convert.toml", "-o", "a.snn.onnx"]
        assert main([*convert, "-T", "4"]) == 0
        report = ["report", "a.snn.onnx", *TEST, "--curve", "none", "-o", "r.html", "--json-file", "r.json"]
        assert main(report) == 0
        for target in BACKENDS:
            schedule = "barrier" if target == "akida" else "synchronous"  # each chip takes its own
            fitting = ["--set", f"set-schedule.kind={schedule}", "--set", "lower.input-limit=127"]
            convert[convert.index("-o") + 1] = f"{target}.snn.onnx"
            assert main([*convert, "-T", "4", *fitting]) == 0
            bundle = ["--target", target, "-o", target, "--accept-semantics"]
            assert main(["deploy", f"{target}.snn.onnx", *bundle]) == 0
        told(folder)
    return folder


VERBS = {
    "check": ["check", "quadrants.onnx"],
    "sarif": ["check", "quadrants.onnx", "--format", "sarif"],
    "eval": ["eval", "a.snn.onnx", *TEST, "--against", "source"],
    "run": ["run", "a.snn.onnx", "--input", "x.npy", "-o", "y.npy"],
    "verify": ["verify", "spiking-onnx", "--hashes-only"],
    "compare": ["compare", "quadrants.onnx", "a.snn.onnx", *TEST],
    "reports": ["compare", "r.json", "r.json"],
    "bisect": ["bisect", "a.snn.onnx", *TEST],
    "bench": ["bench", "a.snn.onnx", "--data", "test.npz", "--rounds", "2"],
    "inspect": ["inspect", "a.snn.onnx"],
    "plan": ["inspect", "a.snn.onnx", "--plan"],
    "zoo": ["zoo"],
    "targets": ["targets"],
    "zoo-check": ["check", "zoo:fashion-resnet"],
    "dry": ["convert", "zoo:fashion-resnet", "--preset", "fast", "--dry-run"],
    "budget": [
        *("convert", "quadrants.onnx", "--calib", "calibration.npz", "--preprocess", "preprocessing.json"),
        *(
            "--max-latency",
            "4",
            "--front",
            "front.svg",
            "--journal",
            "j.jsonl",
            "-o",
            "b.snn.onnx",
            "-T",
            "2",
        ),
    ],
    "refused": ["eval", "missing.snn.onnx", *TEST],
    "no artefact": ["inspect", "quadrants.onnx"],
}
"""What is asked with `--json` and a log. `doctor` is not: it tells of the machine, and nothing else."""


def told(folder: Path) -> None:
    """Write what every verb says, to the terminal and to its log, into files."""
    np.save("x.npy", np.load("test.npz")["x"][:5])
    for name, verb in VERBS.items():
        for form in ([], ["--json"]):
            if form and "--format" in verb:
                continue
            out, err = io.StringIO(), io.StringIO()
            with redirect_stdout(out), redirect_stderr(err):
                force = ["--force"] if form and "-o" in verb else []
                code = main([verb[0], "-v", "--log-file", f"{name}.log", *form, *verb[1:], *force])
            kind = "json" if form else "txt"
            Path(f"{name}.{code}.{kind}").write_text(out.getvalue() + err.getvalue(), encoding="utf-8")


def test_no_file_names_a_folder_of_this_machine(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {".html", ".json", ".onnx", ".c", ".log", ".svg", ".jsonl", ".nir"} <= {
        path.suffix for path in files
    }
    done = [name for name in VERBS if (folder / f"{name}.0.txt").is_file()]
    assert sorted({*VERBS} - {*done}) == ["no artefact", "refused"]
    for path in files:
        content = path.read_bytes()
        for private in (folder, ROOT, Path.home()):
            assert str(private).encode() + b"/" not in content, f"{path.name} names {private}"
