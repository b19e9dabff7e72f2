"""The oracle's own properties: the neuron's equation, the schedules, the ANN dialect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.errors import InputError
from snnc.ir import ann
from snnc.ir.geometry import Window
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import Encode, IntegrateFire, SnnGraph
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.arrays import convolve
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator, encode, fire
from snnc.source.ann_session import AnnSession
from tests.ann_graphs import HALVE, Builder, residual_network
from tests.spiking_graphs import random_graph, random_inputs


def population(
    neuron: Neuron, threshold: int = 10, bias: int = 0, v_init: int = 5, **more: object
) -> IntegrateFire:
    return IntegrateFire(
        name="p",
        inputs=("c",),
        shape=(1,),
        threshold=np.array([threshold], np.int32),
        bias=np.array([bias], np.int32),
        v_init=np.array([v_init], np.int32),
        spike_scale=np.ones(1, np.float32),
        neuron=neuron,
        **more,  # type: ignore[arg-type]
    )


def run(
    node: IntegrateFire, current: list[int], timesteps: int, schedule: Schedule = Schedule.SYNCHRONOUS
) -> list[int]:
    spikes, _ = fire(node, np.array(current, np.int64).reshape(-1, 1, 1), timesteps, schedule)
    return [int(s) for s in spikes.ravel()]


def test_a_plain_neuron_rounds_a_constant_current_down_from_rest_and_to_nearest_from_half() -> None:
    plain = Neuron(count_memory=False)
    assert sum(run(population(plain, v_init=0), [9] * 4, 4)) == 3  # 36 / 10
    assert sum(run(population(plain, v_init=5), [9] * 4, 4)) == 4


def test_a_signed_neuron_takes_an_early_spike_back_but_never_more_than_it_sent() -> None:
    assert run(population(Neuron(), v_init=0), [10, -15, -15, 0], 4) == [1, -1, 0, 0]


def test_a_negative_threshold_holds_the_correction_back() -> None:
    node = population(Neuron(), v_init=0, negative_threshold=np.array([8], np.int32))
    assert run(node, [10, -5, -5, 0], 4) == [1, 0, -1, 0]


def test_two_spikes_a_step_catch_up() -> None:
    assert run(population(Neuron(), v_init=0), [0, 0, 25, 0], 4) == [0, 0, 1, 1]
    assert run(population(Neuron(spikes_per_step=2), v_init=0), [0, 0, 25, 0], 4) == [0, 0, 2, 0]


def test_bias_stops_with_the_input_but_settling_goes_on() -> None:
    node = population(Neuron(), bias=10, v_init=0)
    assert run(node, [15, 0, 0, 0], 2) == [1, 1, 1, 0][:4] or run(node, [15, 0, 0, 0], 2) == [1, 1, 0, 0]
    assert sum(run(node, [15, 0, 0, 0], 2)) == 2  # capacity T M = 2


currents = st.lists(st.integers(-40, 40), min_size=1, max_size=9)


@given(currents, st.integers(1, 3), st.sampled_from([1, 2, None]), st.integers(-5, 5))
def test_counts_stay_between_zero_and_capacity(
    current: list[int], levels: int, spikes: int | None, bias: int
) -> None:
    node = population(Neuron(levels, spikes), bias=bias)
    counts = np.cumsum(run(node, current, len(current)))
    assert counts.min() >= 0
    assert counts.max() <= len(current) * levels


@given(currents, st.integers(1, 3), st.integers(-5, 5))
def test_graded_and_barrier_counts_are_the_quantised_activation(
    current: list[int], levels: int, bias: int
) -> None:
    steps = len(current)
    total = 5 + sum(current) + steps * bias
    expected = int(np.clip(total // 10, 0, steps * levels))
    graded = population(Neuron(levels, None), bias=bias)
    assert sum(run(graded, current, steps)) == expected
    for neuron in (Neuron(levels), Neuron(levels, count_memory=False)):
        barrier = population(neuron, bias=bias)
        assert sum(run(barrier, current, steps, Schedule.LAYERWISE)) == expected


@given(st.integers(0, 10_000), st.sampled_from([1, 3]), st.sampled_from([1, 2]), st.sampled_from([1, 2]))
def test_convolution_equals_its_sum(seed: int, kernel: int, stride: int, dilation: int) -> None:
    random = np.random.default_rng(seed)
    window = Window((kernel, kernel), (stride, stride), (1, 0, 2, 1), (dilation, dilation))
    x, w = random.integers(-9, 9, (2, 4, 7, 6)), random.integers(-9, 9, (6, 2, kernel, kernel))
    y = convolve(x, w, window, groups=2)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 1)))
    for o, i, j in random.integers(0, (6, *y.shape[2:]), (5, 3)):
        group = slice(0, 2) if o < 3 else slice(2, 4)
        total = sum(
            (padded[:, group, i * stride + k * dilation, j * stride + m * dilation] * w[o, :, k, m]).sum(
                axis=1
            )
            for k in range(kernel)
            for m in range(kernel)
        )
        assert (y[:, o, i, j] == total).all()


@pytest.mark.parametrize("pool", [False, True])
def test_the_ann_dialect_agrees_with_onnxruntime(pool: bool) -> None:
    graph = residual_network(3, pool=pool)
    x = np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
    names = [node.name for node in graph]
    _, values = run_ann(graph, x, names)
    for name, value in AnnSession(graph, names).run(x).items():
        np.testing.assert_allclose(values[name], value, rtol=1e-4, atol=1e-5)


def test_what_a_padding_reads_can_be_asked_for_beside_what_comes_after() -> None:
    b = Builder(0)
    padded = b.add(
        ann.Pad(
            name="pad",
            inputs=(b.relu("relu", b.conv("conv", "x", 4)),),
            shape=(4, 9, 8),
            before=(0, 1, 0),
            after=(0, 0, 0),
        )
    )
    graph = b.graph(b.add(ann.AveragePool(name="pool", inputs=(padded,), shape=(4, 4, 4), window=HALVE)))
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    output, values = run_ann(graph, x, ["relu"])
    found = AnnSession(graph, ["relu", "pool"]).run(x)
    np.testing.assert_allclose(found["relu"], values["relu"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["pool"], output, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["conv:weight", "weight:conv", "in:", "value:conv", "out:relu", "bias:conv"])
def test_nodes_of_any_name_run_in_onnxruntime(name: str) -> None:
    b = Builder(0)
    graph = b.graph(b.relu(name, b.norm("relu", b.conv("conv", "x", 2))))
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    found = AnnSession(graph, [name]).run(x)[name]
    np.testing.assert_allclose(found, run_ann(graph, x)[0], rtol=1e-4, atol=1e-5)


def test_encoding_rounds_half_to_even_and_clips() -> None:
    node = Encode(name="x", shape=(4,), scale=2.0, limit=3)
    assert encode(node, np.array([[1.0, 3.0, -5.0, 99.0]], np.float32)).tolist() == [[0, 2, -2, 3]]


def test_given_trains_replace_a_simulation_of_the_prefix() -> None:
    graph = random_graph(1)
    q = random_inputs(graph, 3, 0)
    names = tuple(node.name for node in graph.of_type(IntegrateFire))
    simulator = ReferenceSimulator()
    whole = simulator.run(graph, q, 4, RecordOptions(trains=names))
    resumed = simulator.run(graph, q, 4, given={name: whole.trains[name] for name in names})
    assert np.array_equal(whole.logits, resumed.logits)


def test_wrong_inputs_are_refused() -> None:
    graph: SnnGraph = random_graph(1)
    q = random_inputs(graph, 2, 0)
    simulator = ReferenceSimulator()
    with pytest.raises(InputError, match="quantised integers"):
        simulator.run(graph, q.astype(np.float32), 4)
    with pytest.raises(InputError, match="do not fit"):
        simulator.run(graph, q[:, :, :-1], 4)
    with pytest.raises(InputError, match="at least 1"):
        simulator.run(graph, q, 0)
    with pytest.raises(InputError, match="proved not to overflow"):
        simulator.run(graph, q, graph.max_timesteps + 1)
    with pytest.raises(InputError, match="stopped before the read-out"):
        _ = simulator.run(graph, q, 2, RecordOptions(until=(graph.nodes[1].name,))).logits
