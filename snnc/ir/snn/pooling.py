"""Pooling of spikes and of currents; that of counts is :class:`snnc.ir.counts.CountMaxPool`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray, Shape
from snnc.ir.kinds import SnnNode, ValueKind
from snnc.ir.problems import max_pool_problem, pool_problem


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SumPool(SnnNode):
    """Sum over a window. The mean's ``1 / area`` is folded into the weights on its path.

    It reads spikes and gives spikes of more levels, or reads a current and gives a current.

    Attributes:
        window: geometry.
    """

    window: Window

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the window."""
        return pool_problem(input_shapes, self.shape, self.window)

    def magnitude(self, inputs: Sequence[int]) -> int:
        """Return that of a whole window."""
        return self.window.area * inputs[0]

    def carried(self, values: Sequence[FloatArray], shapes: Sequence[Shape]) -> FloatArray:
        """Return the numbers as they are."""
        return values[0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CurrentMaxPool(SnnNode):
    """Maximum of a current over a window; padding never wins.

    Exact where the current is constant in time, that is, in the analogue first layer: there
    rectifying the maximum is the same as taking the maximum of the rectified.

    Attributes:
        window: geometry.
    """

    reads = ValueKind.CURRENT
    gives = ValueKind.CURRENT
    reads_constant = True

    window: Window

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the window."""
        return max_pool_problem(input_shapes, self.shape, self.window)

    def magnitude(self, inputs: Sequence[int]) -> int:
        """Return that of the input."""
        return inputs[0]

    def carried(self, values: Sequence[FloatArray], shapes: Sequence[Shape]) -> FloatArray:
        """Return the numbers as they are."""
        return values[0]
