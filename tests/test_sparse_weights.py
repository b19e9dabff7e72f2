"""Weights of which many are zero: artefacts hold a bit for each and the others, and compute the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from snnc.artefact import Artefact, load, save
from snnc.artefact.functions import DOMAIN, DOMAIN_VERSION, OPSET, Carrier, function
from snnc.artefact.metadata import HASH, content_hash
from snnc.artefact.sparse_weights import PARTS, WORTH_BYTES, WORTH_SHARE, packed, unpacked
from snnc.artefact.writer import build_model
from snnc.errors import ArtefactError
from snnc.ir.neuron import Schedule
from snnc.ir.snn import SnnGraph, Weighted
from snnc.simulation.reference import ReferenceSimulator
from tests.spiking_graphs import as_float, random_graph, random_inputs, sparse, wide_graph
from tests.test_artefact_file import METADATA, assert_equal_graphs

SHAPES = st.lists(st.integers(1, 12), min_size=1, max_size=4).map(tuple)


def weight_of(shape: tuple[int, ...], density: float, kind: str, seed: int) -> np.ndarray:
    """Return a weight of which about ``density`` is not zero."""
    random = np.random.default_rng(seed)
    values = random.integers(-127, 128, shape)
    return (values * (random.random(shape) < density)).astype(kind)


@settings(max_examples=100)
@given(
    shape=SHAPES,
    density=st.floats(0, 1),
    kind=st.sampled_from(["int8", "int16", "float32"]),
    seed=st.integers(0, 99),
)
def test_a_weight_comes_back(shape: tuple[int, ...], density: float, kind: str, seed: int) -> None:
    weight = weight_of(shape, density, kind, seed)
    found = packed(weight)
    if found is None:
        kept = np.count_nonzero(weight)
        size = -(-weight.size // 8) + (kept + 1) * weight.itemsize
        assert weight.nbytes < WORTH_BYTES or size > WORTH_SHARE * weight.nbytes
        return
    mask, values = found
    assert mask.nbytes + values.nbytes <= WORTH_SHARE * weight.nbytes
    again = unpacked(mask, values, shape)
    assert again.dtype == weight.dtype
    np.testing.assert_array_equal(again, weight)


def test_a_negative_zero_keeps_its_sign() -> None:
    weight = np.zeros(1024, np.float32)
    weight[5] = -0.0
    found = packed(weight)
    assert found is not None
    assert unpacked(*found, weight.shape).tobytes() == weight.tobytes()


@pytest.mark.parametrize("kind", ["int8", "float32"])
@pytest.mark.parametrize("shape", [(16, 13, 3, 3), (1031,), (40, 40), (1024, 1)])
def test_the_function_makes_the_weight(shape: tuple[int, ...], kind: str) -> None:
    """By onnxruntime and by the standard's own evaluator, whether a byte of the mask is whole or not."""
    weight = weight_of(shape, 0.2, kind, 3)
    stored = packed(weight)
    assert stored is not None
    call = helper.make_node("SparseWeight", list(PARTS), ["weight"], domain=DOMAIN, shape=shape)
    given = [numpy_helper.from_array(part, name) for name, part in zip(PARTS, stored, strict=True)]
    element = helper.np_dtype_to_tensor_dtype(weight.dtype)
    output = helper.make_tensor_value_info("weight", element, shape)
    model = helper.make_model(
        helper.make_graph([call], "alone", [], [output], given),
        functions=[function("SparseWeight", Schedule.SYNCHRONOUS, Carrier.INTEGER)],
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)],
        ir_version=10,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {})
    (other,) = ReferenceEvaluator(model).run(None, {})
    np.testing.assert_array_equal(found, weight)
    np.testing.assert_array_equal(other, weight)


@pytest.mark.parametrize(
    ("mask", "values", "shape", "message"),
    [
        ([255], [0, 1], (8,), "2 values do not fit a mask of 8"),
        ([1], [3, 1], (8,), "2 values do not fit a mask of 1"),
        ([1, 0], [0, 1], (8,), r"a mask of 2 bytes does not fit a weight of \(8,\)"),
        ([16], [0, 1], (4,), "2 values do not fit"),
        ([1], [0, 1], (2, -4), "does not fit a weight"),
        ([1], [0, 1], (0, 8), "does not fit a weight"),
    ],
    ids=["too few", "no zero", "too long", "beyond the end", "negative", "empty"],
)
def test_what_does_not_fit_is_refused(
    mask: list[int], values: list[int], shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        unpacked(np.array(mask, np.uint8), np.array(values, np.int8), shape)


def quiet() -> onnxruntime.SessionOptions:
    """Return settings under which onnxruntime tells of errors alone."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options


SPARSE = [
    sparse(wide_graph(1), 0.1),
    sparse(wide_graph(2), 0.5),
    sparse(as_float(wide_graph(3), 0.0137), 0.3),
    sparse(random_graph(8, flat=True, schedule=Schedule.LAYERWISE), 0.1),
]


@pytest.mark.parametrize("graph", SPARSE, ids=["tenth", "half", "floats", "layerwise"])
def test_an_artefact_gets_smaller_and_stays_the_same_network(graph: SnnGraph, tmp_path: Path) -> None:
    path = tmp_path / "network.snn.onnx"
    save(Artefact(graph, METADATA), path)
    assert_equal_graphs(load(path).graph, graph)
    large = [node for node in graph if isinstance(node, Weighted) and node.weight.nbytes >= WORTH_BYTES]
    called = [node for node in build_model(graph, sparse=True).graph.node if node.op_type == "SparseWeight"]
    assert bool(called) == bool(large)
    if called:
        dense = tmp_path / "dense.snn.onnx"
        filled = {node.name: node.with_(weight=np.ones_like(node.weight)) for node in large}
        save(Artefact(graph.replacing(filled), METADATA), dense)
        assert path.stat().st_size < dense.stat().st_size


@pytest.mark.parametrize(
    "graph", [each for each in SPARSE if each.integer], ids=["tenth", "half", "layerwise"]
)
def test_any_runtime_computes_the_same(graph: SnnGraph) -> None:
    rows = random_inputs(graph, 3, 5)
    expected = ReferenceSimulator().run(graph, rows, 4)
    model = build_model(graph, encoded=True, sparse=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), quiet())
    (found,) = session.run(["y"], {"q": rows, "T": np.array(4)})
    (output,) = expected.outputs.values()
    np.testing.assert_array_equal(found, output)


def test_a_runtime_unpacks_once(tmp_path: Path) -> None:
    """Nothing of it is left in the model that runs."""
    options = quiet()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(build_model(SPARSE[0], sparse=True).SerializeToString(), options)
    text = (tmp_path / "optimised.onnx").read_bytes()
    assert b"BitShift" not in text
    assert b"CumSum" not in text


def test_a_forged_mask_is_refused(tmp_path: Path) -> None:
    model = Artefact(SPARSE[0], METADATA).model()
    mask = next(tensor for tensor in model.graph.initializer if tensor.name.endswith(".weight.mask"))
    mask.raw_data = bytes(len(mask.raw_data))
    for entry in model.metadata_props:
        if entry.key == HASH:
            entry.value = content_hash(model)
    path = tmp_path / "forged.snn.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match="not in the form that snnc writes"):
        load(path)
