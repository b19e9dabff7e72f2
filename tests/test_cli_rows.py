"""Rows of every layout on the command line: all verbs read them alike, or refuse them alike."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import snnc
from snnc.cli import main
from snnc.data.readings import LAYOUTS as KNOWN
from snnc.options import LAYOUTS
from tests import quadrants

N = 40
MEAN, STD = [0.2, 0.5, 0.7], [0.2, 0.3, 0.5]


@dataclass(frozen=True)
class Case:
    """A network of images of three channels, or of signals of two, and rows for it.

    Attributes:
        folder: where all lies.
        first: (N, channels, ...) uint8.
    """

    folder: Path
    first: np.ndarray

    @property
    def model(self) -> Path:
        return self.folder / "network.onnx"

    @property
    def artefact(self) -> Path:
        return self.folder / "network.snn.onnx"

    @property
    def preprocessing(self) -> Path:
        return self.folder / "rows.json"

    def data(self, x: np.ndarray, name: str = "rows") -> Path:
        path = self.folder / f"{name}.npz"
        np.savez(path, x=x, y=np.arange(len(x)) % 4)
        return path


def network(shape: tuple[int, ...], last: bool) -> onnx.ModelProto:
    """Return a random convolution, ReLU, and a classifier, of (channels, ...) or (..., channels)."""
    random = np.random.default_rng(5)
    channels, spatial = shape[0], shape[1:]
    conv = random.normal(size=(5, channels, *(3,) * len(spatial))).astype(np.float32)
    fc = random.normal(size=(5 * int(np.prod(spatial)), 4)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["t", "conv"], ["c"], "conv", pads=[1, 1] * len(spatial)),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Flatten", ["r"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "fc"], ["y"], "fc"),
    ]
    axes = list(range(1 + len(shape)))
    order = [0, axes[-1], *axes[1:-1]] if last else axes
    nodes.insert(0, helper.make_node("Transpose", ["x"], ["t"], "t", perm=order))
    taken = (*spatial, channels) if last else shape
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *taken])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(conv, "conv"), numpy_helper.from_array(fc, "fc")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module", params=["NCHW", "NHWC", "NCL", "NLC"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    shape = (3, 5, 6) if len(request.param) == 4 and request.param in ("NCHW", "NHWC") else (3, 12)
    found = Case(
        tmp_path_factory.mktemp("rows"),
        np.random.default_rng(3).integers(0, 256, (N, *shape)).astype(np.uint8),
    )
    found.model.write_bytes(network(shape, last=request.param.endswith("C")).SerializeToString())
    found.preprocessing.write_text(json.dumps({"divide": 255, "mean": MEAN, "std": STD}), encoding="utf-8")
    calib = ["--calib", str(found.data(found.first, "calib")), "--preprocess", str(found.preprocessing)]
    assert main(["convert", str(found.model), *calib, "-o", str(found.artefact), "--preset", "fast"]) == 0
    return found


def forms(first: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "first": first,
        "last": np.moveaxis(first, 1, -1),
        "with an axis of 1": np.moveaxis(first, 1, -1)[:, None],
    }


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 5
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def verbs(case: Case, data: Path) -> dict[str, list[object]]:
    """Return every verb that reads rows."""
    a, m = case.artefact, case.model
    return {
        "eval": ["eval", a, "--data", data, "--against", m],
        "eval of the source": ["eval", m, "--data", data, "--preprocess", case.preprocessing],
        "compare": ["compare", m, a, "--data", data],
        "report": ["report", a, "--data", data, "--source", m, "--curve", "none"],
        "bisect": ["bisect", a, "--data", data, "--source", m],
        "certify": ["certify", a, "--data", data],
        "run": ["run", a, "--input", data, "-o", case.folder / "y.npy", "--force"],
        "bench": ["bench", a, "--data", data, "--against", m, "--rounds", 1, "--batch", 8],
        "deploy": ["deploy", a, "--target", "c99", "--golden", data, "-o", case.folder / "bundle", "--force"],
    }


def test_the_options_are_the_layouts_that_are_known() -> None:
    assert set(LAYOUTS) == set(KNOWN)


@pytest.mark.parametrize("verb", list(verbs(Case(Path(), np.empty(0)), Path())))
def test_every_verb_finds_the_same_in_every_layout(
    verb: str, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for x in forms(case.first).values():
        result = told(capsys, *verbs(case, case.data(x))[verb])
        for key in (
            "reproduce",
            "data",
            "ms",
            "ann_ms",
            "snn",
            "ann",
            "ratio",
            "memory_mb",
            "giga_synops_per_second",
        ):
            if verb in ("bench", "report", "certify"):
                result.pop(key, None)
        found.append(result)
    assert found[0] == found[1] == found[2]


def test_the_source_sees_what_it_was_converted_with(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    """The means belong to the channels: the source's answers are those of rows that were prepared by hand."""
    import onnxruntime as ort

    axes = (-1, *(1,) * (case.first.ndim - 2))
    x = (case.first.astype(np.float32) / 255 - np.reshape(MEAN, axes)) / np.reshape(STD, axes)
    x = x.astype(np.float32)
    session = ort.InferenceSession(case.model)
    wanted = x if session.get_inputs()[0].shape[1] == 3 else np.moveaxis(x, 1, -1)
    classes = np.asarray(session.run(None, {"x": wanted})[0]).argmax(axis=1)
    for rows in forms(case.first).values():
        found = told(capsys, *verbs(case, case.data(rows))["eval of the source"])
        assert found["top1"] == (classes == np.arange(N) % 4).mean()
        trace = snnc.simulate(case.artefact, rows)
        assert (trace.logits.argmax(axis=1) == classes).mean() > 0.8


@pytest.mark.parametrize("verb", list(verbs(Case(Path(), np.empty(0)), Path())))
def test_flat_rows_of_channels_need_a_layout_in_every_verb(
    verb: str, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = case.data(case.first.reshape(N, -1), "flat")
    arguments = verbs(case, flat)[verb]
    text = refused(capsys, *arguments)
    assert f"flat rows of the shape ({N}, {case.first[0].size})" in text
    assert "--rows-layout" in text
    assert "flat.npz" in text
    first, last = ("NCHW", "NHWC") if case.first.ndim == 4 else ("NCL", "NLC")
    assert f"{first} or {last}" in text
    if verb in ("eval", "run", "certify"):
        right = told(capsys, *verbs(case, case.data(case.first))[verb])
        result = told(capsys, *arguments, "--rows-layout", first)
        assert {**result, "data": 0} == {**right, "data": 0}


def test_converting_reads_every_layout_alike(case: Case, tmp_path: Path) -> None:
    made = []
    for name, x in forms(case.first).items():
        out = tmp_path / f"{name}.snn.onnx"
        arguments = [
            "--calib",
            case.data(x),
            "--preprocess",
            case.preprocessing,
            "--preset",
            "fast",
            "-o",
            out,
        ]
        assert main([*map(str, ["convert", case.model, *arguments])]) == 0
        made.append(out.read_bytes())
    assert made[0] == made[1] == made[2] == case.artefact.read_bytes()


@pytest.mark.parametrize("verb", ["convert", "convert with a limit", "dry run", "eval", "compare", "run"])
def test_ready_rows_are_taken_in_the_networks_layout_alone(
    verb: str, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a preprocessing nothing is moved: the message names the call that does it, and it is right."""
    last = onnx.load(case.model).graph.node[0].attribute[0].ints[1] != 1
    right = (np.moveaxis(case.first, 1, -1) if last else case.first).astype(np.float32) / 255
    wrong = (case.first if last else np.moveaxis(case.first, 1, -1)).astype(np.float32) / 255
    good, bad = case.data(right, "ready"), case.data(wrong, "turned")
    out = tmp_path / "ready.snn.onnx"
    convert = ["convert", case.model, "--preset", "fast", "-o", out]
    assert main([*map(str, [*convert, "--calib", good])]) == 0
    arguments = {
        "convert": [*convert, "--force", "--calib", bad],
        "convert with a limit": [*convert, "--force", "--max-drop", 50, "--calib", bad],
        "dry run": [*convert, "--force", "--dry-run", "--calib", bad],
        "eval": ["eval", out, "--against", case.model, "--data", bad],
        "compare": ["compare", case.model, case.model, "--data", bad],
        "run": ["run", out, "--input", bad, "-o", tmp_path / "y.npy"],
    }[verb]
    text = refused(capsys, *arguments)
    assert f"not {wrong.shape}, the shape of" in text
    assert "turned.npz" in text
    axes = list(range(1, wrong.ndim))
    order = [*axes[1:], axes[0]] if last else [axes[-1], *axes[:-1]]
    assert f"transpose them by x.transpose(0, {', '.join(map(str, order))})" in text
    np.testing.assert_array_equal(wrong.transpose(0, *order), right)
    assert "reshape" not in text


def test_images_of_one_channel_in_any_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The fault that was seen: (n, 1, height, width) was read as height 1."""
    files = quadrants.write(tmp_path)
    out = tmp_path / "quadrants.snn.onnx"
    x, y = quadrants.images(150, 2)
    found = []
    for form in (x, x[:, None], x[..., None], x.reshape(150, 64)):
        np.savez(files.calibration, x=form)
        np.savez(files.test, x=form, y=y)
        data = ["--calib", str(files.calibration), "--preprocess", str(files.preprocessing)]
        assert main(["convert", str(files.model), *data, "--preset", "fast", "-o", str(out), "--force"]) == 0
        found.append(told(capsys, "eval", out, "--data", files.test, "--against", files.model))
    assert found[0] == found[1] == found[2] == found[3]
    assert found[0]["top1"] > 0.9
    assert found[0]["ann"]["top1"] > 0.9
