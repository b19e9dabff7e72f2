"""Reports and comparisons of a network of several outputs: each is judged by its kind."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import snnc
from snnc.artefact import save
from snnc.ir.snn import IntegrateFire
from tests.detectors import OUTPUTS, detector_files, refused, run, segmentation, told
from tests.onnx_models import node, saved
from tests.test_inputs_outputs import proto, weights

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return detector_files(tmp_path_factory.mktemp("networks"))


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
