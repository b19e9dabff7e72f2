r"""The innermost loops, written as vector code.

Everything here works on addresses; the shapes are the business of
:mod:`snnc.backends.numba_cpu.stage`. Currents are int32, spikes int8, and the channels of a pixel lie
side by side.

**Events** (:func:`list_column`, :func:`scatter_row`). A spike adds one row of the weight to the
currents of several neighbouring output pixels. A row is cut into blocks of 32 outputs, and within a
block the bytes are interleaved, the even ones with 128 added::

    byte      0       1       2       3             30      31
    output    0 +128  16      1 +128  17     ...    15+128  31
              \___________/   \___________/         \__________/
                 lane 0          lane 1                lane 15      of sixteen int16 lanes x

Then ``sum x`` and ``sum (x >> 8)``, both modulo 2^16, hold everything: the second is the sum of the
odd bytes, and the first less 256 times the second is the sum of the even bytes, plus 128 for each
row. Three instructions add 32 weights. The sums wrap, so only their end must fit 16 bits; it is then
added to the 32-bit current. An entry of a list is a row number; the rows of negative spikes stand in a
list of their own and are subtracted.

**Products** (:func:`multiply_bytes`, :func:`multiply_words`). Some pixels times some outputs stay in
registers while a group of input channels at a time is multiplied and added::

                bytes                                      words
    spikes      (c0, c1, c2, c3) of a pixel, u8 + offset   (c0, c1) of a pixel, int16
    weight      [group of four][output][4] int8            [pair][output][2] int16
    sum         two int16 lanes per output, c0 c1 | c2 c3  one int32 lane per output
                (one int32 lane where the CPU has VNNI)

Multiplying bytes sums two products in 16 bits and would saturate: it does not while
``2 * 127 * u < 2^15``, that is, for ``u`` up to :data:`LARGEST_BYTE`. The lanes wrap; in the end each
must fit 16 bits, and the two of an output are added.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from snnc.backends.numba_cpu.cpu import detect
from snnc.backends.numba_cpu.vector import I8, I16, I32, I64, Code, Value, vector, vector_code

BLOCK = 32
"""Outputs of one block of an event row, and channels that a pixel's outputs are padded to."""

LARGEST_BYTE = 129
"""Largest unsigned spike for which the products of two inputs fit 16 bits."""

LARGEST_SUM = 2**15 - 1
"""What a wrapping 16-bit sum must not exceed in the end."""

CHUNK = 16
"""Channels that :func:`list_column` looks at together."""

I8X8, I8X16, I8X32 = vector(I8, 8), vector(I8, 16), vector(I8, 32)
I16X8, I16X16 = vector(I16, 8), vector(I16, 16)
I32X8, I32X16 = vector(I32, 8), vector(I32, 16)

_CPU = detect()


@cache
def positions_by_mask() -> NDArray[np.uint8]:
    """Return, for each mask of 8 bits, the numbers of the bits that are set: (256, 8) uint8."""
    table = np.zeros((256, 8), np.uint8)
    for mask in range(256):
        found = [bit for bit in range(8) if mask >> bit & 1]
        table[mask, : len(found)] = found
    return table


@vector_code
def keep_apart(code: Code) -> None:
    """Keep LLVM from inlining the function that calls this: inlined, it would be optimised anew."""
    code.b.function.attributes.add("noinline")


# --- copies -------------------------------------------------------------------------------------------


@vector_code
def get(code: Code, address: Value, index: Value) -> Value:
    """Return the int64 number ``index`` of an array at ``address``."""
    return code.load(I64, address, code.multiply(index, 8))


@vector_code
def put(code: Code, address: Value, index: Value, value: Value) -> None:
    """Set the int64 number ``index`` of an array at ``address``."""
    code.store(value, address, code.multiply(index, 8))


@vector_code
def fill(code: Code, address: Value, count: Value, value: Value) -> None:
    """Set ``count`` bytes to ``value``."""
    code.memset(address, count, code.b.trunc(value, I8))


@vector_code
def clear(code: Code, address: Value, count: Value) -> None:
    """Set ``count`` blocks of 64 bytes to zero."""
    code.each(count, lambda j: code.store(code.all(I32X16, 0), address, code.multiply(j, 64)))


@vector_code
def copy_shifted(code: Code, source: Value, target: Value, count: Value, shift: Value) -> None:
    """Copy ``16 * count`` bytes and add ``shift`` to each, modulo 256."""
    added = code.spread(code.b.trunc(shift, I8), I8X16)

    def body(j: Value) -> None:
        at = code.multiply(j, 16)
        code.store(code.b.add(code.load(I8X16, source, at), added), target, at)

    code.each(count, body)


@vector_code
def copy_widened(code: Code, source: Value, target: Value, count: Value) -> None:
    """Copy ``16 * count`` int8 as int16."""

    def body(j: Value) -> None:
        values = code.load(I8X16, source, code.multiply(j, 16))
        code.store(code.widen(values, I16X16), target, code.multiply(j, 32))

    code.each(count, body)


@vector_code
def add_words(code: Code, target: Value, source: Value, factor: Value, count: Value) -> None:
    """Add ``factor`` times ``16 * count`` int32 to as many at ``target``."""
    times = code.spread(code.b.trunc(factor, I32), I32X16)

    def body(j: Value) -> None:
        at = code.multiply(j, 64)
        more = code.b.mul(code.load(I32X16, source, at), times)
        code.store(code.b.add(code.load(I32X16, target, at), more), target, at)

    code.each(count, body)


# --- events -------------------------------------------------------------------------------------------


@vector_code
def list_column(
    code: Code,
    spikes: Value,
    row_bytes: Value,
    rows: Value,
    chunks: Value,
    levels: Value,
    sign: Value,
    phase: Value,
    phases: Value,
    table: Value,
    entries: Value,
    index: Value,
) -> Value:
    """List the spikes of one sign of the pixels of a column, one list behind the other.

    An entry is the number of the channel, plus the number of channels times the row's phase; so a stretch
    of ``phases`` rows is one list in which every row has numbers of its own.

    Args:
        code: what to write with.
        spikes: address of the first pixel, ``16 * chunks`` int8.
        row_bytes: bytes from row to row.
        rows: number of pixels.
        chunks: how many times 16 channels.
        levels: largest magnitude; a spike of magnitude n is listed n times.
        sign: 1 for positive spikes, -1 for negative ones.
        phase: phase of the first row; it goes up by one, modulo ``phases``.
        phases: number of phases.
        table: address of :func:`positions_by_mask`.
        entries: where to write uint16; 16 bytes beyond the last entry are overwritten.
        index: address of ``rows + 1`` int64 for the addresses at which the lists begin and the last ends.

    Returns:
        The address behind the last entry.
    """
    b = code.b
    signs = code.spread(b.trunc(b.ashr(sign, code.number(1)), I8), I8X16)
    channels = code.multiply(chunks, CHUNK)

    def one_row(y: Value, carried: list[Value]) -> list[Value]:
        end, phase = carried
        code.store(end, index, code.multiply(y, 8))
        pixel = b.add(spikes, b.mul(y, row_bytes))
        base = b.mul(phase, channels)

        def one_level(level: Value, carried: list[Value]) -> list[Value]:
            lowest = code.spread(b.trunc(code.at(level, 1), I8), I8X16)

            def one_chunk(j: Value, carried: list[Value]) -> list[Value]:
                (end,) = carried
                first = code.multiply(j, CHUNK)
                s = b.sub(b.xor(code.load(I8X16, pixel, first), signs), signs)
                spiked = b.bitcast(b.icmp_signed(">=", s, lowest), I16)
                first = b.add(first, base)
                for half in range(2):
                    mask = b.and_(b.lshr(spiked, ir.Constant(I16, 8 * half)), ir.Constant(I16, 255))
                    mask = b.zext(mask, I64)
                    place = b.zext(code.load(I8X8, table, code.multiply(mask, 8)), I16X8)
                    start = code.spread(b.trunc(code.at(first, 8 * half), I16), I16X8)
                    code.store(b.add(place, start), end)
                    end = b.add(end, code.multiply(code.call("llvm.ctpop.i64", I64, [mask]), 2))
                return [end]

            return code.loop(chunks, carried, one_chunk)

        (end,) = code.loop(levels, [end], one_level)
        phase = code.at(phase, 1)
        return [end, b.select(b.icmp_signed("==", phase, phases), code.number(0), phase)]

    end, _ = code.loop(rows, [entries, phase], one_row)
    code.store(end, index, code.multiply(rows, 8))
    return end


@vector_code
def prefetch(code: Code, address: Value, lines: Value) -> None:
    """Ask for ``lines`` cache lines of 64 bytes, which will be read soon."""
    constants = [ir.Constant(I32, number) for number in (0, 2, 1)]  # to read, into all caches, data

    def body(j: Value) -> None:
        pointer = code.pointer(code.at(address, code.multiply(j, 64)), I8)
        code.call("llvm.prefetch.p0", ir.VoidType(), [pointer, *constants])

    code.each(lines, body)


def scatter_row(blocks: int) -> Callable[..., int]:
    """Return the code that adds weight rows of ``blocks`` blocks; see the top of the file."""

    @vector_code
    def scatter(
        code: Code,
        current: Value,
        pixel: Value,
        offsets: Value,
        columns: Value,
        added: Value,
        added_bytes: Value,
        taken: Value,
        taken_bytes: Value,
        step: Value,
        weight: Value,
    ) -> None:
        """Add and subtract what the lists of some input columns name.

        Args:
            code: what to write with.
            current: address of the int32 currents that the first column reaches, less the offsets.
            pixel: bytes from there to those of the next column.
            offsets: address of one int64 per block, in bytes.
            columns: number of input columns.
            added: address of the first column's int64 address of the entries to add.
            added_bytes: from there to the address at which they end.
            taken: address of the address of the entries to subtract.
            taken_bytes: from there to the address at which they end.
            step: bytes from these addresses to those of the next column.
            weight: address of the rows.
        """
        b = code.b
        eight = code.all(I16X16, 8)

        def over(
            entries: Value, count: Value, sums: list[Value], combine: Callable[..., Value]
        ) -> list[Value]:
            def body(j: Value, sums: list[Value]) -> list[Value]:
                entry = b.zext(code.load(I16, entries, code.multiply(j, 2)), I64)
                row = b.add(weight, code.multiply(entry, BLOCK * blocks))
                for k in range(blocks):
                    x = code.load(I16X16, row, BLOCK * k)
                    sums[2 * k] = combine(sums[2 * k], x)
                    sums[2 * k + 1] = combine(sums[2 * k + 1], b.ashr(x, eight))
                return sums

            return code.loop(count, sums, body)

        def one_column(x: Value) -> None:
            place = b.mul(x, step)
            lists = []
            for index, length in ((added, added_bytes), (taken, taken_bytes)):
                begin = code.load(I64, index, place)
                end = code.load(I64, index, b.add(place, length))
                lists.append((begin, b.lshr(b.sub(end, begin), code.number(1))))
            (to_add, add_count), (to_take, take_count) = lists
            sums = over(to_add, add_count, [code.all(I16X16, 0)] * (2 * blocks), b.add)
            sums = over(to_take, take_count, sums, b.sub)
            more = b.trunc(b.sub(add_count, take_count), I16)
            surplus = code.spread(b.shl(more, ir.Constant(I16, 7)), I16X16)
            here = b.add(current, b.mul(x, pixel))
            for k in range(blocks):
                odd = sums[2 * k + 1]
                even = b.sub(b.sub(sums[2 * k], b.shl(odd, eight)), surplus)
                at = b.add(here, code.load(I64, offsets, 8 * k))
                _add_to_current(code, even, at, 0)
                _add_to_current(code, odd, at, 64)

        code.each(columns, one_column)

    return scatter


def _add_to_current(code: Code, sums: Value, address: Value, offset: int) -> None:
    """Add sixteen sums to sixteen 32-bit currents."""
    before = code.load(I32X16, address, offset)
    code.store(code.b.add(before, code.widen(sums, I32X16)), address, offset)


# --- products -----------------------------------------------------------------------------------------

BYTE_LANES = 1 if _CPU.vnni else 2
"""Sums per output: int32, or two int16."""

PIXELS = 4
"""Pixels that are multiplied together."""

VECTORS = 2
"""Vectors of outputs that are multiplied together."""

OUTPUTS = 8 * VECTORS
"""Outputs that are multiplied together."""


@vector_code
def multiply_bytes(
    code: Code,
    current: Value,
    current_stride: Value,
    before: Value,
    before_stride: Value,
    blocks: Value,
    spikes: Value,
    spike_stride: Value,
    runs: Value,
    run_count: Value,
    groups: Value,
    weight: Value,
    start: Value,
) -> None:
    """Add products to the currents of :data:`PIXELS` times ``blocks`` pixels and :data:`OUTPUTS` outputs.

    Args:
        code: what to write with.
        current: address of the int32 currents of the first pixel.
        current_stride: bytes from pixel to pixel.
        before: address of what the products are added to: the same currents, or zeros.
        before_stride: bytes from pixel to pixel.
        blocks: how many times :data:`PIXELS` pixels.
        spikes: address of the first pixel's unsigned spikes.
        spike_stride: bytes from pixel to pixel.
        runs: address of one int64 per run: its first spike relative to the pixel's, in bytes.
        run_count: how many.
        groups: groups of four inputs in a run.
        weight: address of (run, group, output, 4) int8.
        start: address of the sums to begin with, int16 or int32: what cancels the spikes' offset.
    """
    kind = I32X8 if _CPU.vnni else I16X16

    def add_product(total: Value, s: Value, w: Value) -> Value:
        if _CPU.vnni:
            return code.call("llvm.x86.avx512.vpdpbusd.256", I32X8, [total, s, w])
        u, w = code.b.bitcast(s, I8X32), code.b.bitcast(w, I8X32)
        return code.b.add(total, _byte_products(code, u, w))

    def finished(total: Value) -> Value:
        return total if _CPU.vnni else _word_products(code, total, code.all(I16X16, 1))

    _multiply(
        code,
        add_product,
        finished,
        [code.load(kind, start, 32 * v) for v in range(VECTORS)],
        (current, current_stride, before, before_stride, blocks, spikes, spike_stride),
        (runs, run_count, groups, weight),
    )


@vector_code
def multiply_words(
    code: Code,
    current: Value,
    current_stride: Value,
    before: Value,
    before_stride: Value,
    blocks: Value,
    spikes: Value,
    spike_stride: Value,
    runs: Value,
    run_count: Value,
    groups: Value,
    weight: Value,
) -> None:
    """Add products to the currents; as for bytes, but groups are pairs of int16."""

    def add_product(total: Value, s: Value, w: Value) -> Value:
        return code.b.add(total, _word_products(code, code.b.bitcast(s, I16X16), code.b.bitcast(w, I16X16)))

    _multiply(
        code,
        add_product,
        lambda total: total,
        [code.all(I32X8, 0)] * VECTORS,
        (current, current_stride, before, before_stride, blocks, spikes, spike_stride),
        (runs, run_count, groups, weight),
    )


def _multiply(
    code: Code,
    add_product: Callable[[Value, Value, Value], Value],
    finished: Callable[[Value], Value],
    initial: list[Value],
    pixels: tuple[Value, ...],
    weights: tuple[Value, ...],
) -> None:
    """Multiply four bytes of each pixel at a time; the weight is read once per block, front to back."""
    b = code.b
    current, current_stride, before, before_stride, blocks, spikes, spike_stride = pixels
    runs, run_count, groups, weight = weights

    def one_block(block: Value) -> None:
        pixel = code.multiply(block, PIXELS)

        def of_pixels(address: Value, stride: Value) -> list[Value]:
            first = b.add(address, b.mul(pixel, stride))
            return [b.add(first, code.multiply(stride, p)) for p in range(PIXELS)]

        sources = of_pixels(spikes, spike_stride)

        def one_run(r: Value, carried: list[Value]) -> list[Value]:
            *sums, w = carried
            run = code.load(I64, runs, code.multiply(r, 8))
            starts = [b.add(source, run) for source in sources]

            def group(j: Value, sums: list[Value]) -> list[Value]:
                row = b.add(w, code.multiply(j, 32 * VECTORS))
                factors = [code.load(I32X8, row, 32 * v) for v in range(VECTORS)]
                at = code.multiply(j, 4)
                read = [code.spread(code.load(I32, start, at), I32X8) for start in starts]
                return [
                    add_product(sums[p * VECTORS + v], read[p], factors[v])
                    for p in range(PIXELS)
                    for v in range(VECTORS)
                ]

            def two_groups(j: Value, sums: list[Value]) -> list[Value]:
                first = code.multiply(j, 2)
                return group(code.at(first, 1), group(first, sums))

            sums = code.loop(b.lshr(groups, code.number(1)), sums, two_groups)
            odd = b.and_(groups, code.number(1))
            last = b.sub(groups, code.number(1))
            sums = code.loop(odd, sums, lambda _, carried: group(last, carried))
            return [*sums, b.add(w, code.multiply(groups, 32 * VECTORS))]

        sums = code.loop(run_count, [*(initial * PIXELS), weight], one_run)[:-1]
        places = zip(of_pixels(current, current_stride), of_pixels(before, before_stride), strict=True)
        for p, (target, source) in enumerate(places):
            for v in range(VECTORS):
                total = b.add(code.load(I32X8, source, 32 * v), finished(sums[p * VECTORS + v]))
                code.store(total, target, 32 * v)

    code.each(blocks, one_block)


def _byte_products(code: Code, u: Value, w: Value) -> Value:
    """Return ``u[2i] w[2i] + u[2i+1] w[2i+1]`` for unsigned ``u``, in 16 bits."""
    if _CPU.avx2:
        return code.call("llvm.x86.avx2.pmadd.ub.sw", I16X16, [u, w])
    wide = vector(I16, 32)
    return _neighbours(code, code.b.mul(code.b.zext(u, wide), code.widen(w, wide)), I16X16)


def _word_products(code: Code, s: Value, w: Value) -> Value:
    """Return ``s[2i] w[2i] + s[2i+1] w[2i+1]`` in 32 bits."""
    if _CPU.avx2:
        return code.call("llvm.x86.avx2.pmadd.wd", I32X8, [s, w])
    return _neighbours(code, code.b.mul(code.widen(s, I32X16), code.widen(w, I32X16)), I32X8)


def _neighbours(code: Code, x: Value, kind: Any) -> Value:
    """Add each even lane to the odd one behind it."""
    picked = [
        code.b.shuffle_vector(x, x, ir.Constant(vector(I32, kind.count), list(range(i, x.type.count, 2))))
        for i in (0, 1)
    ]
    return code.b.add(picked[0], picked[1])


# --- channels that read only themselves ---------------------------------------------------------------


def multiply_channels(element: Any, sum_type: Any) -> Callable[..., int]:
    """Return the code for operations in which a channel reads only itself.

    Args:
        element: type of a spike.
        sum_type: type that the sums of products certainly fit.
    """
    spike_kind, sum_kind = vector(element, 16), vector(sum_type, 16)

    @vector_code
    def multiply(
        code: Code,
        current: Value,
        current_stride: Value,
        spikes: Value,
        spike_stride: Value,
        taps: Value,
        tap_count: Value,
        weight: Value,
        weight_stride: Value,
        pixels: Value,
    ) -> None:
        """Add ``sum_k weight[k, c] s[tap k, c]`` to the currents of sixteen channels of some pixels.

        Args:
            code: what to write with.
            current: address of the int32 currents of the first pixel.
            current_stride: bytes from pixel to pixel.
            spikes: address of the first pixel's spikes.
            spike_stride: bytes from pixel to pixel.
            taps: address of one int64 per tap: its spikes relative to the pixel's, in bytes.
            tap_count: how many.
            weight: address of the int16 weights of the first tap.
            weight_stride: bytes from tap to tap.
            pixels: how many.
        """
        b = code.b

        def one_pixel(p: Value) -> None:
            first = b.add(spikes, b.mul(p, spike_stride))

            def one_tap(k: Value, carried: list[Value]) -> list[Value]:
                s = code.load(spike_kind, first, code.load(I64, taps, code.multiply(k, 8)))
                w = code.load(I16X16, weight, b.mul(k, weight_stride))
                return [b.add(carried[0], b.mul(code.widen(s, sum_kind), code.widen(w, sum_kind)))]

            (total,) = code.loop(tap_count, [code.all(sum_kind, 0)], one_tap)
            _add_to_current(code, total, b.add(current, b.mul(p, current_stride)), 0)

        code.each(pixels, one_pixel)

    return multiply
