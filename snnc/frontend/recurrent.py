"""LSTM, GRU and RNN as ordinary operations: the sequence, whose length is known, is unrolled step by step.

Each step is made of products with the weights, sums, activations and products of gates, in the equations of
ONNX, and each operation bears the name of its node, the direction, the step and the gate. The weights of all
steps are the same arrays. Where a product with ``1 - z`` occurs it is written out, ``h - z h``, so that the
operands of every product are activations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

from snnc.frontend.tensors import Constant
from snnc.ir.graph import Shape

RECURRENT = ("LSTM", "GRU", "RNN")
"""Operators that are unrolled."""

MOST_STEPS = 256
"""Longest sequence that is unrolled."""

OLDEST = 7
"""The opset from which on they mean what they mean today."""

GATES = {
    "LSTM": ("input", "output", "forget", "cell"),
    "GRU": ("update", "reset", "hidden"),
    "RNN": ("hidden",),
}
"""The gates whose weights an operator holds, in its order."""

WORDS = {
    "h": "hidden state",
    "state": "cell state",
    "x": "sequence",
}
"""What the gates are called in messages, where that is not their name."""

DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
"""The activation functions of one direction, in the order of ``activations``."""

ALPHA: Mapping[str, float | None] = {
    "Affine": None,
    "Elu": 1.0,
    "HardSigmoid": 0.2,
    "LeakyRelu": 0.01,
    "ScaledTanh": None,
    "ThresholdedRelu": None,
}
BETA: Mapping[str, float | None] = {"Affine": None, "HardSigmoid": 0.5, "ScaledTanh": None}
"""The activations that have these parameters, and their defaults; ``None`` where ONNX and runtimes differ."""

ACTIVATIONS = {name.lower(): name for name in (*ALPHA, "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")}
"""Every activation by its name in small letters."""


TYPES = {
    **dict.fromkeys(("activation_alpha", "activation_beta"), onnx.AttributeProto.FLOATS),
    **dict.fromkeys(
        ("hidden_size", "input_forget", "layout", "linear_before_reset"), onnx.AttributeProto.INT
    ),
    "activations": onnx.AttributeProto.STRINGS,
    "clip": onnx.AttributeProto.FLOAT,
    "direction": onnx.AttributeProto.STRING,
}
"""Attributes and their types."""


class UnrollingError(Exception):
    """A recurrent node cannot be unrolled; the message says why."""


@dataclass(frozen=True, slots=True)
class Operands:
    """What a recurrent node reads.

    Attributes:
        shape: of the sequence X, three sizes.
        constants: by position, the inputs that are constant.
        given: positions of the others that are given.
    """

    shape: Shape
    constants: Mapping[int, Constant]
    given: frozenset[int]


@dataclass(frozen=True, slots=True)
class Unrolled:
    """A recurrent node, unrolled.

    Attributes:
        steps: the operations, one list for each step of each direction and a last one that joins the results.
        constants: what they read beside, by name.
        inputs: by position, what they call the inputs of the node that are not constant.
        outputs: what they call the outputs of the node, in order; empty for one that it does not have.
        gates: by the name of an operation, the direction and the gate, for messages.
        batch: how many sequences run beside each other.
    """

    steps: tuple[tuple[onnx.NodeProto, ...], ...]
    constants: Mapping[str, Constant]
    inputs: Mapping[int, str]
    outputs: tuple[str, ...]
    gates: Mapping[str, str]
    batch: int

    @property
    def done(self) -> tuple[tuple[str, ...], ...]:
        """What each step makes or reads for the last time, but for the outputs."""
        last = {
            name: k
            for k, step in enumerate(self.steps)
            for node in step
            for name in (*node.output, *node.input)
        }
        found: list[list[str]] = [[] for _ in self.steps]
        for name in last.keys() - set(self.outputs):
            found[last[name]].append(name)
        return tuple(map(tuple, found))


def unroll(node: onnx.NodeProto, operands: Operands, opset: int, name: str) -> Unrolled:
    """Unroll a recurrent node.

    Args:
        node: an LSTM, GRU or RNN.
        operands: what is known of its inputs.
        opset: version of the operator set.
        name: from which the names of its operations are derived.

    Raises:
        UnrollingError: it has a form that is not supported.
    """
    if opset < OLDEST:
        raise UnrollingError(f"it has another meaning before opset {OLDEST}")
    return _Unrolling(node, operands, opset, name).result()


def _value_of(attribute: onnx.AttributeProto) -> Any:
    if attribute.type != TYPES[attribute.name]:
        raise UnrollingError(f"its attribute {attribute.name!r} has another type than ONNX gives it")
    return helper.get_attribute_value(attribute)


@dataclass(frozen=True, slots=True)
class _Activation:
    operator: str
    alpha: float
    beta: float


@dataclass(slots=True)
class _Step:
    """Collects the operations of one step.

    Attributes:
        place: the name of the step, from which others are derived.
        gate: the gate whose operations are being written.
    """

    unrolling: _Unrolling
    place: str
    direction: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    gate: str = ""

    def node(self, op: str, what: str, *inputs: str, **attributes: Any) -> str:
        """Add an operation and return its result."""
        name = f"{self.place}/{self.gate}" + f".{what}" * bool(what)
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        self.unrolling.gates[name] = self.direction + WORDS.get(self.gate, f"{self.gate} gate")
        return name

    def sum(self, *terms: str | None) -> str | None:
        """Add what is there; ``None`` stands for zero."""
        known = [term for term in terms if term is not None]
        total = known[0] if known else None
        for number, term in enumerate(known[1:], start=1):
            total = self.node("Add", "sum" + str(number) * (number > 1), str(total), term)
        return total

    def product(self, what: str, *factors: str | None) -> str | None:
        """Multiply two values; ``None`` stands for zero."""
        known = [factor for factor in factors if factor is not None]
        return None if len(known) < len(factors) else self.node("Mul", what, *known)

    def activated(self, value: str, activation: _Activation, what: str = "") -> str:
        """Clip, as far as the node asks for it, and apply an activation."""
        clip = self.unrolling.clip
        if clip is not None:
            value = self.unrolling.clipped(self, value, clip, what)
        alpha, beta = activation.alpha, activation.beta
        match activation.operator:
            case "Affine":
                scaled = self.node("Mul", f"{what}scaled", value, self.unrolling.number(alpha))
                return self.node("Add", what, scaled, self.unrolling.number(beta))
            case "ScaledTanh":
                scaled = self.node("Mul", f"{what}scaled", value, self.unrolling.number(beta))
                curved = self.node("Tanh", f"{what}tanh", scaled)
                return self.node("Mul", what, curved, self.unrolling.number(alpha))
            case operator:
                given = {"alpha": alpha} if operator in ALPHA else {}
                return self.node(
                    operator, what, value, **given, **({"beta": beta} if operator in BETA else {})
                )


State = tuple[str | None, str | None]
"""Hidden and cell state; ``None`` is zero."""


class _Unrolling:
    """One recurrent node."""

    def __init__(self, node: onnx.NodeProto, operands: Operands, opset: int, name: str) -> None:
        self.node, self.operands, self.opset, self.name = node, operands, opset, name
        self.kind = node.op_type
        self.attributes = {each.name: _value_of(each) for each in node.attribute if each.name in TYPES}
        for constant in (operands.constants.get(place) for place in (1, 2, 3, 5, 6, 7)):
            if constant is not None and constant.dtype.kind != "f" and constant.dtype.name != "bfloat16":
                raise UnrollingError(f"it holds numbers of the type {constant.dtype}")
        self.constants: dict[str, Constant] = {}
        self.gates: dict[str, str] = {}
        self.inputs: dict[int, str] = {0: f"{name}/X"}
        if len(operands.shape) != 3:
            raise UnrollingError(f"its sequence has the shape {operands.shape}, not three sizes")
        if 0 in operands.constants:
            raise UnrollingError("its sequence is constant")
        self.batchwise = bool(self.attributes.get("layout", 0))
        self.length, self.batch = operands.shape[:2][:: -1 if self.batchwise else 1]
        self.directions = self._directions()
        self._read_weights()
        self.steps_run = self._length()
        self.activations = self._activations()
        self.clip: float | None = self.attributes.get("clip")
        if self.clip is not None and not self.clip > 0:
            raise UnrollingError(f"its clip {self.clip} is not positive")

    # What the node says.

    def _directions(self) -> tuple[str, ...]:
        given = self.attributes.get("direction", b"forward").decode(errors="replace")
        known = {"forward": ("forward",), "reverse": ("reverse",), "bidirectional": ("forward", "reverse")}
        if given not in known:
            raise UnrollingError(f"its direction is {given!r}")
        return known[given]

    def _constant(self, position: int, what: str) -> Constant | None:
        """Return an input that must be constant; ``None`` where it is not given."""
        if position in self.operands.given:
            raise UnrollingError(f"its {what} are computed from the network's input")
        return self.operands.constants.get(position)

    def _read_weights(self) -> None:
        """Read weights, biases and peepholes, and part them by direction and gate."""
        weight, recurrence = self._constant(1, "weights"), self._constant(2, "weights")
        if weight is None or recurrence is None or weight.ndim != 3 or recurrence.ndim != 3:
            raise UnrollingError("its weights are missing, or no three-dimensional tensors")
        count, gates = len(self.directions), GATES[self.kind]
        self.hidden = hidden = recurrence.shape[2]
        size = self.operands.shape[2]
        fits = weight.shape == (count, len(gates) * hidden, size)
        fits = fits and recurrence.shape == (count, len(gates) * hidden, hidden)
        if not fits or self.attributes.get("hidden_size", hidden) != hidden or not hidden:
            raise UnrollingError(
                f"weights {weight.shape} and {recurrence.shape} do not fit {count} directions, {size} inputs "
                f"and {self.attributes.get('hidden_size', hidden)} units"
            )
        bias = self._constant(3, "biases")
        if bias is None:
            bias = np.zeros((count, 2 * len(gates) * hidden), weight.dtype)
        if bias.shape != (count, 2 * len(gates) * hidden):
            raise UnrollingError(f"biases {bias.shape} do not fit its weights")
        peepholes = self._constant(7, "peepholes") if self.kind == "LSTM" else None
        if peepholes is not None and peepholes.shape != (count, 3 * hidden):
            raise UnrollingError(f"peepholes {peepholes.shape} do not fit its weights")
        self.apart = self.kind == "GRU" and bool(self.attributes.get("linear_before_reset", 0))
        for d, direction in enumerate(self.directions):
            for g, gate in enumerate(gates):
                rows = slice(g * hidden, (g + 1) * hidden)
                own, others = bias[d, rows], bias[d, len(gates) * hidden :][rows]
                within = self.apart and gate == "hidden"  # its bias is reset, too
                self.constants[self.at(direction, gate, "W")] = np.ascontiguousarray(weight[d, rows])
                self.constants[self.at(direction, gate, "R")] = np.ascontiguousarray(recurrence[d, rows])
                self.constants[self.at(direction, gate, "B")] = own if within else own + others
                self.constants[self.at(direction, gate, "Rb")] = others if within else np.zeros_like(others)
            for g, gate in enumerate(("input", "output", "forget")):
                if peepholes is not None:
                    rows = slice(g * hidden, (g + 1) * hidden)
                    self.constants[self.at(direction, gate, "P")] = peepholes[d, rows]
        self.peepholes = peepholes is not None

    def at(self, direction: str, gate: str, what: str) -> str:
        """Return the name of a constant."""
        return f"{self.name}/{direction}/{gate}.{what}"

    def _length(self) -> int:
        """Return how many steps are run."""
        lengths = self._constant(4, "sequence lengths")
        run = self.length
        if lengths is not None:
            found = np.unique(lengths)
            if found.size != 1:
                raise UnrollingError("its sequences differ in length")
            run = int(found[0])
        if not 0 < run <= self.length:
            raise UnrollingError(f"the length {run} of its sequences does not fit {self.length} steps")
        if run > MOST_STEPS:
            raise UnrollingError(
                f"its sequence of {run} steps is too long: {MOST_STEPS} are unrolled at most"
            )
        return run

    def _activations(self) -> dict[str, tuple[_Activation, ...]]:
        """Return the activations of each direction."""
        count = len(DEFAULTS[self.kind])
        names = [each.decode(errors="replace") for each in self.attributes.get("activations", ())]
        names = names or [*DEFAULTS[self.kind]] * len(self.directions)
        if len(names) != count * len(self.directions):
            raise UnrollingError(f"it names {len(names)} activations, not {count} for each direction")
        alphas = iter(self.attributes.get("activation_alpha", ()))
        betas = iter(self.attributes.get("activation_beta", ()))
        found = []
        for name in names:
            operator = ACTIVATIONS.get(name.lower())
            if operator is None:
                raise UnrollingError(f"its activation {name!r} is unknown")
            alpha = next(alphas, ALPHA[operator]) if operator in ALPHA else 0.0
            beta = next(betas, BETA[operator]) if operator in BETA else 0.0
            if alpha is None or beta is None:
                raise UnrollingError(f"its activation {operator} has no alpha or beta")
            found.append(_Activation(operator, float(alpha), float(beta)))
        each = (tuple(found[d * count : (d + 1) * count]) for d in range(len(self.directions)))
        return dict(zip(self.directions, each, strict=True))

    # What it becomes.

    def result(self) -> Unrolled:
        steps: list[tuple[onnx.NodeProto, ...]] = []
        sequences: list[list[str]] = []
        last: list[State] = []
        for d, direction in enumerate(self.directions):
            word = f"{direction}, " * (len(self.directions) > 1)
            state, begin = self._initial(d, direction, word)
            run = range(self.steps_run)
            outputs: dict[int, str] = {}
            for number, t in enumerate(run if direction == "forward" else reversed(run)):
                step = _Step(self, f"{self.name}/{direction}/{t}", word, begin if not number else [])
                state = self._cell(step, direction, self._given(step, t), state)
                outputs[t] = str(state[0])
                steps.append(tuple(step.nodes))
            sequences.append([outputs[t] for t in run])
            last.append(state)
        joined, outputs_of = self._joined(sequences, last)
        return Unrolled((*steps, joined), self.constants, self.inputs, outputs_of, self.gates, self.batch)

    def number(self, value: float) -> str:
        """Return the name of a constant number."""
        kind = self.constants[self.at(self.directions[0], GATES[self.kind][0], "W")].dtype
        name = f"{self.name}/{value}"
        self.constants[name] = np.array(value, kind)
        return name

    def integers(self, *values: int) -> str:
        """Return the name of constant integers, such as a shape."""
        name = f"{self.name}/{','.join(map(str, values))}"
        self.constants[name] = np.array(values, np.int64)
        return name

    def clipped(self, step: _Step, value: str, limit: float, what: str) -> str:
        """Limit what an activation reads."""
        if self.opset < 11:
            return step.node("Clip", f"{what}clipped", value, min=-limit, max=limit)
        return step.node("Clip", f"{what}clipped", value, self.number(-limit), self.number(limit))

    def _given(self, step: _Step, t: int) -> str:
        """Return the inputs of one step, (batch, size)."""
        step.gate = "x"
        if self.length == 1:
            return step.node("Reshape", "", self.inputs[0], self.integers(self.batch, self.operands.shape[2]))
        name = f"{self.name}/step {t}"
        self.constants[name] = np.array(t, np.int64)
        return step.node("Gather", "", self.inputs[0], name, axis=1 if self.batchwise else 0)

    def _initial(self, d: int, direction: str, word: str) -> tuple[State, list[onnx.NodeProto]]:
        """Return the states before the first step, and the operations that choose them."""
        nodes: list[onnx.NodeProto] = []
        found: list[str | None] = []
        for position, what in ((5, "h"), (6, "c"))[: 2 if self.kind == "LSTM" else 1]:
            name = f"{self.name}/{direction}/initial.{what}"
            value = self.operands.constants.get(position)
            if position in self.operands.given:
                self.inputs[position] = f"{self.name}/initial.{what}"
                given = self.inputs[position]
                if len(self.directions) == 1:
                    shape = self.integers(self.batch, self.hidden)
                    nodes.append(helper.make_node("Reshape", [given, shape], [name], name))
                else:
                    which = f"{self.name}/direction {d}"
                    self.constants[which] = np.array(d, np.int64)
                    axis = int(self.batchwise)
                    nodes.append(helper.make_node("Gather", [given, which], [name], name, axis=axis))
                self.gates[name] = f"{word}initial state"
                found.append(name)
            elif value is None or not np.any(value):
                found.append(None)
            else:
                self.constants[name] = self._rows(np.asarray(value), d)
                found.append(name)
        return (found[0], found[1] if len(found) > 1 else None), nodes

    def _rows(self, value: Constant, d: int) -> Constant:
        """Return the initial state of one direction, (batch, units)."""
        if self.batchwise and value.ndim == 3:
            value = value.swapaxes(0, 1)
        if value.ndim != 3 or value.shape[::2] != (len(self.directions), self.hidden):
            raise UnrollingError(f"its initial state {value.shape} does not fit its weights")
        rows = value[d]
        if len(rows) != self.batch and (rows != rows[:1]).any():
            raise UnrollingError("its initial state differs from row to row")
        return rows if len(rows) == self.batch else np.repeat(rows[:1], self.batch, axis=0)

    def _current(
        self, step: _Step, direction: str, gate: str, x: str, h: str | None, *more: str | None
    ) -> str:
        """Return the sum that a gate's activation reads."""
        step.gate = gate
        own = step.node(
            "Gemm", "x", x, self.at(direction, gate, "W"), self.at(direction, gate, "B"), transB=1
        )
        return str(step.sum(own, self._recurrence(step, direction, gate, h), *more))

    def _recurrence(self, step: _Step, direction: str, gate: str, h: str | None) -> str | None:
        bias = self.at(direction, gate, "Rb")
        if h is None:
            return None
        return step.node("Gemm", "h", h, self.at(direction, gate, "R"), bias, transB=1)

    def _peephole(self, step: _Step, direction: str, gate: str, cell: str | None) -> str | None:
        step.gate = gate
        return step.product("peephole", cell, self.at(direction, gate, "P")) if self.peepholes else None

    def _lstm(self, step: _Step, direction: str, x: str, state: State) -> State:
        """Equations (default): C' = f C + i g(c), H' = o h(C')."""
        h, cell = state
        f, g, squash = self.activations[direction]

        def gate(name: str, seen: str | None) -> str:
            more = self._peephole(step, direction, name, seen)
            return step.activated(self._current(step, direction, name, x, h, more), f)

        entered = gate("input", cell)
        coupled = bool(self.attributes.get("input_forget", 0))
        kept = None if coupled or cell is None else gate("forget", cell)
        candidate = step.activated(self._current(step, direction, "cell", x, h), g)
        step.gate = "state"
        new = str(step.product("new", entered, candidate))
        if not coupled:
            cell = str(step.sum(step.product("kept", kept, cell), new))
        elif cell is not None:  # f = 1 - i
            left = step.node("Sub", "kept", cell, str(step.product("left", entered, cell)))
            cell = str(step.sum(left, new))
        else:
            cell = new
        opened = gate("output", cell)
        step.gate = "output"
        shown = step.activated(cell, squash, "squashed.")
        step.gate = "h"
        return step.product("", opened, shown), cell

    def _gru(self, step: _Step, direction: str, x: str, state: State) -> State:
        """Equations: H' = (1 - z) n + z H, n = g(W x + R (r H)) or g(W x + r (R H))."""
        h, _ = state
        f, g = self.activations[direction]
        update = step.activated(self._current(step, direction, "update", x, h), f)
        reset = None
        if h is not None or self.apart:
            reset = step.activated(self._current(step, direction, "reset", x, h), f)
        step.gate = "hidden"
        if self.apart:
            recurrence = self._recurrence(step, direction, "hidden", h) or self.at(direction, "hidden", "Rb")
            more = step.product("reset", reset, recurrence)
            current = self._current(step, direction, "hidden", x, None, more)
        else:
            current = self._current(step, direction, "hidden", x, step.product("reset", reset, h))
        new = step.activated(current, g)
        step.gate = "h"
        left = step.node("Sub", "new", new, str(step.product("left", update, new)))
        return step.sum(left, step.product("kept", update, h)), None

    def _rnn(self, step: _Step, direction: str, x: str, state: State) -> State:
        (f,) = self.activations[direction]
        return step.activated(self._current(step, direction, "hidden", x, state[0]), f), None

    def _cell(self, step: _Step, direction: str, x: str, state: State) -> State:
        match self.kind:
            case "LSTM":
                return self._lstm(step, direction, x, state)
            case "GRU":
                return self._gru(step, direction, x, state)
            case _:
                return self._rnn(step, direction, x, state)

    def _joined(
        self, sequences: Sequence[Sequence[str]], last: Sequence[State]
    ) -> tuple[tuple[onnx.NodeProto, ...], tuple[str, ...]]:
        """Return the operations that join the results, and their names."""
        nodes: list[onnx.NodeProto] = []

        def node(op: str, what: str, *inputs: str, **attributes: Any) -> str:
            name = f"{self.name}/{what}"
            nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
            self.gates[name] = "result"
            return name

        outputs = [*self.node.output, "", "", ""][: 3 if self.kind == "LSTM" else 2]
        found = ["", "", ""]
        front = (self.batch, 1) if self.batchwise else (1, self.batch)
        if outputs[0]:
            one = (
                self.integers(self.batch, 1, 1, self.hidden)
                if self.batchwise
                else self.integers(1, 1, self.batch, self.hidden)
            )
            time, side = (1, 2) if self.batchwise else (0, 1)
            rest = self.length - self.steps_run
            sides = []
            for direction, names in zip(self.directions, sequences, strict=True):
                rows = [node("Reshape", f"{direction}/{t}/row", name, one) for t, name in enumerate(names)]
                if rest:
                    shape = (
                        [self.batch, 1, 1, self.hidden] if self.batchwise else [1, 1, self.batch, self.hidden]
                    )
                    shape[time] = rest
                    silent = f"{self.name}/silent"
                    self.constants[silent] = np.zeros(shape, np.float32)
                    rows.append(silent)
                sides.append(
                    rows[0] if len(rows) == 1 else node("Concat", f"{direction}/rows", *rows, axis=time)
                )
            found[0] = sides[0] if len(sides) == 1 else node("Concat", "Y", *sides, axis=side)
        for place, output in enumerate(outputs[1:]):
            if not output:
                continue
            what = "hc"[place]
            states = [
                node(
                    "Reshape",
                    f"{direction}/last.{what}",
                    str(state[place]),
                    self.integers(*front, self.hidden),
                )
                for direction, state in zip(self.directions, last, strict=True)
            ]
            axis = 1 if self.batchwise else 0
            found[1 + place] = (
                states[0] if len(states) == 1 else node("Concat", f"Y_{what}", *states, axis=axis)
            )
        return tuple(nodes), tuple(found)
