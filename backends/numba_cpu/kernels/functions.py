"""Loops for the functions of spike counts; :mod:`snnc.ir.counts` has the equations.

Every operand is a row per image, of whatever order: how far its elements lie apart along each loop is told
beside it.

Quotients are taken in float64, which is exact where all numbers are below
:data:`EXACT`: who calls makes sure of that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.numba_cpu.kernels.product_currents import call_multiply
from snnc.backends.numba_cpu.machine.cache import kernel

Array = NDArray[Any]

EXACT = 2**50
"""Integers below are divided exactly."""


@kernel
def quotient(x: float, w: float, inverse: float) -> float:
    """Return ``floor(x / w)`` of whole numbers, ``w`` positive, with ``fl(1 / w)``.

    The product with the inverse has an error of at most ``|x / w| (2^-52 + 2^-106)``, which is less than
    ``1 / w`` because of ``|x| < 2^50``. A quotient that is no whole number lies at least ``1 / w`` below the
    next one, so that the floor of the product is never too large, and at most too small by one, which the
    rest tells.
    """
    found = np.floor(x * inverse)
    if x - found * w >= w:
        found += 1.0
    return found


@kernel
def multiply_counts(a: Array, b: Array, loops: Array, requantiser: Array, out: Array) -> None:
    """Write requantised products, element by element.

    Args:
        a: (images, elements) integers, the first factors.
        b: likewise, the second ones.
        loops: (4, 4) of each loop its size, and how far neighbours lie apart in ``a``, ``b`` and ``out``.
        requantiser: multiplier, shift, what is added before the shift, lowest and highest.
        out: (images, elements) integers.
    """
    multiplier, shift, half, lowest, highest = requantiser
    size, da, db, do = loops[3]
    for image in range(out.shape[0]):
        for i in range(loops[0, 0]):
            for j in range(loops[1, 0]):
                for k in range(loops[2, 0]):
                    pa = i * loops[0, 1] + j * loops[1, 1] + k * loops[2, 1]
                    pb = i * loops[0, 2] + j * loops[1, 2] + k * loops[2, 2]
                    po = i * loops[0, 3] + j * loops[1, 3] + k * loops[2, 3]
                    if do == 1 and da == 1 and db == 1:
                        # Slices lie in one piece, which is what vector code needs to be sure of.
                        left, right = a[image, pa : pa + size], b[image, pb : pb + size]
                        to = out[image, po : po + size]
                        for n in range(size):
                            x = (np.int64(left[n]) * np.int64(right[n]) * multiplier + half) >> shift
                            to[n] = min(max(x, lowest), highest)
                    elif do == 1 and da == 1 and db == 0:
                        left, to = a[image, pa : pa + size], out[image, po : po + size]
                        factor = np.int64(b[image, pb]) * multiplier
                        for n in range(size):
                            x = (np.int64(left[n]) * factor + half) >> shift
                            to[n] = min(max(x, lowest), highest)
                    else:
                        for n in range(size):
                            x = np.int64(a[image, pa + n * da]) * np.int64(b[image, pb + n * db])
                            x = (x * multiplier + half) >> shift
                            out[image, po + n * do] = min(max(x, lowest), highest)


@kernel
def softmax_counts(
    values: Array,
    loops: Array,
    table: Array,
    levels: int,
    row: Array,
    terms: Array,
    shares: Array,
    out: Array,
) -> None:
    """Write the softmax of counts by a table of the exponential function.

    Args:
        values: (images, elements) integers.
        loops: (4, 3) of each loop its size, and how far neighbours lie apart in ``values`` and ``out``: the
            last goes through a group.
        table: (n,) int32, never rising.
        levels: what a share of one is.
        row: (elements of a group,) scratch of a type that holds every index of the table.
        terms: (elements of a group,) int32, scratch.
        shares: likewise.
        out: (images, elements) integers.
    """
    size, dv, do = loops[3]
    last = np.uint32(table.size - 1)
    for image in range(out.shape[0]):
        for i in range(loops[0, 0]):
            for j in range(loops[1, 0]):
                for k in range(loops[2, 0]):
                    pv = i * loops[0, 1] + j * loops[1, 1] + k * loops[2, 1]
                    po = i * loops[0, 2] + j * loops[1, 2] + k * loops[2, 2]
                    top = np.int32(values[image, pv])
                    if dv == 1:
                        read = values[image, pv : pv + size]
                        for n in range(size):
                            top = max(top, np.int32(read[n]))
                        for n in range(size):
                            row[n] = min(np.uint32(top - np.int32(read[n])), last)
                    else:
                        for n in range(size):
                            top = max(top, np.int32(values[image, pv + n * dv]))
                        for n in range(size):
                            row[n] = min(np.uint32(top - np.int32(values[image, pv + n * dv])), last)
                    total = np.int64(0)
                    for n in range(size):
                        term = table[row[n]]
                        terms[n] = term
                        total += term
                    _share(terms, levels, total, shares)
                    if do == 1:
                        to = out[image, po : po + size]
                        for n in range(size):
                            to[n] = shares[n]
                    else:
                        for n in range(size):
                            out[image, po + n * do] = shares[n]


@kernel
def _share(terms: Array, levels: int, total: Any, shares: Array) -> None:
    """Write ``floor((levels term + floor(total / 2)) / total)``."""
    factor, half, whole = np.float64(levels), np.float64(total >> 1), np.float64(total)
    inverse = 1.0 / whole
    for n in range(terms.size):
        x = np.float64(terms[n]) * factor + half
        q = quotient(x, whole, inverse)
        shares[n] = np.int32(q)


@kernel
def maximum_counts(values: Array, loops: Array, out: Array) -> None:
    """Write the largest counts of groups.

    Args:
        values: (images, elements) integers.
        loops: (4, 3), as for :func:`normalise_counts`.
        out: (images, elements) integers.
    """
    outer, ov, oo = loops[0]
    beside, lv, lo = loops[1]
    rows, rv, _ = loops[2]
    size, dv, _ = loops[3]
    for image in range(out.shape[0]):
        for i in range(outer):
            if beside > 1 and lv == 1 and lo == 1:
                to = out[image, i * oo : i * oo + beside]
                to[:] = values[image, i * ov : i * ov + beside]
                for r in range(rows):
                    for k in range(size):
                        at = i * ov + r * rv + k * dv
                        read = values[image, at : at + beside]
                        for c in range(beside):
                            to[c] = max(to[c], read[c])
                continue
            for j in range(beside):
                at = i * ov + j * lv
                highest = np.int32(values[image, at])
                for r in range(rows):
                    for k in range(size):
                        highest = max(highest, np.int32(values[image, at + r * rv + k * dv]))
                out[image, i * oo + j * lo] = highest


@kernel
def root(value: int) -> int:
    """Return the integer square root of a number below 2^62."""
    found = np.int64(np.sqrt(np.float64(value)))
    found -= np.int64(found * found > value)
    found += np.int64((found + 1) * (found + 1) <= value)
    return int(found)


@kernel
def normalise_counts(
    values: Array, loops: Array, centred: bool, norm: Array, lanes: Array, out: Array
) -> None:
    """Write counts normalised by their own mean and variance.

    Args:
        values: (images, elements) integers.
        loops: (4, 3) of each loop its size, and how far neighbours lie apart in ``values`` and ``out``: two
            through groups, two within a group. Where neighbours of the second are neighbours in memory,
            groups are worked on side by side.
        centred: whether the mean is subtracted.
        norm: epsilon, the factor of a root, factor, lowest and highest.
        lanes: (3, groups side by side) float64, scratch.
        out: (images, elements) integers.
    """
    outer, ov, oo = loops[0]
    beside, lv, lo = loops[1]
    for image in range(out.shape[0]):
        for i in range(outer):
            if beside > 1 and lv == 1 and lo == 1:
                _normalise_beside(values[image, i * ov :], loops, centred, norm, lanes, out[image, i * oo :])
                continue
            for j in range(beside):
                _normalise_one(
                    values[image, i * ov + j * lv :], loops, centred, norm, out[image, i * oo + j * lo :]
                )


@kernel
def _normalise_beside(
    values: Array, loops: Array, centred: bool, norm: Array, lanes: Array, out: Array
) -> None:
    """Normalise groups that lie side by side."""
    epsilon, scale, factor, lowest, highest = norm
    low, high = np.float64(lowest), np.float64(highest)
    beside = loops[1, 0]
    rows, rv, ro = loops[2]
    size, dv, do = loops[3]
    n = rows * size
    slope = np.float64(n * factor)
    first, second, inverse = lanes[0], lanes[1], lanes[2]
    for c in range(beside):
        first[c] = 0.0
        second[c] = 0.0
    for r in range(rows):
        for k in range(size):
            at = r * rv + k * dv
            read = values[at : at + beside]
            for c in range(beside):
                v = np.float64(read[c])
                first[c] += v
                second[c] += v * v
    for c in range(beside):
        mean = np.int64(first[c]) if centred else np.int64(0)
        d = root((n * np.int64(second[c]) - mean * mean + epsilon) * scale)
        first[c] = np.float64((d >> 1) - mean * factor)
        second[c] = np.float64(d)
        inverse[c] = 1.0 / np.float64(d)
    for r in range(rows):
        for k in range(size):
            at, there = r * rv + k * dv, r * ro + k * do
            read, to = values[at : at + beside], out[there : there + beside]
            for c in range(beside):
                x = np.float64(read[c]) * slope + first[c]
                q = quotient(x, second[c], inverse[c])
                to[c] = np.int32(min(max(q, low), high))


@kernel
def _normalise_one(values: Array, loops: Array, centred: bool, norm: Array, out: Array) -> None:
    """Normalise one group."""
    epsilon, scale, factor, lowest, highest = norm
    low, high = np.float64(lowest), np.float64(highest)
    rows, rv, ro = loops[2]
    size, dv, do = loops[3]
    n = rows * size
    total, square = np.int64(0), np.int64(0)
    for r in range(rows):
        if dv == 1:
            read = values[r * rv : r * rv + size]
            for k in range(size):
                v = np.int64(read[k])
                total += v
                square += v * v
        else:
            for k in range(size):
                v = np.int64(values[r * rv + k * dv])
                total += v
                square += v * v
    if not centred:
        total = np.int64(0)
    d = root((n * square - total * total + epsilon) * scale)
    slope = np.float64(n * factor)
    start, whole = np.float64((d >> 1) - total * factor), np.float64(d)
    part = 1.0 / whole
    for r in range(rows):
        if dv == 1 and do == 1:
            read, to = values[r * rv : r * rv + size], out[r * ro : r * ro + size]
            for k in range(size):
                x = np.float64(read[k]) * slope + start
                q = quotient(x, whole, part)
                to[k] = np.int32(min(max(q, low), high))
        else:
            for k in range(size):
                x = np.float64(values[r * rv + k * dv]) * slope + start
                q = quotient(x, whole, part)
                out[r * ro + k * do] = np.int32(min(max(q, low), high))


@kernel
def multiply_matrices(
    a: Array,
    b: Array,
    loops: Array,
    sizes: Array,
    requantiser: Array,
    rows: Array,
    tiles: Array,
    sums: Array,
    runs: Array,
    out: Array,
) -> None:
    """Write requantised products of matrices, by the vector code of dense synapses.

    Args:
        a: (images, elements) integers of up to 16 bits, the first factors.
        b: likewise, the second ones.
        loops: (2, 4) of both axes of the stack the size, and how far neighbours lie apart in ``a``, ``b`` and
            ``out``.
        sizes: rows, inner size and columns; how far neighbours lie apart in ``a`` (down, along), ``b`` (down,
            along) and ``out`` (down, along); how many rows are multiplied together, and the address of the
            code that does it.
        requantiser: multiplier, shift, what is added before the shift, lowest and highest.
        rows: (rows in whole blocks, inner size in pairs) int16, scratch, of zeros.
        tiles: (tiles of outputs, pairs, outputs, 2) int16, scratch, of zeros.
        sums: (rows in whole blocks, columns in whole tiles) int32, scratch.
        runs: (1,) int64, zero, and behind it as many zeros as a row of a tile has bytes.
        out: (images, elements) integers.
    """
    count, inner, columns, a_down, a_along, b_down, b_along, o_down, o_along, together, multiply = sizes
    multiplier, shift, half, lowest, highest = requantiser
    outputs = tiles.shape[2]
    blocks = rows.shape[0] // together
    row_bytes, sum_bytes = rows.shape[1] * 2, sums.shape[1] * 4
    zeros = runs.ctypes.data + 64
    for image in range(out.shape[0]):
        left, right, to = a[image], b[image], out[image]
        for s in range(loops[0, 0]):
            for u in range(loops[1, 0]):
                pa, pb = s * loops[0, 1] + u * loops[1, 1], s * loops[0, 2] + u * loops[1, 2]
                po = s * loops[0, 3] + u * loops[1, 3]
                for i in range(count):
                    at = pa + i * a_down
                    if a_along == 1:
                        for k in range(inner):
                            rows[i, k] = left[at + k]
                    else:
                        for k in range(inner):
                            rows[i, k] = left[at + k * a_along]
                for k in range(inner):
                    at, pair, odd = pb + k * b_down, k >> 1, k & 1
                    for tile in range(tiles.shape[0]):
                        first = tile * outputs
                        for j in range(min(outputs, columns - first)):
                            tiles[tile, pair, j, odd] = right[at + (first + j) * b_along]
                for tile in range(tiles.shape[0]):
                    target = sums.ctypes.data + tile * outputs * 4
                    weight = tiles[tile].ctypes.data
                    call_multiply(
                        multiply,
                        target,
                        sum_bytes,
                        zeros,
                        0,
                        blocks,
                        rows.ctypes.data,
                        row_bytes,
                        runs.ctypes.data,
                        1,
                        tiles.shape[1],
                        weight,
                        0,
                    )
                for i in range(count):
                    at = po + i * o_down
                    if o_along == 1:
                        for j in range(columns):
                            x = (np.int64(sums[i, j]) * multiplier + half) >> shift
                            to[at + j] = min(max(x, lowest), highest)
                    else:
                        for j in range(columns):
                            x = (np.int64(sums[i, j]) * multiplier + half) >> shift
                            to[at + j * o_along] = min(max(x, lowest), highest)
