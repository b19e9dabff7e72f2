"""Simplify a model for the reader, without changing names or meaning.

Local functions are inlined, initialisers are removed from the inputs, nodes are sorted topologically, and
nodes that the output does not need are removed. Constants are folded node by node during the reader's walk
(:func:`evaluate`), by ONNX's own reference evaluator: no node is rewritten, so all keep their names.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, inliner, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from snnc.errors import InputError
from snnc.ir.graph import Shape

Constant = NDArray[Any]

DEFAULT_DOMAINS = ("", "ai.onnx")
NOT_DETERMINED = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
# The evaluator knows DequantizeLinear from this version on; what older versions can say means the same in it.
EVALUATED_AS = {"DequantizeLinear": 21}
# The evaluator computes these by the rules of this version on in all versions.
NEWER_RULES = {"BatchNormalization": 14, "Hardmax": 13, "LogSoftmax": 13, "Softmax": 13}
# Where windows lie is not always what runtimes make of it: no network pools a constant.
WINDOWS = frozenset({"AveragePool", "LpPool", "MaxPool"})
MAX_FOLDED = 2**28
"""Most elements of a folded constant: more is a mistake in the file, and would fill the memory."""


def simplify(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """Return the model in the form described above.

    Args:
        model: as it was loaded; not changed.
        where: the file, for messages.

    Raises:
        InputError: the model breaks the rules of ONNX.
    """
    if model.functions:
        model = inliner.inline_local_functions(model)
    simple = onnx.ModelProto()
    simple.CopyFrom(model)
    graph = simple.graph
    initialisers = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initialisers]
    nodes = _needed(_sorted(graph.node, where), [value.name for value in graph.output])
    del graph.input[:], graph.node[:], graph.value_info[:]
    graph.input.extend(inputs)
    graph.node.extend(nodes)
    simple.ir_version = max(simple.ir_version, 4)  # before, initialisers had to be inputs too
    for value in (*graph.input, *graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()  # some exporters leave out unknown shapes
    known = {entry.domain for entry in simple.opset_import}
    try:
        for domain in sorted({node.domain for node in nodes} - known - set(DEFAULT_DOMAINS)):
            simple.opset_import.append(helper.make_opsetid(domain, 1))  # the checker wants them all
        onnx.checker.check_model(simple)
    except (onnx.checker.ValidationError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{where} is not a valid ONNX model: {reason}; export it again") from error
    return simple


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names of all tensors that a node reads, those that only its subgraphs read included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                yield from reads(inner)
            yield from (value.name for value in graph.output)


def _sorted(nodes: Sequence[onnx.NodeProto], where: str) -> list[onnx.NodeProto]:
    """Sort topologically, changing the file's order as little as possible."""
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    waits = [{producer[name] for name in reads(node) if name in producer} for node in nodes]
    readers: dict[int, list[int]] = {}
    for index, wanted in enumerate(waits):
        for other in wanted:
            readers.setdefault(other, []).append(index)
    ready = [index for index, wanted in enumerate(waits) if not wanted]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers.get(index, ()):
            waits[reader].discard(index)
            if not waits[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        stuck = next(node for index, node in enumerate(nodes) if waits[index])
        raise InputError(
            f"{where} is not a valid ONNX model: the node {label(stuck)!r} depends on its own output"
        )
    return [nodes[index] for index in order]


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """Return the nodes that the outputs depend on."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(reads(node))
            kept.append(node)
    return kept[::-1]


def label(node: onnx.NodeProto) -> str:
    """Return what a node is called in messages: its name, or that of its first output."""
    return node.name or next((name for name in node.output if name), node.op_type)


def evaluate(node: onnx.NodeProto, inputs: Mapping[str, Constant], opset: int) -> list[Constant]:
    """Compute a node of the default domain whose inputs are all constants.

    Args:
        node: the operation.
        inputs: values by name.
        opset: version of the default domain.

    Returns:
        The value of every output.

    Raises:
        ValueError: it cannot be computed; the message says why.
    """
    if node.op_type in ("ConstantOfShape", "Expand", "Tile"):
        sizes = [np.prod(value, dtype=np.float64) for value in inputs.values() if value.dtype.kind == "i"]
        if max(sizes, default=0) > MAX_FOLDED:
            raise ValueError(f"it would have more than {MAX_FOLDED} elements")
    if (reason := _not_folded(node, inputs, opset)) is not None:
        raise ValueError(reason)
    opset = max(opset, EVALUATED_AS.get(node.op_type, opset))
    types = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    outputs = [helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name]
    graph = helper.make_graph([node], "constant", types, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    try:
        with np.errstate(all="ignore"):
            values = ReferenceEvaluator(model).run(None, dict(inputs))
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        MemoryError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(str(error).strip().partition("\n")[0] or type(error).__name__) from error
    results = [np.asarray(value) for value in values]
    names = iter(results)
    return [next(names) if name else np.empty(0) for name in node.output]


def _not_folded(node: onnx.NodeProto, inputs: Mapping[str, Constant], opset: int) -> str | None:
    """Say why the evaluator would not compute what the file means."""
    if opset < NEWER_RULES.get(node.op_type, 0):
        return f"it has another meaning before opset {NEWER_RULES[node.op_type]}"
    if node.op_type in WINDOWS:
        return "poolings of constants are not folded"
    training = node.op_type == "Dropout" and len(node.input) > 2 and np.any(inputs.get(node.input[2], False))
    return "it is in training mode" if training else None


def constants_of(graph: onnx.GraphProto, where: str) -> dict[str, Constant]:
    """Return a graph's initialisers.

    Raises:
        InputError: one of them is damaged.
    """
    found = {}
    for tensor in graph.initializer:
        try:
            found[tensor.name] = numpy_helper.to_array(tensor)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where} is damaged: the constant {tensor.name!r} cannot be read") from error
    return found


def infer_shapes(
    node: onnx.NodeProto, shapes: Mapping[str, Shape], constants: Mapping[str, Constant], opset: int
) -> list[Shape | None]:
    """Return the shape of each output of a node that is not computed, ``None`` where it is not known.

    Args:
        node: the operation.
        shapes: shapes of the float inputs that are not constant.
        constants: the constant inputs.
        opset: version of the default domain.
    """
    types = {
        name: helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()
    }
    data = {name: numpy_helper.from_array(value, name) for name, value in constants.items()}
    types |= {name: helper.make_tensor_type_proto(t.data_type, list(t.dims)) for name, t in data.items()}
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        found = shape_inference.infer_node_outputs(
            schema, node, types, data, opset_imports=[helper.make_opsetid("", opset)]
        )
    except (
        onnx.checker.ValidationError,
        onnx.defs.SchemaError,
        shape_inference.InferenceError,
        KeyError,
        RuntimeError,
    ):
        return [None] * len(node.output)
    return [_static(found[name]) if name in found else None for name in node.output]


def _static(found: onnx.TypeProto) -> Shape | None:
    dims = found.tensor_type.shape.dim
    known = found.tensor_type.HasField("shape") and all(d.dim_value > 0 for d in dims)
    return tuple(d.dim_value for d in dims) if known else None
