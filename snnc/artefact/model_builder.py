"""An ONNX model in the making: a graph, perhaps with one loop over time, and the functions that they call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from snnc import __version__
from snnc.artefact import functions
from snnc.artefact.functions import Carrier
from snnc.artefact.sparse_weights import PARTS, packed
from snnc.ir.graph import NumberArray, Shape
from snnc.ir.neuron import Schedule
from snnc.ir.snn import SnnGraph

IR_VERSION = 10
"""ONNX's first version in which nodes carry metadata."""

OWNER = "snnc.owner"
"""Metadata of a node that starts a state: the node of the network that its parameter belongs to."""

Attributes = dict[str, int | str | Sequence[int] | Sequence[float] | TensorProto]


@dataclass(frozen=True, slots=True)
class TensorNames:
    """What a model's inputs and outputs are called.

    Attributes:
        inputs: in the network's order.
        steps: the input T.
        outputs: in the network's order.
    """

    inputs: tuple[str, ...]
    steps: str
    outputs: tuple[str, ...]


def tensor_names(graph: SnnGraph, alone: str = "x") -> TensorNames:
    """Return what the inputs and outputs of a network's model are called.

    That is ``x``, ``T`` and ``y``; where there are several, what the source calls them, with a number behind
    a name that is taken.

    Args:
        graph: the network.
        alone: what the one input is called.
    """
    taken: set[str] = set()

    def free(wish: str) -> str:
        name, number = wish, 1
        while name in taken:
            number += 1
            name = f"{wish}#{number}"
        taken.add(name)
        return name

    steps = free("T")
    given = [node.name for node in graph.inputs]
    inputs = tuple(free(name or alone) for name in ([alone] if len(given) == 1 else given))
    outputs = tuple(free(name or "y") for name in (["y"] if len(graph.outputs) == 1 else graph.output_names))
    return TensorNames(inputs, steps, outputs)


@dataclass(slots=True)
class Scope:
    """Nodes and known shapes of the model's graph or of the body of its loop."""

    nodes: list[NodeProto] = field(default_factory=list)
    values: list[ValueInfoProto] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class State:
    """One tensor that the loop carries from step to step: its names at four moments, and its shape."""

    initial: str
    before: str
    after: str
    final: str
    shape: Shape


class ModelBuilder:
    """Collects the parts of a model.

    Attributes:
        carrier: element type of the values.
        outside: what is computed once.
        inside: what is computed in every step.
        batch: tensor that holds the number of samples.
        times: T as a value of the carrier's type.
        on: 1 while ``t < T``, else 0; it exists only where there are settle steps.
        step: the number of the step, inside.
    """

    def __init__(self, schedule: Schedule, carrier: Carrier, names: TensorNames) -> None:
        """Reserve the names of the model's inputs and outputs."""
        self.schedule = schedule
        self.carrier = carrier
        self.names = names
        self.outside, self.inside = Scope(), Scope()
        self.initialisers: list[TensorProto] = []
        self.states: list[State] = []
        self.functions: set[str] = set()
        self._taken = {*names.inputs, names.steps, *names.outputs}
        self._presented: dict[str, str] = {}
        self._zero = ""
        self.batch, self.times, self.on, self.step = map(
            self.name, ("batch size", "T as carried", "t < T", "t")
        )
        self.outside.nodes += [
            helper.make_node("Shape", [names.inputs[0]], [self.batch], start=0, end=1),
            helper.make_node("Cast", [names.steps], [self.times], to=carrier),
        ]

    def name(self, wish: str) -> str:
        """Return a name that no other tensor of the model or of its loop has."""
        name, number = wish, 1
        while name in self._taken:
            number += 1
            name = f"{wish}#{number}"
        self._taken.add(name)
        return name

    def value(self, name: str, shape: Sequence[int | str], element: int | None = None) -> ValueInfoProto:
        """Declare a tensor of (batch, *shape), of which an axis without a fixed size has a name."""
        element = self.carrier if element is None else element
        return helper.make_tensor_value_info(name, element, ["batch", *shape])

    def parameter(self, wish: str, values: NumberArray | np.generic) -> str:
        """Store an array and return its name."""
        name = self.name(wish)
        self.initialisers.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def weight(self, wish: str, values: NumberArray) -> str:
        """Store a weight, sparsely where that is smaller, and return the name of its dense tensor."""
        sparse = packed(values)
        if sparse is None:
            return self.parameter(wish, values)
        name = self.name(wish)
        stored = [self.parameter(f"{wish}.{what}", part) for what, part in zip(PARTS, sparse, strict=True)]
        self.call(self.outside, "SparseWeight", stored, [name], {"shape": values.shape})
        return name

    def call(
        self,
        scope: Scope,
        function: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        attributes: Attributes,
    ) -> NodeProto:
        """Add a call of one of snnc's functions."""
        self.functions.add(function)
        node = helper.make_node(function, inputs, outputs, domain=functions.DOMAIN)
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        scope.nodes.append(node)
        return node

    def sum(self, scope: Scope, terms: Sequence[str], wish: str) -> str:
        """Return the sum of tensors."""
        total, *others = terms
        for other in others:
            so_far, total = total, self.name(wish)
            scope.nodes.append(helper.make_node("Add", [so_far, other], [total]))
        return total

    def over_the_run(self, tensor: str) -> str:
        """Return T times something constant."""
        return self._present(self.outside, tensor, self.times)

    def in_a_step(self, tensor: str, settle_steps: int) -> str:
        """Return something constant as one step sees it: zero once ``t >= T``."""
        return self._present(self.inside, tensor, self.on) if settle_steps else tensor

    def frame(self, frames: str, wish: str, settle_steps: int) -> str:
        """Return what a step sees of frames, (batch, T, *shape): its own, and zero once ``t >= T``."""
        last, seen = self.name(f"last frame of {wish}"), self.name(f"{wish} of this step")
        self.call(self.outside, "LastFrame", [frames, self.names.steps], [last], {})
        self.call(self.inside, "Frame", [frames, self.step, last], [seen], {})
        return self.in_a_step(seen, settle_steps)

    def _present(self, scope: Scope, tensor: str, times: str) -> str:
        key = f"{tensor} x {times}"
        if key not in self._presented:
            self._presented[key] = self.name(key)
            self.call(scope, "Present", [tensor, times], [self._presented[key]], {})
        return self._presented[key]

    def rest(self, values: str, shape: Shape, wish: str, owner: str = "") -> str:
        """Return a state in which all samples start with the same values, (channels, 1...).

        Args:
            values: the parameter.
            shape: of one sample's state.
            wish: name of the state.
            owner: name of the node that ``values`` is a parameter of.
        """
        state = self.name(wish)
        node = self.call(self.outside, "Rest", [values, self.batch], [state], {"shape": shape})
        if owner:
            helper.set_metadata_props(node, {OWNER: owner})
        return state

    def silence(self, shape: Shape, wish: str) -> str:
        """Return a state that starts with zero."""
        if not self._zero:
            zero = np.int32(0) if self.carrier is Carrier.INTEGER else np.float32(0)
            self._zero = self.parameter("zero", zero)
        return self.rest(self._zero, shape, wish)

    def carry(self, initial: str, shape: Shape, wish: str, final: str = "") -> State:
        """Let the loop carry one more tensor from step to step."""
        before, after = self.name(f"{wish} before"), self.name(f"{wish} after")
        self.states.append(State(initial, before, after, final or self.name(wish), shape))
        return self.states[-1]

    def close_loop(self, settle_steps: int) -> None:
        """Add the loop over T + K steps around what was written ``inside``."""
        trips, step = self.names.steps, self.step
        first: list[NodeProto] = []
        if settle_steps:
            trips, early = self.name("T + K"), self.name("t < T as truth")
            settle = self.parameter("K", np.int64(settle_steps))
            self.outside.nodes.append(helper.make_node("Add", [self.names.steps, settle], [trips]))
            first = [
                helper.make_node("Less", [step, self.names.steps], [early]),
                helper.make_node("Cast", [early], [self.on], to=self.carrier),
            ]
        # Without an explicit condition some runtimes run the loop zero times.
        condition = self.parameter("go on", np.True_)
        going, still = self.name("going on"), self.name("still going on")
        last = helper.make_node("Identity", [going], [still])
        body = helper.make_graph(
            [*first, *self.inside.nodes, last],
            "step",
            [
                helper.make_tensor_value_info(step, TensorProto.INT64, []),
                helper.make_tensor_value_info(going, TensorProto.BOOL, []),
                *(self.value(state.before, state.shape) for state in self.states),
            ],
            [
                helper.make_tensor_value_info(still, TensorProto.BOOL, []),
                *(self.value(state.after, state.shape) for state in self.states),
            ],
            value_info=self.inside.values,
        )
        reads = [trips, condition, *(state.initial for state in self.states)]
        gives = [state.final for state in self.states]
        self.outside.nodes.append(helper.make_node("Loop", reads, gives, name="time", body=body))

    def model(
        self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto], timesteps: int
    ) -> onnx.ModelProto:
        """Return the model, in which T is ``timesteps`` unless it is given."""
        default = numpy_helper.from_array(np.asarray(timesteps, np.int64), self.names.steps)
        graph = helper.make_graph(
            self.outside.nodes,
            name,
            list(inputs),
            list(outputs),
            [default, *self.initialisers],
            value_info=self.outside.values,
        )
        called = [functions.function(f, self.schedule, self.carrier) for f in sorted(self.functions)]
        return helper.make_model(
            graph,
            functions=called,
            opset_imports=[
                helper.make_opsetid("", functions.OPSET),
                helper.make_opsetid(functions.DOMAIN, functions.DOMAIN_VERSION),
            ],
            ir_version=IR_VERSION,
            producer_name="snnc",
            producer_version=__version__,
        )
