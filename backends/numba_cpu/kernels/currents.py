"""How each kind of term adds its share to the currents of a band.

What a band is and when it is worked on, :mod:`snnc.backends.numba_cpu.kernels.stage` says.
"""

from __future__ import annotations

from snnc.backends.numba_cpu.codegen.micro import (
    add_floats,
    add_words,
    copy_shifted,
    copy_widened,
    fill,
    noinline,
    number,
)
from snnc.backends.numba_cpu.kernels.event_currents import add_events
from snnc.backends.numba_cpu.kernels.product_currents import add_channels, add_products
from snnc.backends.numba_cpu.kernels.records import BYTES, CURRENT, EVENTS, FLOATS, WORDS, Record, Records
from snnc.backends.numba_cpu.machine.cache import kernel


@kernel
def _pad(term: Record, image: int, t0: int, steps: int, y0: int, rows: int) -> None:
    """Copy the input of a band with its borders."""
    noinline()
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
    noinline()
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
                number(1),
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
    noinline()
    if term.kind == EVENTS:
        add_events(stage, term, variants, image, t0, steps, y0, rows, begun)
    elif term.kind == CURRENT:
        _add_currents(stage, term, image, t0, steps, y0, rows, current, frame)
    else:
        if not term.direct:
            _pad(term, image, t0, steps, y0, rows)
        if term.kind in (BYTES, WORDS, FLOATS):
            add_products(stage, term, steps, rows, current, frame, fresh)
        else:
            add_channels(stage, term, image, t0, steps, y0, rows, current, frame)
