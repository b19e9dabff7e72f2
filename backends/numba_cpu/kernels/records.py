"""What the kernels know of a layer: tables of 64-bit numbers, most of them addresses, strides and sizes.

A kernel reads fields by name and knows no Python object, so that it is compiled once for all layers. It calls
others by the addresses that the fields hold, so that only what a network needs is compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import from_dtype
from numpy.typing import NDArray

from snnc.backends.numba_cpu.codegen.vector import element_of
from snnc.backends.numba_cpu.machine.cache import Routine


def _record(*names: str) -> np.dtype[np.void]:
    return np.dtype([(name, np.int64) for name in names])


STAGE = _record(
    "run",  # address of the routine of a band, see stage
    "own_terms",  # address of the first of its terms
    "terms",
    "add",  # address of the routine that adds currents to others, see currents
    "fire_band",  # address of the routine that lets the neurons of a band fire, or of the one that
    "write",  # writes its currents, where nothing fires
    "charge",  # address of the routine that ends an accumulation, where neurons fire behind it
    "steps",  # T + K
    "input_steps",  # T
    "unchanging",  # 1: all input is the same in each step with input
    "floats",  # 1: currents and potentials are float32
    "accumulate",  # 1: all input is summed over the steps before anything else happens
    "height",  # of the output
    "width",
    "channels",  # padded
    "band_rows",
    "band_steps",
    "columns",  # of a row of the scratch currents
    "halo",  # spare columns on the left
    "current",  # scratch: address of currents
    "constant",  # scratch: address of the currents that are the same in each step with input, or 0
    "potential",  # scratch: addresses of potentials and counts
    "count",
    "fire",  # address of the routine of its neurons, see firing; 0 where nothing fires
    "spike_bytes",  # of one of its spikes, see SPIKE_BYTES
    "parameters",  # address of neurons.PARAMETERS
    "settings",  # address of neurons.SETTINGS
    "zeros",  # address of 64 bytes
    "output",  # address of the spikes, or of the currents where nothing fires
    "output_pixel",  # bytes
    "output_image",  # bytes from image to image
    "output_step",  # bytes from step to step
    "keep",  # address of the routine that keeps final states, or 0
    "final_count",  # address of counts to keep
    "final_potential",  # address of potentials to keep, or 0
)
"""What the kernel knows of a stage."""

SPIKE_BYTES = {"units": 1, "twos": 1, "bytes": 1, "words": 2, "divided": 1, "floats": 4}
"""What a spike of each kind of neuron takes."""

TERM = _record(
    "kind",  # see TERM_KINDS
    "add",  # address of the routine of this kind, see currents
    "variants",  # address of the first of its variants, of events
    "constant",  # 1: the source is the same in each step with input
    "source",  # address of the spikes
    "source_image",  # bytes from image to image
    "source_step",  # bytes from step to step
    "source_pixel",  # bytes
    "height",  # of the input
    "width",
    "channels",  # padded
    "kernel_height",
    "kernel_width",
    "stride_down",
    "stride_right",
    "pad_top",
    "pad_left",
    "dilation_down",
    "dilation_right",
    "weight",  # address
    # Events
    "levels",  # largest magnitude of a spike
    "signs",  # 2 where spikes may be negative
    "list_band",  # address of the routine that lists the spikes of a band
    "list_column",  # address of the routine that lists the spikes of a column
    "add_phase",  # address of the routine that adds the events of a phase
    "joined_rows",  # kernel rows whose events make one list
    "kept",  # 1: the weight stays in the cache from band to band
    "prefetched",  # scratch: 8 bytes that nobody reads
    "tiles",  # groups of outputs
    "tile_bytes",  # from the currents of one tile to those of the next
    "table",  # address of micro_events.positions_by_mask
    "entries",  # scratch: lists of events
    "negative_events",  # scratch: the same of negative spikes
    "taken_index",
    "index",  # scratch: per step and column, where the list of each row begins
    # Events or products
    "most_spikes",  # of a row of the input in a step, beyond which products are faster
    "add_events",  # address of the routine that adds events
    "dense",  # address of the record of the same synapse as products
    # Products
    "multiply",  # address of the routine that multiplies a row
    "pad",  # address of the routine that copies the input with its borders
    "direct",  # 1: the input has no borders, and is read where it lies
    "padded",  # scratch: the input with its borders
    "padded_pixel",  # bytes, twice those of the source where bytes become words
    "padded_row",  # bytes
    "padded_rows",  # rows held per step
    "offset",  # added to each byte
    "over_steps",  # 1: the steps take the place of pixels, for outputs of one pixel
    "pixels",  # that are multiplied together
    "outputs",  # that are multiplied together; of channels that read only themselves, how many
    "sections",  # parts of the window between which the 16-bit sums are emptied
    "section_bytes",  # of weight
    "runs",  # address of the offsets of the runs, (sections, runs)
    "run_count",  # per section
    "input_groups",  # per run
    "starts",  # address of what the sums begin with, (tiles, sections)
    "tile_places",  # address of (spike, current) offsets per tile
    "complete",  # 1: every current of the band is written
    "zeros",  # address of zeros
    "tile_sizes",  # address of what configures tile registers; of step_tiles, for each number of steps
    "places",  # scratch: addresses of currents and of spikes whose sums are made together, and sums
)
"""What the kernel knows of a term; the scratch memory of a term holds one band."""

TERM_KINDS = (
    "events",
    "bytes",  # products of bytes
    "tiles",  # the same in tile registers
    "step_tiles",  # the same, several steps in one
    "words",  # products of int16
    "channel_bytes",  # depthwise and identity: sums fit 16 bits
    "channel_words",
    "channel_wide",  # spikes are int16
    "floats",  # products of float32
    "channel_floats",
    "current",  # currents computed elsewhere
)

VARIANT = _record(
    "blocks",  # of a row of the weight
    "scatter",  # address of the routine that adds the rows
    "lines",  # cache lines of a tile
    "offsets",  # address
    "weight",  # address
    "joined_bytes",  # of weight, from one group of joined rows to the next
    "tile_bytes",  # of weight
)
"""How an input column scatters: its residue modulo the stride decides which columns it reaches."""

EVENTS, TILES, STEP_TILES, CHANNEL_WIDE, CHANNEL_FLOATS, CURRENT = (
    TERM_KINDS.index(kind)
    for kind in ("events", "tiles", "step_tiles", "channel_wide", "channel_floats", "current")
)

Stage = Any
"""A record of :data:`STAGE`, as a kernel sees it."""
Term = Any
"""A record of :data:`TERM`."""
Records = NDArray[np.void]

stage_at, term_at, variant_at = element_of(STAGE), element_of(TERM), element_of(VARIANT)


def routine(function: Callable[..., None]) -> Routine:
    """Make a function of records and 64-bit integers a routine; annotations tell which is which."""
    return Routine(function, kinds={"Stage": from_dtype(STAGE), "Term": from_dtype(TERM)})
