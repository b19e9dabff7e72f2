"""Levels of what a softmax reads, chosen by the error of the softmax.

A softmax knows differences alone, and of these only the small ones: what lies 10 below the largest of its row
has a weight of 5e-5. So the counts begin at zero a certain range below the largest argument, all below is
silent, and least squares over the probabilities decides how wide the range is: a wide one takes in all that
has any weight, a narrow one has fine steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InternalError
from snnc.ir.ann import (
    AnnGraph,
    AnnNode,
    Constant,
    Convolution,
    InnerSoftmax,
    Levelled,
    Linear,
    Pointwise,
)
from snnc.ir.channels import per_channel
from snnc.ir.counts import LARGEST_COUNT
from snnc.ir.function import IDENTITY
from snnc.ir.graph import FloatArray, Shape
from snnc.numerics.step_functions import Levels, step_function

Reals = NDArray[np.float64]

RANGES = np.exp2(np.arange(0, 6.25, 0.25))
"""Ranges that are tried: from 1, within which nothing is unlikely, to 64."""

SHIFTED = "Sub(x, c0)"
"""The program of an argument that is sent: a softmax does not change with it."""

TOLERATED = 0.1
"""Largest error of a softmax by the levels of its arguments that is passed over, as a share of its power."""

BELOW = 20
"""How far below all counts an argument is masked: its weight is exp(-20) of one that is silent."""

MOST_VALUES = 2_000_000
"""Arguments by which the range is chosen."""


@dataclass(frozen=True, slots=True)
class ArgumentLevels:
    """Counts ``N = clip(round((x - zero) / step), 0, span)`` of the arguments of a softmax.

    Attributes:
        zero: what silence stands for.
        step: of one count.
        error: of the softmax, the share of its power.
    """

    zero: float
    step: float
    error: float


def rows_enough(shape: Shape) -> int:
    """Return how many rows of arguments of a shape are to be looked at."""
    return max(1, MOST_VALUES // math.prod(shape))


def argument_levels(x: FloatArray, axis: int, span: int) -> ArgumentLevels:
    """Return the levels of arguments with the least squared error of the softmax.

    Args:
        x: (rows, ...) float32, arguments; :func:`rows_enough` says how many.
        axis: along which the softmax is.
        span: the largest count.
    """
    wide = np.asarray(x, np.float64)
    wanted = _softmax(wide, axis)
    top = float(wide.max())
    power = float(np.square(wanted).sum())
    # Rows may lie far apart: the lowest largest argument of a row must be reached, too.
    spread = top - float(wide.max(axis=axis).min())
    best = ArgumentLevels(top - 1, 1 / span, np.inf)
    for width in (*RANGES, *(spread + RANGES)):
        step = float(width) / span
        counts = np.clip(np.rint((wide - (top - width)) / step), 0, span)
        error = float(np.square(_softmax(counts * step, axis) - wanted).sum())
        if error / power < best.error:
            best = ArgumentLevels(top - float(width), step, error / power)
    return best


def _softmax(x: Reals, axis: int) -> Reals:
    exponential = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(exponential / exponential.sum(axis=axis, keepdims=True))


def is_argument(node: AnnNode) -> TypeGuard[Pointwise]:
    """Say whether a node only sends a linear value, so that it may send it with another zero."""
    return isinstance(node, Pointwise) and node.program in (IDENTITY.program, SHIFTED)


def with_argument_levels(
    node: Pointwise, levels: ArgumentLevels, span: int, low: FloatArray, high: FloatArray
) -> Pointwise:
    """Return what sends an argument with the levels that were chosen for it.

    Args:
        node: as :func:`is_argument` says.
        levels: chosen.
        span: the largest count.
        low: (channels,) the least of what it reads.
        high: (channels,) the largest.
    """
    chosen = node.with_(program=SHIFTED, constants=np.full((1, 1), levels.zero, np.float32))
    step = np.full(node.channels, levels.step, np.float32)
    table = step_function(chosen.function, Levels(step, 0, span), low, high)
    if isinstance(table, int):
        raise InternalError(f"{node.name!r} rises, but crosses a level twice")
    return chosen.with_(
        step=step,
        lowest=0,
        highest=span,
        breakpoints=table.breakpoints,
        step_values=table.step_values,
    )


def with_softmax_levels(node: InnerSoftmax, span: int) -> Levelled:
    """Return a softmax whose counts are fine enough for a uniform row, whatever the levels of others are.

    Args:
        node: the softmax.
        span: ``T M`` of the others.
    """
    highest = min(LARGEST_COUNT, max(span, 4 * node.shape[node.axis]))
    step = np.full(node.channels, 1 / highest, np.float32)
    return node.with_(step=step, lowest=0, highest=highest)


def may_mask(graph: AnnGraph, node: Pointwise) -> bool:
    """Say whether constants are added to what a node sends, so low that they may mask it."""
    before = graph[node.inputs[0]]
    added = [graph[name] for name in before.inputs if isinstance(graph[name], Constant)]
    values = [constant.values for constant in added if isinstance(constant, Constant)]
    if isinstance(before, Convolution | Linear):
        values.append(before.bias)
    return any(value.min() < -BELOW for value in values)


def masks_within_reach(
    graph: AnnGraph, node: Pointwise, levels: ArgumentLevels, x: FloatArray
) -> dict[str, AnnNode]:
    """Return constants that mask arguments with values that integers hold, by name.

    Exporters write -1e4 or less for what attention must not see. Any value that leaves an argument far below
    the others does the same.

    Args:
        graph: the network.
        node: what sends the arguments.
        levels: chosen for it.
        x: (rows, *shape), what it reads.
    """
    found: dict[str, AnnNode] = {}
    before = graph[node.inputs[0]]
    if isinstance(before, Convolution | Linear) and graph.read_once(before.name):
        rest = float((x - per_channel(before.bias, x.ndim - 1)).max())
        low = np.float32(levels.zero - BELOW - max(rest, levels.zero))
        if before.bias.min() < low:
            found[before.name] = before.with_(bias=np.maximum(before.bias, low))
    for name in before.inputs:
        constant = graph[name]
        if not isinstance(constant, Constant) or len(graph.consumers[name]) > 1:
            continue
        rest = float((x - constant.values).max())
        low = np.float32(levels.zero - BELOW - max(rest, levels.zero))
        if constant.values.min() < low:
            found[name] = constant.with_(values=np.maximum(constant.values, low))
    return found
