"""Learned thresholds: found against the finished network, never worse, resumed exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.compiler import Options
from snnc.errors import InputError, UsageError
from snnc.ir import snn
from snnc.ir.neuron import Neuron
from snnc.passes import PASSES
from snnc.passes.learn_thresholds import LearnThresholds
from snnc.pipeline import Context, Pipeline, RemainingPasses, run_pipeline
from snnc.search import threshold_search as learning
from snnc.search.threshold_search import Parameter, knobs, scaled
from snnc.simulation.reference import ReferenceSimulator, encode
from tests.ann_graphs import context, residual_network

TWO, ONE = "dual-threshold{spikes-per-step=2}", "dual-threshold{negative=0.5}"
FRONT = f"fold-batchnorm,rectify-linear,clip-activations,lower,{TWO},init-membrane"
BACK = "quantise-weights"


def prepared(rows: int = 400, mistake: float = 1.0, neuron: str = TWO) -> tuple[snn.SnnGraph, Context]:
    """Return a network before its weights are quantised, its thresholds too large by ``mistake``."""
    source = residual_network(4)
    made = context(source, rows=rows, timesteps=2)
    graph, _ = run_pipeline(Pipeline.parse(FRONT.replace(TWO, neuron), PASSES), source, made)
    assert isinstance(graph, snn.SnnGraph)
    names = [node.name for node in graph.of_type(snn.IntegrateFire)]
    graph = scaled(graph, {f"{name}:threshold": mistake for name in names})
    made.rest = RemainingPasses(Pipeline.parse(BACK, PASSES), made)
    made.findings = {}
    return graph, made


def learned(budget: int = 12, **changes: Any) -> tuple[snn.SnnGraph, Context]:
    graph, made = prepared(mistake=3.0)
    made = replace(made, **changes)
    made.rest = RemainingPasses(Pipeline.parse(BACK, PASSES), made)
    return LearnThresholds(budget=budget, rows=100).run(graph, made), made


def test_a_mistake_in_the_thresholds_is_found_and_mended() -> None:
    graph, made = learned()
    found = made.findings["learned"]
    assert found["kept"]
    assert found["held_back"]["learned"] < 0.8 * found["held_back"]["start"]
    assert found["factors"]
    assert min(found["factors"].values()) < 0.7
    assert not graph.integer


def test_an_interrupted_search_goes_on_to_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, first = learned()
    journal = tmp_path / "search.journal"
    run = learning.answers_of
    calls = 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return run(*arguments)

    monkeypatch.setattr(learning, "answers_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learned(journal=journal)
    assert calls == 4
    resumed, second = learned(journal=journal)
    assert first.findings == second.findings
    # Three were in the journal; two more networks are made to accept the result.
    assert calls == 4 + first.findings["learned"]["evaluations"] - 3 + 2
    for name in (node.name for node in whole.of_type(snn.IntegrateFire)):
        a, b = whole[name], resumed[name]
        assert isinstance(a, snn.IntegrateFire)
        assert isinstance(b, snn.IntegrateFire)
        assert np.array_equal(a.threshold, b.threshold)
        assert np.array_equal(a.v_init, b.v_init)


@pytest.mark.parametrize("change", ["neuron", "settle_steps", "bias"])
def test_a_journal_of_another_network_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "search.journal"
    learned(budget=2, journal=path)
    graph, made = prepared(mistake=3.0)
    made = replace(made, journal=path)
    made.rest = RemainingPasses(Pipeline.parse(BACK, PASSES), made)
    if change == "settle_steps":
        graph = replace(graph, settle_steps=1)
    elif change == "neuron":
        graph = graph.map(snn.IntegrateFire, lambda node: node.with_(neuron=Neuron()))
    else:
        graph = graph.map(snn.IntegrateFire, lambda node: node.with_(bias=node.bias + np.float32(1)))
    with pytest.raises(InputError, match="another search"):
        LearnThresholds(budget=2, rows=100).run(graph, made)


def test_operations_can_be_part_of_what_is_minimised() -> None:
    graph, made = prepared()
    LearnThresholds(budget=10, rows=100).run(graph, made)
    accurate = made.findings.pop("learned")
    LearnThresholds(budget=10, rows=100, activity=100.0).run(graph, made)
    sparing = made.findings["learned"]
    assert sparing["kept"]
    assert sparing["synops"]["learned"] < 0.9 * sparing["synops"]["start"]
    assert sparing["synops"]["learned"] < accurate["synops"]["learned"]


def test_too_few_rows_change_nothing_and_say_how_many_are_needed() -> None:
    graph, made = prepared(rows=100)
    assert LearnThresholds().run(graph, made) is graph
    (found,) = made.diagnostics
    assert "100 calibration rows are too few to learn thresholds; at least 250" in found.message


def test_a_flat_objective_changes_nothing_and_says_so() -> None:
    graph, made = prepared()
    deaf = graph[graph[graph.output].inputs[0]]
    assert isinstance(deaf, snn.Linear)
    graph = graph.replacing({deaf.name: deaf.with_(weight=np.zeros_like(deaf.weight))})
    assert LearnThresholds(budget=40, rows=100).run(graph, made) is graph
    found = made.findings["learned"]
    assert not found["kept"]
    assert found["stopped"] == "the answers do not depend on the thresholds"
    assert found["evaluations"] < 20
    assert "no thresholds were found that are better" in made.diagnostics[-1].message


def test_a_stop_by_the_clock_is_recorded() -> None:
    graph, made = prepared()
    LearnThresholds(seconds=1e-9).run(graph, made)
    assert made.findings["learned"]["stopped"] == "the time is up"
    assert made.findings["learned"]["evaluations"] == 1


def test_the_budget_is_kept() -> None:
    _, made = learned(budget=3)
    assert made.findings["learned"]["evaluations"] == 3
    assert made.findings["learned"]["stopped"] == "the budget of evaluations is spent"


def test_an_integer_network_is_left_alone() -> None:
    graph, made = prepared()
    finished, _ = run_pipeline(Pipeline.parse(BACK, PASSES), graph, made)
    assert isinstance(finished, snn.SnnGraph)
    assert LearnThresholds().run(finished, made) is finished


@given(factor=st.floats(0.5, 2), parameter=st.sampled_from(Parameter))
@settings(max_examples=10, deadline=None)
def test_a_factor_and_its_inverse_give_back_the_network(factor: float, parameter: Parameter) -> None:
    graph, _ = prepared(neuron=ONE)
    there = scaled(graph, {f"relu1:{parameter.value}": factor})
    back = scaled(there, {f"relu1:{parameter.value}": 1 / factor})
    for before, after in zip(graph, back, strict=True):
        if isinstance(before, snn.IntegrateFire) and isinstance(after, snn.IntegrateFire):
            assert np.allclose(before.threshold, after.threshold, rtol=1e-5)
            if parameter is not Parameter.START or factor * 0.5 < 0.95:
                assert np.allclose(before.v_init, after.v_init, rtol=1e-5)
            assert before.negative_threshold is not None
            assert after.negative_threshold is not None
            assert np.allclose(before.negative_threshold, after.negative_threshold, rtol=1e-5)
        if isinstance(before, snn.Weighted) and isinstance(after, snn.Weighted):
            assert np.allclose(before.weight, after.weight, rtol=1e-4, atol=1e-6)


def test_a_larger_threshold_is_paid_back_by_the_readers() -> None:
    """What a spike stands for grows as the threshold does, so few of the answers change."""
    graph, made = prepared()
    x = made.calibration.rows[:50]
    q = encode(graph.encoder, x)
    before = ReferenceSimulator().run(graph, q, 2).logits
    after = ReferenceSimulator().run(scaled(graph, {"relu1:threshold": 1.1}), q, 2).logits
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.9


def test_channels_are_moved_against_each_other_and_their_middle_stays() -> None:
    graph, _ = prepared()
    before, after = graph["relu1"], scaled(graph, {"relu1:channels": 1.2})["relu1"]
    assert isinstance(before, snn.IntegrateFire)
    assert isinstance(after, snn.IntegrateFire)
    factors = (after.threshold / before.threshold)[np.argsort(before.threshold)]
    np.testing.assert_allclose(factors[[0, -1]], [1 / 1.2, 1.2], rtol=1e-5)
    assert (np.diff(factors) > 0).all()
    np.testing.assert_allclose(np.prod(factors.astype(np.float64)), 1, rtol=1e-5)


def test_channels_of_one_threshold_are_not_moved_against_each_other() -> None:
    graph, _ = prepared()
    relu = graph["relu1"]
    assert isinstance(relu, snn.IntegrateFire)
    even = graph.replacing({"relu1": relu.with_(threshold=np.full_like(relu.threshold, 0.5))})
    assert not any(
        "relu1" in knob.members
        for level in knobs(even)
        for knob in level
        if knob.parameter is Parameter.CHANNELS
    )
    after = scaled(even, {"relu1:channels": 1.2})["relu1"]
    assert isinstance(after, snn.IntegrateFire)
    assert (after.threshold == 0.5).all()


def test_a_negative_threshold_is_learned_where_there_is_one() -> None:
    graph, _ = prepared(neuron=ONE)
    assert {"stream:negative", "branch:negative"} <= {knob.name for knob in knobs(graph)[0]}
    before, after = graph["relu1"], scaled(graph, {"relu1:negative": 1.2})["relu1"]
    assert isinstance(before, snn.IntegrateFire)
    assert isinstance(after, snn.IntegrateFire)
    assert before.negative_threshold is not None
    assert after.negative_threshold is not None
    np.testing.assert_allclose(after.negative_threshold, 1.2 * before.negative_threshold, rtol=1e-6)
    np.testing.assert_array_equal(after.threshold, before.threshold)


def test_knobs_go_from_coarse_to_fine_and_cover_every_population() -> None:
    graph, _ = prepared()
    everything = {node.name for node in graph.of_type(snn.IntegrateFire)}
    levels = knobs(graph)
    for level in levels:
        assert {name for knob in level for name in knob.members} == everything
    assert {knob.name for knob in levels[0]} == {
        "stream:threshold",
        "branch:threshold",
        "stream:start",
        "branch:start",
    }
    assert all(len(knob.members) == 1 for knob in levels[-1])


def test_the_clip_asks_for_the_search() -> None:
    options = Options(
        timesteps=4,
        settings={"clip-activations.method": "learn", "learn-thresholds.budget": "5"},
        preset="fast",
    )
    text = options.passes().text
    assert "clip-activations{method=learn}" in text
    assert text.endswith("init-membrane,learn-thresholds{budget=5},quantise-weights")
    again = Options(pipeline=text)
    assert again.passes().text == text


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"budget": 0}, "budget must lie in"),
        ({"activity": -1.0}, "activity must lie in"),
        ({"seconds": 0.0}, "seconds must lie in"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LearnThresholds(**option)
