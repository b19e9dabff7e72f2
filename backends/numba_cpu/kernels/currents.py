"""Currents that are computed elsewhere, how currents are added to others, and those of wide integers.

What a band is and when it is worked on, :mod:`snnc.backends.numba_cpu.kernels.stage` says.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.numba_cpu.codegen.micro import add_floats, add_words
from snnc.backends.numba_cpu.codegen.vector import call_of
from snnc.backends.numba_cpu.kernels.records import Stage, Term, routine
from snnc.backends.numba_cpu.machine.cache import Routine, kernel

Array = NDArray[Any]

call_add = call_of(4)


@kernel
def multiply_wide(given: Array, weight: Array, out: Array) -> None:
    """Write ``out[p, o] = sum_i given[p, i] weight[i, o]``, whose partial sums may wrap.

    Args:
        given: (pixels, at least inputs) integers of at most 32 bits.
        weight: (inputs, padded outputs) int32.
        out: (pixels, padded outputs) int32, which holds the sums.
    """
    for p in range(out.shape[0]):
        to = out[p]
        to[:] = 0
        for i in range(weight.shape[0]):
            value, row = np.int32(given[p, i]), weight[i]
            if value != 0:
                for o in range(to.size):
                    to[o] += np.int32(value * row[o])


@cache
def adding(floats: bool) -> Routine:
    """Return what adds ``times`` times ``16 * count`` currents to as many at ``target``."""

    def add(target: int, source: int, times: int, count: int) -> None:
        if floats:
            add_floats(target, source, times, count)
        else:
            add_words(target, source, times, count)

    return Routine(add, "floats" if floats else "words")


@routine
def add_currents(
    stage: Stage,
    term: Term,
    image: int,
    t0: int,
    steps: int,
    y0: int,
    rows: int,
    current: int,
    frame: int,
    fresh: int,
    begun: int,
) -> None:
    """Add currents that were computed elsewhere."""
    pixel = stage.channels * 4
    line = stage.columns * pixel
    source = term.source + image * term.source_image + y0 * stage.width * pixel
    for t in range(steps):
        for row in range(rows):
            at = current + t * frame + row * line + stage.halo * pixel
            read = source + (t0 + t) * term.source_step + row * stage.width * pixel
            call_add(stage.add, at, read, 1, stage.width * stage.channels // 16)
