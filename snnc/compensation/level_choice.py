"""How many levels each layer gets, by what they cost and what fewer of them lose, measured layer by layer.

Rounding a rectifier alone to fewer levels moves the answers by so many nats, and spares so many operations:
fewer of its values are rounded to a spike, and a unary code counts less far. Levels are taken where the most
operations are spared for a nat that is lost, again and again, until the operations keep to a limit. Errors of
layers are added up, which is an approximation.

Source: this is the greedy solution of the knapsack of bits of Dong et al., "HAWQ-V2: Hessian Aware
trace-Weighted Quantization of Neural Networks", NeurIPS 2020, with measured divergences in the place of
Hessian traces, and operations in that of bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from snnc.errors import GateError, InternalError
from snnc.ir.ann import Relu
from snnc.numerics.thresholds import quantise
from snnc.source.calibration import ActivationSample

Ladder = Mapping[str, Mapping[int, float]]
"""By rectifier, a value for each number of levels that it may get."""


@dataclass(frozen=True, slots=True)
class LevelChoice:
    """Levels of each layer.

    Attributes:
        levels: by rectifier.
        operations: of all, relative to the most levels everywhere.
        rate: operations that were spared for each nat by the last levels that were taken.
    """

    levels: Mapping[str, int]
    operations: float
    rate: float

    def as_dict(self) -> dict[str, float | None]:
        """Return the JSON form of what it costs."""
        rate = round(self.rate) if math.isfinite(self.rate) else None
        return {"relative": round(self.operations, 4), "spared_per_nat": rate}


def rungs(levels: int) -> tuple[int, ...]:
    """Return the numbers of levels that are tried, the most first: each is half of the last."""
    found = [levels]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return tuple(found)


def spikes(node: Relu, sample: ActivationSample, timesteps: int) -> float:
    """Return the mean number of spikes that a neuron of a clipped rectifier sends in T steps.

    A count ``k`` is sent by ``min(k, T)`` of them: as evenly as it can be, with as many levels as it takes.

    Args:
        node: with its threshold, and levels of one spike.
        sample: of its values.
        timesteps: T.
    """
    if node.threshold is None:
        raise InternalError(f"{node.name!r} is not clipped")
    floor = np.zeros_like(node.threshold) if node.floor is None else node.floor
    alive = node.threshold > floor
    reach = np.where(alive, node.threshold - floor, np.float32(1))
    values = sample.raised(node.shift).values - floor[:, None]
    counts = quantise(values, reach, node.levels * timesteps)[alive]
    return float(np.minimum(counts, timesteps).sum() / max(values.size, 1))


def choose_levels(errors: Ladder, operations: Ladder, limit: float) -> LevelChoice:
    """Return levels whose operations keep to a limit.

    Args:
        errors: of the answers, where a rectifier alone is rounded.
        operations: that its spikes take.
        limit: on the sum of these, relative to the sum with the most levels everywhere.

    Raises:
        GateError: no levels keep to it.
    """
    levels = {name: max(ladder) for name, ladder in operations.items()}
    whole = sum(ladder[levels[name]] for name, ladder in operations.items())
    total, rate = whole, 0.0
    while total > limit * whole:
        moves = [
            (_rate(spared, errors[name][fewer] - errors[name][levels[name]]), spared, name, fewer)
            for name, ladder in operations.items()
            for fewer in ladder
            if fewer < levels[name] and (spared := ladder[levels[name]] - ladder[fewer]) > 0
        ]
        if not moves:
            raise GateError(
                f"no levels keep to operations={limit:g}: nearest, with the fewest that spare some, "
                f"{total / whole:.3g} of those of the most levels. Raise the limit, or prune channels"
            )
        rate, spared, name, fewer = max(moves, key=lambda move: (move[0], move[1]))
        levels[name] = fewer
        total -= spared
    return LevelChoice(levels, total / whole if whole else 1.0, rate)


def _rate(spared: float, lost: float) -> float:
    """Return the operations that are spared for a nat; any are worth it where nothing is lost."""
    return spared / lost if lost > 0 else math.inf
