"""What the source network does on the calibration rows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from snnc.compiler import Options, convert
from snnc.errors import NonFiniteError
from snnc.source.calibration import Calibration
from tests.ann_graphs import context, residual_network
from tests.onnx_models import model, node


@pytest.mark.parametrize("factor", [1e12, 1e20])
@pytest.mark.parametrize("preset", ["fast", "balanced"])
def test_activations_too_large_for_float32_are_refused(factor: float, preset: str) -> None:
    """Their squares are infinite, and thresholds fitted to them are not numbers."""
    weight = np.eye(4, dtype=np.float32)
    layers = [
        node("Gemm", "x w", "a", transB=1),
        node("Relu", "a", "b"),
        node("Gemm", "b grown", "c", transB=1),
        node("Relu", "c", "d"),
        node("Gemm", "d grown", "e", transB=1),
        node("Relu", "e", "f"),
        node("Gemm", "f w", "y", transB=1),
    ]
    grown = weight * np.float32(factor)
    proto = model(layers, ["N", 4], {"w": weight, "grown": grown})
    rows = np.random.default_rng(0).random((32, 4), np.float32)
    with pytest.raises(NonFiniteError, match="more than float32 can square"):
        convert(proto, rows, Options(4, preset, threads=1))


@pytest.mark.parametrize("factor", [1e20, 1e30, 1e37])
@pytest.mark.parametrize("preset", ["fast", "balanced", "one-step"])
def test_answers_too_large_for_float32_are_refused(factor: float, preset: str) -> None:
    """No warning of NumPy's comes before, and no network after."""
    weight = np.eye(4, dtype=np.float32)
    layers = [
        node("Gemm", "x w", "a", transB=1),
        node("Relu", "a", "b"),
        node("Gemm", "b grown", "y", transB=1),
    ]
    proto = model(layers, ["N", 4], {"w": weight, "grown": weight * np.float32(factor)})
    rows = np.random.default_rng(0).random((64, 4), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NonFiniteError, match="more than float32 can square"):
            convert(proto, rows, Options(4, preset, threads=1))


def test_values_that_layers_are_fitted_to_are_looked_at_in_all_rows() -> None:
    """One row of many that is too large is found where the values of all are computed."""
    graph = residual_network(4)
    prepared = context(graph, rows=200).calibration
    rows = prepared.rows.copy()
    rows[101] *= 1e30
    with pytest.raises(NonFiniteError, match="more than float32 can square"):
        Calibration(rows, 1).stored(graph, graph.logits)
