"""How many levels each layer gets, by what they cost and what fewer of them lose, measured layer by layer.

Rounding a rectifier alone to fewer levels moves the answers by so many nats, and spares so many operations:
fewer of its values are rounded to a spike, and a unary code counts less far. Levels are taken where the most
operations are spared for a nat that is lost, again and again, until the operations keep to a limit. Errors of
layers are added up, which is an approximation.

Over T steps of M levels a layer has ``T M`` of them. It gets fewer by spikes of fewer levels; and, where
these have one, by fewer steps: with ``T' < T`` it has the threshold of a network of ``T'`` steps, so that a
spike is worth ``T / T'`` times as much, and sends as many spikes as there, in any of the T steps.

Source: this is the greedy solution of the knapsack of bits of Dong et al., "HAWQ-V2: Hessian Aware
trace-Weighted Quantization of Neural Networks", NeurIPS 2020, with measured divergences in the place of
Hessian traces, and operations in that of bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from snnc.errors import GateError, InternalError
from snnc.ir.ann import Relu
from snnc.numerics.thresholds import quantise
from snnc.source.calibration import ActivationSample

Ladder = Mapping[str, Mapping[int, float]]
"""By rectifier, a value for each number of levels over the run that it may get."""


@dataclass(frozen=True, slots=True)
class LevelChoice:
    """Levels of each layer.

    Attributes:
        levels: over the run, by rectifier.
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


@dataclass(frozen=True, slots=True)
class Rung:
    """What a layer may get.

    Attributes:
        levels: M, of one spike.
        steps: as many as a network would have in which the layer had this threshold; T at most.
    """

    levels: int
    steps: int

    @property
    def span(self) -> int:
        """Levels over the whole run."""
        return self.levels * self.steps


def rungs(levels: int, timesteps: int) -> tuple[Rung, ...]:
    """Return what is tried, the most levels first: each has half of the last, spikes of one level at the end.

    Args:
        levels: M, the most of one spike.
        timesteps: T.
    """
    found = [Rung(levels, timesteps)]
    while found[-1].span > 1:
        last = found[-1]
        fewer = replace(last, levels=last.levels // 2) if last.levels > 1 else Rung(1, last.steps // 2)
        found.append(fewer)
    return tuple(found)


def stretched(node: Relu, share: float) -> Relu:
    """Return a clipped rectifier whose clip lies higher: ``share`` of its levels lie below the old one.

    With ``share = T' / T`` its spikes are worth as much as those of T' steps.
    """
    if node.threshold is None:
        raise InternalError(f"{node.name!r} is not clipped")
    floor = np.zeros_like(node.threshold) if node.floor is None else node.floor
    return node.with_(threshold=floor + (node.threshold - floor) / np.float32(share))


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
