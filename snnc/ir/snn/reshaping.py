"""Operations of the spiking dialect that move spikes or currents and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from snnc.ir.channels import per_channel
from snnc.ir.geometry import ABSENT, concat_problem, gather_problem, pad_problem, slice_problem
from snnc.ir.graph import MANY, FloatArray, IntArray, Shape
from snnc.ir.kinds import SnnNode, ValueKind
from snnc.ir.problems import reshape_problem


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Concat(SnnNode):
    """Join spikes along channels."""

    arity = MANY
    reads = ValueKind.SPIKES
    gives = ValueKind.SPIKES
    moves = True

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the channels."""
        return concat_problem(list(input_shapes), self.shape)

    def magnitude(self, inputs: Sequence[int]) -> int:
        """Return the largest of the inputs."""
        return max(inputs)

    def carried(self, values: Sequence[FloatArray], shapes: Sequence[Shape]) -> FloatArray:
        """Join the numbers."""
        return np.concatenate(values)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reshape(SnnNode):
    """The same values, row by row, in another shape; a current keeps its channels."""

    moves = True

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the number of elements."""
        return reshape_problem(input_shapes, self.shape)

    def magnitude(self, inputs: Sequence[int]) -> int:
        """Return that of the input."""
        return inputs[0]

    def carried(self, values: Sequence[FloatArray], shapes: Sequence[Shape]) -> FloatArray:
        """Return the mean of each new channel."""
        spread = np.broadcast_to(per_channel(values[0], len(shapes[0])), shapes[0])
        # Where features fold back into a map the numbers of a channel differ by their rounding alone.
        return spread.reshape(self.shape[0], -1).mean(axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pad(SnnNode):
    """Add silent neurons around each axis, channels included.

    Attributes:
        before, after: number added on each axis.
    """

    reads = ValueKind.SPIKES
    gives = ValueKind.SPIKES
    moves = True

    before: Shape
    after: Shape

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the pads."""
        return pad_problem(input_shapes[0], self.shape, self.before, self.after)

    def magnitude(self, inputs: Sequence[int]) -> int:
        """Return that of the input."""
        return inputs[0]

    def carried(self, values: Sequence[FloatArray], shapes: Sequence[Shape]) -> FloatArray:
        """Return the numbers, and 1 for channels that are added."""
        return np.pad(values[0], (self.before[0], self.after[0]), constant_values=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slice(SnnNode):
    """Take every ``step``-th neuron from ``start`` to ``stop`` on each axis.

    Attributes:
        start, stop, step: per axis, not negative.
    """

    reads = ValueKind.SPIKES
    gives = ValueKind.SPIKES
    moves = True

    start: Shape
    stop: Shape
    step: Shape

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the slice."""
        return slice_problem(input_shapes[0], self.shape, self.start, self.stop, self.step)

    def magnitude(self, inputs: Sequence[int]) -> int:
        """Return that of the input."""
        return inputs[0]

    def carried(self, values: Sequence[FloatArray], shapes: Sequence[Shape]) -> FloatArray:
        """Return the numbers of the channels that are taken."""
        return values[0][self.start[0] : self.stop[0] : self.step[0]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gather(SnnNode):
    """``y_i = x[index_i]`` in every step, or nothing where the index is -1: routing alone.

    A spike arrives wherever the map names its neuron. A current is moved likewise.

    Attributes:
        index: (*shape) int32, flat positions in what is read, row by row.
    """

    moves = True

    index: IntArray

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the index map."""
        return gather_problem(input_shapes[0], self.shape, self.index)

    def magnitude(self, inputs: Sequence[int]) -> int:
        """Return that of the input."""
        return inputs[0]

    def carried(self, values: Sequence[FloatArray], shapes: Sequence[Shape]) -> FloatArray:
        """Return the mean of each new channel, and 1 for those that hold nothing."""
        spread = np.broadcast_to(per_channel(values[0], len(shapes[0])), shapes[0])
        rows = spread.ravel()[self.index].reshape(self.shape[0], -1)
        present = (self.index != ABSENT).reshape(self.shape[0], -1)
        count = present.sum(axis=1)
        total = np.where(present, rows, 0).sum(axis=1)
        return np.where(count > 0, total / np.maximum(count, 1), 1).astype(np.float32)
