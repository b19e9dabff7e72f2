"""The verbs on a network of several inputs and outputs, and on one whose sizes its file leaves open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import snnc
from snnc.errors import UsageError
from snnc.source.selection import Selection
from tests.detectors import OUTPUTS, detector_files, refused, run, segmentation, told
from tests.onnx_models import saved


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return detector_files(tmp_path_factory.mktemp("networks"))


def test_check_takes_several(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "check", folder / "detector.onnx")["supported"]
    assert told(capsys, "check", folder / "detector.onnx", "--target", "c99")["supported"]
    code, out, _ = run(capsys, "check", folder / "detector.onnx", "--target", "loihi", "--json")
    assert code == 6
    assert "a second of 3 inputs" in out


def test_eval_judges_each_output_by_its_kind(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--data", folder / "test.npz", "--against", "source", "--threads", "1")
    found = told(capsys, "eval", folder / "made.snn.onnx", *asked)
    assert list(found["outputs"]) == OUTPUTS
    probs, last = found["outputs"]["probs"], found["outputs"]["last"]
    assert probs["task"] == "classes"
    assert {"top1", "agreement"} <= probs["metrics"].keys()
    assert probs["paired"]["both_right"] + probs["paired"]["only_ann_right"] == round(
        12 * probs["ann"]["top1"]
    )
    assert last["task"] == "regression"
    assert set(last["metrics"]) == {"sqnr", "psnr", "cosine", "mse"}
    assert last["metrics"]["mse"]["against"] == "labels"
    assert "ann" not in found["outputs"]["inner"] or found["outputs"]["inner"]["ann"]["macs"]
    code, out, _ = run(capsys, "eval", folder / "made.snn.onnx", *asked)
    assert code == 0
    assert all(f"output {name}" in out for name in OUTPUTS)


def test_values_are_those_of_the_source_s_layout(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A transposed map held to labels in the source's own order, and to the source, is the same map."""
    artefact = snnc.load(folder / "made.snn.onnx")
    with np.load(folder / "test.npz") as rows:
        x = {name: rows[name] for name in ("image", "vec", "other")}
    decoded = artefact.decode(snnc.simulate(artefact, x, threads=1))["last"]
    np.savez(folder / "exact.npz", image=x["image"], vec=x["vec"], other=x["other"], last=decoded)
    asked = ("--data", folder / "exact.npz", "--metric", "last:mse", "--threads", "1")
    found = told(capsys, "eval", folder / "made.snn.onnx", *asked)
    assert found["outputs"]["last"]["metrics"]["mse"]["value"] < 1e-9
    assert not found["outputs"]["inner"]["metrics"]


def test_metrics_of_one_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--data", folder / "test.npz", "--against", "source", "--threads", "1")
    wanted = ("--metric", "agreement", "--metric", "inner:psnr")
    found = told(capsys, "eval", folder / "made.snn.onnx", *asked, *wanted)["outputs"]
    assert {name: list(found[name]["metrics"]) for name in OUTPUTS} == {
        "probs": ["agreement"],
        "last": [],
        "inner": ["psnr"],
        "again": [],
    }


def test_eval_of_the_source(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = (
        "--data",
        folder / "test.npz",
        "--keep-output",
        "last",
        "--keep-output",
        "probs",
        "--threads",
        "1",
    )
    found = told(capsys, "eval", folder / "detector.onnx", *asked)
    assert list(found["outputs"]) == ["probs", "last"], "in the order of the file"
    assert found["outputs"]["probs"]["top1"] is not None


def test_run_writes_every_output(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = [f"--input={name}={folder / name}.npy" for name in ("vec", "image", "other")]
    found = told(capsys, "run", folder / "made.snn.onnx", *inputs, "-o", tmp_path / "y.npz", "--logits")
    assert list(found["outputs"]) == OUTPUTS
    assert len(found["outputs"]["probs"]["classes"]) == 12
    assert found["outputs"]["last"]["classes"] is None
    artefact = snnc.load(folder / "made.snn.onnx")
    with np.load(folder / "test.npz") as rows, np.load(tmp_path / "y.npz") as written:
        x = {name: rows[name] for name in ("image", "vec", "other")}
        expected = artefact.decode(snnc.simulate(artefact, x, threads=1))
        for name in OUTPUTS:
            np.testing.assert_array_equal(written[name], expected[name])
    together = ("run", folder / "made.snn.onnx", "--input", folder / "test.npz", "-o", tmp_path / "z.npz")
    assert told(capsys, *together, "--per-step")["outputs"]["last"]["shape"] == [2, 12, 6, 6, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("run", "made.snn.onnx", "--input", "vec.npy", "-o", "n.npz"),
            "has 3 inputs, 'image', 'vec', 'other'",
        ),
        (("run", "made.snn.onnx", "--input", "vec=vec.npy", "-o", "n.npz"), "the input 'image' of"),
        (("run", "made.snn.onnx", "--input", "nope=vec.npy", "-o", "n.npz"), "write NAME=X.npy for each"),
        (("run", "made.snn.onnx", "--input", "test.npz", "-o", "n.npy"), "name an archive, NAME.npz"),
        (
            ("eval", "made.snn.onnx", "--data", "test.npz", "--metric", "nope:mse"),
            "there is no output 'nope'",
        ),
        (("eval", "made.snn.onnx", "--data", "test.npz", "--keep-output", "last"), "is for a MODEL"),
        (("check", "made.snn.onnx", "--target", "c99", "--host", "none"), "this is an artefact"),
        (("bisect", "made.snn.onnx", "--data", "test.npz"), "say which to judge, by --output NAME"),
        (
            ("bisect", "made.snn.onnx", "--data", "test.npz", "--output", "nope"),
            "there is no output 'nope'; the outputs: 'probs', 'last'",
        ),
        (("check", "detector.onnx", "--keep-output", "nope"), "has no output 'nope'; its outputs: 'probs'"),
        (
            ("check", "detector.onnx", "--keep-output", "inner", "--keep-output", "inner"),
            "names 'inner' twice",
        ),
        (("check", "detector.onnx", "--shape", "nope=1,3"), "has no input 'nope'; its inputs: 'image'"),
        (("check", "detector.onnx", "--shape", "vec=1,3,3"), "the input has 2 sizes"),
        (("check", "detector.onnx", "--shape", "vec=1,4"), "fixes the shape (N, 3)"),
        (("check", "detector.onnx", "--shape", "vec"), "write NAME=1,3,320,320"),
        (
            (
                "convert",
                "detector.onnx",
                "--calib",
                "rows.npz",
                "-o",
                "n.snn.onnx",
                "--preset",
                "fast",
                "-T",
                "2",
                "--min-metric",
                "last:sqnr=90",
            ),
            "sqnr of 'last' is",
        ),
    ],
)
def test_mistakes(
    folder: Path,
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert message in refused(capsys, *arguments)
    assert not list(folder.glob("n.*"))


def test_a_budget_counts_the_output_that_loses_most(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "kept.snn.onnx"
    given = ("--calib", folder / "rows.npz", "-o", out, "--threads", "1")
    limits = ("--timesteps", "1", "--payload", "signed", "--max-latency", "1")
    kept = ("--keep-output", "last", "--keep-output", "probs")
    floors = ("--min-metric", "last:sqnr=-20", "--min-metric", "sqnr=-30")
    found = told(capsys, "convert", folder / "detector.onnx", *given, *limits, *kept, *floors)
    chosen = found["chosen"]
    assert found["measured"].endswith("at the output that loses most")
    assert chosen["metrics"].keys() == {"last:sqnr", "sqnr"}
    assert chosen["metrics"]["sqnr"] <= chosen["metrics"]["last:sqnr"]
    assert chosen["drop"] >= 100 * 10 ** (-chosen["metrics"]["last:sqnr"] / 10) * 0.999
    artefact = snnc.load(out)
    assert list(artefact.gives) == ["probs", "last"]


def test_limits_hold_for_every_output(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (
        "convert",
        folder / "detector.onnx",
        "--calib",
        folder / "rows.npz",
        "--preset",
        "graded",
        "-T",
        "8",
    )
    limits = ("--min-metric", "sqnr=-99", "--max-drop", "100", "--threads", "1")
    found = told(capsys, *asked, "-o", tmp_path / "kept.snn.onnx", *limits)
    assert [limit["output"] for limit in found["min_metric"]] == OUTPUTS
    assert found["max_drop"]["output"] == "probs"
    assert [each["name"] for each in found["outputs"]] == OUTPUTS
    assert [each["name"] for each in found["inputs"]] == ["image", "vec", "other"]


def test_kept_outputs_and_the_inputs_that_they_need(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "kept.snn.onnx"
    asked = ("--calib", folder / "rows.npz", "--preset", "fast", "-T", "2", "--threads", "1")
    told(capsys, "convert", folder / "detector.onnx", *asked, "-o", out, "--keep-output", "last")
    artefact = snnc.load(out)
    assert list(artefact.takes) == ["image", "other"]
    assert list(artefact.gives) == ["last"]
    found = told(capsys, "eval", out, "--data", folder / "test.npz", "--against", "source")
    assert found["metrics"]["sqnr"]["against"] == "source"
    assert found["ann"]["macs"]


def test_sizes_that_a_file_leaves_open_are_fixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, segmentation())
    code, out, _ = run(capsys, "check", path, "--json")
    assert code == 3
    assert "--shape" in out
    fixed = ("--shape", "image=0,2,6,5")
    assert told(capsys, "check", path, *fixed)["supported"]
    x = np.random.default_rng(0).standard_normal((40, 2, 6, 5)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=x)
    made = tmp_path / "made.snn.onnx"
    asked = ("--calib", tmp_path / "rows.npz", "--preset", "graded", "-T", "16", "--threads", "1")
    told(capsys, "convert", path, *asked, *fixed, "-o", made)
    assert snnc.load(made).gives == {"y": (3, 6, 5)}
    found = told(capsys, "eval", made, "--data", tmp_path / "rows.npz", "--against", "source")
    assert found["metrics"]["sqnr"]["value"] > 20


def test_python_takes_shapes_and_outputs(tmp_path: Path, folder: Path) -> None:
    x = np.random.default_rng(0).standard_normal((40, 2, 6, 5)).astype(np.float32)
    path = saved(tmp_path, segmentation())
    artefact = snnc.compile_model(
        path, x, preset="fast", timesteps=2, threads=1, shape={"image": (0, 2, 6, 5)}
    )
    assert artefact.selection == Selection({"image": (0, 2, 6, 5)}, ())
    rows = folder / "rows.npz"
    kept = snnc.compile_model(
        folder / "detector.onnx", rows, preset="fast", timesteps=2, threads=1, keep_output=["inner"]
    )
    assert list(kept.gives) == ["inner"]
    with pytest.raises(UsageError, match="give a list of names"):
        snnc.compile_model(folder / "detector.onnx", rows, keep_output="inner")
    with pytest.raises(UsageError, match="the shapes are"):
        snnc.compile_model(path, x, shape={"image": "big"})  # type: ignore[dict-item]


def test_a_selection_leaves_the_file_as_it_is() -> None:
    model = segmentation()
    before = model.SerializeToString()
    fixed = Selection({"image": (3, 2, 6, 5)}, ("y",)).applied(model, "file")
    assert model.SerializeToString() == before
    dims = fixed.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [3, 2, 6, 5]
    unknown = helper.make_tensor_value_info("image", 1, None)
    model.graph.input[0].CopyFrom(unknown)
    fixed = Selection({"image": (3, 2, 6, 5)}).applied(model, "file")
    assert len(fixed.graph.input[0].type.tensor_type.shape.dim) == 4
