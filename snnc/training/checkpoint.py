"""How far a stage is, written to a file and read back to the same bits."""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnc.errors import InputError
from snnc.training.learner import Learner
from snnc.writing import replacing

FORM = 2
"""Of what is held: raised when parameters are held otherwise, as in other units, so that none is misread."""


@dataclass(slots=True)
class RunState:
    """What a checkpoint holds beside the optimiser: how far a stage is."""

    step: int
    average: dict[str, Tensor]
    best: dict[str, Tensor]
    key: tuple[float, float]
    order: Tensor
    position: int
    generator: torch.Generator
    history: list[dict[str, Any]]
    recent: dict[str, float] = field(default_factory=dict)
    diverged: bool = False

    def add(self, parts: Mapping[str, float]) -> None:
        """Add the losses of a step to those since the last measurement."""
        for name, value in (*parts.items(), ("steps", 1.0)):
            self.recent[name] = self.recent.get(name, 0.0) + value

    def losses(self) -> dict[str, float]:
        """Return the mean losses since the last measurement, and begin anew."""
        count = self.recent.pop("steps", 1.0)
        found = {name: round(value / count, 6) for name, value in self.recent.items()}
        self.recent = {}
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Where a stage is kept.

    Attributes:
        path: of the file.
        identity: of the run; a checkpoint of another is refused.
        steps: how many the stage takes.
    """

    path: Path
    identity: str
    steps: int

    def save(self, state: RunState, learner: Learner, optimiser: torch.optim.Optimizer | None) -> None:
        """Write how far the stage is."""
        held = {
            "form": FORM,
            "identity": self.identity,
            "steps": self.steps,
            "step": state.step,
            "network": learner.state(),
            "masks": learner.masks.state(),
            "earlier": learner.earlier,
            "average": state.average,
            "best": state.best,
            "key": list(state.key),
            "order": state.order,
            "position": state.position,
            "generator": state.generator.get_state(),
            "history": state.history,
            "recent": state.recent,
            "diverged": state.diverged,
            "optimiser": {} if optimiser is None else optimiser.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(held, buffer)
        with replacing(self.path) as stream:
            stream.write(buffer.getvalue())

    def resumed(self, learner: Learner, optimiser: torch.optim.Optimizer | None) -> RunState | None:
        """Return what was written, and let network and optimiser take it up; ``None`` where nothing was.

        Raises:
            InputError: it belongs to another run, or is damaged.
        """
        if not self.path.exists():
            return None
        try:
            held = torch.load(self.path, map_location=learner.recipe.device, weights_only=True)
            if held.get("form") != FORM:
                raise InputError(
                    f"{self.path} was written by another state of snnc, which holds parameters otherwise: "
                    "remove its folder, or name another by --checkpoints"
                )
            if held["identity"] != self.identity or held["steps"] != self.steps:
                raise InputError(
                    f"{self.path} belongs to another run, with other rows or options: remove it, or name "
                    "another folder by --checkpoints"
                )
            generator = torch.Generator()
            generator.set_state(held["generator"].cpu())
            learner.load(held["network"])
            learner.masks.load(held["masks"])
            learner.earlier = held["earlier"]
            if optimiser is not None:
                optimiser.load_state_dict(held["optimiser"])
            return RunState(
                held["step"],
                held["average"],
                held["best"],
                (float(held["key"][0]), float(held["key"][1])),
                held["order"].cpu(),
                held["position"],
                generator,
                held["history"],
                held["recent"],
                held["diverged"],
            )
        except InputError:
            raise
        except Exception as error:  # what torch raises for a damaged file has no root of its own
            raise InputError(f"{self.path} is no checkpoint, or damaged: remove it") from error
