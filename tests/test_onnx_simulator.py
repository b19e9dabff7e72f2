"""The simulator that runs an artefact's model in onnxruntime, against the oracle."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.artefact.writer import build_model
from snnc.backends import onnx_simulator
from snnc.backends.onnx_simulator import OnnxSimulator
from snnc.errors import InputError, UsageError
from snnc.ir.snn import IntegrateFire, SnnGraph, Weighted
from snnc.simulation.protocol import RecordOptions, Simulator, Trace
from snnc.simulation.reference import ReferenceSimulator
from tests.spiking_graphs import as_float, assert_same_outputs, graphs, random_graph, random_inputs


def assert_same_traces(found: Trace, expected: Trace) -> None:
    assert (found.timesteps, found.samples) == (expected.timesteps, expected.samples)
    assert_same_outputs(found, expected)
    for values, wanted in ((found.counts, expected.counts), (found.potentials, expected.potentials)):
        assert list(values) == list(wanted)
        for name, array in wanted.items():
            assert values[name].dtype == array.dtype
            np.testing.assert_array_equal(values[name], array)


@settings(max_examples=30)
@given(graph=graphs(), timesteps=st.sampled_from((1, 2, 4, 8)), states=st.booleans())
def test_it_gives_the_trace_of_the_oracle(graph: SnnGraph, timesteps: int, states: bool) -> None:
    x = random_inputs(graph, 32, 0)
    timesteps = graph.timesteps if graph.only_timesteps else timesteps
    simulator: Simulator = OnnxSimulator(threads=1)
    expected = ReferenceSimulator().run(graph, x, timesteps, RecordOptions(states=states))
    assert_same_traces(simulator.run(graph, x, timesteps, RecordOptions(states=states)), expected)


def test_it_runs_networks_that_are_quantised_in_part() -> None:
    graph = as_float(random_graph(9), unit=1.0)
    odd = {node.name for node in graph.of_type(Weighted)[::2]}

    def round_weight(node: Weighted) -> Weighted:
        return node.with_(weight=node.weight.astype(np.int16)) if node.name in odd else node

    graph = graph.map(Weighted, round_weight)
    graph = graph.map(IntegrateFire, lambda node: node.with_(threshold=node.threshold.astype(np.int32)))
    assert not graph.integer
    x = random_inputs(graph, 32, 0)
    record = RecordOptions(states=True)
    found = OnnxSimulator(1).run(graph, x, 4, record)
    assert_same_traces(found, ReferenceSimulator().run(graph, x, 4, record))
    assert len(np.unique(found.logits, axis=0)) > 20


def test_batches_of_any_size_and_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(2)
    x = random_inputs(graph, 7, 0)
    simulator = OnnxSimulator(1)
    whole = simulator.run(graph, x, 4, RecordOptions(states=True))
    monkeypatch.setattr(onnx_simulator, "WORKING_BYTES", 1)
    assert_same_traces(simulator.run(graph, x, 4, RecordOptions(states=True)), whole)
    assert simulator.run(graph, x[:0], 4).logits.shape == (0, 7)


def test_large_models_go_through_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_simulator, "EXTERNAL_ABOVE", 100)
    graph = random_graph(5, blocks=4)
    x = random_inputs(graph, 4, 0)
    assert_same_traces(OnnxSimulator(1).run(graph, x, 4), ReferenceSimulator().run(graph, x, 4))


def test_a_session_is_built_once_and_goes_with_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def counting(graph: SnnGraph, *, states: bool, encoded: bool) -> onnx.ModelProto:
        built.append(states)
        return build_model(graph, states=states, encoded=encoded)

    monkeypatch.setattr(onnx_simulator, "build_model", counting)
    simulator, graph = OnnxSimulator(1), random_graph(2)
    x = random_inputs(graph, 2, 0)
    for timesteps in (1, 2, 4):
        simulator.run(graph, x, timesteps)
    simulator.run(graph, x, 4, RecordOptions(states=True))
    assert built == [False, True]
    gone = weakref.ref(graph)
    del graph
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "record",
    [RecordOptions(activity=True), RecordOptions(trains=("encode_0",)), RecordOptions(until=("encode_0",))],
)
def test_what_it_cannot_record_is_refused(record: RecordOptions) -> None:
    graph = random_graph(2)
    with pytest.raises(UsageError, match="use the numba or the reference simulator"):
        OnnxSimulator(1).run(graph, random_inputs(graph, 2, 0), 4, record)


def test_given_spikes_are_refused() -> None:
    graph = random_graph(2)
    x = random_inputs(graph, 2, 0)
    with pytest.raises(UsageError, match="runs the whole network"):
        OnnxSimulator(1).run(graph, x, 1, given={"encode_0": x[None]})


def test_more_steps_than_proved_are_refused() -> None:
    graph = random_graph(2)
    with pytest.raises(InputError, match="beyond"):
        OnnxSimulator(1).run(graph, random_inputs(graph, 2, 0), graph.max_timesteps + 1)
