"""How each kind of term adds its share to the currents of a band.

What a band is and when it is worked on, :mod:`snnc.backends.numba_cpu.stage` says.
"""

from __future__ import annotations

from snnc.backends.numba_cpu import micro_events, micro_products
from snnc.backends.numba_cpu.cache import kernel
from snnc.backends.numba_cpu.micro import (
    add_floats,
    add_words,
    copy_shifted,
    copy_widened,
    fill,
    get,
    keep_apart,
    put,
)
from snnc.backends.numba_cpu.micro_events import touch
from snnc.backends.numba_cpu.records import (
    BYTES,
    CHANNEL_BYTES,
    CHANNEL_FLOATS,
    CHANNEL_WIDE,
    CHANNEL_WORDS,
    CURRENT,
    EVENTS,
    FLOATS,
    WORDS,
    Record,
    Records,
)
from snnc.backends.numba_cpu.vector import F32, I8, I16, I32

list_unsigned, list_signed = map(micro_events.list_column, (False, True))
scatter1, scatter2, scatter3, scatter4, scatter5, scatter6, scatter8, scatter12 = map(
    micro_events.scatter_row, (1, 2, 3, 4, 5, 6, 8, 12)
)
slide3, slide6, slide12 = (micro_events.scatter_row(blocks, 3) for blocks in (3, 6, 12))
multiply_bytes, multiply_words, multiply_floats = (
    micro_products.multiply(kind, micro_products.PIXELS[0]) for kind in micro_products.KINDS
)
multiply_many_bytes, multiply_many_words, multiply_many_floats = (
    micro_products.multiply(kind, micro_products.PIXELS[-1]) for kind in micro_products.KINDS
)
multiply_channel_bytes = micro_products.multiply_channels(I8, I16)
multiply_channel_words = micro_products.multiply_channels(I8, I32)
multiply_channel_wide = micro_products.multiply_channels(I16, I32)
multiply_channel_floats = micro_products.multiply_channels(F32, F32)


FEW_PIXELS = micro_products.PIXELS[0]


@kernel
def _scatter(
    blocks: int,
    taps: int,
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
    if taps == 3 and blocks == 3:
        slide3(current, pixel, offsets, columns, added, added_bytes, taken, taken_bytes, step, weight)
    elif taps == 3 and blocks == 6:
        slide6(current, pixel, offsets, columns, added, added_bytes, taken, taken_bytes, step, weight)
    elif taps == 3 and blocks == 12:
        slide12(current, pixel, offsets, columns, added, added_bytes, taken, taken_bytes, step, weight)
    elif blocks == 1:
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
    elif blocks == 8:
        scatter8(current, pixel, offsets, columns, added, added_bytes, taken, taken_bytes, step, weight)
    elif blocks == 12:
        scatter12(current, pixel, offsets, columns, added, added_bytes, taken, taken_bytes, step, weight)


@kernel
def _list_band(term: Record, image: int, t0: int, steps: int, top: int, bottom: int) -> None:
    """List the spikes of the rows from ``top`` to ``bottom``: per step, column and row."""
    keep_apart()
    chunks = term.channels // micro_events.CHUNK
    row_bytes = term.width * term.channels
    rows = bottom - top
    phase = top % term.joined_rows
    added, taken = term.entries, term.taken_entries
    place = 0
    for t in range(steps):
        at = term.source + image * term.source_image + (t0 + t) * term.source_step + top * row_bytes
        for x in range(term.width):
            pixel = at + x * term.channels
            index, taken_index = term.index + place, term.taken_index + place
            if term.signs == 2:
                list_signed(
                    pixel,
                    row_bytes,
                    rows,
                    chunks,
                    term.levels,
                    phase,
                    term.joined_rows,
                    term.table,
                    added,
                    index,
                    taken,
                    taken_index,
                )
                taken = get(taken_index, rows)
            else:
                list_unsigned(
                    pixel,
                    row_bytes,
                    rows,
                    chunks,
                    term.levels,
                    phase,
                    term.joined_rows,
                    term.table,
                    added,
                    index,
                    0,
                    0,
                )
            added = get(index, rows)
            place += 8 * (rows + 1)


@kernel
def _add_events(
    stage: Record,
    term: Record,
    variants: Records,
    image: int,
    t0: int,
    steps: int,
    y0: int,
    rows: int,
    begun: int,
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
            if not (term.kept and begun):
                _bring_nearer(term, variants, ky0 // term.joined_rows, tile)
            # Rows of one phase read the same part of the weight, which then stays in the cache.
            for phase in range(term.joined_rows):
                _add_phase(stage, term, variants, steps, y0, rows, top, bottom, ky0, tile, phase)


@kernel
def _bring_nearer(term: Record, variants: Records, part: int, tile: int) -> None:
    """Read the rows of a tile in order: events, which read them out of order, would wait for each."""
    keep_apart()
    for residue in range(term.stride_right):
        variant = variants[residue]
        first = variant.weight + part * variant.joined_bytes + tile * variant.tile_bytes
        put(term.touched, 0, touch(first, variant.lines))


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
    for t in range(steps):
        for row in range(rows):
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
                weight += shift * term.channels * variant.blocks * micro_events.BLOCK
                place = (t * term.width + x0) * column + (low - top) * 8
                count = (high - low) * 8
                _scatter(
                    variant.blocks,
                    variant.taps,
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
                copy_shifted(start, target + left, (inside + 63) // 64, term.offset)
            else:
                copy_widened(start, target + left, (inside + 31) // 32)
            if right > 0:
                fill(target + left + inside, right, term.offset)
    if term.over_steps:
        frame = term.padded_rows * term.padded_row
        fill(term.padded + steps * frame, -steps % term.pixels * frame, term.offset)


@kernel
def _multiply_row(
    term: Record,
    at: int,
    pixel: int,
    before: int,
    before_stride: int,
    blocks: int,
    source: int,
    advance: int,
    runs: int,
    weight: int,
    start: int,
) -> None:
    keep_apart()
    many = term.pixels > FEW_PIXELS
    if term.kind == BYTES and not many:
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
    elif term.kind == BYTES and many:
        multiply_many_bytes(
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
    elif term.kind == WORDS and not many:
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
            start,
        )
    elif term.kind == WORDS and many:
        multiply_many_words(
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
    elif term.kind == FLOATS and not many:
        multiply_floats(
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
    elif term.kind == FLOATS and many:
        multiply_many_floats(
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
    blocks = (columns + term.pixels - 1) // term.pixels
    sums = micro_products.OUTPUTS * 4  # bytes: two int16 or one int32 each
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
                    _multiply_row(
                        term, at, pixel, before, before_stride, blocks, source, advance, runs, weight, start
                    )


@kernel
def _add_channels(
    stage: Record,
    term: Record,
    image: int,
    t0: int,
    steps: int,
    y0: int,
    rows: int,
    current: int,
    frame: int,
) -> None:
    """Let every channel read only itself: depthwise convolutions and identities."""
    keep_apart()
    pixel = stage.channels * 4
    line = stage.columns * pixel
    step = term.padded_rows * term.padded_row
    first = term.padded
    if term.direct:
        step = term.source_step
        first = term.source + image * term.source_image + t0 * step + y0 * term.stride_down * term.padded_row
    advance = term.stride_right * term.padded_pixel
    size, weight_size = (2 if term.kind == CHANNEL_WIDE else 1), 2
    if term.kind == CHANNEL_FLOATS:
        size, weight_size = 4, 4
    for t in range(steps):
        for row in range(rows):
            for c in range(0, term.channels, 16):
                at = current + t * frame + row * line + stage.halo * pixel + c * 4
                source = first + t * step + row * term.stride_down * term.padded_row + c * size
                weight = term.weight + c * weight_size
                if term.kind == CHANNEL_BYTES:
                    multiply_channel_bytes(
                        at,
                        pixel,
                        source,
                        advance,
                        term.runs,
                        term.run_count,
                        weight,
                        term.channels * weight_size,
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
                        term.channels * weight_size,
                        stage.width,
                    )
                elif term.kind == CHANNEL_FLOATS:
                    multiply_channel_floats(
                        at,
                        pixel,
                        source,
                        advance,
                        term.runs,
                        term.run_count,
                        weight,
                        term.channels * weight_size,
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
                        term.channels * weight_size,
                        stage.width,
                    )


@kernel
def add(stage: Record, target: int, source: int, times: int, count: int) -> None:
    """Add ``times`` times ``16 * count`` currents to as many at ``target``."""
    if stage.floats:
        add_floats(target, source, times, count)
    else:
        add_words(target, source, times, count)


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
            add(
                stage,
                at,
                source + (t0 + t) * term.source_step + row * stage.width * pixel,
                1,
                stage.width * stage.channels // 16,
            )


@kernel
def add_term(
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
    begun: int,
) -> None:
    """Add the currents of one term to a band.

    Args:
        stage: the stage.
        term: the term.
        variants: (stride,) of the term.
        image: number of the image.
        t0: first step of the band.
        steps: how many.
        y0: first row of the output.
        rows: how many.
        current: address of the band's currents.
        frame: bytes from step to step.
        fresh: 1 if the currents hold nothing yet, and this term writes all of them.
        begun: 1 if this thread has just read the weight.
    """
    keep_apart()
    if term.kind == EVENTS:
        _add_events(stage, term, variants, image, t0, steps, y0, rows, begun)
    elif term.kind == CURRENT:
        _add_currents(stage, term, image, t0, steps, y0, rows, current, frame)
    else:
        if not term.direct:
            _pad(term, image, t0, steps, y0, rows)
        if term.kind in (BYTES, WORDS, FLOATS):
            _add_products(stage, term, steps, rows, current, frame, fresh)
        else:
            _add_channels(stage, term, image, t0, steps, y0, rows, current, frame)
