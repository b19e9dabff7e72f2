"""How products in tile registers add their share to the currents of a band; see ``micro_tiles``."""

from __future__ import annotations

from snnc.backends.numba_cpu.codegen.micro import get, put
from snnc.backends.numba_cpu.codegen.micro_tiles import (
    ROW_BYTES,
    TOGETHER,
    configure,
    multiply_tiles,
    release,
)
from snnc.backends.numba_cpu.codegen.vector import call_of
from snnc.backends.numba_cpu.kernels.product_currents import pad
from snnc.backends.numba_cpu.kernels.records import Stage, Term, routine

call_pad = call_of(6)


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
                multiply_tiles(1, fresh, at, source, pixel, advance, term.runs, term.run_count, weight, piece)
    release()


def tile_fields() -> dict[str, int]:
    """Return the addresses of the routines of products in tiles."""
    return {"add": add_tiles.address, "pad": pad.address}
