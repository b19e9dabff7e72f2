"""Shapes and types of all tensors of a model, and which of them grow with the batch. Nothing is run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from onnx import helper, numpy_helper

from snnc.frontend.functions import DEFAULT_DOMAINS, opset_of
from snnc.frontend.inference import FAILURES, inferred
from snnc.frontend.simplify import NOT_DETERMINED, SHORT, Constant, evaluate, reads
from snnc.frontend.tensors import is_external, read_tensor
from snnc.ir.graph import Shape

LEAST_IR_VERSION = 4
"""Version of the file's form from which on constants are no inputs."""

MOST_ROUNDS = 12
"""How often inference is asked again with what was computed of shapes."""


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
    """Find shapes and types.

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
    """Return types and shapes by name, for a batch of that size.

    ONNX's inference gives up where an exporter computes a shape in a way that it does not follow. So what
    depends on constants and known shapes alone is computed and put into the model, and it is asked again.
    """
    sized = without_weights(model)
    for value in sized.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and not (dims[0].HasField("dim_value") and dims[0].dim_value > 0):
            dims[0].dim_value = batch
    for value in sized.graph.output:
        value.type.tensor_type.ClearField("shape")
    types: dict[str, int] = {}
    shapes: dict[str, Shape] = {}
    opset = opset_of(model.opset_import)
    for _ in range(MOST_ROUNDS):
        _infer(sized, types, shapes)
        made = [name for node in sized.graph.node for name in node.output if name]
        if all(name in shapes and name in types for name in made) or not _settle(sized, shapes, opset):
            break
    for constant in model.graph.initializer:
        types[constant.name], shapes[constant.name] = constant.data_type, tuple(constant.dims)
    return types, shapes


def stored_within(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """Return a tensor with its values, also where these lie in another file.

    Raises:
        ValueError: they are damaged.
    """
    return numpy_helper.from_array(read_tensor(tensor), tensor.name) if is_external(tensor) else tensor


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model whose large constants have types and sizes alone."""
    small = onnx.ModelProto()
    small.opset_import.extend(model.opset_import)
    small.ir_version = max(model.ir_version, LEAST_IR_VERSION)
    graph = small.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if prod(tensor.dims) <= SHORT:
            graph.initializer.append(stored_within(tensor))
        else:
            graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    for sparse in model.graph.sparse_initializer:  # which inference takes for no tensors
        values = sparse.values
        graph.input.append(helper.make_tensor_value_info(values.name, values.data_type, list(sparse.dims)))
    return small


def _infer(model: onnx.ModelProto, types: dict[str, int], shapes: dict[str, Shape]) -> None:
    """Add what ONNX's inference says."""
    try:
        graph = inferred(model).graph
    except FAILURES:
        return
    for value in (*graph.input, *graph.output, *graph.value_info):
        tensor = value.type.tensor_type
        if tensor.elem_type:
            types[value.name] = tensor.elem_type
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            shapes[value.name] = tuple(d.dim_value for d in tensor.shape.dim)


def _settle(model: onnx.ModelProto, shapes: dict[str, Shape], opset: int) -> bool:
    """Put the values of small tensors that are known into a model; return whether there were any new ones."""
    graph = model.graph
    known: dict[str, Constant] = {}
    for tensor in graph.initializer:
        with suppress(ValueError):  # one that is damaged says nothing of shapes
            known[tensor.name] = read_tensor(tensor)
    kept, found = [], list[onnx.TensorProto]()
    for node in graph.node:
        values = _values(node, known, shapes, opset)
        if values is None:
            kept.append(node)
            continue
        for name, value in zip(node.output, values, strict=True):
            if name:
                known[name] = value
                shapes[name] = value.shape
                found.append(numpy_helper.from_array(value, name))
    if found:
        del graph.node[:]
        graph.node.extend(kept)
        graph.initializer.extend(found)
    return bool(found)


def _values(
    node: onnx.NodeProto, known: Mapping[str, Constant], shapes: Mapping[str, Shape], opset: int
) -> list[Constant] | None:
    """Return what a node gives where that follows from constants and shapes, and is small."""
    if node.domain not in DEFAULT_DOMAINS or node.op_type in NOT_DETERMINED or _has_body(node):
        return None
    if node.op_type == "Shape" and node.input[0] in shapes:
        bounds = {attribute.name: attribute.i for attribute in node.attribute}
        sizes = shapes[node.input[0]][slice(bounds.get("start"), bounds.get("end"))]
        return [np.array(sizes, np.int64)]
    read = list(reads(node))
    if any(name not in known for name in read):
        return None
    try:
        values = evaluate(node, {name: known[name] for name in read}, opset)
    except ValueError:
        return None
    return values if all(value.size <= SHORT for value in values) else None


def _has_body(node: onnx.NodeProto) -> bool:
    return any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
