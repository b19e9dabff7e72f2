"""The routines of the neurons, one for each kind; see ``codegen.neurons``."""

from __future__ import annotations

from functools import cache

from snnc.backends.numba_cpu.codegen.neurons import fire_row
from snnc.backends.numba_cpu.machine.cache import Routine


@cache
def firing(kind: str) -> Routine:
    """Return what lets sixteen channels of a row of pixels fire.

    Args:
        kind: one of :data:`~snnc.backends.numba_cpu.codegen.neurons.KINDS`.
    """

    def fire(
        current: int,
        current_frame: int,
        pixel: int,
        potential: int,
        count: int,
        start_potential: int,
        start_count: int,
        start_pixel: int,
        spikes: int,
        spike_frame: int,
        spike_pixel: int,
        pixels: int,
        steps: int,
        input_steps: int,
        parameters: int,
        row: int,
        settings: int,
    ) -> None:
        fire_row(
            kind,
            current,
            current_frame,
            pixel,
            potential,
            count,
            start_potential,
            start_count,
            start_pixel,
            spikes,
            spike_frame,
            spike_pixel,
            pixels,
            steps,
            input_steps,
            parameters,
            row,
            settings,
        )

    return Routine(fire, kind)
