r"""The innermost loops, written as vector code.

Everything here works on addresses; the shapes are the business of
:mod:`snnc.backends.numba_cpu.stage`. Currents are int32, spikes int8, and the channels of a pixel lie
side by side.

**Events** (:func:`list_spikes`, :func:`scatter_rows`). A spike adds one row of the weight to the
currents of several neighbouring output pixels. A row is cut into blocks of 32 outputs, and within a
block the bytes are interleaved, the even ones with 128 added::

    byte      0       1       2       3             30      31
    output    0 +128  16      1 +128  17     ...    15+128  31
              \___________/   \___________/         \__________/
                 lane 0          lane 1                lane 15      of sixteen int16 lanes x

Then ``sum x`` and ``sum (x >> 8)``, both modulo 2^16, hold everything: the second is the sum of the
odd bytes, and the first less 256 times the second is the sum of the even bytes, plus 128 for each
row. Three instructions add 32 weights. The sums wrap, so only their end must fit 16 bits; it is then
added to the 32-bit current. An entry of a list is a row number; spikes of -1 name a second table of
rows that holds the negated weights.

**Products** (:func:`multiply_bytes`, :func:`multiply_words`). Some pixels times some outputs stay in
registers while two input channels at a time are multiplied and added::

    spikes   (c0, c1) of one pixel, repeated             u8 with an offset, or int16
    weight   [pair of inputs][output][2]                 int8, or int16
    sum      one lane per output                         int16, wrapping, or int32

Multiplying bytes sums two products in 16 bits and would saturate: it does not while
``2 * 127 * u < 2^15``, that is, for ``u`` up to :data:`LARGEST_BYTE`.
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
"""Channels that :func:`list_spikes` looks at together."""

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
def list_spikes(
    code: Code, spikes: Value, chunks: Value, level: Value, negative: Value, table: Value, entries: Value
) -> Value:
    """Write the numbers of the channels that spiked, as uint16, and return how many.

    Args:
        code: what to write with.
        spikes: address of ``16 * chunks`` int8.
        chunks: how many times 16 channels.
        level: smallest magnitude that is listed, from 1.
        negative: added to the numbers of negative spikes.
        table: address of :func:`positions_by_mask`.
        entries: where to write; 16 bytes beyond the last entry are overwritten.
    """
    b = code.b
    taken_back = code.spread(b.trunc(negative, I16), I16X8)
    lowest = code.spread(b.trunc(level, I8), I8X16)

    def body(j: Value, carried: list[Value]) -> list[Value]:
        (end,) = carried
        first = code.multiply(j, CHUNK)
        s = code.load(I8X16, spikes, first)
        magnitude = code.call("llvm.abs.v16i8", I8X16, [s, ir.Constant(ir.IntType(1), 0)])
        spiked = b.bitcast(b.icmp_signed(">=", magnitude, lowest), I16)
        for half in range(2):
            mask = b.and_(b.lshr(spiked, ir.Constant(I16, 8 * half)), ir.Constant(I16, 255))
            mask = b.zext(mask, I64)
            place = code.load(I8X8, table, code.multiply(mask, 8))
            values = _picked(code, code.halves(s)[half], place)
            start = b.trunc(code.at(first, 8 * half), I16)
            entry = b.add(b.zext(place, I16X8), code.spread(start, I16X8))
            signs = b.ashr(code.widen(values, I16X8), code.all(I16X8, 15))
            code.store(b.add(entry, b.and_(signs, taken_back)), entries, code.multiply(end, 2))
            end = b.add(end, code.call("llvm.ctpop.i64", I64, [mask]))
        return [end]

    return code.loop(chunks, [code.number(0)], body)[0]


def _picked(code: Code, values: Value, place: Value) -> Value:
    """Return ``values[place]`` for eight bytes."""
    b = code.b
    if _CPU.ssse3:
        twice = ir.Constant(vector(I32, 16), [*range(8), *range(8)])
        both = [b.shuffle_vector(half, half, twice) for half in (values, place)]
        return code.halves(code.call("llvm.x86.ssse3.pshuf.b.128", I8X16, both))[0]
    result = ir.Constant(I8X8, ir.Undefined)
    for lane in range(8):
        at = ir.Constant(I32, lane)
        index = b.zext(b.extract_element(place, at), I32)
        result = b.insert_element(result, b.extract_element(values, index), at)
    return result


@vector_code
def join(code: Code, source: Value, count: Value, added: Value, target: Value) -> None:
    """Copy ``count`` uint16 and add ``added``; up to 30 bytes beyond the last are overwritten."""
    more = code.spread(code.b.trunc(added, I16), I16X16)

    def body(j: Value) -> None:
        at = code.multiply(j, 32)
        code.store(code.b.add(code.load(I16X16, source, at), more), target, at)

    code.each(code.b.lshr(code.at(count, 15), code.number(4)), body)


def scatter_rows(blocks: int) -> Callable[..., int]:
    """Return the code that adds rows of ``blocks`` blocks; see the top of the file."""

    @vector_code
    def scatter(
        code: Code, current: Value, offsets: Value, entries: Value, count: Value, weight: Value
    ) -> None:
        """Add the listed rows of ``weight`` to the currents at ``current + offsets[block]``.

        Args:
            code: what to write with.
            current: address of int32 currents.
            offsets: address of one int64 per block, in bytes.
            entries: address of uint16 row numbers.
            count: how many.
            weight: address of the rows.
        """
        b = code.b
        eight = code.all(I16X16, 8)

        def body(j: Value, sums: list[Value]) -> list[Value]:
            entry = b.zext(code.load(I16, entries, code.multiply(j, 2)), I64)
            row = b.add(weight, code.multiply(entry, BLOCK * blocks))
            for k in range(blocks):
                x = code.load(I16X16, row, BLOCK * k)
                sums[2 * k] = b.add(sums[2 * k], x)
                sums[2 * k + 1] = b.add(sums[2 * k + 1], b.ashr(x, eight))
            return sums

        sums = code.loop(count, [code.all(I16X16, 0)] * (2 * blocks), body)
        surplus = code.spread(b.shl(b.trunc(count, I16), ir.Constant(I16, 7)), I16X16)
        for k in range(blocks):
            odd = sums[2 * k + 1]
            even = b.sub(b.sub(sums[2 * k], b.shl(odd, eight)), surplus)
            at = b.add(current, code.load(I64, offsets, 8 * k))
            _add_to_current(code, even, at, 0)
            _add_to_current(code, odd, at, 64)

    return scatter


def _add_to_current(code: Code, sums: Value, address: Value, offset: int) -> None:
    """Add sixteen sums to sixteen 32-bit currents."""
    before = code.load(I32X16, address, offset)
    code.store(code.b.add(before, code.widen(sums, I32X16)), address, offset)


# --- products -----------------------------------------------------------------------------------------


def multiply_bytes(pixels: int, vectors: int) -> Callable[..., int]:
    """Return the code for ``pixels`` pixels of unsigned bytes and ``16 * vectors`` outputs."""

    @vector_code
    def multiply(
        code: Code,
        current: Value,
        current_stride: Value,
        spikes: Value,
        spike_stride: Value,
        runs: Value,
        run_count: Value,
        pairs: Value,
        weight: Value,
        start: Value,
    ) -> None:
        """Add products to the currents of some pixels.

        Args:
            code: what to write with.
            current: address of the int32 currents of the first pixel.
            current_stride: bytes from pixel to pixel.
            spikes: address of the first pixel's unsigned spikes.
            spike_stride: bytes from pixel to pixel.
            runs: address of one int64 per run: its first spike relative to the pixel's, in bytes.
            run_count: how many.
            pairs: pairs of inputs in a run.
            weight: address of (run, pair, output, 2) int8.
            start: address of the int16 sums to begin with: what the offset of the spikes is to cancel.
        """

        def product(pixel: Value, j: Value, w: Value) -> Value:
            pair = code.load(I16, pixel, code.multiply(j, 2))
            u = code.b.bitcast(code.spread(pair, I16X16), I8X32)
            return _byte_products(code, u, code.b.bitcast(w, I8X32))

        initial = [code.load(I16X16, start, 32 * v) for v in range(vectors)] * pixels
        sums = _over_runs(
            code, product, initial, vectors, spikes, spike_stride, runs, run_count, pairs, weight
        )
        for p in range(pixels):
            at = code.at(current, code.multiply(current_stride, p))
            for v in range(vectors):
                _add_to_current(code, sums[p * vectors + v], at, 64 * v)

    return multiply


def multiply_words(pixels: int, vectors: int) -> Callable[..., int]:
    """Return the code for ``pixels`` pixels of int16 and ``8 * vectors`` outputs."""

    @vector_code
    def multiply(
        code: Code,
        current: Value,
        current_stride: Value,
        spikes: Value,
        spike_stride: Value,
        runs: Value,
        run_count: Value,
        pairs: Value,
        weight: Value,
    ) -> None:
        """Add products to the currents; as for bytes, but spikes and weights are int16, sums int32."""

        def product(pixel: Value, j: Value, w: Value) -> Value:
            pair = code.load(I32, pixel, code.multiply(j, 4))
            return _word_products(code, code.b.bitcast(code.spread(pair, I32X8), I16X16), w)

        initial = [code.all(I32X8, 0)] * (pixels * vectors)
        sums = _over_runs(
            code, product, initial, vectors, spikes, spike_stride, runs, run_count, pairs, weight
        )
        for p in range(pixels):
            at = code.at(current, code.multiply(current_stride, p))
            for v in range(vectors):
                before = code.load(I32X8, at, 32 * v)
                code.store(code.b.add(before, sums[p * vectors + v]), at, 32 * v)

    return multiply


def _over_runs(
    code: Code,
    product: Callable[[Value, Value, Value], Value],
    initial: list[Value],
    vectors: int,
    spikes: Value,
    spike_stride: Value,
    runs: Value,
    run_count: Value,
    pairs: Value,
    weight: Value,
) -> list[Value]:
    """Add the products of all runs to ``initial``; the weight is read once, from front to back."""
    b = code.b
    pixels = len(initial) // vectors
    step = 32 * vectors

    def one_run(r: Value, carried: list[Value]) -> list[Value]:
        *sums, w = carried
        first = b.add(spikes, code.load(I64, runs, code.multiply(r, 8)))
        starts = [b.add(first, code.multiply(spike_stride, p)) for p in range(pixels)]

        def one_pair(j: Value, sums: list[Value]) -> list[Value]:
            row = b.add(w, code.multiply(j, step))
            weights = [code.load(I16X16, row, 32 * v) for v in range(vectors)]
            products = [product(start, j, weight) for start in starts for weight in weights]
            return [b.add(total, x) for total, x in zip(sums, products, strict=True)]

        return [*code.loop(pairs, sums, one_pair), b.add(w, code.multiply(pairs, step))]

    return code.loop(run_count, [*initial, weight], one_run)[:-1]


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
