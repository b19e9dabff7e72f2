"""Recurrent networks: read as their steps, told by their gates, converted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from snnc.compensation import level_fitter
from snnc.compiler import Options, convert, examine
from snnc.diagnostics import UNSUPPORTED_ATTRIBUTE, UNSUPPORTED_STRUCTURE
from snnc.frontend import check_onnx, read_onnx, reader, region_reader
from snnc.frontend.host.dividing import HostMode
from snnc.frontend.operators import operator_of
from snnc.frontend.recurrent.layer import DEFAULTS, GATES
from snnc.ir import ann
from snnc.ir.ann import Levelled
from snnc.ir.batch import Batch
from snnc.numerics.step_functions import Measured, carried
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.reference import ReferenceSimulator
from snnc.source.ann_session import to_onnx
from snnc.trial import require_lowering
from tests.onnx_models import check_equal, model, node, read_again, saved
from tests.recurrent_cells import Cell


def recurrent_network(
    kind: str = "RNN",
    *,
    steps: int = 5,
    size: int = 4,
    hidden: int = 3,
    layers: int = 2,
    direction: str = "bidirectional",
    batch: int | str = "N",
    transposed: bool = True,
    whole: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """Return stacked recurrent layers over (batch, steps, size), or (steps, batch, size).

    The answer is a linear map of the last step, or of all steps.
    """
    rng = np.random.default_rng(7)
    count, gates = 1 + (direction == "bidirectional"), len(GATES[kind])
    nodes = [node("Transpose", "x", "t0", perm=[1, 0, 2])] if transposed else [node("Identity", "x", "t0")]
    constants: dict[str, Any] = {}
    read = size
    for k in range(layers):
        constants[f"W{k}"] = rng.normal(size=(count, gates * hidden, read)).astype(np.float32) / read**0.5
        constants[f"R{k}"] = rng.normal(size=(count, gates * hidden, hidden)).astype(np.float32) / hidden**0.5
        constants[f"B{k}"] = rng.normal(size=(count, 2 * gates * hidden)).astype(np.float32) / 4
        constants[f"s{k}"] = np.array([0, 0, count * hidden])
        nodes += [
            helper.make_node(
                kind,
                [f"t{k}", f"W{k}", f"R{k}", f"B{k}"],
                [f"y{k}"],
                f"layer{k}",
                hidden_size=hidden,
                direction=direction,
                **attributes,
            ),
            node("Transpose", f"y{k}", f"p{k}", perm=[0, 2, 1, 3]),
            node("Reshape", f"p{k} s{k}", f"t{k + 1}"),
        ]
        read = count * hidden
    constants["V"] = rng.normal(size=(read, 3)).astype(np.float32)
    if whole:
        nodes += [node("MatMul", f"t{layers} V", "m"), node("Transpose", "m", "y", perm=[1, 0, 2])]
    else:
        constants["last"] = np.array(steps - 1)
        nodes += [node("Gather", f"t{layers} last", "z", axis=0), node("MatMul", "z V")]
    shape = [batch, steps, size] if transposed else [steps, batch, size]
    return model(nodes, shape, constants)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_recurrent_network_is_read(direction: str, whole: bool, tmp_path: Path) -> None:
    curves = ["Relu"] * (1 + (direction == "bidirectional"))
    source = check_equal(tmp_path, recurrent_network(direction=direction, whole=whole, activations=curves))
    rectifiers = source.graph.of_type(ann.Relu)
    # Only the last step of a reversed layer is the first that it runs.
    assert len(rectifiers) == (2 if direction == "reverse" and not whole else rectifiers_of(direction, whole))
    assert {each.origin for each in rectifiers} == {"layer0", "layer1"}
    assert all(each.name.startswith(f"{each.origin}/") for each in rectifiers)


def rectifiers_of(direction: str, whole: bool) -> int:
    """Return how many steps, of five, reach the answer."""
    if direction == "forward" or whole:
        return 10 * (1 + (direction == "bidirectional"))
    return 10 + 5 + 1


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_gates_are_read(kind: str, tmp_path: Path) -> None:
    """With rectifiers for curves, which are exact."""
    curves = ["Relu"] * 2 * len(DEFAULTS[kind])
    source = check_equal(tmp_path, recurrent_network(kind, activations=curves))
    names = {each.name for each in source.graph}
    gates = {"LSTM": ("input", "forget", "output", "cell"), "GRU": ("update", "reset", "hidden")}[kind]
    assert names > {f"layer1/forward/2/{gate}" for gate in gates}


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_all_steps_share_their_weights(kind: str, tmp_path: Path) -> None:
    steps, gates = 256 if kind == "RNN" else 40, len(GATES[kind])
    curves = ["Relu"] * len(DEFAULTS[kind])
    proto = recurrent_network(
        kind, steps=steps, hidden=128, layers=1, direction="forward", activations=curves
    )
    source = read_onnx(saved(tmp_path, proto))
    layers = [item for item in source.graph.of_type(ann.Linear) if item.origin == "layer0"]
    # The first step reads no state, so that nothing is forgotten or reset.
    assert len(layers) == gates * (2 * steps - 1) - (kind != "RNN")
    assert len({id(item.weight) for item in layers}) == 2 * gates
    found = to_onnx(source.graph, [source.graph.output])
    weights = [tensor for tensor in found.graph.initializer if tensor.name.startswith("weight:layer0")]
    assert len(weights) == 2 * gates


STATES = {
    "Gather": [node("Gather", "h place", "z", axis=0)],
    "Slice and Squeeze": [node("Slice", "h first after", "s"), node("Squeeze", "s front", "z")],
    "Squeeze": [node("Squeeze", "h", "z")],
    "ReduceSum": [node("ReduceSum", "h front", "z", keepdims=0)],
}


@pytest.mark.parametrize("batch", ["N", 5, 1])
@pytest.mark.parametrize("how", STATES)
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("place", [0, -1])
def test_the_state_of_one_layer_is_picked(
    kind: str, how: str, place: int, batch: int | str, tmp_path: Path
) -> None:
    """In front of the final state, (1, batch, hidden), stand the directions, and not the rows."""
    cell = Cell(kind, size=4, hidden=3)
    layer = helper.make_node(kind, ["t", "W", "R", "B"], ["", "h"], "layer")
    layer.attribute.extend(cell.node.attribute)
    nodes = [node("Transpose", "x", "t", perm=[1, 0, 2]), layer, *STATES[how], node("MatMul", "z V")]
    constants = {name: cell.values[name] for name in "WRB"} | {
        "place": np.array(place),
        "first": np.array([place]),
        "after": np.array([place + 1 or 2**31 - 1]),
        "front": np.array([0]),
        "V": np.random.default_rng(4).normal(size=(3, 2)).astype(np.float32),
    }
    path = saved(tmp_path, model(nodes, [batch, 4, 4], constants))
    source = read_onnx(path)
    x = np.random.default_rng(6).normal(size=(5, 4, 4)).astype(np.float32)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    parts = [x[k : k + 1] for k in range(5)] if batch == 1 else [x]
    expected = np.concatenate([np.asarray(session.run(None, {"x": part})[0]) for part in parts])
    np.testing.assert_allclose(read_again(source, x), expected.reshape(5, 2), atol=1e-5)


def test_a_state_may_be_an_input(tmp_path: Path) -> None:
    cell = Cell("RNN", steps=1, hidden=3, activations=["Relu"], direction="forward")
    nodes = [
        node("Unsqueeze", "x front", "X"),
        node("Unsqueeze", "state front", "h"),
        helper.make_node(
            "RNN", ["X", "W", "R", "", "", "h"], ["", "Y_h"], "cell", activations=["Relu"], hidden_size=3
        ),
        node("Squeeze", "Y_h front", "y"),
    ]
    cell.node.ClearField("input")
    constants = {"front": np.array([0]), "W": cell.values["W"], "R": cell.values["R"]}
    proto = model(nodes, ["N", 3], constants)
    proto.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, ["N", 3]))
    source = read_onnx(saved(tmp_path, proto))
    rng = np.random.default_rng(2)
    rows = {name: rng.normal(size=(4, 3)).astype(np.float32) for name in ("x", "state")}
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    each = [session.run(None, {name: row[k : k + 1] for name, row in rows.items()}) for k in range(4)]
    expected = np.stack([np.asarray(y).ravel() for (y,) in each])
    found, _ = run_ann(source.graph, Batch(rows))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("batch", ["steps", 5])
def test_a_sequence_of_rows_is_refused(batch: int | str, tmp_path: Path) -> None:
    """The first axis is the network's batch: taken for one, the sequence would be one step long."""
    proto = recurrent_network(
        transposed=False, layers=1, direction="forward", activations=["Relu"], whole=True
    )
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, 4]))
    (found,) = check_onnx(saved(tmp_path, proto))
    assert (found.node, found.code) == ("layer0", UNSUPPORTED_STRUCTURE)
    assert "RNN" in found.message


def test_what_cannot_be_read_is_told_of_the_node_and_its_gate(tmp_path: Path) -> None:
    curves = ["Sigmoid", "Tanh", "Tanh", "Sigmoid", "Hardmax", "Tanh"]
    proto = recurrent_network("LSTM", layers=1, activations=curves)
    (found,) = check_onnx(saved(tmp_path, proto))
    assert (found.node, found.code) == ("layer0", UNSUPPORTED_ATTRIBUTE)
    assert "LSTM: its activation 'Hardmax' is unknown" in found.message


def test_gates_are_named_where_an_operation_has_no_spiking_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        reader, "operator_of", lambda node: None if node.op_type == "Softplus" else operator_of(node)
    )
    monkeypatch.setattr(region_reader, "find_functions", lambda wiring: {})
    curves = ["Relu", "Softplus"]
    proto = recurrent_network("RNN", layers=1, activations=curves)
    (found,) = check_onnx(saved(tmp_path, proto))
    assert found.node == "layer0"
    assert found.message == "RNN: reverse, hidden gate: the operator Softplus is not supported"


def test_the_host_takes_a_recurrent_node_as_one(tmp_path: Path) -> None:
    """Findings at its steps name the node, by which the network is divided."""
    rng = np.random.default_rng(3)
    constants = {
        "k": rng.normal(size=(16, 4, 3)).astype(np.float32),
        "k2": rng.normal(size=(4, 16, 3)).astype(np.float32),
        "W": rng.normal(size=(1, 2, 4)).astype(np.float32),
        "R": rng.normal(size=(1, 2, 2)).astype(np.float32),
    }
    nodes = [
        node("Conv", "x k", "c", pads=[1, 1]),
        node("Relu", "c", "r"),
        node("Conv", "r k2", "d", pads=[1, 1]),
        node("Relu", "d", "e"),
        node("Transpose", "e", "X", perm=[2, 0, 1]),
        helper.make_node(
            "RNN", ["X", "W", "R"], ["", "last"], "cell", activations=["Softsign"], hidden_size=2
        ),
        node("Transpose", "last", "y", perm=[1, 0, 2]),
    ]
    path = saved(tmp_path, model(nodes, ["N", 4, 8], constants))
    source = read_onnx(path, HostMode.EDGES)
    assert source.host is not None
    (cell,) = [each for each in source.host.nodes if each.operator == "RNN"]
    assert cell.is_cause
    assert {each.operator for each in source.host.nodes} == {"Relu", "RNN", "Transpose"}


def test_no_island_is_offered_where_spikes_would_do_too_little(tmp_path: Path) -> None:
    path = saved(tmp_path, recurrent_network(steps=257, layers=1))
    *_, found = examine(path, Options(host="edges"))[1]
    assert "spikes would do" in found.message
    assert "--host any" not in found.help


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_a_longer_sequence_takes_no_more_step_functions_in_a_trial(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps have the same activations, whose made-up values are the same."""

    def found(steps: int) -> int:
        fitted: list[Measured] = []

        def counting(measured: Sequence[Measured], *args: Any, **settings: Any) -> list[Levelled]:
            fitted.extend(each for each in measured if isinstance(each.node, ann.Pointwise))
            return carried(measured, *args, **settings)

        monkeypatch.setattr(level_fitter, "carried", counting)
        graph = read_onnx(saved(tmp_path, recurrent_network(kind, steps=steps))).graph
        assert len(graph.of_type(ann.Pointwise)) > steps
        require_lowering(graph, Options(preset="balanced", timesteps=4).passes(), 4)
        return len(fitted)

    assert 0 < found(4) == found(9)


def test_a_recurrent_network_is_converted(tmp_path: Path) -> None:
    path = saved(tmp_path, recurrent_network(layers=1, hidden=8, activations=["Relu", "Relu"]))
    x = np.random.default_rng(5).normal(size=(80, 5, 4)).astype(np.float32)
    artefact = convert(path, x[:60], Options(timesteps=16, preset="graded", threads=1)).artefact
    trace = ReferenceSimulator().run(artefact.graph, artefact.encode(x[60:]), 16)
    source = read_onnx(path)
    expected, _ = run_ann(source.graph, source.layout.to_canonical(x[60:]))
    found = artefact.graph.readout.decoded(trace.logits, 16).reshape(expected.shape)
    assert np.square(found - expected).sum() < 0.02 * np.square(expected).sum()
