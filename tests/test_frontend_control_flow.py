"""Graphs inside nodes: loops and scans of known length, and branches whose condition is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from snnc.errors import InputError
from snnc.frontend import check_onnx, read_onnx
from snnc.ir import ann
from tests.onnx_models import (
    check_equal,
    kinds,
    model,
    node,
    normal,
    saved,
)

INT, BOOL = TensorProto.INT64, TensorProto.BOOL
FLAT: list[int | str | None] = ["N", 4]


def value(name: str, shape: Sequence[int | str | None], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def looped(trips: int | None, condition: bool | None, *, scans: bool = False) -> onnx.ModelProto:
    """Return a network that multiplies and rectifies in a loop; without trips, twice."""
    nodes = [node("MatMul", "s w", "m"), node("Relu", "m", "next")]
    results = [value("more", [], TensorProto.BOOL), value("next", ["N", 4])]
    nodes.append(node("Less", "i one", "more") if trips is None else node("Identity", "going", "more"))
    if scans:
        nodes.append(node("Neg", "next", "row"))
        results.append(value("row", ["N", 4]))
    body = helper.make_graph(
        nodes,
        "body",
        [value("i", [], TensorProto.INT64), value("going", [], TensorProto.BOOL), value("s", ["N", 4])],
        results,
    )
    constants = {"w": normal(4, 4), "v": normal(4, 3), "one": np.array(1)}
    given = ["", "", "x"]
    if trips is not None:
        constants["trips"], given[0] = np.array(trips), "trips"
    if condition is not None:
        constants["first"], given[1] = np.array(condition), "first"
    loop = helper.make_node("Loop", given, ["last", *(["rows"] if scans else [])], "loop", body=body)
    if not scans:
        return model([loop, node("MatMul", "last v")], [1, 4], constants)
    constants["shape"] = np.array([1, -1])
    behind = [node("Concat", "rows pad", "padded", axis=0), node("Reshape", "padded shape")]
    constants["pad"] = np.zeros((1, 1, 4), np.float32)
    return model([loop, *behind], [1, 4], constants)


@pytest.mark.parametrize(
    ("trips", "condition", "relus"),
    [(3, True, 3), (1, None, 1), (0, True, 0), (3, False, 0), (None, True, 2), (-1, True, 0)],
)
def test_loops_of_known_length(tmp_path: Path, trips: int | None, condition: bool | None, relus: int) -> None:
    source = check_equal(tmp_path, looped(trips, condition))
    assert kinds(source.graph).count("Relu") == relus


def test_what_a_loop_collects(tmp_path: Path) -> None:
    check_equal(tmp_path, looped(3, True, scans=True))


def test_constants_that_a_loop_makes(tmp_path: Path) -> None:
    body = helper.make_graph(
        [node("Mul", "s i", "next"), node("Identity", "going", "more"), node("Identity", "next", "row")],
        "body",
        [value("i", [], INT), value("going", [], BOOL), value("s", [], INT)],
        [value("more", [], BOOL), value("next", [], INT), value("row", [], INT)],
    )
    loop = helper.make_node("Loop", ["trips", "", "start"], ["last", "rows"], "loop", body=body)
    nodes = [loop, node("Cast", "rows", "floats", to=1), node("Add", "x floats", "a"), node("Relu", "a")]
    check_equal(tmp_path, model(nodes, FLAT, {"trips": np.array(4), "start": np.array(1)}))


@pytest.mark.parametrize("trips", [10**6, 2**62])
def test_loops_without_end(tmp_path: Path, trips: int) -> None:
    diagnostics = check_onnx(saved(tmp_path, looped(trips, True)))
    assert [found.code.number for found in diagnostics][:1] == ["SNN103"]


def test_a_loop_of_unknown_length(tmp_path: Path) -> None:
    proto = looped(3, True)
    proto.graph.node.insert(0, node("ReduceSum", "x", "sum", keepdims=0))
    proto.graph.node.insert(1, node("Cast", "sum", "trips", to=TensorProto.INT64))
    del proto.graph.initializer[[t.name for t in proto.graph.initializer].index("trips")]
    assert "Loop" in " ".join(found.message for found in check_onnx(saved(tmp_path, proto)))


def branch(op: str, name: str, nodes: Sequence[NodeProto] = ()) -> onnx.GraphProto:
    return helper.make_graph(
        [*nodes, helper.make_node(op, ["x"], [f"{name}.out"], name)], name, [], [value(f"{name}.out", FLAT)]
    )


@pytest.mark.parametrize("condition", [True, False])
def test_a_branch_that_is_known(tmp_path: Path, condition: bool) -> None:
    chosen = helper.make_node(
        "If", ["c"], ["a"], "if", then_branch=branch("Relu", "t"), else_branch=branch("Neg", "e")
    )
    nodes = [node("Shape", "x", "s"), node("Size", "s", "rank"), node("Equal", "rank two", "c"), chosen]
    two = np.array(2 if condition else 3)
    source = check_equal(
        tmp_path, model([*nodes, node("MatMul", "a w")], FLAT, {"two": two, "w": normal(4, 3)})
    )
    assert ("Relu" in kinds(source.graph)) is condition


def test_nodes_of_a_branch_out_of_order(tmp_path: Path) -> None:
    last = helper.make_node("MatMul", ["r", "w"], ["b"])
    inner = helper.make_graph([last, node("Relu", "x", "r")], "t", [], [value("b", ["N", 3])])
    proto = model([helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)], FLAT)
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    proto.graph.initializer.append(numpy_helper.from_array(normal(4, 3), "w"))
    assert kinds(read_onnx(saved(tmp_path, proto)).graph) == ["Input", "Relu", "Linear"]


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
