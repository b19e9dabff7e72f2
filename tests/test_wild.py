"""The benchmark of networks beyond classifiers measures, resumes, reports, and does without its networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.corpus.wild import __main__ as wild
from benchmarks.corpus.wild import rival
from benchmarks.corpus.wild.fidelity import cosine, sqnr
from benchmarks.corpus.wild.measuring import STEPS, Subject
from benchmarks.corpus.wild.page import report, worst
from benchmarks.corpus.wild.rows import file_row
from benchmarks.corpus.wild.tasks import check, iou, same_detections, suppressed, text

SHARED = Path(__file__).parents[2] / "shared"
BOX = np.array([0.0, 0.0, 2.0, 2.0])


def test_without_the_networks_nothing_is_measured(tmp_path: Path) -> None:
    page = tmp_path / "wild.md"
    result = CliRunner().invoke(wild.main, ["--shared", str(tmp_path), "--report", str(page)])
    assert result.exit_code == 0
    assert "nothing to measure" in result.output
    assert not page.exists()


@pytest.mark.skipif(not (SHARED / "wild/index.json").exists(), reason="no ../shared")
def test_one_that_converts_and_one_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wild, "RECORDS", tmp_path / "records")
    page = tmp_path / "wild.md"
    asked = ["--networks", "hls4ml_three_layer_keras,ecg_model", "--presets", "precise", "--rows", "64"]
    result = CliRunner().invoke(wild.main, [*asked, "--judged", "8", "--report", str(page)])
    assert result.exit_code == 0, result.output
    told = page.read_text(encoding="utf-8")
    assert "Of 27 networks 2 have been looked at, and 1 of these can be" in told
    assert "of 8 classes the same" in told
    assert "its sequence of 2500 steps is too long" in told
    assert "- `hls4ml_three_layer_keras`: `one-step`, `balanced`" in told
    record = json.loads((tmp_path / "records/hls4ml_three_layer_keras.precise.json").read_text())
    assert (record["rows"], record["judged"]) == (64, 8)
    assert record["seconds"] > 0
    assert 0 < record["density"] <= 1
    assert record["ratio"] > 0
    assert worst(record) is not None
    again = CliRunner().invoke(wild.main, asked)
    assert (again.exit_code, again.output) == (0, ""), "what has been measured is not measured again"


@pytest.mark.skipif(not (SHARED / "wild/index.json").exists(), reason="no ../shared")
def test_the_rival_is_measured_on_the_rows_of_precise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wild, "RECORDS", tmp_path / "records")
    asked = ["--networks", "neustack_security_ae", "--presets", "onnxruntime"]
    assert CliRunner().invoke(wild.main, asked).output == "", "there is no record of precise"
    short = ["--rows", "16", "--judged", "8"]
    CliRunner().invoke(wild.main, [*asked[:3], "precise", *short], catch_exceptions=False)
    assert "near" in CliRunner().invoke(wild.main, asked, catch_exceptions=False).output
    record = json.loads((tmp_path / "records/neustack_security_ae.onnxruntime.json").read_text())
    assert record["of"] == [16, 8]
    assert record["floats"] == []
    assert 10 < (worst(record) or 0) < 60
    assert CliRunner().invoke(wild.main, asked).output == "", "what has been measured is not measured again"


@pytest.mark.skipif(not (SHARED / "wild/index.json").exists(), reason="no ../shared")
@pytest.mark.parametrize(("option", "name"), [("--networks", "nobody"), ("--presets", "graded")])
def test_unknown_names_are_refused(option: str, name: str) -> None:
    result = CliRunner().invoke(wild.main, [option, name])
    assert result.exit_code == 2
    assert name in result.output


def test_networks_that_were_not_run_are_listed(tmp_path: Path) -> None:
    subjects = [Subject(name, "boxes", tmp_path / name, tmp_path) for name in ("one", "other")]
    record = {
        "network": "one",
        "task": "boxes",
        "code": "0" * 12,
        "said": "other images",
        "single": True,
        "share": 0.97,
        "host": [],
        "host_nodes": 0,
        "host_mode": "edges",
        "rows": 6,
        "judged": 1,
        "near": {"boxes": [31.0, 0.999], "scores": [22.0, 0.99], "same": [None, None]},
        "check": {"said": "2 of 3 detections the same", "holds": False},
        "seconds": 9.0,
        "density": 0.5,
        "ratio": 4.0,
    }
    told = {(s, p): record if (s.name, p) == ("one", "precise") else None for s in subjects for p in STEPS}
    page = report(told, "python -m benchmarks.corpus.wild")
    assert (
        "| one | boxes | 97.0 % | 0 | not run | not run | 22.0 dB | - | 2 of 3 detections the same: " in page
    )
    assert "that onnxruntime quantises" not in page
    rival_record = {"near": {"boxes": [12.0, None]}, "floats": ["LSTM"], "of": [6, 1]}
    beside = report(told | {(subjects[0], rival.NAME): rival_record}, "python -m benchmarks.corpus.wild")
    assert "Of 1 networks that onnxruntime quantises, too, `precise` is nearer to 1." in beside
    assert "| 22.0 dB | 12.0 dB (LSTM in floats) | 2 of 3 detections the same: **fails** |" in beside
    assert "- `other`: `one-step`, `balanced`, `precise`" in page
    assert "| `precise` | 1 | 0 | - | - | median 30 dB, worst 20 dB |" in page, (
        "of a single input: in no median"
    )


def test_the_mean_of_the_source_is_no_signal() -> None:
    source = np.array([[100.0, 102.0], [98.0, 100.0]])
    assert sqnr(source, source + 0.1) == pytest.approx(10 * np.log10(2 / 0.01))
    assert sqnr(np.full((2, 2), 7.0), source) is None
    assert sqnr(source, source) == float("inf")
    assert cosine(source, 2 * source - 100) == pytest.approx(1)


def test_overlap_of_boxes() -> None:
    others = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]], np.float64)
    assert iou(BOX, others).tolist() == pytest.approx([1, 1 / 3, 0])


def test_of_boxes_that_overlap_the_best_is_kept() -> None:
    boxes = np.stack([BOX, BOX + 0.1, BOX + 9])
    found = suppressed(boxes, np.array([0.6, 0.9, 0.2]), 3, 0.3)
    assert [(kind, score) for _, kind, score in found] == [(3, 0.9)]


@pytest.mark.parametrize(
    ("other", "same", "asked"),
    [
        ([(BOX + 0.1, 1, 0.86)], 2, 2),
        ([(BOX + 0.1, 1, 0.7)], 0, 2),
        ([(BOX + 1.5, 1, 0.9)], 0, 2),
        ([(BOX, 2, 0.9)], 0, 2),
        ([], 0, 1),
        ([(BOX, 1, 0.9), (BOX + 9, 1, 0.6)], 2, 3),
        ([(BOX, 1, 0.9), (BOX + 9, 1, 0.33)], 2, 2),
    ],
    ids=["near", "score", "place", "class", "missing", "one too many", "one that hardly counts"],
)
def test_the_same_detections(other: list[tuple[np.ndarray, int, float]], same: int, asked: int) -> None:
    assert same_detections([(BOX, 1, 0.9)], other, 0.3) == (same, asked)


def test_text_is_read_without_blanks_and_repetitions() -> None:
    assert text(np.eye(4)[[0, 0, 3, 0, 2, 2, 3]]) == "0 0 2"


@given(st.floats(0, 0.019) | st.floats(0.021, 0.05))
def test_actions_are_held_to_their_range(error: float) -> None:
    source = np.array([[-1.0, 0.0], [1.0, 0.5]])
    away = np.array([[error, 0.0], [0.0, 0.0]])
    found = check("go1_joystick_policy", {"a": source}, {"a": source + away})
    assert found is not None
    assert found.holds is (error / 2 <= 0.01)


def test_masks_and_pictures_and_classes() -> None:
    source = {"y": np.linspace(0, 1, 40).reshape(2, 20)}
    for name, holds in (
        ("selfie_segmentation_landscape", True),
        ("fsrcnn_fp16", True),
        ("ppocr_mobile_cls", True),
    ):
        same = check(name, source, source)
        assert same is not None
        assert same.holds is holds
    other = {"y": 1 - source["y"]}
    for name in ("selfie_segmentation_landscape", "fsrcnn_fp16", "ppocr_mobile_cls"):
        wrong = check(name, source, other)
        assert wrong is not None
        assert wrong.holds is False
    assert check("nobody", source, source) is None


def test_bytes_of_a_file() -> None:
    row = file_row(b"  abc\n")
    assert row.shape == (2048,)
    assert row[:4].tolist() == [97, 98, 99, 10]
    assert row[4] == 256
    assert row[-3:].tolist() == [97, 98, 99]
