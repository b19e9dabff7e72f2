"""The arithmetic of the simulator as plain loops, for every shape and every setting.

All arrays are channel-last: spikes are ``(frames, height, width, channels)``, where a frame is one
step of one image; currents likewise, int32. A kernel adds to the current that it is given, so that
the branches of a residual sum meet without a pass of their own.

A convolution works through events. :func:`list_events` writes, for every pixel, which channels
spiked; :func:`convolve` collects the rows of the weight that an output pixel's window selects and
adds them, four at a time. Its cost follows the number of spikes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.numba_cpu.cache import kernel

Array = NDArray[Any]


@kernel
def list_events(spikes: Array, groups: int, index: Array, value: Array, count: Array) -> None:
    """List the channels that spiked, per pixel and channel group.

    Args:
        spikes: (pixels, channels) integers.
        groups: number of channel groups.
        index: (pixels, channels) int32, out: the list of group ``g`` starts at ``g * channels / groups``
            and holds channel numbers within the group.
        value: (pixels, channels) int32, out: the spikes themselves.
        count: (pixels, groups) int32, out: lengths of the lists.
    """
    pixels, channels = spikes.shape
    size = channels // groups
    for p in range(pixels):
        for g in range(groups):
            n = 0
            start = g * size
            for c in range(size):
                s = spikes[p, start + c]
                index[p, start + n] = c
                value[p, start + n] = s
                n += s != 0
            count[p, g] = n


@kernel
def convolve(
    index: Array, value: Array, count: Array, unit: bool, weight: Array, geometry: Array, out: Array
) -> None:
    """Add a convolution of listed spikes to a current.

    Args:
        index: (frames, height, width, channels) int32, from :func:`list_events`.
        value: (frames, height, width, channels) int32, likewise.
        count: (frames, height, width, groups) int32, likewise.
        unit: whether every spike is 1 or -1.
        weight: (groups, kernel height * kernel width * group inputs, group outputs) integers.
        geometry: kernel height and width, strides, pads at top and left, dilations.
        out: (frames, height, width, channels) int32.
    """
    frames, height, width, groups = count.shape
    out_height, out_width = out.shape[1], out.shape[2]
    kernel_height, kernel_width = geometry[0], geometry[1]
    inputs = index.shape[3] // groups
    outputs = weight.shape[2]
    rows = np.empty(weight.shape[1] + 4, np.int32)
    factors = np.empty(weight.shape[1] + 4, np.int32)
    taken = np.empty(weight.shape[1] + 4, np.int32)
    for f in range(frames):
        for oy in range(out_height):
            for ox in range(out_width):
                for g in range(groups):
                    n = 0  # rows to add, with their factors
                    m = 0  # rows to subtract, where spikes are units
                    for ky in range(kernel_height):
                        y = oy * geometry[2] - geometry[4] + ky * geometry[6]
                        if y < 0 or y >= height:
                            continue
                        for kx in range(kernel_width):
                            x = ox * geometry[3] - geometry[5] + kx * geometry[7]
                            if x < 0 or x >= width:
                                continue
                            first = (ky * kernel_width + kx) * inputs
                            for j in range(g * inputs, g * inputs + count[f, y, x, g]):
                                row = first + index[f, y, x, j]
                                s = value[f, y, x, j]
                                rows[n] = row
                                factors[n] = s
                                taken[m] = row
                                if unit and s < 0:
                                    m += 1
                                else:
                                    n += 1
                    total = out[f, oy, ox, g * outputs : (g + 1) * outputs]
                    table = weight[g]
                    if unit:
                        _add_rows(table, rows, n, total)
                        _subtract_rows(table, taken, m, total)
                    else:
                        _add_scaled_rows(table, rows, factors, n, total)


@kernel
def _add_rows(table: Array, rows: Array, n: int, total: Array) -> None:
    j = 0
    while j + 4 <= n:
        a, b, c, d = table[rows[j]], table[rows[j + 1]], table[rows[j + 2]], table[rows[j + 3]]
        for o in range(total.size):
            total[o] += np.int32(a[o]) + np.int32(b[o]) + np.int32(c[o]) + np.int32(d[o])
        j += 4
    while j < n:
        a = table[rows[j]]
        for o in range(total.size):
            total[o] += a[o]
        j += 1


@kernel
def _subtract_rows(table: Array, rows: Array, n: int, total: Array) -> None:
    for j in range(n):
        a = table[rows[j]]
        for o in range(total.size):
            total[o] -= a[o]


@kernel
def _add_scaled_rows(table: Array, rows: Array, factors: Array, n: int, total: Array) -> None:
    j = 0
    while j + 2 <= n:
        a, b = table[rows[j]], table[rows[j + 1]]
        p, q = factors[j], factors[j + 1]
        for o in range(total.size):
            total[o] += p * np.int32(a[o]) + q * np.int32(b[o])
        j += 2
    while j < n:
        a = table[rows[j]]
        p = factors[j]
        for o in range(total.size):
            total[o] += p * np.int32(a[o])
        j += 1


@kernel
def convolve_depthwise(spikes: Array, weight: Array, geometry: Array, out: Array) -> None:
    """Add a convolution in which every channel is a group of its own to a current.

    Args:
        spikes: (frames, height, width, channels) integers.
        weight: (kernel height * kernel width, channels) integers.
        geometry: as for :func:`convolve`.
        out: (frames, height, width, channels) int32.
    """
    frames, height, width, channels = spikes.shape
    for f in range(frames):
        for oy in range(out.shape[1]):
            for ox in range(out.shape[2]):
                total = out[f, oy, ox]
                for ky in range(geometry[0]):
                    y = oy * geometry[2] - geometry[4] + ky * geometry[6]
                    if y < 0 or y >= height:
                        continue
                    for kx in range(geometry[1]):
                        x = ox * geometry[3] - geometry[5] + kx * geometry[7]
                        if x < 0 or x >= width:
                            continue
                        w = weight[ky * geometry[1] + kx]
                        s = spikes[f, y, x]
                        for c in range(channels):
                            total[c] += np.int32(w[c]) * np.int32(s[c])


@kernel
def scale_channels(spikes: Array, weight: Array, out: Array) -> None:
    """Add ``weight[c] s[c]`` to a current; all arrays are (pixels, channels) but ``weight``, (channels,)."""
    for p in range(spikes.shape[0]):
        s, total = spikes[p], out[p]
        for c in range(weight.size):
            total[c] += np.int32(weight[c]) * np.int32(s[c])


@kernel
def pool(values: Array, geometry: Array, maximum: bool, out: Array) -> None:
    """Write the sum, or the maximum, of every window; padding counts nothing and never wins.

    Args:
        values: (frames, height, width, channels) integers.
        geometry: as for :func:`convolve`.
        maximum: whether to take the maximum.
        out: (frames, height, width, channels) integers.
    """
    frames, height, width, channels = values.shape
    for f in range(frames):
        for oy in range(out.shape[1]):
            for ox in range(out.shape[2]):
                total = out[f, oy, ox]
                fresh = True
                for ky in range(geometry[0]):
                    y = oy * geometry[2] - geometry[4] + ky * geometry[6]
                    if y < 0 or y >= height:
                        continue
                    for kx in range(geometry[1]):
                        x = ox * geometry[3] - geometry[5] + kx * geometry[7]
                        if x < 0 or x >= width:
                            continue
                        v = values[f, y, x]
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
def fire(
    current: Array,
    constant: Array,
    driven: int,
    parameters: Array,
    capacity: int,
    limit: int,
    barrier: bool,
    spikes: Array,
    v: Array,
    count: Array,
) -> None:
    """Run a population; see :class:`snnc.ir.snn.IntegrateFire`.

    Args:
        current: (steps, images, pixels, channels) int32, the part that changes; no steps if there is none.
        constant: (images, pixels, channels) int32, the part that is the same in each driven step; no
            images if there is none.
        driven: T, the number of steps with constant current and bias.
        parameters: (4, channels) int32: threshold, bias, initial potential, negative threshold.
        capacity: T M with memory, 0 without.
        limit: the largest number of spikes sent in one step.
        barrier: whether all input comes before the first spike.
        spikes: (steps, images, pixels, channels) integers, out.
        v: (images, pixels, channels) int32, out: final potentials.
        count: (images, pixels, channels) int32, out: final spike counts.
    """
    steps, images, pixels, _ = spikes.shape
    theta, bias, start, negative = parameters
    varying = current.shape[0] > 0
    fixed = constant.shape[0] > 0
    for b in range(images):
        for p in range(pixels):
            v[b, p] = start
            count[b, p] = 0
            if barrier:
                _charge(v[b, p], bias, driven)
                if fixed:
                    _charge(v[b, p], constant[b, p], driven)
                if varying:
                    for t in range(steps):
                        _charge(v[b, p], current[t, b, p], 1)
        for t in range(steps):
            for p in range(pixels):
                if not barrier:
                    if t < driven:
                        _charge(v[b, p], bias, 1)
                        if fixed:
                            _charge(v[b, p], constant[b, p], 1)
                    if varying:
                        _charge(v[b, p], current[t, b, p], 1)
                if limit == 1:
                    _fire_unit(v[b, p], count[b, p], theta, negative, capacity, barrier, spikes[t, b, p])
                else:
                    _fire_levels(v[b, p], count[b, p], theta, capacity, limit, barrier, spikes[t, b, p])


@kernel
def _charge(v: Array, current: Array, times: int) -> None:
    factor = np.int32(times)
    for c in range(v.size):
        v[c] += factor * current[c]


@kernel
def _fire_unit(
    v: Array, count: Array, theta: Array, negative: Array, capacity: int, barrier: bool, out: Array
) -> None:
    """One step with at most one spike: comparisons stand for the division."""
    if capacity == 0:
        for c in range(v.size):
            s = np.int32(v[c] >= theta[c])
            v[c] -= s * theta[c]
            count[c] += s
            out[c] = s
        return
    full = np.int32(capacity)
    back = np.int32(0 if barrier else 1)
    for c in range(v.size):
        up = np.int32(v[c] >= theta[c]) & np.int32(count[c] < full)
        down = np.int32(v[c] < -negative[c]) & np.int32(count[c] > 0) & back
        s = np.int32(up - down)
        v[c] -= s * theta[c]
        count[c] += s
        out[c] = s


@kernel
def _fire_levels(
    v: Array, count: Array, theta: Array, capacity: int, limit: int, barrier: bool, out: Array
) -> None:
    """One step with several spikes.

    The quotient is taken in float64, and its floor is exact: where ``m / theta`` lies below an integer
    ``k`` it does so by at least ``1 / theta``, and rounding moves it by at most ``k / 2^53``, which is
    less since ``k theta`` is below ``2^32``.
    """
    for c in range(v.size):
        wanted = np.floor(np.float64(v[c]) / np.float64(theta[c]))
        high = np.int32(limit)
        low = np.int32(0)
        if capacity > 0:
            high = min(high, np.int32(capacity - count[c]))
            if not barrier:
                low = -min(count[c], np.int32(limit))
        s = np.int32(max(min(wanted, np.float64(high)), np.float64(low)))
        v[c] -= s * theta[c]
        count[c] += s
        out[c] = s


@kernel
def tally(spikes: Array, events: Array, units: Array, bits: Array) -> None:
    """Count what was sent: (frames, neurons) integers into three (neurons,) int64 arrays."""
    for f in range(spikes.shape[0]):
        row = spikes[f]
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
