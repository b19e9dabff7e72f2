"""Other forms of an artefact's ONNX model: without functions, without a loop, or with Scan for Loop.

Every form has the input ``x`` and the output ``y`` of the artefact and gives the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper, numpy_helper
from onnx.inliner import inline_local_functions

from snnc.artefact.functions import DOMAIN
from snnc.errors import InternalError

STEPS = "T"
LOOP = "Loop"


def inline(model: ModelProto) -> ModelProto:
    """Replace the calls of functions by what they do; ``T`` stays an input."""
    flat = inline_local_functions(model)
    kept = [entry for entry in flat.opset_import if entry.domain != DOMAIN]
    del flat.opset_import[:]
    flat.opset_import.extend(kept)
    return flat


def fix_steps(model: ModelProto) -> ModelProto:
    """Make ``T`` a constant: its default."""
    fixed = ModelProto()
    fixed.CopyFrom(model)
    inputs = [entry for entry in fixed.graph.input if entry.name != STEPS]
    del fixed.graph.input[:]
    fixed.graph.input.extend(inputs)
    return fixed


def unroll(model: ModelProto, steps: int) -> ModelProto:
    """Write the body of the loop ``steps`` = T + K times, one after the other; ``T`` is fixed.

    A network in the layerwise schedule has no loop: only ``T`` changes.
    """
    model = fix_steps(inline(model))
    position, loop = _loop(model.graph)
    if loop is None:
        return model
    body = _body(loop)
    step, _, *before = [entry.name for entry in body.input]
    still, *after = [entry.name for entry in body.output]
    states = list(loop.input[2:])
    nodes: list[NodeProto] = []
    mark = "@"
    while any(mark in name for name in _names(model.graph)):
        mark += "@"
    for t in range(steps):
        number = f"{step}{mark}{t}"
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(t, np.int64), number))
        renamed = {name: f"{name}{mark}{t}" for node in body.node for name in node.output if name}
        renamed |= {step: number, **dict(zip(before, states, strict=True))}
        nodes += [_renamed(node, renamed, t) for node in body.node if still not in node.output]
        states = [renamed[name] for name in after]
    ends = [
        helper.make_node("Identity", [last], [name])
        for last, name in zip(states, loop.output, strict=True)
        if name
    ]
    _replace(model.graph, position, [*nodes, *ends])
    return model


def scan(model: ModelProto) -> ModelProto:
    """Replace the loop by a Scan over the numbers of the steps; ``T`` stays an input."""
    model = inline(model)
    position, loop = _loop(model.graph)
    if loop is None:
        return model
    body = _body(loop)
    step, _, *before = list(body.input)
    still, *after = list(body.output)
    nodes = [node for node in body.node if still.name not in node.output]
    scanned = helper.make_graph(nodes, body.name, [*before, step], after, value_info=list(body.value_info))
    taken = _names(model.graph)
    first, one, all_steps = (_unused(name, taken) for name in ("first step", "one step", "steps"))
    for name, value in ((first, 0), (one, 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.int64), name))
    numbers = helper.make_node("Range", [first, loop.input[0], one], [all_steps])
    node = helper.make_node(
        "Scan",
        [*loop.input[2:], all_steps],
        list(loop.output),
        name=loop.name,
        body=scanned,
        num_scan_inputs=1,
    )
    _replace(model.graph, position, [numbers, node])
    return model


def _loop(graph: GraphProto) -> tuple[int, NodeProto | None]:
    """Return the loop over time and its place; ``None`` in the layerwise schedule."""
    for position, node in enumerate(graph.node):
        if node.op_type == LOOP:
            return position, node
    return 0, None


def _body(loop: NodeProto) -> GraphProto:
    for attribute in loop.attribute:
        if attribute.type == AttributeProto.GRAPH:
            return attribute.g
    raise InternalError("the loop over time has no body")


def _names(graph: GraphProto) -> set[str]:
    """Return the names of all tensors, those of bodies included: a name may stand for one of them only."""
    found = {entry.name for entry in (*graph.input, *graph.initializer)}
    for node in graph.node:
        found.update(node.output)
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                found |= _names(attribute.g)
    return found


def _unused(name: str, taken: Set[str]) -> str:
    """Return ``name``, or one like it if a network uses that already."""
    while name in taken:
        name += "_"
    return name


def _renamed(node: NodeProto, names: Mapping[str, str], step: int) -> NodeProto:
    """Return a node of the body as it stands in one step."""
    found = NodeProto()
    found.CopyFrom(node)
    if node.name:
        found.name = f"{node.name}@{step}"
    for values in (found.input, found.output):
        values[:] = [names.get(name, name) for name in values]
    return found


def _replace(graph: GraphProto, position: int, nodes: Sequence[NodeProto]) -> None:
    """Put nodes in the place of one."""
    kept = [*graph.node[:position], *nodes, *graph.node[position + 1 :]]
    del graph.node[:]
    graph.node.extend(kept)


def checked(model: ModelProto) -> ModelProto:
    """Return a model that ONNX's own checker accepts.

    Raises:
        InternalError: it does not.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InternalError(f"the exported model breaks ONNX's rules: {error}") from error
    return model
