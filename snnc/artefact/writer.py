"""A spiking network as an ONNX model.

A synchronous network becomes a ``Loop`` over T + K steps. What is constant in time, the analogue
first layer, is computed before it. The loop carries the potential and the count of every population,
the counts that every function of counts reads and what it gave last, and the accumulated read-out. A
layerwise network needs no loop: it is one pass over counts.

The model's inputs are ``x`` (batch, *shape) float32 and ``T``, a scalar int64 whose default is the
network's own; its output is ``y`` (batch, *shape) int32, the accumulated read-out (float32 before
quantisation). Where there are several inputs, or outputs, they bear the names that the source gives them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from snnc.artefact import functions
from snnc.artefact.calls import Call, Stateless, call_of, pool
from snnc.artefact.functions import Carrier
from snnc.artefact.leaky_functions import leaky_call
from snnc.artefact.model_builder import Attributes, ModelBuilder, Scope, State, tensor_names
from snnc.artefact.neuron_functions import firing_function
from snnc.artefact.precision import node_digits
from snnc.ir.channels import per_channel
from snnc.ir.graph import NumberArray
from snnc.ir.kinds import constant_nodes
from snnc.ir.neuron import Schedule
from snnc.ir.operations import Operation, firing, largest_spike, operations
from snnc.ir.snn import (
    MOST_BREAKPOINTS,
    Concat,
    ConstantCurrent,
    CountFunction,
    CountMaxPool,
    Delay,
    Encode,
    Function,
    IntegrateFire,
    Presented,
    Readout,
    SnnGraph,
    SnnNode,
)

ORDER, ORIGIN = "snnc.order", "snnc.origin"
"""Metadata of a node: its place in the network's own order, and the source's node that it came from."""

STANDS_FOR, FINE = "snnc.stands_for", "snnc.fine"
"""Metadata of a population: which rectifier it stands for, and whether it does so a second time."""

PRESENTED = "snnc.presented"
"""Metadata of an encoder whose rows are frames: what they are."""

NO_LIMIT = 0
"""In place of the spikes per step of a population with a step function, where nothing limits them."""


def build_model(
    graph: SnnGraph,
    *,
    states: bool = False,
    encoded: bool = False,
    sparse: bool = False,
    order: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """Return the network as an ONNX model.

    Args:
        graph: the network, verified.
        states: whether to add the outputs ``N`` int32 and ``v`` of every population, (batch, *shape),
            in the network's order after the outputs.
        encoded: whether the inputs are the quantised ones, ``q`` in place of ``x``: int32, or float32 before
            quantisation.
        sparse: whether weights of which many are zero are stored as :mod:`snnc.artefact.sparse_weights` does.
        order: places of the nodes in the network of which this is a segment, by their names.

    Raises:
        TargetError: the network's integers are too large for float32 convolutions.
    """
    if order is None:
        order = {node.name: place for place, node in enumerate(graph)}
    return _Writer(graph, encoded, sparse, order).model(states)


class _Writer:
    """Writes the nodes of one network into a draft."""

    def __init__(self, graph: SnnGraph, encoded: bool, sparse: bool, order: Mapping[str, int]) -> None:
        self.graph = graph
        self.encoded = encoded
        self.sparse = sparse
        self.looped = graph.schedule is Schedule.SYNCHRONOUS
        carrier = Carrier.INTEGER if graph.integer else Carrier.FLOAT
        names = tensor_names(graph, "q" if encoded else "x")
        self.draft = ModelBuilder(graph.schedule, carrier, names)
        self.inputs = dict(zip((node.name for node in graph.inputs), names.inputs, strict=True))
        self.outputs = dict(zip(graph.outputs, names.outputs, strict=True))
        self.constant = constant_nodes(graph)
        self.digits = node_digits(graph)
        self.order = {name: str(place) for name, place in order.items()}
        self.tensors: dict[str, str] = {}  # the value of each node
        self.finals: dict[str, tuple[str, str]] = {}  # N and v of each population
        self.held: dict[str, State] = {}  # what each delay holds

    def model(self, states: bool) -> onnx.ModelProto:
        for node in operations(self.graph):
            self.write(node)
        for name, held in self.held.items():
            newest = self.tensors[self.graph[name].earlier[0]]
            self.draft.call(self.draft.inside, "Hold", [held.before, newest], [held.after], {})
        if self.looped:
            self.draft.close_loop(self.graph.settle_steps)
        element = self.draft.carrier if self.encoded else TensorProto.FLOAT
        limit = f", at most {self.graph.max_timesteps}" if self.graph.max_timesteps else ""
        steps = self.draft.names.steps
        inputs = [
            *(self.draft.value(self.inputs[n.name], self.row_shape(n), element) for n in self.graph.inputs),
            helper.make_tensor_value_info(steps, TensorProto.INT64, [], f"number of steps{limit}"),
        ]
        outputs = [self.draft.value(name, self.graph[node].shape) for node, name in self.outputs.items()]
        for node in self.graph.of_type(IntegrateFire) if states else ():
            count, v = self.finals[node.name]
            whole = self.draft.name(f"{node.name}.N as int32")
            self.draft.outside.nodes.append(helper.make_node("Cast", [count], [whole], to=TensorProto.INT32))
            outputs.append(self.draft.value(whole, node.shape, TensorProto.INT32))
            outputs.append(self.draft.value(v, node.shape))
        return self.draft.model(self.graph.name, inputs, outputs, self.graph.timesteps)

    def row_shape(self, node: SnnNode) -> tuple[int | str, ...]:
        """Return the shape of a row; frames that stand for themselves may be as many as there are steps."""
        if not isinstance(node, Encode) or node.presented is Presented.STILL:
            return node.shape
        steps = self.graph.timesteps if node.presented is Presented.ACCUMULATED else "frames"
        return (steps, *node.shape)

    def write(self, node: Operation) -> None:
        match node:
            case Encode():
                self.encode(node)
            case ConstantCurrent():
                self.constant_current(node)
            case IntegrateFire():
                self.integrate_fire(node)
            case Readout():
                self.readout(node)
            case CountMaxPool() if self.looped:
                self.count_max_pool(node)
            case Concat():
                self.concat(node)
            case CountMaxPool():
                self.stateless(node)
            case CountFunction():
                self.count_function(node)
            case Delay():
                self.delay(node)
            case _:
                self.stateless(node)

    def stateless(self, node: Stateless) -> None:
        """Write a call that depends on what it reads alone."""
        self.declare(node)
        call = call_of(node, [self.graph[name].shape for name in node.inputs])
        function, attributes = call.function, call.attributes
        if function in functions.BY_DIGITS:  # float32 computes it; its input is split where that is needed
            digits, radix = self.digits[node.name]
            function = functions.by_digits(function, digits)
            attributes = attributes | ({"radix": radix} if radix else {})
        self.call(node, function, self.parameters(node, call), attributes)

    def parameters(self, node: SnnNode, call: Call) -> list[str]:
        """Store the parameters of a call."""
        found = []
        for role, values in call.parameters.items():
            store = self.draft.weight if role == "weight" and self.sparse else self.draft.parameter
            found.append(store(f"{node.name}.{role}", values))
        return found

    def encode(self, node: Encode) -> None:
        if self.encoded:
            self.tensors[node.name] = self.present(node, self.inputs[node.name])
            return
        self.tensors[node.name] = self.draft.name(node.name)
        self.draft.outside.values.append(self.draft.value(self.tensors[node.name], self.row_shape(node)))
        parameters = [
            self.per_channel(node, role, values)
            for role, values in (("gain", node.gain), ("offset", node.offset))
            if values is not None
        ]
        function = "EncodeNormalised" if parameters else "Encode"
        attributes: Attributes = {"scale": float64(node.scale), "limit": node.limit}
        if node.range != (-node.limit, node.limit):
            function += "Between"
            attributes |= dict(zip(("low", "high"), node.range, strict=True))
        quantised = [self.tensors[node.name]]
        inputs = [self.inputs[node.name], *parameters]
        self.mark(self.draft.call(self.draft.outside, function, inputs, quantised, attributes), node)
        self.tensors[node.name] = self.present(node, self.tensors[node.name])

    def present(self, node: Encode, quantised: str) -> str:
        """Return what a step sees of a quantised row."""
        if not node.varies:
            return quantised
        return self.draft.frame(quantised, node.name, self.graph.settle_steps)

    def constant_current(self, node: ConstantCurrent) -> None:
        self.declare(node)
        values = self.draft.parameter(f"{node.name}.values", node.values)
        inputs, outputs = [values, self.draft.batch], [self.tensors[node.name]]
        call = self.draft.call(self.scope(node), "ConstantCurrent", inputs, outputs, {"shape": node.shape})
        self.mark(call, node)

    def integrate_fire(self, node: IntegrateFire) -> None:
        function = firing_function(firing(node))
        attributes: Attributes = {"levels": node.neuron.levels}
        if node.neuron.spikes_per_step is not None:
            attributes["spikes_per_step"] = node.neuron.spikes_per_step
        attributes |= {"code": node.neuron.code.value, "unit": [float(u) for u in node.spike_scale]}
        attributes["floor"] = [float(value) for value in node.lowest]
        bias = self.per_channel(node, "bias", node.bias)
        if self.looped:
            bias = self.draft.in_a_step(bias, self.graph.settle_steps)
        parameters = [self.per_channel(node, "threshold", node.threshold), bias]
        if node.negative_threshold is not None:
            parameters.append(self.per_channel(node, "negative_threshold", node.negative_threshold))
        if node.breakpoints is not None and node.step_values is not None:
            attributes["spikes_per_step"] = node.neuron.spikes_per_step or NO_LIMIT
            attributes["most"] = largest_spike(node, self.graph.timesteps, self.graph.settle_steps)
            if node.potential_unit is not None and node.potential_zero is not None:
                attributes["v_unit"] = [float(value) for value in node.potential_unit]
                attributes["v_zero"] = [float(value) for value in node.potential_zero]
            parameters += self.step_function(node, node.breakpoints, node.step_values)
        if node.leaky:
            told, given = leaky_call(node)
            attributes |= told
            parameters += [self.per_channel(node, role, values) for role, values in given.items()]
        else:
            parameters.append(self.draft.times)
        v_init = self.per_channel(node, "v_init", node.v_init)
        rest = self.draft.rest(v_init, node.shape, f"{node.name}.v(0)", node.name)
        self.declare(node)
        if not self.looped:
            final = self.draft.name(f"{node.name}.v")
            self.finals[node.name] = (self.tensors[node.name], final)
            self.call(node, function, [*parameters, rest], attributes, [final])
            return
        v = self.draft.carry(rest, node.shape, f"{node.name}.v")
        silence = self.draft.silence(node.shape, f"{node.name}.N(0)")
        count = self.draft.carry(silence, node.shape, f"{node.name}.N")
        self.finals[node.name] = (count.final, v.final)
        states = [v, count, *(self.quiet(node, what) for what in ("i", "r") if node.leaky)]
        before, after = [state.before for state in states], [state.after for state in states]
        self.call(node, function, [*parameters, *before], attributes, after)

    def quiet(self, node: SnnNode, what: str) -> State:
        """Return a state of a node, of its shape, that begins at zero."""
        silence = self.draft.silence(node.shape, f"{node.name}.{what}(0)")
        return self.draft.carry(silence, node.shape, f"{node.name}.{what}")

    def delay(self, node: Delay) -> None:
        shape = (node.steps, *node.shape)
        silence = self.draft.silence(shape, f"{node.name}.held(0)")
        self.held[node.name] = held = self.draft.carry(silence, shape, f"{node.name}.held")
        self.declare(node)
        attributes: Attributes = {"source": node.source, "steps": node.steps}
        call = self.draft.call(
            self.draft.inside, "Delay", [held.before], [self.tensors[node.name]], attributes
        )
        self.mark(call, node)

    def step_function(
        self, node: IntegrateFire, points: NumberArray, values: NumberArray
    ) -> tuple[str, str, str]:
        """Store a step function as its search reads it: each channel's breakpoints filled up, in one row."""
        filled = np.full((len(points), MOST_BREAKPOINTS), np.iinfo(np.int32).max, np.int32)
        filled[:, : points.shape[1]] = points
        first = np.arange(node.channels) % len(points) * MOST_BREAKPOINTS
        return (
            self.draft.parameter(f"{node.name}.breakpoints", filled.ravel()),
            self.draft.parameter(f"{node.name}.step_values", values),
            self.per_channel(node, "first", first),
        )

    def count_max_pool(self, node: CountMaxPool) -> None:
        shape = self.graph[node.inputs[0]].shape
        silence = self.draft.silence(shape, f"{node.name}.N(0)")
        count = self.draft.carry(silence, shape, f"{node.name}.N")
        silence = self.draft.silence(node.shape, f"{node.name}.highest(0)")
        highest = self.draft.carry(silence, node.shape, f"{node.name}.highest")
        self.declare(node)
        states = [count.before, highest.before]
        self.call(node, "CountMaxPool", states, pool(node.window), [count.after, highest.after])

    def count_function(self, node: Function) -> None:
        """Write a function of counts: the counts of what it reads, and what it gave last, are states."""
        call = call_of(node, [self.graph[name].shape for name in node.inputs])
        parameters = self.parameters(node, call)
        read = [self.read(name, node) for name in node.inputs]
        states: list[State] = []
        if self.looped:
            for number, name in enumerate(node.inputs):
                shape = self.graph[name].shape
                silence = self.draft.silence(shape, f"{node.name}.N{number}(0)")
                states.append(self.draft.carry(silence, shape, f"{node.name}.N{number}"))
            silence = self.draft.silence(node.shape, f"{node.name}.G(0)")
            states.append(self.draft.carry(silence, node.shape, f"{node.name}.G"))
        self.declare(node)
        inputs = [*read, *parameters, *(state.before for state in states)]
        outputs = [self.tensors[node.name], *(state.after for state in states)]
        self.mark(self.draft.call(self.scope(node), call.function, inputs, outputs, call.attributes), node)

    def readout(self, node: Readout) -> None:
        """Write the accumulation, which begins at T times the bias; a potential begins at zero."""
        if node.leaky:
            self.leaky_readout(node)
            return
        bias = self.draft.over_the_run(self.per_channel(node, "bias", node.bias))
        total = self.draft.rest(bias, node.shape, f"{node.name}.total(0)", node.name)
        self.tensors[node.name] = self.outputs[node.name]
        if self.looped:
            state = self.draft.carry(total, node.shape, f"{node.name}.total", final=self.outputs[node.name])
            total, self.tensors[node.name] = state.before, state.after
        attributes: Attributes = {"scale": float64(node.scale)}
        if node.gain is not None:
            attributes["gain"] = [float(value) for value in node.gain]
        self.call(node, "Readout" if node.gain is None else "ReadoutPerChannel", [total], attributes)

    def leaky_readout(self, node: Readout) -> None:
        attributes, given = leaky_call(node)
        attributes["scale"] = float64(node.scale)
        gain = np.ones(node.channels, np.float32) if node.gain is None else node.gain
        attributes["gain"] = [float(value) for value in gain]
        bias = {"bias": node.bias}
        parameters = [self.per_channel(node, role, values) for role, values in (bias | given).items()]
        silence = self.draft.silence(node.shape, f"{node.name}.y(0)")
        y = self.draft.carry(silence, node.shape, f"{node.name}.y", final=self.outputs[node.name])
        i = self.quiet(node, "i")
        self.tensors[node.name] = y.after
        self.call(node, "ReadoutLeaky", [*parameters, y.before, i.before], attributes, [i.after])

    def concat(self, node: Concat) -> None:
        """Write ONNX's own operator: a function has a fixed number of inputs."""
        read = [self.read(name, node) for name in node.inputs]
        self.declare(node)
        joined = helper.make_node("Concat", read, [self.tensors[node.name]], axis=1)
        self.mark(joined, node)
        self.scope(node).nodes.append(joined)

    def declare(self, node: SnnNode) -> None:
        """Name the value of ``node`` and state its shape."""
        self.tensors[node.name] = self.draft.name(node.name)
        self.scope(node).values.append(self.draft.value(self.tensors[node.name], node.shape))

    def call(
        self,
        node: SnnNode,
        function: str,
        parameters: Sequence[str],
        attributes: Attributes,
        states: Sequence[str] = (),
    ) -> None:
        """Write the call that stands for ``node``. Its first input is the sum of all that ``node`` reads."""
        scope = self.scope(node)
        read = [self.read(name, node) for name in node.inputs] or [self.inputs[node.name]]
        total = self.draft.sum(scope, read, f"{node.name}.current")
        outputs = [self.tensors[node.name], *states]
        self.mark(self.draft.call(scope, function, [total, *parameters], outputs, attributes), node)

    def mark(self, onnx_node: NodeProto, node: SnnNode) -> None:
        """Say which node of the network an ONNX node stands for."""
        onnx_node.name = node.name
        said = {ORDER: self.order[node.name], ORIGIN: node.origin}
        if isinstance(node, IntegrateFire):
            said |= {STANDS_FOR: node.stands_for, FINE: str(node.fine).lower()}
        if isinstance(node, Encode) and node.varies:
            said[PRESENTED] = node.presented.value
        helper.set_metadata_props(onnx_node, said)

    def scope(self, node: SnnNode) -> Scope:
        """Return where a node is computed: once, or in every step."""
        return self.draft.inside if self.looped and node.name not in self.constant else self.draft.outside

    def read(self, name: str, reader: SnnNode) -> str:
        """Return the value of the node ``name`` as ``reader`` sees it."""
        tensor = self.tensors[name]
        if name not in self.constant or reader.name in self.constant:
            return tensor
        if self.looped:
            return self.draft.in_a_step(tensor, self.graph.settle_steps)
        return self.draft.over_the_run(tensor)

    def per_channel(self, node: SnnNode, role: str, values: NumberArray) -> str:
        """Store one number per channel so that it broadcasts over a batch."""
        shaped = per_channel(values, len(node.shape))
        return self.draft.parameter(f"{node.name}.{role}", shaped)


def float64(value: float) -> TensorProto:
    """Return a number at full length: ONNX's float attributes have 32 bits."""
    return numpy_helper.from_array(np.asarray(value, np.float64), "value")
