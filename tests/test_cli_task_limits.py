"""Conversions to limits, of networks that answer with numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import snnc
from tests.task_networks import Network, message, numbers_of, task_network, told


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


@pytest.mark.parametrize("extra", [[], ["--preset", "low-power"], ["--max-latency", "4"]])
def test_points_of_one_number_are_refused(
    extra: list[str], price: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.snn.onnx"
    asked = ("convert", price.path, "--calib", price.rows, "-o", out, "--max-drop", "0.01", *extra)
    assert "--task binary or --task regression" in message(capsys, *asked, code=2)
    line = message(capsys, *asked, "--task", "regression", code=2)
    assert "use --min-metric r2=0.99" in line
    assert not out.exists()


def test_several_numbers_must_be_told_from_classes(
    forecast: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.snn.onnx"
    asked = ("convert", forecast.path, "--calib", forecast.rows, "-o", out, "--max-drop", "1")
    assert "6 outputs are classes or numbers; say so by --task classes" in message(capsys, *asked, code=2)
    labelled = ("convert", forecast.path, "--calib", forecast.labelled, "-o", out, "--max-drop", "1")
    assert "the outputs are numbers" in message(capsys, *labelled, code=2)


def test_a_limit_on_numbers_stops_a_bad_network(
    price: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.snn.onnx"
    asked = ("convert", price.path, "--calib", price.rows, "-o", out, "--preset", "fast")
    limits = ("--min-metric", "r2=0.98", "--min-metric", "sqnr=30")
    line = message(capsys, *asked, "-T", 1, *limits, code=4)
    assert "r2 is " in line
    assert "less than --min-metric r2=0.98" in line
    assert not out.exists()
    found = told(capsys, *asked, "-T", 32, *limits)
    assert [each["metric"] for each in found["min_metric"]] == ["r2", "sqnr"]
    assert all(each["value"] >= each["least"] for each in found["min_metric"])
    y, s = numbers_of(out, price.labelled)
    assert np.sqrt(np.square(y - s).mean()) < 0.2 * s.std()


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ("agreement=0.9", "--task binary or --task regression"),
        ("top1=0.9", "--task binary or --task regression"),
        ("r2=2", "give a number"),
        ("shine=1", "unknown metric"),
    ],
)
def test_limits_that_mean_nothing_here_are_refused(
    limit: str, says: str, price: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("convert", price.path, "--calib", price.rows, "-o", tmp_path / "out.snn.onnx")
    assert says in message(capsys, *asked, "--min-metric", limit, code=2)


def test_a_budget_keeps_to_a_limit_on_numbers(
    price: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.snn.onnx"
    asked = ("convert", price.path, "--calib", price.rows, "-o", out, "-T", 8)
    limits = ("--payload", "signed", "--max-latency", 10, "--task", "regression")
    found = told(capsys, *asked, *limits, "--min-metric", "r2=0.9")
    assert found["measured"].startswith("the variance")
    assert found["chosen"]["metrics"]["r2"] >= 0.9
    assert all(
        point["drop"] == pytest.approx(100 * (1 - point["metrics"]["r2"])) for point in found["points"]
    )
    assert snnc.load(out).metadata.task == "regression"
    out.unlink()
    line = message(capsys, *asked, *limits, "--min-metric", "r2=0.99999", code=4)
    assert "no conversion meets the budget" in line
    assert not out.exists()


def test_low_power_takes_the_fewest_operations_within_a_limit_on_numbers(
    price: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.snn.onnx"
    asked = ("convert", price.path, "--calib", price.rows, "-o", out, "-T", 4, "--preset", "low-power")
    found = told(capsys, *asked, "--task", "regression", "--min-metric", "r2=0.6")
    chosen = found["chosen"]
    assert chosen["metrics"]["r2"] >= 0.6
    cheaper = [point for point in found["points"] if point["synops"] < chosen["synops"]]
    assert all(point["metrics"]["r2"] < 0.6 for point in cheaper if point["rows"] == chosen["rows"])


def test_a_rehearsal_refuses_limits_that_mean_nothing(
    price: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("convert", price.path, "--calib", price.rows, "--dry-run", "--max-drop", 1)
    assert "--task binary" in message(capsys, *asked, code=2)


def test_the_gate_of_one_logit_counts_its_decisions(
    logit: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.snn.onnx"
    asked = ("convert", logit.path, "--calib", logit.rows, "-o", out, "--preset", "fast")
    assert "--task binary" in message(capsys, *asked, "--max-drop", 5, code=2)
    line = message(capsys, *asked, "--max-drop", 1, "--task", "binary", "-T", 1, code=4)
    assert "answers that differ from the ANN's" in line
    assert told(capsys, *asked, "--max-drop", 10, "--task", "binary", "-T", 32)["max_drop"]["points"] <= 10
