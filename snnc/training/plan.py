"""The folder of a run, and how many steps its stages take: fixed once, and kept beside the checkpoints."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from snnc.errors import InputError
from snnc.training.recipe import Recipe
from snnc.writing import replacing

FILE = "plan.json"
FASTER = 0.9
"""Share of the time of float32 below which bfloat16 is taken."""

JUDGING = 0.15
"""Share of a stage's time that judging may take; where it takes more, fewer steps are trained."""


@contextmanager
def run_folder(checkpoints: str | os.PathLike[str] | None, prefix: str) -> Iterator[Path]:
    """Give a run its folder; one that an error ends before its first checkpoint leaves nothing there.

    Args:
        checkpoints: the folder; ``None`` for one that is removed at the end.
        prefix: of the name of such a one.
    """
    if checkpoints is None:
        with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as made:
            yield Path(made)
        return
    folder = Path(checkpoints)
    known = folder.exists()
    earlier = set(folder.iterdir()) if known else set[Path]()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except Exception:
        if not any(folder.glob("*.pt")):
            for each in set(folder.iterdir()) - earlier:
                each.unlink(missing_ok=True)
            if not known:
                with suppress(OSError):
                    folder.rmdir()
        raise


@dataclass(frozen=True, slots=True)
class Speed:
    """How long a stage takes on this machine.

    Attributes:
        step: seconds for a step of gradients.
        judging: seconds to judge the network as often as a stage does.
    """

    step: float
    judging: float

    def times(self, factor: float) -> Speed:
        """Return the speed of steps that cost so much more; judging stays."""
        return Speed(self.step * factor, self.judging)


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a run.

    Attributes:
        steps: of the two stages, by T, in the order in which they are trained.
        bfloat16: whether the first stage multiplies in bfloat16.
    """

    steps: dict[int, tuple[int, int]]
    bfloat16: bool = False

    @classmethod
    def of_epochs(cls, timesteps: Sequence[int], recipe: Recipe, rows: int) -> Plan:
        """Return the plan for passes over so many training rows, for each T."""
        each = max(1, round((recipe.epochs or 0) * rows / min(recipe.batch, rows)))
        second = round(each * recipe.second_share)
        return cls(dict.fromkeys(timesteps, (each - second, second)))

    @classmethod
    def of_minutes(cls, timesteps: Sequence[int], recipe: Recipe, speeds: tuple[Speed, Speed]) -> Plan:
        """Return the plan for a time by the clock, all T together: the fewer levels, the longer.

        Args:
            timesteps: T of each network.
            recipe: how to train.
            speeds: of the two stages.
        """
        seconds = 60 * (recipe.minutes or 0)
        shares = {T: 1 / math.sqrt(T) for T in timesteps}
        whole = sum(shares.values())
        parts = (1 - recipe.second_share, recipe.second_share)
        steps: dict[int, tuple[int, int]] = {}
        for T in timesteps:
            first, second = (
                _steps(seconds * shares[T] / whole * part, speed)
                for part, speed in zip(parts, speeds, strict=True)
            )
            steps[T] = first, second
        return cls(steps)

    def write(self, folder: Path, identity: str) -> None:
        """Keep the plan in the folder of a run."""
        steps = {str(T): list(each) for T, each in self.steps.items()}
        held = {"identity": identity, "steps": steps, "bfloat16": self.bfloat16}
        with replacing(folder / FILE) as stream:
            stream.write(json.dumps(held, indent=1).encode())

    @classmethod
    def read(cls, folder: Path, identity: str) -> Plan | None:
        """Return the plan of a run that was begun; ``None`` where there is none.

        Raises:
            InputError: it is damaged, or that of another run.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            found = {int(T): (int(each[0]), int(each[1])) for T, each in held["steps"].items()}
            owner, bfloat16 = held["identity"], bool(held.get("bfloat16", False))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise InputError(f"{path} is no plan of a run, or damaged: remove the folder {folder}") from error
        if owner != identity:
            raise InputError(
                f"{folder} belongs to another run, with other rows or options: remove it, or name another "
                "folder by --checkpoints"
            )
        return cls(found, bfloat16)


def precision(recipe: Recipe, timed: Callable[[bool], Speed]) -> tuple[bool, Speed | None]:
    """Say whether the first stage multiplies in bfloat16, and how fast it then is, where that was measured.

    Without a second stage, whose integers are exact, it is trained in float32 unless something else is asked
    for.

    Args:
        recipe: how to train.
        timed: measures that stage, in bfloat16 or in float32.
    """
    if recipe.precision != "auto" or not recipe.second_share:
        return recipe.precision == "bfloat16", None
    speeds = {half: timed(half) for half in (False, True)}
    chosen = speeds[True].step < FASTER * speeds[False].step
    return chosen, speeds[chosen]


def _steps(seconds: float, speed: Speed) -> int:
    """Return how many steps fit a time, judging included; at least one where there is any time."""
    if seconds <= 0:
        return 0
    left = seconds - min(speed.judging, JUDGING * seconds)
    return max(1, int(left / speed.step))
