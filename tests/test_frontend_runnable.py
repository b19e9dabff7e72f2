"""What onnxruntime runs is read, whatever onnx's checker says of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from snnc.errors import InputError
from snnc.frontend import SourceModel, check_onnx, loading, read_onnx
from snnc.frontend.tensors import byte_size, read_tensor
from snnc.source import ann_session
from snnc.source.ann_session import AnnSession
from snnc.source.source_session import SourceSession
from tests.onnx_models import (
    NEWEST_TESTED,
    check_equal,
    model,
    node,
    normal,
    read_again,
    saved,
)

INT, BOOL = TensorProto.INT64, TensorProto.BOOL
FLAT: list[int | str | None] = ["N", 4]


def perceptron(*, opset: int = 17, ir_version: int = 8) -> onnx.ModelProto:
    """Return MatMul, Relu, MatMul."""
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "b"), node("MatMul", "b v")]
    constants = {"w": normal(4, 6), "v": normal(6, 3)}
    return model(nodes, FLAT, constants, opset=opset, ir_version=ir_version)


def value(name: str, shape: Sequence[int | str | None], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def warned(source: SourceModel) -> list[str]:
    return [warning.code.number for warning in source.warnings]


@pytest.mark.parametrize("opset", [6, 7, 8, 9, 10, 11, 12, 13, 15, 17, 19, 21, NEWEST_TESTED])
def test_operator_sets(tmp_path: Path, opset: int) -> None:
    source = check_equal(tmp_path, perceptron(opset=opset))
    assert warned(source) == (["SNN122"] if opset < 7 else [])


@pytest.mark.parametrize("ir_version", [3, 4, 5, 6, 7, 8, 9, 10])
def test_ir_versions(tmp_path: Path, ir_version: int) -> None:
    proto = perceptron(opset=8, ir_version=ir_version)
    for tensor in proto.graph.initializer:
        proto.graph.input.append(value(tensor.name, tensor.dims))
    assert check_equal(tmp_path, proto).input_name == "x"


@pytest.mark.parametrize("opset", [1, 3, 5, 6])
def test_arithmetic_aligned_by_an_axis(tmp_path: Path, opset: int) -> None:
    bias, scale = normal(3), normal(3)
    old = model(
        [node("Add", "x b", "a", broadcast=1, axis=1), node("Mul", "a s", broadcast=1, axis=1)],
        [1, 3, 4, 4],
        {"b": bias, "s": scale},
        opset=opset,
        ir_version=3,
    )
    for tensor in old.graph.initializer:
        old.graph.input.append(value(tensor.name, tensor.dims))
    x = normal(1, 3, 4, 4)
    source = read_onnx(saved(tmp_path, old))
    expected = (x + bias[:, None, None]) * scale[:, None, None]
    np.testing.assert_allclose(read_again(source, x), expected.reshape(1, -1), rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="onnxruntime cannot run"):  # nor does it run a wrong upgrade
        SourceSession(source.path, 1)


@pytest.mark.parametrize("axis", [-1, 4, 2**40])
def test_arithmetic_along_no_axis(tmp_path: Path, axis: int) -> None:
    added = node("Add", "x b", broadcast=1, axis=axis)
    diagnostics = check_onnx(saved(tmp_path, model([added], [1, 3, 4, 4], {"b": normal(3)}, opset=6)))
    assert [found.code.number for found in diagnostics] == ["SNN102"]


def test_old_operators_in_training_mode(tmp_path: Path) -> None:
    for attributes, codes in (({}, ["SNN102"]), ({"is_test": 1}, ["SNN122"])):
        proto = model([node("Dropout", "x", "a", **attributes), node("Relu", "a")], FLAT, opset=6)
        assert [found.code.number for found in check_onnx(saved(tmp_path, proto))] == codes


def test_old_casts_name_their_type(tmp_path: Path) -> None:
    cast = node("Cast", "w", "v", to="FLOAT")
    proto = model([cast, node("MatMul", "x v")], FLAT, {"w": np.arange(8).reshape(4, 2)}, opset=5)
    source = read_onnx(saved(tmp_path, proto))
    np.testing.assert_allclose(read_again(source, np.eye(4, dtype=np.float32)), np.arange(8.0).reshape(4, 2))


def no_graph_name(proto: onnx.ModelProto) -> None:
    proto.graph.name = ""


def no_node_names(proto: onnx.ModelProto) -> None:
    for item in proto.graph.node:
        item.name = ""


def two_initialisers(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(normal(4, 6), "w"))


def no_initialiser_name(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(normal(2), ""))


def no_output_type(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].ClearField("type")


def two_metadata(proto: onnx.ModelProto) -> None:
    for text in ("1", "2"):
        proto.metadata_props.add(key="author", value=text)


def spelled_domain(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].domain = "ai.onnx"


def two_imports(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].domain = "ai.onnx"
    proto.opset_import.append(helper.make_opsetid("com.example", 3))


def wrong_value_info(proto: onnx.ModelProto) -> None:
    proto.graph.value_info.append(value("a", [1, 77]))
    proto.graph.value_info.append(value("", [1, 77]))


def text_initialiser(proto: onnx.ModelProto) -> None:
    words = np.array([b"cat", b"dog"], object)
    proto.graph.initializer.append(numpy_helper.from_array(words, "classes"))


def reversed_nodes(proto: onnx.ModelProto) -> None:
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def typed_fields(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[0]
    tensor.float_data.extend(numpy_helper.to_array(tensor).ravel())
    tensor.ClearField("raw_data")


def constant_nodes(proto: onnx.ModelProto) -> None:
    for tensor in proto.graph.initializer:
        proto.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del proto.graph.initializer[:]


def identities(proto: onnx.ModelProto) -> None:
    nodes = list(proto.graph.node)
    for name, item, place in (("x", nodes[0], 0), ("w", nodes[0], 1), ("b", nodes[2], 0)):
        item.input[place] = f"{name}.copy"
        chain = [name, f"{name}.1", f"{name}.2", f"{name}.copy"]
        proto.graph.node.extend(helper.make_node("Identity", [a], [b]) for a, b in pairwise(chain))


def sparse(proto: onnx.ModelProto) -> None:
    weights = proto.graph.initializer.pop(0)
    values = numpy_helper.to_array(weights).ravel()
    places = np.arange(0, values.size, 3)
    proto.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            numpy_helper.from_array(values[places], weights.name),
            numpy_helper.from_array(places, "places"),
            list(weights.dims),
        )
    )


def sparse_by_axes(proto: onnx.ModelProto) -> None:
    weights = proto.graph.initializer.pop(0)
    values = numpy_helper.to_array(weights)
    places = np.argwhere(values > 0)
    proto.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            numpy_helper.from_array(values[values > 0], weights.name),
            numpy_helper.from_array(places, "places"),
            list(weights.dims),
        )
    )


def sparse_constant(proto: onnx.ModelProto) -> None:
    sparse(proto)
    tensor = proto.graph.sparse_initializer.pop(0)
    made = helper.make_node("Constant", [], [tensor.values.name], sparse_value=tensor)
    proto.graph.node.insert(0, made)


@pytest.mark.parametrize(
    "change",
    [
        no_graph_name,
        no_node_names,
        two_initialisers,
        no_initialiser_name,
        no_output_type,
        two_metadata,
        spelled_domain,
        two_imports,
        wrong_value_info,
        text_initialiser,
        reversed_nodes,
        typed_fields,
        constant_nodes,
        identities,
        sparse,
        sparse_by_axes,
        sparse_constant,
    ],
    ids=lambda change: str(change.__name__),
)
def test_forms_of_files(tmp_path: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    proto = perceptron()
    change(proto)
    assert warned(check_equal(tmp_path, proto)) == []


def test_what_only_the_checker_minds_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def complains(*_: object) -> None:
        raise onnx.checker.ValidationError("I want\nmore names")

    monkeypatch.setattr(onnx.checker, "check_model", complains)
    (warning,) = check_equal(tmp_path, perceptron()).warnings
    assert warning.code.number == "SNN120"
    assert warning.message == "onnx's checker says: I want"
    assert [found.code.number for found in check_onnx(tmp_path / "model.onnx")] == ["SNN120"]


def twice(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(node("Relu", "b", "a"))
    proto.graph.node.append(node("Add", "y a", "z"))
    proto.graph.output[0].name = "z"


def stored_and_made(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(normal(1, 6), "b"))


def dense_and_sparse(proto: onnx.ModelProto) -> None:
    weights = onnx.TensorProto()
    weights.CopyFrom(proto.graph.initializer[0])
    sparse(proto)
    proto.graph.initializer.append(weights)


def two_inputs(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(proto.graph.input[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (twice, "'Relu_a' depends|'a' is made twice|'Relu_b' depends"),
        (stored_and_made, "'b' is made twice"),
        (dense_and_sparse, "'w' is stored twice"),
        (two_inputs, "two inputs are called 'x'"),
    ],
)
def test_names_of_two_tensors(tmp_path: Path, change: Callable[[onnx.ModelProto], None], words: str) -> None:
    proto = perceptron()
    change(proto)
    with pytest.raises(InputError, match=words):
        read_onnx(saved(tmp_path, proto))


# Types of numbers


@pytest.mark.parametrize(
    ("kind", "dtype", "tolerance"),
    [(TensorProto.FLOAT16, np.float16, 3e-3), (TensorProto.DOUBLE, np.float64, 1e-5)],
)
def test_networks_of_other_precision(
    tmp_path: Path, kind: int, dtype: type[np.floating[Any]], tolerance: float
) -> None:
    proto = perceptron()
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    for info in (proto.graph.input[0], proto.graph.output[0]):
        info.type.tensor_type.elem_type = kind
    source = read_onnx(saved(tmp_path, proto))
    x = np.asarray(normal(3, 4), dtype)
    expected = SourceSession(source.path, 1).run(x)
    assert np.abs(read_again(source, x) - expected).max() < tolerance * np.abs(expected).max()
    (warning,) = source.warnings
    assert warning.code.number == "SNN121"
    assert warning.message == f"2 nodes compute in {np.dtype(dtype)}; the network is converted in float32"


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_weights_stored_in_another_precision(tmp_path: Path, kind: str) -> None:
    proto = perceptron()
    dtype = np.dtype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)
    for index, tensor in enumerate(proto.graph.initializer):
        stored = numpy_helper.to_array(tensor).astype(dtype)
        tensor.CopyFrom(numpy_helper.from_array(stored, f"{tensor.name}.stored"))
        proto.graph.node.append(node("Cast", tensor.name, "wv"[index], to=TensorProto.FLOAT))
    assert warned(check_equal(tmp_path, proto)) == []  # it computes in float32


# Other files, and many weights


def test_weights_beyond_two_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_blocks", lambda _: ())  # two gigabytes of zeros are not hashed
    proto = perceptron()
    data = tmp_path / "weights.bin"
    place = 2**31 + 4096
    with data.open("wb") as stream:  # sparse: no disk is used
        stream.truncate(place)
        stream.seek(place)
        for tensor in proto.graph.initializer:
            start = stream.tell()
            stream.write(tensor.raw_data)
            tensor.external_data.add(key="location", value=data.name)
            tensor.external_data.add(key="offset", value=str(start))
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
    check_equal(tmp_path, proto)


@pytest.mark.parametrize(
    "kind", [TensorProto.INT4, TensorProto.BFLOAT16, TensorProto.BOOL, TensorProto.DOUBLE]
)
def test_external_tensors_of_every_width(tmp_path: Path, kind: int) -> None:
    values = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0]])
    inside = helper.make_tensor("w", kind, values.shape, values.ravel())
    raw = numpy_helper.from_array(numpy_helper.to_array(inside), "w").raw_data
    (tmp_path / "w.bin").write_bytes(b"skip" + raw)
    outside = onnx.TensorProto(name="w", data_type=kind, dims=values.shape)
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value=str(tmp_path / "w.bin"))
    outside.external_data.add(key="offset", value="4")
    assert byte_size(outside) == len(raw)
    assert np.array_equal(read_tensor(outside).astype(np.float32), values)


def test_a_session_whose_weights_lie_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = read_onnx(saved(tmp_path, perceptron())).graph
    names, x = [item.name for item in graph], normal(40, 4)
    together = AnnSession(graph, names, 1).run(x)
    monkeypatch.setattr(ann_session, "MOST_BYTES", 0)
    apart = AnnSession(graph, names, 1).run(x)
    assert all(np.array_equal(apart[name], together[name]) for name in names)


def test_a_pipe_and_a_device(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a device"):
        read_onnx(Path(os.devnull))
