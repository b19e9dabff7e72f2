"""A softmax along an axis of a map, and a sigmoid, that spikes compute: they are not computed twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import snnc
from snnc.backends import load_backend
from snnc.backends.deployment import deploy
from snnc.metrics.ending import computes_end
from tests.detectors import told

ROWS = 160


def network(path: Path, end: str) -> Path:
    """Two convolutions of a map of 5 x 5, or of one number, and an activation at the end."""
    random = np.random.default_rng(0)
    outputs = 1 if end == "binary" else 3
    weights = {
        "w": random.standard_normal((8, 2, 3, 3)).astype(np.float32),
        "v": (3 * random.standard_normal((outputs, 8, 1, 1))).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"]),
    ]
    shape: list[int | str] = ["n", 3, 5, 5]
    if end == "binary":
        # Of a mean of rectified numbers the sum is about this.
        weights["c"] = np.full(1, -1.35 * weights["v"].sum(), np.float32)
        shape = ["n", 1]
        nodes += [
            helper.make_node("GlobalAveragePool", ["r"], ["p"]),
            helper.make_node("Conv", ["p", "v", "c"], ["b"]),
            helper.make_node("Flatten", ["b"], ["f"]),
            helper.make_node("Sigmoid", ["f"], ["y"]),
        ]
    elif end in ("classes", "twice"):
        shape = ["n", 3]
        nodes += [
            helper.make_node("GlobalAveragePool", ["r"], ["p"]),
            helper.make_node("Conv", ["p", "v"], ["b"]),
            helper.make_node("Flatten", ["b"], ["f"]),
            helper.make_node("Softmax", ["f"], ["y" if end == "classes" else "q"]),
            *([] if end == "classes" else [helper.make_node("Softmax", ["q"], ["y"])]),
        ]
    else:
        nodes.append(helper.make_node("Conv", ["r", "v"], ["b"]))
        nodes.append(helper.make_node(end, ["b"], ["y"]))
        if end != "Sigmoid":
            nodes[-1].attribute.append(helper.make_attribute("axis", 1))
    graph = helper.make_graph(
        nodes,
        "ends",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), path)
    return path


def made(folder: Path, end: str, host: str) -> tuple[Path, Path, Any]:
    path, artefact = network(folder / "n.onnx", end), folder / "n.snn.onnx"
    x = np.random.default_rng(1).standard_normal((ROWS, 2, 5, 5)).astype(np.float32)
    snnc.compile_model(path, x, preset="precise", timesteps=1, threads=1, host=host).save(artefact)
    return path, artefact, x


@pytest.mark.parametrize(
    ("end", "host"),
    [("Softmax", "edges"), ("Sigmoid", "none"), ("Sigmoid", "edges")],
)
def test_a_map_is_judged_as_the_source_gives_it(
    end: str, host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, artefact, x = made(tmp_path, end, host)
    np.savez(tmp_path / "x.npz", x=x)
    asked = ("--data", tmp_path / "x.npz", "--threads", "1")
    found = told(capsys, "eval", artefact, *asked, "--against", "source", "--source", path)["metrics"]
    ours = snnc.load(artefact)
    (spiking,) = ours.decode(snnc.simulate(ours, x, threads=1), x).values()
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    source = np.asarray(session.run(None, {"x": x})[0], np.float64)
    error = np.square(spiking - source).sum()
    expected = 10 * np.log10(np.square(source).sum() / error)
    assert expected > 20
    assert found["mse"]["value"] == pytest.approx(np.square(spiking - source).mean(), rel=1e-3)
    if host == "none" or end != "Sigmoid":
        assert computes_end(ours.graph, "y", end)
        told_by = told(capsys, "report", artefact, *asked, "--source", path, "--curve", "none")
        assert told_by["metrics"]["sqnr"]["value"] == pytest.approx(found["sqnr"]["value"], abs=0.1)


def test_a_decision_behind_a_sigmoid_of_spikes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half is the threshold of a probability; of what lies before a sigmoid it is zero."""
    path, artefact, x = made(tmp_path, "binary", "none")
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    y = (np.asarray(session.run(None, {"x": x})[0]).ravel() > 0.5).astype(np.int64)
    assert 0.05 < y.mean() < 0.95
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    found = told(
        capsys, "eval", artefact, "--data", tmp_path / "rows.npz", "--threads", "1", "--task", "binary"
    )
    assert found["top1"] > 0.9


@pytest.mark.parametrize("end", ["Softmax", "Sigmoid"])
def test_an_artefact_leaves_out_no_end_that_spikes_compute(
    end: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever asks which activation is left out is not told to apply one a second time."""
    path, artefact, x = made(tmp_path, end, "none")
    ours = snnc.load(artefact)
    assert (ours.ends, ours.source_ends) == ({"y": ""}, {"y": end})
    (output,) = told(capsys, "inspect", artefact)["outputs"]
    assert (output["ends"], output["left_out"]) == (end, None)
    bundle = deploy(ours, load_backend("c99"), tmp_path / "bundle", rows=x)
    assert f"behind the source's {end}" in (bundle.directory / "README.md").read_text(encoding="utf-8")
    np.savez(tmp_path / "x.npz", x=x)
    found = told(capsys, "compare", path, artefact, "--data", tmp_path / "x.npz", "--threads", "1")
    (spiking,) = ours.decode(snnc.simulate(ours, x, threads=1), x).values()
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    source = np.asarray(session.run(None, {"x": x})[0], np.float64)
    expected = 10 * np.log10(np.square(source).sum() / np.square(spiking - source).sum())
    assert found["metrics"]["sqnr"]["value"] == pytest.approx(expected, abs=1e-2)
    assert expected > 20


def test_a_softmax_behind_another_is_computed_by_spikes(tmp_path: Path) -> None:
    """Were it left out, the first would be taken for it."""
    path, artefact, x = made(tmp_path, "twice", "none")
    ours = snnc.load(artefact)
    assert (ours.ends, ours.source_ends) == ({"y": ""}, {"y": "Softmax"})
    (spiking,) = ours.decode(snnc.simulate(ours, x, threads=1), x).values()
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    source = np.asarray(session.run(None, {"x": x})[0], np.float64)
    assert 10 * np.log10(np.square(source).sum() / np.square(spiking - source).sum()) > 30


@pytest.mark.parametrize("host", ["none", "edges"])
def test_a_softmax_of_classes_stays_left_out(host: str, tmp_path: Path) -> None:
    """It keeps the order of the scores; :meth:`snnc.artefact.Artefact.decode` gives what lies before it."""
    _, artefact, _ = made(tmp_path, "classes", host)
    ours = snnc.load(artefact)
    assert ours.host is None
    assert (ours.ends, ours.source_ends) == ({"y": "Softmax"}, {"y": "Softmax"})


def test_the_host_leaves_nothing_out(tmp_path: Path) -> None:
    """The logarithm of a softmax over channels is no function of counts: ordinary ONNX computes it."""
    _, artefact, x = made(tmp_path, "LogSoftmax", "edges")
    ours = snnc.load(artefact)
    assert ours.host is not None
    assert (ours.ends, ours.source_ends) == ({"y": ""}, {"y": "LogSoftmax"})
    (spiking,) = ours.decode(snnc.simulate(ours, x, threads=1), x).values()
    np.testing.assert_allclose(np.exp(spiking).sum(axis=1), 1, atol=1e-5)


def test_the_curve_judges_what_spikes_have_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, artefact, x = made(tmp_path, "Softmax", "none")
    np.savez(tmp_path / "x.npz", x=x)
    asked = ("--data", tmp_path / "x.npz", "--threads", "1", "--source", path)
    found = told(capsys, "report", artefact, *asked, "--curve", "1")["accuracy_against_timesteps"]
    (point,) = found["this_artefact"]
    assert point["r2"] > 0.9


def test_a_run_decides_at_a_half_behind_a_sigmoid_of_spikes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, artefact, x = made(tmp_path, "binary", "none")
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    y = (np.asarray(session.run(None, {"x": x})[0]).ravel() > 0.5).astype(np.int64)
    np.savez(tmp_path / "rows.npz", x=x)
    asked = ("--input", tmp_path / "rows.npz", "--output", tmp_path / "y.npy", "--threads", "1")
    found = told(capsys, "run", artefact, *asked)
    assert np.mean(np.array(found["classes"]) == y) > 0.9


def test_one_output_is_compared_by_its_numbers_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, artefact, x = made(tmp_path, "binary", "none")
    np.savez(tmp_path / "x.npz", x=x)
    text = told(capsys, "compare", path, artefact, "--data", tmp_path / "x.npz", "--threads", "1")["text"]
    assert "Their answers agree on" in text
    assert "sqnr" in text
    assert ": ." not in text
