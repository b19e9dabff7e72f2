"""How a network is trained from nothing, as a value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnc.errors import UsageError
from snnc.training.architectures import ARCHITECTURES
from snnc.training.recipe import Recipe

LEVELS = 4
MOST_LEVELS = 255
SMALLEST = 0.5
"""Of first sizes: a quarter of the pixels."""


@dataclass(frozen=True, slots=True)
class Optimiser:
    """How the first stage follows its gradients.

    Attributes:
        rate: largest learning rate, where none is given.
        weight_decay: by how much a step of rate 1 shrinks a weight, where none is given.
        momentum: in Nesterov's form; ``None`` for Adam.
        largest_gradient: length to which the gradients of all parameters together are clipped.
    """

    rate: float
    weight_decay: float
    momentum: float | None = None
    largest_gradient: float = 1.0


OPTIMISERS: Mapping[str, Optimiser] = {
    "adam": Optimiser(5e-3, 0.02),
    "sgd": Optimiser(0.4, 1.2e-3, momentum=0.85, largest_gradient=5.0),
}
"""Adam with decoupled decay, and stochastic gradient descent, whose decay gathers in the momentum. Rate,
decay and momentum of the latter are about those of Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU",
2024, at a quarter of its batch."""

ALONE = {"labels": 1.0}
"""What is lowered without a teacher."""

TAUGHT = {"kl": 0.9, "labels": 0.1}
"""What is lowered with one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What is trained from nothing, and how; the rest says :class:`snnc.training.recipe.Recipe`.

    Attributes:
        arch: of :data:`snnc.training.architectures.ARCHITECTURES`.
        levels: L, to which every hidden activation is rounded from the first step, 4 by default; a spiking
            network sends them in T steps by spikes of up to ``L / T``, rounded up. ``None`` for a network of
            smooth activations, which is trained without.
        smoothing: share of a label that is spread over all classes.
        optimiser: of the first stage, of :data:`OPTIMISERS`.
        weight_decay: by how much a step of rate 1 shrinks a weight; by default the optimiser's.
        rise: share of the steps in which the rate rises.
        first_size: side of the images at the first step of the first stage, relative to theirs; they grow.
    """

    arch: str
    levels: int | None = None
    smoothing: float = 0.1
    optimiser: str = "adam"
    weight_decay: float | None = None
    rise: float = 0.2
    first_size: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values that train nothing.

        Raises:
            UsageError: naming the option.
        """
        if self.arch not in ARCHITECTURES:
            raise UsageError(f"arch {self.arch!r} is unknown; known: {', '.join(ARCHITECTURES)}")
        if ARCHITECTURES[self.arch].smooth:
            if self.levels is not None:
                raise UsageError(
                    f"{self.arch} has smooth activations and is trained without levels: leave levels out, "
                    "and convert it by the preset one-step, or tune it"
                )
        elif self.levels is None:
            object.__setattr__(self, "levels", LEVELS)
        if self.optimiser not in OPTIMISERS:
            raise UsageError(f"optimiser {self.optimiser!r} is unknown; known: {', '.join(OPTIMISERS)}")
        if self.weight_decay is None:
            object.__setattr__(self, "weight_decay", OPTIMISERS[self.optimiser].weight_decay)
        self._check_numbers()

    def _check_numbers(self) -> None:
        levels: object = 1 if self.levels is None else self.levels
        if not isinstance(levels, int) or isinstance(levels, bool) or not 1 <= levels <= MOST_LEVELS:
            raise UsageError(f"levels must be a whole number from 1 to {MOST_LEVELS}, not {levels!r}")
        numbers: tuple[tuple[str, object, float], ...] = (
            ("smoothing", self.smoothing, 1.0),
            ("weight_decay", self.weight_decay, math.inf),
            ("rise", self.rise, 1.0),
        )
        for name, value, most in numbers:
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < most:
                raise UsageError(f"{name} must be a number from 0 to below {most}, not {value!r}")
        first: object = self.first_size
        if not isinstance(first, int | float) or isinstance(first, bool) or not SMALLEST <= first <= 1:
            raise UsageError(f"first_size must be a number from {SMALLEST} to 1, not {first!r}")
        if first < 1 and ARCHITECTURES[self.arch].one_size:
            raise UsageError(
                f"{self.arch} knows each place of an image and takes no smaller ones: leave first_size out"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def training_recipe(course: Course, /, **choices: Any) -> Recipe:
    """Return the recipe of a training from nothing; choices that are ``None`` are left at their default."""
    given = {name: value for name, value in choices.items() if value is not None}
    rate = OPTIMISERS[course.optimiser].rate
    defaults = {"batch": 256, "rate": rate, "augment": ("crop", "alternate"), "rounded": 0.15}
    try:
        return Recipe(**{**defaults, **given})
    except TypeError:
        unknown = sorted(set(given) - set(Recipe.__dataclass_fields__))
        raise UsageError(
            f"train takes no {unknown[0] if unknown else 'such recipe'!r}; a recipe has "
            f"{', '.join(Recipe.__dataclass_fields__)}"
        ) from None
