"""What a recurrent node says: its gates and their weights, directions, activations and number of steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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

PEEPHOLES = ("input", "output", "forget")
"""The gates of an LSTM that may read the cell state, in the order of their weights."""

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

DIRECTIONS = {"forward": ("forward",), "reverse": ("reverse",), "bidirectional": ("forward", "reverse")}
"""The directions in which a node goes through the sequence, by its attribute."""

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

    def constant(self, position: int, what: str) -> Constant | None:
        """Return an input that must be constant; ``None`` where it is not given.

        Raises:
            UnrollingError: it is computed.
        """
        if position in self.given:
            raise UnrollingError(f"its {what} are computed from the network's input")
        return self.constants.get(position)


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation function of ONNX, with its parameters where it has some."""

    operator: str
    alpha: float
    beta: float


@dataclass(frozen=True, slots=True)
class Layer:
    """A recurrent node.

    Attributes:
        kind: LSTM, GRU or RNN.
        name: from which the names of its operations are derived.
        opset: version of the operator set.
        directions: forward, reverse or both, in the order of the weights.
        batchwise: whether the batch is the first axis of the sequence, and not the second.
        length: of the sequence.
        steps: how many of it are run.
        batch: how many sequences run beside each other.
        size: of the input of one step.
        hidden: number of units.
        activations: of each direction, in the order of ``DEFAULTS``.
        clip: the largest magnitude that an activation reads; ``None`` for any.
        reset_behind: whether a GRU's hidden state is reset behind its weights (``linear_before_reset``).
        coupled: whether an LSTM forgets what it takes in no part (``input_forget``).
        peepholes: whether the gates of an LSTM read its cell state.
        weights: by direction, gate and W, R, B, Rb or P: the weights of input and hidden state, the bias of
            both, the bias that a GRU resets, and the peephole. All steps read the same arrays.
    """

    kind: str
    name: str
    opset: int
    directions: tuple[str, ...]
    batchwise: bool
    length: int
    steps: int
    batch: int
    size: int
    hidden: int
    activations: Mapping[str, tuple[Activation, ...]]
    clip: float | None
    reset_behind: bool
    coupled: bool
    peepholes: bool
    weights: Mapping[tuple[str, str, str], Constant]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the weights."""
        return next(iter(self.weights.values())).dtype

    def at(self, direction: str, gate: str, what: str) -> str:
        """Return the name of some weights."""
        return f"{self.name}/{direction}/{gate}.{what}"


def layer_of(node: onnx.NodeProto, operands: Operands, opset: int, name: str) -> Layer:
    """Return what a recurrent node says.

    Args:
        node: an LSTM, GRU or RNN.
        operands: what is known of its inputs.
        opset: version of the operator set.
        name: from which the names of its operations are derived.

    Raises:
        UnrollingError: it has a form that is not supported.
    """
    kind = node.op_type
    attributes = {each.name: _value_of(each) for each in node.attribute if each.name in TYPES}
    for constant in (operands.constants.get(place) for place in (1, 2, 3, 5, 6, 7)):
        if constant is not None and constant.dtype.kind != "f" and constant.dtype.name != "bfloat16":
            raise UnrollingError(f"it holds numbers of the type {constant.dtype}")
    if len(operands.shape) != 3:
        raise UnrollingError(f"its sequence has the shape {operands.shape}, not three sizes")
    if 0 in operands.constants:
        raise UnrollingError("its sequence is constant")
    batchwise = bool(attributes.get("layout", 0))
    length, batch = operands.shape[:2][:: -1 if batchwise else 1]
    given = attributes.get("direction", b"forward").decode(errors="replace")
    if given not in DIRECTIONS:
        raise UnrollingError(f"its direction is {given!r}")
    directions = DIRECTIONS[given]
    reset_behind = kind == "GRU" and bool(attributes.get("linear_before_reset", 0))
    hidden, weights = _weights(kind, attributes, directions, operands, reset_behind)
    layer = Layer(
        kind=kind,
        name=name,
        opset=opset,
        directions=directions,
        batchwise=batchwise,
        length=length,
        steps=_steps(operands, length),
        batch=batch,
        size=operands.shape[2],
        hidden=hidden,
        activations=_activations(kind, attributes, directions),
        clip=attributes.get("clip"),
        reset_behind=reset_behind,
        coupled=bool(attributes.get("input_forget", 0)),
        peepholes=any(what == "P" for _, _, what in weights),
        weights=weights,
    )
    if layer.clip is not None and not layer.clip > 0:
        raise UnrollingError(f"its clip {layer.clip} is not positive")
    return layer


def _value_of(attribute: onnx.AttributeProto) -> Any:
    if attribute.type != TYPES[attribute.name]:
        raise UnrollingError(f"its attribute {attribute.name!r} has another type than ONNX gives it")
    return helper.get_attribute_value(attribute)


def _weights(
    kind: str,
    attributes: Mapping[str, Any],
    directions: tuple[str, ...],
    operands: Operands,
    reset_behind: bool,
) -> tuple[int, dict[tuple[str, str, str], Constant]]:
    """Return the number of units, and weights, biases and peepholes by direction and gate."""
    weight, recurrence = operands.constant(1, "weights"), operands.constant(2, "weights")
    if weight is None or recurrence is None or weight.ndim != 3 or recurrence.ndim != 3:
        raise UnrollingError("its weights are missing, or no three-dimensional tensors")
    count, gates, size = len(directions), GATES[kind], operands.shape[2]
    hidden = recurrence.shape[2]
    fits = weight.shape == (count, len(gates) * hidden, size)
    fits = fits and recurrence.shape == (count, len(gates) * hidden, hidden)
    if not fits or attributes.get("hidden_size", hidden) != hidden or not hidden:
        raise UnrollingError(
            f"weights {weight.shape} and {recurrence.shape} do not fit {count} directions, {size} inputs "
            f"and {attributes.get('hidden_size', hidden)} units"
        )
    bias = operands.constant(3, "biases")
    if bias is None:
        bias = np.zeros((count, 2 * len(gates) * hidden), weight.dtype)
    if bias.shape != (count, 2 * len(gates) * hidden):
        raise UnrollingError(f"biases {bias.shape} do not fit its weights")
    peepholes = operands.constant(7, "peepholes") if kind == "LSTM" else None
    if peepholes is not None and peepholes.shape != (count, 3 * hidden):
        raise UnrollingError(f"peepholes {peepholes.shape} do not fit its weights")
    found: dict[tuple[str, str, str], Constant] = {}
    for d, direction in enumerate(directions):
        for g, gate in enumerate(gates):
            rows = slice(g * hidden, (g + 1) * hidden)
            own, others = bias[d, rows], bias[d, len(gates) * hidden :][rows]
            within = reset_behind and gate == "hidden"  # its bias is reset, too
            found[direction, gate, "W"] = np.ascontiguousarray(weight[d, rows])
            found[direction, gate, "R"] = np.ascontiguousarray(recurrence[d, rows])
            found[direction, gate, "B"] = own if within else own + others
            found[direction, gate, "Rb"] = others if within else np.zeros_like(others)
        for g, gate in enumerate(PEEPHOLES if peepholes is not None else ()):
            found[direction, gate, "P"] = np.asarray(peepholes)[d, g * hidden : (g + 1) * hidden]
    return hidden, found


def _steps(operands: Operands, length: int) -> int:
    """Return how many steps are run."""
    lengths = operands.constant(4, "sequence lengths")
    run = length
    if lengths is not None:
        found = np.unique(lengths)
        if found.size != 1:
            raise UnrollingError("its sequences differ in length")
        run = int(found[0])
    if not 0 < run <= length:
        raise UnrollingError(f"the length {run} of its sequences does not fit {length} steps")
    if run > MOST_STEPS:
        raise UnrollingError(f"its sequence of {run} steps is too long: {MOST_STEPS} are unrolled at most")
    return run


def _activations(
    kind: str, attributes: Mapping[str, Any], directions: tuple[str, ...]
) -> dict[str, tuple[Activation, ...]]:
    """Return the activations of each direction."""
    count = len(DEFAULTS[kind])
    names = [each.decode(errors="replace") for each in attributes.get("activations", ())]
    names = names or [*DEFAULTS[kind]] * len(directions)
    if len(names) != count * len(directions):
        raise UnrollingError(f"it names {len(names)} activations, not {count} for each direction")
    alphas = iter(attributes.get("activation_alpha", ()))
    betas = iter(attributes.get("activation_beta", ()))
    found = []
    for name in names:
        operator = ACTIVATIONS.get(name.lower())
        if operator is None:
            raise UnrollingError(f"its activation {name!r} is unknown")
        alpha = next(alphas, ALPHA[operator]) if operator in ALPHA else 0.0
        beta = next(betas, BETA[operator]) if operator in BETA else 0.0
        if alpha is None or beta is None:
            raise UnrollingError(f"its activation {operator} has no alpha or beta")
        found.append(Activation(operator, float(alpha), float(beta)))
    each = (tuple(found[d * count : (d + 1) * count]) for d in range(len(directions)))
    return dict(zip(directions, each, strict=True))
