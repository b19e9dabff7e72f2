"""What the host may not keep: rows that depend on each other, what nothing can run, count or tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import snnc
from snnc.artefact import Artefact, load, save
from snnc.artefact.metadata import HASH, content_hash
from snnc.compiler import Options, convert, read_convertible
from snnc.errors import ArtefactError, InputError, UnsupportedModelError

SHAPE = (2, 6, 6)
OPTIONS = Options(4, "fast", threads=1)
MACS = 6 * 6 * 8 * 2 * 9 + 288 * 5
node = helper.make_node


def network(
    suffix: Sequence[onnx.NodeProto], batch: int | str = "n", **constants: np.ndarray
) -> onnx.ModelProto:
    """Return a network behind whose last layer, ``z``, some nodes make ``out`` of it, sorted, ``p``."""
    g = np.random.default_rng(0)
    constants |= {
        "w1": g.normal(0, 0.4, (8, 2, 3, 3)).astype(np.float32),
        "w2": g.normal(0, 0.2, (288, 5)).astype(np.float32),
        "rows": np.array([0, -1]),
        "first": np.array([0]),
        "second": np.array([1]),
        "five": np.array([5]),
        "half": np.array(0.5, np.float32),
    }
    nodes = [
        node("Conv", ["image", "w1"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"], name="relu"),
        node("Reshape", ["r", "rows"], ["flat"], name="flat"),
        node("MatMul", ["flat", "w2"], ["z"], name="dense"),
        node("TopK", ["z", "five"], ["p", "order"], name="sort", axis=1),
        *suffix,
    ]
    read = {name for each in nodes for name in each.input}
    graph = helper.make_graph(
        nodes,
        "host",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, *SHAPE])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items() if k in read],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def rows(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, *SHAPE)).astype(np.float32)


def answers(artefact: Artefact, x: np.ndarray) -> np.ndarray:
    return artefact.decode(snnc.simulate(artefact, x, threads=1), x)["out"]


MIXING = {
    "mean": [node("ReduceMean", ["p", "first"], ["m"]), node("Sub", ["p", "m"], ["out"])],
    "running sum": [node("CumSum", ["p", "zero"], ["out"])],
    "first row": [node("Slice", ["p", "first", "second"], ["f"]), node("Sub", ["p", "f"], ["out"])],
}


@pytest.mark.parametrize("batch", ["n", 4])
@pytest.mark.parametrize("what", MIXING)
def test_rows_that_depend_on_each_other(what: str, batch: int | str) -> None:
    with pytest.raises(UnsupportedModelError, match="depends on the other rows of its batch"):
        read_convertible(network(MIXING[what], batch, zero=np.array(0)), OPTIONS)


def test_an_operator_that_onnxruntime_does_not_know() -> None:
    model = network([node("Guess", ["p"], ["out"], name="guess", domain="a.domain")])
    model.opset_import.append(helper.make_opsetid("a.domain", 1))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 5]))
    with pytest.raises(UnsupportedModelError, match="onnxruntime cannot run"):
        read_convertible(model, OPTIONS)


def test_products_in_a_branch_are_not_told_as_none() -> None:
    branch = helper.make_graph(
        [node("MatMul", ["p", "wide"], ["inner"], name="product")],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    suffix = [
        node("ReduceMax", ["half"], ["most"], keepdims=0),
        node("ReduceSum", ["p"], ["sum"], keepdims=0),
        node("Less", ["sum", "most"], ["less"]),
        node("If", ["less"], ["out"], name="choice", then_branch=branch, else_branch=branch),
    ]
    model = network(suffix)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((5, 5000), np.float32), "wide"))
    with pytest.raises(UnsupportedModelError) as refused:
        read_convertible(model, OPTIONS)
    assert "how many multiply-accumulates 'choice' takes is not known" in str(refused.value.diagnostics)


@pytest.mark.parametrize("batch", [1, 4])
def test_multiply_accumulates_are_those_of_a_row(batch: int) -> None:
    source, _ = read_convertible(network([node("Exp", ["p"], ["out"])], batch), OPTIONS)
    assert source.host is not None
    assert source.host.macs == MACS


def test_as_many_entries_as_rows_by_chance() -> None:
    suffix = [
        node("Greater", ["p", "limit"], ["is"]),
        node("NonZero", ["is"], ["places"]),
        node("Transpose", ["places"], ["turned"]),
        node("Cast", ["turned"], ["out"], to=TensorProto.FLOAT),
    ]
    made = convert(network(suffix, limit=np.array(0.98, np.float32)), rows(64), OPTIONS).artefact
    alone = [len(answers(made, x[None])) for x in rows(64, 2)]
    none, two = rows(64, 2)[[alone.index(0), alone.index(2)]]
    with pytest.raises(InputError, match="one row at a time"):
        answers(made, np.stack([none, two]))


def sparse() -> onnx.SparseTensorProto:
    values = helper.make_tensor("few", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    return helper.make_sparse_tensor(
        values, helper.make_tensor("at", TensorProto.INT64, [3], [0, 6, 12]), [5, 5]
    )


def test_a_sparse_constant_is_read_back(tmp_path: Path) -> None:
    model = network([node("MatMul", ["p", "few"], ["out"])])
    model.graph.sparse_initializer.append(sparse())
    made = convert(model, rows(64), OPTIONS).artefact
    save(made, tmp_path / "a.snn.onnx")
    x = rows(4, 2)
    np.testing.assert_array_equal(answers(load(tmp_path / "a.snn.onnx"), x), answers(made, x))


def test_a_sparse_constant_in_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.snn.onnx"
    save(convert(network([node("Exp", ["p"], ["out"], name="exp")]), rows(64), OPTIONS).artefact, path)
    model = onnx.load(path)
    outside = sparse()
    outside.values.data_location = TensorProto.EXTERNAL
    outside.values.external_data.add(key="location", value="../secret")
    exp = next(each for each in model.graph.node if each.name == "exp")
    exp.attribute.append(helper.make_attribute("value", outside))
    for entry in model.metadata_props:
        if entry.key == HASH:
            entry.value = content_hash(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match="lies in another file"):
        load(path)


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_random_numbers(batch: int | str) -> None:
    suffix = [node("RandomNormalLike", ["p"], ["noise"], seed=1.0), node("Add", ["p", "noise"], ["out"])]
    with pytest.raises(UnsupportedModelError, match="is another on every run"):
        read_convertible(network(suffix, batch), OPTIONS)


@pytest.mark.parametrize("value", [0.7, np.nan, 2.0**40])
def test_other_values_for_whole_numbers(value: float) -> None:
    model = network([node("Cast", ["gain"], ["factor"], to=1), node("Mul", ["p", "factor"], ["out"])])
    model.graph.input.append(helper.make_tensor_value_info("gain", TensorProto.INT32, ["n", 1]))
    made = convert(model, {"image": rows(64), "gain": np.ones((64, 1), np.int32)}, OPTIONS).artefact
    trace = snnc.simulate(made, {"image": rows(2), "gain": np.ones((2, 1), np.int32)}, threads=1)
    np.testing.assert_array_equal(
        made.decode(trace, {"image": rows(2), "gain": np.ones((2, 1))})["out"],
        made.decode(trace, {"image": rows(2), "gain": np.ones((2, 1), np.int32)})["out"],
    )
    with pytest.raises(InputError, match="'gain' takes int32, and other values are among the rows"):
        made.decode(trace, {"image": rows(2), "gain": np.full((2, 1), value, np.float32)})


def test_a_constant_output_is_read_back(tmp_path: Path) -> None:
    model = network([node("Exp", ["p"], ["out"])], 1)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 3), np.float32), "anchors"))
    model.graph.output.append(helper.make_tensor_value_info("anchors", TensorProto.FLOAT, [1, 3]))
    save(convert(model, rows(64), OPTIONS).artefact, tmp_path / "a.snn.onnx")
    made = load(tmp_path / "a.snn.onnx")
    trace = snnc.simulate(made, rows(2), threads=1)
    np.testing.assert_array_equal(made.decode(trace, rows(2))["anchors"], np.ones((2, 3)))


def test_a_batch_that_nothing_holds_is_refused_before_it_is_tried() -> None:
    """What the host runs is tried on made-up rows, as many as the network takes at once."""
    tail = [node("Identity", ["p"], ["out"], name="out")]
    with pytest.raises(UnsupportedModelError, match="more than is tried out"):
        read_convertible(network(tail, batch=2**31 - 1), OPTIONS)
    read_convertible(network(tail, batch=3), OPTIONS)


def test_other_values_for_whole_numbers_without_a_host() -> None:
    """They would be cut off, or not, as the reader likes."""
    graph = helper.make_graph(
        [
            node("Cast", ["count"], ["x"], to=1),
            node("MatMul", ["x", "w"], ["z"]),
            node("Relu", ["z"], ["r"]),
            node("MatMul", ["r", "v"], ["y"]),
        ],
        "whole",
        [helper.make_tensor_value_info("count", TensorProto.INT32, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), name) for name in "wv"],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    x = np.random.default_rng(0).integers(0, 9, (128, 4)).astype(np.int32)
    made = convert(model, x, OPTIONS).artefact
    assert made.host is None
    np.testing.assert_array_equal(made.encode(x), made.encode(x.astype(np.float64)))
    with pytest.raises(InputError, match="'count' takes int32, and other values are among the rows"):
        made.encode(x + 0.5)
    with pytest.raises(InputError, match="'count' takes int32, and other values are among the rows"):
        convert(model, x + 0.5, OPTIONS)


@pytest.mark.parametrize("host", ["edges", "any"])
def test_a_map_of_classes_is_named_with_its_cure(host: str, tmp_path: Path) -> None:
    """As skl2onnx puts it behind a classifier: no runtime takes its output for a tensor."""
    zipped = node("ZipMap", ["p"], ["out"], name="zip", domain="ai.onnx.ml", classlabels_int64s=range(5))
    model = network([zipped])
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    numbers = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, numbers))
    model.graph.output[0].CopyFrom(helper.make_value_info("out", kind))
    onnx.save(model, tmp_path / "n.onnx")
    with pytest.raises(UnsupportedModelError) as caught:
        convert(tmp_path / "n.onnx", rows(64), Options(4, "fast", threads=1, host=host))
    (found,) = caught.value.diagnostics
    assert (found.node, "ZipMap" in found.message) == ("zip", True)
    assert "onnxruntime" not in found.message
    assert "options={'zipmap': False}" in found.help
    assert "--keep-output" in found.help


def test_an_output_that_is_a_sequence_is_named(tmp_path: Path) -> None:
    model = network([node("SplitToSequence", ["p"], ["out"], name="parts", axis=1)])
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    model.graph.output[0].CopyFrom(helper.make_value_info("out", kind))
    onnx.save(model, tmp_path / "n.onnx")
    with pytest.raises(UnsupportedModelError, match="makes the output 'out' a sequence"):
        convert(tmp_path / "n.onnx", rows(64), OPTIONS)
