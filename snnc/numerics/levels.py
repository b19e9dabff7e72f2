"""From a source network's levels to breakpoints of an integer sum: where each level begins, found exactly.

A quantised network computes ``k = clip(round(z / scale), lowest, highest)`` of a value ``z`` that is affine
in a sum of integers, ``z = step P + bias``. Level by level the least integer ``P`` is searched at which the
source's own arithmetic, in float32 and with its own rounding, gives that level or a higher one. It is a
search among the few integers around the real solution, as the function is monotone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snnc.ir import ann
from snnc.ir.graph import FloatArray, IntArray

Real = NDArray[np.float64]

FARTHEST = 2**30
"""A breakpoint beyond this is never reached: potentials are proved to stay within 32 bits."""

AROUND = 6
"""How many integers on each side of the real solution are tried; float32 is off by far less."""

WHOLE = 2e-3
"""How far from an integer a quotient may lie that stands for one: what float32 makes of 16 bits."""

FLOAT32 = 2.0**-22
"""What a sum of products in float32 may be off by, relative: a few roundings."""

LARGEST_WEIGHT = 127
MOST_MULTIPLE = 255
"""Largest integer of a source's weights, zero point subtracted, of one byte."""


def level_of(node: ann.Relu, total: IntArray, step: Real, bias: Real) -> IntArray:
    """Return the level, ``lowest .. highest``, that the source gives an integer sum.

    Args:
        node: the rectifier, with a ``scale``.
        total: (channels, ...) sums of integers ``P``.
        step: (channels,) of ``z = step P + bias``.
        bias: (channels,) of it.

    Returns:
        (channels, ...) int64.
    """
    shape = (-1, *(1,) * (total.ndim - 1))

    def column(values: FloatArray | Real) -> FloatArray:
        return np.asarray(values, np.float32).reshape(shape)

    if node.gain is not None:
        whole = np.rint(bias / step).astype(np.int64).reshape(shape)
        levels = np.rint((total + whole).astype(np.float32) * column(node.gain))
        return np.clip(levels, node.lowest, node.highest).astype(np.int64)
    z = (total * step.reshape(shape) + bias.reshape(shape)).astype(np.float32)
    return real_level(node, z)


def real_level(node: ann.Relu, z: FloatArray) -> IntArray:
    """Return the level of real values, (channels, ...), as the source rounds them."""
    if node.scale is None:
        raise ValueError(f"{node.name!r} rounds to no levels")
    shape = (-1, *(1,) * (z.ndim - 1))
    if node.points is not None:
        found = np.empty(z.shape, np.int64)
        for channel in range(len(z)):
            points = node.points[channel % len(node.points)]
            found[channel] = np.searchsorted(points, z[channel], side="right") + node.lowest
        return found
    levels = z / node.scale.reshape(shape)
    match node.rounding:
        case "half-even":
            levels = np.rint(levels)
        case "half-up":
            levels = np.floor(levels + np.float32(0.5))
        case _:
            levels = np.floor(levels)
    return np.clip(levels, node.lowest, node.highest).astype(np.int64)


def sum_level(
    node: ann.Relu,
    first: tuple[float, int],
    second: tuple[float, int],
    levels: tuple[IntArray, IntArray],
    bias: float = 0.0,
) -> IntArray:
    """Return the level that the source gives the sum of two of its activations.

    Runtimes add integers as QLinearAdd does, in float32 with one rounding for each product and sum, and round
    once the zero point is added: ``round(a r_a + (b r_b + zero - (r_a zero_a + r_b zero_b)))`` with
    ``r = scale / scale_y``.

    Args:
        node: the rectifier behind the sum, with one ``scale``.
        first: scale and zero point of one activation.
        second: of the other.
        levels: of both, that broadcast.
        bias: real, beside them.
    """
    scale = np.asarray(node.scale, np.float32)[0]
    if node.points is not None or node.rounding != "half-even" or bias:
        z = levels[0] * first[0] + levels[1] * second[0] + bias
        return real_level(
            node.with_(scale=np.asarray(node.scale)[:1], shift=None, ceiling=None), z.astype(np.float32)[None]
        )[0]
    ratios = [np.float32(np.float32(unit) / scale) for unit, _ in (first, second)]
    shift = ratios[0] * np.float32(first[1]) + ratios[1] * np.float32(second[1])
    total = np.asarray(np.float32(np.float32(node.zero) - shift), np.float64)
    for level, ratio, (_, zero) in reversed(list(zip(levels, ratios, (first, second), strict=True))):
        total = ((level + zero) * np.float64(ratio) + total).astype(np.float32).astype(np.float64)
    return np.clip(np.rint(total) - node.zero, node.lowest, node.highest).astype(np.int64)


def breakpoints(node: ann.Relu, step: Real, bias: Real, times: int = 1) -> IntArray:
    """Return where each level above the lowest begins, (channels, steps) int32, ascending.

    Args:
        node: the rectifier, with a ``scale``.
        step: (channels,) of ``z = step P + bias``, positive.
        bias: (channels,) of it.
        times: the sum that is received is so many times ``P``, as an input is that is presented in each step.
    """
    if node.scale is None:
        raise ValueError(f"{node.name!r} rounds to no levels")
    levels = np.arange(node.lowest + 1, node.highest + 1)
    if node.points is not None:
        ends = node.points.astype(np.float64)
    else:
        half = 0.0 if node.rounding == "floor" else 0.5
        ends = (levels - half) * node.scale.astype(np.float64)[:, None]
    middle = np.rint((ends - bias[:, None]) / step[:, None])
    middle = np.clip(middle, -FARTHEST // times, FARTHEST // times).astype(np.int64)
    tried = middle[..., None] + np.arange(-AROUND, AROUND + 1)
    reached = level_of(node, tried, step, bias) >= levels[:, None]
    # The first that reaches the level; one behind the last where none does, which is beyond all that arrives.
    first = np.where(reached.any(axis=-1), reached.argmax(axis=-1), 2 * AROUND + 1)
    points = np.clip((middle - AROUND + first) * times, -FARTHEST, FARTHEST)
    return np.maximum.accumulate(points, axis=1).astype(np.int32)


def near_ties(node: ann.Relu, step: Real, bias: Real) -> int:
    """Return at how many breakpoints an integer sum lies within the rounding of float32 of a tie.

    Args:
        node: the rectifier, with a ``scale``.
        step: (channels,) of ``z = step P + bias``, positive.
        bias: (channels,) of it.
    """
    levels = np.arange(node.lowest + 1, node.highest + 1)
    half = 0.0 if node.rounding == "floor" else 0.5
    ends = (levels - half) * np.asarray(node.scale, np.float64)[:, None]
    sums = (ends - bias[:, None]) / step[:, None]
    slack = FLOAT32 * (np.abs(ends) + np.abs(bias[:, None])) / step[:, None]
    return int((np.abs(sums - np.rint(sums)) <= slack).sum())


@dataclass(frozen=True, slots=True)
class Integers:
    """Weights as integers.

    Attributes:
        values: (outputs, ...) int64.
        step: (outputs,) float64: the weights are about ``step values``.
        exact: (outputs,) whether that is what they are, but for the rounding of float32.
    """

    values: IntArray
    step: Real
    exact: NDArray[np.bool_]


def integer_weights(weight: Real, hint: Real | None, most: int = LARGEST_WEIGHT) -> Integers:
    """Return weights as integers: those that they are multiples of something by, or the nearest.

    Args:
        weight: (outputs, ...), as precise as it is known.
        hint: (outputs,) of which the source says that the weights are multiples; ``None`` if it says nothing.
        most: the largest integer where they must be rounded.
    """
    rows = weight.reshape(len(weight), -1)
    largest = np.abs(rows).max(axis=1, initial=0)
    step = np.where(largest > 0, largest / most, 1.0)
    exact = largest == 0
    if hint is not None:
        fits = (hint > 0) & _multiples(rows, np.where(hint > 0, hint, 1.0)) & ~exact
        step, exact = np.where(fits, hint, step), exact | fits
    for count in range(1, LARGEST_WEIGHT + 2):
        left = np.flatnonzero(~exact)
        if not left.size:
            break
        tried = largest[left] / count
        fits = _multiples(rows[left], tried)
        step[left[fits]], exact[left[fits]] = tried[fits], True
    values = np.rint(rows / step[:, None]).astype(np.int64)
    return Integers(values.reshape(weight.shape), step, exact)


def as_multiples(weight: Real, scale: Real | None) -> Real:
    """Return weights as what they are before float32 rounds them: the multiples of their scale.

    Args:
        weight: (outputs, ...).
        scale: (outputs,); ``None`` where none is known. Rows that are no multiples stay as they are.
    """
    if scale is None:
        return weight
    rows = weight.reshape(len(weight), -1)
    fits = (scale > 0) & _multiples(rows, np.where(scale > 0, scale, 1.0))
    whole = np.rint(rows / np.where(fits, scale, 1.0)[:, None]) * scale[:, None]
    return np.asarray(np.where(fits[:, None], whole, rows)).reshape(weight.shape)


def _multiples(rows: Real, step: Real) -> NDArray[np.bool_]:
    """Say of each row whether all its elements are small multiples of its step."""
    quotients = rows / step[:, None]
    whole = np.rint(quotients)
    near = np.abs(quotients - whole) <= WHOLE * 0.05 + 4e-7 * np.abs(whole)
    return np.asarray((near & (np.abs(whole) <= MOST_MULTIPLE)).all(axis=1))


def common_steps(first: float, second: float, most: int) -> list[tuple[int, int]]:
    """Return pairs of integers up to ``most`` whose ratio is about that of two steps, the best first.

    They are the convergents of the continued fraction, and multiples of them as large as fit.
    """
    found: list[tuple[int, int]] = []
    (p0, q0), (p1, q1), rest = (0, 1), (1, 0), first / second
    for _ in range(40):
        whole = int(np.floor(rest))
        (p0, q0), (p1, q1) = (p1, q1), (whole * p1 + p0, whole * q1 + q0)
        if max(p1, q1) > most:
            break
        if min(p1, q1) > 0:
            found.append((p1, q1))
        if rest - whole < 1e-9:
            break
        rest = 1 / (rest - whole)
    if not found:
        return [(most, 1) if first > second else (1, most)]
    for denominator in (most, most - 1, most // 2, most // 3, most // 5):
        scaled = (
            (denominator, round(denominator * second / first))
            if first > second
            else (
                round(denominator * first / second),
                denominator,
            )
        )
        if min(scaled) > 0:
            found.append(scaled)
    return sorted(
        set(found), key=lambda pair: (abs(pair[0] * second - pair[1] * first) / (pair[0] * second), max(pair))
    )
