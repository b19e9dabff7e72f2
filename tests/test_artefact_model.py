"""The ONNX form of a spiking network: valid, self-contained, and the same function bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from snnc.artefact import Artefact
from snnc.artefact.functions import DIGITS, Carrier, function, texts
from snnc.artefact.model_builder import tensor_names
from snnc.artefact.precision import node_digits, plan_digits
from snnc.errors import InternalError, TargetError
from snnc.ir.batch import Batch, Rows, joined, rows_of
from snnc.ir.bounds import EXACT_FLOAT32, provable_timesteps
from snnc.ir.geometry import Window
from snnc.ir.graph import NumberArray
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import (
    Convolution,
    CurrentMaxPool,
    Encode,
    IntegrateFire,
    Linear,
    Readout,
    Reshape,
    SnnGraph,
    SumPool,
)
from snnc.simulation.protocol import RecordOptions, Trace
from snnc.simulation.reference import ReferenceSimulator, encode, encode_all
from tests.spiking_graphs import NEURONS, as_float, graphs, random_graph, random_inputs

ONLY_ERRORS = 3


def run(model: onnx.ModelProto, optimised: bool = True, **feeds: NumberArray) -> list[Any]:
    """Return the outputs of a model in plain onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ONLY_ERRORS
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))


def analogue(graph: SnnGraph, batch: int, seed: int = 0) -> Rows:
    """Return inputs ``x`` of a network, (batch, *shape) float32, beyond the clip here and there."""
    q = random_inputs(graph, batch, seed)
    found = {}
    for node in graph.encoders:
        noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (batch, *node.shape))
        found[node.name] = (1.1 * node.scale * (rows_of(q, node.name) + noise)).astype(np.float32)
    return joined(found)


def oracle(graph: SnnGraph, x: Rows, timesteps: int) -> Trace:
    q = encode_all(graph, x)
    return ReferenceSimulator().run(graph, q, timesteps, RecordOptions(states=True))


def assert_same(graph: SnnGraph, x: Rows, timesteps: int, optimised: bool = True) -> int:
    """Compare the model with the oracle, (N, v) and outputs, and return the number of distinct answers."""
    names = tensor_names(graph)
    rows = x.arrays.values() if isinstance(x, Batch) else [x]
    given = dict(zip(names.inputs, rows, strict=True))
    values = run(Artefact(graph).model(states=True), optimised, **given, **{names.steps: np.array(timesteps)})
    answers, states = values[: len(names.outputs)], values[len(names.outputs) :]
    expected = oracle(graph, x, timesteps)
    for y, wanted in zip(answers, expected.outputs.values(), strict=True):
        same_bits(y, wanted)
    for node, count, v in zip(graph.of_type(IntegrateFire), states[::2], states[1::2], strict=True):
        same_bits(count, expected.counts[node.name])
        same_bits(v, expected.potentials[node.name])
    return len(np.unique(answers[0], axis=0))


def same_bits(found: NumberArray, expected: NumberArray) -> None:
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=60)
@given(graph=graphs(), timesteps=st.sampled_from((1, 2, 3, 4, 8)), optimised=st.booleans())
def test_onnxruntime_gives_the_same_bits(graph: SnnGraph, timesteps: int, optimised: bool) -> None:
    steps = graph.timesteps if graph.only_timesteps else timesteps
    assert_same(graph, analogue(graph, 8), steps, optimised)


@pytest.mark.parametrize("timesteps", [1, 2, 4, 8])
@pytest.mark.parametrize("settle_steps", [0, 1, 2, 3])
def test_every_duration_on_distinct_inputs(timesteps: int, settle_steps: int) -> None:
    graph = random_graph(settle_steps + 4, settle_steps=settle_steps, negative=True)
    x = analogue(graph, 32)
    assert len(np.unique(x.reshape(32, -1), axis=0)) == 32
    assert assert_same(graph, x, timesteps) > 15


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("schedule", Schedule)
def test_every_neuron(neuron: Neuron, schedule: Schedule) -> None:
    graph = random_graph(11, neuron=neuron, schedule=schedule, negative=True)
    assert assert_same(graph, analogue(graph, 32), 4) > 20


@settings(max_examples=20)
@given(graph=graphs())
def test_the_model_is_valid_onnx(graph: SnnGraph) -> None:
    model = Artefact(graph).model()
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    for value, node in zip(inferred.graph.output, graph.readouts.values(), strict=True):
        assert [size.dim_value for size in value.type.tensor_type.shape.dim] == [0, *node.shape]
    *inputs, steps = (value.name for value in model.graph.input)
    assert steps == "T"
    assert inputs == (["x"] if len(graph.inputs) == 1 else [node.name for node in graph.inputs])


def test_timesteps_have_a_default_and_batches_any_size() -> None:
    graph = random_graph(4, timesteps=3)
    model = Artefact(graph).model()
    x = analogue(graph, 5)
    whole = run(model, x=x)[0]
    same_bits(whole, oracle(graph, x, 3).logits)
    same_bits(np.concatenate([run(model, x=row[None])[0] for row in x]), whole)
    assert run(model, x=x[:0])[0].shape == (0, 7)


def test_another_runtime_agrees() -> None:
    graph = random_graph(6, settle_steps=1, neuron=Neuron(), blocks=1)
    x = analogue(graph, 4)
    y = ReferenceEvaluator(Artefact(graph).model()).run(None, {"x": x, "T": np.array(2)})
    assert isinstance(y, list)
    np.testing.assert_array_equal(y[0], oracle(graph, x, 2).logits)


def test_what_is_constant_in_time_stands_before_the_loop() -> None:
    model = Artefact(random_graph(1)).model()
    outside = [node.op_type for node in model.graph.node]
    inside = [
        node.op_type for node in next(n for n in model.graph.node if n.op_type == "Loop").attribute[0].g.node
    ]
    assert any(kind.startswith("Encode") for kind in outside)
    assert any(kind.startswith("Convolution") for kind in outside)
    assert not any(kind.startswith("Encode") for kind in inside)
    assert not any(
        n.op_type == "Loop" for n in Artefact(random_graph(1, schedule=Schedule.LAYERWISE)).model().graph.node
    )


def test_names_that_the_model_needs_itself_can_be_names_of_nodes() -> None:
    graph = random_graph(2)
    taken = ("x", "T", "y", "zero", "t", "batch size", "T as carried", "K")
    names = dict(zip((node.name for node in graph), taken, strict=False))
    renamed = [
        node.with_(name=names.get(node.name, node.name), inputs=tuple(names.get(n, n) for n in node.inputs))
        for node in graph
    ]
    graph = graph.with_nodes(renamed, (names.get(graph.output, graph.output),))
    graph.verify()
    assert_same(graph, analogue(graph, 8), 4)


def wide_graph() -> SnnGraph:
    """Return a network whose first currents lie far above 2^24, but below 2^31 in two steps."""
    rng = np.random.default_rng(0)
    weight = rng.integers(121, 128, (4, 32, 3, 3)).astype(np.int8)
    threshold = np.full(4, 4_500_001, np.int32)
    x = Encode(name="input", shape=(32, 6, 6), scale=0.5)
    current = Convolution(
        name="conv", inputs=("input",), shape=(4, 4, 4), weight=weight, window=Window((3, 3))
    )
    highest = CurrentMaxPool(name="max", inputs=("conv",), shape=(4, 3, 3), window=Window((2, 2)))
    total = SumPool(name="sum", inputs=("max",), shape=(4, 2, 2), window=Window((2, 2)))
    population = IntegrateFire(
        name="population",
        inputs=("sum",),
        shape=total.shape,
        threshold=threshold,
        bias=threshold // 1000,
        v_init=threshold // 2,
        spike_scale=np.ones(4, np.float32),
        neuron=Neuron(levels=64),
    )
    flat = Reshape(name="flat", inputs=("population",), shape=(16,))
    product = Linear(
        name="linear",
        inputs=("flat",),
        shape=(7,),
        weight=rng.integers(-127, 128, (7, 16)).astype(np.int8),
    )
    readout = Readout(name="classes", inputs=("linear",), shape=(7,), bias=np.arange(7, dtype=np.int32))
    nodes = (x, current, highest, total, population, flat, product, readout)
    graph = SnnGraph(name="wide", nodes=nodes, outputs=("classes",), timesteps=2)
    graph = replace(graph, max_timesteps=provable_timesteps(graph))
    graph.verify()
    return graph


def test_currents_beyond_the_exact_range_of_float32_are_exact() -> None:
    graph = wide_graph()
    x = (np.random.default_rng(1).integers(1200, 2048, (32, 32, 6, 6)) * 0.5).astype(np.float32)
    q = encode(graph.encoder, x)
    trace = ReferenceSimulator().run(graph, q, 2, RecordOptions(trains=("conv", "sum"), until=("sum",)))
    for train in trace.trains.values():
        assert (train.astype(np.float32).astype(np.int64) != train).mean() > 0.3
    assert {digits for digits, _ in node_digits(graph).values()} == {1, 2}
    assert assert_same(graph, x, 2) > 20


@given(weight_sum=st.integers(1, 2**23), largest=st.integers(1, 2**31 - 1))
def test_digits_make_float32_exact(weight_sum: int, largest: int) -> None:
    plan = plan_digits(weight_sum, largest)
    if plan is None:
        most = max(DIGITS)
        assert weight_sum * 2 ** -(-largest.bit_length() // most) > EXACT_FLOAT32
        return
    digits, radix = plan
    if digits == 1:
        assert weight_sum * largest <= EXACT_FLOAT32
        return
    assert weight_sum * radix <= EXACT_FLOAT32
    for x in (largest, -largest):
        rest = x
        for _ in range(digits - 1):
            rest = (rest - rest % radix) // radix
        assert abs(rest) <= radix


@pytest.mark.parametrize("digits", [2, 3, 4])
@pytest.mark.parametrize("operation", ["Convolution", "Linear", "SumPool"])
def test_every_number_of_digits(operation: str, digits: int) -> None:
    """Force more digits than needed, in a network where one would do."""
    name = f"{operation}Of{digits}Digits"
    graph = random_graph(7 if operation != "SumPool" else 8, blocks=4)
    model = Artefact(graph).model()
    changed = 0
    loop = next(node for node in model.graph.node if node.op_type == "Loop").attribute[0].g
    for node in (*model.graph.node, *loop.node):
        if node.op_type == operation:
            node.op_type = name
            node.attribute.append(onnx.helper.make_attribute("radix", 16))
            changed += 1
    assert changed
    model.functions.append(function(name, graph.schedule, Carrier.INTEGER))
    x = analogue(graph, 8)
    same_bits(run(model, x=x)[0], oracle(graph, x, graph.timesteps).logits)


def test_every_function_can_be_read() -> None:
    for schedule in Schedule:
        for carrier in Carrier:
            for name in texts(schedule, carrier):
                assert function(name, schedule, carrier).name == name


def test_sums_that_no_digits_make_exact_are_refused() -> None:
    rng = np.random.default_rng(0)
    huge = Linear(
        name="huge",
        inputs=("input",),
        shape=(2,),
        weight=rng.integers(32_000, 32_768, (2, 1500)).astype(np.int16),
    )
    nodes = (
        Encode(name="input", shape=(1500,), scale=1.0, limit=40),
        huge,
        Readout(name="y", inputs=("huge",), shape=(2,), bias=np.zeros(2, np.int32)),
    )
    graph = SnnGraph(name="huge", nodes=nodes, outputs=("y",), timesteps=1, max_timesteps=1)
    graph.verify()
    with pytest.raises(TargetError, match=r"Linear 'huge' has sums too large"):
        Artefact(graph).model()


def test_integers_without_proof_are_refused() -> None:
    with pytest.raises(InternalError, match="not proved"):
        Artefact(replace(random_graph(0), max_timesteps=0)).model()


@pytest.mark.parametrize("schedule", Schedule)
@pytest.mark.parametrize("seed", range(4, 10))
def test_float_networks_of_dyadic_numbers_give_the_same_bits(seed: int, schedule: Schedule) -> None:
    graph = as_float(random_graph(seed, schedule=schedule, negative=True))
    assert not graph.integer
    assert assert_same(graph, analogue(graph, 32), 4) > 20


@pytest.mark.parametrize("seed", range(4))
def test_float_networks_agree_within_a_tolerance(seed: int) -> None:
    graph = as_float(random_graph(seed, neuron=Neuron(), blocks=1), unit=0.0137)
    x = analogue(graph, 32)
    y, *states = run(Artefact(graph).model(states=True), x=x)
    expected = oracle(graph, x, graph.timesteps)
    flipped = [
        np.mean(count != expected.counts[node.name])
        for node, count in zip(graph.of_type(IntegrateFire), states[::2], strict=True)
    ]
    assert max(flipped) < 0.005
    same = np.full(32, True)
    for node, count in zip(graph.of_type(IntegrateFire), states[::2], strict=True):
        same &= (count == expected.counts[node.name]).reshape(32, -1).all(axis=1)
    assert same.mean() > 0.25
    np.testing.assert_allclose(y[same], expected.logits[same], rtol=1e-4, atol=1e-4)
