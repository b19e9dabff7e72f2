"""Real networks of many exporters, where the optional corpus lies beside the project."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from snnc.frontend import check_onnx, read_onnx
from snnc.source.source_session import SourceSession
from tests.onnx_models import Array, read_again, relative_error

SHARED = Path(__file__).parent.parent.parent / "shared"
INDEX = SHARED / "models" / "index.json"
ENTRIES: list[dict[str, Any]] = json.loads(INDEX.read_text(encoding="utf-8")) if INDEX.exists() else []
SLOW = {"akamaster_resnet56_legacy.onnx", "mlperf_vww96_keras.onnx", "vnn21_cifar10_large.onnx"}
OLD = "makora_torch04_mnist_cnn.onnx"
"""Of opset 6, which onnxruntime has only parts of."""
QUANTISED = ("mlperf_resnet8_int8_tflite.onnx", "qonnx_tfc_2w2a.onnx")
"""One rounding that goes the other way changes what follows: see tests/test_quantised_networks.py."""
SUPPORTED = [entry for entry in ENTRIES if entry["file"] not in (OLD, *QUANTISED)]

pytestmark = pytest.mark.skipif(not ENTRIES, reason=f"{INDEX} is not there: the corpus is optional")


@pytest.fixture(scope="module")
def corpus() -> ModuleType:
    spec = importlib.util.spec_from_file_location("corpus", SHARED / "data" / "corpus.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def images(corpus: ModuleType) -> dict[str, Array]:
    sets = {entry["data"] for entry in SUPPORTED if entry["data"]}
    return {name: corpus.load(f"{name}_test_dev")[0][:8] for name in sorted(sets)}


@pytest.mark.parametrize("entry", SUPPORTED, ids=lambda entry: str(entry["file"]))
def test_networks_agree_with_onnxruntime(
    entry: dict[str, Any], corpus: ModuleType, images: dict[str, Array]
) -> None:
    source = read_onnx(SHARED / "models" / entry["file"])
    rows = 2 if entry["file"] in SLOW else 6
    if entry["data"]:
        x = corpus.prepare(images[entry["data"]][:rows], entry["preprocessing"])
    else:
        x = np.random.default_rng(0).random((rows, *source.layout.source_shape))
    x = x.reshape(rows, *source.layout.source_shape).astype(source.input_dtype)
    assert relative_error(source, x) < 1e-4
    assert all(node.origin for node in source.graph.nodes[1:])
    assert check_onnx(source.path) == ()


def test_a_network_older_than_onnxruntime() -> None:
    source = read_onnx(SHARED / "models" / OLD)
    assert [warning.code.number for warning in source.warnings] == ["SNN122"]
    assert source.batch is not None
    x = np.random.default_rng(0).standard_normal((source.batch, *source.layout.source_shape))
    x = x.astype(np.float32)
    expected = SourceSession(source.path, 1).run(x)
    assert np.abs(read_again(source, x) - expected).max() < 1e-5 * np.abs(expected).max()


def test_nothing_is_left_out() -> None:
    assert {entry["file"] for entry in ENTRIES} >= {OLD}
    assert len(SUPPORTED) >= 20
