"""Compiling ahead: kernels before there is any network that needs them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from snnc.backends.numba_cpu.codegen import micro_products, neurons
from snnc.backends.numba_cpu.kernels import counting
from snnc.backends.numba_cpu.kernels.currents import add_currents
from snnc.backends.numba_cpu.kernels.event_currents import event_fields, listing, scattering
from snnc.backends.numba_cpu.kernels.firing import firing
from snnc.backends.numba_cpu.kernels.product_currents import multiplying, multiplying_channels, product_fields
from snnc.backends.numba_cpu.kernels.records import STAGE
from snnc.backends.numba_cpu.kernels.stage import keep_states, run_stages, stage_fields
from snnc.backends.numba_cpu.kernels.switching import add_switching
from snnc.backends.numba_cpu.kernels.tile_currents import tile_fields
from snnc.backends.numba_cpu.layout.event_layout import SCATTERED_BLOCKS, SLIDING_BLOCKS, SLIDING_TAPS
from snnc.backends.numba_cpu.layout.product_layout import TILE_KINDS
from snnc.backends.numba_cpu.machine import tiles
from snnc.backends.numba_cpu.machine.cache import Routine


def compile_ahead() -> int:
    """Compile and keep all kernels of stages, for every size and precision, and the common ones beside them.

    Those of rare nodes (functions of counts, populations with step functions) are left to who needs them.

    Returns:
        How many there are.
    """
    addresses = {routine.address for routine in _routines()}
    for fires, accumulates in ((True, True), (False, False)):
        addresses |= set(stage_fields(fires, accumulates, floats=False).values())
    addresses |= set(event_fields().values())
    addresses |= set(product_fields(channels=False).values()) | set(product_fields(channels=True).values())
    if tiles.usable():
        addresses |= {address for kind in TILE_KINDS for address in tile_fields(kind).values()}
    run_stages(np.zeros(0, STAGE), 0, 1, 0)
    nothing, spikes = np.zeros(0, np.int64), np.zeros(0, np.int8)
    counting.pool(spikes, np.zeros(9, np.int64), np.zeros(8, np.int64), True, spikes)
    counting.tally(spikes.reshape(0, 0, 0), 0, nothing, nothing, nothing)
    return len(addresses) + 3


def _routines() -> Iterator[Routine]:
    """Return the routines that exist in several kinds."""
    yield from (add_currents, add_switching, keep_states)
    yield from map(firing, neurons.KINDS)
    yield from map(listing, (1, 2))
    yield from (scattering(blocks, 1) for blocks in SCATTERED_BLOCKS)
    yield from (scattering(blocks, SLIDING_TAPS) for blocks in SLIDING_BLOCKS)
    sizes = product(micro_products.KINDS, micro_products.PIXELS, micro_products.WIDTHS)
    yield from (multiplying(*size) for size in sizes)
    for kind in micro_products.CHANNEL_KINDS:
        for channels in (micro_products.CHANNEL_LANES, 2 * micro_products.CHANNEL_LANES):
            yield multiplying_channels(kind, micro_products.channels_together(kind, channels))
