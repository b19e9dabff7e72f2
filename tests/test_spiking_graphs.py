"""The networks that other tests are made of: valid, reproducible and lively."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from snnc.ir import snn
from snnc.ir.neuron import Neuron
from snnc.ir.operations import KINDS
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests.spiking_graphs import NEURONS, as_float, plain_graphs, random_graph, random_inputs

SEEDS = range(24)


def test_the_same_seed_gives_the_same_network() -> None:
    one, two = random_graph(3), random_graph(3)
    assert [node.name for node in one] == [node.name for node in two]
    x = random_inputs(one, 4, 0)
    run = ReferenceSimulator().run
    np.testing.assert_array_equal(run(one, x, 4).logits, run(two, x, 4).logits)


def test_every_operation_occurs() -> None:
    found = {type(node) for seed in SEEDS for node in random_graph(seed, routed=True, functions=seed % 3)}
    assert found == KINDS - {snn.Delay}  # which tests/temporal_graphs.py has


@pytest.mark.parametrize("neuron", NEURONS)
def test_neurons_fire_but_not_always(neuron: Neuron) -> None:
    densities, answers = [], []
    for seed in range(6):
        graph = random_graph(seed, neuron=neuron)
        x = random_inputs(graph, 32, seed)
        assert len(np.unique(x.reshape(32, -1), axis=0)) == 32
        trace = ReferenceSimulator().run(graph, x, 4, RecordOptions(activity=True))
        steps = 32 * (4 + graph.settle_steps)
        densities += [float(a.events.mean()) / steps for a in trace.activity.values()]
        answers.append(len(np.unique(trace.logits, axis=0)))
    assert 0.05 < np.median(densities) < 0.6
    assert min(answers) > 20


@settings(max_examples=10)
@given(graph=plain_graphs())
def test_a_power_of_two_keeps_the_spikes(graph: snn.SnnGraph) -> None:
    x = random_inputs(graph, 8, 0)
    exact = ReferenceSimulator().run(graph, x, graph.timesteps, RecordOptions(states=True))
    scaled = ReferenceSimulator().run(as_float(graph), x, graph.timesteps, RecordOptions(states=True))
    for name, count in exact.counts.items():
        np.testing.assert_array_equal(count, scaled.counts[name])
        np.testing.assert_array_equal(exact.potentials[name], scaled.potentials[name] * 64)
