"""Plain loops for what takes little time: pooling and counting events."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.numba_cpu.machine.cache import kernel

Array = NDArray[Any]


@kernel
def pool(values: Array, images: int, geometry: Array, maximum: bool, out: Array) -> None:
    """Write the sum, or the maximum, of every window; padding counts nothing and never wins.

    Args:
        values: (steps, images, height, width, channels) integers.
        images: how many of them to work on.
        geometry: kernel height and width, strides, pads at top and left, dilations.
        maximum: whether to take the maximum.
        out: (steps, images, height, width, channels) integers.
    """
    steps, _, height, width, channels = values.shape
    for t in range(steps):
        for b in range(images):
            for oy in range(out.shape[2]):
                for ox in range(out.shape[3]):
                    total = out[t, b, oy, ox]
                    fresh = True
                    for ky in range(geometry[0]):
                        y = oy * geometry[2] - geometry[4] + ky * geometry[6]
                        if y < 0 or y >= height:
                            continue
                        for kx in range(geometry[1]):
                            x = ox * geometry[3] - geometry[5] + kx * geometry[7]
                            if x < 0 or x >= width:
                                continue
                            v = values[t, b, y, x]
                            if fresh:
                                for c in range(channels):
                                    total[c] = v[c]
                                fresh = False
                            elif maximum:
                                for c in range(channels):
                                    total[c] = max(total[c], v[c])
                            else:
                                for c in range(channels):
                                    total[c] += v[c]
                    if fresh:
                        total[:] = 0


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
def tally(spikes: Array, images: int, events: Array, units: Array, bits: Array) -> None:
    """Count what was sent: (steps, images, neurons) integers into three (neurons,) int64 arrays."""
    for t in range(spikes.shape[0]):
        for b in range(images):
            row = spikes[t, b]
            for i in range(row.size):
                magnitude = abs(np.int64(row[i]))
                events[i] += magnitude != 0
                units[i] += magnitude
                while magnitude:
                    bits[i] += magnitude & 1
                    magnitude >>= 1


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
