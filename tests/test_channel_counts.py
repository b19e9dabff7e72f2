"""Every kind of neuron at numbers of channels around those that vectors hold, in every simulator and in C."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from snnc.artefact import Artefact
from snnc.backends import load_backend, load_simulator
from snnc.backends.deployment import deploy, verify
from snnc.backends.numba_cpu.codegen import neurons
from snnc.ir.bounds import overflow
from snnc.ir.geometry import Window
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import ChannelWeight, Encode, IntegrateFire, Readout, Reshape, SnnGraph, SumPool
from snnc.simulation.protocol import RecordOptions, Trace
from snnc.simulation.reference import ReferenceSimulator
from tests.spiking_graphs import (
    NEURONS,
    as_float,
    random_inputs,
    side_by_side,
    with_large_thresholds,
    with_step_functions,
)
from tests.temporal_graphs import with_leaks

CHANNELS = (1, 15, 16, 17, 33, 64, 130)
LARGE = (Neuron(levels=3), Neuron(levels=3, spikes_per_step=None), Neuron(levels=3, count_memory=False))
ENLARGED, STEPPED = partial(with_large_thresholds, seed=5), partial(with_step_functions, seed=5, share=1)
LEAKING = partial(with_leaks, seed=5)
KINDS: list[tuple[str, Neuron, bool, Callable[[SnnGraph], SnnGraph] | None]] = [
    *((str(neuron), neuron, False, None) for neuron in NEURONS),
    ("negative threshold", Neuron(), True, None),
    *((f"large thresholds, {neuron}", neuron, False, ENLARGED) for neuron in LARGE),
    ("step functions", Neuron(), False, STEPPED),
    ("leaky", Neuron(), False, LEAKING),
]
"""The name of a kind, its neurons, whether they have negative thresholds, and what else is changed."""


class Case:
    """A network, inputs, and what the reference makes of them."""

    def __init__(
        self,
        neuron: Neuron,
        negative: bool,
        change: Callable[[SnnGraph], SnnGraph] | None,
        schedule: Schedule,
    ) -> None:
        graph = side_by_side(3, CHANNELS, neuron, schedule, negative=negative)
        self.graph = graph if change is None else change(graph)
        self.is_changed = change is not None
        self.q = random_inputs(self.graph, 8, 2)
        self.record = RecordOptions(states=True)
        self.expected = self.run(ReferenceSimulator(), self.graph)

    def run(self, simulator: object, graph: SnnGraph) -> Trace:
        trace: Trace = simulator.run(graph, self.q, graph.timesteps, self.record)  # type: ignore[attr-defined]
        return trace


@pytest.fixture(scope="module", params=Schedule, ids=lambda schedule: schedule.value)
def schedule(request: pytest.FixtureRequest) -> Schedule:
    found: Schedule = request.param
    return found


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind[0])
def case(request: pytest.FixtureRequest, schedule: Schedule) -> Case:
    _, neuron, negative, change = request.param
    if not neuron.count_memory and schedule is Schedule.LAYERWISE:
        pytest.skip("the layerwise schedule needs neurons with memory")
    if change is LEAKING and schedule is not Schedule.SYNCHRONOUS:
        pytest.skip("what leaks is synchronous")
    return Case(neuron, negative, change, schedule)


def test_the_networks_put_every_channel_to_the_test(case: Case) -> None:
    populations = case.graph.of_type(IntegrateFire)
    assert sorted({node.channels for node in populations}) == sorted(CHANNELS)
    assert overflow(case.graph, case.graph.timesteps) is None
    for node in populations:
        if node.channels > 1:
            assert len(np.unique(case.expected.counts[node.name])) > 1, "inputs decide how often it fires"
        if case.graph.timesteps == 1:
            assert node.threshold.min() > neurons.LARGEST_THRESHOLD
    assert len(np.unique(case.expected.logits, axis=0)) == len(case.q)


@pytest.mark.parametrize("name", ["numba", "onnx"])
def test_simulators_give_the_bits_of_the_reference(name: str, case: Case) -> None:
    found = case.run(load_simulator(name, 1), case.graph)
    for kind in ("counts", "potentials"):
        one, two = getattr(case.expected, kind), getattr(found, kind)
        assert one.keys() == two.keys()
        for population, values in one.items():
            channels = case.graph[population].channels
            np.testing.assert_array_equal(values, two[population], err_msg=f"{kind} of {channels} channels")
    np.testing.assert_array_equal(case.expected.logits, found.logits)


def test_float_networks_fire_alike(case: Case) -> None:
    if case.is_changed:
        pytest.skip("float32 holds neither such thresholds nor decays exactly, and no step functions")
    graph = as_float(case.graph)
    expected, found = (case.run(one, graph) for one in (ReferenceSimulator(), load_simulator("numba", 1)))
    for population, counts in expected.counts.items():
        np.testing.assert_array_equal(counts, found.counts[population])
        np.testing.assert_array_equal(expected.potentials[population], found.potentials[population])


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_c_gives_the_bits_of_the_reference(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snnc.backends.c99.backend.FLAGS", ("-std=c99", "-O0", "-w"))
    bundle = deploy(Artefact(case.graph), load_backend("c99"), tmp_path / "bundle").directory
    verdict = verify(bundle).verdict
    assert verdict is not None
    assert verdict.wrong == 0


@pytest.mark.parametrize("channels", CHANNELS)
def test_the_pooled_input_of_every_row_is_that_of_the_reference(channels: int) -> None:
    """The input has no padded channels, its sums have."""
    window = Window((4, 4), (4, 4), (0, 0, 0, 0))
    bias = np.arange(2 * channels, dtype=np.int32)
    weight = np.full(2 * channels, 3, np.int16)
    graph = SnnGraph(
        name="pooled",
        nodes=(
            Encode(name="x", shape=(channels, 8, 4), scale=1.0),
            SumPool(name="pool", inputs=("x",), shape=(channels, 2, 1), window=window),
            Reshape(name="flat", inputs=("pool",), shape=(2 * channels,)),
            ChannelWeight(name="w", inputs=("flat",), shape=(2 * channels,), weight=weight),
            Readout(name="y", inputs=("w",), shape=(2 * channels,), bias=bias, scale=1.0),
        ),
        outputs=("y",),
        timesteps=2,
        max_timesteps=2,
    )
    graph.verify()
    q = random_inputs(graph, 5, 1)
    wanted = ReferenceSimulator().run(graph, q, 2).logits
    np.testing.assert_array_equal(load_simulator("numba", 1).run(graph, q, 2).logits, wanted)
