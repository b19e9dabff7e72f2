"""Arrays of a graph as parameters of a module of torch, in units of their own.

A step of Adam is about as long for every number that it changes, whatever its size: the channels of a folded
network differ by factors of ten and more. So a parameter may be held in units of the size that is usual for
it, rounded to powers of two, which changes no value, and zeros stay zeros.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from snnc.ir.graph import FloatArray, Node, NumberArray


class Parameter(NamedTuple):
    """A parameter that can be learned."""

    node: str
    field: str
    role: str
    tensor: nn.Parameter


class Parameters(nn.Module):
    """What modules of either dialect have in common.

    Attributes:
        learned: the parameters.
    """

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__()
        self.learned: list[Parameter] = []
        self._names: dict[tuple[str, str], str] = {}
        self._units: dict[tuple[str, str], FloatArray] = {}

    def _learn(
        self,
        number: int,
        node: Node,
        field: str,
        value: NumberArray,
        role: str,
        unit: FloatArray | None = None,
    ) -> None:
        """Make a parameter of an array.

        Args:
            number: of the node.
            node: that has it.
            field: what it is called.
            value: of any shape.
            role: what it is called where a user says what is to be learned.
            unit: in which it is held, powers of two that broadcast to it; ``None`` for 1.
        """
        if unit is not None:
            self._units[node.name, field] = unit
            value = value / unit
        tensor = nn.Parameter(torch.from_numpy(np.array(value, np.float32)))
        name = self._names[node.name, field] = f"n{number}_{field}"
        self.register_parameter(name, tensor)
        self.learned.append(Parameter(node.name, field, role, tensor))

    def _hold(self, number: int, node: Node, field: str, value: Any) -> None:
        """Keep an array that is not learned."""
        name = self._names[node.name, field] = f"n{number}_{field}"
        self.register_buffer(name, torch.from_numpy(np.array(value)))

    def parameter(self, node: Node, field: str) -> Tensor:
        """Return a parameter or a constant of a node, in its own units."""
        found: Tensor = getattr(self, self._names[node.name, field])
        return found

    def value(self, node: Node, field: str) -> Tensor:
        """Return a parameter or a constant of a node."""
        found = self.parameter(node, field)
        unit = self._units.get((node.name, field))
        return found if unit is None else found * torch.from_numpy(unit).to(found)

    def put(self, node: Node, field: str, value: Tensor) -> None:
        """Give a parameter of a node a value, past the gradients."""
        unit = self._units.get((node.name, field))
        with torch.no_grad():
            self.parameter(node, field).copy_(
                value if unit is None else value / torch.from_numpy(unit).to(value)
            )


def power_of_two(sizes: NumberArray) -> FloatArray:
    """Return the power of two nearest to each size, and 1 for 0."""
    positive = np.where(sizes > 0, sizes, 1).astype(np.float64)
    return (2.0 ** np.round(np.log2(positive))).astype(np.float32)


def size_of_rows(values: NumberArray) -> FloatArray:
    """Return the root mean square of what is not zero in each row, a power of two that broadcasts to it."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    mean = (rows**2).sum(axis=1) / np.maximum((rows != 0).sum(axis=1), 1)
    return power_of_two(np.sqrt(mean)).reshape(-1, *(1,) * (values.ndim - 1))
