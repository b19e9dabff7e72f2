"""Small ONNX models for the tests of the reader, and the comparison with onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from snnc.frontend import SourceModel, read_onnx
from snnc.ir import ann
from snnc.simulation.ann_reference import run_ann

Array = NDArray[Any]
NEWEST_TESTED = 23
"""The newest operator set that the oldest supported onnxruntime runs."""


def node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> NodeProto:
    """Make a node; names of tensors are parted by spaces, ``-`` is an input left out."""
    read = ["" if name == "-" else name for name in inputs.split()]
    written = outputs.split()
    return helper.make_node(op, read, written, name=f"{op}_{written[0]}", **attributes)


def model(
    nodes: Sequence[NodeProto],
    input_shape: Sequence[int | str | None],
    constants: Mapping[str, Any] = {},
    *,
    opset: int = 17,
    output: str = "y",
    dtype: int = TensorProto.FLOAT,
    ir_version: int = 8,
) -> onnx.ModelProto:
    """Make a model that reads ``x`` and returns ``output``."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", dtype, input_shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def saved(folder: Path, proto: onnx.ModelProto, name: str = "model.onnx") -> Path:
    """Write a model to a file."""
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def original(path: Path, name: str, x: Array) -> Array:
    """Run a model in onnxruntime, one row at a time, as far as a fixed batch of 1 allows."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rows = [np.asarray(session.run(None, {name: x[i : i + 1]})[0]) for i in range(len(x))]
    return np.stack(rows).reshape(len(x), -1)


def read_again(source: SourceModel, x: Array) -> Array:
    """Run what was read in the reference."""
    y, _ = run_ann(source.graph, source.layout.to_canonical(x).astype(np.float32))
    return source.output.layout.to_source(y).reshape(len(x), -1)


def relative_error(source: SourceModel, x: Array) -> float:
    """Return the largest difference to onnxruntime, relative to the largest output."""
    expected = original(source.path, source.input_name, x)
    found = read_again(source, x)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-6))


def check_equal(folder: Path, proto: onnx.ModelProto, *, seed: int = 0, rows: int = 2) -> SourceModel:
    """Read a model, assert that it computes what onnxruntime does, and return it."""
    source = read_onnx(saved(folder, proto))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, *source.layout.source_shape)).astype(source.input_dtype)
    assert relative_error(source, x) < 1e-4
    source.graph.verify()
    return source


_RNG = np.random.default_rng(1)
_BEGINNING = _RNG.bit_generator.state


def normal(*shape: int) -> Array:
    """Return float32 weights; :func:`begin_weights` lets the next be the first again."""
    return np.asarray(_RNG.standard_normal(shape), np.float32)


def begin_weights() -> None:
    """Let the weights that follow be the same whatever was drawn before."""
    _RNG.bit_generator.state = _BEGINNING


def kinds(graph: ann.AnnGraph) -> list[str]:
    """Return the types of a graph's nodes, in order."""
    return [type(item).__name__ for item in graph]
