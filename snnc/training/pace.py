"""How fast a stage learns: its rate, what its average looks back over, and when it is judged.

Sources: Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning
Rates", 2017 (one cycle); Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019;
Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013 (Nesterov's
momentum).
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

EVALUATIONS = 10
"""How often a stage is judged."""

WARM_UP = 50
"""Steps in which the rate rises to tune, at most a tenth of all."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How the parameters follow their gradients.

    Attributes:
        rise: share of the steps in which the rate rises, for networks that begin with nothing; ``None`` for a
            short rise, for those that are good already.
        weight_decay: by how much a step of rate 1 shrinks a weight.
        momentum: of stochastic gradient descent, in Nesterov's form; ``None`` for Adam.
        largest_gradient: length to which the gradients of all parameters together are clipped.
    """

    rise: float | None = None
    weight_decay: float = 0.0
    momentum: float | None = None
    largest_gradient: float = 1.0

    def optimiser(self, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return what follows the gradients of groups of parameters; those of weights shrink."""
        shrinking = [
            {**group, "weight_decay": self.weight_decay if group["shrinks"] else 0.0} for group in groups
        ]
        if self.momentum is not None:
            return torch.optim.SGD(shrinking, momentum=self.momentum, nesterov=self.momentum > 0)
        return torch.optim.AdamW(shrinking)

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step over the largest: a rise, then half a cosine."""
        if self.rise is None:
            return rate(step, steps)
        top = max(1.0, self.rise * steps)
        if step < top:
            return (step + 1) / (top + 1)
        return 0.5 * (1 + math.cos(math.pi * (step + 1 - top) / (steps + 1 - top)))


def evaluations(steps: int) -> frozenset[int]:
    """Return behind which steps a stage is judged; the last is among them."""
    return frozenset(-(-steps * k // EVALUATIONS) for k in range(1, EVALUATIONS + 1) if steps)


def rate(step: int, steps: int) -> float:
    """Return the learning rate of a step over the largest: a short rise, then half a cosine."""
    rise = min(1.0, (step + 1) / max(1.0, min(WARM_UP, steps / 10)))
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))


def decay(step: int, steps: int) -> float:
    """Return how much of the moving average stays: it looks back over a twentieth of the stage."""
    horizon = min(max(steps / 20, 5.0), 300.0)
    return min(1 - 1 / horizon, (1 + step) / (10 + step))
