"""A function of one number, written down: what activations compute that are no rectifiers.

A program is a list of calls, ``Sigmoid(x); Mul(x, v0)`` for SiLU. ``x`` is the argument, ``v0, v1, ..`` are
the results of earlier calls, ``c0, c1, ..`` rows of constants; the last call is the result. The names are
those of ONNX operators; what these hold as attributes are arguments here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.ir.graph import FloatArray

Real = NDArray[Any]

_NEAR = (
    (3.16112374387056560e00, 1.13864154151050156e02, 3.77485237685302021e02, 3.20937758913846947e03),
    (2.36012909523441209e01, 2.44024637934444173e02, 1.28261652607737228e03, 2.84423683343917062e03),
    1.85777706184603153e-1,
)
_MIDDLE = (
    (
        *(5.64188496988670089e-1, 8.88314979438837594e00, 6.61191906371416295e01, 2.98635138197400131e02),
        *(8.81952221241769090e02, 1.71204761263407058e03, 2.05107837782607147e03, 1.23033935479799725e03),
    ),
    (
        *(1.57449261107098347e01, 1.17693950891312499e02, 5.37181101862009858e02, 1.62138957456669019e03),
        *(3.29079923573345963e03, 4.36261909014324716e03, 3.43936767414372164e03, 1.23033935480374942e03),
    ),
    2.15311535474403846e-8,
)
_END = 5.9
"""From here on the error function is 1 in float64."""


def _ratio(y: Real, above: Sequence[float], below: Sequence[float], first: float) -> Real:
    """Return a rational function by Horner's rule, the first coefficient of the denominator being 1."""
    upper, lower = first * y, y
    for a, b in zip(above[:-1], below[:-1], strict=True):
        upper, lower = (upper + a) * y, (lower + b) * y
    return np.asarray((upper + above[-1]) / (lower + below[-1]))


def _error_function(x: Real) -> Real:
    """Return the error function, to 3e-16.

    Source: Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969).
    """
    size = np.minimum(np.abs(x.astype(np.float64)), _END)
    near = size * _ratio(size * size, *_NEAR)
    far = 1 - np.exp(-size * size) * _ratio(size, *_MIDDLE)
    y = np.where(size <= 0.46875, near, far)
    return np.asarray(np.copysign(y, x), x.dtype)


def _sigmoid(x: Real) -> Real:
    # Neither branch overflows.
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + small), small / (1 + small)), x.dtype)


def _softplus(x: Real) -> Real:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), x.dtype)


def _round_half_even(x: Real) -> Real:
    return np.asarray(np.rint(x), x.dtype)


COMPARISONS: dict[str, Callable[..., Any]] = {
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
}
"""Comparisons: they give 1 where they hold, and 0 elsewhere."""

OPERATORS: dict[str, tuple[int, Callable[..., Any]]] = {
    "Identity": (1, lambda x: x),
    "Neg": (1, np.negative),
    "Abs": (1, np.abs),
    "Sign": (1, np.sign),
    "Reciprocal": (1, np.reciprocal),
    "Sqrt": (1, np.sqrt),
    "Exp": (1, np.exp),
    "Log": (1, np.log),
    "Sin": (1, np.sin),
    "Cos": (1, np.cos),
    "Tan": (1, np.tan),
    "Asin": (1, np.arcsin),
    "Acos": (1, np.arccos),
    "Atan": (1, np.arctan),
    "Sinh": (1, np.sinh),
    "Cosh": (1, np.cosh),
    "Asinh": (1, np.arcsinh),
    "Acosh": (1, np.arccosh),
    "Atanh": (1, np.arctanh),
    "Erf": (1, _error_function),
    "Tanh": (1, np.tanh),
    "Sigmoid": (1, _sigmoid),
    "Softplus": (1, _softplus),
    "Softsign": (1, lambda x: x / (1 + np.abs(x))),
    "Round": (1, _round_half_even),
    "Floor": (1, np.floor),
    "Ceil": (1, np.ceil),
    "Relu": (1, lambda x: np.maximum(x, 0)),
    "LeakyRelu": (2, lambda x, slope: np.where(x >= 0, x, x * slope)),
    "Elu": (2, lambda x, alpha: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0)))),
    "HardSigmoid": (3, lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1)),
    "Add": (2, np.add),
    "Sub": (2, np.subtract),
    "Mul": (2, np.multiply),
    "Div": (2, np.divide),
    "Pow": (2, np.power),
    "Min": (2, np.minimum),
    "Max": (2, np.maximum),
    **{name: (2, compare) for name, compare in COMPARISONS.items()},
    "Where": (3, lambda condition, first, second: np.where(condition != 0, first, second)),
}
"""Every operator of a program: the number of its arguments, and what it computes."""

_CALL = re.compile(r"(\w+)\(([^()]*)\)")
_OPERAND = re.compile(r"x|[cv]\d+")


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of a program.

    Attributes:
        operator: a name of :data:`OPERATORS`.
        operands: ``x``, ``v`` and a number, or ``c`` and a number.
    """

    operator: str
    operands: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.operator}({', '.join(self.operands)})"


@dataclass(frozen=True, eq=False)
class Function:
    """A function of one number per channel.

    Attributes:
        program: its calls, as the module says.
        constants: (n, channels) or (n, 1) float32.
    """

    program: str
    constants: FloatArray

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """The calls of the program.

        Raises:
            ValueError: it is no program.
        """
        if (problem := function_problem(self.program, len(self.constants))) is not None:
            raise ValueError(problem)
        return _calls(self.program)

    def __call__(self, x: Real) -> Real:
        """Return the values of the function, in the precision of ``x``.

        Args:
            x: (channels, ...).
        """
        shape = (-1, *(1,) * (x.ndim - 1))
        known: dict[str, Real] = {"x": x}
        for number, row in enumerate(self.constants):
            known[f"c{number}"] = row.astype(x.dtype).reshape(shape)
        y = x
        with np.errstate(all="ignore"):  # what is not finite is the caller's to refuse
            for number, call in enumerate(self.calls):
                y = OPERATORS[call.operator][1](*(known[name] for name in call.operands))
                known[f"v{number}"] = y = np.asarray(y, x.dtype)
        return np.broadcast_to(y, x.shape)


IDENTITY = Function("Identity(x)", np.zeros((0, 1), np.float32))
"""What rounds a signed value to levels, and changes nothing else."""


def function_problem(program: str, constants: int) -> str | None:
    """Say why a text with so many constants is no program."""
    calls = _calls(program)
    if "; ".join(map(str, calls)) != program or not calls:
        return f"{program!r} is no list of calls"
    for number, call in enumerate(calls):
        arguments = OPERATORS.get(call.operator)
        if arguments is None:
            return f"the operator {call.operator} is none of a function of one number"
        if len(call.operands) != arguments[0]:
            return f"{call} has not {arguments[0]} arguments"
        for name in call.operands:
            known = {"x": 1, "c": constants, "v": number}.get(name[:1], 0)
            if not _OPERAND.fullmatch(name) or int(name[1:] or 0) >= known:
                return f"{call} reads {name!r}, which is not there"
    return None


def composed(calls: Sequence[Call]) -> str:
    """Return the program of calls."""
    return "; ".join(map(str, calls))


def _calls(program: str) -> tuple[Call, ...]:
    found = (_CALL.fullmatch(part) for part in program.split("; "))
    return tuple(Call(each[1], tuple(each[2].split(", "))) for each in found if each is not None)
