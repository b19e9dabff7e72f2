"""Operators on one value, written down as programs of :mod:`snnc.ir.function`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from snnc.frontend.call import HUGE, Call
from snnc.frontend.precision import CASTS
from snnc.frontend.tensors import Constant
from snnc.ir.function import OPERATORS, composed
from snnc.ir.function import Call as FunctionCall

FLOATS = (onnx.TensorProto.FLOAT, *CASTS)


class UntranslatableError(Exception):
    """A region holds what no program says."""


@dataclass(slots=True)
class Program:
    """A program in the making.

    Attributes:
        calls: so far.
        constants: their rows, of shapes that broadcast over the argument.
    """

    calls: list[FunctionCall] = field(default_factory=list)
    constants: list[Constant] = field(default_factory=list)

    def call(self, operator: str, *operands: str) -> str:
        """Add a call and return its name."""
        self.calls.append(FunctionCall(operator, operands))
        return f"v{len(self.calls) - 1}"

    def constant(self, value: Constant | float) -> str:
        """Add a constant, unless it is known, and return its name."""
        given = np.asarray(value, np.float32)
        for number, known in enumerate(self.constants):
            if np.array_equal(known, given):
                return f"c{number}"
        self.constants.append(given)
        return f"c{len(self.constants) - 1}"

    def text(self) -> tuple[str, tuple[Constant, ...]]:
        """Return the program as text, and the constants that it reads."""
        read = dict.fromkeys(name for call in self.calls for name in call.operands if name[0] == "c")
        names = {name: f"c{number}" for number, name in enumerate(read)}
        calls = [
            FunctionCall(call.operator, tuple(names.get(name, name) for name in call.operands))
            for call in self.calls
        ]
        return composed(calls), tuple(self.constants[int(name[1:])] for name in read)


Operands = Sequence[str]
Translation = Callable[[Program, Call, Operands], str]


def _same(p: Program, call: Call, x: Operands) -> str:
    return p.call(call.proto.op_type, *x)


def _folded(operator: str) -> Translation:
    """Return the translation of an operator of any number of inputs."""

    def fold(p: Program, call: Call, x: Operands) -> str:
        found = x[0]
        for other in x[1:]:
            found = p.call(operator, found, other)
        return found

    return fold


def _mean(p: Program, call: Call, x: Operands) -> str:
    return p.call("Mul", _folded("Add")(p, call, x), p.constant(1 / len(x)))


def _unchanged(p: Program, call: Call, x: Operands) -> str:
    return x[0]


def _cast(p: Program, call: Call, x: Operands) -> str:
    target = call.integer("to", onnx.TensorProto.FLOAT)
    if target == onnx.TensorProto.BOOL:
        return p.call("Sub", p.constant(1), p.call("Equal", x[0], p.constant(0)))
    if target not in FLOATS:
        raise UntranslatableError("casts to integers")
    return x[0]


def _not(p: Program, call: Call, x: Operands) -> str:
    return p.call("Equal", x[0], p.constant(0))


def _clip(p: Program, call: Call, x: Operands) -> str:
    low, high = call.number("min", -np.inf), call.number("max", np.inf)
    limits = [p.constant(low), p.constant(high)] if call.opset < 11 else [*x[1:], "", ""][:2]
    found = x[0]
    for operator, limit in zip(("Max", "Min"), limits, strict=True):
        if limit and not _is_endless(p, limit):
            found = p.call(operator, found, limit)
    return found


def _is_endless(p: Program, name: str) -> bool:
    return name.startswith("c") and bool((np.abs(p.constants[int(name[1:])]) >= HUGE).all())


def _elu(p: Program, call: Call, x: Operands) -> str:
    return p.call("Elu", x[0], p.constant(call.number("alpha", 1)))


def _selu(p: Program, call: Call, x: Operands) -> str:
    below = p.call("Elu", x[0], p.constant(call.number("alpha", 1.67326319217681884765625)))
    return p.call("Mul", below, p.constant(call.number("gamma", 1.05070102214813232421875)))


def _celu(p: Program, call: Call, x: Operands) -> str:
    alpha = p.constant(call.number("alpha", 1))
    return p.call("Mul", p.call("Elu", p.call("Div", x[0], alpha), p.constant(1)), alpha)


def _leaky(p: Program, call: Call, x: Operands) -> str:
    return p.call("LeakyRelu", x[0], p.constant(call.number("alpha", 0.01)))


def _prelu(p: Program, call: Call, x: Operands) -> str:
    return p.call("LeakyRelu", x[0], x[1])


def _hard_sigmoid(p: Program, call: Call, x: Operands) -> str:
    slope, middle = call.number("alpha", 0.2), call.number("beta", 0.5)
    return p.call("HardSigmoid", x[0], p.constant(slope), p.constant(middle))


def _hard_swish(p: Program, call: Call, x: Operands) -> str:
    return p.call("Mul", x[0], p.call("HardSigmoid", x[0], p.constant(1 / 6), p.constant(0.5)))


def _swish(p: Program, call: Call, x: Operands) -> str:
    alpha = call.number("alpha", 1.702 if call.proto.op_type == "QuickGelu" else 1)
    return p.call("Mul", x[0], p.call("Sigmoid", p.call("Mul", x[0], p.constant(alpha))))


def _mish(p: Program, call: Call, x: Operands) -> str:
    return p.call("Mul", x[0], p.call("Tanh", p.call("Softplus", x[0])))


def _thresholded(p: Program, call: Call, x: Operands) -> str:
    above = p.call("Greater", x[0], p.constant(call.number("alpha", 1)))
    return p.call("Where", above, x[0], p.constant(0))


def _shrink(p: Program, call: Call, x: Operands) -> str:
    bias, limit = p.constant(call.number("bias", 0)), call.number("lambd", 0.5)
    above = p.call("Greater", x[0], p.constant(limit))
    below = p.call("Less", x[0], p.constant(-limit))
    rest = p.call("Where", below, p.call("Add", x[0], bias), p.constant(0))
    return p.call("Where", above, p.call("Sub", x[0], bias), rest)


def _gelu(p: Program, call: Call, x: Operands) -> str:
    """Translate all forms: by erf or tanh, and with a bias."""
    z = p.call("Add", *x[:2]) if len(x) > 1 else x[0]
    half = p.call("Mul", z, p.constant(0.5))
    if call.attribute("approximate") == "tanh" or call.proto.op_type == "FastGelu":
        cube = p.call("Mul", p.call("Mul", z, z), z)
        inner = p.call("Add", z, p.call("Mul", cube, p.constant(0.044715)))
        bent = p.call("Tanh", p.call("Mul", inner, p.constant(np.sqrt(2 / np.pi))))
    else:
        bent = p.call("Erf", p.call("Mul", z, p.constant(np.sqrt(0.5))))
    return p.call("Mul", half, p.call("Add", bent, p.constant(1)))


SAME = frozenset(OPERATORS) - {"Identity", "LeakyRelu", "Elu", "HardSigmoid", "Max", "Min"}
"""Operators that a program knows by the same name and inputs."""

TRANSLATED = SAME | frozenset(
    {"And", "Cast", "Celu", "Clip", "Dropout", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Identity"}
    | {"LeakyRelu", "Max", "Mean", "Min", "Mish", "Not", "Or", "PRelu", "Selu", "Shrink", "Sum", "Swish"}
    | {"ThresholdedRelu"}
)
"""Every operator of the default domain that a function of one number may hold."""

MICROSOFTS = frozenset({"BiasGelu", "FastGelu", "Gelu", "QuickGelu"})
"""Those of onnxruntime's own domain, which its optimiser writes."""


def translation(kind: str) -> Translation:
    """Return what writes an operator of a name down."""
    if kind in ("And", "Max", "Min", "Or", "Sum"):
        return _folded({"And": "Mul", "Or": "Max", "Sum": "Add"}.get(kind, kind))
    found: dict[str, Translation] = {
        "BiasGelu": _gelu,
        "Cast": _cast,
        "Celu": _celu,
        "Clip": _clip,
        "Dropout": _unchanged,
        "Elu": _elu,
        "FastGelu": _gelu,
        "Gelu": _gelu,
        "HardSigmoid": _hard_sigmoid,
        "HardSwish": _hard_swish,
        "Identity": _unchanged,
        "LeakyRelu": _leaky,
        "Mean": _mean,
        "Mish": _mish,
        "Not": _not,
        "PRelu": _prelu,
        "QuickGelu": _swish,
        "Selu": _selu,
        "Shrink": _shrink,
        "Swish": _swish,
        "ThresholdedRelu": _thresholded,
    }
    return found.get(kind, _same)


def as_number(value: Constant) -> Constant:
    """Return a constant as numbers, as one where all of them are the same.

    Raises:
        UntranslatableError: it holds none.
    """
    if value.dtype.kind not in "fiub":
        raise UntranslatableError("a constant is no number")
    same = value.size == 1 or (value.size > 1 and (value == value.flat[0]).all())
    return value.flat[0].reshape(()) if same else value
