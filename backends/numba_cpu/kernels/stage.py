"""One stage of a network: some synapses, the sum of their currents, and the population that it drives.

A stage works through its output in bands: some rows of one image, for some steps at a time. A band's
currents lie in scratch memory that stays in the cache::

    current[step][row][column][channel]     int32, with spare columns left and right
                                            (float32 before quantisation)

Each *term* adds its share to the currents of the band; then the neurons of the band integrate and
fire, and their potentials wait for the next steps. No current is ever stored for the whole image.

Spikes are int8 (or int16, or float32) arrays ``[step][image][row][column][channel]``; rows of all arrays
follow each other without gaps, and the number of channels is padded.
"""

from __future__ import annotations

from snnc.backends.numba_cpu.codegen import neurons
from snnc.backends.numba_cpu.codegen.micro import clear, copy_shifted
from snnc.backends.numba_cpu.codegen.vector import call_of
from snnc.backends.numba_cpu.kernels.currents import adding, call_add
from snnc.backends.numba_cpu.kernels.records import Records, Stage, routine, term_at
from snnc.backends.numba_cpu.kernels.thread_team import TICKETS, count_band, take_number, wait_for_bands
from snnc.backends.numba_cpu.machine.cache import kernel

call_fire, call_fire_band, call_term, call_band = call_of(17), call_of(10), call_of(11), call_of(5)
call_charge, call_write, call_keep = call_of(2), call_of(7), call_of(4)


@routine
def _fire_band(
    stage: Stage,
    current: int,
    image: int,
    t0: int,
    steps: int,
    input_steps: int,
    y0: int,
    rows: int,
    frame: int,
    started: int,
) -> None:
    """Let the neurons of a band integrate and fire; they begin anew unless they have ``started``."""
    pixel = stage.channels * 4
    out = stage.output + image * stage.output_image + t0 * stage.output_step
    for row in range(rows):
        for c in range(0, stage.channels, neurons.LANES):
            at = current + (row * stage.columns + stage.halo) * pixel + c * 4
            state = row * stage.width * pixel + c * 4
            target = out + (y0 + row) * stage.width * stage.output_pixel + c * stage.spike_bytes
            start_potential, start_count, start_pixel = stage.parameters + 4 * pixel + c * 4, stage.zeros, 0
            if started:
                start_potential, start_count, start_pixel = (
                    stage.potential + state,
                    stage.count + state,
                    pixel,
                )
            call_fire(
                stage.fire,
                at,
                frame,
                pixel,
                stage.potential + state,
                stage.count + state,
                start_potential,
                start_count,
                start_pixel,
                target,
                stage.output_step,
                stage.output_pixel,
                stage.width,
                steps,
                input_steps,
                stage.parameters + c * 4,
                pixel,
                stage.settings,
            )


@kernel
def run_stages(stages: Records, images: int, shares: int, meeting: int) -> None:
    """Run stages one after the other, or this thread's share of them.

    The bands of all stages and images share one sequence of numbers, which threads draw from a common
    counter. A number beyond the bands of the current stage is kept: it is the thread's first band in a later
    stage.

    Args:
        stages: (stages,) :data:`~snnc.backends.numba_cpu.kernels.records.STAGE`.
        images: how many of them.
        shares: how many threads work on them.
        meeting: address of the :mod:`~snnc.backends.numba_cpu.kernels.thread_team`'s meeting point.
    """
    number = take_number(meeting + TICKETS) if shares > 1 else 0
    before = 0
    for k in range(len(stages)):
        stage = stages[k]
        bands = (stage.height + stage.band_rows - 1) // stage.band_rows
        begun = 0
        while number < before + images * bands:
            image, band = divmod(number - before, bands)
            y0 = band * stage.band_rows
            rows = min(stage.band_rows, stage.height - y0)
            call_band(stage.run, stage, image, y0, rows, begun)
            if shares > 1:
                count_band(meeting)
                number = take_number(meeting + TICKETS)
            else:
                number += 1
            begun = 1
        before += images * bands
        if shares > 1 and not wait_for_bands(meeting, before):
            return


@routine
def _run_band(stage: Stage, image: int, y0: int, rows: int, begun: int) -> None:
    """Run one band; ``begun`` is 1 if this thread has just run another of the same stage."""
    pixel = stage.channels * 4
    line = stage.columns * pixel
    frame = 0 if stage.accumulate else stage.band_rows * line
    first_term = term_at(stage.own_terms, 0)
    if stage.constant:
        # Over steps, all products of the one constant step go to the same place.
        fresh = first_term.constant and first_term.complete and not first_term.over_steps
        if not fresh:
            clear(stage.constant, rows * line // 64)
        for k in range(stage.terms):
            term = term_at(stage.own_terms, k)
            if term.constant:
                first = fresh if k == 0 else 0
                call_term(term.add, stage, term, image, 0, 1, y0, rows, stage.constant, 0, first, begun)
    if stage.fire and stage.accumulate:
        start = stage.parameters + 4 * pixel
        for p in range(rows * stage.width):
            copy_shifted(start, stage.potential + p * pixel, pixel // 64, 0)
        clear(stage.count, rows * stage.width * pixel // 64)
    if stage.unchanging:
        # All input is constant, so the band needs no currents of its own but those of silence.
        here, steps = stage.constant, stage.input_steps
        call_fire_band(stage.fire_band, stage, here, image, 0, steps, steps, y0, rows, 0, 0)
        if stage.steps > stage.input_steps:
            clear(stage.current, rows * line // 64)
            here, more = stage.current, stage.steps - steps
            call_fire_band(stage.fire_band, stage, here, image, steps, more, 0, y0, rows, 0, 1)
    for t0 in range(0, 0 if stage.unchanging else stage.steps, stage.band_steps):
        steps = min(stage.band_steps, stage.steps - t0)
        fresh = not stage.constant and not stage.accumulate and first_term.complete
        if not fresh and (t0 == 0 or not stage.accumulate):
            for t in range(1 if stage.accumulate else steps):
                clear(stage.current + t * frame, rows * line // 64)
                if stage.constant and t0 + t < stage.input_steps:
                    times = stage.input_steps if stage.accumulate else 1
                    call_add(stage.add, stage.current + t * frame, stage.constant, times, rows * line // 64)
        for k in range(stage.terms):
            term = term_at(stage.own_terms, k)
            if not term.constant:
                first = fresh if k == 0 else 0
                here = stage.current
                call_term(term.add, stage, term, image, t0, steps, y0, rows, here, frame, first, begun)
        begun = 1
        if stage.accumulate:
            continue
        if not stage.fire:
            call_write(stage.write, stage, image, t0, steps, y0, rows, frame)
        else:
            driven, here, started = min(max(stage.input_steps - t0, 0), steps), stage.current, int(t0 > 0)
            call_fire_band(stage.fire_band, stage, here, image, t0, steps, driven, y0, rows, frame, started)
    if stage.accumulate:
        if not stage.fire:
            call_write(stage.write, stage, image, 0, 1, y0, rows, 0)
        else:
            call_charge(stage.charge, stage, rows)
            here = stage.current
            call_fire_band(stage.fire_band, stage, here, image, 0, stage.steps, 0, y0, rows, 0, 1)
    if stage.keep:
        call_keep(stage.keep, stage, image, y0, rows)


@routine
def keep_states(stage: Stage, image: int, y0: int, rows: int) -> None:
    """Keep the final counts of a band, and its final potentials if they are wanted."""
    size = stage.width * stage.channels * 4
    place = (image * stage.height + y0) * size
    copy_shifted(stage.count, stage.final_count + place, rows * size // 64, 0)
    if stage.final_potential:
        copy_shifted(stage.potential, stage.final_potential + place, rows * size // 64, 0)


@routine
def _charge(stage: Stage, rows: int) -> None:
    """Add all input and all bias to the potentials of a band, and leave no current behind."""
    pixel = stage.channels * 4
    line = stage.columns * pixel
    bias = stage.parameters + pixel
    for row in range(rows):
        at = stage.potential + row * stage.width * pixel
        current = stage.current + row * line + stage.halo * pixel
        call_add(stage.add, at, current, 1, stage.width * pixel // 64)
        for x in range(stage.width):
            call_add(stage.add, at + x * pixel, bias, stage.input_steps, pixel // 64)
    clear(stage.current, rows * line // 64)


@routine
def _write_currents(stage: Stage, image: int, t0: int, steps: int, y0: int, rows: int, frame: int) -> None:
    """Copy the currents of a band out."""
    size = stage.width * stage.output_pixel
    for t in range(steps):
        out = stage.output + image * stage.output_image + (t0 + t) * stage.output_step + y0 * size
        for row in range(rows):
            at = stage.current + t * frame + (row * stage.columns + stage.halo) * stage.channels * 4
            copy_shifted(at, out + row * size, size // 64, 0)


def stage_fields(fires: bool, accumulates: bool, floats: bool) -> dict[str, int]:
    """Return the addresses of the routines of a stage."""
    fields = {"run": _run_band.address, "add": adding(floats).address}
    if not fires:
        return fields | {"write": _write_currents.address}
    if accumulates:
        fields["charge"] = _charge.address
    return fields | {"fire_band": _fire_band.address}
