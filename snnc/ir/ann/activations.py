"""Activations of the ANN dialect, element by element: what spikes will carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from snnc.ir.ann.node import AnnNode
from snnc.ir.function import Function, function_problem
from snnc.ir.graph import FloatArray, IntArray, Shape
from snnc.ir.problems import channel_problem, same_shape_problem, steps_problem

ROUNDINGS = ("half-even", "half-up", "floor")
"""How a source network may round to its levels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relu(AnnNode):
    """``y = min(max(x + shift, floor), ceiling, threshold) - shift``: what becomes a spiking population.

    Where the source network quantises the value, this is what it gives, and ``shift`` and ``ceiling`` say the
    same of its range::

        y = scale clip(round(x / scale), lowest, highest)

    Attributes:
        ceiling: (channels,) upper limit in the source network, as in ReLU6; ``None`` for a ReLU.
        threshold: (channels,) clip chosen by the conversion, positive or zero; ``None`` before.
            It is an approximation: what the source network computes is this node without it.
        floor: (channels,) lower clip chosen with the threshold, from zero up; ``None`` for zero.
        levels: M, the levels that one spike of the population will carry.
        shift: (channels,) for a signed value without rectifier in the source: it is raised above
            zero by its range and lowered again; ``None`` for a true rectifier.
        scale: (channels,) distance of the levels to which the source network rounds, in one float32 division;
            ``None`` where it rounds nothing.
        lowest, highest: the range of ``y / scale``, both included: what is left of the source's integers
            when their zero point is subtracted.
        zero: the integer that stands for zero in the source's own type; it decides how a sum of two integers
            rounds at ties.
        rounding: ``half-even``, ``half-up`` (``floor(x / scale + 1/2)``) or ``floor``.
        gain: (channels,) with which the source multiplies an integer sum, in float32 and in place of the
            division, as QLinearConv does; ``None`` where it computes in floats.
        points: (channels, highest - lowest) or (1, ...) the smallest float32 of each level, found by
            evaluating the source's own operations; ``None`` where the formula above gives them.
    """

    known: ClassVar[frozenset[str]] = frozenset(
        {
            *("name", "inputs", "shape", "origin"),
            *("ceiling", "threshold", "floor", "levels", "shift"),
            *("scale", "lowest", "highest", "zero", "rounding", "gain", "points"),
        }
    )
    """As :attr:`snnc.ir.neuron.Neuron.known`."""

    ceiling: FloatArray | None = None
    threshold: FloatArray | None = None
    floor: FloatArray | None = None
    levels: int = 1
    shift: FloatArray | None = None
    scale: FloatArray | None = None
    lowest: int = 0
    highest: int = 0
    zero: int = 0
    rounding: str = "half-even"
    gain: FloatArray | None = None
    points: FloatArray | None = None

    @property
    def steps(self) -> int:
        """The number of levels above the lowest; 0 where the source network rounds nothing."""
        return self.highest - self.lowest

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check that the limits fit the channels."""
        for values in (self.ceiling, self.threshold, self.floor, self.shift, self.scale, self.gain):
            if values is not None and (problem := channel_problem(values, self.shape, "limits")):
                return problem
        for limit in (self.ceiling, self.threshold):
            if limit is not None and limit.min() < 0:
                return "an upper limit must not be negative"
        if self.floor is not None and (self.threshold is None or (self.floor > self.threshold).any()):
            return "a floor must lie below a threshold"
        return self._levels_problem() or same_shape_problem(input_shapes, self.shape)

    def _levels_problem(self) -> str | None:
        """Say why the levels to which the source network rounds are none."""
        if self.scale is None:
            return None
        if self.scale.min() <= 0 or not self.lowest <= 0 < self.highest:
            return f"levels from {self.lowest} to {self.highest} of positive scale must hold zero"
        if self.rounding not in ROUNDINGS:
            return f"rounds {self.rounding!r}, which is none of {', '.join(ROUNDINGS)}"
        if self.points is not None and (
            self.points.ndim != 2
            or self.points.shape[0] not in (1, self.channels)
            or self.points.shape[1] != self.steps
        ):
            return f"points {self.points.shape} do not part {self.steps + 1} levels"
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levelled(AnnNode):
    """An activation that spikes will carry, and the levels that the conversion chooses for it.

    The count of its spikes is ``N = clip(round(y / step), lowest, highest)``, so that silence stands for
    zero. The levels are the conversion's approximation: what the source network computes is this node
    without them.

    Attributes:
        step: (channels,) float32, distance of the levels; ``None`` before they are chosen.
        lowest, highest: the range of the counts, which holds zero; ``T M`` is at least the larger magnitude.
        levels: M, the levels that one spike will carry.
    """

    step: FloatArray | None = None
    lowest: int = 0
    highest: int = 0
    levels: int = 1

    def without_levels(self) -> Levelled:
        """Return what the source network computes."""
        return self if self.step is None else self.with_(step=None, lowest=0, highest=0)

    def levels_problem(self) -> str | None:
        """Say why the chosen levels are none."""
        if self.step is None:
            return None
        if not self.lowest <= 0 <= self.highest or self.lowest == self.highest:
            return f"levels from {self.lowest} to {self.highest} must hold zero"
        if problem := channel_problem(self.step, self.shape, "distance of levels"):
            return problem
        return None if self.step.min() > 0 else "the distance of levels must be positive"


Activation = Relu | Levelled
"""What spikes carry."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pointwise(Levelled):
    """``y = f(x)``, any function of one number per channel: Sigmoid, GELU, a linear value that is to be sent.

    Attributes:
        program: of :class:`snnc.ir.function.Function`.
        constants: of it, (n, channels) or (n, 1).
        breakpoints: (channels, n) or (1, n) float32, ascending: the least argument from which each count
            holds, chosen with the levels.
        step_values: (n + 1,) int32, the count between two breakpoints; ``None`` with the breakpoints.
    """

    program: str
    constants: FloatArray
    breakpoints: FloatArray | None = None
    step_values: IntArray | None = None

    @property
    def function(self) -> Function:
        """What it computes."""
        return Function(self.program, self.constants)

    def without_levels(self) -> Pointwise:
        """Return what the source network computes."""
        if self.step is None:
            return self
        return self.with_(step=None, lowest=0, highest=0, breakpoints=None, step_values=None)

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check program, constants and levels."""
        if self.constants.ndim != 2 or self.constants.shape[1] not in (1, self.channels):
            return f"constants {self.constants.shape} do not fit {self.channels} channels"
        return (
            function_problem(self.program, len(self.constants))
            or steps_problem(self.breakpoints, self.step_values, self.channels)
            or self.levels_problem()
            or same_shape_problem(input_shapes, self.shape)
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Softmax(AnnNode):
    """Softmax over channels, or its logarithm: only as the last operation.

    It keeps the order of the classes, so the spiking network leaves it out.

    Attributes:
        logarithm: whether the logarithm of the softmax is returned.
    """

    logarithm: bool = field(default=False)

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the shape."""
        return same_shape_problem(input_shapes, self.shape)
