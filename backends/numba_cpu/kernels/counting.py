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
