"""What the verbs take and refuse: no input is ever written over, no option is ignored in silence."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from snnc.cli import main
from tests import quadrants
from tests.quadrants import Files


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Files:
    files = quadrants.write(tmp_path_factory.mktemp("user"))
    data = ["--calib", str(files.calibration), "--preprocess", str(files.preprocessing), "--preset", "fast"]
    assert main(["convert", str(files.model), *data, "-o", str(files.folder / "n.snn.onnx")]) == 0
    return files


@pytest.fixture
def folder(made: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything in it, in which the verbs run."""
    shutil.copytree(made.folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "link.onnx").symlink_to("quadrants.onnx")
    (tmp_path / "options.toml").write_text("timesteps = 4\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


CONVERT = "convert quadrants.onnx --calib calibration.npz --preprocess preprocessing.json --force"


@pytest.mark.parametrize(
    "command",
    [
        f"{CONVERT} -o quadrants.onnx",
        f"{CONVERT} -o ./quadrants.onnx",
        f"{CONVERT} -o link.onnx",
        f"{CONVERT} -o calibration.npz",
        f"{CONVERT} -o preprocessing.json",
        f"{CONVERT} --config options.toml -o options.toml",
        f"{CONVERT} -o new.onnx --max-latency 2 --journal new.onnx",
        f"{CONVERT} -o new.onnx --max-latency 2 --journal quadrants.onnx",
        f"{CONVERT} -o new.onnx --max-latency 2 --front quadrants.onnx",
        f"{CONVERT} -o new.onnx --max-latency 2 --front new.onnx",
        "certify n.snn.onnx --data test.npz -o n.snn.onnx --force",
        "certify n.snn.onnx --data test.npz --check calibration.npz -o calibration.npz --force",
        "run n.snn.onnx --input test.npz -o n.snn.onnx --force",
        "run n.snn.onnx --input test.npz -o test.npz --force",
        "report n.snn.onnx --data test.npz -o r.html --json-file r.html",
        "report n.snn.onnx --data test.npz -o test.npz --force",
        "report n.snn.onnx --data test.npz --json-file n.snn.onnx --force",
        "report n.snn.onnx --data test.npz --source quadrants.onnx -o quadrants.onnx --force",
    ],
)
def test_no_input_and_no_other_output_is_written_over(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(command.split()) == 2
    assert "is named twice" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("front", "code", "says"),
    [("test.npz", 2, "exists already"), (".", 5, "is a folder"), ("/nowhere/f.svg", 5, "/nowhere does not")],
)
def test_a_picture_that_cannot_be_written_is_refused_before_the_search(
    front: str, code: int, says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="the picture needs the extra [report]")
    command = CONVERT.replace(" --force", "")
    assert main([*command.split(), "-o", "new.onnx", "--max-latency", "2", "--front", front]) == code
    assert says in capsys.readouterr().err
    assert not (folder / "new.onnx.journal").exists()


def test_a_journal_in_a_folder_that_is_missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CONVERT.split(), "-o", "new.onnx", "--max-latency", "2", "--journal", "/nowhere/j"]) == 5
    assert "/nowhere does not exist" in capsys.readouterr().err


def damaged(path: Path, *, method: int | None = None) -> Path:
    """Write over the start of what a compressed archive holds, or name another method of compression."""
    np.savez_compressed(path, x=quadrants.images(50, 1)[0])
    content = bytearray(path.read_bytes())
    if method is None:
        at = 30 + int.from_bytes(content[26:28], "little") + int.from_bytes(content[28:30], "little")
        content[at : at + 4] = b"\xff" * 4
    else:
        for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
            at = content.index(signature) + offset
            content[at : at + 2] = method.to_bytes(2, "little")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("method", [None, 99])
def test_a_damaged_archive(method: int | None, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = damaged(folder / "rows.npz", method=method)
    assert main(["eval", "n.snn.onnx", "--data", str(rows)]) == 5
    assert f"{rows} is not a NumPy file, or it is damaged" in capsys.readouterr().err


def test_an_encrypted_archive(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = folder / "rows.npz"
    np.savez(rows, x=quadrants.images(50, 1)[0])
    content = bytearray(rows.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    rows.write_bytes(content)
    assert main(["eval", "n.snn.onnx", "--data", str(rows)]) == 5
    assert "is not a NumPy file, or it is damaged" in capsys.readouterr().err


BAD_MODELS = {
    "folder.onnx": "is a folder",
    "empty.onnx": "is empty",
    "text.onnx": "is not an ONNX file",
    "cut.onnx": "is not an ONNX file",
    "missing.onnx": "does not exist",
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_model_that_is_none_is_told_alike_everywhere(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "folder.onnx").mkdir()
    (folder / "empty.onnx").touch()
    (folder / "text.onnx").write_text("hello", encoding="utf-8")
    (folder / "cut.onnx").write_bytes((folder / "quadrants.onnx").read_bytes()[:300])
    for command in (
        f"check {name}",
        f"convert {name} --calib calibration.npz -o new.onnx",
        f"eval {name} --data test.npz",
        f"eval n.snn.onnx --data test.npz --against {name}",
        f"compare {name} n.snn.onnx --data test.npz",
        f"compare quadrants.onnx {name} --data test.npz --preprocess preprocessing.json",
        f"bench n.snn.onnx --data test.npz --against {name}",
        f"report n.snn.onnx --data test.npz --source {name}",
    ):
        assert main(command.split()) == 5
        assert f"error: {name} {BAD_MODELS[name]}" in capsys.readouterr().err, command


def test_an_artefact_where_a_network_is_wanted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        "check n.snn.onnx",
        "convert n.snn.onnx --calib calibration.npz -o new.onnx",
        "convert n.snn.onnx --calib calibration.npz -o new.onnx --max-latency 2",
    ):
        assert main(command.split()) == 2
        error = capsys.readouterr().err
        assert "n.snn.onnx is an artefact already" in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("verb", ["run --input test.npz -o y.npy", "inspect", "report", "bisect", "certify"])
def test_a_network_where_an_artefact_is_wanted(
    verb: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *more = verb.split()
    assert main([name, "zoo:fashion-resnet", *more]) == 2
    assert "zoo:fashion-resnet is not an artefact: convert it first" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "code"), [(1e14, 0), (1e38, 5), (-1e300, 5)])
def test_numbers_that_no_network_takes(
    value: float, code: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = quadrants.images(200, 1)
    rows = np.where(np.arange(200)[:, None, None] == 7, value, x.astype(np.float64))
    np.savez(folder / "rows.npz", x=rows, y=y)
    for command in (
        "convert quadrants.onnx --calib rows.npz --preprocess preprocessing.json -o new.onnx",
        "eval n.snn.onnx --data rows.npz --against source",
        "run n.snn.onnx --input rows.npz -o y.npy",
    ):
        assert main(command.split()) == code
        error = capsys.readouterr().err
        assert ("row 7 in rows.npz holds numbers beyond 3e+14" in error) == (code == 5)


def test_a_preprocessing_that_makes_such_numbers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tiny.json").write_text('{"divide": 1e-37}', encoding="utf-8")
    command = "convert quadrants.onnx --calib calibration.npz --preprocess tiny.json -o new.onnx"
    assert main(command.split()) == 5
    assert "row 0 is NaN or beyond 3e+14 after the preprocessing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("inspect n.snn.onnx -T 300", "--timesteps"),
        ("inspect n.snn.onnx --batch 3", "--batch"),
        ("compare a.json b.json --data missing.npz", "--data"),
        ("compare a.json b.json --limit 3", "--limit"),
        ("eval quadrants.onnx --data test.npz --backend reference", "--backend"),
        ("eval quadrants.onnx --data test.npz --source quadrants.onnx", "--source"),
        ("eval n.snn.onnx --data test.npz --against quadrants.onnx --source missing.onnx", "--source"),
        ("report n.snn.onnx --data test.npz --calib calibration.npz", "--calib"),
        ("report n.snn.onnx --data test.npz --curve none --reconvert", "--reconvert"),
        ("deploy n.snn.onnx --target c99 -o new --data missing.npz", "--data"),
        (f"{CONVERT} -o new.onnx --preset fast --pipeline lower", "--preset"),
        (f"{CONVERT} -o new.onnx --journal new.journal", "--journal"),
    ],
)
def test_options_without_effect_are_refused(
    command: str, option: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(folder.iterdir())
    assert main(command.split()) == 2
    assert capsys.readouterr().err.startswith(f"error: {option} ")
    assert set(folder.iterdir()) == before


def test_a_file_that_only_bears_the_name_of_a_journal_stays(folder: Path) -> None:
    mine = folder / "new.onnx.journal"
    mine.write_text("mine", encoding="utf-8")
    assert main([*CONVERT.split(), "-o", "new.onnx", "--preset", "fast"]) == 0
    assert mine.read_text(encoding="utf-8") == "mine"
