"""Operators of classical machine learning: networks for tables of features, as their tools write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from snnc.compiler import Options, convert
from snnc.errors import UnsupportedModelError
from snnc.frontend import read_onnx
from tests.onnx_models import check_equal, model, node, normal, saved

DOMAIN = "ai.onnx.ml"


def perceptron(scale: list[float], offset: list[float], tail: bool = False) -> onnx.ModelProto:
    """Return a scaler and two layers; behind them perhaps a softmax and the label of the likeliest class."""
    nodes = [
        node("Scaler", "x", "s", domain=DOMAIN, scale=scale, offset=offset),
        node("MatMul", "s a", "h"),
        node("Relu", "h", "r"),
        node("MatMul", "r b", "z" if tail else "y"),
    ]
    constants = {"a": normal(4, 12), "b": normal(12, 3)}
    if tail:
        nodes += [
            node("Softmax", "z", "y", axis=1),
            node("ArgMax", "y", "place", axis=1, keepdims=0),
            node("ArrayFeatureExtractor", "labels place", "label", domain=DOMAIN),
        ]
        constants["labels"] = np.array([10, 20, 30], np.int64)
    made = model(nodes, ["n", 4], constants)
    made.opset_import.append(helper.make_opsetid(DOMAIN, 3))
    if tail:
        made.graph.output.append(helper.make_tensor_value_info("label", onnx.TensorProto.INT64, None))
    return made


@pytest.mark.parametrize(
    ("scale", "offset"), [([0.5], [1.0]), ([0.5, 2, 1, -3], [0, 10, -2, 0.5])], ids=["one", "each"]
)
def test_features_are_scaled(scale: list[float], offset: list[float], tmp_path: Path) -> None:
    check_equal(tmp_path, perceptron(scale, offset))


@pytest.mark.parametrize(
    ("scale", "said"), [([1.0, 2.0], "2 numbers as its scale for 4 features"), ([np.inf], "not finite")]
)
def test_what_fits_no_features_is_refused(scale: list[float], said: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=said):
        read_onnx(saved(tmp_path, perceptron(scale, [0.0])))


def test_a_classifier_keeps_its_labels(tmp_path: Path) -> None:
    """Shapes behind a scaler are known, so that what answers with labels may be left to the host."""
    rows = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    path = saved(tmp_path, perceptron([0.5, 2, 1, 3], [0.0], tail=True))
    artefact = convert(path, rows, Options(1, "precise", threads=1)).artefact
    assert artefact.host is not None
    assert any("ArgMax" in each.text for each in artefact.host.nodes)
    assert set(artefact.ends) <= {"y", "label"}
