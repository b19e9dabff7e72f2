"""Weights rounded in turn: never worse than to the nearest on the rows that they are rounded on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.ir import ann, snn
from snnc.ir.graph import FloatArray
from snnc.numerics.rounding import round_in_turn
from snnc.passes import PASSES
from snnc.pipeline import Context, Pipeline, run_pipeline
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.reference import ReferenceSimulator, encode
from snnc.source.calibration import Calibration
from tests.ann_graphs import Builder


def covariance_of(counts: np.ndarray) -> np.ndarray:
    return np.cov(counts.T.astype(np.float64), bias=True)


@given(st.integers(0, 999), st.integers(1, 8), st.integers(2, 30), st.integers(1, 127))
def test_the_error_is_never_larger(seed: int, outputs: int, features: int, limit: int) -> None:
    random = np.random.default_rng(seed)
    counts = random.integers(0, 16, (60, features)) + 3 * random.integers(0, 9, (60, 1))
    weights = random.normal(0, limit / 3, (outputs, features)) * (random.random((outputs, features)) > 0.3)
    found = round_in_turn(weights, covariance_of(counts), limit)
    nearest = np.clip(np.rint(weights), -limit, limit)
    assert np.abs(found).max() <= limit
    assert not found[weights == 0].any(), "a weight that is zero is no synapse"
    centred = counts - counts.mean(axis=0)
    errors = [np.square(centred @ (q - weights).T).sum(axis=0) for q in (found, nearest)]
    assert (errors[0] <= errors[1] * (1 + 1e-9) + 1e-9).all()


def test_counts_that_rise_together_take_errors_back() -> None:
    random = np.random.default_rng(0)
    counts = random.integers(0, 256, (500, 1)) + random.integers(0, 8, (500, 40))
    weights = random.normal(0, 30, (10, 40))
    found = round_in_turn(weights, covariance_of(counts), 127)
    centred = counts - counts.mean(axis=0)
    errors = [np.square(centred @ (q - weights).T).mean() for q in (found, np.rint(weights))]
    assert errors[0] < errors[1] / 10


def test_inputs_that_never_vary_are_rounded_to_the_nearest() -> None:
    weights = np.array([[0.4, 1.6, -2.5]])
    assert round_in_turn(weights, np.zeros((3, 3)), 127).tolist() == [[0, 2, -2]]


def rows_of(count: int, seed: int) -> FloatArray:
    """Return images whose neighbours are alike, as those of cameras are."""
    random = np.random.default_rng(seed)
    coarse = random.standard_normal((count, 3, 2, 2)).repeat(4, axis=2).repeat(4, axis=3)
    return (coarse + 0.2 * random.standard_normal((count, 3, 8, 8)) + 1).astype(np.float32)


def error_of(source: ann.AnnGraph, rows: int, *, fit_rounding: bool) -> float:
    """Convert a network with 255 levels; return its relative squared error."""
    made = Context(Calibration(rows_of(rows, 0), threads=1), 1, ReferenceSimulator(), 0)
    made.source = source
    front = "clip-activations{levels=255},lower,graded,init-membrane"
    compensate = f"compensate{{fit-rounding={str(fit_rounding).lower()},weights=false,bias=false}}"
    passes = Pipeline.parse(f"{front},{compensate},quantise-weights", PASSES)
    graph, _ = run_pipeline(passes, source, made)
    assert isinstance(graph, snn.SnnGraph)
    assert graph.integer
    x = rows_of(rows, 0)
    trace = ReferenceSimulator().run(graph, encode(graph.encoder, x), 1)
    (readout,) = graph.readouts.values()
    wanted = run_ann(source, x)[0]
    wrong = readout.real(trace.logits, 1) - wanted
    return float(np.square(wrong).sum() / np.square(wanted - wanted.mean(axis=0)).sum())


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("rows", [20, 100], ids=["too few to compensate", "compensated"])
def test_a_network_gets_nearer_to_its_source(rows: int, groups: int) -> None:
    b = Builder(0)
    top = b.relu("r1", b.conv("c1", "x", 8))
    top = b.relu("r2", b.conv("c2", top, 8, groups=groups))
    source = b.graph(b.linear("y", b.flatten("f", b.mean("m", top)), 4))
    assert error_of(source, rows, fit_rounding=True) < error_of(source, rows, fit_rounding=False) / 2
