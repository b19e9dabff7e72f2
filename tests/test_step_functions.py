"""Populations whose count follows a step function: what they compute, everywhere, and what they refuse."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snnc
from snnc.analysis.costs import payload
from snnc.artefact import Artefact, load, save
from snnc.backends import load_backend, load_simulator
from snnc.backends.deployment import deploy, verify
from snnc.backends.numba_cpu.execution.even_steps import EvenSteps
from snnc.backends.numba_cpu.execution.step_functions import Buckets
from snnc.compiler import Options, convert
from snnc.errors import InputError, UsageError
from snnc.ir.bounds import step_bounds
from snnc.ir.graph import IntArray
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.parser import parse_graph
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.ir.text import arrays_of, print_exact
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator, fire
from snnc.simulation.single_pass import counted, counted_input, problem
from tests.onnx_models import model, node
from tests.spiking_graphs import random_graph, random_inputs, stepping_graphs, with_step_functions
from tests.test_equivalence import assert_same

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def population(
    points: list[list[int]], values: list[int], *, neuron: Neuron, channels: int = 1
) -> IntegrateFire:
    ones = np.ones(channels, np.int32)
    return IntegrateFire(
        name="n",
        inputs=("i",),
        shape=(channels,),
        threshold=ones,
        bias=0 * ones,
        v_init=0 * ones,
        spike_scale=ones.astype(np.float32),
        neuron=neuron,
        breakpoints=np.array(points, np.int32),
        step_values=np.array(values, np.int32),
    )


@given(
    points=st.lists(st.integers(-50, 50), min_size=1, max_size=9).map(sorted),
    currents=st.lists(st.integers(-40, 40), min_size=4, max_size=4),
    schedule=st.sampled_from(Schedule),
    data=st.data(),
)
def test_the_count_is_the_step_function_of_all_that_arrived(
    points: list[int], currents: list[int], schedule: Schedule, data: st.DataObject
) -> None:
    size = len(points) + 1
    values = data.draw(st.lists(st.integers(-4, 4), min_size=size, max_size=size))
    node = population([points], values, neuron=Neuron(levels=2, spikes_per_step=None))
    spikes, potential = fire(node, np.array(currents).reshape(4, 1, 1), 4, schedule)
    wanted = values[sum(point <= sum(currents) for point in points)]
    assert spikes.sum() == wanted
    assert potential.item() == sum(currents)


def test_a_limit_holds_back_what_does_not_fit() -> None:
    node = population([[5, 6, 7, 8]], [0, 1, 2, 3, 4], neuron=Neuron(levels=2, spikes_per_step=1))
    spikes, _ = fire(node, np.array([9, 0, -9, 0]).reshape(4, 1, 1), 4, Schedule.SYNCHRONOUS)
    assert spikes.ravel().tolist() == [2, 2, -2, -2]


@settings(max_examples=4)
@given(graph=stepping_graphs())
def test_all_simulators_agree(graph: SnnGraph) -> None:
    assert_same(graph, random_inputs(graph, 3, 5), graph.timesteps)


@pytest.mark.parametrize("timesteps", [1, 3])
@pytest.mark.parametrize("ends", ["within", "unreachable", "everywhere"])
def test_many_breakpoints_are_looked_up(timesteps: int, ends: str) -> None:
    """Breakpoints that no potential reaches are none, however far away: the others are told apart."""
    rng = np.random.default_rng(5)
    graph = random_graph(7, timesteps=timesteps, neuron=Neuron(), blocks=1)

    def stepped(node: IntegrateFire) -> IntegrateFire:
        apart = max(8, int(node.threshold.max()) * (timesteps + 1) // 128)
        jitter = rng.integers(0, apart // 2, (node.channels, 255))
        points = apart * np.arange(-127, 128) + jitter
        points[:, 1::16] = points[:, ::16]  # some are equal
        low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
        if ends == "unreachable":
            points[: node.channels // 2, :9], points[::2, 200:] = low, high
        elif ends == "everywhere":
            points[:, :128], points[:, 128:] = low, high
        spikes = None if timesteps == 1 else 1
        return node.with_(
            neuron=Neuron(levels=255, spikes_per_step=spikes),
            negative_threshold=None,
            breakpoints=points.astype(np.int32),
            step_values=np.arange(-90, 166, dtype=np.int32),
        )

    graph = replace(graph.map(IntegrateFire, stepped), max_timesteps=timesteps)
    q = random_inputs(graph, 5, 2)
    found: list[bool] = []
    made = Buckets.of

    def watched(points: IntArray, values: IntArray, reach: int, padded: int) -> Buckets | None:
        buckets = made(points, values, reach, padded)
        found.append(buckets is not None)
        return buckets

    with patch.object(Buckets, "of", watched):
        expected = assert_same(graph, q, timesteps)
        alone = load_simulator("numba", 1).run(graph, q, timesteps)
    for name, values in expected.outputs.items():
        assert np.array_equal(alone.outputs[name], values)
    assert len(found) >= 2
    assert all(found)


@pytest.mark.parametrize("timesteps", [1, 3])
@pytest.mark.parametrize("limited", [False, True])
def test_steps_that_are_evenly_apart_are_computed(timesteps: int, limited: bool) -> None:
    rng = np.random.default_rng(6)
    graph = random_graph(7, timesteps=timesteps, neuron=Neuron(), blocks=1)

    def stepped(node: IntegrateFire) -> IntegrateFire:
        apart = rng.uniform(1, 2, node.channels) * int(node.threshold.max()) * (timesteps + 1) / 128
        points = np.ceil((np.arange(-60, 61) - rng.random()) * np.maximum(apart, 1)[:, None])
        return node.with_(
            neuron=Neuron(levels=255, spikes_per_step=1 if limited else None),
            negative_threshold=None,
            breakpoints=points.astype(np.int32),
            step_values=np.arange(-50, 72, dtype=np.int32),
        )

    graph = replace(graph.map(IntegrateFire, stepped), max_timesteps=timesteps)
    with patch.object(Buckets, "of", side_effect=AssertionError("looked up")):
        assert_same(graph, random_inputs(graph, 5, 2), timesteps)


@settings(max_examples=200)
@given(
    first=st.integers(-(10**7), 10**7).map(lambda n: n / 16),
    apart=st.integers(16, 5 * 10**5).map(lambda n: n / 16),
    count=st.integers(1, 255),
    moved=st.lists(st.tuples(st.integers(0, 254), st.integers(-2, 2)), max_size=3),
    base=st.integers(-300, 300),
)
def test_even_steps_are_those_of_their_breakpoints(
    first: float, apart: float, count: int, moved: list[tuple[int, int]], base: int
) -> None:
    """Whatever is not a line, as after some breakpoints moved, is found out or computed right."""
    points = np.ceil(first + apart * np.arange(count)).astype(np.int64)
    for place, distance in moved:
        points[place % count] += distance
    points = np.sort(points).astype(np.int32)[None]
    values = np.arange(base, base + count + 1, dtype=np.int32)
    found = EvenSteps.of(points, values, 16)
    assert found is not None or moved
    if found is None:
        return
    near = (points[0].astype(np.int64) + np.arange(-2, 3)[:, None]).ravel()
    v = np.concatenate([near, [-(2**31), 0, 2**31 - 1]])
    origin, factor = found.fields[:, 0]
    counts = found.base + ((v - origin) * factor).clip(0, found.last).astype(np.int64)
    np.testing.assert_array_equal(counts, values[np.searchsorted(points[0], v, side="right")])


@pytest.mark.parametrize("values", [[0, 1, 1], [0, -1, -2], [0, 2, 4]])
def test_steps_of_other_heights_are_not_even(values: list[int]) -> None:
    assert EvenSteps.of(np.array([[0, 10]], np.int32), np.array(values, np.int32), 16) is None


def from_end_to_end(schedule: Schedule) -> SnnGraph:
    """Return a network whose graded neurons go from ``-T M`` to ``T M`` in one step."""
    graph = random_graph(3, timesteps=3, neuron=Neuron(spikes_per_step=None), schedule=schedule, blocks=1)

    def stepped(node: IntegrateFire) -> IntegrateFire:
        theta = int(node.threshold.max())
        return node.with_(
            v_init=np.zeros_like(node.v_init),
            neuron=Neuron(levels=20, spikes_per_step=None),
            breakpoints=np.array([[0, theta, 2 * theta]], np.int32),
            step_values=np.array([60, -60, 60, -60], np.int32),
        )

    return replace(graph.map(IntegrateFire, stepped), max_timesteps=3)


@pytest.mark.parametrize("schedule", Schedule)
def test_a_graded_count_may_go_from_one_end_to_the_other_in_one_step(schedule: Schedule) -> None:
    graph = from_end_to_end(schedule)
    q = random_inputs(graph, 4, 1)
    assert_same(graph, q, 3)
    if schedule is Schedule.SYNCHRONOUS:
        first = graph.of_type(IntegrateFire)[0].name
        sent = load_simulator("reference").run(graph, q, 3, RecordOptions(trains=(first,))).trains[first]
        assert np.abs(sent).max() == step_bounds(graph, 3)[first] == 120
        assert payload(graph, 3) == "levels:120"


@needs_gcc
def test_c_goes_from_one_end_to_the_other(tmp_path: Path) -> None:
    deploy(Artefact(from_end_to_end(Schedule.SYNCHRONOUS)), load_backend("c99"), tmp_path / "bundle")
    verdict = verify(tmp_path / "bundle").verdict
    assert verdict is not None
    assert verdict.wrong == 0


@needs_gcc
@settings(max_examples=2)
@given(graph=stepping_graphs())
def test_c_agrees(graph: SnnGraph, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("c")
    backend = load_backend("c99")
    deploy(Artefact(graph), backend, folder / "bundle")
    verdict = verify(folder / "bundle").verdict
    assert verdict is not None
    assert verdict.wrong == 0


@given(graph=stepping_graphs())
@settings(max_examples=4)
def test_file_and_text_hold_every_bit(graph: SnnGraph, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("a") / "a.snn.onnx"
    save(Artefact(graph), path)
    text = print_exact(graph)
    assert print_exact(load(path).graph) == text
    assert print_exact(parse_graph(text, arrays_of(graph))) == text


@pytest.mark.parametrize("schedule", Schedule)
def test_one_pass_over_counts_is_the_same(schedule: Schedule) -> None:
    graph = with_step_functions(
        random_graph(3, neuron=Neuron(spikes_per_step=None), schedule=schedule, blocks=2), 3, share=1
    )
    graph = graph.map(
        IntegrateFire, lambda node: node.with_(neuron=replace(node.neuron, spikes_per_step=None))
    )
    assert problem(graph) is None
    q = random_inputs(graph, 4, 1)
    once = counted(graph, graph.timesteps)
    states = RecordOptions(states=True)
    whole = ReferenceSimulator().run(graph, q, graph.timesteps, states)
    one = ReferenceSimulator().run(once, counted_input(q, graph.timesteps), 1, states)
    for name, counts in whole.counts.items():
        assert np.array_equal(one.counts[name], counts)
    with pytest.raises(UsageError, match="alone"):
        counted(graph, graph.timesteps + 1)


@pytest.mark.parametrize("simulator", ["reference", "numba", "onnx"])
def test_other_steps_are_refused(simulator: str) -> None:
    graph = with_step_functions(random_graph(4, blocks=0), 4, share=1)
    with pytest.raises(InputError, match=f"for T = {graph.timesteps} alone"):
        load_simulator(simulator, 1).run(graph, random_inputs(graph, 1, 0), graph.timesteps - 1)


@pytest.mark.parametrize("target", ["nir", "loihi", "akida"])
def test_targets_without_step_functions_refuse_them(target: str) -> None:
    graph = with_step_functions(random_graph(4, blocks=0), 4, share=1)
    reasons = [found.reason for found in load_backend(target).check(graph)]
    assert any("fire by 'steps'" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"breakpoints": np.array([[3, 1]], np.int32)}, "ascend"),
        ({"breakpoints": np.array([[1.0, 3.0]], np.float32)}, "integers"),
        ({"step_values": np.array([0, 1], np.int32)}, "no step function"),
        ({"step_values": None}, "come together"),
        ({"breakpoints": np.zeros((3, 2), np.int32)}, "for 1 channels"),
        ({"neuron": Neuron(count_memory=False)}, "memory"),
        ({"potential_unit": np.ones(1, np.float32)}, "one number each"),
        (
            {"potential_unit": np.zeros(1, np.float32), "potential_zero": np.zeros(1, np.float32)},
            "must be positive",
        ),
    ],
)
def test_broken_step_functions_are_named(change: dict[str, object], reason: str) -> None:
    node = population([[1, 3]], [0, 1, 2], neuron=Neuron(levels=2)).with_(**change)
    problem_found = node.verify([(1,)])
    assert problem_found is not None
    assert reason in problem_found


def test_more_steps_than_t_times_m_are_refused(tmp_path: Path) -> None:
    graph = with_step_functions(random_graph(4, blocks=0), 4, share=1)
    (node, *_) = graph.of_type(IntegrateFire)
    changed = node.with_(step_values=node.step_values * 99 + 1000)  # type: ignore[operator]
    found = graph.replacing({node.name: changed}).problem()
    assert found is not None
    assert "more than T M" in found


@pytest.mark.parametrize(("preset", "timesteps"), [("one-step", 1), ("precise", 1), ("balanced", 4)])
def test_networks_in_floats_run_on_the_cpu_as_in_the_reference(preset: str, timesteps: int) -> None:
    random = np.random.default_rng(0)
    weights = {"a": random.standard_normal((6, 12)), "b": random.standard_normal((12, 3))}
    nodes = [node("MatMul", "x a", "h"), node("Tanh", "h", "t"), node("MatMul", "t b", "y")]
    proto = model(nodes, ["n", 6], {name: value.astype(np.float32) for name, value in weights.items()})
    x = random.standard_normal((60, 6)).astype(np.float32)
    options = Options(timesteps, preset, precision="float32", threads=1)
    artefact = convert(proto, x, options).artefact
    assert not artefact.graph.integer
    found, expected = (snnc.simulate(artefact, x, backend=b).logits for b in ("numba", "reference"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert len(np.unique(expected)) > 100
