"""Shapes and types of all tensors of a model, and which of them grow with the batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, shape_inference

from snnc.ir.graph import Shape

ONLY_FATAL = 4


@dataclass(frozen=True, slots=True)
class Tensors:
    """What is known of a model's tensors.

    Attributes:
        shapes: for a batch of one, or of the size that the file fixes, the batch included.
        types: element types, as ONNX numbers them.
        rows: the tensors whose first axis is the batch, and no other axis depends on it.
        still: the tensors whose shape does not depend on the batch.
        batch: the size that the file fixes; ``None`` where the batch is free.
    """

    shapes: Mapping[str, Shape]
    types: Mapping[str, int]
    rows: frozenset[str]
    still: frozenset[str]
    batch: int | None


def tensors_of(model: onnx.ModelProto) -> Tensors:
    """Find shapes and types, by ONNX's inference, and where that does not say, by a run on zeros.

    Args:
        model: as :func:`snnc.frontend.simplify.simplify` returns it.
    """
    batch = fixed_batch(model)
    types, shapes = _found(model, batch or 1)
    _, others = _found(model, 2) if batch is None else (types, shapes)
    rows = {
        name
        for name, shape in shapes.items()
        if shape
        and (shape[0] == batch if batch is not None else (shape[0], others.get(name)) == (1, (2, *shape[1:])))
    }
    still = frozenset(name for name, shape in shapes.items() if others.get(name) == shape)
    return Tensors(shapes, types, frozenset(rows), still, batch)


def fixed_batch(model: onnx.ModelProto) -> int | None:
    """Return the first size of the first input, ``None`` where it is free."""
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims:
            return dims[0].dim_value if dims[0].HasField("dim_value") and dims[0].dim_value > 0 else None
    return None


def _found(model: onnx.ModelProto, batch: int) -> tuple[dict[str, int], dict[str, Shape]]:
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for value in sized.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and not (dims[0].HasField("dim_value") and dims[0].dim_value > 0):
            dims[0].dim_value = batch
    for value in sized.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = shape_inference.infer_shapes(sized, data_prop=True)
    except shape_inference.InferenceError:
        inferred = sized
    types: dict[str, int] = {}
    shapes: dict[str, Shape] = {}
    graph = inferred.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        tensor = value.type.tensor_type
        if tensor.elem_type:
            types[value.name] = tensor.elem_type
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            shapes[value.name] = tuple(d.dim_value for d in tensor.shape.dim)
    for constant in graph.initializer:
        types[constant.name], shapes[constant.name] = constant.data_type, tuple(constant.dims)
    made = [name for node in graph.node for name in node.output if name]
    open_sizes = any(
        not (d.HasField("dim_value") and d.dim_value > 0)
        for value in sized.graph.input
        for d in value.type.tensor_type.shape.dim
    )
    if not open_sizes and any(name not in shapes or name not in types for name in made):
        _run(sized, made, types, shapes)
    return types, shapes


def _run(model: onnx.ModelProto, names: list[str], types: dict[str, int], shapes: dict[str, Shape]) -> None:
    """Add what a run on zeros shows; nothing where onnxruntime does not run the model."""
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = ONLY_FATAL
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feeds = {value.name: _zeros(value) for value in model.graph.input}
        values = session.run(names, feeds)
    except Exception:  # noqa: BLE001, onnxruntime's exceptions have no root of their own
        return
    for name, value in zip(names, values, strict=True):
        if isinstance(value, np.ndarray):
            shapes.setdefault(name, value.shape)
            if value.dtype.kind in "biuf":
                types.setdefault(name, helper.np_dtype_to_tensor_dtype(value.dtype))


def _zeros(value: onnx.ValueInfoProto) -> np.ndarray:
    tensor = value.type.tensor_type
    sizes = tuple(max(d.dim_value, 1) for d in tensor.shape.dim)
    return np.zeros(sizes, helper.tensor_dtype_to_np_dtype(tensor.elem_type or TensorProto.FLOAT))
