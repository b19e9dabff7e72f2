"""How products add their share to the currents of a band; see ``micro_products``."""

from __future__ import annotations

from snnc.backends.numba_cpu.codegen import micro_products
from snnc.backends.numba_cpu.codegen.micro import get, noinline
from snnc.backends.numba_cpu.codegen.vector import F32, I8, I16, I32
from snnc.backends.numba_cpu.kernels.records import (
    BYTES,
    CHANNEL_BYTES,
    CHANNEL_FLOATS,
    CHANNEL_WIDE,
    CHANNEL_WORDS,
    FLOATS,
    WORDS,
    Record,
)
from snnc.backends.numba_cpu.machine.cache import kernel

FEW_PIXELS, MANY_PIXELS = micro_products.PIXELS[0], micro_products.PIXELS[-1]

multiply_bytes, multiply_words, multiply_floats = (
    micro_products.multiply(kind, FEW_PIXELS) for kind in micro_products.KINDS
)
multiply_many_bytes, multiply_many_words, multiply_many_floats = (
    micro_products.multiply(kind, MANY_PIXELS) for kind in micro_products.KINDS
)
multiply_channel_bytes = micro_products.multiply_channels(I8, I16)
multiply_channel_words = micro_products.multiply_channels(I8, I32)
multiply_channel_wide = micro_products.multiply_channels(I16, I32)
multiply_channel_floats = micro_products.multiply_channels(F32, F32)


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
    noinline()
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
def add_products(
    stage: Record, term: Record, steps: int, rows: int, current: int, frame: int, fresh: int
) -> None:
    """Multiply the padded input by the weight, whatever spiked; if ``fresh``, nothing is there to add to."""
    noinline()
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
def add_channels(
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
    noinline()
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
