"""What one core of this machine can do at most, measured by loops that do nothing else.

The roof over each kind of kernel is the rate of its own arithmetic, in weights a nanosecond: an event adds a
row of bytes by three vector instructions for 32 weights, a product of bytes takes two for 32. Rows of events
come from the caches, so that roof is also measured for arrays that fit the first and the second level, and
for ones that fit neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numba
import numpy as np
from llvmlite import ir

from snnc.backends.numba_cpu.cpu import detect
from snnc.backends.numba_cpu.memory import aligned
from snnc.backends.numba_cpu.vector import F32, I8, I16, I32, Code, Value, vector, vector_code

I8X32, I16X16, I32X8, F32X8 = vector(I8, 32), vector(I16, 16), vector(I32, 8), vector(F32, 8)
UNROLLED = 6
ROUNDS = 60


@vector_code
def _add(code: Code, rows: Value, count: Value) -> Value:
    """Add ``6 * count`` blocks of 32 interleaved bytes, as an event does."""
    eight = code.all(I16X16, 8)

    def body(j: Value, sums: list[Value]) -> list[Value]:
        for k in range(UNROLLED):
            x = code.load(I16X16, code.at(rows, code.at(code.multiply(j, 32 * UNROLLED), 32 * k)))
            sums[2 * k] = code.b.add(sums[2 * k], x)
            sums[2 * k + 1] = code.b.add(sums[2 * k + 1], code.b.ashr(x, eight))
        return sums

    sums = code.loop(count, [code.all(I16X16, 0)] * (2 * UNROLLED), body)
    return _kept(code, sums, I16X16, code.b.add)


@vector_code
def _multiply(code: Code, rows: Value, count: Value) -> Value:
    """Multiply ``4 * 2 * count`` times 32 bytes and add the products."""

    def body(j: Value, sums: list[Value]) -> list[Value]:
        first = code.b.and_(code.multiply(j, 64), code.number((1 << 13) - 1))
        weights = [code.load(I8X32, code.at(rows, first), 32 * v) for v in range(2)]
        for p in range(4):
            u = code.b.bitcast(code.spread(code.load(I32, code.at(rows, first), 4 * p), I32X8), I8X32)
            for v in range(2):
                products = code.call("llvm.x86.avx2.pmadd.ub.sw", I16X16, [u, weights[v]])
                sums[2 * p + v] = code.b.add(sums[2 * p + v], products)
        return sums

    sums = code.loop(count, [code.all(I16X16, 0)] * 8, body)
    return _kept(code, sums, I16X16, code.b.add)


@vector_code
def _fuse(code: Code, rows: Value, count: Value) -> Value:
    """Multiply and add ``10 * count`` times eight floats."""
    factor = code.load(F32X8, rows)

    def body(_: Value, sums: list[Value]) -> list[Value]:
        return [code.call("llvm.fma.v8f32", F32X8, [factor, factor, total]) for total in sums]

    sums = code.loop(count, [code.all(F32X8, 0.0)] * 10, body)
    return _kept(code, sums, F32X8, code.b.fadd)


def _kept(code: Code, sums: list[Value], kind: Any, add: Callable[[Value, Value], Value]) -> Value:
    """Return a number that depends on all sums, so that none is optimised away."""
    total = sums[0]
    for other in sums[1:]:
        total = add(total, other)
    words = code.b.bitcast(total, vector(ir.IntType(64), 4))
    result = code.b.extract_element(words, ir.Constant(I32, 0))
    for lane in range(1, 4):
        result = code.b.xor(result, code.b.extract_element(words, ir.Constant(I32, lane)))
    return result


@numba.njit(nogil=True)
def _adding(rows: int, count: int, repeats: int) -> int:
    total = 0
    for _ in range(repeats):
        total ^= _add(rows, count)
    return total


@numba.njit(nogil=True)
def _multiplying(rows: int, count: int) -> int:
    return _multiply(rows, count)


@numba.njit(nogil=True)
def _fusing(rows: int, count: int) -> int:
    return _fuse(rows, count)


@dataclass(frozen=True, slots=True)
class Limits:
    """Rates of one core, in thousand millions a second.

    Attributes:
        event_l1: weights added by events, from the first-level cache.
        event_l2: the same from the second.
        event_l3: the same from behind it.
        byte_products: multiply-accumulates of bytes; 0 where the CPU has no instruction for them.
        floats: multiply-accumulates in float32, which the source network runs on.
    """

    event_l1: float
    event_l2: float
    event_l3: float
    byte_products: float
    floats: float


def measure() -> Limits:
    """Return the limits of this machine."""
    memory = aligned(np.zeros(8 << 20, np.uint8))
    place = memory.ctypes.data

    def adding(size: int) -> float:
        blocks = size // (32 * UNROLLED)
        repeats = max(1, (6 << 20) // size)
        return repeats * blocks * 32 * UNROLLED / _shortest(lambda: _adding(place, blocks, repeats))

    count = 20_000
    products = 0.0
    if detect().avx2:
        products = count * 8 * 32 / _shortest(lambda: _multiplying(place, count))
    return Limits(
        event_l1=adding(16 << 10) / 1e9,
        event_l2=adding(192 << 10) / 1e9,
        event_l3=adding(6 << 20) / 1e9,
        byte_products=products / 1e9,
        floats=count * 80 / _shortest(lambda: _fusing(place, count)) / 1e9,
    )


def _shortest(run: Callable[[], object]) -> float:
    run()
    found = []
    for _ in range(ROUNDS):
        start = perf_counter()
        run()
        found.append(perf_counter() - start)
    return min(found)
