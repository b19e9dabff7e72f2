"""The interface in three lines: convert, evaluate, report, save, deploy; and what a notebook shows."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest

import snnc
from snnc.converted_network import ConvertedNetwork
from snnc.errors import InputError, UsageError
from snnc.notebook import sparkline, table
from snnc.simulation.reference import ReferenceSimulator
from tests import quadrants

OPTIONS: dict[str, Any] = {"preset": "fast", "timesteps": 4, "threads": 1}


def html_of(value: Any) -> str:
    """Return what a notebook shows."""
    found: str = value._repr_html_()
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> quadrants.Files:
    return quadrants.write(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def made(files: quadrants.Files) -> ConvertedNetwork:
    return snnc.convert(files.model, files.calibration, preprocessing=quadrants.PREPROCESSING, **OPTIONS)


def test_there_is_one_implementation(files: quadrants.Files, made: ConvertedNetwork) -> None:
    assert snnc.compile_model is snnc.convert
    rows = quadrants.images(200, 1)[0]
    other = snnc.convert(files.model.read_bytes(), rows, preprocessing=quadrants.PREPROCESSING, **OPTIONS)
    x = quadrants.images(9, 3)[0]
    np.testing.assert_array_equal(other.simulate(x).logits, made.simulate(x).logits)
    assert snnc.simulate(made, x).logits.shape == (9, quadrants.CLASSES)


def test_what_is_measured_is_what_the_command_line_measures(
    made: ConvertedNetwork, files: quadrants.Files
) -> None:
    x, y = quadrants.images(150, 2)
    found = made.evaluate(x, y, threads=1)
    q = made.encode(x)
    expected = ReferenceSimulator().run(made.graph, q, 4).logits.argmax(axis=1)
    assert found.scores.top1 is not None
    assert found.scores.top1.hits == int((expected == y).sum())
    assert found.ann is not None
    assert found.ann.paired is not None
    assert found.as_dict() == made.evaluate(files.test, threads=1).as_dict()
    assert made.evaluate(files.test, limit=20, compare=False, threads=1).scores.n == 20
    html = html_of(found)
    assert f"{found.scores.top1.value:.1%}" in html
    assert "n = 150" in html


def test_a_network_in_memory_is_compared_and_reported(files: quadrants.Files, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    x, y = quadrants.images(150, 2)
    model = onnx.load(files.model)
    made = snnc.convert(model, quadrants.images(200, 1)[0], preprocessing=quadrants.PREPROCESSING, **OPTIONS)
    assert made.evaluate(x, y, threads=1).ann is not None
    report = made.report(x, y, output=tmp_path / "report.html", threads=1)
    assert report.verdict.text in (tmp_path / "report.html").read_text(encoding="utf-8").replace("&#39;", "'")
    assert report.measurement.layers[0].name in html_of(report)
    made.report(x, y, output=tmp_path / "report.json", threads=1, limit=50)
    assert '"n": 50' in (tmp_path / "report.json").read_text(encoding="utf-8")


def test_save_load_and_deploy(made: ConvertedNetwork, files: quadrants.Files, tmp_path: Path) -> None:
    path = files.folder / "made.snn.onnx"
    made.save(path)
    again = snnc.load(path)
    assert isinstance(again, ConvertedNetwork)
    x, y = quadrants.images(60, 2)
    np.testing.assert_array_equal(again.simulate(x).logits, made.simulate(x).logits)
    assert again.evaluate(x, y, threads=1).as_dict() == made.evaluate(x, y, threads=1).as_dict()
    bundle = again.deploy("c99", tmp_path / "c", rows=x[:4])
    assert "MANIFEST.json" in bundle.files
    with pytest.raises(UsageError, match="exists already"):
        again.deploy("c99", tmp_path / "c")


def test_a_source_that_is_gone_is_told(
    made: ConvertedNetwork, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "alone.snn.onnx"
    made.save(path)
    again = snnc.load(path)
    gone = again.metadata.__class__
    values = {name: getattr(again.metadata, name) for name in gone.__dataclass_fields__}
    metadata = gone(**{**values, "source_path": "nowhere.onnx"})
    again = ConvertedNetwork(again.graph, metadata, None, tmp_path / "alone.snn.onnx")
    x, y = quadrants.images(30, 2)
    with caplog.at_level(logging.WARNING, "snnc"):
        assert again.evaluate(x, y, threads=1).ann is None
    assert "is not compared" in caplog.text


def test_warnings_are_logged_and_kept(files: quadrants.Files, caplog: pytest.LogCaptureFixture) -> None:
    rows = quadrants.images(20, 1)[0]
    with caplog.at_level(logging.WARNING, "snnc"):
        made = snnc.convert(files.model, rows, preprocessing=quadrants.PREPROCESSING, **OPTIONS)
        assert made.warnings
        assert str(made.warnings[0]) in caplog.text
        caplog.clear()
        made.evaluate(rows, threads=1)
    assert "20 of 20 rows were used for calibration" in caplog.text


def test_progress_is_told(files: quadrants.Files) -> None:
    told: list[tuple[int, int, str]] = []
    x, y = quadrants.images(30, 2)
    made = snnc.convert(
        files.model,
        files.calibration,
        preprocessing=quadrants.PREPROCESSING,
        threads=1,
        progress=lambda *each: told.append(each),
    )
    assert told
    assert made.choice is not None
    told.clear()
    made.evaluate(x, y, threads=1, progress=lambda *each: told.append(each))
    assert told[-1][0] == told[-1][1]
    found = made.evaluate(x, y, threads=1, progress=True)
    assert found.as_dict() == made.evaluate(x, y, threads=1, progress=False).as_dict()


def test_mistakes_are_one_line(made: ConvertedNetwork, files: quadrants.Files) -> None:
    x, y = quadrants.images(30, 2)
    with pytest.raises(UsageError, match="no calibration rows"):
        snnc.convert(files.model)
    with pytest.raises(UsageError, match="no rows to run"):
        made.evaluate()
    with pytest.raises(InputError, match="labels"):
        made.evaluate(x, y[:9])
    with pytest.raises(UsageError, match="limit must be at least 1"):
        made.evaluate(x, y, limit=0)
    with pytest.raises(UsageError, match="progress is int"):
        made.evaluate(x, y, progress=3)  # type: ignore[arg-type]


def test_what_a_notebook_shows(made: ConvertedNetwork) -> None:
    html = html_of(made)
    assert "<caption>snnc artefact</caption>" in html
    (svg,) = re.findall(r"<svg.*?</svg>", html)
    bars = ElementTree.fromstring(svg)
    assert [bar[0].text for bar in bars] == [
        f"{name}: {share:.2%}" for name, share in made.graph.density.items()
    ]
    assert max(float(bar.attrib["height"]) for bar in bars) == 32
    assert bars.attrib["aria-label"].startswith("Share of the neurons")


def test_texts_of_the_user_are_no_markup() -> None:
    assert "<b>" not in table("<b>", [("<b>", "<b>")], ("<b>", "<b>"))
    drawn = sparkline("<b>", [("<b>", 0.0, "<b>")])
    assert "<b>" not in drawn
    ElementTree.fromstring(drawn)
    assert sparkline("none", []) == ""
