"""How products in tile registers add their share to the currents of a band; see ``micro_tiles``."""

from __future__ import annotations

from snnc.backends.numba_cpu.codegen.micro import add_words, copy_shifted, fill, get, put
from snnc.backends.numba_cpu.codegen.micro_tiles import (
    ROW_BYTES,
    ROWS,
    TILE_BYTES,
    TOGETHER,
    configure,
    multiply_tiles,
    release,
)
from snnc.backends.numba_cpu.codegen.vector import call_of
from snnc.backends.numba_cpu.kernels.product_currents import pad
from snnc.backends.numba_cpu.kernels.records import Stage, Term, routine

call_pad = call_of(6)

PIECES_AHEAD = 4
"""Pieces of a weight that are fetched ahead where rows are short: weights behind those are the largest."""


@routine
def add_tiles(
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
    """Multiply the padded input by the weight, whatever spiked; if ``fresh``, nothing is there to add to."""
    call_pad(term.pad, term, image, t0, steps, y0, rows)
    pixel = stage.channels * 4
    line = stage.columns * pixel
    step = term.padded_rows * term.padded_row
    down = term.stride_down * term.padded_row
    advance = term.stride_right * term.padded_pixel
    blocks = (stage.width + term.pixels - 1) // term.pixels
    piece = term.input_groups * ROW_BYTES
    currents, sources = term.places, term.places + 8 * TOGETHER
    # Steps that add to the same currents follow each other.
    most = 1 if frame == 0 and steps > 1 else TOGETHER
    configure(term.tile_sizes)
    for tile in range(term.tiles):
        spikes = term.padded + get(term.tile_places, 2 * tile)
        target = current + stage.halo * pixel + get(term.tile_places, 2 * tile + 1)
        weight = term.weight + tile * term.section_bytes
        for block in range(blocks):
            here, there = target + block * term.pixels * pixel, spikes + block * term.pixels * advance
            waiting = 0
            for row in range(rows):
                for t in range(steps):
                    put(currents, waiting, here + t * frame + row * line)
                    put(sources, waiting, there + t * step + row * down)
                    waiting += 1
                    if waiting == TOGETHER:
                        multiply_tiles(
                            TOGETHER,
                            0,
                            fresh,
                            currents,
                            sources,
                            pixel,
                            advance,
                            term.runs,
                            term.run_count,
                            weight,
                            piece,
                        )
                    elif waiting == most:
                        multiply_tiles(
                            1,
                            0,
                            fresh,
                            currents,
                            sources,
                            pixel,
                            advance,
                            term.runs,
                            term.run_count,
                            weight,
                            piece,
                        )
                    if waiting == most:
                        waiting = 0
            for n in range(waiting):
                at, source = currents + 8 * n, sources + 8 * n
                multiply_tiles(
                    1, 0, fresh, at, source, pixel, advance, term.runs, term.run_count, weight, piece
                )
    release()


@routine
def _pad_steps(term: Term, image: int, t0: int, steps: int, y0: int, rows: int) -> None:
    """Copy the input of a band with its borders, the steps of a pixel side by side."""
    pixel, line = term.padded_pixel * steps, term.padded_row * steps
    left, inside = term.pad_left * pixel, term.width * pixel
    height = (rows - 1) * term.stride_down + (term.kernel_height - 1) * term.dilation_down + 1
    for row in range(height):
        y = y0 * term.stride_down - term.pad_top + row
        target = term.padded + row * line
        if y < 0 or y >= term.height:
            fill(target, line, 0)
            continue
        fill(target, left, 0)
        for t in range(steps):
            start = term.source + image * term.source_image + (t0 + t) * term.source_step
            start += y * term.width * term.source_pixel
            place = target + left + t * term.padded_pixel
            for x in range(term.width):
                copy_shifted(start + x * term.source_pixel, place + x * pixel, term.padded_pixel // 64, 0)
        fill(target + left + inside, line - left - inside, 0)


@routine
def add_step_tiles(
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
    """Do the same where rows are short: the steps of a few pixels share a tile."""
    call_pad(term.pad, term, image, t0, steps, y0, rows)
    pixel = stage.channels * 4
    line = stage.columns * pixel
    down, advance = term.stride_down * term.padded_row * steps, term.padded_pixel * steps
    blocks = (stage.width * steps + ROWS - 1) // ROWS
    pixels = (stage.width + blocks - 1) // blocks
    runs = term.runs + (steps - 1) * term.run_count * 8
    piece = term.input_groups * ROW_BYTES
    currents, sources = term.places, term.places + 8 * TOGETHER
    sums = term.places + 16 * TOGETHER
    for n in range(TOGETHER):
        put(currents, n, sums + n * TILE_BYTES)
    configure(term.tile_sizes + (steps - 1) * 64)
    for tile in range(term.tiles):
        target = current + stage.halo * pixel + get(term.tile_places, 2 * tile + 1)
        weight = term.weight + tile * term.section_bytes
        for first in range(0, rows * blocks, TOGETHER):
            count = min(TOGETHER, rows * blocks - first)
            for n in range(count):
                row, block = divmod(first + n, blocks)
                put(sources, n, term.padded + row * down + block * pixels * advance)
            if count == TOGETHER:
                multiply_tiles(
                    TOGETHER,
                    PIECES_AHEAD,
                    1,
                    currents,
                    sources,
                    ROW_BYTES,
                    term.padded_pixel,
                    runs,
                    term.run_count,
                    weight,
                    piece,
                )
            else:
                for n in range(count):
                    multiply_tiles(
                        1,
                        PIECES_AHEAD,
                        1,
                        currents + 8 * n,
                        sources + 8 * n,
                        ROW_BYTES,
                        term.padded_pixel,
                        runs,
                        term.run_count,
                        weight,
                        piece,
                    )
            for n in range(count):
                row, block = divmod(first + n, blocks)
                made = sums + n * TILE_BYTES
                for x in range(block * pixels, min((block + 1) * pixels, stage.width)):
                    for t in range(steps):
                        at = target + t * frame + row * line + x * pixel
                        if fresh:
                            copy_shifted(made, at, 1, 0)
                        else:
                            add_words(at, made, 1, 1)
                        made += ROW_BYTES
    release()


def tile_fields(kind: str) -> dict[str, int]:
    """Return the addresses of the routines of products in tiles."""
    if kind == "step_tiles":
        return {"add": add_step_tiles.address, "pad": _pad_steps.address}
    return {"add": add_tiles.address, "pad": pad.address}
