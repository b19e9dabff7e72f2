"""One stage of a network: some synapses, the sum of their currents, and the population that it drives.

A stage works through its output in bands: some rows of one image, for some steps at a time. A band's
currents lie in scratch memory that stays in the cache::

    current[step][row][column][channel]     int32, with spare columns left and right

Each *term* adds its share to the currents of the band; then the neurons of the band integrate and
fire, and their potentials wait for the next steps. No current is ever stored for the whole image.

Spikes are int8 (or int16) arrays ``[step][image][row][column][channel]``; rows of all arrays follow
each other without gaps, and the number of channels is padded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.numba_cpu import micro, neurons
from snnc.backends.numba_cpu.cache import kernel
from snnc.backends.numba_cpu.micro import (
    add_words,
    clear,
    copy_shifted,
    copy_widened,
    fill,
    get,
    keep_apart,
    list_column,
    multiply_bytes,
    multiply_words,
    prefetch,
)
from snnc.backends.numba_cpu.neurons import fire_bytes, fire_divided, fire_twos, fire_units, fire_words
from snnc.backends.numba_cpu.vector import I8, I16, I32


def _record(*names: str) -> np.dtype[np.void]:
    return np.dtype([(name, np.int64) for name in names])


STAGE = _record(
    "images",
    "steps",  # T + K
    "driven",  # T
    "unchanging",  # 1: all input is the same in each driven step
    "accumulate",  # 1: all input is summed over the steps before anything else happens
    "height",  # of the output
    "width",
    "channels",  # padded
    "band_rows",
    "band_steps",
    "columns",  # of a row of the scratch currents
    "halo",  # spare columns on the left
    "current",  # scratch: address of currents
    "constant",  # scratch: address of the currents that are the same in each driven step, or 0
    "potential",  # scratch: addresses of potentials and counts
    "count",
    "neuron",  # which kind fires, see NEURON_KINDS
    "parameters",  # address of neurons.PARAMETERS
    "settings",  # address of neurons.SETTINGS
    "output",  # address of the spikes, or of the currents where nothing fires
    "output_pixel",  # bytes
    "output_image",  # bytes from image to image
    "output_step",  # bytes from step to step
    "final_potential",  # addresses of potentials and counts to keep, or 0
    "final_count",
)
"""What the kernel knows of a stage."""

NEURON_KINDS = ("none", "units", "twos", "bytes", "words", "divided")

TERM = _record(
    "kind",  # see TERM_KINDS
    "constant",  # 1: the source is the same in each driven step
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
    "joined_rows",  # kernel rows whose events make one list
    "ahead",  # cache lines to ask for while a tile is worked on
    "tiles",  # groups of outputs
    "tile_bytes",  # from the currents of one tile to those of the next
    "table",  # address of micro.positions_by_mask
    "entries",  # scratch: lists of events
    "taken_entries",  # scratch: the same of negative spikes
    "taken_index",
    "index",  # scratch: per step and column, where the list of each row begins
    # Products
    "padded",  # scratch: the input with its borders
    "padded_pixel",  # bytes, twice those of the source where bytes become words
    "padded_row",  # bytes
    "padded_rows",  # rows held per step
    "offset",  # added to each byte
    "over_steps",  # 1: the steps take the place of pixels, for outputs of one pixel
    "sections",  # parts of the window between which the 16-bit sums are emptied
    "section_bytes",  # of weight
    "runs",  # address of the offsets of the runs, (sections, runs)
    "run_count",  # per section
    "input_groups",  # per run
    "starts",  # address of what the sums begin with, (tiles, sections)
    "tile_places",  # address of (spike, current) offsets per tile
    "complete",  # 1: every current of the band is written
    "zeros",  # address of zeros
)
"""What the kernel knows of a term; the scratch memory of a term holds one band."""

TERM_KINDS = (
    "events",
    "bytes",  # products of bytes
    "words",  # products of int16
    "channel_bytes",  # depthwise and identity: sums fit 16 bits
    "channel_words",
    "channel_wide",  # spikes are int16
    "current",  # currents computed elsewhere
)

VARIANT = _record("blocks", "offsets", "weight", "joined_bytes", "tile_bytes")
"""How an input column scatters: its residue modulo the stride decides which columns it reaches."""

EVENTS, BYTES, WORDS, CHANNEL_BYTES, CHANNEL_WORDS, CHANNEL_WIDE, CURRENT = range(7)
NONE, FIRE_UNITS, FIRE_TWOS, FIRE_BYTES, FIRE_WORDS, FIRE_DIVIDED = range(6)

scatter1, scatter2, scatter3, scatter4, scatter5, scatter6 = map(micro.scatter_row, range(1, 7))
multiply_channel_bytes = micro.multiply_channels(I8, I16)
multiply_channel_words = micro.multiply_channels(I8, I32)
multiply_channel_wide = micro.multiply_channels(I16, I32)

Record = Any
"""A record of one of the types above."""
Records = NDArray[np.void]


@kernel
def _scatter(
    blocks: int,
    current: int,
    pixel: int,
    offsets: int,
    columns: int,
    added: int,
    added_bytes: int,
    taken: int,
    taken_bytes: int,
    step: int,
    weight: int,
) -> None:
    keep_apart()
    if blocks == 1:
        scatter1(current, pixel, offsets, columns, added, added_bytes, taken, taken_bytes, step, weight)
    elif blocks == 2:
        scatter2(current, pixel, offsets, columns, added, added_bytes, taken, taken_bytes, step, weight)
    elif blocks == 3:
        scatter3(current, pixel, offsets, columns, added, added_bytes, taken, taken_bytes, step, weight)
    elif blocks == 4:
        scatter4(current, pixel, offsets, columns, added, added_bytes, taken, taken_bytes, step, weight)
    elif blocks == 5:
        scatter5(current, pixel, offsets, columns, added, added_bytes, taken, taken_bytes, step, weight)
    elif blocks == 6:
        scatter6(current, pixel, offsets, columns, added, added_bytes, taken, taken_bytes, step, weight)


@kernel
def _list_band(term: Record, image: int, t0: int, steps: int, top: int, bottom: int) -> None:
    """List the spikes of the rows from ``top`` to ``bottom``: per step, column and row."""
    keep_apart()
    chunks = term.channels // micro.CHUNK
    row_bytes = term.width * term.channels
    rows = bottom - top
    phase = top % term.joined_rows
    added, taken = term.entries, term.taken_entries
    place = 0
    for t in range(steps):
        at = term.source + image * term.source_image + (t0 + t) * term.source_step + top * row_bytes
        for x in range(term.width):
            pixel = at + x * term.channels
            added = list_column(
                pixel,
                row_bytes,
                rows,
                chunks,
                term.levels,
                1,
                phase,
                term.joined_rows,
                term.table,
                added,
                term.index + place,
            )
            if term.signs == 2:
                taken = list_column(
                    pixel,
                    row_bytes,
                    rows,
                    chunks,
                    term.levels,
                    -1,
                    phase,
                    term.joined_rows,
                    term.table,
                    taken,
                    term.taken_index + place,
                )
            place += 8 * (rows + 1)


@kernel
def _add_events(
    stage: Record, term: Record, variants: Records, image: int, t0: int, steps: int, y0: int, rows: int
) -> None:
    """Let every spike add its rows of the weight to the currents that it reaches."""
    keep_apart()
    top = max(0, y0 * term.stride_down - term.pad_top)
    reach = (term.kernel_height - 1) * term.dilation_down
    bottom = min(term.height, (y0 + rows - 1) * term.stride_down - term.pad_top + reach + 1)
    if bottom <= top:
        return
    _list_band(term, image, t0, steps, top, bottom)
    for ky0 in range(0, term.kernel_height, term.joined_rows):
        for tile in range(term.tiles):
            # Rows of one phase read the same part of the weight, which then stays in the cache.
            for phase in range(term.joined_rows):
                _add_phase(stage, term, variants, steps, y0, rows, top, bottom, ky0, tile, phase)


@kernel
def _add_phase(
    stage: Record,
    term: Record,
    variants: Records,
    steps: int,
    y0: int,
    rows: int,
    top: int,
    bottom: int,
    ky0: int,
    tile: int,
    phase: int,
) -> None:
    """Add the events of one tile to the rows of the band whose first input row has a certain phase."""
    keep_apart()
    pixel = stage.channels * 4
    line = stage.columns * pixel
    frame = 0 if stage.accumulate else stage.band_rows * line
    part = ky0 // term.joined_rows
    joined = min(term.joined_rows, term.kernel_height - ky0)
    column = 8 * (bottom - top + 1)
    parts = steps * rows * term.joined_rows
    done = phase * steps * rows * term.ahead // parts
    for t in range(steps):
        for row in range(rows):
            # The next tile's rows lie behind this one's; by the time they are needed they are here.
            share = ((phase * steps + t) * rows + row + 1) * term.ahead // parts
            for residue in range(term.stride_right):
                variant = variants[residue]
                place = part * variant.joined_bytes + (tile + 1) * variant.tile_bytes + done * 64
                prefetch(variant.weight + place, share - done)
            done = share
            first = (y0 + row) * term.stride_down - term.pad_top + ky0 * term.dilation_down
            # Entries count channels from the row of phase 0; the weight holds its rows twice but for one.
            shift = -first % term.joined_rows
            low, high = max(first, top), min(first + joined, bottom)
            if shift != phase or low >= high:
                continue
            for residue in range(term.stride_right):
                variant = variants[residue]
                x0 = (residue - term.pad_left) % term.stride_right
                if variant.blocks == 0 or x0 >= term.width:
                    continue
                at = stage.current + t * frame + row * line + tile * term.tile_bytes
                at += (stage.halo + (x0 + term.pad_left) // term.stride_right) * pixel
                weight = variant.weight + part * variant.joined_bytes + tile * variant.tile_bytes
                weight += shift * term.channels * variant.blocks * micro.BLOCK
                place = (t * term.width + x0) * column + (low - top) * 8
                count = (high - low) * 8
                _scatter(
                    variant.blocks,
                    at,
                    pixel,
                    variant.offsets,
                    (term.width - x0 + term.stride_right - 1) // term.stride_right,
                    term.index + place,
                    count,
                    term.taken_index + place if term.signs == 2 else term.index,
                    count if term.signs == 2 else 0,
                    column * term.stride_right,
                    weight,
                )


@kernel
def _pad(term: Record, image: int, t0: int, steps: int, y0: int, rows: int) -> None:
    """Copy the input of a band with its borders."""
    keep_apart()
    left = term.pad_left * term.padded_pixel
    inside = term.width * term.padded_pixel
    right = term.padded_row - left - inside
    height = (rows - 1) * term.stride_down + (term.kernel_height - 1) * term.dilation_down + 1
    for t in range(steps):
        source = term.source + image * term.source_image + (t0 + t) * term.source_step
        for row in range(height):
            y = y0 * term.stride_down - term.pad_top + row
            target = term.padded + (t * term.padded_rows + row) * term.padded_row
            if y < 0 or y >= term.height:
                fill(target, term.padded_row, term.offset)
                continue
            # The copy may run over into the border behind it, which is written afterwards.
            fill(target, left, term.offset)
            start = source + y * term.width * term.source_pixel
            if term.padded_pixel == term.source_pixel:
                copy_shifted(start, target + left, (inside + 15) // 16, term.offset)
            else:
                copy_widened(start, target + left, (inside + 31) // 32)
            if right > 0:
                fill(target + left + inside, right, term.offset)
    if term.over_steps:
        frame = term.padded_rows * term.padded_row
        fill(term.padded + steps * frame, -steps % micro.PIXELS * frame, term.offset)


@kernel
def _add_products(
    stage: Record, term: Record, steps: int, rows: int, current: int, frame: int, fresh: int
) -> None:
    """Multiply the padded input by the weight, whatever spiked; if ``fresh``, nothing is there to add to."""
    keep_apart()
    pixel = stage.channels * 4
    line = stage.columns * pixel
    step = term.padded_rows * term.padded_row
    advance = term.stride_right * term.padded_pixel
    frames, columns = steps, stage.width
    if term.over_steps:
        frames, columns = 1, steps
        pixel, advance = frame, step
    blocks = (columns + micro.PIXELS - 1) // micro.PIXELS
    sums = micro.OUTPUTS * 4  # bytes: two int16 or one int32 each
    for tile in range(term.tiles):
        spikes = term.padded + get(term.tile_places, 2 * tile)
        target = current + stage.halo * stage.channels * 4 + get(term.tile_places, 2 * tile + 1)
        for section in range(term.sections):
            place = tile * term.sections + section
            weight = term.weight + place * term.section_bytes
            start = term.starts + place * sums
            runs = term.runs + section * term.run_count * 8
            for t in range(frames):
                for row in range(rows):
                    at = target + t * frame + row * line
                    source = spikes + t * step + row * term.stride_down * term.padded_row
                    before, before_stride = at, pixel
                    if fresh and section == 0:
                        before, before_stride = term.zeros, 0
                    if term.kind == BYTES:
                        multiply_bytes(
                            at,
                            pixel,
                            before,
                            before_stride,
                            blocks,
                            source,
                            advance,
                            runs,
                            term.run_count,
                            term.input_groups,
                            weight,
                            start,
                        )
                    else:
                        multiply_words(
                            at,
                            pixel,
                            before,
                            before_stride,
                            blocks,
                            source,
                            advance,
                            runs,
                            term.run_count,
                            term.input_groups,
                            weight,
                        )


@kernel
def _add_channels(stage: Record, term: Record, steps: int, rows: int, current: int, frame: int) -> None:
    """Let every channel read only itself: depthwise convolutions and identities."""
    keep_apart()
    pixel = stage.channels * 4
    line = stage.columns * pixel
    step = term.padded_rows * term.padded_row
    advance = term.stride_right * term.padded_pixel
    size = 2 if term.kind == CHANNEL_WIDE else 1
    for t in range(steps):
        for row in range(rows):
            for c in range(0, term.channels, 16):
                at = current + t * frame + row * line + stage.halo * pixel + c * 4
                source = term.padded + t * step + row * term.stride_down * term.padded_row + c * size
                weight = term.weight + c * 2
                if term.kind == CHANNEL_BYTES:
                    multiply_channel_bytes(
                        at,
                        pixel,
                        source,
                        advance,
                        term.runs,
                        term.run_count,
                        weight,
                        term.channels * 2,
                        stage.width,
                    )
                elif term.kind == CHANNEL_WORDS:
                    multiply_channel_words(
                        at,
                        pixel,
                        source,
                        advance,
                        term.runs,
                        term.run_count,
                        weight,
                        term.channels * 2,
                        stage.width,
                    )
                else:
                    multiply_channel_wide(
                        at,
                        pixel,
                        source,
                        advance,
                        term.runs,
                        term.run_count,
                        weight,
                        term.channels * 2,
                        stage.width,
                    )


@kernel
def _add_currents(
    stage: Record, term: Record, image: int, t0: int, steps: int, y0: int, rows: int, current: int, frame: int
) -> None:
    """Add currents that were computed elsewhere."""
    keep_apart()
    pixel = stage.channels * 4
    line = stage.columns * pixel
    source = term.source + image * term.source_image + y0 * stage.width * pixel
    for t in range(steps):
        for row in range(rows):
            at = current + t * frame + row * line + stage.halo * pixel
            add_words(
                at,
                source + (t0 + t) * term.source_step + row * stage.width * pixel,
                1,
                stage.width * stage.channels // 16,
            )


@kernel
def _add_term(
    stage: Record,
    term: Record,
    variants: Records,
    image: int,
    t0: int,
    steps: int,
    y0: int,
    rows: int,
    current: int,
    frame: int,
    fresh: int,
) -> None:
    keep_apart()
    if term.kind == EVENTS:
        _add_events(stage, term, variants, image, t0, steps, y0, rows)
    elif term.kind == CURRENT:
        _add_currents(stage, term, image, t0, steps, y0, rows, current, frame)
    else:
        _pad(term, image, t0, steps, y0, rows)
        if term.kind in (BYTES, WORDS):
            _add_products(stage, term, steps, rows, current, frame, fresh)
        else:
            _add_channels(stage, term, steps, rows, current, frame)


@kernel
def _fire(
    stage: Record,
    current: int,
    image: int,
    t0: int,
    steps: int,
    driven: int,
    y0: int,
    rows: int,
    frame: int,
) -> None:
    """Let the neurons of a band integrate and fire."""
    keep_apart()
    pixel = stage.channels * 4
    size = 1 if stage.neuron in (FIRE_UNITS, FIRE_TWOS, FIRE_BYTES) else 2
    out = stage.output + image * stage.output_image + t0 * stage.output_step
    for row in range(rows):
        for c in range(0, stage.channels, neurons.LANES):
            at = current + (row * stage.columns + stage.halo) * pixel + c * 4
            state = row * stage.width * pixel + c * 4
            target = out + (y0 + row) * stage.width * stage.output_pixel + c * size
            if stage.neuron == FIRE_UNITS:
                fire_units(
                    at,
                    frame,
                    pixel,
                    stage.potential + state,
                    stage.count + state,
                    target,
                    stage.output_step,
                    stage.output_pixel,
                    stage.width,
                    steps,
                    driven,
                    stage.parameters + c * 4,
                    pixel,
                    stage.settings,
                )
            elif stage.neuron == FIRE_TWOS:
                fire_twos(
                    at,
                    frame,
                    pixel,
                    stage.potential + state,
                    stage.count + state,
                    target,
                    stage.output_step,
                    stage.output_pixel,
                    stage.width,
                    steps,
                    driven,
                    stage.parameters + c * 4,
                    pixel,
                    stage.settings,
                )
            elif stage.neuron == FIRE_BYTES:
                fire_bytes(
                    at,
                    frame,
                    pixel,
                    stage.potential + state,
                    stage.count + state,
                    target,
                    stage.output_step,
                    stage.output_pixel,
                    stage.width,
                    steps,
                    driven,
                    stage.parameters + c * 4,
                    pixel,
                    stage.settings,
                )
            elif stage.neuron == FIRE_WORDS:
                fire_words(
                    at,
                    frame,
                    pixel,
                    stage.potential + state,
                    stage.count + state,
                    target,
                    stage.output_step,
                    stage.output_pixel,
                    stage.width,
                    steps,
                    driven,
                    stage.parameters + c * 4,
                    pixel,
                    stage.settings,
                )
            else:
                fire_divided(
                    at,
                    frame,
                    pixel,
                    stage.potential + state,
                    stage.count + state,
                    target,
                    stage.output_step,
                    stage.output_pixel,
                    stage.width,
                    steps,
                    driven,
                    stage.parameters + c * 4,
                    pixel,
                    stage.settings,
                )


@kernel
def run_stage(stages: Records, terms: Records, variants: Records, part: int, parts: int) -> None:
    """Run a stage for all its images.

    Args:
        stages: (1,) :data:`STAGE`.
        terms: (terms,) :data:`TERM`.
        variants: (terms, stride) :data:`VARIANT`.
        part: which share of the bands to run.
        parts: in how many shares they are cut.
    """
    stage = stages[0]
    pixel = stage.channels * 4
    line = stage.columns * pixel
    for image in range(stage.images):
        for y0 in range(part * stage.band_rows, stage.height, parts * stage.band_rows):
            rows = min(stage.band_rows, stage.height - y0)
            _run_band(stage, terms, variants, image, y0, rows, line)


@kernel
def _run_band(
    stage: Record, terms: Records, variants: Records, image: int, y0: int, rows: int, line: int
) -> None:
    keep_apart()
    pixel = stage.channels * 4
    frame = 0 if stage.accumulate else stage.band_rows * line
    if stage.constant:
        # Over steps, all products of the one constant step go to the same place.
        fresh = terms[0].constant and terms[0].complete and not terms[0].over_steps
        if not fresh:
            clear(stage.constant, rows * line // 64)
        for k in range(len(terms)):
            if terms[k].constant:
                first = fresh if k == 0 else 0
                _add_term(stage, terms[k], variants[k], image, 0, 1, y0, rows, stage.constant, 0, first)
    if stage.neuron != NONE:
        start = stage.parameters + 4 * pixel
        for p in range(rows * stage.width):
            copy_shifted(start, stage.potential + p * pixel, pixel // 16, 0)
        clear(stage.count, rows * stage.width * pixel // 64)
    if stage.unchanging:
        # All input is constant, so the band needs no currents of its own but those of silence.
        _fire(stage, stage.constant, image, 0, stage.driven, stage.driven, y0, rows, 0)
        if stage.steps > stage.driven:
            clear(stage.current, rows * line // 64)
            _fire(stage, stage.current, image, stage.driven, stage.steps - stage.driven, 0, y0, rows, 0)
    for t0 in range(0, 0 if stage.unchanging else stage.steps, stage.band_steps):
        steps = min(stage.band_steps, stage.steps - t0)
        fresh = not stage.constant and not stage.accumulate and terms[0].complete
        if not fresh and (t0 == 0 or not stage.accumulate):
            for t in range(1 if stage.accumulate else steps):
                clear(stage.current + t * frame, rows * line // 64)
                if stage.constant and t0 + t < stage.driven:
                    times = stage.driven if stage.accumulate else 1
                    add_words(stage.current + t * frame, stage.constant, times, rows * line // 64)
        for k in range(len(terms)):
            if not terms[k].constant:
                first = fresh if k == 0 else 0
                _add_term(
                    stage, terms[k], variants[k], image, t0, steps, y0, rows, stage.current, frame, first
                )
        if stage.accumulate:
            continue
        if stage.neuron == NONE:
            _write_currents(stage, image, t0, steps, y0, rows, frame)
        else:
            driven = min(max(stage.driven - t0, 0), steps)
            _fire(stage, stage.current, image, t0, steps, driven, y0, rows, frame)
    if stage.accumulate:
        if stage.neuron == NONE:
            _write_currents(stage, image, 0, 1, y0, rows, 0)
        else:
            _charge(stage, rows, line)
            _fire(stage, stage.current, image, 0, stage.steps, 0, y0, rows, 0)
    if stage.final_potential:
        size = stage.width * pixel
        place = (image * stage.height + y0) * size
        copy_shifted(stage.potential, stage.final_potential + place, rows * size // 16, 0)
        copy_shifted(stage.count, stage.final_count + place, rows * size // 16, 0)


@kernel
def _charge(stage: Record, rows: int, line: int) -> None:
    """Add all input and all bias to the potentials of a band, and leave no current behind."""
    pixel = stage.channels * 4
    bias = stage.parameters + pixel
    for row in range(rows):
        at = stage.potential + row * stage.width * pixel
        add_words(at, stage.current + row * line + stage.halo * pixel, 1, stage.width * pixel // 64)
        for x in range(stage.width):
            add_words(at + x * pixel, bias, stage.driven, pixel // 64)
    clear(stage.current, rows * line // 64)


@kernel
def _write_currents(stage: Record, image: int, t0: int, steps: int, y0: int, rows: int, frame: int) -> None:
    """Copy the currents of a band out."""
    size = stage.width * stage.output_pixel
    for t in range(steps):
        out = stage.output + image * stage.output_image + (t0 + t) * stage.output_step + y0 * size
        for row in range(rows):
            at = stage.current + t * frame + (row * stage.columns + stage.halo) * stage.channels * 4
            copy_shifted(at, out + row * size, size // 16, 0)
