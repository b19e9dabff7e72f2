"""The Numba simulator gives the bits of the reference, whatever is asked of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.backends.numba_cpu import NumbaSimulator
from snnc.backends.numba_cpu.kernels.counting import TALLIED, tally
from snnc.errors import InputError, UsageError
from snnc.ir import snn
from snnc.ir.neuron import Neuron
from snnc.simulation.protocol import RecordOptions, Trace
from snnc.simulation.reference import ReferenceSimulator
from tests.spiking_graphs import (
    as_float,
    assert_same_outputs,
    graphs,
    plain_graphs,
    random_graph,
    random_inputs,
)

pytestmark = pytest.mark.usefixtures("shared_images")


def everything(graph: snn.SnnGraph) -> RecordOptions:
    names = tuple(node.name for node in graph if not isinstance(node, snn.Readout))
    return RecordOptions(states=True, activity=True, trains=names)


def assert_equal(expected: Trace, found: Trace) -> None:
    for kind in ("counts", "potentials", "trains"):
        one, two = getattr(expected, kind), getattr(found, kind)
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name], err_msg=f"{kind} of {name}")
    assert expected.activity.keys() == found.activity.keys()
    for name, activity in expected.activity.items():
        for field in ("events", "units", "bits"):
            np.testing.assert_array_equal(
                getattr(activity, field), getattr(found.activity[name], field), err_msg=f"{field} of {name}"
            )
    assert_same_outputs(found, expected)


@settings(max_examples=30)
@given(graph=graphs(), threads=st.integers(1, 3), batch=st.integers(1, 9), kept=st.booleans())
def test_bit_exact(graph: snn.SnnGraph, threads: int, batch: int, kept: bool) -> None:
    x = random_inputs(graph, batch, 7)
    record = everything(graph) if kept else RecordOptions(states=True, activity=True)
    expected = ReferenceSimulator().run(graph, x, graph.timesteps, record)
    assert_equal(expected, NumbaSimulator(threads).run(graph, x, graph.timesteps, record))


@settings(max_examples=15)
@given(graph=graphs(), data=st.data())
def test_continues_from_given_spikes(graph: snn.SnnGraph, data: st.DataObject) -> None:
    """Layer by layer, as a pass that corrects one population after the other does."""
    x = random_inputs(graph, 5, 3)
    whole = NumbaSimulator(1).run(graph, x, graph.timesteps, everything(graph))
    populations = [node.name for node in graph.of_type(snn.IntegrateFire)]
    frontier = data.draw(st.lists(st.sampled_from(populations), unique=True))
    until = data.draw(
        st.sampled_from([name for name in populations if name not in frontier] or [*graph.outputs])
    )
    kinds = data.draw(st.sampled_from([np.int8, np.int16, np.int32, np.int64, np.float32]))
    given_trains = {name: whole.trains[name].astype(kinds) for name in frontier}
    record = RecordOptions(states=True, trains=(until,), until=(until,))
    for simulator in (ReferenceSimulator(), NumbaSimulator(2)):
        part = simulator.run(graph, x, graph.timesteps, record, given=given_trains)
        if until in graph.outputs:
            name = graph.output_names[graph.outputs.index(until)]
            np.testing.assert_array_equal(part.outputs[name], whole.outputs[name])
            continue
        assert not part.outputs
        np.testing.assert_array_equal(part.trains[until], whole.trains[until])
        np.testing.assert_array_equal(part.potentials[until], whole.potentials[until])


def test_trains_are_narrow() -> None:
    graph = random_graph(0, neuron=Neuron(levels=3), timesteps=2)
    trace = NumbaSimulator(1).run(graph, random_inputs(graph, 3, 0), 2, everything(graph))
    populations = graph.of_type(snn.IntegrateFire)
    assert {trace.trains[node.name].dtype for node in populations} == {np.dtype(np.int8)}
    assert {trace.trains[node.name].dtype for node in graph.of_type(snn.Linear)} <= {
        np.dtype(np.int16),
        np.dtype(np.int32),
    }


@pytest.mark.parametrize(
    ("kind", "shape", "settings"),
    [
        (snn.Slice, (2, 3), {"start": (1, 0), "stop": (3, 6), "step": (1, 2)}),
        (snn.Pad, (5, 9), {"before": (1, 2), "after": (0, 1)}),
    ],
)
def test_values_of_two_axes(kind: Any, shape: tuple[int, int], settings: dict[str, Any]) -> None:
    count = math.prod(shape)
    weight = (np.arange(3 * count).reshape(3, count) % 251 - 125).astype(np.int8)
    graph = snn.SnnGraph(
        name="two axes",
        nodes=(
            snn.Encode(name="x", shape=(24,), scale=1.0),
            snn.Reshape(name="two axes", inputs=("x",), shape=(4, 6)),
            kind(name="moved", inputs=("two axes",), shape=shape, **settings),
            snn.Reshape(name="flat", inputs=("moved",), shape=(count,)),
            snn.Linear(name="all", inputs=("flat",), shape=(3,), weight=weight),
            snn.Readout(name="y", inputs=("all",), shape=(3,), bias=np.zeros(3, np.int32)),
        ),
        outputs=("y",),
        timesteps=2,
    )
    graph.verify()
    x, record = random_inputs(graph, 5, 7), everything(graph)
    assert_equal(ReferenceSimulator().run(graph, x, 2, record), NumbaSimulator(1).run(graph, x, 2, record))


@settings(max_examples=15)
@given(graph=plain_graphs(), threads=st.integers(1, 2))
def test_float_networks_agree(graph: snn.SnnGraph, threads: int) -> None:
    """With a power of two as the unit, float32 is exact, too."""
    x = random_inputs(graph, 5, 7)
    floats = as_float(graph)
    record = everything(graph)
    expected = ReferenceSimulator().run(floats, x, graph.timesteps, record)
    assert_equal(expected, NumbaSimulator(threads).run(floats, x, graph.timesteps, record))


def test_a_partly_quantised_network_runs_in_integers_up_to_the_frontier() -> None:
    graph = random_graph(5, neuron=Neuron())
    first, second = graph.of_type(snn.IntegrateFire)[:2]
    behind = graph.nodes[: graph.nodes.index(first) + 1]
    floats = as_float(graph)
    mixed = floats.with_nodes((*behind, *floats.nodes[len(behind) :]))
    x = random_inputs(graph, 4, 1)
    record = RecordOptions(states=True, trains=(first.name,), until=(first.name,))
    part = NumbaSimulator(1).run(mixed, x, graph.timesteps, record)
    whole = ReferenceSimulator().run(graph, x, graph.timesteps, everything(graph))
    assert part.trains[first.name].dtype == np.int8
    np.testing.assert_array_equal(part.potentials[first.name], whole.potentials[first.name])
    rest = NumbaSimulator(1).run(
        mixed,
        x,
        graph.timesteps,
        RecordOptions(trains=(second.name,), until=(second.name,)),
        given=part.trains,
    )
    assert rest.trains[second.name].dtype == np.float32
    np.testing.assert_array_equal(rest.trains[second.name], whole.trains[second.name])


def test_the_oracle_is_exact_on_a_partly_quantised_network() -> None:
    """Potentials beyond 2^24 are no float32, whatever is not quantised yet behind them."""
    graph = random_graph(5, neuron=Neuron(levels=1, count_memory=False))
    first = graph.of_type(snn.IntegrateFire)[0]
    large = first.with_(v_init=first.v_init + 2**26 + 1, threshold=np.full_like(first.threshold, 3))
    behind = graph.nodes[: graph.nodes.index(first)]
    floats = as_float(graph)
    mixed = floats.with_nodes((*behind, large, *floats.nodes[len(behind) + 1 :]))
    assert not mixed.integer
    x = random_inputs(graph, 4, 1)
    record = RecordOptions(states=True, trains=(first.name,), until=(first.name,))
    expected = ReferenceSimulator().run(mixed, x, graph.timesteps, record)
    found = NumbaSimulator(1).run(mixed, x, graph.timesteps, record)
    assert (expected.potentials[first.name] % 2).any()
    np.testing.assert_array_equal(expected.potentials[first.name], found.potentials[first.name])
    np.testing.assert_array_equal(expected.trains[first.name], found.trains[first.name])


def test_potentials_beyond_32_bits_are_refused() -> None:
    graph = random_graph(1)
    node = graph.of_type(snn.IntegrateFire)[0]
    huge = node.with_(
        threshold=np.full_like(node.threshold, 2**31 - 1), v_init=np.full_like(node.v_init, 2**31 - 1)
    )
    unproved = snn.SnnGraph(
        name="unproved",
        nodes=tuple(huge if other is node else other for other in graph),
        outputs=graph.outputs,
        timesteps=4,
    )
    with pytest.raises(InputError, match=rf"{node.name}.*32 bits"):
        NumbaSimulator(1).run(unproved, random_inputs(graph, 1, 0), 4)


@pytest.mark.parametrize("train", [np.full(3, 0.5), np.full(3, 2**40), np.full(3, np.nan)])
def test_given_values_that_are_no_spikes_are_refused(train: np.ndarray) -> None:
    graph = random_graph(1)
    node = graph.of_type(snn.IntegrateFire)[0]
    values = np.broadcast_to(train[0], (4, 2, *node.shape))
    with pytest.raises(InputError, match=node.name):
        NumbaSimulator(1).run(graph, random_inputs(graph, 2, 0), 4, given={node.name: values})


def test_no_images_give_no_answers() -> None:
    graph = random_graph(2)
    x = random_inputs(graph, 1, 0)[:0]
    trace = NumbaSimulator(2).run(graph, x, 4, RecordOptions(states=True, activity=True))
    assert trace.logits.shape == (0, *graph[graph.output].shape)
    assert all(activity.units.sum() == 0 for activity in trace.activity.values())
    assert len(trace.activity) == len(graph.of_type(snn.IntegrateFire))


def test_activity_is_counted_although_it_was_not_asked_for_before() -> None:
    graph = random_graph(2)
    x = random_inputs(graph, 2, 0)
    simulator = NumbaSimulator(1)
    assert not simulator.run(graph, x, 4).activity
    assert len(simulator.run(graph, x, 4, RecordOptions(activity=True)).activity) == len(
        graph.of_type(snn.IntegrateFire)
    )


@pytest.mark.parametrize("steps", [1, 4])
def test_counts_without_potentials(steps: int) -> None:
    graph = random_graph(3, timesteps=steps)
    q = random_inputs(graph, 3, 1)
    both = NumbaSimulator(1).run(graph, q, steps, RecordOptions(states=True))
    counts = NumbaSimulator(1).run(graph, q, steps, RecordOptions(states=True, potentials=False))
    assert both.potentials.keys() == both.counts.keys() == counts.counts.keys()
    assert not counts.potentials
    for name, expected in both.counts.items():
        np.testing.assert_array_equal(counts.counts[name], expected)


def test_threads_must_be_positive() -> None:
    with pytest.raises(UsageError, match="threads"):
        NumbaSimulator(0)


@pytest.mark.parametrize(
    ("kind", "most"), [(np.int8, 1), (np.int8, 127), (np.int16, 32767), (np.int32, 2**31 - 1)]
)
@pytest.mark.parametrize("neurons", [1, TALLIED - 1, TALLIED + 37])
def test_what_is_sent_is_counted_exactly(kind: type[np.signedinteger[Any]], most: int, neurons: int) -> None:
    spikes = np.random.default_rng(neurons).integers(-most - 1, most + 1, (3, 4, neurons)).astype(kind)
    spikes[0, 0, 0] = np.iinfo(kind).min
    found = [np.ones(neurons, np.int64) for _ in range(3)]
    tally(spikes, 3, *found)
    sent = np.abs(spikes[:, :3].astype(np.int64))
    for counted, expected in zip(found, (sent != 0, sent, np.bitwise_count(sent)), strict=True):
        np.testing.assert_array_equal(counted - 1, expected.sum(axis=(0, 1)))
