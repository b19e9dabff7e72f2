"""Every kind of node and every setting of neurons is classified, and is what its traits say."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, get_args

import numpy as np
import pytest

from snnc.errors import UnknownOperationError, VerificationError
from snnc.ir import ann, snn
from snnc.ir.graph import Graph
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.operations import ANN_KINDS, KINDS, SETTINGS, Firing, Operation, firing, operations
from snnc.ir.snn import IntegrateFire, SnnNode
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests.ann_graphs import residual_network
from tests.spiking_graphs import NEURONS, random_graph, random_inputs, with_step_functions
from tests.temporal_graphs import with_leaks

GRAPHS = {
    schedule: random_graph(3, schedule=schedule, neuron=Neuron(), blocks=1, flat=True)
    for schedule in Schedule
}


@pytest.mark.parametrize("kind", [Neuron, IntegrateFire, ann.Relu])
def test_every_setting_is_classified(kind: type) -> None:
    """Who adds a field says in the classification what it does: until then everyone refuses it."""
    assert {field.name for field in dataclasses.fields(kind)} == SETTINGS[kind]


def test_a_setting_that_is_not_classified_is_refused_unless_at_its_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = GRAPHS[Schedule.SYNCHRONOUS]
    monkeypatch.setitem(SETTINGS, Neuron, SETTINGS[Neuron] - {"levels"})
    operations(graph)
    more = graph.map(IntegrateFire, lambda n: n.with_(neuron=Neuron(levels=2)))
    with pytest.raises(UnknownOperationError, match="the setting 'levels' is none that"):
        operations(more)


def test_every_kind_of_node_is_classified() -> None:
    """A class that checks a node is a kind; the others are what kinds have in common."""

    def kinds(dialect: Any, common: type) -> set[type]:
        found = {kind for kind in vars(dialect).values() if isinstance(kind, type)}
        return {kind for kind in found if issubclass(kind, common) and "verify" in vars(kind)}

    assert kinds(snn, SnnNode) == KINDS == set(get_args(Operation))
    assert kinds(ann, ann.AnnNode) == ANN_KINDS


def test_every_neuron_fires_by_one_rule() -> None:
    found = set()
    for neuron in NEURONS:
        for negative in (False, True):
            graph = random_graph(5, neuron=neuron, negative=negative, blocks=0)
            found |= {firing(node) for node in graph.of_type(IntegrateFire)}
    for change in (partial(with_step_functions, share=1), with_leaks):
        changed = change(random_graph(5, blocks=0), 5)
        found |= {firing(node) for node in changed.of_type(IntegrateFire)}
    assert found == set(Firing)


def test_graphs_of_both_dialects_have_an_arity_per_operation() -> None:
    def broken(graph: Graph[Any], node: Any, inputs: tuple[str, ...]) -> None:
        changed = graph.replacing({node.name: node.with_(inputs=inputs)})
        with pytest.raises(VerificationError, match=r"needs|one input node"):
            changed.verify()

    for graph in (residual_network(), random_graph(1, blocks=3), random_graph(8, blocks=3)):
        for node in graph:
            if node.arity.least:
                broken(graph, node, node.inputs[: node.arity.least - 1])
            if node.arity.most is not None and not node.is_input:
                broken(graph, node, node.inputs + (graph.nodes[0].name,) * (node.arity.most + 1))


def test_the_inputs_of_a_network_come_first() -> None:
    graph = GRAPHS[Schedule.SYNCHRONOUS]
    first, second, *rest = graph.nodes
    constant = snn.ConstantCurrent(name="c", shape=(1,), values=np.zeros(1, np.int32))
    with pytest.raises(VerificationError, match="the inputs of a network are its first nodes"):
        graph.with_nodes([first, second, first.with_(name="late"), *rest]).verify()
    with pytest.raises(VerificationError, match="a network begins with its input"):
        graph.with_nodes([constant, *graph.nodes]).verify()


def test_what_moves_gives_values_that_it_read() -> None:
    moved: set[type] = set()
    for seed in range(12):
        graph = random_graph(seed, blocks=3, routed=seed % 2 == 0)
        names = tuple(node.name for node in graph if not isinstance(node, snn.Readout))
        q = random_inputs(graph, 2, seed)
        trains = ReferenceSimulator().run(graph, q, 3, RecordOptions(trains=names)).trains
        for node in graph:
            if node.moves:
                moved.add(type(node))
                read = np.concatenate([trains[name].ravel() for name in node.inputs])
                assert np.isin(trains[node.name], [*np.unique(read), 0]).all()
    assert moved == {kind for kind in get_args(Operation) if kind.moves}
