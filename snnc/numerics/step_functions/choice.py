"""Levels and step functions of activations that share one unit."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from snnc.errors import UsageError
from snnc.ir.ann import Levelled, Pointwise
from snnc.ir.function import IDENTITY
from snnc.ir.graph import FloatArray
from snnc.ir.snn import MOST_BREAKPOINTS
from snnc.numerics.reach import Real
from snnc.numerics.step_functions.curve import Curve
from snnc.numerics.step_functions.levels import Levels, choose_levels
from snnc.numerics.thresholds import Method

LINEAR = {IDENTITY.program: -np.inf, "Relu(x)": 0.0}
"""Functions that give their argument from a number on: each level begins half a step below."""

STEP_BITS = 14
"""Digits of a step: half of it times up to 511, and times few steps of time, has no more than float32."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An activation that is to get levels, and what is known of it.

    Attributes:
        node: the activation.
        values: (channels, samples) float32, that it takes.
        low, high: (channels,) float32, range of what is sampled for it: the arguments of a function.
        rows: how many rows the values are from, as many of each, row by row.
        weights: (channels,), see :func:`snnc.numerics.reach.chosen_reach`.
        answers: whether it is an answer as it is, moved at most.
    """

    node: Levelled
    values: FloatArray
    low: FloatArray
    high: FloatArray
    rows: int = 1
    weights: Real | None = None
    answers: bool = False

    @property
    def key(self) -> str:
        """Digest of all that its levels depend on: the steps of an unrolled cell may be measured alike."""
        arrays, found = (
            [self.values, self.low, self.high],
            hashlib.sha256(b"%d %d" % (self.node.channels, self.answers)),
        )
        if self.weights is not None:
            arrays.append(self.weights)
        if isinstance(self.node, Pointwise):
            found.update(self.node.program.encode())
            arrays.append(self.node.constants)
        for each in arrays:
            found.update(str(each.shape).encode())
            found.update(np.ascontiguousarray(each).data)
        return found.hexdigest()


def carried(
    measured: Sequence[Measured], reach: int, *, common: bool, method: Method, percentile: float = 99.9
) -> list[Levelled]:
    """Return activations with levels of one range; each with a step function where it is a function.

    A function that comes to an end on either side, as a sigmoid does, wastes no levels beyond it. Where it is
    an answer between -1 and 1, and levels are many, they reach up to there whatever the rows show: of what a
    detector looks for, few rows may hold any, and a probability that is cut off there is wrong when it
    matters. Wider ends, such as a limit against overflow, may lie far beyond all that there ever is.

    Where a step function would have more breakpoints than fit, as one that falls and rises may, all get fewer
    levels.

    Args:
        measured: the activations.
        reach: ``T M``, the largest magnitude of a count. A step function has at most as many levels as there
            may be breakpoints.
        common: whether all share one step; else each channel of the one activation has its own.
        method: as for :func:`choose_levels`.
        percentile: likewise.

    Raises:
        UsageError: a function changes its direction too often.
    """
    most = 2 * reach
    if any(isinstance(each.node, Pointwise) for each in measured):
        most = min(most, MOST_BREAKPOINTS)
    curves = [
        Curve.of(each.node.function, each.low, each.high) if isinstance(each.node, Pointwise) else None
        for each in measured
    ]
    own = not common and len(measured) == 1 and isinstance(measured[0].node, Pointwise)
    known = [curve for curve in curves if curve is not None]
    bounds = _bounds(known, own=own) if len(known) == len(curves) else None
    whole = all(each.answers for each in measured) and all(curve.is_probability for curve in known)
    linear = all(isinstance(each.node, Pointwise) and each.node.program in LINEAR for each in measured)
    values = [np.nan_to_num(each.values, posinf=0, neginf=0) for each in measured]
    pooled = values[0] if own else np.concatenate([each.reshape(1, -1) for each in values], axis=1)
    by_row = values[0].reshape(len(values[0]), measured[0].rows, -1) if own else _together(measured, values)
    while True:
        levels = choose_levels(
            pooled,
            min(reach, most),
            common=not own,
            most=most,
            method=method,
            percentile=percentile,
            by_row=by_row,
            weights=measured[0].weights if own else None,
            bounds=bounds,
            whole=whole,
        )
        if linear:
            levels = Levels(_short(levels.step), levels.lowest, levels.highest)
        found = [_with_levels(each.node, levels, curve) for each, curve in zip(measured, curves, strict=True)]
        kept = [node for node in found if not isinstance(node, int)]
        if len(kept) == len(found):
            return kept
        changes = max(node for node in found if isinstance(node, int))
        if most == 1:
            raise UsageError(
                f"{measured[0].node.origin or measured[0].node.name!r} crosses its levels more than "
                f"{MOST_BREAKPOINTS} times within the range of its arguments: cut it off, or narrow the range"
            )
        width = levels.highest - levels.lowest
        most = max(1, min(width - 1, width * MOST_BREAKPOINTS // changes))


def _bounds(curves: Sequence[Curve], *, own: bool) -> tuple[Real, Real]:
    """Return the bounds of a function by channel, or of all that share a unit in one number."""
    low, high = (np.concatenate(each) for each in zip(*(curve.bounds for curve in curves), strict=True))
    return (low, high) if own else (low.min(keepdims=True), high.max(keepdims=True))


def _together(measured: Sequence[Measured], values: Sequence[FloatArray]) -> FloatArray | None:
    """Return values of all channels, (1, rows, positions); ``None`` where the rows are not the same."""
    rows = {each.rows for each in measured}
    if len(rows) > 1:
        return None
    (count,) = rows
    found = [each.reshape(len(each), count, -1).transpose(1, 0, 2).reshape(1, count, -1) for each in values]
    return np.concatenate(found, axis=2)


def _with_levels(node: Levelled, levels: Levels, curve: Curve | None) -> Levelled | int:
    """Return an activation with levels, or how often its counts would change where that is too often."""
    step = np.broadcast_to(levels.step, (node.channels,)).astype(np.float32)
    chosen = node.with_(step=step, lowest=levels.lowest, highest=levels.highest)
    if curve is None or not isinstance(node, Pointwise) or not isinstance(chosen, Pointwise):
        return chosen
    counts = np.arange(levels.lowest, levels.highest + 1, dtype=np.int32)
    least = LINEAR.get(node.program, np.inf)
    if least <= levels.lowest < levels.highest:
        own = step[:1] if (step == step[0]).all() else step
        points = (counts[1:] - 0.5) * own.astype(np.float64)[:, None]
        return chosen.with_(breakpoints=points.astype(np.float32), step_values=counts)
    table = curve.stepped(Levels(step, levels.lowest, levels.highest))
    if isinstance(table, int):
        return table
    return chosen.with_(breakpoints=table.breakpoints, step_values=table.step_values)


def _short(step: FloatArray) -> FloatArray:
    """Return steps of few digits, by which multiples and halves of them are exact in float32.

    So the breakpoints of what is linear are evenly apart, which simulators compute without a table.
    """
    part, power = np.frexp(step.astype(np.float64))
    return np.ldexp(np.rint(np.ldexp(part, STEP_BITS)), power - STEP_BITS).astype(np.float32)


def with_levels_of(node: Levelled, other: Levelled) -> Levelled:
    """Return an activation with the levels of another that was measured alike."""
    found = node.with_(step=other.step, lowest=other.lowest, highest=other.highest)
    if isinstance(found, Pointwise) and isinstance(other, Pointwise):
        return found.with_(breakpoints=other.breakpoints, step_values=other.step_values)
    return found
