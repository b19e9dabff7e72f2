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
from snnc.analysis.endings import computes_end
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
    else:
        nodes.append(helper.make_node("Conv", ["r", "v"], ["b"]))
        nodes.append(helper.make_node(end, ["b"], ["y"]))
        if end == "Softmax":
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
