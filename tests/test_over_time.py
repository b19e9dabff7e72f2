"""Networks over time: frames and leaky neurons, the same bits in every simulator and in C."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.artefact.reader import read_nodes
from snnc.artefact.writer import build_model
from snnc.backends import BACKENDS, load_backend, load_simulator
from snnc.errors import InputError, UsageError, VerificationError
from snnc.ir import snn
from snnc.ir.bounds import INT32, run_bounds
from snnc.ir.cut import find_cut
from snnc.ir.neuron import Firing, Neuron, Schedule
from snnc.ir.operations import firing
from snnc.ir.parser import parse_graph
from snnc.ir.snn import Presented
from snnc.ir.text import arrays_of, print_exact
from snnc.numerics.quantisation import quantise_all
from snnc.simulation.protocol import RecordOptions, Trace
from snnc.simulation.reference import ReferenceSimulator, encode
from tests.c99_bundles import emitted, needs_gcc, run_selftest
from tests.spiking_graphs import assert_same_outputs, random_graph, random_inputs
from tests.temporal_graphs import leaky_as_float, random_frames, temporal_graphs, with_frames, with_leaks

STATES = RecordOptions(states=True)
REFERENCE = ReferenceSimulator()


def assert_same_states(found: Trace, expected: Trace) -> None:
    assert found.counts.keys() == expected.counts.keys()
    for name, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[name], counts, err_msg=f"counts of {name}")
        np.testing.assert_array_equal(found.potentials[name], expected.potentials[name], err_msg=name)
    assert_same_outputs(found, expected)


def one_neuron(**changes: object) -> snn.SnnGraph:
    """Return one neuron that reads an input of one value, and the sum of its spikes."""
    one = np.ones(1, np.float32)
    population = snn.IntegrateFire(
        name="p",
        inputs=("w",),
        shape=(1,),
        threshold=one,
        bias=0 * one,
        v_init=0 * one,
        spike_scale=one,
        neuron=Neuron(count_memory=False),
    )
    graph = snn.SnnGraph(
        name="one",
        timesteps=6,
        outputs=("y",),
        nodes=(
            snn.Encode(name="x", shape=(1,), scale=1 / 4, presented=Presented.SEQUENCE),
            snn.ChannelWeight(name="w", inputs=("x",), shape=(1,), weight=one / 4),
            population.with_(**changes),
            snn.ChannelWeight(name="out", inputs=("p",), shape=(1,), weight=one),
            snn.Readout(name="y", inputs=("out",), shape=(1,), bias=0 * one),
        ),
    )
    graph.verify()
    return graph


def spikes(graph: snn.SnnGraph, currents: list[float]) -> list[int]:
    x = np.array(currents, np.float32).reshape(1, -1, 1)
    record = RecordOptions(trains=("p",))
    trace = REFERENCE.run(graph, encode(graph.encoder, x), len(currents), record)
    return [int(s) for s in trace.trains["p"].ravel()]


def vector(value: float) -> np.ndarray:
    return np.full(1, value, np.float32)


@pytest.mark.parametrize(
    ("changes", "currents", "expected"),
    [
        ({"decay": vector(0.5)}, [0.75, 0.75, 0, 0.75, 0.75], [0, 1, 0, 0, 1]),
        ({"reset_to": vector(0)}, [1.75, 0.5, 0.5], [1, 0, 1]),
        ({"reset_to": vector(-0.5)}, [1.75, 1, 0.5], [1, 0, 1]),
        ({"refractory": 2}, [1, 1, 1, 1, 1], [1, 0, 0, 1, 0]),
        ({"synapse_decay": vector(0.5)}, [1, 0, 0.25, 0], [1, 0, 1, 0]),
        ({"reset_by": vector(2)}, [1, 1, 1, 1], [1, 0, 1, 0]),
        (
            {"decay": vector(1), "neuron": Neuron(spikes_per_step=3, count_memory=False)},
            [2.5, 0.5, 9],
            [2, 1, 3],
        ),
    ],
)
def test_what_a_leaky_neuron_does(
    changes: dict[str, object], currents: list[float], expected: list[int]
) -> None:
    graph = one_neuron(**changes)
    assert firing(graph.of_type(snn.IntegrateFire)[0]) is Firing.LEAKY
    assert spikes(graph, currents) == expected
    assert spikes(quantise_all(graph), currents) == expected


def test_what_a_leaky_readout_does() -> None:
    half, one = vector(0.5), vector(1)
    graph = one_neuron(decay=one)
    readout = graph.readout.with_(decay=half, synapse_decay=half, bias=vector(0.25))
    graph = graph.replacing({"y": readout})
    x = np.array([1, 0, 0], np.float32).reshape(1, 3, 1)
    for made in (graph, quantise_all(graph)):
        trace = REFERENCE.run(made, encode(made.encoder, x), 3)
        # The filter gives 1, 1/2, 1/4; the potential 1.25, 1.375, 1.1875.
        assert made.readout.decoded(trace.logits, 3) == pytest.approx(1.1875, abs=1e-3)


def test_a_potential_below_zero_fades() -> None:
    graph = quantise_all(one_neuron(decay=vector(0.5), v_init=vector(-100)))
    trace = REFERENCE.run(graph, np.zeros((1, 64, 1), np.int32), 64, STATES)
    assert trace.potentials["p"].item() == 0


@settings(max_examples=15)
@given(graph=temporal_graphs(), batch=st.integers(1, 5), threads=st.integers(1, 2))
def test_simulators_agree(graph: snn.SnnGraph, batch: int, threads: int) -> None:
    q = random_frames(graph, batch, 7)
    record = RecordOptions(
        states=True, activity=True, trains=tuple(n.name for n in graph if not isinstance(n, snn.Readout))
    )
    expected = REFERENCE.run(graph, q, graph.timesteps, record)
    found = load_simulator("numba", threads).run(graph, q, graph.timesteps, record)
    assert_same_states(found, expected)
    for name, train in expected.trains.items():
        np.testing.assert_array_equal(found.trains[name], train, err_msg=name)
    for name, activity in expected.activity.items():
        np.testing.assert_array_equal(found.activity[name].units, activity.units)
    assert_same_states(load_simulator("onnx").run(graph, q, graph.timesteps, STATES), expected)


@settings(max_examples=10)
@given(graph=temporal_graphs(leaky=True))
def test_simulators_agree_before_quantisation(graph: snn.SnnGraph) -> None:
    graph = leaky_as_float(graph)
    graph.verify()
    q = random_frames(graph, 3, 5)
    expected = REFERENCE.run(graph, q, graph.timesteps, STATES)
    assert_same_states(load_simulator("numba", 1).run(graph, q, graph.timesteps, STATES), expected)


@settings(max_examples=10)
@given(graph=temporal_graphs())
def test_the_model_and_the_text_give_the_network_back(graph: snn.SnnGraph) -> None:
    text = print_exact(graph)
    assert print_exact(parse_graph(text, arrays_of(graph))) == text
    back = replace(graph, nodes=read_nodes(build_model(graph)))
    assert print_exact(back) == text


@settings(max_examples=10)
@given(graph=temporal_graphs(leaky=True), seed=st.integers(0, 2**20))
def test_potentials_stay_within_their_bounds(graph: snn.SnnGraph, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bounds = run_bounds(graph, graph.timesteps)
    assert max(bounds.values()) < INT32
    q = random_frames(graph, 4, seed)
    arrays = q.arrays if hasattr(q, "arrays") else {graph.input.name: q}
    extreme = {
        node.name: np.where(rng.random(arrays[node.name].shape) < 0.5, -node.limit, node.limit).astype(
            np.int32
        )
        for node in graph.encoders
    }
    trace = REFERENCE.run(graph, extreme, graph.timesteps, STATES)
    for name, v in trace.potentials.items():
        assert np.abs(v.astype(np.int64)).max() <= bounds[name]
    for name, y in trace.outputs.items():
        assert np.abs(y.astype(np.int64)).max() <= bounds[graph.outputs[graph.output_names.index(name)]]


@needs_gcc
@settings(max_examples=2)
@given(graph=temporal_graphs())
def test_c_agrees(graph: snn.SnnGraph, tmp_path_factory: pytest.TempPathFactory) -> None:
    run_selftest(emitted(graph, tmp_path_factory.mktemp("c")))


def test_a_bundle_tells_of_frames_and_leaks(tmp_path: Path) -> None:
    graph = with_leaks(random_graph(2, neuron=Neuron(), blocks=1, flat=True), 0)
    graph = with_frames(graph, Presented.SEQUENCE)
    graph = graph.map(snn.Readout, lambda node: node.with_(decay=np.full(node.channels, 2**14, np.int32)))
    folder = emitted(replace(graph, max_timesteps=graph.timesteps), tmp_path)
    told = json.loads((folder / "MANIFEST.json").read_text())
    assert told["input"]["presented"] == "sequence"
    assert told["output"]["leak"]["decay"] == [2**14] * graph.readout.channels
    assert told["output"]["logits"] == "y * scale, float32"
    leaks = [each["leak"] for each in told["neuron"]["settings"]]
    for node, leak in zip(graph.of_type(snn.IntegrateFire), leaks, strict=True):
        assert leak["refractory"] == node.refractory
        assert ("reset_to" in leak) == (node.reset_to is not None)
    guide = next(folder.glob("*.md")).read_text()
    assert "a frame for each step" in guide
    assert "a potential that leaks" in guide


def test_frames_that_add_up_give_the_still_answer() -> None:
    """Nothing limits graded neurons, and the counts follow from the sum of all that arrived."""
    still = random_graph(4, timesteps=4, neuron=Neuron(spikes_per_step=None), flat=True)
    frames = with_frames(still, Presented.ACCUMULATED)
    q = random_inputs(still, 6, 3)
    rng = np.random.default_rng(0)
    shares = rng.multinomial(4, np.full(4, 0.25), size=q.shape)  # of the four that a still input presents
    split = np.moveaxis(shares, -1, 1).astype(np.int32) * q[:, np.newaxis]
    expected = REFERENCE.run(still, q, 4, STATES)
    found = REFERENCE.run(frames, split, 4, STATES)
    np.testing.assert_array_equal(found.logits, expected.logits)
    for name, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[name], counts)


def test_a_frame_for_each_step() -> None:
    graph = with_frames(random_graph(4, flat=True), Presented.SEQUENCE)
    q = random_frames(graph, 2, 0)
    for simulator in ("reference", "numba", "onnx"):
        with pytest.raises(InputError, match="a frame for each step"):
            load_simulator(simulator, 1).run(graph, q[:, :3], 4)
    REFERENCE.run(graph, q[:, :3], 3)
    bound = with_frames(graph, Presented.ACCUMULATED)
    with pytest.raises(InputError, match="runs for T = 4 alone"):
        REFERENCE.run(bound, q[:, :3], 3)


@pytest.mark.parametrize(
    "graph",
    [
        with_leaks(random_graph(3, neuron=Neuron(), blocks=1, flat=True), 1),
        with_frames(random_graph(3, neuron=Neuron(), blocks=1, flat=True), Presented.SEQUENCE),
    ],
)
@pytest.mark.parametrize(
    ("target", "profile"),
    [(name, profile) for name in BACKENDS for profile in load_backend(name).capabilities.profiles],
)
def test_every_other_target_refuses(target: str, profile: str, graph: snn.SnnGraph) -> None:
    found = load_backend(target, profile).check(graph)
    if target in ("c99", "spiking-onnx"):
        assert not found
    else:
        assert any("frames" in problem.reason or "leaky" in problem.reason for problem in found)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"decay": vector(1.5)}, "the decay leaves 0 to 1"),
        ({"decay": vector(np.nan)}, "the decay leaves 0 to 1"),
        ({"synapse_decay": vector(-0.1)}, "the decay of the synapse leaves 0 to 1"),
        ({"decay": np.ones(2, np.float32)}, "does not fit 1 channels"),
        ({"decay": np.ones(1, np.int32)}, "an integer where potentials are"),
        ({"refractory": -1}, "-1 refractory steps"),
        ({"refractory": 1, "neuron": Neuron()}, "neither count memory"),
        ({"reset_to": vector(0), "reset_by": vector(1)}, "nothing is subtracted"),
        ({"reset_by": vector(-1)}, "nothing below zero"),
        ({"fraction_bits": 2}, "fraction bits"),
    ],
)
def test_what_is_no_leaky_neuron(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(VerificationError, match=problem):
        one_neuron(**changes)


def test_leaky_networks_are_synchronous() -> None:
    graph = with_leaks(random_graph(3, flat=True), 1)
    for changed in (replace(graph, schedule=Schedule.LAYERWISE), replace(graph, settle_steps=1)):
        with pytest.raises(VerificationError, match="neither the layerwise schedule nor settle steps"):
            changed.verify()
    with pytest.raises(UsageError, match="cannot learn after its conversion"):
        find_cut(graph)
