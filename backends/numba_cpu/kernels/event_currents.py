"""How events add their share to the currents of a band; see ``codegen.micro_events``."""

from __future__ import annotations

from snnc.backends.numba_cpu.codegen import micro_events
from snnc.backends.numba_cpu.codegen.micro import get, noinline, put
from snnc.backends.numba_cpu.codegen.micro_events import prefetch
from snnc.backends.numba_cpu.kernels.records import Record, Records
from snnc.backends.numba_cpu.machine.cache import kernel

list_unsigned, list_signed = map(micro_events.list_column, (False, True))
scatter1, scatter2, scatter3, scatter4, scatter5, scatter6, scatter8, scatter12 = map(
    micro_events.scatter_row, (1, 2, 3, 4, 5, 6, 8, 12)
)
slide3, slide6, slide12 = (micro_events.scatter_row(blocks, 3) for blocks in (3, 6, 12))


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
    noinline()
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
    noinline()
    chunks = term.channels // micro_events.CHUNK
    row_bytes = term.width * term.channels
    rows = bottom - top
    phase = top % term.joined_rows
    added, taken = term.entries, term.negative_events
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
def add_events(
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
    noinline()
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
    noinline()
    for residue in range(term.stride_right):
        variant = variants[residue]
        first = variant.weight + part * variant.joined_bytes + tile * variant.tile_bytes
        put(term.prefetched, 0, prefetch(first, variant.lines))


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
    noinline()
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
