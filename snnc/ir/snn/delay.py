"""Spikes of earlier steps: delays, and with them recurrence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snnc.ir.graph import NONE, Shape
from snnc.ir.kinds import SnnNode, ValueKind

MOST_DELAY = 256
"""Steps of the longest delay: as many as the longest run that is proved."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Delay(SnnNode):
    """What a population or an input sent some steps before: ``y(t) = x(t - steps)``, and first nothing.

    It reads nothing of its own step. Its source may therefore come later in the graph, and the network is
    recurrent where the source depends on it. What a population can send in a step does not depend on what it
    reads, so that all bounds hold in a circle, too.

    Attributes:
        source: name of the population or input.
        steps: how many, 1 to 256.
    """

    arity = NONE
    gives = ValueKind.SPIKES
    remembers = True

    source: str
    steps: int = 1

    @property
    def earlier(self) -> tuple[str, ...]:
        """The source."""
        return (self.source,)

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the length."""
        return None if 1 <= self.steps <= MOST_DELAY else f"{self.steps} steps are not 1 to {MOST_DELAY}"
