"""Quantised tensors while a model is read: real values, and what the integers are that stand for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


def levels_of(scale: FloatArray, lowest: int, highest: int) -> dict[str, Any]:
    """Return what :class:`snnc.ir.ann.Relu` is told of the levels to which it rounds.

    Args:
        scale: (channels,) distance of the levels.
        lowest: the least level, in units of it.
        highest: the largest.
    """
    return {
        "shift": scale * np.float32(-lowest) if lowest else None,
        "ceiling": scale * np.float32(highest - lowest),
        "scale": scale,
        "lowest": lowest,
        "highest": highest,
    }


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A quantised tensor.

    Attributes:
        view: the real values.
        codes: what their integers are.
    """

    view: View
    codes: Codes
