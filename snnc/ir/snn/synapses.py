"""Synapses, which turn spikes into currents, and currents that are constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from snnc.ir.geometry import Window
from snnc.ir.graph import NONE, IntArray, NumberArray, Shape
from snnc.ir.kinds import SnnNode, ValueKind
from snnc.ir.problems import convolution_problem, same_shape_problem


def weight_sums(weight: IntArray) -> IntArray:
    """Return ``sum |w|`` per output channel, as int64."""
    # The magnitudes of 8 or 16 bits fit into 32, in a tenth of the time that 64 take.
    wide = np.int32 if weight.itemsize < 4 else np.int64
    return np.abs(weight, dtype=wide).reshape(len(weight), -1).sum(axis=1, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weighted(SnnNode):
    """A synapse: spikes in, current out.

    Attributes:
        weight: float32 with the units of the spikes folded in, or int8 / int16.
    """

    reads = ValueKind.SPIKES
    gives = ValueKind.CURRENT

    weight: NumberArray

    @property
    def integer(self) -> bool:
        """Whether the weight is quantised."""
        return self.weight.dtype.kind == "i"

    def magnitude(self, inputs: Sequence[int]) -> int:
        """Return ``max sum |w|`` times that of the input; the weight must be quantised."""
        return int(weight_sums(self.weight).max()) * inputs[0]  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Convolution(Weighted):
    """``I[o] = sum_{i,k} weight[o,i,k] s[i, .+k]``.

    Attributes:
        window: geometry; its kernel equals the last two sizes of ``weight``.
        groups: number of channel groups.
    """

    window: Window
    groups: int = 1

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check weight and window against the input."""
        return convolution_problem(input_shapes[0], self.shape, self.weight.shape, self.window, self.groups)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear(Weighted):
    """``I = weight s`` with a weight of (outputs, inputs)."""

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the weight against the input."""
        if len(self.shape) != 1:
            return f"maps one vector to a vector, not {list(input_shapes)} to {self.shape}"
        if self.weight.shape != (*self.shape, *input_shapes[0]):
            return f"weight {self.weight.shape} does not map {input_shapes[0]} to {self.shape}"
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChannelWeight(Weighted):
    """``I[c] = weight[c] s[c]``: the identity branch of a residual sum, one weight per channel."""

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the weight against the channels."""
        if self.weight.shape != self.shape[:1]:
            return f"weight {self.weight.shape} does not fit {self.shape[0]} channels"
        return same_shape_problem(input_shapes, self.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConstantCurrent(SnnNode):
    """A constant current for each neuron, in each of the T steps: a bias that depends on the position.

    It is needed where a source network pads a value whose zero is not represented by silence, so that the
    border receives another bias than the interior.

    Attributes:
        values: (*shape), float32 or int32.
    """

    arity = NONE
    gives = ValueKind.CURRENT

    values: NumberArray

    @property
    def integer(self) -> bool:
        """Whether the values are quantised."""
        return self.values.dtype.kind == "i"

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check that there is one value per neuron."""
        return None if self.values.shape == self.shape else f"values {self.values.shape} are not {self.shape}"
