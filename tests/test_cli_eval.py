"""`snnc eval` and `snnc run`: what they measure, warn of and refuse."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnc
from snnc.artefact import save
from snnc.cli import main
from snnc.data.input_statistics import KEY
from snnc.ir.snn import Readout
from tests import quadrants
from tests.quadrants import Files

T = 6


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return quadrants.write(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def artefact(files: Files) -> Path:
    path = files.folder / "quadrants.snn.onnx"
    data = ["--calib", str(files.calibration), "--preprocess", str(files.preprocessing)]
    assert main(["convert", str(files.model), *data, "-o", str(path), "-T", str(T), "--preset", "fast"]) == 0
    return path


def measured(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["eval", *map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], code: int, *parts: object) -> str:
    capsys.readouterr()
    assert main([*map(str, parts)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_an_artefact(artefact: Path, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(capsys, artefact, "--data", files.test)
    x, y = quadrants.images(150, 2)
    classes = snnc.simulate(snnc.load(artefact), x).logits.argmax(axis=1)
    assert found["top1"] == (classes == y).mean() > 0.9
    assert found["top1_ci95"][0] < found["top1"] <= found["top1_ci95"][1]
    assert found["n"] == 150
    assert found["timesteps"] == found["latency_steps"] == T
    assert found["payload"] == "signed"
    assert found["backend"] == found["counted_by"] == "numba"
    assert found["synops"] > 0
    assert found["macs"] == found["first_layer_macs"] == 2 * (6 * 3 + 2 * 2) ** 2  # border windows are cut
    assert "ann" not in found


def test_answers_as_soon_as_they_are_sure_beside_those_of_all_steps(
    artefact: Path, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = measured(capsys, artefact, "--data", files.test)
    found = measured(capsys, artefact, "--data", files.test, "--exit-confidence", "0.8")
    early = found.pop("early_exit")
    assert found == plain
    assert early["n"] == 150
    assert 1 <= early["latency_steps"]["mean"] < T
    assert early["synops"]["mean"] < plain["synops"]
    assert early["top1"] > 0.8
    assert main(["eval", str(artefact), "--data", str(files.test), "--exit-confidence", "0.8"]) == 0
    assert "from 0.8 on" in capsys.readouterr().out
    error = refused(capsys, 2, "eval", artefact, "--data", files.test, "--exit-confidence", "1")
    assert "0<x<1" in error


@pytest.mark.parametrize("backend", ["reference", "onnx"])
def test_every_backend_measures_the_same(
    backend: str, artefact: Path, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (artefact, "--data", files.test, "--limit", 40)
    plain, other = measured(capsys, *data), measured(capsys, *data, "--backend", backend)
    assert other.pop("backend") == backend
    assert other.pop("counted_by") == ("numba" if backend == "onnx" else backend)
    assert {key: plain[key] for key in other} == other


@pytest.mark.parametrize("named", ["path", "source"])
def test_against_the_source(
    named: str, artefact: Path, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    against = files.model if named == "path" else "source"
    found = measured(capsys, artefact, "--data", files.test, "--against", against)
    alone = measured(capsys, files.model, "--data", files.test, "--preprocess", files.preprocessing)
    for key in ("top1", "top1_ci95", "top5", "n", "macs"):
        assert found["ann"][key] == alone[key]
    assert found["ann"]["macs"] == 64 * 2 * 9 + 8 * quadrants.CLASSES
    assert found["drop"] == pytest.approx(found["ann"]["top1"] - found["top1"])
    assert sum(found["paired"].values()) == 150


def test_the_source_is_looked_for_beside_the_artefact(
    artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved, model = tmp_path / artefact.name, tmp_path / files.model.name
    shutil.copy(artefact, moved)
    shutil.copy(files.model, model)
    hidden = files.model.with_suffix(".hidden")
    files.model.rename(hidden)
    try:
        assert "ann" in measured(capsys, moved, "--data", files.test, "--against", "source")
        model.unlink()
        line = refused(capsys, 5, "eval", moved, "--data", files.test, "--against", "source")
        assert "give it by --source MODEL" in line
        parts = (moved, "--data", files.test, "--against", "source", "--source", hidden)
        assert "ann" in measured(capsys, *parts)
    finally:
        hidden.rename(files.model)


def test_another_network_is_not_the_source(
    artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = quadrants.network()
    proto.doc_string = "retrained"
    other = tmp_path / "other.onnx"
    other.write_bytes(proto.SerializeToString())
    line = refused(capsys, 5, "eval", artefact, "--data", files.test, "--against", other)
    assert "SHA-256 differs" in line


def test_another_t_is_warned_of(artefact: Path, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(artefact), "--data", str(files.test), "-T", "9", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == (
        "warning SNN301: not calibrated for T = 9, but for 6 (convert again with --timesteps 9)\n"
    )
    assert json.loads(captured.out)["timesteps"] == 9


@pytest.mark.parametrize("shared", [0, 1, 30])
def test_calibration_rows_are_recognised(
    shared: int, artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen, unseen = quadrants.images(200, 1), quadrants.images(40, 77)
    rows = tmp_path / "rows.npz"
    np.savez(
        rows,
        x=np.concatenate([unseen[0], seen[0][:shared]]),
        y=np.concatenate([unseen[1], seen[1][:shared]]),
    )
    assert main(["eval", str(artefact), "--data", str(rows)]) == 0
    warned = f"warning SNN203: {shared} of {40 + shared} rows were used for calibration"
    assert (warned in capsys.readouterr().err) == (shared > 0)


@pytest.mark.parametrize("verb", ["eval", "run", "compare"])
@pytest.mark.parametrize("rows", [1, 8, 100])
def test_rows_of_another_scale_are_warned_of(
    verb: str, rows: int, artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = quadrants.images(150, 2)
    divided = (x[:rows] / 255).astype(np.float32)

    def warned(values: np.ndarray) -> str:
        np.savez(tmp_path / "rows.npz", x=values, y=y[:rows])
        np.save(tmp_path / "rows.npy", values)
        data = {
            "eval": [artefact, "--data", tmp_path / "rows.npz"],
            "run": [artefact, "--input", tmp_path / "rows.npy", "-o", tmp_path / "out.npy", "--force"],
            "compare": [artefact, files.model, "--data", tmp_path / "rows.npz"],
        }[verb]
        capsys.readouterr()
        assert main([verb, *map(str, data)]) == 0
        return capsys.readouterr().err

    assert "SNN204" not in warned(x[:rows])
    told = warned(divided)
    assert "warning SNN204: the rows lie in 0 .. 0." in told
    assert "calibration saw 0 .. 2" in told


def test_an_older_artefact_claims_nothing_of_the_rows(
    artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = snnc.load(artefact)
    calibration = {key: value for key, value in loaded.metadata.calibration.items() if key != KEY}
    old = replace(loaded, metadata=replace(loaded.metadata, calibration=calibration))
    save(old, tmp_path / "old.snn.onnx")
    x, y = quadrants.images(100, 2)
    np.savez(tmp_path / "rows.npz", x=(x / 255).astype(np.float32), y=y)
    assert main(["eval", str(tmp_path / "old.snn.onnx"), "--data", str(tmp_path / "rows.npz")]) == 0
    assert "SNN204" not in capsys.readouterr().err


def test_the_table(artefact: Path, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(artefact), "--data", str(files.test), "--against", "source"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "SNN" in captured.out.splitlines()[0]
    for part in ("top-1", "T = 6, K = 0", "signed", "150", "SNN and ANN agree on", "The conversion costs"):
        assert part in captured.out
    assert "\x1b" not in captured.out


def test_rows_without_labels(
    artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.npz"
    np.savez(rows, x=quadrants.images(20, 5)[0])
    found = measured(capsys, artefact, "--data", rows, "--against", "source")
    assert found["top1"] is None
    assert found["agreement"] > 0.8
    assert "drop" not in found
    for network in (artefact, files.model):
        data = ["--data", str(rows)]
        preprocess = ["--preprocess", str(files.preprocessing)] if network == files.model else []
        assert main(["eval", str(network), *data, *preprocess]) == 0
        assert "the rows have no labels `y`" in capsys.readouterr().out


def test_the_zoo_brings_its_own_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "zoo.snn.onnx"
    assert main(["convert", "zoo:fashion-cnn", "-o", str(out), "--preset", "fast"]) == 0
    found = measured(capsys, out, "--limit", 60, "--against", "zoo:fashion-cnn")
    alone = measured(capsys, "zoo:fashion-cnn", "--limit", 60)
    assert found["n"] == 60
    assert found["ann"]["top1"] == alone["top1"] > 0.75
    assert found["top1"] > 0.7


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ([], 2, "no rows to evaluate on"),
        (["--data", "nowhere.npz"], 5, "nowhere.npz does not exist"),
        (["--data", "TEST", "--backend", "gpu"], 2, "unknown simulator 'gpu'; known: numba, onnx, reference"),
        (["--data", "TEST", "-T", "0"], 2, "not in the range"),
        (["--data", "TEST", "--limit", "0"], 2, "not in the range"),
        (["--data", "TEST", "-T", "100000000"], 5, "beyond"),
        (["--data", "TEST", "--preprocess", "x.json"], 2, "stores its preprocessing"),
        (["--data", "TEST", "--against", "nowhere.onnx"], 5, "nowhere.onnx does not exist"),
    ],
)
def test_what_eval_refuses(
    more: list[str],
    code: int,
    says: str,
    artefact: Path,
    files: Files,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts = [str(files.test) if part == "TEST" else part for part in more]
    capsys.readouterr()
    assert main(["eval", str(artefact), *parts]) == code
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("error: ")
    assert says in err[-1]


def test_steps_that_are_refused_are_not_warned_of(
    artefact: Path, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "T = 300 is beyond" in refused(capsys, 5, "eval", artefact, "--data", files.test, "-T", 300)


def test_the_conversion_that_eval_advises_is_one_that_works(
    artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, 5, "eval", artefact, "--data", files.test, "-T", 1000)
    assert "convert it with --precision float32" in line
    rows = ["--calib", files.calibration, "--preprocess", files.preprocessing, "--preset", "fast"]
    longer = tmp_path / "longer.snn.onnx"
    parts = ["convert", files.model, *rows, "-o", longer, "-T", 1000, "--precision", "float32", "-q"]
    assert main(list(map(str, parts))) == 0
    capsys.readouterr()
    assert main(["eval", str(longer), "--data", str(files.test), "-T", "1001", "--limit", "10"]) == 0
    assert "--timesteps 1001 --precision float32" in capsys.readouterr().err


def test_a_plain_network_has_no_steps(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert "convert it first" in refused(capsys, 2, "eval", files.model, "--data", files.test, "-T", 4)


def test_a_damaged_artefact(artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.snn.onnx"
    content = artefact.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    for verb in (["inspect"], ["eval", "--data", "x.npz"], ["run", "--input", "x.npy", "-o", "y.npy"]):
        assert str(broken) in refused(capsys, 5, verb[0], broken, *verb[1:])


def rows_at(folder: Path) -> Path:
    path = folder / "x.npy"
    np.save(path, quadrants.images(30, 8)[0])
    return path


def test_run(artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, out = rows_at(tmp_path), tmp_path / "y.npy"
    assert main(["run", str(artefact), "--input", str(rows), "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    expected = snnc.simulate(snnc.load(artefact), np.load(rows)).logits
    np.testing.assert_array_equal(np.load(out), expected)
    assert told["classes"] == expected.argmax(axis=1).tolist()
    assert told["shape"] == [30, quadrants.CLASSES]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npy", "y.npy"]


def test_run_per_step_in_the_source_units(
    artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = rows_at(tmp_path), tmp_path / "y.npy"
    parts = ["run", str(artefact), "--input", str(rows), "-o", str(out), "--per-step", "--logits"]
    assert main(parts) == 0
    assert f"float32 of shape ({T}, 30, {quadrants.CLASSES})" in capsys.readouterr().out
    network = snnc.load(artefact)
    (readout,) = network.graph.of_type(Readout)
    expected = snnc.simulate(network, np.load(rows)).logits * np.float32(readout.scale / T)
    np.testing.assert_allclose(np.load(out)[-1], expected, rtol=1e-6)


def test_run_reads_archives_too(
    artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "y.npy"
    assert main(["run", str(artefact), "--input", str(files.test), "-o", str(out)]) == 0
    assert np.load(out).shape == (150, quadrants.CLASSES)
    line = refused(capsys, 2, "run", artefact, "--input", files.test, "-o", out)
    assert "exists already" in line
    archive = tmp_path / "y.npz"
    assert "name the file .npy" in refused(capsys, 2, "run", artefact, "--input", files.test, "-o", archive)
    text = tmp_path / "x.npy"
    text.write_text("0 1 2", encoding="utf-8")
    other = tmp_path / "z.npy"
    assert "not a NumPy file" in refused(capsys, 5, "run", artefact, "--input", text, "-o", other)
    assert not other.exists()
