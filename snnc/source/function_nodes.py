"""A function of one number per channel as ONNX nodes of opset 17, for onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import onnx

from snnc.ir.channels import per_channel
from snnc.ir.function import COMPARISONS, Function


class Nodes(Protocol):
    """What collects nodes and constants, and returns the names of their results."""

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node."""
        ...

    def constant(self, values: np.ndarray, name: str) -> str:
        """Add a constant."""
        ...


Made = Callable[..., str]
"""Adds a node of a kind that reads tensors, and returns the name of its result."""


def write_function(nodes: Nodes, function: Function, x: str, label: str, rank: int) -> str:
    """Write a function, and return the name of its result.

    Args:
        nodes: where to.
        function: what to write.
        x: name of the argument, (batch, channels, ...).
        label: what distinguishes the names of its tensors from those of other functions.
        rank: of the argument, without the batch.
    """
    known = {"x": x}
    for number, row in enumerate(function.constants):
        known[f"c{number}"] = nodes.constant(per_channel(row, rank), f"c{number}:{label}")
    made = x
    for number, call in enumerate(function.calls):
        made = _write(nodes, call.operator, [known[name] for name in call.operands], f"v{number}:{label}")
        known[f"v{number}"] = made
    return made


def _write(nodes: Nodes, operator: str, read: Sequence[str], label: str) -> str:
    """Write one call; what ONNX wants as an attribute, an operand is here."""
    parts = 0

    def part(kind: str, *inputs: str, **attributes: Any) -> str:
        nonlocal parts
        parts += 1
        return nodes.node(kind, inputs, f"{parts}:{label}", **attributes)

    def number(value: float) -> str:
        nonlocal parts
        parts += 1
        return nodes.constant(np.array(value, np.float32), f"{parts}:{label}")

    match operator, list(read):
        case "LeakyRelu", [x, slope]:
            below = part("Mul", part("Min", x, number(0)), slope)
            return part("Add", part("Relu", x), below)
        case "Elu", [x, alpha]:
            below = part("Mul", part("Elu", part("Min", x, number(0))), alpha)
            return part("Add", part("Relu", x), below)
        case "HardSigmoid", [x, alpha, beta]:
            line = part("Add", part("Mul", x, alpha), beta)
            return part("Min", part("Relu", line), number(1))
        case kind, [_, _] if kind in COMPARISONS:
            return part("Cast", part(kind, *read), to=onnx.TensorProto.FLOAT)
        case "Where", [condition, first, second]:
            return part("Where", part("Cast", condition, to=onnx.TensorProto.BOOL), first, second)
        case _:
            return part(operator, *read)
