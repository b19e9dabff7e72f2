"""How an input enters a spiking network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from snnc.ir.graph import NONE, FloatArray, Shape
from snnc.ir.kinds import SnnNode, ValueKind
from snnc.ir.problems import channel_problem

INPUT_LIMIT = 2047
"""Largest magnitude of a quantised input: 12 bits with sign."""


class Presented(Enum):
    """What a row is, and what of it a step sees.

    ``STILL``: a row has the input's shape, and each of the T steps sees the same ``q``. ``ACCUMULATED``: a
    row is T frames, (T, *shape), which add up to a row of the source network; step ``t`` sees frame ``t``.
    The scale is that of one of T steps, so that the network runs for its own T alone. ``SEQUENCE``: a row is
    as many frames as the run has steps, and each stands for itself. In settle steps nothing is presented.
    """

    STILL = "still"
    ACCUMULATED = "accumulated"
    SEQUENCE = "sequence"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encode(SnnNode):
    """Quantise the analogue input once: ``q = clip(rint((x gain + offset) / scale), low, high)``.

    Half to even; multiply, add, divide, round and clip are separate float32 operations. ``q`` is
    presented in each of the T steps, so the currents of the first layer are constant in time; or it has T
    frames, (T, *shape), of which each step sees its own.

    Attributes:
        presented: what a row is, and what of it a step sees.
        gain, offset: (channels,) float32, an affine normalisation found at the head of the source
            network; ``None`` where there is none.
        scale: real value of one unit of ``q``.
        limit: largest magnitude of ``q``.
        low, high: the least and the largest ``q`` of an input that the source network quantises itself;
            ``None`` for ``-limit`` and ``limit``.
    """

    arity = NONE
    is_input = True
    gives = ValueKind.SPIKES

    presented: Presented = Presented.STILL
    scale: float
    limit: int = INPUT_LIMIT
    low: int | None = None
    high: int | None = None
    gain: FloatArray | None = None
    offset: FloatArray | None = None

    @property
    def varies(self) -> bool:
        """Whether steps see frames of their own."""
        return self.presented is not Presented.STILL

    def row_shape(self, timesteps: int) -> Shape:
        """Return the shape of a row of a run of so many steps."""
        return (timesteps, *self.shape) if self.varies else self.shape

    @property
    def range(self) -> tuple[int, int]:
        """The least and the largest ``q``."""
        return (
            -self.limit if self.low is None else self.low,
            self.limit if self.high is None else self.high,
        )

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check scale and limits."""
        if not 0 < self.scale < float("inf") or not 0 < self.limit <= INPUT_LIMIT:
            return f"scale {self.scale} and limit {self.limit} are out of range"
        low, high = self.range
        if not -self.limit <= low <= 0 <= high <= self.limit:
            return f"the range {low} to {high} does not hold zero, or leaves the limit {self.limit}"
        if (self.gain is None) != (self.offset is None):
            return "gain and offset come together"
        for values in (self.gain, self.offset):
            if values is not None and (problem := channel_problem(values, self.shape, "normalisation")):
                return problem
        return None
