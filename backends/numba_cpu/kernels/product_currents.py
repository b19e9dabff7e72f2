"""How products add their share to the currents of a band; see ``micro_products``."""

from __future__ import annotations

from functools import cache

from snnc.backends.numba_cpu.codegen.micro import copy_shifted, copy_widened, fill, get
from snnc.backends.numba_cpu.codegen.micro_products import multiply_channels, multiply_row
from snnc.backends.numba_cpu.codegen.vector import call_of
from snnc.backends.numba_cpu.kernels.records import CHANNEL_FLOATS, CHANNEL_WIDE, Stage, Term, routine
from snnc.backends.numba_cpu.machine.cache import Routine

call_multiply, call_channels, call_pad = call_of(12), call_of(11), call_of(6)


@cache
def multiplying(kind: str, pixels: int, outputs: int) -> Routine:
    """Return what multiplies a row of pixels.

    Args:
        kind: one of :data:`~snnc.backends.numba_cpu.codegen.micro_products.KINDS`.
        pixels: that are multiplied together.
        outputs: that are multiplied together.
    """

    def multiply(
        current: int,
        current_stride: int,
        before: int,
        before_stride: int,
        blocks: int,
        spikes: int,
        spike_stride: int,
        runs: int,
        run_count: int,
        groups: int,
        weight: int,
        start: int,
    ) -> None:
        multiply_row(
            kind,
            pixels,
            outputs,
            current,
            current_stride,
            before,
            before_stride,
            blocks,
            spikes,
            spike_stride,
            runs,
            run_count,
            groups,
            weight,
            start,
        )

    return Routine(multiply, kind, pixels, outputs)


@cache
def multiplying_channels(kind: str, lanes: int) -> Routine:
    """Return what lets some channels of a row of pixels read only themselves.

    Args:
        kind: one of :data:`~snnc.backends.numba_cpu.codegen.micro_products.CHANNEL_KINDS`.
        lanes: how many channels.
    """

    def multiply(
        current: int,
        current_stride: int,
        before: int,
        before_stride: int,
        spikes: int,
        spike_stride: int,
        taps: int,
        tap_count: int,
        weight: int,
        weight_stride: int,
        pixels: int,
    ) -> None:
        multiply_channels(
            kind,
            lanes,
            current,
            current_stride,
            before,
            before_stride,
            spikes,
            spike_stride,
            taps,
            tap_count,
            weight,
            weight_stride,
            pixels,
        )

    return Routine(multiply, kind, lanes)


@routine
def pad(term: Term, image: int, t0: int, steps: int, y0: int, rows: int) -> None:
    """Copy the input of a band with its borders."""
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


@routine
def add_products(
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
    advance = term.stride_right * term.padded_pixel
    frames, columns = steps, stage.width
    if term.over_steps:
        frames, columns = 1, steps
        pixel, advance = frame, step
    blocks = (columns + term.pixels - 1) // term.pixels
    sums = term.outputs * 4  # bytes: two int16 or one int32 each
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
                    call_multiply(
                        term.multiply,
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


@routine
def add_channels(
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
    """Let every channel read only itself: depthwise convolutions, identities; ``fresh`` as for products."""
    if not term.direct:
        call_pad(term.pad, term, image, t0, steps, y0, rows)
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
            for c in range(0, term.channels, term.outputs):
                at = current + t * frame + row * line + stage.halo * pixel + c * 4
                source = first + t * step + row * term.stride_down * term.padded_row + c * size
                weight = term.weight + c * weight_size
                before, before_stride = (term.zeros, 0) if fresh else (at, pixel)
                call_channels(
                    term.multiply,
                    at,
                    pixel,
                    before,
                    before_stride,
                    source,
                    advance,
                    term.runs,
                    term.run_count,
                    weight,
                    term.channels * weight_size,
                    stage.width,
                )


def product_fields(channels: bool) -> dict[str, int]:
    """Return the addresses of the routines of products, or of channels that read only themselves."""
    return {"add": (add_channels if channels else add_products).address, "pad": pad.address}
