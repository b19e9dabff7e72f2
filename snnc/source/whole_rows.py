"""Inputs of a file for a batch of one that do not have that one in front: a row is the whole tensor.

Recurrent networks take their state as (layers, 1, size), and some files take vectors without any batch. One
run of such a file is one row. Here such an input gets an axis of length 1 in front, which a reshape takes off
again, and so has the batch where every other input has it. Single numbers are settings, which ``--fix`` gives
a value: where there are some, nothing is changed, and they are refused.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from snnc.ir.graph import Shape

SUFFIX = ":row"
FEWEST_AXES = 2
"""The batch and one for its values."""


def whole_rows(graph: onnx.GraphProto) -> dict[str, Shape]:
    """Return the shapes of the inputs a row of which is all of them, by name.

    There are some only where the sizes of all inputs are known, and another input has a batch of one in
    front, or none has any place for it.
    """
    stored = {tensor.name for tensor in graph.initializer}
    shapes: dict[str, Shape] = {}
    for value in graph.input:
        tensor = value.type.tensor_type
        if value.name in stored:
            continue
        if not tensor.HasField("shape") or any(dim.dim_value < 1 for dim in tensor.shape.dim):
            return {}
        shapes[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
    if not all(shapes.values()):
        return {}
    flat = all(len(shape) < FEWEST_AXES for shape in shapes.values())
    if not flat and not any(len(shape) >= FEWEST_AXES and shape[0] == 1 for shape in shapes.values()):
        return {}
    return {name: shape for name, shape in shapes.items() if len(shape) < FEWEST_AXES or shape[0] != 1}


def taken_whole(graph: onnx.GraphProto) -> dict[str, Shape]:
    """Return what :func:`whole_rows` found before :func:`put_in_front`."""
    shapes = {tensor.name: tensor for tensor in graph.initializer}
    found = {value.name: shapes.get(f"{value.name}{SUFFIX}:shape") for value in graph.input}
    return {
        name: tuple(map(int, numpy_helper.to_array(shape)))
        for name, shape in found.items()
        if shape is not None
    }


def put_in_front(graph: onnx.GraphProto) -> None:
    """Give these inputs an axis for the batch."""
    made = []
    for name, shape in whole_rows(graph).items():
        inner, wanted = f"{name}{SUFFIX}", f"{name}{SUFFIX}:shape"
        _rename(graph, name, inner)
        (value,) = (value for value in graph.input if value.name == name)
        front = (1, *shape)
        value.CopyFrom(helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, front))
        graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), wanted))
        made.append(helper.make_node("Reshape", [name, wanted], [inner], name=inner))
    if made:
        nodes = [*made, *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)


def _rename(graph: onnx.GraphProto, name: str, new: str) -> None:
    """Let everything that reads a tensor read another, in subgraphs, too."""
    for node in graph.node:
        for place, read in enumerate(node.input):
            if read == name:
                node.input[place] = new
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _rename(inner, name, new)
    for output in graph.output:
        if output.name == name and not any(name in node.output for node in graph.node):
            output.name = new
