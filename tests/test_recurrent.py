"""LSTM, GRU and RNN, unrolled: what onnxruntime computes of the original, in every form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper

from snnc.compiler import Options, convert
from snnc.diagnostics import UNSUPPORTED_ATTRIBUTE, UNSUPPORTED_STRUCTURE
from snnc.errors import InputError
from snnc.frontend import check_onnx, read_onnx, reader
from snnc.frontend.host.dividing import HostMode
from snnc.frontend.operators import operator_of
from snnc.frontend.recurrent import DEFAULTS, GATES, Operands, Unrolled, UnrollingError, unroll
from snnc.ir import ann
from snnc.ir.batch import Batch
from snnc.simulation.reference import ReferenceSimulator, run_ann
from snnc.source.ann_session import to_onnx
from tests.onnx_models import Array, check_equal, model, node, normal, saved

NAMES = {"LSTM": "X W R B lens h c P", "GRU": "X W R B lens h", "RNN": "X W R B lens h"}
CURVES = (
    ("Sigmoid", (), ()),
    ("Tanh", (), ()),
    ("Relu", (), ()),
    ("Affine", (0.7,), (0.2,)),
    ("LeakyRelu", (0.3,), ()),
    ("ThresholdedRelu", (0.4,), ()),
    ("ScaledTanh", (0.8,), (0.6,)),
    ("HardSigmoid", (0.3,), (0.4,)),
    ("Elu", (0.5,), ()),
    ("Softsign", (), ()),
    ("Softplus", (), ()),
)


class Cell:
    """A recurrent node with random weights, and what it reads."""

    def __init__(
        self,
        kind: str,
        *,
        seed: int = 0,
        steps: int = 4,
        batch: int = 1,
        size: int = 3,
        hidden: int = 2,
        direction: str = "forward",
        initial: Sequence[str] = (),
        bias: bool = True,
        peepholes: bool = False,
        length: int | None = None,
        **attributes: Any,
    ) -> None:
        rng = np.random.default_rng(seed)
        count, gates = 1 + (direction == "bidirectional"), len(GATES[kind])
        self.kind, self.steps, self.batch, self.size = kind, steps, batch, size

        def normal(*shape: int) -> Array:
            return rng.normal(size=shape).astype(np.float32)

        self.values: dict[str, Array] = {
            "X": normal(steps, batch, size),
            "W": normal(count, gates * hidden, size),
            "R": normal(count, gates * hidden, hidden),
        }
        if bias:
            self.values["B"] = normal(count, 2 * gates * hidden)
        for name in initial:
            self.values[name] = normal(count, batch, hidden)
        if peepholes:
            self.values["P"] = normal(count, 3 * hidden)
        if length is not None:
            self.values["lens"] = np.full(batch, length, np.int32)
        inputs = [name if name in self.values else "" for name in NAMES[kind].split()]
        while not inputs[-1]:
            inputs.pop()
        self.outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
        self.node = helper.make_node(
            kind, inputs, self.outputs, "cell", hidden_size=hidden, direction=direction, **attributes
        )

    def unrolled(
        self, dynamic: Sequence[str] = (), opset: int = 17, node: NodeProto | None = None
    ) -> Unrolled:
        node = node or self.node
        given = {place: name for place, name in enumerate(node.input) if name and place}
        shape = self.values["X"].shape
        constants = {place: self.values[name] for place, name in given.items() if name not in dynamic}
        others = frozenset(place for place, name in given.items() if name in dynamic)
        return unroll(node, Operands(shape, constants, others), opset, "cell")

    def original(self) -> list[Array]:
        return run([self.node], self.values, {}, self.outputs)

    def again(self, dynamic: Sequence[str] = (), opset: int = 17) -> list[Array]:
        found = self.unrolled(dynamic, opset)
        nodes = [node for step in found.steps for node in step]
        feeds = {name: self.values[self.node.input[place]] for place, name in found.inputs.items()}
        constants = dict(found.constants)
        return run(nodes, feeds, constants, [name for name in found.outputs if name], opset)


def run(
    nodes: Sequence[NodeProto],
    feeds: dict[str, Array],
    constants: dict[str, Array],
    outputs: Sequence[str],
    opset: int = 17,
) -> list[Array]:
    """Run operations in onnxruntime."""
    types = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "g", types, results, stored)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, feeds)]


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    kind = draw(st.sampled_from(["LSTM", "GRU", "RNN"]))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    steps, count = draw(st.integers(1, 5)), 1 + (direction == "bidirectional")
    attributes: dict[str, Any] = {}
    if draw(st.booleans()):
        curves = [draw(st.sampled_from(CURVES)) for _ in range(count * len(DEFAULTS[kind]))]
        attributes["activations"] = [name for name, _, _ in curves]
        if draw(st.booleans()) or not {"Affine", "ScaledTanh", "ThresholdedRelu"}.isdisjoint(
            name for name, _, _ in curves
        ):
            attributes["activation_alpha"] = [value for _, alphas, _ in curves for value in alphas]
            attributes["activation_beta"] = [value for _, _, betas in curves for value in betas]
            attributes = {key: values for key, values in attributes.items() if values}
    if draw(st.booleans()):
        attributes["clip"] = draw(st.sampled_from([0.3, 1.0]))
    if kind == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    if kind == "LSTM":
        attributes["input_forget"] = draw(st.integers(0, 1))
    states = ["h", "c"] if kind == "LSTM" else ["h"]
    return Cell(
        kind,
        seed=draw(st.integers(0, 2**20)),
        steps=steps,
        batch=draw(st.integers(1, 3)),
        size=draw(st.integers(1, 4)),
        hidden=draw(st.integers(1, 3)),
        direction=direction,
        initial=draw(st.lists(st.sampled_from(states), unique=True)),
        bias=draw(st.booleans()),
        peepholes=kind == "LSTM" and draw(st.booleans()),
        length=draw(st.one_of(st.none(), st.integers(1, steps))),
        **attributes,
    )


@settings(max_examples=60)
@given(cell=cells(), opset=st.sampled_from([10, 17]), fed=st.booleans())
def test_unrolled_is_what_onnxruntime_computes(cell: Cell, opset: int, fed: bool) -> None:
    found = cell.again([name for name in "hc" if name in cell.values and fed], opset)
    for name, ours, theirs in zip(cell.outputs, found, cell.original(), strict=True):
        assert ours.shape == theirs.shape, name
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_rows_first_is_the_same_with_its_axes_exchanged(kind: str, direction: str) -> None:
    """No runtime computes ``layout=1``: it is held to ``layout=0`` on the same numbers."""
    states = ["h", "c"] if kind == "LSTM" else ["h"]
    plain = Cell(kind, batch=2, direction=direction, initial=states, length=3)
    turned = Cell(kind, batch=2, direction=direction, initial=states, length=3, layout=1)
    for name in ("X", *states):
        turned.values[name] = np.ascontiguousarray(plain.values[name].swapaxes(0, 1))
    y, *last = turned.again()
    expected, *expected_last = plain.original()
    np.testing.assert_allclose(y, expected.transpose(2, 0, 1, 3), atol=1e-5)
    for ours, theirs in zip(last, expected_last, strict=True):
        np.testing.assert_allclose(ours, theirs.swapaxes(0, 1), atol=1e-5)


def test_parameters_go_to_the_activations_that_have_them() -> None:
    curves = ["HardSigmoid", "Tanh", "LeakyRelu", "sigmoid", "ELU", "Affine"]
    cell = Cell(
        "LSTM",
        direction="bidirectional",
        activations=curves,
        activation_alpha=[0.1, 0.2, 0.3, 0.4],
        activation_beta=[0.5, 0.6],
    )
    for ours, theirs in zip(cell.again(), cell.original(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def changed(cell: Cell, **values: Array) -> Cell:
    cell.values |= values
    return cell


def renamed(name: str, other: str) -> Cell:
    """Return a cell an attribute of which bears the name of another."""
    cell = Cell("RNN")
    kept = [each for each in cell.node.attribute if each.name != other]
    next(each for each in kept if each.name == name).name = other
    del cell.node.attribute[:]
    cell.node.attribute.extend(kept)
    return cell


REFUSED = {
    "its weights are computed": lambda: Cell("LSTM").unrolled(["W"]),
    "its sequence lengths are computed": lambda: Cell("LSTM", length=2).unrolled(["lens"]),
    "differ in length": lambda: changed(
        Cell("GRU", batch=2, length=2), lens=np.array([1, 2], np.int32)
    ).unrolled(),
    "does not fit 4 steps": lambda: Cell("RNN", length=5).unrolled(),
    "300 steps is too long: 256": lambda: Cell("RNN", steps=300).unrolled(),
    "activation 'Swish' is unknown": lambda: Cell("RNN", activations=["Swish"]).unrolled(),
    "Affine has no alpha or beta": lambda: Cell("RNN", activations=["Affine"]).unrolled(),
    "2 activations, not 3": lambda: Cell("LSTM", activations=["Tanh"] * 2).unrolled(),
    "do not fit 2 directions": lambda: changed(
        Cell("LSTM", direction="bidirectional"), R=np.zeros((1, 8, 2), np.float32)
    ).unrolled(),
    "biases (1, 3) do not fit": lambda: changed(Cell("GRU"), B=np.zeros((1, 3), np.float32)).unrolled(),
    "peepholes (1, 5) do not fit": lambda: changed(
        Cell("LSTM", peepholes=True), P=np.zeros((1, 5), np.float32)
    ).unrolled(),
    "initial state (1, 1, 9) does not": lambda: changed(
        Cell("RNN", initial=["h"]), h=np.ones((1, 1, 9), np.float32)
    ).unrolled(),
    "its clip -1.0 is not": lambda: Cell("RNN", clip=-1.0).unrolled(),
    "its attribute 'direction' has another type": lambda: renamed("hidden_size", "direction").unrolled(),
    "numbers of the type int64": lambda: changed(Cell("GRU"), B=np.zeros((1, 12), np.int64)).unrolled(),
    "another meaning before opset 7": lambda: Cell("RNN").unrolled(opset=6),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_unrolled(reason: str) -> None:
    with pytest.raises(UnrollingError) as caught:
        REFUSED[reason]()
    assert reason in str(caught.value)


# Networks


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
    monkeypatch.setattr(reader, "find_functions", lambda wiring: {})
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


def test_a_recurrent_network_is_converted(tmp_path: Path) -> None:
    path = saved(tmp_path, recurrent_network(layers=1, hidden=8, activations=["Relu", "Relu"]))
    x = np.random.default_rng(5).normal(size=(80, 5, 4)).astype(np.float32)
    artefact = convert(path, x[:60], Options(timesteps=16, preset="graded", threads=1)).artefact
    trace = ReferenceSimulator().run(artefact.graph, artefact.encode(x[60:]), 16)
    source = read_onnx(path)
    expected, _ = run_ann(source.graph, source.layout.to_canonical(x[60:]))
    found = artefact.graph.readout.decoded(trace.logits, 16).reshape(expected.shape)
    assert np.square(found - expected).sum() < 0.02 * np.square(expected).sum()


# Scan


def scanned(turned: int = 0, axis: int = 1, entry: str = "x") -> onnx.ModelProto:
    """Return a network that goes through the second axis of its input, and keeps a sum."""
    body = helper.make_graph(
        [
            node("MatMul", "h R", "m"),
            node("Add", "m v", "a"),
            node("Relu", "a", "next"),
            node("Neg", "next", "out"),
        ],
        "body",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("h", "v")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("next", "out")],
    )
    scan = helper.make_node(
        "Scan",
        ["zero", entry],
        ["last", "rows"],
        "scan",
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[axis],
        scan_output_axes=[1],
        scan_input_directions=[turned],
        scan_output_directions=[turned],
    )
    nodes = [
        scan,
        node("Flatten", "rows", "flat"),
        node("Concat", "last flat", "y", axis=1),
    ]
    return model(nodes, [1, 3, 4], {"zero": np.zeros((1, 4), np.float32), "R": normal(4, 4) / 2})


@pytest.mark.parametrize("turned", [0, 1])
def test_a_scan_is_read(turned: int, tmp_path: Path) -> None:
    source = check_equal(tmp_path, scanned(turned))
    assert len(source.graph.of_type(ann.Relu)) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda scan: scan.attribute.append(helper.make_attribute("scan_input_axes", [0, 1])), "axes"),
        (lambda scan: scan.attribute.append(helper.make_attribute("scan_input_axes", [5])), "axis 5"),
        (lambda scan: scan.attribute.append(helper.make_attribute("scan_input_axes", [0.5])), "integers"),
        (lambda scan: scan.attribute.append(helper.make_attribute("scan_output_axes", [7])), "axis 7"),
    ],
)
def test_scans_that_do_not_fit(change: Callable[[NodeProto], None], reason: str, tmp_path: Path) -> None:
    proto = scanned()
    scan = proto.graph.node[0]
    change(scan)
    last = {each.name: each for each in scan.attribute}
    del scan.attribute[:]
    scan.attribute.extend(last.values())
    try:
        messages = [found.message for found in check_onnx(saved(tmp_path, proto))]
    except InputError:
        return
    assert any(reason in message for message in messages), messages


def test_a_scan_over_rows_is_refused(tmp_path: Path) -> None:
    proto = scanned(axis=0)
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 4]))
    messages = [found.message for found in check_onnx(saved(tmp_path, proto))]
    assert any("Scan" in message and "rows" in message for message in messages), messages
