"""The end of the walk: the nodes that hold the network's outputs, and how these become the source's."""

from __future__ import annotations

import math

import numpy as np
from onnx import helper

from snnc.diagnostics import UNSUPPORTED_STRUCTURE
from snnc.frontend.call import Call
from snnc.frontend.environment import Environment, Unknown
from snnc.frontend.layout import layout_of
from snnc.frontend.quantised.qdq import as_integers
from snnc.frontend.refusals import RefusalError, refuse
from snnc.frontend.views import View, is_range
from snnc.ir import ann
from snnc.ir.graph import Shape
from snnc.ir.layout import InputLayout


def finished(environment: Environment, name: str) -> tuple[ann.AnnGraph | None, dict[str, InputLayout]]:
    """Return the network that ends with the outputs, and the layout of each of them.

    Args:
        environment: the state behind the last node; what is wrong with an output is added to its problems.
        name: what the network is to be called.
    """
    signature = environment.signature
    nodes, layouts = [], {}
    for output in signature.outputs:
        try:
            node, layouts[output] = _output(environment, output)
            nodes.append(node)
        except RefusalError as refusal:
            if refusal.diagnostic is not None:
                environment.problems.append(refusal.diagnostic)
    if len(nodes) < len(signature.outputs):
        return None, layouts
    graph = ann.AnnGraph(
        name=name,
        nodes=tuple(environment.builder.nodes.values()),
        outputs=tuple(nodes),
        output_names=signature.outputs,
    )
    return graph, layouts


def _output(environment: Environment, name: str) -> tuple[str, InputLayout]:
    """Return the node that an output holds, and how its values become those of the source.

    Raises:
        RefusalError: there is none; without a diagnostic where the output depends on what was refused.
    """
    builder = environment.builder
    output = environment.values.get(name)
    if isinstance(output, Unknown):
        raise RefusalError(None)
    several = len(environment.signature.outputs) > 1
    cure = "convert with --keep-output and the names of the others" if several else "check the exports"
    if not isinstance(output, View):
        known = name in environment.values
        message = "the output does not depend on the input" if known else "nothing makes it"
        refuse(UNSUPPORTED_STRUCTURE, name, message, cure)
    if name in builder.layouts:
        refuse(UNSUPPORTED_STRUCTURE, name, "the output is an input as it is", cure)
    codes = environment.codes.get(name)
    if codes is not None and not isinstance(builder.nodes[output.node], ann.Softmax):
        last = helper.make_node("QuantizeLinear", [], [name], output.origin)
        call = Call(last, environment.opset, (), builder, environment.signature.batch, ((),))
        output = as_integers(call, output, codes)
    view = builder.settle(output, output.origin)
    shape = builder.shape(view.node)
    long = tuple(n for n in view.shape if n > 1)
    node = view.node
    if len(long) < 2 and len(shape) > 1 and is_range(view.index):  # one value per class
        shape = long or (1,)
        node = builder.reshape(node, shape, output.origin)
    sizes = view.shape[1:] if view.shape[:1] == (1,) else view.shape  # some files drop the batch
    layout: InputLayout | None = InputLayout.plain(sizes, shape)
    if not is_range(view.index):
        order = np.empty(view.index.size, np.int64)
        order[view.index.ravel()] = np.arange(order.size)
        layout = layout_of(order.reshape(shape), sizes)
    if layout is None:
        shape = _mapped_shape(sizes)
        node = builder.ordered(view, shape).node
        layout = InputLayout.plain(sizes, shape)
    return node, layout


def _mapped_shape(sizes: Shape) -> Shape:
    """Return the shape of a node that holds an output of these sizes, without the batch, in its own order."""
    if sum(n > 1 for n in sizes) < 2:
        return (math.prod(sizes),)
    return (sizes[0], 1, sizes[1]) if len(sizes) == 2 else (sizes[0], sizes[1], math.prod(sizes[2:]))
