"""Activations that are no rectifiers, on tensors: as the source network computes them."""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from snnc.errors import UnknownOperationError
from snnc.ir import ann
from snnc.ir.function import Function

_COMPARE: dict[str, Callable[..., Any]] = {
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
}

_COMPUTE: dict[str, Callable[..., Any]] = {
    "Identity": lambda x: x,
    "Neg": torch.neg,
    "Abs": torch.abs,
    "Sign": torch.sign,
    "Reciprocal": torch.reciprocal,
    "Sqrt": torch.sqrt,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
    "Erf": torch.erf,
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
    "Softplus": lambda x: torch.clamp(x, min=0) + torch.log1p(torch.exp(-x.abs())),
    "Softsign": lambda x: x / (1 + x.abs()),
    "Round": torch.round,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Relu": torch.relu,
    "LeakyRelu": lambda x, slope: torch.where(x >= 0, x, x * slope),
    "Elu": lambda x, alpha: torch.where(x >= 0, x, alpha * torch.expm1(x.clamp(max=0))),
    "HardSigmoid": lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1),
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
    "Pow": torch.pow,
    "Min": torch.minimum,
    "Max": torch.maximum,
    "Where": lambda condition, first, second: torch.where(condition != 0, first, second),
}

_WHOLE: tuple[Callable[[Tensor], Tensor], ...] = (
    functional.gelu,
    partial(functional.gelu, approximate="tanh"),
    functional.silu,
    functional.hardswish,
    functional.mish,
)
"""Functions that torch computes at once, and not call by call."""

_POINTS = torch.from_numpy(
    np.concatenate([np.linspace(-12, 12, 4801), [sign * 10.0**p for sign in (-1, 1) for p in range(2, 9)]])
)[:, None]
"""Where a function is compared with them, (n, 1) float64."""

_SAME = 1e-6
"""Largest difference of the same function, relative to ``1 + |x|``: constants are rounded to float32."""

KNOWN = frozenset({*_COMPARE, *_COMPUTE})
"""Operators of a function that are known here."""


def unknown_operator(node: ann.AnnNode) -> str | None:
    """Name an operator of a node's function that is not known here; ``None`` if there is none."""
    if not isinstance(node, ann.Pointwise):
        return None
    return next((call.operator for call in node.function.calls if call.operator not in KNOWN), None)


@lru_cache(maxsize=256)
def torch_form(node: ann.Pointwise) -> Callable[[Tensor], Tensor] | None:
    """Return torch's own form of a node's function, if it has one."""
    if node.function.constants.size != len(node.function.constants):  # differs between channels
        return None
    found = function_of(node.function, _POINTS)
    slack = _SAME * (1 + _POINTS.abs())
    return next((each for each in _WHOLE if bool(((each(_POINTS) - found).abs() <= slack).all())), None)


def function_of(function: Function, x: Tensor) -> Tensor:
    """Return the values of a function of one number, (batch, channels, ...)."""
    known: dict[str, Tensor] = {"x": x}
    for number, row in enumerate(function.constants):
        known[f"c{number}"] = torch.from_numpy(row.copy()).to(x).reshape(-1, *(1,) * (x.ndim - 2))
    y = x
    for number, call in enumerate(function.calls):
        operands = [known[name] for name in call.operands]
        compute = _COMPARE.get(call.operator)
        made = compute(*operands).to(x.dtype) if compute else _COMPUTE[call.operator](*operands)
        known[f"v{number}"] = y = made
    return y.expand_as(x)


def _normalised(node: ann.Normalisation, x: Tensor) -> Tensor:
    """Return rows by their own mean and deviation over some axes, which torch wants to be the last."""
    axes, last = [axis + 1 for axis in node.axes], list(range(x.ndim - len(node.axes), x.ndim))
    moved = x.movedim(axes, last)
    normalise = functional.layer_norm if node.centred else functional.rms_norm
    return normalise(moved, moved.shape[last[0] :], eps=node.epsilon).movedim(last, axes)


def activation(node: ann.Levelled, read: Sequence[Tensor], *, rounded: bool = False) -> Tensor:
    """Return what a node gives, within the range of the levels that were chosen for it.

    Args:
        node: the node.
        read: what it reads.
        rounded: whether it gives the levels themselves, as spikes do, ``step clip(round(y / step), lowest,
            highest)``; the gradient is that of the clip.
    """
    x = read[0]
    match node:
        case ann.Pointwise():
            whole = torch_form(node)
            y = function_of(node.function, x) if whole is None else whole(x)
        case ann.Product():
            y = x * read[1]
        case ann.MatrixProduct():
            y = x @ (read[1].transpose(-1, -2) if node.transposed else read[1])
        case ann.Normalisation():
            y = _normalised(node, x)
        case ann.InnerSoftmax():
            y = functional.softmax(x, dim=node.axis + 1)
        case ann.Maximum():
            y = x.amax(dim=tuple(axis + 1 for axis in node.axes), keepdim=True)
        case _:
            raise UnknownOperationError(f"{type(node).__name__} {node.name!r}: nothing is known of it")
    if node.step is None:
        return y
    step = torch.from_numpy(node.step.copy()).to(y).reshape(-1, *(1,) * (len(node.shape) - 1))
    clipped = torch.minimum(torch.maximum(y, step * node.lowest), step * node.highest)
    return clipped + (torch.round(clipped / step) * step - clipped).detach() if rounded else clipped
