"""What all operations of the ANN dialect have in common, and those that read nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snnc.ir.graph import NONE, FloatArray, Node, Shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnnNode(Node):
    """An operation of the ANN dialect."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Input(AnnNode):
    """One of the network's inputs."""

    arity = NONE
    is_input = True

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Any shape will do."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constant(AnnNode):
    """Values that do not depend on the input, of which a sum is one term: a bias that depends on the place.

    Attributes:
        values: (*shape).
    """

    arity = NONE

    values: FloatArray

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check that there is one value per position."""
        return None if self.values.shape == self.shape else f"values {self.values.shape} are not {self.shape}"
