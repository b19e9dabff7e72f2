"""ONNX's shape inference, kept from what it does not survive.

The inference of Slice ends the process, by an assertion of the C++ library, where a size of its input is
negative. Files can bring such sizes along, or make them by negative pads. They mean nothing: no runtime takes
them.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import helper, shape_inference

from snnc.frontend.functions import DEFAULT_DOMAINS, nested, opset_of

MACHINE_LEARNING = "ai.onnx.ml"
"""The domain of classical machine learning."""

SHORT = 1024
"""Most elements of a constant whose values may say what shape something has."""

FAILURES = (
    onnx.checker.ValidationError,
    onnx.defs.SchemaError,
    shape_inference.InferenceError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What inference raises for nodes that are not as their operator wants them."""


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with the shapes that follow from its inputs and constants.

    Raises:
        ValueError: a size would be negative.
        Exception: any of ``FAILURES``.
    """
    if any(node.op_type == "Slice" for node in nested(model.graph.node)) and _has_negative(model):
        raise ValueError("a size is negative")
    if any(map(_keeps_shape, model.graph.node)):
        model = _with_casts(model)
    return shape_inference.infer_shapes(model, data_prop=True)


def _keeps_shape(node: onnx.NodeProto) -> bool:
    """Say whether a node gives floats of the shape of its input, which inference does not know."""
    return node.domain == MACHINE_LEARNING and node.op_type == "Scaler"


def _with_casts(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of the same shapes whose operators inference knows."""
    known = onnx.ModelProto()
    known.CopyFrom(model)
    for node in filter(_keeps_shape, known.graph.node):
        cast = helper.make_node("Cast", node.input, node.output, name=node.name, to=onnx.TensorProto.FLOAT)
        node.CopyFrom(cast)
    return known


def _has_negative(model: onnx.ModelProto) -> bool:
    """Follow the shapes node by node, and say whether a size is negative."""
    graph = model.graph
    types = {value.name: value.type for value in (*graph.input, *graph.value_info, *graph.output)}
    for tensor in graph.initializer:
        types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
    if any(map(_is_negative, types.values())):
        return True
    short = {tensor.name: tensor for tensor in graph.initializer if _elements(tensor) <= SHORT}
    return _grows_negative(graph.node, types, short, opset_of(model.opset_import))


def _grows_negative(
    nodes: Iterable[onnx.NodeProto],
    types: dict[str, onnx.TypeProto],
    data: dict[str, onnx.TensorProto],
    opset: int,
) -> bool:
    for node in nodes:
        if node.op_type == "Constant" and node.domain in DEFAULT_DOMAINS:
            data.update(
                (name, each.t)
                for each in node.attribute
                for name in node.output
                if each.name == "value" and _elements(each.t) <= SHORT
            )
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                stored = {tensor.name: tensor for tensor in inner.initializer if _elements(tensor) <= SHORT}
                if _grows_negative(inner.node, dict(types), {**data, **stored}, opset):
                    return True
        try:
            schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
            imports = [helper.make_opsetid("", opset)]
            read = {name: data[name] for name in node.input if name in data}
            found = shape_inference.infer_node_outputs(schema, node, types, read, opset_imports=imports)
        except FAILURES:
            continue
        if any(map(_is_negative, found.values())):
            return True
        types |= found
    return False


def _is_negative(kind: onnx.TypeProto) -> bool:
    return any(dim.dim_value < 0 for dim in kind.tensor_type.shape.dim)


def _elements(tensor: onnx.TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= max(size, 0)
    return count
