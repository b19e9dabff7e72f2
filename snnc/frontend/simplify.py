"""Simplify a model for the reader, without changing names or meaning.

Local functions are inlined, initialisers are removed from the inputs, nodes are sorted topologically, and
nodes that the output does not need are removed. Constants are folded node by node during the reader's walk
(:func:`evaluate`), by ONNX's own reference evaluator: no node is rewritten, so all keep their names.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from snnc.diagnostics import CHECKER, Diagnostic
from snnc.errors import InputError
from snnc.frontend.checking import check
from snnc.frontend.functions import DEFAULT_DOMAINS, inlined, nested, opset_of
from snnc.frontend.tensors import MAX_MADE, read_sparse, read_tensor
from snnc.frontend.tensors import Constant as Constant
from snnc.ir.graph import Shape

OLDEST_OPSET = 1
NEWEST_OPSET = onnx.defs.onnx_opset_version()
NOT_DETERMINED = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
# The evaluator knows DequantizeLinear from this version on; what older versions can say means the same in it.
EVALUATED_AS = {"DequantizeLinear": 21}
# The evaluator computes these by the rules of this version on in all versions.
NEWER_RULES = {"BatchNormalization": 14, "Hardmax": 13, "LogSoftmax": 13, "Softmax": 13}
# Where windows lie is not always what runtimes make of it: no network pools a constant.
WINDOWS = frozenset({"AveragePool", "LpPool", "MaxPool"})
BY_VALUE = frozenset(
    {"AffineGrid", "BlackmanWindow", "CenterCropPad", "Col2Im", "ConstantOfShape", "ConvTranspose", "DFT"}
    | {"Expand", "EyeLike", "HammingWindow", "HannWindow", "MaxUnpool", "MelWeightMatrix", "OneHot", "Pad"}
    | {"Range", "Resize", "RoiAlign", "STFT", "Tile", "Upsample"}
)
"""Operators that give as many elements as the values of their inputs say; others, the sizes multiplied."""
SHRINKING = frozenset({"Compress", "NonZero", "Unique"})
"""Operators that give about as many elements as they read, or fewer; how many, the values say."""
SHORT = 1024
"""Most elements of a constant whose values may say what shape something has."""


def simplify(model: onnx.ModelProto, where: str) -> tuple[onnx.ModelProto, tuple[Diagnostic, ...]]:
    """Return the model in the form described above, and warnings.

    Args:
        model: as it was loaded; not changed.
        where: the file, for messages.

    Raises:
        InputError: the model breaks the rules of ONNX.
    """
    simple = onnx.ModelProto()
    simple.CopyFrom(inlined(model, where))
    graph = simple.graph
    initialisers = {tensor.name: tensor for tensor in graph.initializer if tensor.name}  # the last one counts
    stored = initialisers.keys() | {sparse.values.name for sparse in graph.sparse_initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    nodes = _needed(sort_nodes(graph.node, where), [value.name for value in graph.output])
    for node in nested(nodes):
        if node.domain in DEFAULT_DOMAINS:
            node.domain = ""
    outputs: dict[str, onnx.ValueInfoProto] = {}
    twice = []
    for value in graph.output:
        if value.name in outputs:
            told = f"two outputs are called {value.name!r}: they are one value, and are read as one output"
            twice.append(Diagnostic(CHECKER, told, value.name, "give each output a name of its own"))
        outputs.setdefault(value.name, value)
    if twice:
        del graph.output[:]
        graph.output.extend(outputs.values())
    del graph.input[:], graph.node[:], graph.value_info[:]
    graph.input.extend(inputs)
    graph.node.extend(nodes)
    if len(initialisers) < len(graph.initializer):
        kept = list(initialisers.values())
        del graph.initializer[:]
        graph.initializer.extend(kept)
    opset = opset_of(simple.opset_import)
    domains = {entry.domain: entry.version for entry in simple.opset_import}
    domains = {name: version for name, version in domains.items() if name not in DEFAULT_DOMAINS}
    del simple.opset_import[:]
    if opset:
        simple.opset_import.append(helper.make_opsetid("", opset))
    simple.opset_import.extend(helper.make_opsetid(*entry) for entry in domains.items())
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        return simple, ()  # refused by the reader: no rules are known for it
    return simple, (*twice, *check(simple, where))


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names of all tensors that a node reads, those that only its subgraphs read included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                yield from reads(inner)
            yield from (value.name for value in graph.output)


def sort_nodes(nodes: Sequence[onnx.NodeProto], where: str) -> list[onnx.NodeProto]:
    """Sort topologically, changing the file's order as little as possible.

    Raises:
        InputError: a node depends on its own output.
    """
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
    if node.op_type == "Constant":
        return [_stored(node)]
    if node.op_type == "Identity" and len(node.input) == 1 and node.input[0] in inputs:
        return [inputs[node.input[0]]]
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
        if not all(isinstance(value, np.ndarray | np.generic) for value in values):
            raise TypeError("it gives no tensor")
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


def _stored(node: onnx.NodeProto) -> Constant:
    """Return the value of a Constant node."""
    for attribute in node.attribute:
        match attribute.name:
            case "value":
                return read_tensor(attribute.t)
            case "sparse_value":
                return read_sparse(attribute.sparse_tensor)
            case "value_float":
                return np.array(attribute.f, np.float32)
            case "value_floats":
                return np.array(attribute.floats, np.float32)
            case "value_int":
                return np.array(attribute.i, np.int64)
            case "value_ints":
                return np.array(attribute.ints, np.int64)
            case "value_string":
                return np.array(attribute.s.decode(errors="replace"), object)
            case "value_strings":
                return np.array([text.decode(errors="replace") for text in attribute.strings], object)
            case _:
                continue
    raise ValueError("it holds no value")


def _not_folded(node: onnx.NodeProto, inputs: Mapping[str, Constant], opset: int) -> str | None:
    """Say why the evaluator would not compute what the file means, or should not."""
    if opset < NEWER_RULES.get(node.op_type, 0):
        return f"it has another meaning before opset {NEWER_RULES[node.op_type]}"
    if node.op_type in WINDOWS:
        return "poolings of constants are not folded"
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        return "it runs other operations"
    training = node.op_type == "Dropout" and len(node.input) > 2 and np.any(inputs.get(node.input[2], False))
    if training:
        return "it is in training mode"
    most = math.prod(max(value.size, 1) for value in inputs.values())
    if node.op_type in BY_VALUE or most > MAX_MADE:
        found = _inferred(node, {}, inputs, opset)
        known = [math.prod(shape) for shape in found if shape is not None]
        given = sum(value.size for value in inputs.values())
        if len(known) < len(found) and (node.op_type in BY_VALUE or node.op_type not in SHRINKING):
            return "how large it is cannot be told before"
        if max(known, default=0) > max(MAX_MADE, given):
            return f"it would have more than {MAX_MADE} elements"
    return None


def constants_of(graph: onnx.GraphProto, where: str) -> dict[str, Constant]:
    """Return a graph's initialisers, the sparse ones as dense arrays.

    Raises:
        InputError: one of them is damaged, or the sparse ones are too large.
    """
    found = {}
    made = 0
    for tensor in graph.initializer:
        try:
            found[tensor.name] = read_tensor(tensor)
        except ValueError as error:
            raise InputError(
                f"{where} is damaged: the constant {tensor.name!r} cannot be read: {error}"
            ) from error
    for sparse in graph.sparse_initializer:
        name = sparse.values.name
        try:
            made += math.prod(sparse.dims)
            if made > MAX_MADE:
                raise ValueError(f"it would have more than {MAX_MADE} elements")
            found[name] = read_sparse(sparse)
        except ValueError as error:
            raise InputError(f"{where}: the sparse constant {name!r} cannot be read: {error}") from error
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
    found = _inferred(node, shapes, constants, opset)
    return [shape if shape is not None and min(shape, default=1) > 0 else None for shape in found]


def _inferred(
    node: onnx.NodeProto, shapes: Mapping[str, Shape], constants: Mapping[str, Constant], opset: int
) -> list[Shape | None]:
    types = {
        name: helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()
    }
    types |= {
        name: helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in constants.items()
    }
    # Sizes and axes are short; the values of weights say nothing about shapes.
    data = {
        name: numpy_helper.from_array(value, name) for name, value in constants.items() if value.size <= SHORT
    }
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
    known = found.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims)
    return tuple(d.dim_value for d in dims) if known else None
