"""Quantised tensors while a model is read: real values, and what the integers are that stand for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc.frontend.views import View
from snnc.ir.graph import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """What the integers of a quantised tensor stand for.

    Attributes:
        scale: () or per channel, broadcastable to the tensor.
        zero: the integer that stands for zero.
        lowest, highest: the integers that its type holds.
    """

    scale: FloatArray
    zero: int
    lowest: int
    highest: int

    def same(self, other: Codes) -> bool:
        """Say whether the integers of both stand for the same."""
        return self.zero == other.zero and np.array_equal(self.scale, other.scale)


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A quantised tensor.

    Attributes:
        view: the real values.
        codes: what their integers are.
    """

    view: View
    codes: Codes
