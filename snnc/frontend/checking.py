"""Check a simplified model: what no runtime could run is refused, what onnx's checker alone minds is told.

Runtimes are more lenient than the checker, which wants names that nothing needs. So the checker sees a model
in which these are mended and weights are left out; where it complains all the same, its complaint about a
single node stands, as runtimes check nodes in the same way, and any other is a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

from snnc.diagnostics import CHECKER, Diagnostic
from snnc.errors import InputError
from snnc.frontend.functions import DEFAULT_DOMAINS

Names = tuple[set[str], ...]
"""The names that a graph may read, its own first, then those of the graphs around it."""

_COMPLAINTS = (onnx.checker.ValidationError, RuntimeError, UnicodeDecodeError, ValueError)


def check(model: onnx.ModelProto, where: str) -> tuple[Diagnostic, ...]:
    """Return warnings about a model.

    Args:
        model: simplified.
        where: the file, for messages.

    Raises:
        InputError: a tensor has no maker or two, or a node is not what its operator set says.
    """
    if (problem := _misnamed(model.graph, ())) is not None:
        raise InputError(f"{where} is not a valid ONNX model: {problem}; export it again")
    skeleton = _skeleton(model)
    try:
        onnx.checker.check_model(skeleton)
    except _COMPLAINTS as complaint:
        if (reason := _first_node(skeleton)) is not None:
            raise InputError(f"{where} is not a valid ONNX model: {reason}; export it again") from complaint
        return (
            Diagnostic(
                CHECKER, f"onnx's checker says: {_one_line(complaint)}", "", "it is read all the same"
            ),
        )
    return ()


def _misnamed(graph: onnx.GraphProto, around: Names) -> str | None:
    """Say which tensor has no maker, or two."""
    stored = {tensor.name for tensor in graph.initializer}
    for sparse in graph.sparse_initializer:
        if sparse.values.name in stored:
            return f"the tensor {sparse.values.name!r} is stored twice"
        stored.add(sparse.values.name)
    given = [value.name for value in graph.input if value.name not in stored]
    made = set(given) | stored
    if len(set(given)) < len(given):
        return f"two inputs are called {next(name for name in given if given.count(name) > 1)!r}"
    for node in graph.node:
        for name in filter(None, node.output):
            if name in made:
                return f"the tensor {name!r} is made twice"
            made.add(name)
    names = (made, *around)
    for node in graph.node:
        for name in filter(None, node.input):
            if not any(name in known for known in names):
                return f"{node.op_type} {node.name!r} reads {name!r}, which nothing makes"
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                return f"{node.op_type} {node.name!r} refers to an attribute outside of a function"
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                if (problem := _misnamed(inner, names)) is not None:
                    return problem
    for value in graph.output:
        if not any(value.name in known for known in names):
            return f"nothing makes the output {value.name!r}"
    return None


def _skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model without weights, with the names that the checker wants."""
    skeleton = onnx.ModelProto(
        ir_version=min(max(model.ir_version, 4), onnx.IR_VERSION), opset_import=model.opset_import
    )
    known = {entry.domain for entry in model.opset_import}
    for domain in sorted({node.domain for node in model.graph.node} - known):
        skeleton.opset_import.add(domain=domain, version=1)
    graph = skeleton.graph
    graph.name = model.graph.name or "graph"
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    for value in (*graph.input, *graph.output):
        if not value.type.WhichOneof("value"):  # some exporters leave it to whoever runs it
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    types |= {each.values.name: each.values.data_type for each in model.graph.sparse_initializer}
    for name, kind in types.items():
        graph.initializer.add(name=name, data_type=kind, dims=[0])
    graph.node.extend(model.graph.node)
    for node in graph.node:
        _without_files(node)
    return skeleton


def _without_files(node: onnx.NodeProto) -> None:
    """Empty the tensors of a node that lie in other files: the checker would look for them."""
    for attribute in node.attribute:
        tensors = [*attribute.tensors, *([attribute.t] if attribute.HasField("t") else [])]
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            tensors += graph.initializer
            for inner in graph.node:
                _without_files(inner)
        for tensor in tensors:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                tensor.CopyFrom(onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0]))


def _first_node(model: onnx.ModelProto) -> str | None:
    """Say what is wrong with the first node that the checker does not accept on its own."""
    context = type(onnx.checker.DEFAULT_CONTEXT)()
    context.ir_version = model.ir_version
    context.opset_imports = {
        entry.domain: 1 if entry.domain else entry.version for entry in model.opset_import
    }  # of other domains, whose versions may be any number, nothing is checked
    return _first_of(model.graph.node, context, context.opset_imports)


def _first_of(
    nodes: Iterable[onnx.NodeProto], context: onnx.checker.C.CheckerContext, versions: Mapping[str, int]
) -> str | None:
    for node in nodes:
        if node.domain in DEFAULT_DOMAINS and not onnx.defs.has(node.op_type, versions.get("", 1), ""):
            continue  # refused as an operator, by name
        alone = onnx.NodeProto()
        alone.CopyFrom(node)
        for attribute in alone.attribute:
            graphs = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
            for graph in graphs:
                graph.CopyFrom(onnx.GraphProto(name="graph"))
        try:
            onnx.checker.check_node(alone, context)
        except _COMPLAINTS as complaint:
            return _one_line(complaint)
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                if (problem := _first_of(inner.node, context, versions)) is not None:
                    return problem
    return None


def _one_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
