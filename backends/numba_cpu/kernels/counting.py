"""Plain loops for what takes little time: pooling and counting events."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.numba_cpu.codegen.micro_steps import follow_steps, look_up_steps, scale_steps
from snnc.backends.numba_cpu.machine.cache import kernel

Array = NDArray[Any]

TALLIED = 1024
"""Neurons that are counted at once: their counts stay in the cache."""


@kernel
def pool(values: Array, sizes: Array, geometry: Array, maximum: bool, out: Array) -> None:
    """Write the sum, or the maximum, of every window; padding counts nothing and never wins.

    Args:
        values: (steps * images * height * width * channels,) integers.
        sizes: steps, images, how many of them to work on, height, width, channels; height, width and channels
            of the output.
        geometry: kernel height and width, strides, pads at top and left, dilations.
        maximum: whether to take the maximum.
        out: (steps * images * output height * output width * output channels,) integers; where there are more
            channels than in the values, those behind them are left as they are.
    """
    steps, images, wanted, height, width, channels, rows, columns, apart = sizes
    for frame in range(steps * images):
        if frame % images >= wanted:
            continue
        for place in range(rows * columns):
            oy, ox = place // columns, place % columns
            at = (frame * rows * columns + place) * apart
            to = out[at : at + channels]
            fresh = True
            for tap in range(geometry[0] * geometry[1]):
                ky, kx = tap // geometry[1], tap % geometry[1]
                y = oy * geometry[2] - geometry[4] + ky * geometry[6]
                x = ox * geometry[3] - geometry[5] + kx * geometry[7]
                if y < 0 or y >= height or x < 0 or x >= width:
                    continue
                v = ((frame * height + y) * width + x) * channels
                # A slice lies in one piece, and a loop does one thing: what vector code needs.
                read = values[v : v + channels]
                if fresh:
                    for c in range(channels):
                        to[c] = read[c]
                    fresh = False
                elif maximum:
                    for c in range(channels):
                        to[c] = max(to[c], read[c])
                else:
                    for c in range(channels):
                        to[c] += read[c]
            if fresh:
                to[:] = 0


@kernel
def pool_counts(
    values: Array, images: int, geometry: Array, counts: Array, highest: Array, best: Array, out: Array
) -> None:
    """Write by how much the largest count of every window grew in each step.

    Args:
        values: (steps, images, height, width, channels) integers.
        images: how many of them to work on.
        geometry: as for :func:`pool`.
        counts: (height, width, channels), scratch that holds every sum of spikes.
        highest: (output height, output width, channels) of the same type, scratch.
        best: (channels,) of the same type, scratch.
        out: (steps, images, output height, output width, channels) integers.
    """
    steps, _, height, width, channels = values.shape
    for b in range(images):
        counts[:] = 0
        highest[:] = 0
        for t in range(steps):
            for y in range(height):
                for x in range(width):
                    for c in range(channels):
                        counts[y, x, c] += values[t, b, y, x, c]
            for oy in range(out.shape[2]):
                for ox in range(out.shape[3]):
                    fresh = True
                    for ky in range(geometry[0]):
                        y = oy * geometry[2] - geometry[4] + ky * geometry[6]
                        if y < 0 or y >= height:
                            continue
                        for kx in range(geometry[1]):
                            x = ox * geometry[3] - geometry[5] + kx * geometry[7]
                            if x < 0 or x >= width:
                                continue
                            if fresh:
                                for c in range(channels):
                                    best[c] = counts[y, x, c]
                                fresh = False
                            else:
                                for c in range(channels):
                                    best[c] = max(best[c], counts[y, x, c])
                    if fresh:
                        best[:] = 0
                    for c in range(channels):
                        out[t, b, oy, ox, c] = best[c] - highest[oy, ox, c]
                        highest[oy, ox, c] = best[c]


@kernel
def gather(values: Array, index: Array, out: Array) -> None:
    """Write ``out[b, i] = values[b, index[i]]``, or zero where the index is negative."""
    for b in range(values.shape[0]):
        for i in range(index.size):
            place = index[i]
            out[b, i] = values[b, place] if place >= 0 else 0


@kernel
def tally(spikes: Array, images: int, events: Array, units: Array, bits: Array) -> None:
    """Count what was sent: (steps, images, neurons) integers into three (neurons,) int64 arrays."""
    sent, ones = np.empty(TALLIED, np.uint32), np.empty(TALLIED, np.uint32)
    for start in range(0, events.size, TALLIED):
        size = min(TALLIED, events.size - start)
        sent[:] = 0
        ones[:] = 0
        total = units[start : start + size]
        for t in range(spikes.shape[0]):
            for b in range(images):
                row = spikes[t, b, start : start + size]
                for i in range(size):
                    sent[i] += np.uint32(row[i] != 0)
                for i in range(size):
                    total[i] += abs(np.int64(row[i]))
                for i in range(size):  # the bits of a magnitude: added up in pairs, fours, eights and all
                    x = np.uint32(abs(np.int64(row[i])))
                    x = np.uint32(x - ((x >> np.uint32(1)) & np.uint32(0x55555555)))
                    x = np.uint32((x & np.uint32(0x33333333)) + ((x >> np.uint32(2)) & np.uint32(0x33333333)))
                    x = np.uint32((x + (x >> np.uint32(4))) & np.uint32(0x0F0F0F0F))
                    ones[i] += np.uint32(x * np.uint32(0x01010101)) >> np.uint32(24)
        for i in range(size):
            events[start + i] += sent[i]
            bits[start + i] += ones[i]


@kernel
def fire_steps(
    currents: Array,
    images: int,
    input_steps: int,
    barrier: bool,
    vectors: Array,
    points: Array,
    step_values: Array,
    limit: int,
    out: Array,
    potential: Array,
    taken: Array,
) -> None:
    """Let a population send the change of a step function of all that it has received.

    Args:
        currents: (steps, images, height, width, channels) int32.
        images: how many of them to work on.
        input_steps: T, of which each has the bias.
        barrier: whether it integrates all before it fires.
        vectors: (2, channels) int32, the bias and the initial potential.
        points: (rows, n) int32, the breakpoints, one row per channel or one for all.
        step_values: (n + 1,) int32.
        limit: most that leaves in a step, of either sign.
        out: (steps, images, height, width, channels) integers, the spikes.
        potential: (images, height, width, channels) int32, the final potential.
        taken: (images, height, width, channels) int32, minus the final count.
    """
    steps = currents.shape[0]
    height, width = out.shape[2], out.shape[3]
    channels = vectors.shape[1]
    rows, n = points.shape
    for b in range(images):
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    row = c if rows > 1 else 0
                    v, sent, wanted = np.int64(vectors[1, c]), np.int64(0), np.int64(0)
                    if barrier:
                        v += input_steps * np.int64(vectors[0, c])
                        for t in range(steps):
                            v += currents[t, b, y, x, c]
                    for t in range(steps):
                        if not barrier:
                            v += currents[t, b, y, x, c]
                            if t < input_steps:
                                v += vectors[0, c]
                        if t == 0 or not barrier:
                            low, high = 0, n
                            while low < high:
                                middle = (low + high) // 2
                                if points[row, middle] <= v:
                                    low = middle + 1
                                else:
                                    high = middle
                            wanted = np.int64(step_values[low])
                        s = np.int64(min(max(wanted - sent, np.int64(-limit)), np.int64(limit)))
                        sent += s
                        out[t, b, y, x, c] = s
                    potential[b, y, x, c] = v
                    taken[b, y, x, c] = -sent


@kernel
def fire_once(
    current: Array, start: Array, points: Array, rises: Array, base: int, limit: int, blocks: int, out: Array
) -> None:
    """Write the spikes of the only step of a population with a step function of few breakpoints.

    Args:
        current: (pixels, padded channels) int32.
        start: (padded channels,) int32, what is added to it.
        points: (n, padded channels) int32, the breakpoints.
        rises: (n,) int32, by how much the count changes at each of them.
        base: the count below all of them.
        limit: most that leaves in a step, of either sign.
        blocks: how many times sixteen channels there are.
        out: (pixels, padded channels) integers.
    """
    apart, row = points.shape[1] * 4, current.shape[1] * 4
    width = out.itemsize
    read, to, begin = current.ctypes.data, out.ctypes.data, start.ctypes.data
    place, rise, count = points.ctypes.data, rises.ctypes.data, points.shape[0]
    for p in range(out.shape[0]):
        here, there = read + p * row, to + p * out.shape[1] * width
        if width == 1:
            follow_steps("bytes", here, begin, place, apart, rise, count, base, limit, blocks, there)
        elif width == 2:
            follow_steps("words", here, begin, place, apart, rise, count, base, limit, blocks, there)
        else:
            follow_steps("wide", here, begin, place, apart, rise, count, base, limit, blocks, there)


@kernel
def fire_buckets(
    current: Array,
    start: Array,
    buckets: Array,
    table: Array,
    base: int,
    limit: int,
    remembers: bool,
    potential: Array,
    taken: Array,
    out: Array,
) -> None:
    """Let a population send the change of a step function for one step; see ``execution/step_functions.py``.

    Args:
        current: (pixels, padded channels) int32, the current of the step.
        start: (padded channels,) int32, what is added to it: the bias, and at first the potential.
        buckets: (5, padded channels) int32, the fields of :class:`Buckets`.
        table: (padded channels, buckets) int32, of :class:`Buckets`.
        base: the count that a byte of zero stands for.
        limit: most that leaves in a step, of either sign.
        remembers: whether the states of earlier steps are read, and those of this one written.
        potential: (pixels, padded channels) int32.
        taken: likewise, minus the counts.
        out: (pixels, padded channels) integers, the spikes.
    """
    width, padded, pixels = out.itemsize, out.shape[1], out.shape[0]
    apart, row, spike_row = padded * 4, padded * 4, padded * width
    for block in range(-(-start.size // 16)):
        at = 64 * block
        read, begin, own = current.ctypes.data + at, start.ctypes.data + at, buckets.ctypes.data + at
        v, n = potential.ctypes.data + at, taken.ctypes.data + at
        to, found = out.ctypes.data + 16 * width * block, table.ctypes.data + at * table.shape[1]
        if width == 1 and remembers:
            look_up_steps(
                "bytes", True, read, begin, own, apart, found, base, limit, v, n, row, pixels, to, spike_row
            )
        elif width == 1:
            look_up_steps(
                "bytes", False, read, begin, own, apart, found, base, limit, v, n, row, pixels, to, spike_row
            )
        elif width == 2 and remembers:
            look_up_steps(
                "words", True, read, begin, own, apart, found, base, limit, v, n, row, pixels, to, spike_row
            )
        elif width == 2:
            look_up_steps(
                "words", False, read, begin, own, apart, found, base, limit, v, n, row, pixels, to, spike_row
            )
        elif remembers:
            look_up_steps(
                "wide", True, read, begin, own, apart, found, base, limit, v, n, row, pixels, to, spike_row
            )
        else:
            look_up_steps(
                "wide", False, read, begin, own, apart, found, base, limit, v, n, row, pixels, to, spike_row
            )


@kernel
def fire_even(
    current: Array,
    start: Array,
    fields: Array,
    last: int,
    base: int,
    limit: int,
    remembers: bool,
    potential: Array,
    taken: Array,
    out: Array,
) -> None:
    """Do the same where steps are evenly apart; see ``execution/even_steps.py``.

    Args:
        current: as above, and so are all that are not named here.
        start: (padded channels,) int32.
        fields: (2, padded channels) float64, origin and factor.
        last: how many steps each neuron has.
        base: the count in front of the first.
        limit: most that leaves in a step, of either sign.
        remembers: whether the states of earlier steps are read, and those of this one written.
        potential: (pixels, padded channels) int32.
        taken: likewise, minus the counts.
        out: (pixels, padded channels) integers, the spikes.
    """
    width, padded, pixels = out.itemsize, out.shape[1], out.shape[0]
    apart, row, spike_row = padded * 8, padded * 4, padded * width
    for block in range(-(-start.size // 16)):
        at = 64 * block
        read, begin, own = current.ctypes.data + at, start.ctypes.data + at, fields.ctypes.data + 2 * at
        v, n, to = potential.ctypes.data + at, taken.ctypes.data + at, out.ctypes.data + 16 * width * block
        if width == 1 and remembers:
            scale_steps(
                "bytes", True, read, begin, own, apart, last, base, limit, v, n, row, pixels, to, spike_row
            )
        elif width == 1:
            scale_steps(
                "bytes", False, read, begin, own, apart, last, base, limit, v, n, row, pixels, to, spike_row
            )
        elif width == 2 and remembers:
            scale_steps(
                "words", True, read, begin, own, apart, last, base, limit, v, n, row, pixels, to, spike_row
            )
        elif width == 2:
            scale_steps(
                "words", False, read, begin, own, apart, last, base, limit, v, n, row, pixels, to, spike_row
            )
        elif remembers:
            scale_steps(
                "wide", True, read, begin, own, apart, last, base, limit, v, n, row, pixels, to, spike_row
            )
        else:
            scale_steps(
                "wide", False, read, begin, own, apart, last, base, limit, v, n, row, pixels, to, spike_row
            )
