"""Answers as soon as they are sure: the criterion, what is saved, and what cannot stop early."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from snnc.analysis.costs import count
from snnc.analysis.early_exit import Exits, confident, early_exits
from snnc.errors import UsageError
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import SnnGraph
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests.spiking_graphs import random_graph, random_inputs


def network(**options: Any) -> SnnGraph:
    return random_graph(3, neuron=Neuron(), timesteps=5, flat=True, **options)


def exits(graph: SnnGraph, confidence: float, rows: int = 40) -> tuple[Any, Exits]:
    q = random_inputs(graph, rows, 1)
    return q, early_exits(graph, lambda given: given, q, confidence, ReferenceSimulator())


def test_the_confidence_is_the_largest_probability() -> None:
    scores = np.log(np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1]])) + 300
    assert confident(scores, 0.69).tolist() == [True, False]
    assert confident(scores, 0.71).tolist() == [False, False]


@pytest.mark.parametrize("settle", [0, 2])
def test_who_is_never_sure_answers_as_ever(settle: int) -> None:
    graph = network(settle_steps=settle)
    q, found = exits(graph, 1 - 1e-15)
    asked = RecordOptions(activity=True)
    trace = ReferenceSimulator().run(graph, q, graph.timesteps, asked)
    (outputs,) = trace.outputs.values()
    assert (found.latency == graph.timesteps + settle).all()
    np.testing.assert_array_equal(found.answers, graph.readout.real(outputs, graph.timesteps).argmax(axis=1))
    np.testing.assert_array_equal(found.answers, found.full)
    costs = count(graph, trace.activity, len(q), graph.timesteps)
    assert found.synops.mean() == pytest.approx(costs.synops)


def test_who_is_sure_at_once_stops_after_one_step() -> None:
    graph = network()
    _, found = exits(graph, 1e-9)
    assert (found.latency == 1).all()
    _, every = exits(graph, 1 - 1e-15)
    assert found.synops.mean() < 0.5 * every.synops.mean()


def test_between_them_the_distribution_is_told() -> None:
    graph = network()
    median = np.median(exits(graph, 0.5)[1].latency)
    q, found = exits(graph, 0.3)
    labels = found.full.copy()
    told = replace(found, labels=labels).as_dict()
    assert sum(told["latency_steps"]["rows_by_step"]) == len(q) == told["n"]
    assert told["latency_steps"]["mean"] <= graph.timesteps
    assert told["top1"] == told["agreement_with_all_steps"]
    assert np.median(found.latency) <= median
    assert told["synops"]["p50"] <= told["synops"]["p90"] <= told["synops"]["p99"]


@pytest.mark.parametrize(
    ("graph", "confidence", "message"),
    [
        (network(), 1.0, "must lie between 0 and 1"),
        (network(), 0.0, "must lie between 0 and 1"),
        (network(schedule=Schedule.LAYERWISE), 0.9, "no answer before the last step"),
        (random_graph(3, neuron=Neuron(), timesteps=1, flat=True), 0.9, "none can be saved"),
    ],
)
def test_what_cannot_stop_early_is_refused(graph: SnnGraph, confidence: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        exits(graph, confidence)
