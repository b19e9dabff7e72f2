"""Recurrent nodes with random weights, computed by onnxruntime as they are and unrolled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import NodeProto, TensorProto, helper, numpy_helper

from snnc.frontend.recurrent.layer import GATES, Operands
from snnc.frontend.recurrent.unrolling import Unrolled, unroll
from tests.onnx_models import Array

NAMES = {"LSTM": "X W R B lens h c P", "GRU": "X W R B lens h", "RNN": "X W R B lens h"}


class Cell:
    """A recurrent node with random weights, and what it reads."""

    def __init__(
        self,
        kind: str,
        *,
        seed: int = 0,
        steps: int = 4,
        batch: int = 1,
        size: int = 3,
        hidden: int = 2,
        direction: str = "forward",
        initial: Sequence[str] = (),
        bias: bool = True,
        peepholes: bool = False,
        length: int | None = None,
        **attributes: Any,
    ) -> None:
        rng = np.random.default_rng(seed)
        count, gates = 1 + (direction == "bidirectional"), len(GATES[kind])
        self.kind, self.steps, self.batch, self.size = kind, steps, batch, size

        def normal(*shape: int) -> Array:
            return rng.normal(size=shape).astype(np.float32)

        self.values: dict[str, Array] = {
            "X": normal(steps, batch, size),
            "W": normal(count, gates * hidden, size),
            "R": normal(count, gates * hidden, hidden),
        }
        if bias:
            self.values["B"] = normal(count, 2 * gates * hidden)
        for name in initial:
            self.values[name] = normal(count, batch, hidden)
        if peepholes:
            self.values["P"] = normal(count, 3 * hidden)
        if length is not None:
            self.values["lens"] = np.full(batch, length, np.int32)
        inputs = [name if name in self.values else "" for name in NAMES[kind].split()]
        while not inputs[-1]:
            inputs.pop()
        self.outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
        self.node = helper.make_node(
            kind, inputs, self.outputs, "cell", hidden_size=hidden, direction=direction, **attributes
        )

    def unrolled(
        self, dynamic: Sequence[str] = (), opset: int = 17, node: NodeProto | None = None
    ) -> Unrolled:
        node = node or self.node
        given = {place: name for place, name in enumerate(node.input) if name and place}
        shape = self.values["X"].shape
        constants = {place: self.values[name] for place, name in given.items() if name not in dynamic}
        others = frozenset(place for place, name in given.items() if name in dynamic)
        return unroll(node, Operands(shape, constants, others), opset, "cell")

    def original(self) -> list[Array]:
        return run([self.node], self.values, {}, self.outputs)

    def again(self, dynamic: Sequence[str] = (), opset: int = 17) -> list[Array]:
        found = self.unrolled(dynamic, opset)
        nodes = [node for step in found.steps for node in step]
        feeds = {name: self.values[self.node.input[place]] for place, name in found.inputs.items()}
        constants = dict(found.constants)
        return run(nodes, feeds, constants, [name for name in found.outputs if name], opset)


def run(
    nodes: Sequence[NodeProto],
    feeds: dict[str, Array],
    constants: dict[str, Array],
    outputs: Sequence[str],
    opset: int = 17,
) -> list[Array]:
    """Run operations in onnxruntime."""
    types = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "g", types, results, stored)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, feeds)]
