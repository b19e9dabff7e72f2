"""The error by which passes decide: it can fail for one output and for numbers, and the record names it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.compensation.sensitivity import sensitivities
from snnc.ir import ann, snn
from snnc.metrics import Task
from snnc.numerics.divergence import AnswerError, answer_error, divergence, relative_error
from snnc.passes import PASSES
from snnc.passes.clip_activations import ClipActivations
from snnc.passes.compensate import Compensate
from snnc.passes.learn_thresholds import LearnThresholds
from snnc.pipeline import Context, Pipeline, RemainingPasses, run_pipeline
from tests.ann_graphs import Builder, context

FRONT = "fold-batchnorm,rectify-linear,clip-activations,lower,dual-threshold{spikes-per-step=2},init-membrane"


def regressor(seed: int = 0, outputs: int = 1) -> ann.AnnGraph:
    b = Builder(seed, shape=(12,))
    hidden = b.relu("relu1", b.linear("second", b.relu("relu0", b.linear("first", "x", 24)), 16))
    return b.graph(b.linear("out", hidden, outputs))


def prepared(rows: int = 300, outputs: int = 1) -> tuple[snn.SnnGraph, Context]:
    graph = regressor(outputs=outputs)
    made = context(graph, rows=rows, timesteps=2)
    made.task = Task.REGRESSION
    result, _ = run_pipeline(Pipeline.parse(FRONT, PASSES), graph, made)
    assert isinstance(result, snn.SnnGraph)
    return result, made


@given(st.integers(1, 5), st.floats(0.1, 100), st.floats(-50, 50), st.integers(0, 1000))
def test_units_and_offsets_do_not_count_and_the_mean_reaches_one(
    outputs: int, scale: float, offset: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    s, noise = random.standard_normal((2, 50, outputs))
    s = (s - s.mean(axis=0)) / s.std(axis=0) * np.linspace(1, 1.3, outputs)
    found = relative_error(s, s + noise)
    assert relative_error(scale * s + offset, scale * (s + noise) + offset) == pytest.approx(found, rel=1e-6)
    assert relative_error(s, np.broadcast_to(s.mean(axis=0), s.shape)) == pytest.approx(1)
    assert relative_error(s, s) == 0


def test_what_the_divergence_does_not_see() -> None:
    s = np.random.default_rng(0).standard_normal((50, 4))
    assert divergence(s[:, :1], -s[:, :1]) == 0
    assert divergence(s, s + 10) == pytest.approx(0, abs=1e-9)
    assert relative_error(s[:, :1], -s[:, :1]) > 3
    assert relative_error(s, s + 10) > 50


def test_an_output_that_hardly_varies_does_not_outweigh_the_others() -> None:
    s = np.random.default_rng(1).standard_normal((50, 9))
    s[:, 0] *= 1e-6
    assert relative_error(s, s + 0.01) < 0.01
    s[:, 0] = 0
    assert relative_error(s, s + 0.01) < 0.01
    assert np.isfinite(relative_error(np.zeros((5, 2)), np.zeros((5, 2))))


@pytest.mark.parametrize(
    ("task", "outputs", "error"),
    [
        (Task.CLASSES, 4, AnswerError.DIVERGENCE),
        (Task.REGRESSION, 4, AnswerError.SQUARED),
        (Task.BINARY, 1, AnswerError.SQUARED),
        (None, 1, AnswerError.SQUARED),
    ],
)
def test_the_task_decides(task: Task | None, outputs: int, error: AnswerError) -> None:
    answers = np.random.default_rng(0).standard_normal((40, outputs)).astype(np.float32)
    assert answer_error(task, answers) is error


def test_without_a_task_the_behaviour_decides() -> None:
    scores = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    apart = scores - scores.mean(axis=1, keepdims=True)
    assert answer_error(None, apart) is AnswerError.DIVERGENCE
    assert answer_error(None, apart + 9 * scores[:, :1]) is AnswerError.SQUARED


def test_compensation_of_one_output_is_judged() -> None:
    spiking, made = prepared()
    Compensate().run(spiking, made)
    found = made.findings
    assert found["objective"] == "relative squared error"
    assert found["divergence"]["plain"] > found["divergence"]["compensated"] > 0
    assert found["kept"]
    readout = found["layers"][-1]["errors"]
    assert readout["none"] > readout["weights"] > 0


def test_a_compensation_that_harms_one_output_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    spiking, made = prepared()
    from snnc.compensation.corrections import GroupFitter

    honest = GroupFitter.candidate

    def harmed(self: GroupFitter, label: str, graph: snn.SnnGraph, values: Any, ratios: Any) -> Any:
        if graph.output in values:
            values = {name: 0 * value for name, value in values.items()}
        return honest(self, label, graph, values, ratios)

    monkeypatch.setattr(GroupFitter, "candidate", harmed)
    Compensate().run(spiking, made)
    assert not made.findings["kept"]


@pytest.mark.parametrize("outputs", [1, 5])
def test_levels_go_where_numbers_need_them(outputs: int) -> None:
    graph = regressor(outputs=outputs)
    made = context(graph, rows=100)
    made.task = Task.REGRESSION
    clipped = ClipActivations().run(graph, made)
    found = sensitivities(clipped, made.calibration, {"relu0": 4, "relu1": 4}, made.answer_error())
    assert min(found.values()) > 0.001
    ClipActivations(levels=2, share=0.6).run(graph, made)
    assert made.findings["objective"] == "relative squared error"
    assert all(each["divergence"] > 0 for each in made.findings["levels"].values())


def test_thresholds_of_one_output_are_learned() -> None:
    spiking, made = prepared(rows=400)
    names = [node.name for node in spiking.of_type(snn.IntegrateFire)]
    from snnc.search.threshold_search import scaled

    wrong = scaled(spiking, {f"{name}:threshold": 3.0 for name in names})
    made.rest = RemainingPasses(Pipeline.parse("quantise-weights", PASSES), made)
    LearnThresholds(budget=8, rows=100).run(wrong, made)
    found = made.findings["learned"]
    assert found["objective"] == "relative squared error"
    assert found["kept"]
    assert found["held_back"]["learned"] < 0.8 * found["held_back"]["start"]


def test_all_passes_decide_by_the_same_error() -> None:
    made = context(regressor(outputs=4), rows=50)
    error = made.answer_error()
    others = replace(made, task=Task.CLASSES)
    assert others.answer_error() is error
