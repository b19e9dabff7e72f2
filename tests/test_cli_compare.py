"""`snnc compare` and `snnc bisect`."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.analysis.evaluation import Share
from snnc.cli import main
from snnc.ir.snn import IntegrateFire
from snnc.metrics import Task
from snnc.models import resolve
from snnc.report.bisection import bisect
from snnc.simulation.reference import ReferenceSimulator
from tests import quadrants
from tests.conversions import MADE, ScaleThreshold, convert
from tests.quadrants import Files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return quadrants.write(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def artefacts(files: Files) -> tuple[Path, Path]:
    found = []
    for T in (1, 6):
        path = files.folder / f"quadrants{T}.snn.onnx"
        data = ["--calib", str(files.calibration), "--preprocess", str(files.preprocessing)]
        made = ["convert", str(files.model), *data, "-o", str(path), "-T", str(T), "--preset", "fast"]
        assert main(made) == 0
        found.append(path)
    return found[0], found[1]


def told(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_two_spiking_networks(
    artefacts: tuple[Path, Path], files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    poor, good = artefacts
    found = told(capsys, "compare", good, poor, "--data", files.test)
    scores = [told(capsys, "eval", path, "--data", files.test)["top1"] for path in (good, poor)]
    assert [found["a"], found["b"]] == scores
    assert found["drop_points"] == pytest.approx(100 * (scores[0] - scores[1]))
    ((name, *_, apart),) = found["rows"]
    assert name == "relu"
    assert isinstance(apart, float)
    assert apart > 0
    assert f"{found['drop_points']:.2f} points lost" in found["text"]
    other = told(capsys, "compare", poor, good, "--data", files.test)
    assert f"{found['drop_points']:.2f} points gained" in other["text"]
    same = told(capsys, "compare", good, good, "--data", files.test)
    assert (same["agreement"], same["drop_points"], same["rows"][0][-1]) == (1, 0, 0)


def test_a_preprocessing_is_not_for_artefacts(
    artefacts: tuple[Path, Path], files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(files.test), "--preprocess", str(files.preprocessing)]
    assert main(["compare", *map(str, artefacts), *given]) == 2
    assert "--preprocess" in capsys.readouterr().err


def test_a_network_and_its_source(
    artefacts: tuple[Path, Path], files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, "compare", files.model, artefacts[1], "--data", files.test)
    measured = told(capsys, "eval", artefacts[1], "--data", files.test, "--against", files.model)
    assert (found["a"], found["b"]) == (measured["ann"]["top1"], measured["top1"])
    assert [row[0] for row in found["rows"]] == ["relu", "readout"]


def test_the_gate(artefacts: tuple[Path, Path], files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    poor, good = artefacts
    drop = told(capsys, "compare", good, poor, "--data", files.test)["drop_points"]
    assert drop > 0.5
    told(capsys, "compare", good, poor, "--data", files.test, "--max-drop", drop + 0.01)
    missed = told(capsys, "compare", good, poor, "--data", files.test, "--max-drop", drop - 0.01, code=4)
    assert missed["drop_points"] == drop
    assert "more than --max-drop" in missed["error"]["message"]


def test_two_reports(artefacts: tuple[Path, Path], files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    figures = []
    for path in artefacts:
        figures.append(path.with_suffix(".json"))
        asked = ["report", str(path), "--data", str(files.test), "--curve", "none", "--json-file"]
        assert main([*asked, str(figures[-1])]) == 0
    found = told(capsys, "compare", figures[1], figures[0])
    assert found["drop_points"] > 0.5
    assert [row[0] for row in found["rows"]] == ["relu", "readout"]
    told(capsys, "compare", figures[1], figures[0], "--max-drop", 0, code=4)


def test_a_drop_of_as_many_points_as_allowed_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0.9 - 0.89 is a little more than 0.01 in floats."""
    paths = []
    for value in (0.9, 0.89):
        paths.append(tmp_path / f"{value}.json")
        scores = f'"accuracy": {{"snn": {{"value": {value}}}}}, '
        paths[-1].write_text(HEAD + scores + '"layers": []}', encoding="utf-8")
    assert told(capsys, "compare", *paths, "--max-drop", 1)["drop_points"] == 1
    told(capsys, "compare", *paths, "--max-drop", 0.99, code=4)


def test_a_network_beside_one_of_the_zoo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The zoo's rows come with the zoo's normalisation, whichever network is named first."""
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(resolve("zoo:fashion-resnet").path.read_bytes())
    for pair in ((copy, "zoo:fashion-resnet"), ("zoo:fashion-resnet", copy)):
        found = told(capsys, "compare", *pair, "--limit", 60)
        assert found["a"] == found["b"] > 0.8


HEAD = '{"schema_version": 1, "verdict": {"cause": "few steps", "layer": "a"}, '
SCORES = '"accuracy": {"snn": null, "agreement": {"value": 0.5}}, '


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("{}", "is not a report"),
        (HEAD + SCORES + '"layers": [{"name": "a"}]}', "is not a report, or damaged: write it"),
        (HEAD + SCORES + '"layers": 3}', "is not a report, or damaged"),
        (HEAD + '"accuracy": 0.9, "layers": []}', "is not a report, or damaged"),
        (HEAD + '"accuracy": {"snn": {"value": "x"}}, "layers": []}', "is not a report, or damaged"),
        ('{"schema_version": 1, "verdict": [], ' + SCORES + '"layers": []}', "is not a report, or damaged"),
        (HEAD + '"accuracy": {"snn": {"value": NaN}}, "layers": []}', "nan is not a share of rows"),
        ('{"schema_version": 2}', "has the schema 2, not 1: upgrade snnc"),
        (b"\xff\xfe", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_report(
    tmp_path: Path, text: str | bytes | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.json"
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    assert main(["compare", str(path), str(path)]) == 5
    assert words in capsys.readouterr().err
    assert main(["compare", str(path), "zoo:fashion-resnet"]) == 2


@pytest.mark.parametrize("broken", ["relu1", "relu3"])
def test_bisection_names_the_layer_that_was_broken(broken: str) -> None:
    made = convert(passes=MADE, timesteps=8, rows=60, seed=1, mistake=ScaleThreshold(broken, 0.02))
    logits = None  # agreement with the source stands in for labels
    found = bisect(
        made.artefact,
        made.source,
        made.rows,
        logits,
        simulator=ReferenceSimulator(),
        task=Task.CLASSES,
        threads=1,
    )
    assert found.trials[0].share == Share(60, 60)
    assert found.culprit is not None
    assert found.before is not None
    assert found.culprit.layer == broken
    assert found.culprit.onnx_node == f"onnx/{broken}"
    assert found.culprit.spiking == found.before.spiking + 1
    assert found.cost > found.lost / 4
    costs = [b.loss - a.loss for a, b in pairwise(found.trials)]
    assert found.cost == max(costs)


def test_bisection_of_a_network_that_loses_nothing() -> None:
    made = convert(timesteps=8, rows=8)
    found = bisect(
        made.artefact, made.source, made.rows, None, simulator=ReferenceSimulator(), tolerance=1, threads=1
    )
    assert found.culprit is None
    assert [trial.spiking for trial in found.trials] == [*range(found.populations + 1)]


def test_hybrids_end_where_the_networks_do() -> None:
    """With every population spiking, only the read-out's integers are missing."""
    made = convert(timesteps=8, rows=30)
    found = bisect(
        made.artefact,
        made.source,
        made.rows,
        None,
        simulator=ReferenceSimulator(),
        task=Task.CLASSES,
        tolerance=1,
        threads=1,
    )
    whole = made.measured()
    hits = int((whole.snn.classes == whole.ann.scores.classes).sum())
    last = found.trials[-1].share
    assert last is not None
    assert abs(last.hits - hits) <= 1
    assert found.populations == len(made.artefact.graph.of_type(IntegrateFire))


def test_bisect_on_the_command_line(
    artefacts: tuple[Path, Path], files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, "bisect", artefacts[0], "--data", files.test)
    assert found["measured"] == "accuracy"
    assert found["trials"][0]["spiking"] == 0
    if found["layer"] is not None:
        assert found["layer"] == "relu"
    unlabelled = tmp_path / "x.npz"
    np.savez(unlabelled, x=quadrants.images(20, 3)[0])
    assert main(["bisect", str(artefacts[1]), "--data", str(unlabelled), "--tolerance", "100"]) == 0
    assert "no layer to name" in capsys.readouterr().out


@pytest.mark.parametrize("label", [-1, quadrants.CLASSES])
def test_labels_beyond_the_classes(
    label: int,
    artefacts: tuple[Path, Path],
    files: Files,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = tmp_path / "rows.npz"
    x, y = quadrants.images(20, 3)
    y[3] = label
    np.savez(rows, x=x, y=y)
    first, second = map(str, artefacts)
    for verb in (["compare", first, second], ["compare", str(files.model), second], ["bisect", first]):
        assert main([*verb, "--data", str(rows)]) == 5
        assert f"the label {label} does not fit 6 classes" in capsys.readouterr().err
