"""Networks without classes, and with two in one output: every gate and verb measures what can fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import snnc
from snnc.artefact import save
from snnc.cli import main
from tests.onnx_models import node
from tests.task_networks import ROWS, Network, message, numbers_of, task_network, told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def price(folder: Path) -> Network:
    return task_network(folder, "price")


@pytest.fixture(scope="module")
def forecast(folder: Path) -> Network:
    return task_network(folder, "forecast")


@pytest.fixture(scope="module")
def logit(folder: Path) -> Network:
    return task_network(folder, "logit")


def test_the_artefact_remembers_what_its_outputs_are(
    price: Network, forecast: Network, logit: Network
) -> None:
    assert snnc.load(price.converted("plain", "--preset", "fast")).metadata.task == ""
    assert snnc.load(price.converted("told", "--task", "regression")).metadata.task == "regression"
    labelled = replace(forecast, rows=forecast.labelled).converted("labelled", "--preset", "fast")
    assert snnc.load(labelled).metadata.task == "regression"
    labelled = replace(logit, rows=logit.labelled).converted("labelled", "--preset", "fast")
    assert snnc.load(labelled).metadata.task == "binary"


def test_files_from_before_tasks_are_read(price: Network, tmp_path: Path) -> None:
    import onnx

    from snnc.artefact.metadata import HASH, content_hash

    proto = onnx.load_model(price.converted("plain", "--preset", "fast"))
    for name in ("snnc.task", "snnc.ends", HASH):
        (entry,) = [entry for entry in proto.metadata_props if entry.key == name]
        proto.metadata_props.remove(entry)
    proto.metadata_props.add(key=HASH, value=content_hash(proto))
    old = tmp_path / "old.snn.onnx"
    old.write_bytes(proto.SerializeToString())
    assert snnc.load(old).metadata.stored_task is None


def test_eval_of_numbers(price: Network, capsys: pytest.CaptureFixture[str]) -> None:
    path = price.converted("T8", "--preset", "fast", "-T", "8")
    found = told(capsys, "eval", path, "--data", price.labelled, "--against", "source")
    y, s = numbers_of(path, price.labelled)
    labels = np.load(price.labelled)["y"]
    assert found["task"] == "regression"
    assert found["top1"] is None
    assert "agreement" not in found
    r2 = found["metrics"]["r2"]
    assert r2["value"] == pytest.approx(
        1 - np.square(y - labels).sum() / np.square(labels - labels.mean()).sum()
    )
    assert (r2["against"], r2["n"]) == ("labels", ROWS)
    assert r2["ci95"][0] < r2["value"] < r2["ci95"][1]
    sqnr = found["metrics"]["sqnr"]
    assert sqnr["value"] == pytest.approx(
        10 * np.log10(np.square(s).sum() / np.square(y - s).sum()), rel=1e-5
    )
    assert found["ann"]["metrics"]["r2"]["value"] > r2["value"]
    capsys.readouterr()
    assert main(["eval", str(path), "--data", str(price.labelled), "--against", "source"]) == 0
    out = capsys.readouterr().out
    assert "r2 against the labels" in out
    assert "top-1" not in out
    assert "alike" not in out


def test_eval_of_numbers_without_labels(price: Network, capsys: pytest.CaptureFixture[str]) -> None:
    path = price.converted("T8", "--preset", "fast", "-T", "8")
    found = told(capsys, "eval", path, "--data", price.rows, "--against", "source")
    assert found["task"] is None
    assert list(found["metrics"]) == ["r2", "sqnr", "cosine"]
    named = told(capsys, "eval", path, "--data", price.rows, "--against", "source", "--metric", "psnr")
    assert list(named["metrics"]) == ["psnr"]
    assert "give --against" in message(capsys, "eval", path, "--data", price.rows, "--metric", "r2", code=2)
    assert "one output holds no classes" in message(
        capsys, "eval", path, "--data", price.rows, "--against", "source", "--metric", "agreement", code=2
    )


def test_eval_of_one_logit(logit: Network, capsys: pytest.CaptureFixture[str]) -> None:
    path = logit.converted("T8", "--preset", "fast", "-T", "8")
    found = told(capsys, "eval", path, "--data", logit.labelled, "--against", "source")
    y, s = numbers_of(path, logit.labelled)
    labels = np.load(logit.labelled)["y"]
    assert found["task"] == "binary"
    assert found["top1"] == found["metrics"]["top1"]["value"] == ((y[:, 0] > 0) == labels).mean()
    assert 0.6 < found["top1"] < 1
    assert found["ann"]["top1"] == ((s[:, 0] > 0) == labels).mean()
    assert found["agreement"] == ((y > 0) == (s > 0)).mean()
    yes, no = y[labels == 1, 0], y[labels == 0, 0]
    pairs = (yes[:, None] > no).mean() + (yes[:, None] == no).mean() / 2
    assert found["metrics"]["auc"]["value"] == pytest.approx(pairs)
    alone = told(capsys, "eval", logit.path, "--data", logit.labelled)
    assert alone["metrics"]["top1"]["value"] == found["ann"]["top1"]


def test_a_sigmoid_moves_the_threshold(
    logit: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    proto = onnx.load_model(logit.path)
    proto.graph.node[-1].output[0] = "z"
    proto.graph.node.append(node("Sigmoid", "z", "y"))
    path = tmp_path / "sigmoid.onnx"
    path.write_bytes(proto.SerializeToString())
    plain, behind = (told(capsys, "eval", each, "--data", logit.labelled) for each in (logit.path, path))
    assert behind["top1"] == plain["top1"]
    assert behind["metrics"]["auc"]["value"] == pytest.approx(plain["metrics"]["auc"]["value"])


def test_compare_tells_numbers(price: Network, forecast: Network, capsys: pytest.CaptureFixture[str]) -> None:
    for network in (price, forecast):
        good = network.converted("T8", "--preset", "fast", "-T", "8")
        poor = network.converted("T1", "--preset", "fast", "-T", "1")
        found = told(capsys, "compare", good, poor, "--data", network.labelled)
        assert (found["task"], found["measured"], found["drop_points"]) == ("regression", "r2", None)
        assert found["agreement"] is None
        assert found["a"] > found["b"]
        y, s = numbers_of(poor, network.labelled)[0], numbers_of(good, network.labelled)[0]
        assert found["metrics"]["sqnr"]["value"] == pytest.approx(
            10 * np.log10(np.square(s).sum() / np.square(y - s).sum())
        )
        assert found["metrics"]["sqnr"]["against"] == "A"
        assert all(isinstance(number, float) for _, *row in found["rows"] for number in row)
        assert len(found["columns"]) == len(found["rows"][0]) - 1
        parts = ("compare", network.path, poor, "--data", network.labelled)
        assert "--min-metric" in message(capsys, *parts, "--max-drop", 1, code=2)
        assert "less than --min-metric sqnr=80" in message(capsys, *parts, "--min-metric", "sqnr=80", code=4)
        told(capsys, *parts, "--min-metric", "sqnr=-20")


def test_a_forecast_without_labels_is_told_both_ways(
    forecast: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    good = forecast.converted("T8", "--preset", "fast", "-T", "8")
    found = told(capsys, "compare", forecast.path, good, "--data", forecast.rows)
    assert found["task"] is None
    assert {"agreement", "r2", "sqnr", "cosine"} == set(found["metrics"])
    assert "give --task" in found["text"]
    parts = ("compare", forecast.path, good, "--data", forecast.rows, "--max-drop", 50)
    assert "--task classes or --task regression" in message(capsys, *parts, code=2)


def test_bisect_measures_numbers(price: Network, capsys: pytest.CaptureFixture[str]) -> None:
    poor = price.converted("T1", "--preset", "fast", "-T", "1")
    for rows, against in ((price.labelled, "labels"), (price.rows, "source")):
        found = told(capsys, "bisect", poor, "--data", rows)
        assert found["measured"] == f"R2 against the {against}"
        assert found["lost_points"] > 5
        assert found["onnx_node"] is not None
        assert found["trials"][1]["share"] is None
        assert found["trials"][0]["r2"] > found["trials"][1]["r2"]
        assert found["trials"][1]["cost"] == pytest.approx(found["cost_points"] / 100)
    assert main(["bisect", str(poor), "--data", str(price.rows)]) == 0
    out = capsys.readouterr().out
    assert "hundredths of the variance lost" in out
    assert "agreement" not in out


@pytest.mark.parametrize("labelled", [True, False])
def test_the_report_of_numbers_speaks_of_no_classes(
    labelled: bool, forecast: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jinja2")
    poor = forecast.converted("T1", "--preset", "fast", "-T", "1")
    page, figures = tmp_path / "report.html", tmp_path / "report.json"
    rows = forecast.labelled if labelled else forecast.rows
    asked = ["report", str(poor), "--data", str(rows), "-o", str(page), "--json-file", str(figures)]
    assert main([*asked, "--curve", "1,4"]) == 0
    out = capsys.readouterr().out
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert found["task"] == ("regression" if labelled else None)
    assert found["disagreements"] == []
    assert found["metrics"]["r2"]["against"] == ("labels" if labelled else "source")
    assert found["verdict"]["cause"] != "normalisation"
    assert found["verdict"]["loss"]["measured"].startswith("variance")
    assert found["verdict"]["size"] == "much"
    curve = found["accuracy_against_timesteps"]
    assert curve["measured"] == f"r2 against the {'labels' if labelled else 'source'}"
    first, last = curve["this_artefact"]
    assert first["r2"] < last["r2"]
    for text in (out, page.read_text(encoding="utf-8")):
        assert "answer alike" not in text
        assert "changes of mind" not in text
        assert "r2" in text
    assert "of the variance of the source" in found["verdict"]["text"]


def test_reports_of_numbers_are_compared(
    forecast: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = []
    for T in ("8", "1"):
        network = forecast.converted(f"T{T}", "--preset", "fast", "-T", T)
        paths.append(tmp_path / f"{T}.json")
        asked = ["report", str(network), "--data", str(forecast.labelled), "--json-file", str(paths[-1])]
        assert main([*asked, "--curve", "none"]) == 0
    found = told(capsys, "compare", *paths)
    assert found["measured"] == "r2 against the labels"
    assert found["a"] > found["b"]
    assert "--max-drop counts points" in message(capsys, "compare", *paths, "--max-drop", 1, code=2)


def test_run_names_classes_only_where_there_are(
    price: Network, logit: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "x.npy"
    np.save(rows, np.load(logit.labelled)["x"])
    for network, options, classes in ((price, (), False), (logit, ("--task", "binary"), True)):
        path = network.converted("T8", "--preset", "fast", "-T", "8")
        out = tmp_path / f"{network.path.stem}.npy"
        found = told(capsys, "run", path, "--input", rows, "-o", out, *options)
        assert (found["classes"] is not None) == classes
        if classes:
            assert found["classes"] == (np.load(out)[:, 0] > 0).astype(int).tolist()
            assert len(set(found["classes"])) == 2


def test_binary_labels_must_be_0_and_1(
    logit: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.npz"
    data = np.load(logit.labelled)
    np.savez(rows, x=data["x"], y=data["y"] + 1)
    line = message(capsys, "eval", logit.path, "--data", rows, code=5)
    assert "the label 2 does not fit 1 output, whose classes are 0 and 1" in line


def test_values_before_a_softmax_are_compared_behind_it(
    forecast: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    proto = onnx.load_model(forecast.path)
    proto.graph.node[-1].output[0] = "z"
    proto.graph.node.append(node("Softmax", "z", "y", axis=-1))
    network = replace(forecast, path=tmp_path / "softmax.onnx")
    network.path.write_bytes(proto.SerializeToString())
    path = network.converted("T32", "--preset", "fast", "-T", "32")
    metadata = snnc.load(path).metadata
    assert (metadata.task, metadata.ends) == ("classes", "Softmax")
    found = told(capsys, "eval", path, "--data", network.rows, "--against", "source", "--metric", "r2")
    assert 0.8 < found["metrics"]["r2"]["value"] < 1
    both = told(capsys, "compare", network.path, path, "--data", network.rows, "--min-metric", "r2=0.8")
    assert both["task"] == "classes"


def test_an_old_artefact_of_a_softmax_is_still_of_classes(
    forecast: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = snnc.load(forecast.converted("T8", "--preset", "fast", "-T", "8"))
    told_so = replace(loaded, metadata=replace(loaded.metadata, task="classes"))
    path = tmp_path / "classes.snn.onnx"
    save(told_so, path)
    found = told(capsys, "eval", path, "--data", forecast.rows, "--against", forecast.path)
    assert found["task"] == "classes"
    again = told(
        capsys, "eval", path, "--data", forecast.rows, "--against", forecast.path, "--task", "regression"
    )
    assert again["task"] == "regression"
    assert "agreement" not in again


def test_a_target_with_other_rules_is_judged_by_numbers(
    price: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nir")
    path = price.converted("T8", "--preset", "fast", "-T", "8")
    asked = ("deploy", path, "--target", "nir", "--profile", "snntorch", "--data", price.rows)
    line = message(capsys, *asked, "-o", tmp_path / "refused", code=6)
    assert "a correlation of 0." in line
    assert "the same class" not in line
    found = told(capsys, *asked, "-o", tmp_path / "bundle", "--accept-semantics")
    measured = found["semantics"]["measured"]
    assert measured["same_class"] is None
    assert 0 < measured["correlation"] < 1
    assert (
        f"a correlation of {measured['correlation']:.4f}" in (tmp_path / "bundle" / "README.md").read_text()
    )
