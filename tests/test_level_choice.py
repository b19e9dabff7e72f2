"""How many levels each rectifier gets: where a nat spares most operations, and what is expected of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from snnc.compensation.level_choice import Rung, choose_levels, rungs, spikes, stretched
from snnc.errors import GateError, UsageError
from snnc.ir import ann
from snnc.ir.snn import SnnGraph
from snnc.passes import PASSES
from snnc.passes.clip_activations import ClipActivations
from snnc.pipeline import Pipeline, run_pipeline
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator, encode_all
from snnc.source.calibration import ActivationSample
from tests.ann_graphs import Builder, context, residual_network


def test_rungs() -> None:
    assert rungs(15, 1) == (Rung(15, 1), Rung(7, 1), Rung(3, 1), Rung(1, 1))
    assert rungs(1, 4) == (Rung(1, 4), Rung(1, 2), Rung(1, 1))
    assert rungs(2, 3) == (Rung(2, 3), Rung(1, 3), Rung(1, 1))
    assert [rung.span for rung in rungs(3, 4)] == [12, 4, 2, 1]


def test_levels_go_where_a_nat_spares_most() -> None:
    errors = {"a": {4: 0.1, 2: 0.2, 1: 0.9}, "b": {4: 0.0, 2: 0.3, 1: 0.4}, "c": {4: 0.5, 2: 0.4, 1: 0.6}}
    costs = {
        "a": {4: 100.0, 2: 60.0, 1: 50.0},
        "b": {4: 100.0, 2: 90.0, 1: 20.0},
        "c": {4: 10.0, 2: 9.0, 1: 9.0},
    }
    # c: a better answer for less. a: 40 for 0.1, better than b: 80 for 0.4.
    assert choose_levels(errors, costs, 1).levels == {"a": 4, "b": 4, "c": 4}
    assert choose_levels(errors, costs, 0.999).levels == {"a": 4, "b": 4, "c": 2}
    assert choose_levels(errors, costs, 0.9).levels == {"a": 2, "b": 4, "c": 2}
    found = choose_levels(errors, costs, 0.8)
    assert found.levels == {"a": 2, "b": 1, "c": 2}
    assert found.operations == pytest.approx((60 + 20 + 9) / 210)
    assert found.rate == pytest.approx(80 / 0.4)
    assert choose_levels(errors, costs, 0.38).levels == {"a": 1, "b": 1, "c": 2}
    with pytest.raises(GateError, match=r"operations=0.3: nearest, .* 0.376 of those"):
        choose_levels(errors, costs, 0.3)


@pytest.mark.parametrize(("timesteps", "share"), [(1, 1.0), (4, 1.0), (4, 0.5), (4, 0.25)])
def test_the_spikes_that_are_expected_are_those_of_the_network(timesteps: int, share: float) -> None:
    b = Builder(3, shape=(12,))
    graph = b.graph(b.linear("out", b.relu("relu", b.linear("hidden", "x", 9)), 5))
    made = context(graph, rows=40, timesteps=timesteps)
    clipped = ClipActivations(levels=3 if timesteps == 1 else 1).run(graph, made)
    values = made.calibration.values(graph, "relu")
    sample = ActivationSample(values.T, values.max(axis=0), values.min(axis=0))
    node = clipped["relu"]
    assert isinstance(node, ann.Relu)
    node = stretched(node, share)
    clipped = clipped.replacing({"relu": node})
    found = spikes(node, sample, timesteps)
    passes = "multi-threshold" if timesteps == 1 else f"dual-threshold{{spikes-per-step={timesteps}}}"
    made = replace(made, findings={})
    done, _ = run_pipeline(
        Pipeline.parse(f"lower,{passes},init-membrane{{fraction=0.5}}", PASSES), clipped, made
    )
    assert isinstance(done, SnnGraph)
    rows = made.calibration.rows
    asked = RecordOptions(states=True)
    counts = ReferenceSimulator().run(done, encode_all(done, rows), timesteps, asked).counts["relu"]
    assert found == pytest.approx(np.minimum(counts, timesteps).mean(), abs=0.02)


def test_each_rectifier_gets_its_levels() -> None:
    graph = residual_network()
    made = context(graph, rows=30)
    mixed = ClipActivations(levels=15, operations=0.85, floor=True).run(graph, made)
    levels = {node.name: node.levels for node in mixed.of_type(ann.Relu)}
    assert len(set(levels.values())) > 1
    assert set(levels.values()) <= {1, 3, 7, 15}
    for node in mixed.of_type(ann.Relu):
        alone = ClipActivations(levels=node.levels, floor=True).run(graph, made)[node.name]
        assert isinstance(alone, ann.Relu)
        assert node.threshold is not None
        assert alone.threshold is not None
        assert np.array_equal(node.threshold, alone.threshold)
    made = context(graph, rows=30)
    ClipActivations(levels=15, operations=0.85, floor=True).run(graph, made)
    assert made.findings["operations"]["relative"] <= 0.85
    assert {name: found["levels"] for name, found in made.findings["levels"].items()} == levels


def test_each_rectifier_gets_its_steps() -> None:
    """One that has as many as a shorter run is clipped as there, and a spike is worth as much as there."""
    graph = residual_network()
    made = context(graph, rows=30, timesteps=8)
    mixed = ClipActivations(operations=0.6, floor=True).run(graph, made)
    record = made.findings["levels"]
    assert {found["levels"] for found in record.values()} == {1}
    assert len({found["steps"] for found in record.values()}) > 1
    for name, found in record.items():
        node, steps = mixed[name], found["steps"]
        shorter = context(graph, rows=30, timesteps=steps)
        alone = ClipActivations(floor=True).run(graph, shorter)[name]
        assert isinstance(node, ann.Relu)
        assert isinstance(alone, ann.Relu)
        assert node.threshold is not None
        assert alone.threshold is not None
        floor = np.zeros_like(alone.threshold) if alone.floor is None else alone.floor
        np.testing.assert_array_equal(node.floor, alone.floor)
        np.testing.assert_allclose((node.threshold - floor) / 8, (alone.threshold - floor) / steps, rtol=1e-5)
    assert made.findings["operations"]["relative"] <= 0.6


def test_a_rectifier_with_a_limit_keeps_all_steps() -> None:
    """Its clip is its limit, which a higher one would not keep to."""
    b = Builder(3, shape=(12,))
    limited = b.relu("limited", b.linear("hidden", "x", 9), ceiling=0.5)
    graph = b.graph(b.linear("out", b.relu("relu", b.linear("more", limited, 9)), 5))
    made = context(graph, rows=40, timesteps=4)
    mixed = ClipActivations(operations=0.9).run(graph, made)
    assert made.findings["levels"]["limited"]["steps"] == 4
    assert made.findings["levels"]["relu"]["steps"] < 4
    node = mixed["limited"]
    assert isinstance(node, ann.Relu)
    assert node.threshold is not None
    assert (node.threshold <= 0.5).all()


def test_a_limit_without_levels_to_choose_from_is_refused() -> None:
    graph = residual_network()
    with pytest.raises(UsageError, match="there is one: give levels above 1, or more than one step"):
        ClipActivations(operations=0.5).run(graph, context(graph, rows=30, timesteps=1))
    with pytest.raises(UsageError, match="both choose levels: give one of them"):
        ClipActivations(levels=3, operations=0.5, share=0.5)
    with pytest.raises(UsageError, match="operations must lie"):
        ClipActivations(levels=3, operations=0)
