"""Plain loops for what takes little time: pooling, counting events, and neurons in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.numba_cpu.cache import kernel

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
def fire_floats(
    current: Array,
    driven: int,
    parameters: Array,
    capacity: int,
    limit: float,
    barrier: bool,
    spikes: Array,
    v: Array,
) -> None:
    """Run a population before quantisation; see :class:`snnc.ir.snn.IntegrateFire`.

    Args:
        current: (steps, images, channels, positions) float32.
        driven: T, the number of steps with bias.
        parameters: (4, channels) float32: threshold, bias, initial potential, negative threshold.
        capacity: T M with memory, 0 without.
        limit: largest number sent in one step, infinite if graded.
        barrier: whether all input comes before the first spike.
        spikes: (steps, images, channels, positions) float32, out.
        v: (images, channels, positions) float32, out: final potentials.
    """
    steps, images, channels, positions = current.shape
    count = np.empty(positions, np.float32)
    none = np.float32(0)
    top = np.float32(limit)
    full = np.float32(capacity)
    for b in range(images):
        for c in range(channels):
            theta, bias, start, negative = parameters[:, c]
            potential = v[b, c]
            potential[:] = start
            count[:] = 0
            if barrier:
                for t in range(steps):
                    for i in range(positions):
                        potential[i] += current[t, b, c, i]
                for i in range(positions):
                    potential[i] += np.float32(driven) * bias
            for t in range(steps):
                row, out = current[t, b, c], spikes[t, b, c]
                added = bias if t < driven else none
                for i in range(positions):
                    m = potential[i] if barrier else potential[i] + row[i] + added
                    s = np.floor(m / theta)
                    if capacity > 0:
                        low = none if barrier else -min(count[i], top)
                        if s < none and m >= -negative:
                            s = none
                        s = max(min(s, min(full - count[i], top)), low)
                    else:
                        s = max(min(s, top), none)
                    potential[i] = m - s * theta
                    count[i] += s
                    out[i] = s
