"""The ONNX forms of a network give the outputs of the oracle, bit for bit."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings

from snnc.artefact import Artefact
from snnc.artefact.model_builder import tensor_names
from snnc.backends.golden import make_golden
from snnc.backends.spiking_onnx.forms import checked, inline, scan, unroll
from snnc.ir.batch import Batch
from snnc.ir.neuron import Schedule
from snnc.ir.snn import IntegrateFire, Linear, SnnGraph
from snnc.simulation.reference import ReferenceSimulator
from tests.spiking_graphs import graphs, random_graph


def run(model: object, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    content = model.SerializeToString()  # type: ignore[attr-defined]
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return [np.asarray(y) for y in session.run(None, feeds)]


@settings(max_examples=15)
@given(graph=graphs())
def test_every_form_is_bit_exact(graph: SnnGraph) -> None:
    golden = make_golden(Artefact(graph))
    model = Artefact(graph).model()
    steps = graph.timesteps + graph.settle_steps
    for form in (inline(model), unroll(model, steps), scan(model)):
        assert not form.functions
        rows = golden.x.arrays.values() if isinstance(golden.x, Batch) else [golden.x]
        given = dict(zip(tensor_names(graph).inputs, rows, strict=True))
        expected = golden.y.arrays.values() if isinstance(golden.y, Batch) else [golden.y]
        for found, y in zip(run(checked(form), given), expected, strict=True):
            np.testing.assert_array_equal(found, y)


@pytest.mark.parametrize("schedule", Schedule)
@pytest.mark.parametrize("timesteps", [1, 7])
def test_t_stays_an_input(schedule: Schedule, timesteps: int) -> None:
    graph = random_graph(6, schedule=schedule)
    golden = make_golden(Artefact(graph))
    expected = ReferenceSimulator().run(graph, golden.q, timesteps).logits
    assert (expected != golden.y).any()
    model = Artefact(graph).model()
    feeds = {"x": golden.x, "T": np.asarray(timesteps, np.int64)}
    for form in (inline(model), scan(model)):
        np.testing.assert_array_equal(run(form, feeds)[0], expected)


def test_the_unrolled_form_has_no_loop() -> None:
    model = Artefact(random_graph(2, settle_steps=1)).model()
    assert "Loop" in {node.op_type for node in inline(model).graph.node}
    flat = unroll(model, 5)
    assert not {"Loop", "Scan"} & {node.op_type for node in flat.graph.node}
    assert [entry.name for entry in flat.graph.input] == ["x"]


@pytest.mark.parametrize("name", ["steps", "first step", "one step", "{}@0", "{}@@1"])
def test_a_network_may_use_the_names_that_the_forms_make_up(name: str) -> None:
    graph = random_graph(2, flat=True, blocks=1)
    population, current = graph.of_type(IntegrateFire)[0], graph.of_type(Linear)[0]
    new = name.format(population.name)
    graph = graph.replacing(
        {
            current.name: current.with_(name=new),
            population.name: population.with_(inputs=(new,)),
        }
    )
    golden = make_golden(Artefact(graph))
    model = Artefact(graph).model()
    for form in (unroll(model, graph.timesteps), scan(model)):
        np.testing.assert_array_equal(run(checked(form), {"x": golden.x})[0], golden.y)
