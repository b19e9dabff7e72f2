"""What snnc writes names no folder of the machine that made it, but where the user wrote the path so."""

from __future__ import annotations

from pathlib import Path

import pytest

from snnc.backends import BACKENDS
from snnc.cli import main
from tests import quadrants

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
        data = ["--data", "test.npz", "--limit", "20"]
        report = ["report", "a.snn.onnx", *data, "--curve", "none", "-o", "r.html", "--json-file", "r.json"]
        assert main(report) == 0
        for target in BACKENDS:
            schedule = "barrier" if target == "akida" else "synchronous"  # each chip takes its own
            fitting = ["--set", f"set-schedule.kind={schedule}", "--set", "lower.input-limit=127"]
            convert[convert.index("-o") + 1] = f"{target}.snn.onnx"
            assert main([*convert, "-T", "4", *fitting]) == 0
            bundle = ["--target", target, "-o", target, "--accept-semantics"]
            assert main(["deploy", f"{target}.snn.onnx", *bundle]) == 0
    return folder


def test_no_file_names_a_folder_of_this_machine(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {".html", ".json", ".onnx", ".c"} <= {path.suffix for path in files}
    for path in files:
        content = path.read_bytes()
        for private in (folder, ROOT, Path.home()):
            assert str(private).encode() + b"/" not in content, f"{path.name} names {private}"
