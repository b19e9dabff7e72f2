"""Delays and recurrence over time: what they mean, and that every simulator gives the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.artefact import Artefact, save
from snnc.artefact.reader import read_nodes
from snnc.artefact.writer import build_model
from snnc.backends import BACKENDS, load_backend, load_simulator
from snnc.backends.numba_cpu import NumbaSimulator
from snnc.cli import main
from snnc.errors import UsageError, VerificationError
from snnc.ir import snn
from snnc.ir.bounds import run_bounds
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.parser import parse_graph
from snnc.ir.text import arrays_of, print_exact
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from snnc.simulation.stepping import Stepper, circle
from tests.c99_bundles import emitted, needs_gcc, run_selftest
from tests.temporal_graphs import leaky_as_float, random_frames, temporal_graphs

REFERENCE = ReferenceSimulator()
STATES = RecordOptions(states=True)


def echo(steps: int = 1, **changes: object) -> snn.SnnGraph:
    """Return a neuron that hears its own spikes, some steps later."""
    one = np.ones(1, np.int32)
    settings: dict[str, object] = {"source": "p", "steps": steps, "shape": (1,), **changes}
    delay = snn.Delay(name="d", **settings)  # type: ignore[arg-type]
    back = np.full((1, delay.channels), 2, np.int8)
    nodes = (
        snn.Encode(name="x", shape=(1,), scale=1.0, presented=snn.Presented.SEQUENCE),
        delay,
        snn.Linear(name="in", inputs=("x",), shape=(1,), weight=np.array([[2]], np.int8)),
        snn.Linear(name="back", inputs=("d",), shape=(1,), weight=back),
        snn.IntegrateFire(
            name="p",
            inputs=("in", "back"),
            shape=(1,),
            threshold=2 * one,
            bias=0 * one,
            v_init=0 * one,
            spike_scale=np.ones(1, np.float32),
            neuron=Neuron(count_memory=False),
        ),
        snn.Linear(name="out", inputs=("p",), shape=(1,), weight=np.array([[1]], np.int8)),
        snn.Readout(name="y", inputs=("out",), shape=(1,), bias=0 * one),
    )
    graph = snn.SnnGraph(name="echo", timesteps=6, outputs=("y",), nodes=nodes, max_timesteps=64)
    graph.verify()
    return graph


@pytest.mark.parametrize("simulator", ["reference", "numba", "onnx"])
@pytest.mark.parametrize(
    ("steps", "expected"), [(1, [1] * 6), (2, [1, 0, 1, 0, 1, 0]), (4, [1, 0, 0, 0, 1, 0])]
)
def test_a_spike_comes_back(simulator: str, steps: int, expected: list[int]) -> None:
    graph = echo(steps)
    q = np.array([1, 0, 0, 0, 0, 0], np.int32).reshape(1, 6, 1)
    record = RecordOptions(states=True, trains=() if simulator == "onnx" else ("p", "d"))
    trace = load_simulator(simulator, 1).run(graph, q, 6, record)
    assert trace.counts["p"].item() == sum(expected)
    assert trace.logits.item() == sum(expected)
    if record.trains:
        assert trace.trains["p"].ravel().tolist() == expected
        assert trace.trains["d"].ravel().tolist() == [0] * steps + expected[: 6 - steps]


def recorded(graph: snn.SnnGraph) -> RecordOptions:
    """Return a request for all that a simulator can keep."""
    names = tuple(node.name for node in graph if not isinstance(node, snn.Readout))
    return RecordOptions(states=True, activity=True, trains=names)


@settings(max_examples=15)
@given(graph=temporal_graphs(delays=True), batch=st.integers(1, 4), threads=st.integers(1, 2))
def test_simulators_agree(graph: snn.SnnGraph, batch: int, threads: int) -> None:
    q = random_frames(graph, batch, 7)
    expected = REFERENCE.run(graph, q, graph.timesteps, recorded(graph))
    found = load_simulator("numba", threads).run(graph, q, graph.timesteps, recorded(graph))
    for name, y in expected.outputs.items():
        np.testing.assert_array_equal(found.outputs[name], y)
    assert found.counts.keys() == expected.counts.keys()
    for name, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[name], counts)
        np.testing.assert_array_equal(found.potentials[name], expected.potentials[name])
    assert found.trains.keys() == expected.trains.keys()
    for name, train in expected.trains.items():
        np.testing.assert_array_equal(found.trains[name], train, err_msg=name)
    for name, activity in expected.activity.items():
        np.testing.assert_array_equal(found.activity[name].units, activity.units)
    onnx = load_simulator("onnx").run(graph, q, graph.timesteps, STATES)
    for name, counts in expected.counts.items():
        np.testing.assert_array_equal(onnx.counts[name], counts)
    for name, y in expected.outputs.items():
        np.testing.assert_array_equal(onnx.outputs[name], y)


@settings(max_examples=10)
@given(graph=temporal_graphs(delays=True))
def test_a_step_at_a_time(graph: snn.SnnGraph) -> None:
    q = random_frames(graph, 3, 5)
    expected = REFERENCE.run(graph, q, graph.timesteps, STATES)
    stepper = Stepper(graph, 3, graph.timesteps)
    arrays = q.arrays if hasattr(q, "arrays") else {graph.input.name: q}
    values = {}
    for t in range(graph.timesteps):
        frames = {n.name: arrays[n.name][:, t] if n.varies else arrays[n.name] for n in graph.encoders}
        values = stepper.step(frames)
    for name, node in zip(graph.output_names, graph.outputs, strict=True):
        np.testing.assert_array_equal(values[node], expected.outputs[name])
    for name, v in expected.potentials.items():
        np.testing.assert_array_equal(stepper.potentials[name], v)


@settings(max_examples=10)
@given(graph=temporal_graphs(leaky=True, delays=True))
def test_simulators_agree_before_quantisation(graph: snn.SnnGraph) -> None:
    graph = leaky_as_float(graph)
    graph.verify()
    q = random_frames(graph, 3, 5)
    expected = REFERENCE.run(graph, q, graph.timesteps, STATES)
    found = load_simulator("numba", 1).run(graph, q, graph.timesteps, STATES)
    for name, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[name], counts)


@settings(max_examples=10)
@given(graph=temporal_graphs(delays=True))
def test_the_model_and_the_text_give_the_network_back(graph: snn.SnnGraph) -> None:
    text = print_exact(graph)
    assert print_exact(parse_graph(text, arrays_of(graph))) == text
    back = replace(graph, nodes=read_nodes(build_model(graph)))
    assert print_exact(back) == text


@needs_gcc
@settings(max_examples=3)
@given(graph=temporal_graphs(delays=True))
def test_c_agrees(graph: snn.SnnGraph, tmp_path_factory: pytest.TempPathFactory) -> None:
    run_selftest(emitted(graph, tmp_path_factory.mktemp("c")))


@settings(max_examples=10)
@given(graph=temporal_graphs(leaky=True, delays=True), seed=st.integers(0, 2**20))
def test_potentials_stay_within_their_bounds(graph: snn.SnnGraph, seed: int) -> None:
    bounds = run_bounds(graph, graph.timesteps)
    trace = REFERENCE.run(graph, random_frames(graph, 4, seed), graph.timesteps, STATES)
    for name, v in trace.potentials.items():
        assert np.abs(v.astype(np.int64)).max() <= bounds[name]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"steps": 0}, "0 steps are not 1 to 256"),
        ({"steps": 257}, "257 steps are not 1 to 256"),
        ({"source": "nobody"}, "reads 'nobody', which is not there"),
        ({"source": "in"}, "neither a population nor an input"),
        ({"shape": (2,)}, "and what it delays is"),
    ],
)
def test_what_is_no_delay(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(VerificationError, match=problem):
        echo(**changes)  # type: ignore[arg-type]


def test_delays_are_synchronous() -> None:
    for changed in (replace(echo(), schedule=Schedule.LAYERWISE), replace(echo(), settle_steps=1)):
        still = changed.map(snn.Encode, lambda node: node.with_(presented=snn.Presented.STILL))
        with pytest.raises(VerificationError, match="neither the layerwise schedule nor settle steps"):
            still.verify()


@pytest.mark.parametrize(
    ("target", "profile"),
    [(name, profile) for name in BACKENDS for profile in load_backend(name).capabilities.profiles],
)
def test_every_other_target_refuses(target: str, profile: str) -> None:
    found = load_backend(target, profile).check(echo())
    if target in ("c99", "spiking-onnx"):
        assert not found
    elif target == "nir":  # some profiles' neurons differ, but all delay
        assert not any("Delay" in problem.reason for problem in found)
    else:
        assert any("Delay" in problem.reason for problem in found)


def test_what_is_planned_and_timed() -> None:
    """The plan is that of what runs layer by layer."""
    simulator = load_simulator("numba", 1)
    assert isinstance(simulator, NumbaSimulator)
    text = str(simulator.plan(echo(), 6, 1))
    assert "out" in text
    with pytest.raises(UsageError, match="has delays"):
        simulator.profile(echo(), np.ones((1, 6, 1), np.int32), 6)


@pytest.mark.parametrize("verb", ["report", "bench", "bisect"])
def test_verbs_that_compare_with_a_source(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(Artefact(echo()), tmp_path / "echo.snn.onnx")
    np.savez(tmp_path / "x.npz", x=np.ones((4, 6, 1), np.float32), y=np.zeros(4, np.int64))
    assert main([verb, str(tmp_path / "echo.snn.onnx"), "--data", str(tmp_path / "x.npz")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "was not converted from a network in ONNX" in line


def test_a_network_is_searched_for_delays_once() -> None:
    """A simulator is asked for every row, and small networks take less time than the search did."""
    graph = echo()
    assert circle(graph) == {"d", "p", "back"}
    assert circle(graph) is circle(graph)
