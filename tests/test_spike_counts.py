"""One pass over spike counts gives what all steps give, wherever it is offered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.backends.numba_cpu import NumbaSimulator
from snnc.errors import UsageError
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.simulation.protocol import RecordOptions, Trace
from snnc.simulation.reference import ReferenceSimulator
from snnc.simulation.single_pass import counted, counted_input, problem
from tests.spiking_graphs import (
    as_float,
    assert_same_outputs,
    graphs,
    plain_graphs,
    random_graph,
    random_inputs,
)

STATES = RecordOptions(states=True)


def graded(graph: SnnGraph, levels: int) -> SnnGraph:
    neuron = Neuron(levels=levels, spikes_per_step=None)
    return graph.map(IntegrateFire, lambda node: node.with_(neuron=neuron, negative_threshold=None))


def assert_same(steps: Trace, pass_: Trace) -> None:
    assert_same_outputs(pass_, steps)
    for name, count in steps.counts.items():
        np.testing.assert_array_equal(count, pass_.counts[name], err_msg=f"counts of {name}")
        np.testing.assert_array_equal(
            steps.potentials[name], pass_.potentials[name], err_msg=f"potentials of {name}"
        )


@settings(max_examples=40)
@given(graph=plain_graphs(), levels=st.integers(1, 3), timesteps=st.integers(1, 6))
def test_graded_networks(graph: SnnGraph, levels: int, timesteps: int) -> None:
    graph = replace(graded(graph, levels), schedule=Schedule.SYNCHRONOUS)
    q = random_inputs(graph, 4, 3)
    steps = ReferenceSimulator().run(graph, q, timesteps, STATES)
    once = counted(graph, timesteps)
    assert_same(steps, ReferenceSimulator().run(once, counted_input(q, timesteps), 1, STATES))
    assert_same(steps, NumbaSimulator(1).run(once, counted_input(q, timesteps), 1, STATES))


@settings(max_examples=40)
@given(graph=graphs(), timesteps=st.integers(1, 6))
def test_networks_with_barriers(graph: SnnGraph, timesteps: int) -> None:
    graph = replace(graph, schedule=Schedule.LAYERWISE, settle_steps=0)
    timesteps = graph.timesteps if graph.only_timesteps else timesteps
    q = random_inputs(graph, 4, 3)
    steps = ReferenceSimulator().run(graph, q, timesteps, STATES)
    pass_ = ReferenceSimulator().run(counted(graph, timesteps), counted_input(q, timesteps), 1, STATES)
    assert_same(steps, pass_)


@pytest.mark.parametrize(
    "neuron", [Neuron(), Neuron(spikes_per_step=2), Neuron(count_memory=False), Neuron(levels=3)]
)
def test_limited_neurons_are_refused_by_name(neuron: Neuron) -> None:
    graph = random_graph(3, neuron=neuron)
    first = graph.of_type(IntegrateFire)[0]
    assert first.name in (problem(graph) or "")
    with pytest.raises(UsageError, match=first.name):
        counted(graph, 4)


def test_they_do_differ_where_it_is_refused() -> None:
    """Without the refusal the result would be another one: it is not mere caution."""
    graph = random_graph(3, neuron=Neuron(), blocks=3)
    q = random_inputs(graph, 16, 0)
    steps = ReferenceSimulator().run(graph, q, 4)
    once = counted(graded(graph, 1), 4)
    assert (ReferenceSimulator().run(once, counted_input(q, 4), 1).logits != steps.logits).any()


def test_networks_in_float32_are_refused() -> None:
    graph = as_float(graded(random_graph(2), 1))
    with pytest.raises(UsageError, match="float32"):
        counted(graph, 4)
