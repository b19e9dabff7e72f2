"""One step of a recurrent cell, in the equations of ONNX, as ordinary operations.

A step is made of products with the weights, sums, activations and products of gates. Where a product with
``1 - z`` occurs it is written out, ``h - z h``, so that the operands of every product are activations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

from snnc.frontend.recurrent.layer import ALPHA, BETA, Activation, Layer
from snnc.frontend.tensors import Constant

WORDS = {
    "h": "hidden state",
    "state": "cell state",
    "x": "sequence",
}
"""What the gates are called in messages, where that is not their name."""

State = tuple[str | None, str | None]
"""Hidden and cell state; ``None`` is zero."""


@dataclass(slots=True)
class Notes:
    """What all steps of a layer have in common.

    Attributes:
        layer: the layer.
        constants: what the operations read beside each other's results, by name.
        gates: by the name of an operation, the direction and the gate, for messages.
    """

    layer: Layer
    constants: dict[str, Constant]
    gates: dict[str, str] = field(default_factory=dict)

    def number(self, value: float) -> str:
        """Return the name of a constant number."""
        name = f"{self.layer.name}/{value}"
        self.constants[name] = np.array(value, self.layer.dtype)
        return name

    def integers(self, *values: int) -> str:
        """Return the name of constant integers, such as a shape."""
        name = f"{self.layer.name}/{','.join(map(str, values))}"
        self.constants[name] = np.array(values, np.int64)
        return name


@dataclass(slots=True)
class Step:
    """Collects the operations of one step.

    Attributes:
        notes: of the layer.
        direction: in which the sequence is gone through.
        place: the name of the step, from which others are derived.
        nodes: the operations so far.
        gate: the gate whose operations are being written.
    """

    notes: Notes
    direction: str
    place: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    gate: str = ""

    @property
    def layer(self) -> Layer:
        """The layer."""
        return self.notes.layer

    def node(self, op: str, what: str, *inputs: str, **attributes: Any) -> str:
        """Add an operation and return its result."""
        name = f"{self.place}/{self.gate}" + f".{what}" * bool(what)
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        told = f"{self.direction}, " * (len(self.layer.directions) > 1)
        self.notes.gates[name] = told + WORDS.get(self.gate, f"{self.gate} gate")
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

    def clipped(self, value: str, limit: float, what: str) -> str:
        """Limit what an activation reads."""
        if self.layer.opset < 11:
            return self.node("Clip", f"{what}clipped", value, min=-limit, max=limit)
        lowest, highest = self.notes.number(-limit), self.notes.number(limit)
        return self.node("Clip", f"{what}clipped", value, lowest, highest)

    def activated(self, value: str, activation: Activation, what: str = "") -> str:
        """Clip, as far as the layer asks for it, and apply an activation."""
        if self.layer.clip is not None:
            value = self.clipped(value, self.layer.clip, what)
        alpha, beta = activation.alpha, activation.beta
        match activation.operator:
            case "Affine":
                scaled = self.node("Mul", f"{what}scaled", value, self.notes.number(alpha))
                return self.node("Add", what, scaled, self.notes.number(beta))
            case "ScaledTanh":
                scaled = self.node("Mul", f"{what}scaled", value, self.notes.number(beta))
                curved = self.node("Tanh", f"{what}tanh", scaled)
                return self.node("Mul", what, curved, self.notes.number(alpha))
            case operator:
                given = {"alpha": alpha} if operator in ALPHA else {}
                return self.node(
                    operator, what, value, **given, **({"beta": beta} if operator in BETA else {})
                )

    def weight(self, gate: str, what: str) -> str:
        """Return the name of some weights."""
        return self.layer.at(self.direction, gate, what)

    def current(self, gate: str, x: str, h: str | None, *more: str | None) -> str:
        """Return the sum that a gate's activation reads."""
        self.gate = gate
        own = self.node("Gemm", "x", x, self.weight(gate, "W"), self.weight(gate, "B"), transB=1)
        return str(self.sum(own, self.recurrence(gate, h), *more))

    def recurrence(self, gate: str, h: str | None) -> str | None:
        """Return what the hidden state adds to a gate's sum."""
        if h is None:
            return None
        return self.node("Gemm", "h", h, self.weight(gate, "R"), self.weight(gate, "Rb"), transB=1)

    def peephole(self, gate: str, cell: str | None) -> str | None:
        """Return what the cell state adds to a gate's sum."""
        self.gate = gate
        return self.product("peephole", cell, self.weight(gate, "P")) if self.layer.peepholes else None


def write_step(step: Step, x: str, state: State) -> State:
    """Write one step of a layer.

    Args:
        step: to which the operations are added.
        x: the step's input, (batch, size).
        state: before the step, (batch, units) each.

    Returns:
        The state after it.
    """
    match step.layer.kind:
        case "LSTM":
            return _lstm(step, x, state)
        case "GRU":
            return _gru(step, x, state)
        case _:
            return _rnn(step, x, state)


def _lstm(step: Step, x: str, state: State) -> State:
    """Equations (default): C' = f C + i g(c), H' = o h(C')."""
    h, cell = state
    f, g, squash = step.layer.activations[step.direction]

    def gate(name: str, seen: str | None) -> str:
        more = step.peephole(name, seen)
        return step.activated(step.current(name, x, h, more), f)

    entered = gate("input", cell)
    coupled = step.layer.coupled
    kept = None if coupled or cell is None else gate("forget", cell)
    candidate = step.activated(step.current("cell", x, h), g)
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


def _gru(step: Step, x: str, state: State) -> State:
    """Equations: H' = (1 - z) n + z H, n = g(W x + R (r H)) or g(W x + r (R H))."""
    h, _ = state
    f, g = step.layer.activations[step.direction]
    behind = step.layer.reset_behind
    update = step.activated(step.current("update", x, h), f)
    reset = None
    if h is not None or behind:
        reset = step.activated(step.current("reset", x, h), f)
    step.gate = "hidden"
    if behind:
        recurrence = step.recurrence("hidden", h) or step.weight("hidden", "Rb")
        more = step.product("reset", reset, recurrence)
        current = step.current("hidden", x, None, more)
    else:
        current = step.current("hidden", x, step.product("reset", reset, h))
    new = step.activated(current, g)
    step.gate = "h"
    left = step.node("Sub", "new", new, str(step.product("left", update, new)))
    return step.sum(left, step.product("kept", update, h)), None


def _rnn(step: Step, x: str, state: State) -> State:
    """Equation: H' = f(W x + R H)."""
    (f,) = step.layer.activations[step.direction]
    return step.activated(step.current("hidden", x, state[0]), f), None
