"""`snnc convert`: options, configuration, the gate, and everything that must be refused."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnc
from snnc.cli import convert, main, nir
from snnc.cli.config import KEYS, schema
from snnc.passes import PRESETS
from tests import quadrants
from tests.quadrants import Files

ROOT = Path(__file__).parent.parent
LOSSY = "fold-batchnorm,clip-activations,lower,quantise-weights"
"""Neurons without signs that start from zero: at T = 1 most spikes are lost."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return quadrants.write(tmp_path_factory.mktemp("user"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.snn.onnx"


def arguments(files: Files, out: Path, *more: str) -> list[str]:
    """Return what converts the network, with an option of its own instead of the usual one."""
    usual = {"--calib": files.calibration, "--preprocess": files.preprocessing, "-o": out}
    kept = [str(part) for pair in usual.items() if pair[0] not in more for part in pair]
    return ["convert", str(files.model), *kept, *more]


def succeeded(capsys: pytest.CaptureFixture[str], *parts: str) -> dict[str, Any]:
    """Run a verb that has to succeed and return its JSON."""
    code = main([*parts, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    found: dict[str, Any] = json.loads(captured.out)
    return found


def refused(capsys: pytest.CaptureFixture[str], parts: list[str], code: int) -> str:
    """Run a verb that has to fail with one line, behind warnings if any, and return the line."""
    assert main(parts) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    *warnings, line = captured.err.splitlines()
    assert all(each.startswith("warning ") for each in warnings)
    assert line.startswith("error: ")
    return line


def test_a_network_is_converted(files: Files, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = succeeded(capsys, *arguments(files, out, "-T", "8", "--seed", "3"))
    artefact = snnc.load(out)
    assert told["output"] == str(out)
    assert told["bytes"] == out.stat().st_size
    assert told["timesteps"] == artefact.graph.timesteps == 8
    assert told["payload"] == "signed"
    assert told["precision"] == "int8"
    assert told["pipeline"] == artefact.metadata.pipeline
    assert [layer["onnx_node"] for layer in told["layers"]] == ["relu"]
    assert artefact.metadata.source_path == str(files.model)
    assert artefact.metadata.calibration["seed"] == 3
    assert artefact.metadata.preprocessing == quadrants.PREPROCESSING | {
        "transpose_hw": False,
        "rows_layout": None,
    }
    assert list(out.parent.iterdir()) == [out]


def test_the_command_line_and_python_make_the_same_artefact(
    files: Files, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from snnc.artefact import save
    from snnc.data.preprocessing import Preprocessing

    succeeded(capsys, *arguments(files, out))
    x = np.load(files.calibration)["x"]
    preprocessing = Preprocessing.from_dict(quadrants.PREPROCESSING)
    other = out.with_name("other.snn.onnx")
    # The file holds labels, which tell the command line what the outputs are.
    made = snnc.compile_model(str(files.model), x, preprocessing=preprocessing, task="classes")
    save(made, other)
    assert out.read_bytes() == other.read_bytes()


def test_float32(files: Files, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = succeeded(capsys, *arguments(files, out, "--precision", "float32"))
    assert told["precision"] == "float32"
    assert not snnc.load(out).graph.integer


def test_options_of_passes(files: Files, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = succeeded(
        capsys, *arguments(files, out, "--pipeline", LOSSY, "--set", "clip-activations.method=max")
    )
    assert "clip-activations{method=max}" in told["pipeline"]
    assert told["preset"] == ""


def test_few_rows_are_warned_of(files: Files, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = out.with_name("few.npz")
    np.savez(few, x=np.load(files.calibration)["x"][:60])
    data = ["--calib", str(few), "--preprocess", str(files.preprocessing)]
    assert main(["convert", str(files.model), *data, "-o", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    assert "warning SNN201: only 60 calibration rows" in captured.err
    assert json.loads(captured.out)["diagnostics"][0]["code"] == "SNN201"


def test_wrong_preprocessing_is_warned_of(
    files: Files, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = out.with_name("wrong.json")
    wrong.write_text(json.dumps({"divide": 25500.0, "layout": "NCHW"}), encoding="utf-8")
    data = ["--calib", str(files.calibration), "--preprocess", str(wrong)]
    assert main(["convert", str(files.model), *data, "-o", str(out)]) == 0
    assert "warning SNN202" in capsys.readouterr().err


def test_the_help_names_every_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split()).replace("- ", "-")  # lines may end at a hyphen
    *names, last = PRESETS
    assert f"A fixed pipeline: {', '.join(names)} or {last}." in words


def test_a_network_of_the_zoo_needs_only_its_name(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = ("--rows-layout", "NHWC")  # which leaves the rest of its preprocessing
    told = succeeded(capsys, "convert", "zoo:fashion-resnet", "-o", str(out), "--pipeline", LOSSY, *layout)
    assert told["source"]["path"] == "zoo:fashion-resnet"
    assert told["calibration"]["rows"] == 500
    assert told["preprocessing"]["divide"] == 255
    assert told["preprocessing"]["rows_layout"] == "NHWC"


def test_a_dry_run_writes_nothing(files: Files, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = succeeded(capsys, *arguments(files, out, "--dry-run", "-T", "4", "--preset", "balanced"))
    assert told["dry_run"]
    assert told["calibration_rows"] == 200
    assert told["pipeline"].startswith("fold-batchnorm")
    assert not out.exists()
    assert main(["convert", str(files.model), "--dry-run", "--calib", str(files.calibration)]) == 5
    assert "(batch, 1, 8, 8), not (200, 8, 8), the shape of `x` of" in capsys.readouterr().err


def test_the_network_after_a_pass(files: Files, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = ("-T", "4", "--preset", "balanced")
    assert main(arguments(files, out, "--dump-ir-after", "lower", *fixed)) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("# after lower\nspiking network quadrants: T = 4")
    assert captured.err.count("# after") == 1
    assert main(arguments(files, out, "--dump-ir-after", "all", "--force", "--pipeline", LOSSY)) == 0
    after = [line for line in capsys.readouterr().err.splitlines() if line.startswith("# after")]
    assert after == [f"# after {name}" for name in LOSSY.split(",")]


def test_the_gate_lets_a_good_network_through(
    files: Files, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = succeeded(capsys, *arguments(files, out, "-T", "8", "--max-drop", "3"))
    assert told["max_drop"]["rows"] == 200 // convert.HELD_BACK
    assert told["max_drop"]["points"] <= 3
    assert told["calibration"]["rows"] == 160
    assert out.exists()


@pytest.mark.parametrize("labelled", [True, False])
def test_the_gate_stops_a_bad_network(
    labelled: bool, files: Files, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = np.load(files.calibration)
    rows = out.with_name("rows.npz")
    np.savez(rows, **({"x": data["x"], "y": data["y"]} if labelled else {"x": data["x"]}))
    parts = ["convert", str(files.model), "--calib", str(rows), "--preprocess", str(files.preprocessing)]
    parts += ["-o", str(out), "-T", "1", "--pipeline", LOSSY, "--max-drop", "1"]
    if not labelled:
        assert "--task classes or --task regression" in refused(capsys, parts, 2)
        parts += ["--task", "classes"]
    line = refused(capsys, parts, 4)
    assert ("accuracy lost" if labelled else "answers that differ from the ANN's") in line
    assert "40 calibration rows" in line
    assert not out.exists()


def test_labels_that_the_source_never_meets_are_no_gate(
    files: Files, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nothing is right before, nothing can be lost: the limit could not be missed."""
    data = np.load(files.calibration)
    rows = out.with_name("wrong.npz")
    np.savez(rows, x=data["x"], y=(data["y"] + 1) % 4)
    parts = ["convert", str(files.model), "--calib", str(rows), "--preprocess", str(files.preprocessing)]
    parts += ["-o", str(out), "-T", "2", "--preset", "fast"]
    assert "so nothing can miss --max-drop 1: check `y`" in refused(capsys, [*parts, "--max-drop", "1"], 5)
    assert not out.exists()
    assert main(parts) == 0
    both = ["compare", str(files.model), str(out), "--data", str(rows), "--max-drop", "1"]
    assert main(both) == 5
    assert "A is right on 0.00% of the rows" in capsys.readouterr().err


def test_an_existing_output_is_kept(files: Files, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out.write_text("precious", encoding="utf-8")
    assert "exists already" in refused(capsys, arguments(files, out), 2)
    assert out.read_text(encoding="utf-8") == "precious"
    assert main(arguments(files, out, "--force", "-T", "3", "--preset", "fast")) == 0
    assert snnc.load(out).graph.timesteps == 3


def test_a_full_disk_keeps_the_old_file(
    files: Files, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out.write_text("precious", encoding="utf-8")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in refused(capsys, arguments(files, out, "--force"), 5)
    assert out.read_text(encoding="utf-8") == "precious"
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="every folder is open to root")
def test_a_closed_folder(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert "cannot be written" in refused(capsys, arguments(files, tmp_path / "x.snn.onnx"), 5)
    finally:
        tmp_path.chmod(stat.S_IRWXU)


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["-T", "0"], 2, "must be at least 1, not 0"),
        (["-T", "four"], 2, "'four' is not a valid integer"),
        (["--preset", "splendid"], 2, "unknown preset 'splendid'; known: balanced"),
        (["--pipeline", "fold-batchnorm,,lower"], 2, "cannot read the pipeline"),
        (["--pipeline", "sharpen"], 2, "unknown pass 'sharpen'"),
        (["--pipeline", "lower,lower", "--dry-run"], 2, "'lower' works on AnnGraph: one is enough"),
        (["--pipeline", "fold-batchnorm", "--dry-run"], 2, "it needs the pass `lower`"),
        (["--pipeline", "quantise-weights,lower", "--dry-run"], 2, "put it after `lower`"),
        (["--pipeline", "lower,fold-batchnorm", "--dry-run"], 2, "put it before `lower`"),
        (["-T", "99999999999999999999", "--dry-run"], 2, "more than the 256 steps"),
        (["--set", "lower"], 2, "write PASS.OPTION=VALUE"),
        (["--set", "clip-activations.colour=red"], 2, "has no option 'colour'"),
        (["--set", "clip-activations.levels=-1"], 2, "levels must lie in [1, 32767], not -1"),
        (["--dump-ir-after", "sharpen"], 2, "which may be chosen, has no such pass"),
        (["--dump-ir-after", "sharpen", "--pipeline", LOSSY], 2, "the pipeline has no such pass"),
        (["--precision", "int4"], 2, "'int4' is not one of"),
        (["--max-drop", "-1"], 2, "must be at least 0, not -1.0"),
        (["--threads", "0"], 2, "0 is not in the range"),
        (["--calib", "nowhere.npz"], 5, "nowhere.npz does not exist"),
        (["--preprocess", "nowhere.json"], 5, "cannot read the preprocessing nowhere.json"),
        (["-o", "."], 5, ". is a folder"),
        (["-o", "no/where.snn.onnx"], 5, "does not exist: make it first"),
        (["--config", "nowhere.toml"], 5, "the configuration nowhere.toml cannot be read"),
    ],
)
def test_options_that_make_no_sense(
    more: list[str], code: int, says: str, files: Files, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refused(capsys, arguments(files, out, *more), code)
    assert not out.exists()


def test_what_is_missing_is_asked_for(files: Files, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "name 500 to 1,000" in refused(capsys, ["convert", str(files.model), "-o", str(out)], 2)
    calib = ["--calib", str(files.calibration)]
    assert "no output is named" in refused(capsys, ["convert", str(files.model), *calib], 2)


IMAGES = quadrants.images(120, 3)[0]
BAD_ROWS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "key": ({"images": IMAGES}, "holds images, but no `x`"),
    "shape": ({"x": IMAGES[:, :7]}, "(batch, 1, 8, 8), not (120, 7, 8)"),
    "type": ({"x": IMAGES.astype("<U3")}, "give numbers"),
    "complex": ({"x": IMAGES.astype(complex)}, "give numbers"),
    "objects": ({"x": np.array([{}, 1], object)}, "holds Python objects"),
    "scalar": ({"x": np.array(3)}, "of shape ()"),
    "no rows": ({"x": IMAGES[:0]}, "holds no rows"),
    "nan": ({"x": np.where(IMAGES == 7, np.nan, IMAGES)}, "NaN or infinity"),
    "labels": ({"x": IMAGES, "y": np.zeros(119, int)}, "one class number per row"),
    "label type": ({"x": IMAGES, "y": np.zeros(120)}, "one class number per row"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_rows_that_do_not_fit(kind: str, files: Files, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays, says = BAD_ROWS[kind]
    rows = out.with_name("rows.npz")
    np.savez(rows, **arrays)  # type: ignore[arg-type]
    assert says in refused(capsys, arguments(files, out, "--calib", str(rows)), 5)
    assert not out.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut short"])
def test_damaged_rows(content: bytes, files: Files, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = out.with_name("rows.npz")
    rows.write_bytes(content)
    assert "not a NumPy file" in refused(capsys, arguments(files, out, "--calib", str(rows)), 5)


def test_rows_cut_short(files: Files, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = out.with_name("rows.npz")
    rows.write_bytes(files.calibration.read_bytes()[:2000])
    assert "damaged" in refused(capsys, arguments(files, out, "--calib", str(rows)), 5)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x08\x12\x00"])
def test_a_model_that_is_none(
    content: bytes, files: Files, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = out.with_name("model.onnx")
    model.write_bytes(content)
    parts = ["convert", str(model), "--calib", str(files.calibration), "-o", str(out)]
    assert str(model) in refused(capsys, parts, 5)
    parts[1] = str(out.with_name("missing.onnx"))
    assert "does not exist" in refused(capsys, parts, 5)


def test_a_network_out_of_scope(files: Files, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = quadrants.network()
    proto.graph.node[1].op_type = "Hardmax"
    model = out.with_name("tanh.onnx")
    model.write_bytes(proto.SerializeToString())
    line = refused(capsys, ["convert", str(model), "--calib", str(files.calibration), "-o", str(out)], 3)
    assert "SNN101" in line
    assert "'relu'" in line
    assert not out.exists()


def config(folder: Path, text: str) -> list[str]:
    path = folder / "snnc.toml"
    path.write_text(text, encoding="utf-8")
    return ["--config", str(path)]


def test_a_configuration_file(files: Files, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"""
    calib = "{files.calibration.name}"
    preprocess = "{files.preprocessing.name}"
    timesteps = 5
    seed = 9
    pipeline = "{LOSSY}"
    [set]
    clip-activations.method = "percentile"
    clip-activations.granularity = "layer"
    """
    chosen = config(files.folder, text)
    parts = ["convert", str(files.model), "-o", str(out), *chosen]
    told = succeeded(capsys, *parts)
    assert told["timesteps"] == 5
    assert told["calibration"]["seed"] == 9
    assert "method=percentile" in told["pipeline"]
    assert "granularity=layer" in told["pipeline"]
    told = succeeded(capsys, *parts, "--force", "-T", "6", "--set", "clip-activations.method=max")
    assert told["timesteps"] == 6
    assert "method=max" in told["pipeline"]
    assert "granularity=layer" in told["pipeline"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("timestep = 4", "unknown key 'timestep'; known: calib, timesteps"),
        ("timesteps = 0", "'timesteps' must be at least 1, not 0"),
        ("timesteps = 4.5", "'timesteps' must be a whole number"),
        ("seed = true", "'seed' must be a whole number"),
        ("max-drop = nan", "'max-drop' must be a finite number, not nan"),
        ("max-synops = inf", "'max-synops' must be a finite number, not inf"),
        ('precision = "int4"', "must be one of int8, float32"),
        ("[set]\nlower = 3", "needs a table for the pass 'lower'"),
        ("[set]\nlower.levels = [1]", "holds lower.levels"),
        ("timesteps 4", "is not TOML"),
    ],
)
def test_configurations_that_make_no_sense(
    text: str, says: str, files: Files, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refused(capsys, arguments(files, out, *config(out.parent, text)), 5)


def test_the_schema_is_published() -> None:
    kept = json.loads((ROOT / "docs" / "config.schema.json").read_text(encoding="utf-8"))
    assert kept == schema(), "run python -m snnc.cli.config schema > docs/config.schema.json"


def test_the_schema_knows_the_options() -> None:
    options = {p.name: p for p in convert.command.params}
    known = {option.field for option in KEYS.values()}
    others = set(options) - known
    assert known < set(options)
    at_the_command_line_only = {
        "cluster",
        "model",
        "output",
        "dry_run",
        "dump_ir_after",
        "config",
        "force",
        "front",
        "journal",
        *nir.NAMES,  # of files for which configurations say nothing else
    }
    assert others == at_the_command_line_only | {"verbose", "quiet", "json", "log_file", "no_progress"}
