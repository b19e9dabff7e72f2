"""Which rectifiers need more levels: how much rounding one moves the answers, and who gets them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.analysis.costs import macs_of_ann
from snnc.compensation.sensitivity import most_sensitive, operations, sensitivities
from snnc.errors import UsageError
from snnc.ir import ann
from snnc.ir.snn import IntegrateFire
from snnc.numerics.divergence import divergence
from snnc.passes.clip_activations import ClipActivations
from snnc.passes.dual_threshold import DualThreshold
from snnc.passes.fold_batchnorm import FoldBatchnorm
from snnc.passes.lower import Lower
from snnc.simulation.ann_reference import run_ann
from tests.ann_graphs import Builder, context, residual_network


def perceptron() -> ann.AnnGraph:
    b = Builder(4, shape=(12,))
    return b.graph(b.linear("out", b.relu("relu", b.linear("hidden", "x", 9)), 5))


def test_the_divergence_is_that_of_the_rounded_values() -> None:
    graph = perceptron()
    made = context(graph, rows=40)
    clipped = ClipActivations(floor=True).run(graph, made)
    relu, out = clipped["relu"], clipped["out"]
    assert isinstance(relu, ann.Relu)
    assert relu.threshold is not None
    assert isinstance(out, ann.Linear)
    answers, values = run_ann(graph, made.calibration.rows, ["relu"])
    hidden = values["relu"]
    floor = np.zeros_like(relu.threshold) if relu.floor is None else relu.floor
    step = (relu.threshold - floor) / np.float32(3)
    rounded = floor + step * np.clip(np.floor((hidden - floor) / step + np.float32(0.5)), 0, 3)
    expected = divergence(answers, rounded @ out.weight.T + out.bias)
    assert sensitivities(clipped, made.calibration, {"relu": 3})["relu"] == pytest.approx(expected, rel=1e-4)


def test_many_levels_cost_nothing() -> None:
    graph = residual_network()
    made = context(graph, rows=20)
    names = [node.name for node in graph.of_type(ann.Relu)]
    clipped = {levels: ClipActivations(levels=levels).run(graph, made) for levels in (1, 4000)}
    few, many = (
        sensitivities(each, made.calibration, dict.fromkeys(names, levels))
        for levels, each in clipped.items()
    )
    assert all(many[name] < 0.01 * few[name] for name in names)


def test_operations_are_those_of_the_readers() -> None:
    found = operations(perceptron())
    assert found == {"relu": 9 * 5}


def test_operations_behind_a_join_are_shared_by_its_channels() -> None:
    b = Builder(1)
    parts = [b.relu(f"relu{size}", b.conv(f"conv{size}", "x", size)) for size in (2, 6)]
    graph = b.graph(
        b.linear("fc", b.flatten("flat", b.relu("last", b.conv("conv", b.concat("k", *parts), 4))), 5)
    )
    found = operations(graph)
    assert found["relu6"] == 3 * found["relu2"]
    assert found["relu2"] + found["relu6"] == macs_of_ann(graph)["conv"]


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 1000)), min_size=1, max_size=8),
    st.floats(0, 1),
)
def test_the_chosen_keep_to_their_share(parts: list[tuple[float, int]], share: float) -> None:
    gained = {f"n{i}": gain for i, (gain, _) in enumerate(parts)}
    cost = {f"n{i}": operations for i, (_, operations) in enumerate(parts)}
    chosen = most_sensitive(gained, cost, share)
    assert sum(cost[name] for name in chosen) <= share * sum(cost.values())
    left = share * sum(cost.values()) - sum(cost[name] for name in chosen)
    assert all(cost[name] > left for name in gained if name not in chosen)
    assert set(most_sensitive(gained, cost, 1)) == set(gained)


def test_some_rectifiers_carry_more_levels() -> None:
    graph = residual_network()
    made = context(graph, rows=30)
    mixed = ClipActivations(levels=2, share=0.6, floor=True).run(graph, made)
    single = {levels: ClipActivations(levels=levels, floor=True).run(graph, made) for levels in (1, 2)}
    rectifiers = mixed.of_type(ann.Relu)
    assert {node.levels for node in rectifiers} == {1, 2}
    for node in rectifiers:
        alone = single[node.levels][node.name]
        assert isinstance(alone, ann.Relu)
        assert node.threshold is not None
        assert alone.threshold is not None
        assert np.array_equal(node.threshold, alone.threshold)
    cost = operations(graph)
    assert sum(cost[node.name] for node in rectifiers if node.levels == 2) <= 0.6 * sum(cost.values())
    assert made.findings["levels"].keys() == cost.keys()


def test_no_population_sends_more_than_two_in_a_step() -> None:
    graph = residual_network()
    made = context(graph, rows=30)
    mixed = ClipActivations(levels=2, share=0.6).run(FoldBatchnorm().run(graph, made), made)
    spiking = DualThreshold(spikes_per_step=2).run(Lower().run(mixed, made), made)
    neurons = [node.neuron for node in spiking.of_type(IntegrateFire)]
    assert {neuron.levels for neuron in neurons} == {1, 2}
    assert {neuron.limit for neuron in neurons} == {2}


def test_a_share_must_be_one() -> None:
    with pytest.raises(UsageError, match="share must lie in"):
        ClipActivations(share=2)
    with pytest.raises(UsageError, match="needs levels above 1"):
        ClipActivations(share=0.5)


def test_a_network_may_end_with_a_rectifier() -> None:
    b = Builder(4, shape=(12,))
    hidden = b.relu("relu", b.linear("hidden", "x", 9))
    graph = b.graph(b.relu("last", b.linear("out", hidden, 5)))
    made = context(graph, rows=20)
    mixed = ClipActivations(levels=2, share=0.5).run(graph, made)
    assert {node.levels for node in mixed.of_type(ann.Relu)} == {1}
    assert all(found["divergence"] >= 0 for found in made.findings["levels"].values())
