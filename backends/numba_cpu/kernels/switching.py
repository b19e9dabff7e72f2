"""A synapse that is run by events or by products, whichever the spikes of a band call for."""

from __future__ import annotations

from snnc.backends.numba_cpu.codegen.micro import clear, count_spikes
from snnc.backends.numba_cpu.codegen.vector import call_of
from snnc.backends.numba_cpu.kernels.records import Stage, Term, routine, term_at

call_term = call_of(11)


@routine
def add_switching(
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
    """Count the spikes that the band reads, and add them one by one or multiply all inputs."""
    top = max(0, y0 * term.stride_down - term.pad_top)
    reach = (term.kernel_height - 1) * term.dilation_down
    bottom = min(term.height, (y0 + rows - 1) * term.stride_down - term.pad_top + reach + 1)
    row_bytes = term.width * term.channels
    spikes = 0
    for t in range(steps if bottom > top else 0):
        at = term.source + image * term.source_image + (t0 + t) * term.source_step + top * row_bytes
        spikes += count_spikes(at, (bottom - top) * row_bytes // 16)
    if spikes > term.most_spikes * (bottom - top) * steps:
        dense = term_at(term.dense, 0)
        call_term(dense.add, stage, dense, image, t0, steps, y0, rows, current, frame, fresh, 0)
        return
    if fresh:
        for t in range(steps):
            clear(current + t * frame, rows * stage.columns * stage.channels // 16)
    if spikes:
        call_term(term.add_events, stage, term, image, t0, steps, y0, rows, current, frame, 0, begun)
