"""Vector code that all kernels share: copies, and numbers in tables.

Everything in these modules works on addresses; the shapes are the business of
:mod:`snnc.backends.numba_cpu.kernels.stage`. Currents are int32, spikes int8, both are float32 before
quantisation, and the channels of a pixel lie side by side.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from snnc.backends.numba_cpu.codegen.vector import F32, I8, I16, I32, I64, Code, Value, vector, vector_code

I8X64 = vector(I8, 64)
I8X16, I16X16, I32X16, F32X16 = (vector(kind, 16) for kind in (I8, I16, I32, F32))

LARGEST_SUM = 2**15 - 1
"""What a wrapping 16-bit sum must not exceed in the end."""


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
def count_spikes(code: Code, address: Value, count: Value) -> Value:
    """Return how many of ``16 * count`` int8 are not zero."""
    b = code.b

    def fired(kind: Any, at: Value) -> Value:
        mask = b.icmp_signed("!=", code.load(kind, address, at), code.all(kind, 0))
        bits = b.bitcast(mask, ir.IntType(kind.count))
        return code.call("llvm.ctpop.i64", I64, [bits if kind.count == 64 else b.zext(bits, I64)])

    fours = b.lshr(count, code.number(2))
    (total,) = code.loop(
        fours, [code.number(0)], lambda j, sums: [b.add(sums[0], fired(I8X64, code.multiply(j, 64)))]
    )
    done = code.multiply(fours, 4)
    (total,) = code.loop(
        b.sub(count, done),
        [total],
        lambda j, sums: [b.add(sums[0], fired(I8X16, code.multiply(b.add(done, j), 16)))],
    )
    return total


@vector_code
def copy_shifted(code: Code, source: Value, target: Value, count: Value, shift: Value) -> None:
    """Copy ``64 * count`` bytes and add ``shift`` to each, modulo 256."""
    added = code.spread(code.b.trunc(shift, I8), I8X64)

    def body(j: Value) -> None:
        at = code.multiply(j, 64)
        code.store(code.b.add(code.load(I8X64, source, at), added), target, at)

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


@vector_code
def add_floats(code: Code, target: Value, source: Value, factor: Value, count: Value) -> None:
    """Add ``factor`` times ``16 * count`` float32 to as many at ``target``."""
    times = code.spread(code.b.sitofp(factor, F32), F32X16)

    def body(j: Value) -> None:
        at = code.multiply(j, 64)
        more = code.b.fmul(code.load(F32X16, source, at), times)
        code.store(code.b.fadd(code.load(F32X16, target, at), more), target, at)

    code.each(count, body)


def add_to_current(code: Code, sums: Value, address: Value, offset: int, before: Value | None = None) -> None:
    """Add sixteen sums to sixteen 32-bit currents, or write their sum with those at ``before``."""
    source = address if before is None else before
    if sums.type == F32X16:
        code.store(code.b.fadd(code.load(F32X16, source, offset), sums), address, offset)
        return
    total = code.b.add(code.load(I32X16, source, offset), code.widen(sums, I32X16))
    code.store(total, address, offset)
