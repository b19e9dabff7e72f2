"""Operation counts against a brute force that sends single events through the network."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.analysis import costs
from snnc.analysis.latency import latency_steps
from snnc.analysis.node_costs import fan_outs
from snnc.ir import ann, snn
from snnc.ir.geometry import Window
from snnc.ir.graph import IntArray, NumberArray
from snnc.ir.neuron import Code, Neuron, Schedule
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator, propagate
from tests.spiking_graphs import graphs, random_graph, random_inputs


def reached(graph: snn.SnnGraph, name: str, *, effective: bool = False) -> IntArray:
    """Return the fan-out of every neuron of a node, (*shape), by sending one event from each in turn.

    ``effective`` leaves out synapses of weight zero.
    """
    shape = graph[name].shape
    size = prod(shape)
    values: dict[str, NumberArray] = {name: np.eye(size, dtype=np.int64).reshape(1, size, *shape)}
    found = np.zeros(size, np.int64)
    senders = snn.IntegrateFire | snn.Function  # of events of their own
    for node in graph:
        if not set(node.inputs) & set(values) or isinstance(node, senders | snn.Readout):
            continue
        read: list[NumberArray] = [
            values[other] if other in values else np.zeros((1, size, *graph[other].shape), np.int64)
            for other in node.inputs
        ]
        match node:
            case snn.Weighted():
                alive = (node.weight != 0) | (not effective)
                synapses = node.with_(weight=alive.astype(np.int64))
                found += propagate(synapses, read).reshape(size, -1).sum(axis=1)
            case snn.CurrentMaxPool():
                pass
            case snn.CountMaxPool():
                pool = snn.SumPool(name="", inputs=node.inputs, shape=node.shape, window=node.window)
                values[node.name] = propagate(pool, read)
            case _:
                values[node.name] = propagate(node, read)
    return found.reshape(shape)


@settings(max_examples=30)
@given(graphs())
def test_fan_outs_equal_single_events(graph: snn.SnnGraph) -> None:
    maps = fan_outs(graph)
    senders = snn.IntegrateFire | snn.Function | snn.Encode
    for node in (node for node in graph if isinstance(node, senders)):
        np.testing.assert_array_equal(maps[node.name], reached(graph, node.name), str(node.name))


def pruned(graph: snn.SnnGraph, seed: int) -> snn.SnnGraph:
    """Return the network with most of its weights zero."""
    random = np.random.default_rng(seed)
    changed = {
        node.name: node.with_(weight=node.weight * (random.random(node.weight.shape) < 0.3).astype(np.int8))
        for node in graph
        if isinstance(node, snn.Weighted)
    }
    return graph.replacing(changed)


@settings(max_examples=30)
@given(graphs(), st.integers(0, 1000))
def test_effective_fan_outs_leave_out_weights_of_zero(graph: snn.SnnGraph, seed: int) -> None:
    sparse = pruned(graph, seed)
    maps = fan_outs(sparse, effective=True)
    for node in sparse.of_type(snn.IntegrateFire):
        np.testing.assert_array_equal(maps[node.name], reached(sparse, node.name, effective=True))
    for encode in sparse.of_type(snn.Encode):
        assert maps[encode.name].sum() == reached(sparse, encode.name, effective=True).sum()


@settings(max_examples=10)
@given(st.integers(0, 1000), st.integers(1, 6))
def test_operations_equal_a_walk_over_every_event(seed: int, timesteps: int) -> None:
    graph = random_graph(seed, settle_steps=seed % 3)
    populations = graph.of_type(snn.IntegrateFire)
    record = RecordOptions(activity=True, trains=tuple(node.name for node in populations))
    trace = ReferenceSimulator().run(graph, random_inputs(graph, 3, seed), timesteps, record)
    found = costs.count(graph, trace.activity, 3, timesteps)
    acs = macs = units = events = 0
    for node in populations:
        train = np.abs(trace.trains[node.name]).astype(int)
        reach = reached(graph, node.name)
        units += int(train.sum())
        events += int(np.count_nonzero(train))
        if node.neuron.levels == 1 and node.neuron.spikes_per_step is not None:
            acs += int((train * reach).sum())
        else:
            macs += int(((train > 0) * reach).sum())
    (encode,) = graph.of_type(snn.Encode)
    places = sum(prod(node.shape) for node in populations) * 3 * (timesteps + graph.settle_steps)
    assert found.effective_synops <= found.synops
    assert found.acs == acs / 3
    assert found.macs == macs / 3 + reached(graph, encode.name).sum()
    assert found.synops == (acs + macs) / 3
    assert found.spikes_per_neuron_per_step == pytest.approx(units / places)
    assert found.events_per_neuron_per_step == pytest.approx(events / places)


def one_layer(neuron: Neuron, **window: tuple[int, ...]) -> snn.SnnGraph:
    """Return a network of one population on 4x4 that one 3x3 convolution to 5 channels reads."""
    geometry = Window((3, 3), **window)  # type: ignore[arg-type]
    shape = (5, *geometry.output_size(4, 4))
    ones = np.ones(1, np.int32)
    nodes: tuple[snn.SnnNode, ...] = (
        snn.Encode(name="x", shape=(1, 4, 4), scale=1.0),
        snn.ChannelWeight(name="w", inputs=("x",), shape=(1, 4, 4), weight=np.ones(1, np.int8)),
        snn.IntegrateFire(
            name="p",
            inputs=("w",),
            shape=(1, 4, 4),
            threshold=ones,
            bias=0 * ones,
            v_init=0 * ones,
            spike_scale=np.ones(1, np.float32),
            neuron=neuron,
        ),
        snn.Convolution(
            name="c", inputs=("p",), shape=shape, weight=np.ones((5, 1, 3, 3), np.int8), window=geometry
        ),
        snn.Reshape(name="f", inputs=("c",), shape=(prod(shape),)),
        snn.Readout(name="r", inputs=("f",), shape=(prod(shape),), bias=np.zeros(prod(shape), np.int32)),
    )
    graph = snn.SnnGraph(name="one", nodes=nodes, outputs=("r",), timesteps=2)
    graph.verify()
    return graph


def test_spikes_at_the_border_reach_less() -> None:
    reach = fan_outs(one_layer(Neuron(), pads=(1, 1, 1, 1)))["p"]
    assert reach[0].tolist() == [[20, 30, 30, 20], [30, 45, 45, 30], [30, 45, 45, 30], [20, 30, 30, 20]]


def test_what_is_pooled_first_is_multiplied_once() -> None:
    window = Window((2, 2), (2, 2))
    q = snn.Encode(name="q", shape=(3, 4, 4), scale=1.0)
    mean = snn.SumPool(name="mean", inputs=("q",), shape=(3, 2, 2), window=window)
    weight = np.ones((5, 3, 1, 1), np.int8)
    current = snn.Convolution(
        name="i", inputs=("mean",), shape=(5, 2, 2), weight=weight, window=Window((1, 1))
    )
    readout = snn.Readout(name="y", inputs=("i",), shape=(5, 2, 2), bias=np.zeros(5, np.int32))
    graph = snn.SnnGraph(name="mean", nodes=(q, mean, current, readout), outputs=("y",), timesteps=1)
    assert fan_outs(graph)["q"].sum() == 5 * 3 * 2 * 2


def test_what_no_window_reads_costs_nothing() -> None:
    reach = fan_outs(one_layer(Neuron(), strides=(2, 2)))["p"]
    assert reach[0].tolist() == [[5, 5, 5, 0], [5, 5, 5, 0], [5, 5, 5, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("neuron", "unary", "payload"),
    [
        (Neuron(), True, "signed"),
        (Neuron(count_memory=False), True, "binary"),
        (Neuron(spikes_per_step=2), True, "signed"),
        (Neuron(spikes_per_step=None), False, "levels:2"),
        (Neuron(levels=3, code=Code.BINARY), False, "levels:3"),
        (Neuron(levels=3, spikes_per_step=None), False, "levels:6"),
    ],
)
def test_unit_spikes_add_and_graded_ones_multiply(neuron: Neuron, unary: bool, payload: str) -> None:
    graph = one_layer(neuron, pads=(1, 1, 1, 1))
    x = np.full((1, 1, 4, 4), 3, np.int32)
    trace = ReferenceSimulator().run(graph, x, 2, RecordOptions(activity=True))
    found = costs.count(graph, trace.activity, 1, 2)
    assert costs.payload(graph, 2) == payload
    first = 16
    assert found.first_layer_macs == first
    assert (found.macs == first) == unary
    assert (found.acs > 0) == unary
    assert found.synops == found.acs + found.macs - first > 0


def test_different_payloads_are_all_named() -> None:
    graph = one_layer(Neuron(), pads=(1, 1, 1, 1))
    second = graph["p"].with_(name="q", neuron=Neuron(levels=3))
    nodes = list(graph.nodes)
    nodes.insert(3, second)
    assert costs.payload(graph.with_nodes(nodes), 4) == "signed+levels:3"


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_latency_is_told_by_the_schedule(blocks: int) -> None:
    plain = random_graph(3, flat=True, blocks=blocks, settle_steps=2)
    barrier = random_graph(3, flat=True, blocks=blocks, schedule=Schedule.LAYERWISE)
    assert latency_steps(plain, 5) == 7
    assert latency_steps(barrier, 5) == 5 * (blocks + 1)


def test_multiplications_of_the_source_are_counted_as_is_the_custom() -> None:
    ones = np.ones((8, 2, 3, 3), np.float32)
    nodes = (
        ann.Input(name="x", shape=(4, 6, 6)),
        ann.Convolution(
            name="grouped",
            inputs=("x",),
            shape=(8, 6, 6),
            weight=ones,
            bias=np.zeros(8, np.float32),
            window=Window((3, 3), pads=(1, 1, 1, 1)),
            groups=2,
        ),
        ann.Reshape(name="flat", inputs=("grouped",), shape=(288,)),
        ann.Linear(
            name="fc",
            inputs=("flat",),
            shape=(10,),
            weight=np.ones((10, 288), np.float32),
            bias=np.zeros(10, np.float32),
        ),
    )
    graph = ann.AnnGraph(name="tiny", nodes=nodes, outputs=("fc",))
    graph.verify()
    assert costs.macs_of_ann(graph) == {"grouped": 8 * 2 * 9 * 36, "fc": 2880}
