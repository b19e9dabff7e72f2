"""Integers of functions of spike counts: multipliers, tables and epsilons that stand for real numbers.

A count ``N`` stands for ``s N``, where ``s`` is the step of its levels. What a function of counts gives is a
count, too, in steps of its own: of a product ``s_a N_a s_b N_b`` the count is ``N_a N_b s_a s_b / s_y``. The
quotient of steps becomes ``multiplier / 2^shift`` with as many bits as int64 leaves beside the largest sum,
and the steps of the result are corrected by what rounding made of it. So no error of scale is left, and
nothing overflows for any counts within the bounds.

Source of the multiplier: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, section 2.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from snnc.ir.counts import LARGEST_COUNT, MOST_SHIFT, ROOT_BITS
from snnc.ir.graph import IntArray

MOST = 2**62
"""Nothing that is computed reaches beyond: half of what int64 holds."""

LEAST_MULTIPLIER = 2**12
"""With fewer bits a multiplier says little of the quotient that it stands for, unless it is exact."""


class UnboundedError(ValueError):
    """A function of counts does not fit 64 bits; the message says why."""


@dataclass(frozen=True, slots=True)
class Requantiser:
    """``multiplier / 2^shift`` in the place of a quotient of steps.

    Attributes:
        multiplier: 1 <= multiplier < 2^31.
        shift: 0 <= shift <= 62.
        step: what one count of the result stands for, by these.
    """

    multiplier: int
    shift: int
    step: float


def requantiser(of_sum: float, of_result: float, largest: int) -> Requantiser:
    """Bring sums of products to the steps of a result.

    Args:
        of_sum: what a sum of 1 stands for, positive.
        of_result: what a count of the result should stand for, positive.
        largest: magnitude of the sums.

    Raises:
        UnboundedError: sums are too large for any multiplier.
    """
    quotient = of_sum / of_result
    if quotient * largest < 0.5:
        return Requantiser(1, MOST_SHIFT, of_result)  # so small a quotient makes nothing but zeros
    for shift in range(MOST_SHIFT, -1, -1):
        multiplier = round(math.ldexp(quotient, shift))
        if multiplier < 2**31 and multiplier * largest + (1 << shift >> 1) < MOST:
            if multiplier < LEAST_MULTIPLIER and multiplier != math.ldexp(quotient, shift):
                raise UnboundedError(f"sums up to {largest} leave no room for a multiplier in 64 bits")
            return Requantiser(multiplier, shift, of_sum * 2.0**shift / multiplier)
    raise UnboundedError(f"sums up to {largest} leave no room for a multiplier in 64 bits")


def exponential_table(step: float, span: int, size: int, levels: int) -> IntArray:
    """Return ``2^b exp(-step k)`` for distances ``k`` of counts, as far as they occur or are not 0, int32.

    Args:
        step: what one count stands for, positive.
        span: the largest distance of two counts.
        size: how many values a sum is of.
        levels: the count that stands for 1.

    Raises:
        UnboundedError: the sum is of too many values.
    """
    bits = ((2**31 - 1) // max(size, levels)).bit_length() - 1
    if bits < 8:
        raise UnboundedError(f"a softmax over {size} values leaves no precision in 32 bits")
    values = np.rint(2.0**bits * np.exp(-step * np.arange(span + 1, dtype=np.float64)))
    last = int(np.argmax(values == 0)) if (values == 0).any() else span
    return values[: last + 1].astype(np.int32)


@dataclass(frozen=True, slots=True)
class Normaliser:
    """The integers of a normalisation; see :class:`snnc.ir.counts.CountNormalisation`.

    Attributes:
        epsilon: >= 1.
        factor: >= 1.
        step: what one count of the result stands for, by the factor.
    """

    epsilon: int
    factor: int
    step: float


def normaliser(
    step: float, epsilon: float, of_result: float, size: int, largest: int, *, centred: bool
) -> Normaliser:
    """Return epsilon and factor in units of counts.

    Args:
        step: what one count that is read stands for.
        epsilon: added to the variance of what the counts stand for.
        of_result: what a count of the result should stand for.
        size: how many values are normalised together.
        largest: magnitude of the counts that are read.
        centred: whether the mean is subtracted.

    Raises:
        UnboundedError: sums of squares leave 64 bits.
    """
    whole = max(1, round(min(epsilon * (size / step) ** 2, float(MOST))))
    factor = max(1, round(2**ROOT_BITS / of_result))
    squares = size * size * largest * largest + whole
    reach = size * largest * (2 if centred else 1) * factor
    if squares << (2 * ROOT_BITS) >= MOST or reach + math.isqrt(squares << (2 * ROOT_BITS)) >= MOST:
        raise UnboundedError(
            f"the squares of {size} counts up to {largest}, and an epsilon of {epsilon:g}, leave 64 bits"
        )
    return Normaliser(whole, factor, 2**ROOT_BITS / factor)


def softmax_levels(step: float) -> int:
    """Return the count that stands for 1, of steps of about this size."""
    return max(1, min(LARGEST_COUNT, round(1 / step)))
