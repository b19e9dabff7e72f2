"""Maps of which every place is of a class: which axis holds the classes, and what is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import snnc
from snnc.artefact import save
from snnc.cli import main
from snnc.errors import InputError, UsageError
from snnc.metrics import Task
from snnc.metrics.catalogue import Case, measure
from snnc.metrics.outputs import recognise_output
from snnc.metrics.shares import wilson
from tests.onnx_models import node, saved
from tests.test_inputs_outputs import proto, weights


def outputs(shape: tuple[int, ...], labels: Any, **known: Any) -> Any:
    return recognise_output("", shape, rows=0 if labels is None else len(labels), labels=labels, **known)


@given(st.integers(0, 2), st.integers(2, 4), st.integers(0, 99))
def test_metrics_are_plain_counts(axis: int, classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    shape = [5, 7]
    shape.insert(axis, classes)
    answers = generator.integers(0, 3, (12, *shape)).astype(np.float64)  # with ties
    labels = generator.integers(0, classes, (12, 5, 7))
    found = outputs(tuple(shape), labels)
    assert found.places.axis == axis
    assert (found.is_map, found.have_classes, found.labels) == (True, False, None)
    case = Case(answers.reshape(12, -1), found.task, places=found.places)
    ours = answers.argmax(axis=axis + 1)
    top1, iou = measure("top1", case), measure("iou", case)
    right = sum(int(ours[place] == labels[place]) for place in np.ndindex(labels.shape))
    assert top1.value == pytest.approx(right / labels.size)
    assert top1.interval == wilson(top1.value, 12)
    assert top1.n == 12
    shares = [
        ((ours == k) & (labels == k)).sum() / ((ours == k) | (labels == k)).sum()
        for k in set(ours.ravel().tolist()) | set(labels.ravel().tolist())
    ]
    assert iou.value == pytest.approx(np.mean(shares))
    same = Case(case.answers, case.task, case.answers, places=found.places)
    assert measure("agreement", same).value == 1


def test_the_interval_covers_rows_whose_places_go_together() -> None:
    """Of 40 rows that are right or wrong as a whole, 1000 places tell no more than one."""
    right = np.arange(40) % 4 > 0
    labels = np.where(right, 1, 0)[:, None, None] * np.ones((1, 20, 50), np.int64)
    answers = np.stack([np.zeros((40, 20, 50)), np.ones((40, 20, 50))], axis=1)
    found = outputs((2, 20, 50), labels)
    interval = measure("top1", Case(answers.reshape(40, -1), found.task, places=found.places)).interval
    assert interval is not None
    assert interval[0] < 0.65
    assert interval[1] > 0.84


def test_yes_or_no_at_every_place() -> None:
    labels = np.random.default_rng(0).integers(0, 2, (6, 1, 4, 3))
    assert outputs((1, 4, 3), labels).places is None  # may be numbers
    found = outputs((1, 4, 3), labels, ends="Sigmoid")
    assert found.places.axis is None
    answers = np.where(labels, 0.9, 0.2).reshape(6, -1)
    case = Case(answers, found.task, threshold=0.5, places=found.places)
    assert measure("iou", case).value == measure("top1", case).value == 1
    flipped = Case(1 - answers, found.task, threshold=0.5, places=found.places)
    assert measure("iou", flipped).value == 0
    with pytest.raises(UsageError, match="places of a map"):
        measure("auc", case)
    assert outputs((1, 4, 3), None, given=Task.BINARY).places.axis is None


@pytest.mark.parametrize(
    ("shape", "labels", "known", "error", "says"),
    [
        ((3, 3, 4), np.zeros((2, 3, 4), int), {}, InputError, "any of its axes 0, 1: which is meant"),
        ((3, 5, 4), np.full((2, 5, 4), 3), {}, InputError, "the label 3 does not fit 3 classes"),
        ((3, 5, 4), np.full((2, 5, 4), -1), {}, InputError, "the label -1 does not fit"),
        ((3, 5, 4), np.full((2, 5, 4), 0.5), {"given": "classes"}, InputError, "fractions"),
        ((3, 5, 4), np.zeros((2, 4, 5), int), {"given": "classes"}, InputError, "do not fit a map"),
        ((3, 5, 4), np.zeros((2, 4, 5), int), {}, InputError, "do not fit a map"),
        ((3, 5, 4), None, {"given": "classes"}, UsageError, "is told by labels"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(
    shape: tuple[int, ...], labels: Any, known: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        outputs(shape, labels, **known)


def test_numbers_stay_numbers() -> None:
    generator = np.random.default_rng(0)
    floats = outputs((3, 5, 4), generator.normal(size=(2, 3, 5, 4)))
    assert floats.places is None
    assert floats.labels.shape == (2, 60)
    whole = outputs((3, 5, 4), generator.integers(0, 9, (2, 3, 5, 4)))
    assert whole.places is None
    assert whole.labels.shape == (2, 60)
    with pytest.raises(UsageError, match="top1 does not fit"):
        measure("top1", Case(np.zeros((2, 60)), floats.task, labels=floats.labels))


def test_verbs_tell_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [
        node("Conv", "image w b", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("Conv", "r v", "y"),
    ]
    constants = weights(3, w=(8, 2, 3, 3), b=(8,), v=(3, 8, 1, 1))
    path = saved(tmp_path, proto(nodes, {"image": ("N", 2, 6, 5)}, ["y"], constants))
    x = np.random.default_rng(0).standard_normal((40, 2, 6, 5)).astype(np.float32)
    artefact = snnc.compile_model(path, x, preset="fast", timesteps=4, threads=1, task="classes")
    made = tmp_path / "made.snn.onnx"
    save(artefact, made)
    labels = np.random.default_rng(1).integers(0, 3, (40, 6, 5))
    np.savez(tmp_path / "rows.npz", x=x, y=labels)
    np.savez(tmp_path / "bare.npz", x=x)

    def told(*arguments: Any) -> Any:
        capsys.readouterr()
        assert main([*map(str, arguments), "--threads", "1", "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    data = ("--data", tmp_path / "rows.npz")
    found = told("eval", made, *data, "--against", "source")
    ours = artefact.decode(snnc.simulate(artefact, x, threads=1))["y"].argmax(axis=1)
    assert found["metrics"]["top1"]["value"] == pytest.approx((ours == labels).mean())
    assert found["metrics"].keys() == {"top1", "iou", "agreement", "sqnr", "psnr", "cosine", "mse"}
    assert found["metrics"]["mse"]["against"] == "source"
    assert found["ann"]["metrics"].keys() == {"top1", "iou"}
    report = told("report", made, *data, "--curve", "none")
    compared = told("compare", path, made, *data)
    for other in (report, compared):
        for metric in ("top1", "iou", "agreement"):
            value = found["metrics"][metric]["value"]
            assert other["metrics"][metric]["value"] == pytest.approx(value, abs=1e-6)
    assert compared["metrics"]["top1"]["against"] == "labels"
    bare = told("eval", made, "--data", tmp_path / "bare.npz", "--against", "source")
    assert bare["metrics"].keys() == {"sqnr", "psnr", "cosine", "mse"}
    capsys.readouterr()
    asked = ["compare", str(path), str(made), "--data", str(tmp_path / "rows.npz"), "--min-metric"]
    assert main([*asked, "agreement=0.3"]) == 0
    assert main([*asked, "top1=0.99"]) == 4
    assert "top1 is 0." in capsys.readouterr().err
