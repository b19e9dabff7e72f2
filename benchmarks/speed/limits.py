"""What one core of this machine can do at most, measured by loops that do nothing else.

The roof over each kind of kernel is the rate of its own arithmetic, in weights a nanosecond: an event adds a
row of bytes by three vector instructions for 32 weights (64 in vectors of 512 bits), a product of bytes takes
two for 32 (one for 64 with VNNI, one for 16,384 in tile registers). Rows of events come from the caches, so
that roof is also measured for arrays that fit the first and the second level, and for ones that fit neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numba
import numpy as np
from llvmlite import ir

from snnc.backends.numba_cpu.codegen.micro_events import BLOCK, VECTOR_BLOCKS
from snnc.backends.numba_cpu.codegen.micro_products import BYTES, FLOATS, LANES, SUMS, WORDS
from snnc.backends.numba_cpu.codegen.micro_tiles import (
    ROW_BYTES,
    ROWS,
    TOGETHER,
    configuration,
    configure,
    multiply_tiles,
    release,
)
from snnc.backends.numba_cpu.codegen.vector import I16, I32, Code, Value, vector, vector_code
from snnc.backends.numba_cpu.machine import tiles
from snnc.backends.numba_cpu.machine.cpu import detect
from snnc.backends.numba_cpu.machine.memory import aligned

ROW = BLOCK * VECTOR_BLOCKS
"""Bytes that a vector of an event's row holds."""

UNROLLED = 6
ROUNDS = 60


@vector_code
def _add(code: Code, rows: Value, count: Value) -> Value:
    """Add ``6 * count`` vectors of interleaved bytes, as an event does."""
    kind = vector(I16, ROW // 2)
    eight = code.all(kind, 8)

    def body(j: Value, sums: list[Value]) -> list[Value]:
        for k in range(UNROLLED):
            x = code.load(kind, code.at(rows, code.at(code.multiply(j, ROW * UNROLLED), ROW * k)))
            sums[2 * k] = code.b.add(sums[2 * k], x)
            sums[2 * k + 1] = code.b.add(sums[2 * k + 1], code.b.ashr(x, eight))
        return sums

    sums = code.loop(count, [code.all(kind, 0)] * (2 * UNROLLED), body)
    return _kept(code, sums, kind, code.b.add)


@vector_code
def _multiply(code: Code, rows: Value, count: Value) -> Value:
    """Multiply ``8 * count`` vectors of bytes and add the products."""
    kind = SUMS if detect().vnni else WORDS

    def add(total: Value, u: Value, w: Value) -> Value:
        if detect().vnni:
            name = f"llvm.x86.avx512.vpdpbusd.{32 * LANES}"
            return code.call(name, SUMS, [total, code.b.bitcast(u, SUMS), code.b.bitcast(w, SUMS)])
        name = "llvm.x86.avx512.pmaddubs.w.512" if detect().avx512 else "llvm.x86.avx2.pmadd.ub.sw"
        return code.b.add(total, code.call(name, WORDS, [u, w]))

    def body(j: Value, sums: list[Value]) -> list[Value]:
        first = code.b.and_(code.multiply(j, 64), code.number((1 << 13) - 1))
        weights = [code.load(BYTES, code.at(rows, first), BYTES.count * v) for v in range(2)]
        for p in range(4):
            u = code.b.bitcast(code.spread(code.load(I32, code.at(rows, first), 4 * p), SUMS), BYTES)
            for v in range(2):
                sums[2 * p + v] = add(sums[2 * p + v], u, weights[v])
        return sums

    sums = code.loop(count, [code.all(kind, 0)] * 8, body)
    return _kept(code, sums, kind, code.b.add)


@vector_code
def _fuse(code: Code, rows: Value, count: Value) -> Value:
    """Multiply and add ``10 * count`` vectors of floats."""
    factor = code.load(FLOATS, rows)

    def body(_: Value, sums: list[Value]) -> list[Value]:
        return [code.call(f"llvm.fma.v{LANES}f32", FLOATS, [factor, factor, total]) for total in sums]

    sums = code.loop(count, [code.all(FLOATS, 0.0)] * 10, body)
    return _kept(code, sums, FLOATS, code.b.fadd)


def _kept(code: Code, sums: list[Value], kind: Any, add: Callable[[Value, Value], Value]) -> Value:
    """Return a number that depends on all sums, so that none is optimised away."""
    total = sums[0]
    for other in sums[1:]:
        total = add(total, other)
    lanes = kind.count * (4 if kind in (SUMS, FLOATS) else 2) // 8
    words = code.b.bitcast(total, vector(ir.IntType(64), lanes))
    result = code.b.extract_element(words, ir.Constant(I32, 0))
    for lane in range(1, lanes):
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
def _tiling(sizes: int, places: int, runs: int, rows: int, count: int) -> None:
    configure(sizes)
    multiply_tiles(TOGETHER, 0, 1, places, places, ROW_BYTES, ROW_BYTES, runs, count, rows, 0)
    release()


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
        tile_products: the same in tile registers; 0 where there are none.
        floats: multiply-accumulates in float32, which the source network runs on.
    """

    event_l1: float
    event_l2: float
    event_l3: float
    byte_products: float
    tile_products: float
    floats: float


def measure() -> Limits:
    """Return the limits of this machine."""
    memory = aligned(np.zeros(8 << 20, np.uint8))
    place = memory.ctypes.data

    def adding(size: int) -> float:
        blocks = size // (ROW * UNROLLED)
        repeats = max(1, (6 << 20) // size)
        return repeats * blocks * ROW * UNROLLED / _shortest(lambda: _adding(place, blocks, repeats))

    count = 20_000
    products = 0.0
    if detect().avx2:
        products = count * 8 * BYTES.count / _shortest(lambda: _multiplying(place, count))
    return Limits(
        event_l1=adding(16 << 10) / 1e9,
        event_l2=adding(192 << 10) / 1e9,
        event_l3=adding(6 << 20) / 1e9,
        byte_products=products / 1e9,
        tile_products=_tile_products(place) / 1e9 if tiles.usable() else 0.0,
        floats=count * 10 * LANES / _shortest(lambda: _fusing(place, count)) / 1e9,
    )


def _tile_products(place: int) -> float:
    """Return how many bytes a second are multiplied where all tiles are in the first-level cache."""
    count = 1000
    sizes = aligned(configuration(ROWS, ROW_BYTES))
    runs = aligned(np.zeros(count, np.int64))
    places = aligned(np.array([place + k * ROWS * ROW_BYTES for k in range(TOGETHER)], np.int64))
    given = (sizes.ctypes.data, places.ctypes.data, runs.ctypes.data, place, count)
    return count * TOGETHER * ROWS * ROWS * ROW_BYTES / _shortest(lambda: _tiling(*given))


def _shortest(run: Callable[[], object]) -> float:
    run()
    found = []
    for _ in range(ROUNDS):
        start = perf_counter()
        run()
        found.append(perf_counter() - start)
    return min(found)
