"""How events add their share to the currents of a band; see ``codegen.micro_events``."""

from __future__ import annotations

from functools import cache

from snnc.backends.numba_cpu.codegen import micro_events
from snnc.backends.numba_cpu.codegen.micro import get, put
from snnc.backends.numba_cpu.codegen.micro_events import list_column, prefetch, scatter_row
from snnc.backends.numba_cpu.codegen.vector import call_of
from snnc.backends.numba_cpu.kernels.records import Stage, Term, routine, variant_at
from snnc.backends.numba_cpu.machine.cache import Routine

call_list, call_scatter = call_of(12), call_of(10)
call_list_band, call_add_phase = call_of(6), call_of(10)


@cache
def listing(signs: int) -> Routine:
    """Return what lists the spikes of a column.

    Args:
        signs: 2 where spikes may be negative.
    """

    def list_spikes(
        spikes: int,
        row_bytes: int,
        rows: int,
        chunks: int,
        levels: int,
        phase: int,
        phases: int,
        table: int,
        entries: int,
        index: int,
        taken: int,
        taken_index: int,
    ) -> None:
        list_column(
            signs,
            spikes,
            row_bytes,
            rows,
            chunks,
            levels,
            phase,
            phases,
            table,
            entries,
            index,
            taken,
            taken_index,
        )

    return Routine(list_spikes, signs)


@cache
def scattering(blocks: int, taps: int) -> Routine:
    """Return what adds the weight rows of events.

    Args:
        blocks: of a row.
        taps: output columns whose sums stay in registers from one input column to the next, else 1.
    """

    def scatter(
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
        scatter_row(
            blocks,
            taps,
            current,
            pixel,
            offsets,
            columns,
            added,
            added_bytes,
            taken,
            taken_bytes,
            step,
            weight,
        )

    return Routine(scatter, blocks, taps)


@routine
def _list_band(term: Term, image: int, t0: int, steps: int, top: int, bottom: int) -> None:
    """List the spikes of the rows from ``top`` to ``bottom``: per step, column and row."""
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
                call_list(
                    term.list_column,
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
                call_list(
                    term.list_column,
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


@routine
def add_events(
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
    """Let every spike add its rows of the weight to the currents that it reaches."""
    top = max(0, y0 * term.stride_down - term.pad_top)
    reach = (term.kernel_height - 1) * term.dilation_down
    bottom = min(term.height, (y0 + rows - 1) * term.stride_down - term.pad_top + reach + 1)
    if bottom <= top:
        return
    call_list_band(term.list_band, term, image, t0, steps, top, bottom)
    for ky0 in range(0, term.kernel_height, term.joined_rows):
        for tile in range(term.tiles):
            if not (term.kept and begun):
                # Events, which read the rows of the tile out of order, would wait for each of them.
                for residue in range(term.stride_right):
                    variant = variant_at(term.variants, residue)
                    first = variant.weight + ky0 // term.joined_rows * variant.joined_bytes
                    put(term.prefetched, 0, prefetch(first + tile * variant.tile_bytes, variant.lines))
            # Rows of one phase read the same part of the weight, which then stays in the cache.
            for phase in range(term.joined_rows):
                call_add_phase(term.add_phase, stage, term, steps, y0, rows, top, bottom, ky0, tile, phase)


@routine
def _add_phase(
    stage: Stage,
    term: Term,
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
                variant = variant_at(term.variants, residue)
                x0 = (residue - term.pad_left) % term.stride_right
                if variant.blocks == 0 or x0 >= term.width:
                    continue
                at = stage.current + t * frame + row * line + tile * term.tile_bytes
                at += (stage.halo + (x0 + term.pad_left) // term.stride_right) * pixel
                weight = variant.weight + part * variant.joined_bytes + tile * variant.tile_bytes
                weight += shift * term.channels * variant.blocks * micro_events.BLOCK
                place = (t * term.width + x0) * column + (low - top) * 8
                count = (high - low) * 8
                call_scatter(
                    variant.scatter,
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


def event_fields() -> dict[str, int]:
    """Return the addresses of the routines of events."""
    return {
        "add": add_events.address,
        "list_band": _list_band.address,
        "add_phase": _add_phase.address,
    }
