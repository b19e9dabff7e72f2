"""What came of a run for one number of steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from snnc.training.judge import Measure


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of a run for one number of steps.

    Attributes:
        timesteps: T.
        closed: the closed form on the rows held back.
        tuned: the tuned network there; ``None`` where it cannot be deployed.
        reason: why the closed form is kept; empty where the tuned network is.
        equal_rows: rows on which the simulator's counts are those of the module: all that were compared.
        steps: of each stage.
        history: measurements on the way.
        untrained: a node whose integers are not trained, and why; empty where there is none.
        diverged: stages that ended before their last step, for a loss or answers that were not finite.
    """

    timesteps: int
    closed: Measure
    tuned: Measure | None
    reason: str
    equal_rows: int
    steps: tuple[int, int]
    history: tuple[dict[str, Any], ...]
    untrained: str = ""
    diverged: tuple[str, ...] = ()

    @property
    def is_tuned(self) -> bool:
        """Whether the tuned network is kept."""
        return not self.reason

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "timesteps": self.timesteps,
            "closed_form": self.closed.as_dict(),
            "tuned": None if self.tuned is None else self.tuned.as_dict(),
            "kept": "tuned" if self.is_tuned else "closed form",
            "reason": self.reason,
            "equal_rows": self.equal_rows,
            "untrained": self.untrained,
            "diverged": list(self.diverged),
            "steps": list(self.steps),
            "curve": list(self.history),
        }
