"""Snapshots: a candidate that begins like an earlier one is made from its suffix alone, and is the same."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.compensation.snapshots import Snapshot, Snapshots
from snnc.ir import snn
from snnc.passes import PASSES
from snnc.passes.learn_thresholds import LearnThresholds
from snnc.pipeline import Context, Pipeline, RemainingPasses, run_pipeline
from snnc.search.threshold_search import scaled
from snnc.simulation.partial import PartialSimulation
from tests.ann_graphs import context, residual_network

FRONT = (
    "fold-batchnorm,rectify-linear,clip-activations{floor=true},lower,dual-threshold{spikes-per-step=2},"
    "init-membrane"
)
LAYERS = 5


def prepared(back: str, rows: int) -> tuple[snn.SnnGraph, Context, RemainingPasses]:
    source = residual_network(4)
    made = context(source, rows=rows, timesteps=2)
    graph, _ = run_pipeline(Pipeline.parse(FRONT, PASSES), source, made)
    assert isinstance(graph, snn.SnnGraph)
    made.findings = {}
    return graph, made, RemainingPasses(Pipeline.parse(back, PASSES), made)


def same(one: Any, other: Any) -> bool:
    return [type(node) for node in one] == [type(node) for node in other] and all(
        np.array_equal(getattr(a, item.name), getattr(b, item.name))
        for a, b in zip(one, other, strict=True)
        for item in fields(a)
    )


@settings(max_examples=4, deadline=None)
@given(
    moved=st.integers(0, LAYERS - 1),
    factor=st.sampled_from([0.8, 1.25]),
    options=st.sampled_from(
        ["", "{variance-restoration=0.7}", "{start=true,scale=true}", "{weights=false,gated=false}"]
    ),
)
def test_only_the_suffix_is_made_again_and_nothing_changes(moved: int, factor: float, options: str) -> None:
    graph, made, rest = prepared(f"compensate{options},quantise-weights", 100)
    name = graph.of_type(snn.IntegrateFire)[moved].name
    candidate = scaled(graph, {f"{name}:threshold": factor})
    simulated: list[str] = []
    parts = PartialSimulation.parts

    def counting(self: PartialSimulation, graph: snn.SnnGraph, names: Any, **how: Any) -> Any:
        simulated.extend(names)
        return parts(self, graph, names, **how)

    snapshots = Snapshots(2**24)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PartialSimulation, "parts", counting)
        first = rest.run(graph, made.calibration, snapshots)
        simulated.clear()
        again = rest.run(candidate, made.calibration, snapshots)
        repeated = set(simulated)
        simulated.clear()
        whole = rest.run(candidate, made.calibration)
    assert same(again, whole)
    assert not same(again, first)
    layers = [node.name for node in graph.of_type(snn.IntegrateFire)]
    assert [name for name in layers if name in simulated] == layers
    assert [name for name in layers if name in repeated] == layers[moved:]


def test_a_search_finds_the_same_with_and_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for limit in (2**24, 0):
        monkeypatch.setattr("snnc.search.threshold_search.SNAPSHOT_BYTES", limit)
        graph, made, rest = prepared("compensate,quantise-weights", 80)
        made.rest = rest
        LearnThresholds(budget=4, rows=40).run(graph, made)
        found.append(made.findings["learned"])
    assert found[0] == found[1]


def test_the_oldest_go_first_when_memory_ends() -> None:
    def snapshot(size: int) -> Snapshot:
        return Snapshot({}, (), {"spikes": np.zeros(size, np.int8)}, ())

    snapshots = Snapshots(100)
    for key in "abc":
        snapshots.put(key, snapshot(40))
    assert snapshots.get("a") is None
    assert snapshots.get("b") is not None
    snapshots.put("d", snapshot(40))
    assert snapshots.get("c") is None
    assert snapshots.get("b") is not None
    snapshots.put("large", snapshot(101))
    assert snapshots.get("large") is None
