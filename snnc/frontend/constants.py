"""Move constants that depend on the position, such as position biases, forward until they are a bias.

A linear map of a sum is the sum of its maps, ``L(x + k) = L(x) + L0(k)``, where ``L0`` is ``L`` without its
bias, and ``L0(k)`` is known when the file is read. So a constant that is added to a value passes every linear
operation, until it meets a rectifier, a maximum or the output: there it is one current more into the neurons.
What functions of spike counts read is an exception: its neurons, and the current, come before mere moves.
A constant part of a join is one that is added to zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnc.ir import ann
from snnc.ir.ann import Gather, Reshape
from snnc.ir.count_paths import COUNT_FUNCTIONS
from snnc.ir.graph import FloatArray
from snnc.simulation.ann_reference import run_ann

Linear = (
    ann.Convolution
    | ann.Linear
    | ann.BatchNormalisation
    | ann.ChannelAffine
    | ann.AveragePool
    | ann.Reshape
    | ann.Pad
    | ann.Slice
    | ann.Gather
)


def spread_constants(graph: ann.AnnGraph) -> ann.AnnGraph:
    """Return an equal network in which only sums read constants, and no linear operation reads those sums."""
    if not graph.of_type(ann.Constant):
        return graph
    return _Spreading(graph).result()


class _Spreading:
    """One walk over the network."""

    def __init__(self, graph: ann.AnnGraph) -> None:
        self.graph = graph
        self.names = {node.name for node in graph}
        self.nodes: list[ann.AnnNode] = []
        self.constants = {node.name: node.values for node in graph.of_type(ann.Constant)}
        # By the name of a value: what is to be added to the node of that name, and the sum where it is made.
        self.apart: dict[str, FloatArray] = {}
        self.sums: dict[str, str] = {}
        self.renamed: dict[str, str] = {}

    def result(self) -> ann.AnnGraph:
        for node in self.graph:
            if not isinstance(node, ann.Constant):
                self.walk(node)
        outputs = tuple(map(self.whole, self.graph.outputs))
        return self.graph.with_nodes(tuple(self.nodes), outputs)

    def walk(self, node: ann.AnnNode) -> None:
        if node.inputs and self.constants.keys() >= set(node.inputs):
            self.constants[node.name] = _computed(node, [self.constants[name] for name in node.inputs])
        elif isinstance(node, ann.Add):
            self.add(node)
        elif isinstance(node, ann.Concat) and (self.constants | self.apart).keys() & set(node.inputs):
            self.join(node)
        elif isinstance(node, Linear) and node.inputs[0] in self.apart and not self.is_counted(node):
            self.nodes.append(node.with_(inputs=(self.rest(node.inputs[0]),)))
            self.apart[node.name] = _without_bias(node, self.apart[node.inputs[0]])
        else:
            self.nodes.append(node.with_(inputs=tuple(self.whole(name) for name in node.inputs)))

    def is_counted(self, node: ann.AnnNode) -> bool:
        """Whether a node only moves values to functions of counts.

        What these read is sent by neurons in front of the moves, so the constant is a current there: behind
        weights, where every output has a scale of its own.
        """
        readers = self.graph.consumers[node.name]
        if not isinstance(node, Reshape | Gather) or not readers or node.name in self.graph.outputs:
            return False
        return all(isinstance(reader, COUNT_FUNCTIONS) or self.is_counted(reader) for reader in readers)

    def add(self, node: ann.Add) -> None:
        """Keep the constants of a sum apart."""
        rest = [name for name in node.inputs if name not in self.constants]
        known = [self.constants[name] for name in node.inputs if name in self.constants]
        known += [self.apart[name] for name in rest if name in self.apart]
        inputs = tuple(self.rest(name) for name in rest)
        if len(inputs) == 1:
            self.renamed[node.name] = inputs[0]
        else:
            self.nodes.append(node.with_(inputs=inputs))
        if known:
            self.apart[node.name] = np.asarray(np.sum(known, axis=0, dtype=np.float32))

    def join(self, node: ann.Concat) -> None:
        """Read the constant parts of a join as zeros, and keep them apart."""
        parts: list[FloatArray] = []
        rest: list[tuple[str, int]] = []  # each other part, and how many constant channels stand before it
        zeros = 0
        for name in node.inputs:
            shape = self.graph[name].shape
            values = self.constants.get(name, self.apart.get(name))
            parts.append(np.zeros(shape, np.float32) if values is None else values)
            zeros += shape[0] if name in self.constants else 0
            if name not in self.constants:
                rest.append((name, zeros))
                zeros = 0
        names = [
            self.padded(name, front, zeros * (index == len(rest) - 1), node)
            for index, (name, front) in enumerate(rest)
        ]
        if len(names) == 1:
            self.renamed[node.name] = names[0]
        else:
            self.nodes.append(node.with_(inputs=tuple(names)))
        self.apart[node.name] = np.concatenate(parts)

    def padded(self, name: str, front: int, behind: int, node: ann.Concat) -> str:
        """Return a value, without its constant, with channels of zeros around it."""
        source, shape = self.rest(name), self.graph[name].shape
        if not front + behind:
            return source
        none = (0,) * (len(shape) - 1)
        pad = ann.Pad(
            name=self.fresh(f"{node.name}.pad"),
            inputs=(source,),
            shape=(front + shape[0] + behind, *shape[1:]),
            origin=node.origin,
            before=(front, *none),
            after=(behind, *none),
        )
        self.nodes.append(pad)
        return pad.name

    def rest(self, name: str) -> str:
        """Return the node that holds a value without its constant."""
        return self.renamed.get(name, name)

    def whole(self, name: str) -> str:
        """Return the node that holds a value with its constant."""
        if name not in self.apart:
            return self.rest(name)
        if name not in self.sums:
            values = self.apart[name]
            source = self.graph[name]
            constant = ann.Constant(
                name=self.fresh(f"{name}.constant"), shape=source.shape, origin=source.origin, values=values
            )
            total = ann.Add(
                name=self.fresh(f"{name}.sum") if self.rest(name) == name else name,
                inputs=(self.rest(name), constant.name),
                shape=source.shape,
                origin=source.origin,
            )
            self.nodes += [constant, total]
            self.sums[name] = total.name
        return self.sums[name]

    def fresh(self, name: str) -> str:
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name


def _without_bias(node: Linear, values: FloatArray) -> FloatArray:
    """Return what an operation makes of a constant, but for what it adds itself."""
    match node:
        case ann.Convolution() | ann.Linear():
            node = node.with_(bias=np.zeros_like(node.bias))
        case ann.BatchNormalisation():
            node = node.with_(mean=np.zeros_like(node.mean), shift=np.zeros_like(node.shift))
        case ann.ChannelAffine():
            node = node.with_(shift=np.zeros_like(node.shift))
        case _:
            pass
    return _computed(node, [values])


def _computed(node: ann.AnnNode, values: Sequence[FloatArray]) -> FloatArray:
    """Compute a node from constants."""
    names = tuple(f"x{index}" for index in range(len(values)))
    read = [
        ann.Constant(name=name, shape=value.shape, values=value)
        for name, value in zip(names, values, strict=True)
    ]
    first = ann.Input(name="none", shape=(1,))
    alone = ann.AnnGraph(
        name="constant", nodes=(first, *read, node.with_(name="y", inputs=names)), outputs=("y",)
    )
    return run_ann(alone, np.zeros((1, 1), np.float32))[0][0]
