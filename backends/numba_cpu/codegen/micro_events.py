r"""Vector code for events: listing the spikes of a column, and adding the rows of the weight that they name.

A spike adds one row of the weight to the
currents of several neighbouring output pixels. A row is cut into blocks of 32 outputs, and within a
block the bytes are interleaved, the even ones with 128 added::

    byte      0       1       2       3             30      31
    output    0 +128  16      1 +128  17     ...    15+128  31
              \___________/   \___________/         \__________/
                 lane 0          lane 1                lane 15      of sixteen int16 lanes x

Then ``sum x`` and ``sum (x >> 8)``, both modulo 2^16, hold everything: the second is the sum of the
odd bytes, and the first less 256 times the second is the sum of the even bytes, plus 128 for each
row. Three instructions add 32 weights, or 64 where vectors have 512 bits. The sums wrap, so only their end
must fit 16 bits; it is then added to the 32-bit current. An entry of a list is a row number; the rows of
negative spikes stand in a list of their own and are subtracted.

Where the sums of a whole window fit 16 bits, those of the output columns that the next input column reaches,
too, stay in registers and move up, and each is added to its current but once::

    input column    x-1             x               x+1
    registers       x-2, x-1, x     x-1, x, x+1     x, x+1, x+2
    added           x-2             x-1             x
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from snnc.backends.numba_cpu.codegen.micro import add_to_current
from snnc.backends.numba_cpu.codegen.vector import I8, I16, I64, Code, Value, vector, vector_code
from snnc.backends.numba_cpu.machine.cpu import detect

BLOCK = 32
"""Outputs of one block of an event row, and channels that a pixel's outputs are padded to."""

CHUNK = 16
"""Channels that :func:`list_column` looks at together."""

COMPRESSES = detect().vbmi2
"""Whether an instruction moves the chosen lanes of a vector together."""

VECTOR_BLOCKS = 2 if detect().avx512 else 1
"""Blocks that a vector holds."""

MOST_BLOCKS = 6 * VECTOR_BLOCKS
"""Blocks whose sums fit the registers."""

AHEAD = 32
"""Cache lines between one that is read and one that is asked for."""

I8X8, I16X8 = vector(I8, 8), vector(I16, 8)


@cache
def positions_by_mask() -> NDArray[np.uint8]:
    """Return, for each mask of 8 bits, the numbers of the bits that are set: (256, 8) uint8."""
    table = np.zeros((256, 8), np.uint8)
    for mask in range(256):
        found = [bit for bit in range(8) if mask >> bit & 1]
        table[mask, : len(found)] = found
    return table


@vector_code
def list_column(
    code: Code,
    signs: int,
    spikes: Value,
    row_bytes: Value,
    rows: Value,
    chunks: Value,
    levels: Value,
    phase: Value,
    phases: Value,
    table: Value,
    entries: Value,
    index: Value,
    taken: Value,
    taken_index: Value,
) -> None:
    """List the spikes of the pixels of a column, one list behind the other.

    An entry is the number of the channel, plus the number of channels times the row's phase; so a stretch
    of ``phases`` rows is one list in which every row has numbers of its own.

    Args:
        code: what to write with.
        signs: 2 if negative spikes are listed, too, in lists of their own.
        spikes: address of the first pixel, ``16 * chunks`` int8.
        row_bytes: bytes from row to row.
        rows: number of pixels.
        chunks: how many times 16 channels.
        levels: largest magnitude; a spike of magnitude n is listed n times.
        phase: phase of the first row; it goes up by one, modulo ``phases``.
        phases: number of phases.
        table: address of :func:`positions_by_mask`.
        entries: where to write uint16; 64 bytes beyond the last entry are overwritten.
        index: address of ``rows + 1`` int64 for the addresses at which the lists begin and the last ends.
        taken: as ``entries``, for negative spikes.
        taken_index: as ``index``, for negative spikes.
    """
    b = code.b
    channels = code.multiply(chunks, CHUNK)
    indices = (index, taken_index) if signs == 2 else (index,)
    starts = (entries, taken) if signs == 2 else (entries,)

    def one_row(y: Value, carried: list[Value]) -> list[Value]:
        *ends, phase = carried
        for end, place in zip(ends, indices, strict=True):
            code.store(end, place, code.multiply(y, 8))
        pixel = b.add(spikes, b.mul(y, row_bytes))
        base = b.mul(phase, channels)

        def one_level(level: Value, ends: list[Value]) -> list[Value]:
            lowest = b.trunc(code.at(level, 1), I8)

            def some_channels(lanes: int) -> Callable[[Value, list[Value]], list[Value]]:
                kind = vector(I8, lanes)
                limits = [code.spread(lowest, kind), code.spread(b.neg(lowest), kind)]

                def one_chunk(first: Value, ends: list[Value]) -> list[Value]:
                    s = code.load(kind, pixel, first)
                    number = b.add(first, base)
                    found = []
                    for end, limit, order in zip(ends, limits, (">=", "<="), strict=False):
                        found.append(append(b.icmp_signed(order, s, limit), number, end))
                    return found

                return one_chunk

            if not COMPRESSES:
                each = some_channels(CHUNK)
                return code.loop(chunks, ends, lambda j, ends: each(code.multiply(j, CHUNK), ends))
            wide, narrow = some_channels(2 * CHUNK), some_channels(CHUNK)
            pairs = b.lshr(chunks, code.number(1))
            ends = code.loop(pairs, ends, lambda j, ends: wide(code.multiply(j, 2 * CHUNK), ends))
            odd = b.and_(chunks, code.number(1))
            last = code.multiply(pairs, 2 * CHUNK)
            return code.loop(odd, ends, lambda _, ends: narrow(last, ends))

        ends = code.loop(levels, ends, one_level)
        phase = code.at(phase, 1)
        return [*ends, b.select(b.icmp_signed("==", phase, phases), code.number(0), phase)]

    def append(spiked: Value, number: Value, end: Value) -> Value:
        """Write ``number`` plus the place of each lane that is set, and return where the list ends."""
        if COMPRESSES:
            return _compressed(code, spiked, number, end)
        spiked = b.bitcast(spiked, I16)
        for half in range(2):
            mask = b.and_(b.lshr(spiked, ir.Constant(I16, 8 * half)), ir.Constant(I16, 255))
            mask = b.zext(mask, I64)
            place = b.zext(code.load(I8X8, table, code.multiply(mask, 8)), I16X8)
            start = code.spread(b.trunc(code.at(number, 8 * half), I16), I16X8)
            code.store(b.add(place, start), end)
            end = b.add(end, code.multiply(code.call("llvm.ctpop.i64", I64, [mask]), 2))
        return end

    *ends, _ = code.loop(rows, [*starts, phase], one_row)
    for end, place in zip(ends, indices, strict=True):
        code.store(end, place, code.multiply(rows, 8))


def _compressed(code: Code, spiked: Value, number: Value, end: Value) -> Value:
    """Append to a list by the instruction that moves the chosen lanes of a vector together."""
    lanes = spiked.type.count
    kind = vector(I16, lanes)
    numbers = code.b.add(code.spread(code.b.trunc(number, I16), kind), ir.Constant(kind, list(range(lanes))))
    name = f"llvm.x86.avx512.mask.compress.v{lanes}i16"
    code.store(code.call(name, kind, [numbers, code.all(kind, 0), spiked]), end)
    mask = code.b.zext(code.b.bitcast(spiked, ir.IntType(lanes)), I64)
    return code.b.add(end, code.multiply(code.call("llvm.ctpop.i64", I64, [mask]), 2))


@vector_code
def prefetch(code: Code, address: Value, lines: Value) -> Value:
    """Load ``lines`` cache lines of 64 bytes in order, and prefetch the lines :data:`AHEAD` of them.

    Prefetching moves memory about three times as fast as loading alone.

    Returns:
        The XOR of what was loaded; storing it keeps LLVM from removing the loads as dead code.
    """

    def body(j: Value, sums: list[Value]) -> list[Value]:
        line = code.at(address, code.multiply(j, 64))
        code.prefetch(code.at(line, 64 * AHEAD), locality=2)
        return [code.b.xor(sums[0], code.load(I64, line))]

    return code.loop(lines, [code.number(0)], body)[0]


@vector_code
def scatter_row(
    code: Code,
    blocks: int,
    taps: int,
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
    """Add and subtract the weight rows that the lists of some input columns name; see the top of the file.

    Args:
        code: what to write with.
        blocks: of a row.
        taps: output columns that a row reaches and whose sums stay in registers from one input column to the
            next; 1 if all sums of a row are added to the currents after each column.
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
    together = VECTOR_BLOCKS if blocks // taps % VECTOR_BLOCKS == 0 else 1
    vectors = blocks // together
    done = vectors // taps
    kind = vector(I16, 16 * together)
    b = code.b
    eight = code.all(kind, 8)
    nothing = [code.all(kind, 0)] * (2 * done)

    def over(entries: Value, count: Value, sums: list[Value], combine: Callable[..., Value]) -> list[Value]:
        def body(j: Value, sums: list[Value]) -> list[Value]:
            entry = b.zext(code.load(I16, entries, code.multiply(j, 2)), I64)
            row = b.add(weight, code.multiply(entry, BLOCK * blocks))
            for v in range(vectors):
                x = code.load(kind, row, BLOCK * together * v)
                sums[2 * v] = combine(sums[2 * v], x)
                sums[2 * v + 1] = combine(sums[2 * v + 1], b.ashr(x, eight))
            return sums

        return code.loop(count, sums, body)

    def finish(x: Value, sums: list[Value], rows: Value) -> None:
        """Add the sums of ``rows`` rows of the weight to the currents that input column ``x`` reaches."""
        surplus = code.spread(b.shl(b.trunc(rows, I16), ir.Constant(I16, 7)), kind)
        here = b.add(current, b.mul(x, pixel))
        for v in range(done):
            odd = sums[2 * v + 1]
            even = b.sub(b.sub(sums[2 * v], b.shl(odd, eight)), surplus)
            parts = [(even, odd)] if together == 1 else zip(code.halves(even), code.halves(odd), strict=True)
            for k, (evens, odds) in enumerate(parts, together * v):
                at = b.add(here, code.load(I64, offsets, 8 * k))
                add_to_current(code, evens, at, 0)
                add_to_current(code, odds, at, 64)

    def one_column(x: Value, carried: list[Value]) -> list[Value]:
        place = b.mul(x, step)
        lists = []
        for index, length in ((added, added_bytes), (taken, taken_bytes)):
            begin = code.load(I64, index, place)
            end = code.load(I64, index, b.add(place, length))
            lists.append((begin, b.lshr(b.sub(end, begin), code.number(1))))
        (to_add, add_count), (to_take, take_count) = lists
        waiting, rows = carried[: 2 * done * (taps - 1)], carried[2 * done * (taps - 1) :]
        sums = over(to_add, add_count, [*waiting, *nothing], b.add)
        sums = over(to_take, take_count, sums, b.sub)
        more = b.sub(add_count, take_count)
        rows = [b.add(count, more) for count in (*rows, code.number(0))]
        finish(x, sums, rows[0])
        return [*sums[2 * done :], *rows[1:]]

    left = code.loop(columns, [*nothing * (taps - 1), *[code.number(0)] * (taps - 1)], one_column)
    for tap in range(taps - 1):
        sums = left[2 * done * tap : 2 * done * (tap + 1)]
        finish(code.at(columns, tap), sums, left[2 * done * (taps - 1) + tap])
