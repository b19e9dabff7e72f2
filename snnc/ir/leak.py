"""Decays in fixed point: what remains of a potential or of a filtered current after a step.

Before quantisation a decay is a float32 factor, ``v d``. In integers it is a multiple of ``2^-15`` and the
product is rounded toward zero, ``trunc(v d / 2^15)``: by rounding down, a potential below zero would stick
at -1.
"""

from __future__ import annotations

from math import prod

import numpy as np

from snnc.ir.graph import IntArray, NumberArray

DECAY_BITS = 15
WHOLE = 2**DECAY_BITS
"""The integer decay that keeps everything."""

MOST_FRACTION_BITS = 16
MOST_REFRACTORY = 2**15 - 1


def fixed_point(decay: NumberArray) -> IntArray:
    """Return float32 decays, (channels,), as multiples of ``2^-15``, half to even."""
    return np.rint(decay.astype(np.float64) * WHOLE).astype(np.int32)


def decay_problem(decay: NumberArray | None, channels: int, integer: bool, what: str) -> str | None:
    """Say why a vector holds no decays, one for each channel."""
    if decay is None:
        return None
    if prod(decay.shape) != channels or decay.ndim != 1:
        return f"the {what} {decay.shape} does not fit {channels} channels"
    if (decay.dtype.kind == "i") != integer:
        return f"the {what} is an integer where potentials are, and a float where these are"
    whole = WHOLE if integer else 1
    if not (decay.min() >= 0 and decay.max() <= whole):  # so that NaN fails
        return f"the {what} leaves 0 to {whole}"
    return None


def fraction_problem(fraction_bits: int, integer: bool) -> str | None:
    """Say why potentials have no such fraction."""
    if not 0 <= fraction_bits <= MOST_FRACTION_BITS or (fraction_bits and not integer):
        return f"{fraction_bits} fraction bits are not 0 to {MOST_FRACTION_BITS} of an integer potential"
    return None


def leaky_bound(
    steps: int,
    current: int,
    bias: int,
    decay: int,
    synapse_decay: int | None,
    fraction_bits: int = 0,
    start: int = 0,
) -> tuple[int, int]:
    """Return how far a potential and its filtered current get in a run, from which nothing is taken.

    What rounds toward zero in every step never exceeds the same recurrence of the magnitudes.

    Args:
        steps: of the run.
        current: largest magnitude of a step's current, in its own unit.
        bias: likewise, in units of the potential.
        decay: the largest of the population, in units of ``2^-15``.
        synapse_decay: likewise; ``None`` for no filter.
        fraction_bits: by which the potential is finer than the current.
        start: largest magnitude before each step at least: where the potential begins or is reset to.
    """
    potential, filtered, arriving = start, 0, current << fraction_bits
    for _ in range(steps):
        filtered = arriving if synapse_decay is None else (filtered * synapse_decay >> DECAY_BITS) + arriving
        reached = (max(potential, start) * decay >> DECAY_BITS) + filtered + bias
        potential = max(potential, reached)
    return potential, filtered
