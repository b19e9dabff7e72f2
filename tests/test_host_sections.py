"""A network of which the host keeps a part: converted, written, read, and run alike everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import snnc
from snnc.analysis.evaluation import evaluate
from snnc.artefact import Artefact, load, save
from snnc.artefact.metadata import HASH, content_hash
from snnc.backends import load_simulator
from snnc.compiler import Options, convert, read_convertible
from snnc.errors import ArtefactError, InputError, UnsupportedModelError, UsageError

ROWS = 96
SHAPE = (2, 6, 6)


def sorted_by(x: str, constant: str, count: int, y: str, name: str, opset: int) -> onnx.NodeProto:
    """Return what sorts channels; up to operator set 9, an attribute says how many there are."""
    how: dict[str, Any] = {"k": count} if opset < 10 else {}
    read = [x] if opset < 10 else [x, constant]
    return helper.make_node("TopK", read, [y, f"places of {y}"], name=name, axis=1, **how)


def network(
    opset: int = 13, batch: int | str = "batch", names: tuple[str, str] = ("image", "scores")
) -> onnx.ModelProto:
    """Return a network that sorts in front, and sorts and multiplies by an input behind: no spike sorts."""
    g = np.random.default_rng(0)
    constants = {
        "one": np.float32(1.0),
        "two": np.array([2]),
        "five": np.array([5]),
        "w1": g.normal(0, 0.4, (8, 2, 3, 3)),
        "b1": g.normal(0, 0.1, 8),
        "w2": g.normal(0, 0.2, (8, 8, 3, 3)),
        "b2": g.normal(0, 0.1, 8),
        "w3": g.normal(0, 0.3, (128, 5)),
        "rows": np.array([0, -1]),
    }
    image, scores = names
    nodes = [
        sorted_by(image, "two", 2, "size", "sort", opset),
        helper.make_node("Add", ["size", "one"], ["more"], name="add"),
        sorted_by("more", "two", 2, "normal", "again", opset),
        helper.make_node("Conv", ["normal", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2"),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("Reshape", ["r2", "rows"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "w3"], ["z"], name="dense"),
        sorted_by("z", "five", 5, "p", "rank", opset),
        helper.make_node("ReduceMean", [image], ["light"], name="light", axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMax", ["light"], ["lightest"], name="lightest", axes=[1], keepdims=1),
        helper.make_node("Mul", ["p", "lightest"], [scores], name="gate"),
    ]
    initialisers = [
        numpy_helper.from_array(np.asarray(v, np.int64 if np.asarray(v).dtype.kind == "i" else np.float32), k)
        for k, v in constants.items()
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "host",
        [value(image, TensorProto.FLOAT, [batch, *SHAPE])],
        [value(scores, TensorProto.FLOAT, [batch, 5])],
        initialisers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def rows(n: int = ROWS, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, *SHAPE)).astype(np.float32)


def run(model: onnx.ModelProto, feeds: dict[str, Any], *, plain: bool = True) -> list[Any]:
    options = ort.SessionOptions()
    if plain:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


@pytest.fixture(scope="module")
def artefact() -> Artefact:
    return convert(network(), rows(), Options(4, "fast", threads=1)).artefact


def test_sections_are_told_with_their_reasons(artefact: Artefact) -> None:
    host = artefact.host
    assert host is not None
    told = {node.name: node for node in host.nodes}
    assert {name for name, node in told.items() if node.section == "prefix"} >= {"sort", "again"}
    assert {name for name, node in told.items() if node.section == "suffix"} >= {"rank", "gate"}
    assert told["sort"].is_cause
    assert "TopK" in told["sort"].reason
    assert "again" in told["add"].reason
    assert told["gate"].reason
    assert host.share == 1
    assert host.macs == 6 * 6 * 8 * 2 * 9 + 4 * 4 * 8 * 8 * 9 + 128 * 5


def test_answers_are_near_the_source(artefact: Artefact) -> None:
    x = rows(64, 2)
    (wanted,) = run(network(), {"image": x})
    found = artefact.decode(snnc.simulate(artefact, x, threads=1), x)["scores"]
    assert found.shape == wanted.shape
    noise = np.square(found - wanted).sum() / np.square(wanted - wanted.mean(0)).sum()
    assert noise < 0.2


def test_backends_agree(artefact: Artefact) -> None:
    x = rows(16, 3)
    outputs = [
        artefact.decode(snnc.simulate(artefact, x, backend=name, threads=1), x)["scores"]
        for name in ("reference", "numba", "onnx")
    ]
    for other in outputs[1:]:
        np.testing.assert_array_equal(outputs[0], other)


def test_the_file_is_the_whole_network(artefact: Artefact, tmp_path: Path) -> None:
    path = tmp_path / "whole.snn.onnx"
    save(artefact, path)
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert [value.name for value in model.graph.input] == ["image", "T"]
    assert [value.name for value in model.graph.output] == ["scores"]
    x = rows(16, 4)
    (found,) = run(model, {"image": x})
    np.testing.assert_array_equal(found, artefact.decode(snnc.simulate(artefact, x, threads=1), x)["scores"])
    (optimised,) = run(model, {"image": x}, plain=False)
    np.testing.assert_allclose(optimised, found, atol=1e-5)
    fewer = run(model, {"image": x, "T": np.asarray(2)})[0]
    trace = snnc.simulate(artefact, x, timesteps=2, threads=1)
    np.testing.assert_array_equal(fewer, artefact.decode(trace, x)["scores"])


def test_the_file_is_read_back(artefact: Artefact, tmp_path: Path) -> None:
    path, again = tmp_path / "a.snn.onnx", tmp_path / "b.snn.onnx"
    save(artefact, path)
    loaded = load(path)
    assert loaded.host is not None
    assert artefact.host is not None
    assert loaded.host.as_dict() == artefact.host.as_dict()
    x = rows(8, 5)
    np.testing.assert_array_equal(
        loaded.decode(snnc.simulate(loaded, x, threads=1), x)["scores"],
        artefact.decode(snnc.simulate(artefact, x, threads=1), x)["scores"],
    )
    save(loaded, again)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("names", [("x", "y"), ("q", "T + K"), ("batch size", "c1")])
def test_names_of_the_source_are_kept(names: tuple[str, str]) -> None:
    model = network(names=names) if "c1" not in names else network(names=("batch size", "readout"))
    made = convert(model, rows(), Options(4, "fast", threads=1)).artefact
    whole = made.model()
    onnx.checker.check_model(whole)
    x = rows(4, 6)
    name = model.graph.output[0].name
    (found,) = run(whole, {model.graph.input[0].name: x})
    np.testing.assert_array_equal(found, made.decode(snnc.simulate(made, x, threads=1), x)[name])


@pytest.mark.parametrize(("opset", "batch"), [(9, 1), (11, "n"), (17, 4)])
def test_versions_and_batches(opset: int, batch: int | str) -> None:
    model = network(opset, batch)
    made = convert(model, rows(), Options(4, "fast", threads=1)).artefact
    x = rows(8, 7)
    found = made.decode(snnc.simulate(made, x, threads=1), x)["scores"]
    size = batch if isinstance(batch, int) else 8
    for start in range(0, 8, size):
        part = x[start : start + size]
        np.testing.assert_array_equal(run(made.model(), {"image": part})[0], found[start : start + size])
    five = made.decode(snnc.simulate(made, x[:5], threads=1), x[:5])["scores"]
    np.testing.assert_array_equal(five, found[:5])


def test_none_refuses_and_names_every_node() -> None:
    with pytest.raises(UnsupportedModelError) as refused:
        read_convertible(network(), Options(4, "fast", host="none"))
    assert {"sort", "rank"} <= {item.node for item in refused.value.diagnostics}


def test_a_name_that_the_artefact_needs_is_refused() -> None:
    made = convert(network(names=("T", "scores")), rows(), Options(4, "fast", threads=1)).artefact
    with pytest.raises(UnsupportedModelError, match="rename it"):
        made.model()


def detector() -> onnx.ModelProto:
    """Return a network with two outputs of boxes, whose scores are sorted along the last axis."""
    g = np.random.default_rng(3)
    constants = {
        "w1": g.normal(0, 0.4, (8, 2, 3, 3)),
        "w2": g.normal(0, 0.1, (4, 8, 3, 3)),
        "w3": g.normal(0, 0.03, (8, 8, 3, 3)),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
    ]
    for head, weight, size in (("scores", "w2", 2), ("boxes", "w3", 4)):
        nodes += [
            helper.make_node("Conv", ["r1", weight], [f"{head}c"], name=f"{head}conv"),
            helper.make_node("Transpose", [f"{head}c"], [f"{head}t"], name=f"{head}turn", perm=[0, 2, 3, 1]),
            helper.make_node("Shape", [f"{head}t"], [f"{head}s"], name=f"{head}shape"),
            helper.make_node("Gather", [f"{head}s", "first"], [f"{head}n"], name=f"{head}batch"),
            helper.make_node("Concat", [f"{head}n", f"{head}size"], [f"{head}r"], name=f"{head}wide", axis=0),
            helper.make_node("Reshape", [f"{head}t", f"{head}r"], [f"{head}b"], name=f"{head}rows"),
        ]
        constants[f"{head}size"] = np.array([-1, size])
    nodes += [
        helper.make_node("TopK", ["scoresb", "all"], ["scores", "places"], name="sort", axis=2),
        helper.make_node("Exp", ["boxesb"], ["boxes"], name="exp"),
    ]
    constants |= {"first": np.array([0]), "all": np.array([2])}
    arrays = {
        name: np.asarray(v, np.int64 if np.asarray(v).dtype.kind == "i" else np.float32)
        for name, v in constants.items()
    }
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "detector",
        [value("image", TensorProto.FLOAT, ["n", *SHAPE])],
        [value("scores", TensorProto.FLOAT, ["n", 32, 2]), value("boxes", TensorProto.FLOAT, ["n", 32, 4])],
        [numpy_helper.from_array(v, name) for name, v in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_several_outputs_of_a_detector(tmp_path: Path) -> None:
    model, x = detector(), rows(8, 11)
    made = convert(model, rows(), Options(4, "fast", threads=1)).artefact
    assert made.host is not None
    assert {"sort"} <= {node.name for node in made.host.nodes if node.section == "suffix"}
    assert made.host.share == 1
    trace = snnc.simulate(made, x, threads=1)
    found = made.decode(trace, x)
    save(made, tmp_path / "d.snn.onnx")
    loaded = load(tmp_path / "d.snn.onnx")
    whole = run(onnx.load(tmp_path / "d.snn.onnx"), {"image": x})
    for name, value, source in zip(("scores", "boxes"), whole, run(model, {"image": x}), strict=True):
        np.testing.assert_array_equal(found[name], value)
        np.testing.assert_array_equal(loaded.decode(trace, x)[name], value)
        assert np.square(value - source).sum() < 0.1 * np.square(source).sum()


FORGED: dict[str, Any] = {
    "entries": lambda host: host["entries"][0].update(name="other"),
    "exits": lambda host: host["exits"].clear(),
    "outputs": lambda host: host["outputs"][0].update(name="nothing"),
    "prefix": lambda host: host["sections"].update(prefix=None),
    "border": lambda host: host["sections"]["suffix"]["inputs"][0].update(name="nothing"),
    "batch": lambda host: host.update(batch=-1),
    "large batch": lambda host: host.update(batch=2**40),
    "macs": lambda host: host.update(macs=-5),
    "nodes": lambda host: host["nodes"][0].pop("reason"),
    "operator": lambda host: host["nodes"][0].update(operator=3),
    "section": lambda host: host["nodes"][0].update(section={}),
    "shape": lambda host: host["entries"][0].update(shape=[1]),
    "type": lambda host: host["inputs"][0].update(dtype="a text"),
    "whole": lambda host: host.clear(),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_a_file_says_of_its_host_is_not_believed(artefact: Artefact, tmp_path: Path, what: str) -> None:
    path = tmp_path / "forged.snn.onnx"
    save(artefact, path)
    model = onnx.load(path)
    for entry in model.metadata_props:
        if entry.key == "snnc.host":
            host = json.loads(entry.value)
            FORGED[what](host)
            entry.value = json.dumps(host)
    for entry in model.metadata_props:
        if entry.key == HASH:
            entry.value = content_hash(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match="not in the form that snnc writes"):
        load(path)


def test_constants_of_the_host_lie_in_the_file(artefact: Artefact, tmp_path: Path) -> None:
    path = tmp_path / "forged.snn.onnx"
    save(artefact, path)
    model = onnx.load(path)
    node = next(node for node in model.graph.node if node.name == "sort")
    tensor = TensorProto(
        name="outside", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value="../secret")
    node.attribute.append(helper.make_attribute("value", tensor))
    for entry in model.metadata_props:
        if entry.key == HASH:
            entry.value = content_hash(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError):
        load(path)


def test_weights_of_the_host_may_lie_beside_the_file(artefact: Artefact, tmp_path: Path) -> None:
    path = tmp_path / "large.snn.onnx"
    save(artefact, path, external_above=0)
    x = rows(4, 8)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    loaded = load(path)
    wanted = artefact.decode(snnc.simulate(artefact, x, threads=1), x)["scores"]
    np.testing.assert_array_equal(np.asarray(session.run(None, {"image": x})[0]), wanted)
    np.testing.assert_array_equal(loaded.decode(snnc.simulate(loaded, x, threads=1), x)["scores"], wanted)


def two_inputs() -> onnx.ModelProto:
    """Return the network with a second input, integers that are read behind the spikes alone."""
    model = network()
    graph = model.graph
    graph.input.append(helper.make_tensor_value_info("gain", TensorProto.INT32, ["batch", 1]))
    graph.output[0].name = "scaled"
    graph.node.append(helper.make_node("Cast", ["gain"], ["factor"], name="cast", to=TensorProto.FLOAT))
    graph.node.append(helper.make_node("Mul", ["scores", "factor"], ["scaled"], name="scale"))
    return model


def test_an_input_that_only_the_suffix_reads(tmp_path: Path) -> None:
    model = two_inputs()
    gain = np.arange(ROWS, dtype=np.int32)[:, None] % 5

    def feeds(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"image": x, "gain": gain[: len(x)]}

    made = convert(model, feeds(rows()), Options(4, "fast", threads=1)).artefact
    assert list(made.takes) == ["image", "gain"]
    assert [node.name for node in made.graph.inputs] == ["normal"]
    given = feeds(rows(8, 12))
    found = made.decode(snnc.simulate(made, given, threads=1), given)["scaled"]
    save(made, tmp_path / "two.snn.onnx")
    np.testing.assert_array_equal(run(onnx.load(tmp_path / "two.snn.onnx"), given)[0], found)
    (source,) = run(model, given)
    assert np.square(found - source).sum() < 0.2 * np.square(source).sum()


def with_nms() -> onnx.ModelProto:
    """Return the detector with a batch of one, behind whose boxes the best are chosen."""
    model = detector()
    graph = model.graph
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del graph.output[:]
    for name, value in (
        ("most", np.array([3], np.int64)),
        ("overlap", np.array([0.5], np.float32)),
        ("least", np.array([0.4], np.float32)),
    ):
        graph.initializer.append(numpy_helper.from_array(value, name))
    graph.node.append(helper.make_node("Transpose", ["scores"], ["byclass"], name="byclass", perm=[0, 2, 1]))
    graph.node.append(
        helper.make_node(
            "NonMaxSuppression", ["boxes", "byclass", "most", "overlap", "least"], ["chosen"], name="nms"
        )
    )
    graph.output.append(helper.make_tensor_value_info("chosen", TensorProto.INT64, ["k", 3]))
    return model


def test_as_many_boxes_as_are_left(tmp_path: Path) -> None:
    made = convert(with_nms(), rows(), Options(8, "balanced", threads=1)).artefact
    assert made.host is not None
    assert "nms" in {node.name for node in made.host.nodes if node.section == "suffix"}
    save(made, tmp_path / "nms.snn.onnx")
    loaded = load(tmp_path / "nms.snn.onnx")
    whole = onnx.load(tmp_path / "nms.snn.onnx")
    for x in rows(3, 13):
        (wanted,) = run(whole, {"image": x[None]})
        found = loaded.decode(snnc.simulate(loaded, x[None], threads=1), x[None])["chosen"]
        assert found.shape[1] == 3
        np.testing.assert_array_equal(found, wanted)
    both = rows(2, 13)
    with pytest.raises(InputError, match="one row at a time"):
        loaded.decode(snnc.simulate(loaded, both, threads=1), both)
    with pytest.raises(UsageError, match="keep-output"):
        evaluate(
            loaded.graph,
            loaded.encode,
            both,
            None,
            simulator=load_simulator("numba", 1),
            finish=loaded.finish,
        )
