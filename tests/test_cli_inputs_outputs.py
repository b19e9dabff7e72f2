"""The verbs on a network of several inputs and outputs, and on one whose sizes its file leaves open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from onnx import helper

import snnc
from snnc.artefact import save
from snnc.cli import main
from snnc.errors import UsageError
from snnc.frontend import read_onnx
from snnc.ir.snn import IntegrateFire
from snnc.source.selection import Selection
from tests.onnx_models import node, saved
from tests.test_inputs_outputs import detector, proto, rows_for, weights

ROOT = Path(__file__).parents[1]
OUTPUTS = ["probs", "last", "inner", "again"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector, its rows as arrays and archives, and a conversion of it."""
    folder = tmp_path_factory.mktemp("networks")
    path = saved(folder, detector(), "detector.onnx")
    x = rows_for(read_onnx(path))
    np.savez(folder / "rows.npz", image=x["image"], vec=x["vec"], other=x["other"])
    test = rows_for(read_onnx(path), 12, seed=2)
    answers = np.random.default_rng(0).integers(0, 5, 12)
    maps = np.random.default_rng(0).standard_normal((12, 6, 6, 3)).astype(np.float32)
    np.savez(
        folder / "test.npz",
        image=test["image"],
        vec=test["vec"],
        other=test["other"],
        probs=answers,
        last=maps,
    )
    for name, array in test.items():
        np.save(folder / f"{name}.npy", array)
    artefact = snnc.compile_model(path, folder / "rows.npz", preset="fast", timesteps=2, threads=1)
    save(artefact, folder / "made.snn.onnx")
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(list(map(str, arguments)))
    found = capsys.readouterr()
    return code, found.out, found.err


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    code, out, error = run(capsys, *arguments, "--json")
    assert code == 0, error + out
    return json.loads(out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the one line that an error is."""
    code, _, error = run(capsys, *arguments)
    assert code not in (0, 1)
    lines = [line for line in error.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    return lines[0]


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


def test_the_report_is_of_the_output_that_loses_most(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("report", folder / "made.snn.onnx", "--data", folder / "test.npz", "--threads", "1")
    found = told(capsys, *asked)
    jsonschema.validate(found, json.loads((ROOT / "docs" / "report.schema.json").read_text()))
    assert list(found["outputs"]) == OUTPUTS
    losses = {name: each["loss"]["value"] for name, each in found["outputs"].items()}
    assert found["output"] == max(losses, key=lambda name: losses[name])
    assert found["verdict"]["loss"] == found["outputs"][found["output"]]["loss"]
    for each in found["outputs"].values():
        low, high = each["loss"]["ci95"]
        assert low <= each["loss"]["value"] <= high
    errors = {each["name"]: each for each in found["layers"]}
    assert {f"{name}.readout" for name in OUTPUTS} <= errors.keys()
    # An output of spikes has no error but that of its population.
    inner = errors["inner.readout"]["cumulative"]
    assert inner["total"] == pytest.approx(errors["Relu_inner"]["cumulative"]["total"], rel=1e-4)
    assert inner["propagated"] == pytest.approx(inner["total"], rel=1e-4)
    judged = told(capsys, "eval", *asked[1:], "--against", "source")["outputs"]
    for name in OUTPUTS:
        for metric, each in found["outputs"][name]["metrics"].items():
            assert each["value"] == pytest.approx(judged[name]["metrics"][metric]["value"], rel=1e-6)
    code, out, error = run(capsys, *asked, "-o", tmp_path / "report.html")
    assert code == 0, error
    assert "inner loses most" in out
    assert all(f'<td class="text">{name}</td>' in (tmp_path / "report.html").read_text() for name in OUTPUTS)


def test_the_curve_is_of_the_output_that_loses_most(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--data", folder / "test.npz", "--threads", "1")
    found = told(capsys, "report", folder / "made.snn.onnx", *asked, "--curve", "1,2")
    jsonschema.validate(found, json.loads((ROOT / "docs" / "report.schema.json").read_text()))
    curve = found["accuracy_against_timesteps"]
    assert curve["output"] == found["output"]
    metric = f"{found['output']}:r2"
    for point in curve["this_artefact"]:
        at = ("-T", point["timesteps"], "--against", "source", "--metric", metric)
        judged = told(capsys, "eval", folder / "made.snn.onnx", *asked, *at)["outputs"][found["output"]]
        assert point["r2"] == pytest.approx(judged["metrics"]["r2"]["value"], abs=1e-6)


def test_bisect_judges_the_output_that_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = (folder / "made.snn.onnx", "--data", folder / "test.npz", "--threads", "1")
    judged = told(capsys, "eval", *asked, "--against", "source")["outputs"]
    found = told(capsys, "bisect", *asked, "--output", "probs")
    assert (found["measured"], found["n"]) == ("accuracy", 12)
    assert found["trials"][0]["share"] == pytest.approx(judged["probs"]["ann"]["top1"])
    assert len(found["trials"]) == 1 + len(snnc.load(asked[0]).graph.of_type(IntegrateFire))
    with np.load(folder / "test.npz") as rows:
        x = {name: rows[name] for name in ("image", "vec", "other")}
    np.savez(folder / "alone.npz", **x)
    bare = (asked[0], "--data", folder / "alone.npz", *asked[3:])
    told_of = told(capsys, "eval", *bare, "--against", "source")["outputs"]["last"]["metrics"]["sqnr"][
        "value"
    ]
    maps = told(capsys, "bisect", *bare, "--output", "last")
    assert maps["measured"] == "1 - 1 / SQNR against the source"
    losses = [trial["power_lost"] for trial in maps["trials"]]
    assert losses[0] < 1e-9
    assert all(trial["r2"] is None for trial in maps["trials"])
    # All but the read-out spikes then, whose weights are rounded, too.
    assert losses[-1] == pytest.approx(10 ** (-told_of / 10), rel=0.3)


def test_compare_judges_every_output(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, data = folder / "made.snn.onnx", ("--data", folder / "test.npz", "--threads", "1")
    same = told(capsys, "compare", made, made, *data)
    assert list(same["outputs"]) == OUTPUTS
    assert same["outputs"]["probs"]["agreement"] == 1
    assert same["outputs"]["last"]["metrics"]["sqnr"]["value"] is None
    assert all(row[-1] == 0 for row in same["rows"])
    found = told(capsys, "compare", folder / "detector.onnx", made, *data)
    judged = told(capsys, "eval", made, *data, "--against", "source")["outputs"]
    for name in OUTPUTS:
        for metric, each in found["outputs"][name]["metrics"].items():
            if each["against"] == "A" and metric in judged[name]["metrics"]:
                value = judged[name]["metrics"][metric]["value"]
                assert each["value"] == pytest.approx(value, rel=1e-5)
    probs = found["outputs"]["probs"]
    assert probs["b"] == judged["probs"]["top1"]
    assert (found["output"], found["drop_points"]) == ("probs", probs["drop_points"])
    assert {row[0] for row in found["rows"]} >= {"last.readout", "probs.readout"}
    assert "sqnr of 'last' is" in refused(
        capsys, "compare", folder / "detector.onnx", made, *data, "--min-metric", "last:sqnr=90"
    )


def test_compare_takes_of_the_source_what_the_artefact_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        node("Gemm", "x a", "h"),
        node("Relu", "h", "r"),
        node("Gemm", "r b", "y"),
        node("Gemm", "r c", "z"),
    ]
    constants = weights(3, a=(4, 8), b=(8, 3), c=(8, 2))
    path = saved(tmp_path, proto(nodes, {"x": ("N", 4)}, ["z", "y"], constants))
    x = np.random.default_rng(0).standard_normal((60, 4), np.float32)
    made = tmp_path / "n.snn.onnx"
    save(snnc.compile_model(path, x, preset="fast", timesteps=8, threads=1, keep_output=["y"]), made)
    np.savez(tmp_path / "rows.npz", x=x)
    found = told(capsys, "compare", path, made, "--data", tmp_path / "rows.npz", "--task", "regression")
    assert found["metrics"]["r2"]["value"] > 0.9
    assert "outputs" not in found
    whole = tmp_path / "whole.snn.onnx"
    save(snnc.compile_model(path, x, preset="fast", timesteps=8, threads=1), whole)
    for pair in ((whole, made), (made, whole)):
        assert "has none of that name" in refused(capsys, "compare", *pair, "--data", tmp_path / "rows.npz")


def test_the_report_of_a_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, segmentation())
    x = np.random.default_rng(0).standard_normal((40, 2, 6, 5)).astype(np.float32)
    made = tmp_path / "made.snn.onnx"
    artefact = snnc.compile_model(
        path, x, preset="fast", timesteps=4, threads=1, shape={"image": (0, 2, 6, 5)}
    )
    save(artefact, made)
    np.savez(tmp_path / "rows.npz", x=x)
    asked = ("report", made, "--data", tmp_path / "rows.npz", "--threads", "1", "--curve", "2")
    found = told(capsys, *asked)
    assert list(found["outputs"]) == ["y"]
    assert "of the power of the source's" in found["verdict"]["text"]
    assert found["metrics"].keys() == {"sqnr", "psnr", "cosine", "mse"}


def test_compare_takes_a_map_for_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As eval and report do: no arg max over all places is a class that networks could agree on."""
    path = saved(tmp_path, segmentation())
    x = np.random.default_rng(0).standard_normal((40, 2, 6, 5)).astype(np.float32)
    shape = {"image": (0, 2, 6, 5)}
    artefact = snnc.compile_model(path, x, preset="fast", timesteps=4, threads=1, shape=shape)
    made = tmp_path / "made.snn.onnx"
    save(artefact, made)
    y = artefact.decode(snnc.simulate(artefact, x, threads=1))["y"]
    np.savez(tmp_path / "rows.npz", x=x)
    np.savez(tmp_path / "same.npz", x=x, y=y)
    np.savez(tmp_path / "turned.npz", x=x, y=np.moveaxis(y, 1, -1))
    asked = ("compare", made, made, "--threads", "1", "--data")
    found = told(capsys, *asked, tmp_path / "rows.npz")
    assert (found["task"], found["agreement"], found["drop_points"]) == ("regression", None, None)
    assert found["metrics"].keys() == {"sqnr", "psnr", "cosine", "mse"}
    assert told(capsys, *asked, tmp_path / "same.npz")["metrics"]["mse"]["value"] < 1e-9
    assert "do not fit a map" in refused(capsys, *asked, tmp_path / "turned.npz")
    assert "the outputs are numbers" in refused(capsys, *asked, tmp_path / "rows.npz", "--max-drop", "1")


def test_labels_must_be_of_an_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(folder / "test.npz") as rows:
        x = {name: rows[name] for name in ("image", "vec", "other")}
    alone, classes = folder / "alone.npz", folder / "classes.npz"
    np.savez(alone, image=x["image"], vec=x["vec"], other=x["other"], y=np.zeros(12, np.int64))
    assert "holds labels `y`, and there are 4 outputs" in refused(
        capsys, "eval", folder / "made.snn.onnx", "--data", alone
    )
    np.savez(classes, image=x["image"], vec=x["vec"], other=x["other"], last=np.zeros(12, np.int64))
    assert "the output 'last': labels of shape (12,) do not fit a map of 6 x 6 x 3" in refused(
        capsys, "eval", folder / "made.snn.onnx", "--data", classes
    )


@pytest.mark.parametrize("order", [(0, 3, 1, 2), (0, 3, 2, 1)])
def test_labels_of_a_map_in_another_order_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], order: tuple[int, ...]
) -> None:
    """They hold as many numbers, and would be held to other places."""
    with np.load(folder / "test.npz") as rows:
        arrays = dict(rows)
    path = tmp_path / "turned.npz"
    np.savez(
        path, allow_pickle=False, **arrays | {"last": np.ascontiguousarray(arrays["last"].transpose(order))}
    )
    error = refused(capsys, "eval", folder / "made.snn.onnx", "--data", path, "--metric", "last:mse")
    assert "'last'" in error
    np.savez(path, **arrays | {"last": arrays["last"].reshape(12, 1, 6, 6, 3)})
    told(capsys, "eval", folder / "made.snn.onnx", "--data", path, "--metric", "last:mse")


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


def test_a_second_curve_keeps_the_outputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [
        node("Gemm", "x a", "h"),
        node("Relu", "h", "r"),
        node("Gemm", "r b", "y"),
        node("Gemm", "r c", "z"),
    ]
    constants = weights(3, a=(4, 8), b=(8, 3), c=(8, 2))
    path = saved(tmp_path, proto(nodes, {"x": ("N", 4)}, ["z", "y"], constants))
    rows, out = tmp_path / "rows.npz", tmp_path / "n.snn.onnx"
    np.savez(rows, x=np.random.default_rng(0).standard_normal((60, 4), np.float32))
    asked = ("--calib", rows, "--preset", "fast", "-T", "2", "--threads", "1", "--keep-output", "y")
    told(capsys, "convert", path, *asked, "-o", out)
    curves = ("--task", "classes", "--curve", "1,2", "--reconvert", "--calib", rows)
    curve = told(capsys, "report", out, "--data", rows, *curves)["accuracy_against_timesteps"]
    assert curve["converted_for_each"][1] == curve["this_artefact"][1]  # T = 2 is what it was converted for


def segmentation() -> Any:
    """A fully convolutional network whose height and width its file leaves open."""
    nodes = [
        node("Conv", "image w b", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("Conv", "r v", "y"),
    ]
    shapes = {"image": ("batch", 2, "height", "width")}
    return proto(nodes, shapes, ["y"], weights(9, w=(4, 2, 3, 3), b=(4,), v=(3, 4, 1, 1)))


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
