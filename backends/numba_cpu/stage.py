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
    join,
    keep_apart,
    list_spikes,
    put,
)
from snnc.backends.numba_cpu.neurons import fire_bytes, fire_divided, fire_units, fire_words
from snnc.backends.numba_cpu.vector import I8, I16, I32


def _record(*names: str) -> np.dtype[np.void]:
    return np.dtype([(name, np.int64) for name in names])


STAGE = _record(
    "images",
    "steps",  # T + K
    "driven",  # T
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

NEURON_KINDS = ("none", "units", "bytes", "words", "divided")

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
    "negative",  # row number where the negated rows begin, within one kernel row
    "rows_per_tap",  # weight rows of one kernel row
    "joined_rows",  # kernel rows whose events are joined in one list
    "tiles",  # groups of outputs
    "tile_bytes",  # from the currents of one tile to those of the next
    "table",  # address of micro.positions_by_mask
    "entries",  # scratch: events of each input pixel
    "index",  # scratch: (start, count) of each input pixel
    "joined",  # scratch: joined events
    "joined_index",  # scratch: their (start, count)
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
    "pairs",  # per run
    "starts",  # address of what the sums begin with, (tiles, sections)
    "tile_places",  # address of (spike, current) offsets per tile
)
"""What the kernel knows of a term; the scratch memory of a term holds one band."""

TERM_KINDS = (
    "events",
    "bytes32",  # dense, bytes, 32 outputs at a time
    "bytes16",  # dense, bytes, 16 outputs
    "words",  # dense, int16, 16 outputs
    "channel_bytes",  # depthwise and identity: sums fit 16 bits
    "channel_words",
    "channel_wide",  # spikes are int16
    "current",  # currents computed elsewhere
)

VARIANT = _record("blocks", "offsets", "weight", "joined_bytes", "tile_bytes")
"""How an input column scatters: its residue modulo the stride decides which columns it reaches."""

EVENTS, BYTES32, BYTES16, WORDS, CHANNEL_BYTES, CHANNEL_WORDS, CHANNEL_WIDE, CURRENT = range(8)
NONE, UNITS, BYTES, WORDS_OUT, DIVIDED = range(5)

scatter1, scatter2, scatter3, scatter4, scatter5, scatter6 = map(micro.scatter_rows, range(1, 7))
PIXELS32, PIXELS16, PIXELS_WORDS = 4, 8, 4
multiply_bytes32 = micro.multiply_bytes(PIXELS32, 2)
multiply_bytes16 = micro.multiply_bytes(PIXELS16, 1)
multiply_words = micro.multiply_words(PIXELS_WORDS, 2)
multiply_channel_bytes = micro.multiply_channels(I8, I16)
multiply_channel_words = micro.multiply_channels(I8, I32)
multiply_channel_wide = micro.multiply_channels(I16, I32)

Record = Any
"""A record of one of the types above."""
Records = NDArray[np.void]


@kernel
def _scatter(blocks: int, current: int, offsets: int, entries: int, count: int, weight: int) -> None:
    if blocks == 3:
        scatter3(current, offsets, entries, count, weight)
    elif blocks == 6:
        scatter6(current, offsets, entries, count, weight)
    elif blocks == 2:
        scatter2(current, offsets, entries, count, weight)
    elif blocks == 1:
        scatter1(current, offsets, entries, count, weight)
    elif blocks == 4:
        scatter4(current, offsets, entries, count, weight)
    else:
        scatter5(current, offsets, entries, count, weight)


@kernel
def _add_events(
    stage: Record, term: Record, variants: Records, image: int, t0: int, steps: int, y0: int, rows: int
) -> None:
    """Let every spike add its rows of the weight to the currents that it reaches."""
    keep_apart()
    top = max(0, y0 * term.stride_down - term.pad_top)
    reach = (term.kernel_height - 1) * term.dilation_down
    bottom = min(term.height, (y0 + rows - 1) * term.stride_down - term.pad_top + reach + 1)
    height = max(0, bottom - top)
    chunks = term.channels // micro.CHUNK
    end = term.entries
    slot = 0
    for t in range(steps):
        for y in range(top, bottom):
            at = term.source + image * term.source_image + (t0 + t) * term.source_step
            at += y * term.width * term.channels
            for _ in range(term.width):
                count = 0
                for level in range(1, term.levels + 1):
                    count += list_spikes(at, chunks, level, term.negative, term.table, end + 2 * count)
                put(term.index, slot, end)
                put(term.index, slot + 1, count)
                slot += 2
                end += 2 * count
                at += term.channels
    pixel = stage.channels * 4
    line = stage.columns * pixel
    frame = 0 if stage.accumulate else stage.band_rows * line
    for ky0 in range(0, term.kernel_height, term.joined_rows):
        ky1 = min(ky0 + term.joined_rows, term.kernel_height)
        part = ky0 // term.joined_rows
        end = term.joined
        slot = 0
        for t in range(steps):
            for row in range(rows):
                for x in range(term.width):
                    count = 0
                    for ky in range(ky0, ky1):
                        y = (y0 + row) * term.stride_down - term.pad_top + ky * term.dilation_down
                        if top <= y < bottom:
                            place = 2 * ((t * height + y - top) * term.width + x)
                            more = get(term.index, place + 1)
                            shift = (ky - ky0) * term.rows_per_tap
                            join(get(term.index, place), more, shift, end + 2 * count)
                            count += more
                    put(term.joined_index, slot, end)
                    put(term.joined_index, slot + 1, count)
                    slot += 2
                    end += 2 * count
        for tile in range(term.tiles):
            slot = 0
            for t in range(steps):
                for row in range(rows):
                    at = stage.current + t * frame + row * line + stage.halo * pixel
                    at += tile * term.tile_bytes
                    residue = term.pad_left % term.stride_right
                    at += term.pad_left // term.stride_right * pixel
                    for _ in range(term.width):
                        entries = get(term.joined_index, slot)
                        count = get(term.joined_index, slot + 1)
                        slot += 2
                        variant = variants[residue]
                        if count > 0 and variant.blocks > 0:
                            weight = variant.weight + part * variant.joined_bytes + tile * variant.tile_bytes
                            _scatter(variant.blocks, at, variant.offsets, entries, count, weight)
                        residue += 1
                        if residue == term.stride_right:
                            residue = 0
                            at += pixel


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
        fill(term.padded + steps * frame, -steps % PIXELS16 * frame, term.offset)


@kernel
def _add_products(stage: Record, term: Record, steps: int, rows: int, current: int, frame: int) -> None:
    """Multiply the padded input by the weight, whatever spiked."""
    keep_apart()
    pixel = stage.channels * 4
    line = stage.columns * pixel
    step = term.padded_rows * term.padded_row
    advance = term.stride_right * term.padded_pixel
    frames, columns = steps, stage.width
    if term.over_steps:
        frames, columns = 1, steps
        pixel, advance = frame, step
    wide = 16 if term.kind != BYTES32 else 32
    for tile in range(term.tiles):
        spikes = term.padded + get(term.tile_places, 2 * tile)
        target = current + stage.halo * stage.channels * 4 + get(term.tile_places, 2 * tile + 1)
        for section in range(term.sections):
            place = tile * term.sections + section
            weight = term.weight + place * term.section_bytes
            start = term.starts + place * wide * 2
            runs = term.runs + section * term.run_count * 8
            for t in range(frames):
                for row in range(rows):
                    at = target + t * frame + row * line
                    source = spikes + t * step + row * term.stride_down * term.padded_row
                    if term.kind == BYTES32:
                        for x in range(0, columns, PIXELS32):
                            multiply_bytes32(
                                at + x * pixel,
                                pixel,
                                source + x * advance,
                                advance,
                                runs,
                                term.run_count,
                                term.pairs,
                                weight,
                                start,
                            )
                    elif term.kind == BYTES16:
                        for x in range(0, columns, PIXELS16):
                            multiply_bytes16(
                                at + x * pixel,
                                pixel,
                                source + x * advance,
                                advance,
                                runs,
                                term.run_count,
                                term.pairs,
                                weight,
                                start,
                            )
                    else:
                        for x in range(0, columns, PIXELS_WORDS):
                            multiply_words(
                                at + x * pixel,
                                pixel,
                                source + x * advance,
                                advance,
                                runs,
                                term.run_count,
                                term.pairs,
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
) -> None:
    keep_apart()
    if term.kind == EVENTS:
        _add_events(stage, term, variants, image, t0, steps, y0, rows)
    elif term.kind == CURRENT:
        _add_currents(stage, term, image, t0, steps, y0, rows, current, frame)
    else:
        _pad(term, image, t0, steps, y0, rows)
        if term.kind in (BYTES32, BYTES16, WORDS):
            _add_products(stage, term, steps, rows, current, frame)
        else:
            _add_channels(stage, term, steps, rows, current, frame)


@kernel
def _fire(
    stage: Record, image: int, t0: int, steps: int, driven: int, y0: int, rows: int, frame: int
) -> None:
    """Let the neurons of a band integrate and fire."""
    keep_apart()
    pixel = stage.channels * 4
    size = 1 if stage.neuron in (UNITS, BYTES) else 2
    out = stage.output + image * stage.output_image + t0 * stage.output_step
    for row in range(rows):
        for c in range(0, stage.channels, neurons.LANES):
            at = stage.current + (row * stage.columns + stage.halo) * pixel + c * 4
            state = row * stage.width * pixel + c * 4
            target = out + (y0 + row) * stage.width * stage.output_pixel + c * size
            if stage.neuron == UNITS:
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
            elif stage.neuron == BYTES:
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
            elif stage.neuron == WORDS_OUT:
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
        clear(stage.constant, rows * line // 64)
        for k in range(len(terms)):
            if terms[k].constant:
                _add_term(stage, terms[k], variants[k], image, 0, 1, y0, rows, stage.constant, 0)
    if stage.neuron != NONE:
        start = stage.parameters + 4 * pixel
        for p in range(rows * stage.width):
            copy_shifted(start, stage.potential + p * pixel, pixel // 16, 0)
        clear(stage.count, rows * stage.width * pixel // 64)
    for t0 in range(0, stage.steps, stage.band_steps):
        steps = min(stage.band_steps, stage.steps - t0)
        if t0 == 0 or not stage.accumulate:
            for t in range(1 if stage.accumulate else steps):
                clear(stage.current + t * frame, rows * line // 64)
                if stage.constant and t0 + t < stage.driven:
                    times = stage.driven if stage.accumulate else 1
                    add_words(stage.current + t * frame, stage.constant, times, rows * line // 64)
        for k in range(len(terms)):
            if not terms[k].constant:
                _add_term(stage, terms[k], variants[k], image, t0, steps, y0, rows, stage.current, frame)
        if stage.accumulate:
            continue
        if stage.neuron == NONE:
            _write_currents(stage, image, t0, steps, y0, rows, frame)
        else:
            _fire(stage, image, t0, steps, min(max(stage.driven - t0, 0), steps), y0, rows, frame)
    if stage.accumulate:
        if stage.neuron == NONE:
            _write_currents(stage, image, 0, 1, y0, rows, 0)
        else:
            _charge(stage, rows, line)
            _fire(stage, image, 0, stage.steps, 0, y0, rows, 0)
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
