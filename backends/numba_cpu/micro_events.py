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
row. Three instructions add 32 weights. The sums wrap, so only their end must fit 16 bits; it is then
added to the 32-bit current. An entry of a list is a row number; the rows of negative spikes stand in a
list of their own and are subtracted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from snnc.backends.numba_cpu.micro import I8X16, I16X16, add_to_current
from snnc.backends.numba_cpu.vector import I8, I16, I32, I64, Code, Value, vector, vector_code

BLOCK = 32
"""Outputs of one block of an event row, and channels that a pixel's outputs are padded to."""

CHUNK = 16
"""Channels that :func:`list_column` looks at together."""

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
                add_to_current(code, even, at, 0)
                add_to_current(code, odd, at, 64)

        code.each(columns, one_column)

    return scatter
