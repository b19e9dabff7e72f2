"""What the fuzzer found, and what it was made to look for: refused in one line, soon and in little memory."""

from __future__ import annotations

import io
import os
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from snnc.artefact import Artefact, load, save
from snnc.artefact.metadata import HASH, content_hash
from snnc.compiler import check
from snnc.data import numpy_files
from snnc.data.row_files import read_rows
from snnc.diagnostics import Severity
from snnc.errors import ArtefactError, InputError
from snnc.frontend import check_onnx, constant_folding, read_onnx
from snnc.frontend.operators import OPERATORS, number_of_inputs
from tests.onnx_models import check_equal, kinds, model, node, normal, saved
from tests.spiking_graphs import random_graph

FLAT: list[int | str | None] = ["N", 4]
MIB = 1 << 20


def codes(folder: Path, proto: onnx.ModelProto) -> set[str]:
    """Return the codes of what is found in a model."""
    return {found.code.number for found in check_onnx(saved(folder, proto))}


def refused(folder: Path, proto: onnx.ModelProto, words: str) -> None:
    """Assert that a model is refused in one line."""
    with pytest.raises(InputError, match=words) as raised:
        read_onnx(saved(folder, proto))
    assert "\n" not in str(raised.value)


def relu(**changes: str) -> onnx.ModelProto:
    proto = model([node("Relu", "x")], FLAT)
    for name, value in changes.items():
        setattr(proto.graph.node[0], name, value)
    return proto


# Names, and parts that do not fit together


@pytest.mark.parametrize("field", [b"Relu", b"test", b"x"])
def test_names_that_are_no_text(tmp_path: Path, field: bytes) -> None:
    data = relu().SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(data.replace(field, b"\xff" * len(field)))
    with pytest.raises(InputError, match="no UTF-8"):
        read_onnx(path)


def test_an_attribute_of_no_function(tmp_path: Path) -> None:
    proto = model([node("Softmax", "x", axis=1)], FLAT)
    proto.graph.node[0].attribute[0].ref_attr_name = "axis"
    refused(tmp_path, proto, "refers to an attribute outside of a function")


@pytest.mark.parametrize("version", [2**40, -(2**63), 0, 1000])
def test_functions_of_impossible_versions(tmp_path: Path, version: int) -> None:
    body = [helper.make_node("Relu", ["a"], ["b"])]
    proto = model([helper.make_node("F", ["x"], ["y"], domain="my")], FLAT)
    proto.functions.append(helper.make_function("my", "F", ["a"], ["b"], body, []))
    proto.functions[0].opset_import.add(domain="", version=version)
    proto.opset_import.append(helper.make_opsetid("my", version))
    codes(tmp_path, proto)  # any answer, but no error


def test_two_functions_of_one_name(tmp_path: Path) -> None:
    body = [helper.make_node("Relu", ["a"], ["b"])]
    proto = model([helper.make_node("F", ["x"], ["y"], domain="my")], FLAT)
    for _ in range(2):
        imports = [helper.make_opsetid("", 17)]
        proto.functions.append(helper.make_function("my", "F", ["a"], ["b"], body, imports))
    proto.opset_import.append(helper.make_opsetid("my", 1))
    refused(tmp_path, proto, "its functions cannot be inlined")


def test_a_branch_without_outputs(tmp_path: Path) -> None:
    empty = helper.make_graph([node("Relu", "x", "r")], "empty", [], [])
    proto = model([helper.make_node("If", ["c"], ["y"], "if", then_branch=empty, else_branch=empty)], FLAT)
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    (found,) = check_onnx(saved(tmp_path, proto))
    assert (found.code.number, found.node) == ("SNN102", "if")


def test_a_domain_of_an_impossible_version(tmp_path: Path) -> None:
    proto = model([helper.make_node("F", ["x"], ["y"], domain="my")], FLAT)
    proto.opset_import.append(helper.make_opsetid("my", 2**62))
    assert codes(tmp_path, proto) == {"SNN101", "SNN120"}


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "Squeeze"])
def test_an_axis_named_twice(tmp_path: Path, op: str) -> None:
    proto = model([node("Relu", "x", "r"), node(op, "r", axes=[3, -1])], [1, 2, 1, 1], opset=11)
    assert "SNN102" in codes(tmp_path, proto)


def test_an_index_of_real_numbers(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "r"), node("Gather", "r i", "g", axis=1), node("MatMul", "g w")]
    indices = np.array([2, 0, 1], np.float32)
    refused(tmp_path, model(nodes, FLAT, {"i": indices, "w": normal(3, 2)}), "the index holds float32")


def test_nodes_of_an_unknown_operator_set_are_not_judged(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "r"), node("Einsum", "r r", "e"), node("MatMul", "e w")]
    proto = model(nodes, FLAT, {"w": normal(4, 3)}, opset=1000)
    proto.graph.initializer.append(
        TensorProto(name="k", data_type=TensorProto.INT64, dims=[1], raw_data=b"odd")
    )
    assert "SNN105" in {found.code.number for found in check(saved(tmp_path, proto))}


@pytest.mark.parametrize("equation", ["ij,jk->ik", "i,i", "...", "", "ijk,jk->i"])
def test_sums_of_products_that_do_not_fit(tmp_path: Path, equation: str) -> None:
    nodes = [node("Hardmax", "x", "t"), node("Einsum", "t t", "e", equation=equation), node("Relu", "e")]
    assert {found.code.severity.value for found in check(saved(tmp_path, model(nodes, FLAT)))} >= {"error"}


@pytest.mark.parametrize(
    ("op", "shape"),
    [("MatMul", [1, 4]), ("Gemm", [1, 4]), ("Conv", [1, 4, 3, 3]), ("ConvTranspose", [1, 4, 3, 3])],
)
@pytest.mark.parametrize("rank", [0, 1, 5])
def test_weights_of_another_rank(tmp_path: Path, op: str, shape: list[int | str | None], rank: int) -> None:
    weight = np.ones((1, 4, 1, 1, 1)[:rank], np.float32)
    proto = model([node(op, "x w"), node("Relu", "y", "z")], shape, {"w": weight}, output="z")
    codes(tmp_path, proto)  # any answer, but no error


# Sizes


@pytest.mark.parametrize("sizes", [[2**31, 2**31], [2**62, 4], [-1, 4], [4]])
def test_weights_that_are_declared_and_absent(tmp_path: Path, sizes: list[int]) -> None:
    proto = model([node("MatMul", "x w")], FLAT)
    proto.graph.initializer.append(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=sizes))
    refused(tmp_path, proto, "is damaged: the constant 'w' cannot be read")


def test_external_data_of_no_type(tmp_path: Path) -> None:
    proto = model([node("MatMul", "x w")], FLAT)
    tensor = proto.graph.initializer.add(name="w", dims=[4, 2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    (tmp_path / "w.bin").write_bytes(bytes(32))
    refused(tmp_path, proto, "describes the tensor 'w' wrongly")


def test_external_data_without_end(tmp_path: Path) -> None:
    proto = model([node("MatMul", "x w")], FLAT)
    tensor = proto.graph.initializer.add(
        name="w", dims=[4, 2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value="w.bin")
    with (tmp_path / "w.bin").open("wb") as stream:
        stream.truncate(2**42)  # sparse: no disk is used
    refused(tmp_path, proto, r"holds 4096\.0 GiB, of which model\.onnx uses 32 bytes")


def grown(op: str, read: str, **constants: object) -> onnx.ModelProto:
    """Return a network that adds a constant which an operation makes."""
    return model([node(op, read, "made"), node("Add", "x made")], FLAT, constants)


@pytest.mark.parametrize(
    "proto",
    [
        grown("ConstantOfShape", "s", s=np.array([2**31])),
        grown("Expand", "k s", k=np.float32(1), s=np.array([2**20, 2**20])),
        grown("Tile", "k s", k=np.ones(2**20, np.float32), s=np.array([2**12])),
        grown("Range", "a b c", a=np.float32(0), b=np.float32(1e12), c=np.float32(1)),
        grown("MatMul", "a b", a=np.ones((2**14, 1), np.float32), b=np.ones((1, 2**14), np.float32)),
        grown("Gather", "a b", a=np.ones((2, 2**14), np.float32), b=np.zeros(2**14, np.int64)),
        grown("OneHot", "a b c", a=np.zeros(2**14, np.int64), b=np.array(2**14), c=np.zeros(2, np.float32)),
        grown("Pad", "k p", k=np.ones(1, np.float32), p=np.array([2**31, 2**31])),
    ],
    ids=lambda proto: str(proto.graph.node[0].op_type),
)
def test_constants_that_would_fill_the_memory(tmp_path: Path, proto: onnx.ModelProto) -> None:
    path = saved(tmp_path, proto)
    tracemalloc.start()
    assert "SNN102" in {found.code.number for found in check_onnx(path)}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * MIB + 20 * path.stat().st_size


def test_many_constants_that_would_fill_the_memory_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constant_folding, "MOST_MADE", 1 << 16)
    nodes: list[NodeProto] = []
    for index in range(40):
        nodes.append(node("ConstantOfShape", "s", f"c{index}"))
        nodes.append(node("ReduceMax", f"c{index}", f"m{index}", keepdims=0))
        nodes.append(node("Add", f"a{index} m{index}" if index else "x m0", f"a{index + 1}"))
    nodes.append(node("Relu", "a40"))
    proto = model(nodes, FLAT, {"s": np.array([2**12])})
    assert "SNN102" in codes(tmp_path, proto)


def test_sparse_constants_that_would_fill_the_memory(tmp_path: Path) -> None:
    proto = model([node("Gather", "w i", "g"), node("Add", "x g")], FLAT, {"i": np.array([0, 1, 2, 3])})
    values = numpy_helper.from_array(normal(1), "w")
    places = numpy_helper.from_array(np.array([0]), "places")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2**40]))
    refused(tmp_path, proto, "the sparse constant 'w' cannot be read: it would have more than")


@pytest.mark.parametrize("places", [[9], [-1], [[1, 1], [9, 9]]])
def test_sparse_constants_with_wrong_places(tmp_path: Path, places: list[object]) -> None:
    proto = model([node("MatMul", "x w")], FLAT)
    values = numpy_helper.from_array(normal(len(places)), "w")
    where = numpy_helper.from_array(np.array(places), "places")
    proto.graph.sparse_initializer.append(onnx.SparseTensorProto(values=values, indices=where, dims=[4, 2]))
    refused(tmp_path, proto, "'w' cannot be read")


@pytest.mark.parametrize("size", [-3, -(2**40)])
def test_negative_sizes_do_not_end_the_process(tmp_path: Path, size: int) -> None:
    pads = np.array([0, size, 0, size])
    constants = {"p": pads, "s": np.array([0]), "e": np.array([9]), "a": np.array([1])}
    nodes = [node("Pad", "x p", "q"), node("Slice", "q s e a", "r"), node("Hardmax", "r")]
    assert "SNN102" in codes(tmp_path, model(nodes, FLAT, constants))
    nodes[1].input[0] = "x"
    assert "SNN104" in codes(tmp_path, model(nodes[1:], ["N", size], constants))


# Long chains and deep nests


def test_ten_thousand_nodes_in_a_row(tmp_path: Path) -> None:
    seconds = []
    for length in (2000, 10_000):
        names = ["x", *(f"t{index}" for index in range(length - 1)), "y"]
        nodes = [helper.make_node("Relu", [read], [made], "n") for read, made in pairwise(names)]
        path = saved(tmp_path, model(nodes, FLAT))
        start = time.process_time()
        assert kinds(read_onnx(path).graph) == ["Input", "Relu"]
        seconds.append(time.process_time() - start)
    assert seconds[1] < 15 * seconds[0]  # five times, and room for a busy machine


def nested(depth: int) -> onnx.ModelProto:
    """Return a network with an If in an If, and so on; the innermost rectifies."""
    outputs = [helper.make_value_info(f"i{level}", onnx.TypeProto()) for level in range(depth + 1)]
    graph = helper.make_graph([node("Relu", "x", "i0")], "g", [], outputs[:1])
    for level in range(1, depth + 1):
        other = helper.make_graph([node("Neg", "x", f"i{level - 1}")], "g", [], outputs[level - 1 : level])
        chosen = helper.make_node("If", ["c"], [f"i{level}"], then_branch=graph, else_branch=other)
        graph = helper.make_graph([chosen], "g", [], outputs[level : level + 1])
    proto = model(list(graph.node), FLAT, output=graph.output[0].name)
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    return proto


def test_deep_nests(tmp_path: Path) -> None:
    assert kinds(check_equal(tmp_path, nested(12)).graph) == ["Input", "Relu"]
    data = b""
    for _ in range(3000):  # graphs in attributes in nodes in graphs, deeper than protobuf reads
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            data = tag + varint(len(data)) + data
    path = tmp_path / "deep.onnx"
    path.write_bytes(b"\x08\x08" + b"\x3a" + varint(len(data)) + data)
    with pytest.raises(InputError, match="not an ONNX file, or it is damaged"):
        read_onnx(path)


def varint(value: int) -> bytes:
    """Return a number as protobuf writes it."""
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


# Rows


def npy(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    """Return the header of a NumPy file, and a few bytes."""
    stream = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + bytes(64)


def packed(path: Path, content: bytes | int) -> None:
    """Write an archive with rows, a number of megabytes of zeros or as given."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as x,
    ):
        if isinstance(content, bytes):
            x.write(content)
            return
        x.write(npy((content, MIB // 4))[:-64])
        for _ in range(content):
            x.write(bytes(MIB))


@pytest.mark.parametrize("shape", [(2**40, 4), (2**62, 2**62), (-4, -4), (17, 1)])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_rows_that_are_stated_and_absent(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    if suffix == ".npy":
        path.write_bytes(npy(shape))
    else:
        packed(path, npy(shape))
    with pytest.raises(InputError, match="is not a NumPy file, or it is damaged"):
        read_rows(path)


def test_rows_that_swell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_files, "SUSPECT_BYTES", 16 * MIB)
    path = tmp_path / "bomb.npz"
    packed(path, 20)
    assert path.stat().st_size < MIB // 10
    tracemalloc.start()
    with pytest.raises(InputError, match=r"x\.npy unpacks to 0\.0 GiB, \d+ times its size"):
        read_rows(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * MIB


def test_rows_that_compress_well_are_read(tmp_path: Path) -> None:
    path = tmp_path / "zeros.npz"
    packed(path, 4)
    assert read_rows(path).shape == (4, MIB // 4)


@pytest.mark.parametrize("header", [b"{'descr': '<f4', (", b"__import__('os')", b"{1: 2}", b"(" * 60])
def test_headers_that_are_none(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "rows.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(InputError, match="is not a NumPy file, or it is damaged"):
        read_rows(path)


def test_pickled_rows(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "harm"),)

    path = tmp_path / "rows.npy"
    np.save(path, np.array([[Harm()]], object), allow_pickle=True)
    with pytest.raises(InputError, match="holds Python objects"):
        read_rows(path)
    assert not (tmp_path / "harm").exists()


# Artefacts


def test_reasons_of_artefacts_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "network.snn.onnx"
    save(Artefact(random_graph(0)), path)
    proto = onnx.load(path)
    calls = [item for item in proto.graph.node if item.op_type == "Loop"] or list(proto.graph.node)
    inner = [item for item in calls[0].attribute[0].g.node if item.attribute] or calls
    inner[0].attribute[0].ref_attr_name = "two\nlines"
    for entry in proto.metadata_props:
        if entry.key == HASH:
            entry.value = content_hash(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))
    with pytest.raises(ArtefactError) as raised:
        load(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_axes_that_are_no_numbers(number: float, tmp_path: Path) -> None:
    proto = model([node("Unsqueeze", "x a")], ["N", 4], {"a": np.array([number], np.float32)})
    (found,) = check_onnx(saved(tmp_path, proto))
    assert "its axes are no whole numbers" in found.message


@pytest.mark.parametrize("opset", [2, 9, 17])
def test_no_operator_with_another_number_of_inputs_is_read(tmp_path: Path, opset: int) -> None:
    """Nor where its operator set does not have it, which is a warning: it would read what is not there."""
    tried = 0
    for name in OPERATORS:
        wanted = number_of_inputs(name, opset) or range(9)
        for count in (wanted.start - 1, wanted.stop):
            if 0 < count < 9:
                read = " ".join(["x", *["c"] * (count - 1)])
                proto = model([node(name, read)], FLAT, {"c": np.ones(4, np.float32)}, opset=opset)
                try:
                    found = check(saved(tmp_path, proto))
                except InputError:  # its operator set has this operator, and onnx's checker minds
                    continue
                finally:
                    tried += 1
                assert any(each.severity is Severity.ERROR for each in found), (name, count)
    assert tried > 60
