"""Vector code for products of bytes in tile registers (AMX).

A tile register holds up to 16 rows of 64 bytes. One instruction multiplies two of them and adds to a third::

    C[pixel, output] += sum_k A[pixel, 4 k : 4 k + 4] . B[k, output]      int8 times int8, sums int32

``A`` holds up to 64 bytes of some neighbouring pixels of the padded input, read where they lie; ``B`` a piece
of the weight, laid out as for :mod:`snnc.backends.numba_cpu.codegen.micro_products`; ``C`` the currents of
16 outputs. Several rows of pixels, or steps, share a ``B``: their sums do not wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from snnc.backends.numba_cpu.codegen.vector import I8, I64, Code, Value, vector_code

ROWS = 16
"""Rows of a tile: pixels of ``A`` and ``C``, groups of four inputs of ``B``."""

ROW_BYTES = 64
"""Bytes of a row of a tile."""

TILE_BYTES = ROWS * ROW_BYTES

TOGETHER = 4
"""Sums that are made together."""

STEPS = 4
"""Steps of a pixel that may share a tile."""

_SUMS, _WEIGHT, _SPIKES = range(TOGETHER), TOGETHER, range(TOGETHER + 1, 8)
"""Which of the eight registers hold what."""


def pixels_together(width: int) -> int:
    """Return how many pixels of a row make a tile, so that all have about as many."""
    return -(-width // -(-width // ROWS))


def configuration(pixels: int, inputs: int) -> NDArray[np.uint8]:
    """Return the 64 bytes that tell the processor how large the tiles are.

    Args:
        pixels: at most :data:`ROWS`.
        inputs: of a piece, a multiple of four, at most :data:`ROW_BYTES`.
    """
    rows, row_bytes = np.zeros(16, np.uint8), np.zeros(16, np.uint16)
    rows[[*_SUMS, *_SPIKES]], rows[_WEIGHT] = pixels, inputs // 4
    row_bytes[[*_SUMS, _WEIGHT]], row_bytes[[*_SPIKES]] = ROW_BYTES, inputs
    found = np.zeros(64, np.uint8)
    found[0] = 1  # the palette: eight tiles
    found[16:48], found[48:] = row_bytes.view(np.uint8), rows
    return found


@vector_code
def configure(code: Code, address: Value) -> None:
    """Give the tiles of this thread the sizes at ``address``."""
    code.call("llvm.x86.ldtilecfg", ir.VoidType(), [code.pointer(address, I8)])


@vector_code
def release(code: Code) -> None:
    """Say that this thread needs its tiles no more: the system need not save them."""
    code.call("llvm.x86.tilerelease", ir.VoidType(), [])


@vector_code
def multiply_tiles(
    code: Code,
    together: int,
    ahead: int,
    fresh: Value,
    currents: Value,
    spikes: Value,
    current_stride: Value,
    spike_stride: Value,
    runs: Value,
    run_count: Value,
    weight: Value,
    weight_bytes: Value,
) -> None:
    """Add the products of ``together`` rows of pixels and 16 outputs.

    Args:
        code: what to write with.
        together: at most :data:`TOGETHER`.
        ahead: how many pieces of the weight are fetched ahead; 0 for none, where it lies in the cache.
        fresh: not 0 where there is nothing to add to.
        currents: address of one int64 per row of pixels: the address of its int32 currents.
        spikes: address of as many: those of its int8 spikes.
        current_stride: bytes from pixel to pixel.
        spike_stride: likewise.
        runs: address of one int64 per piece: its first spike relative to the pixel's, in bytes.
        run_count: pieces.
        weight: address of the first piece of the weight.
        weight_bytes: from one to the next.
    """
    sources = [code.load(I64, spikes, 8 * n) for n in range(together)]
    targets = [code.load(I64, currents, 8 * n) for n in range(together)]
    with code.b.if_else(code.b.icmp_signed("!=", fresh, code.number(0))) as (nothing, something):
        with nothing:
            for tile in _SUMS[:together]:
                _call(code, "tilezero", [tile])
        with something:
            for tile, target in zip(_SUMS, targets, strict=False):
                _call(code, "tileloadd64", [tile], target, current_stride)

    def one_run(r: Value) -> None:
        if ahead:
            later = code.at(weight, code.b.mul(code.at(r, ahead), weight_bytes))
            for k in range(ROWS):
                code.prefetch(code.at(later, k * ROW_BYTES))
        _call(
            code,
            "tileloadd64",
            [_WEIGHT],
            code.at(weight, code.b.mul(r, weight_bytes)),
            code.number(ROW_BYTES),
        )
        run = code.load(I64, runs, code.multiply(r, 8))
        for n, source in enumerate(sources):
            tile = _SPIKES[n % len(_SPIKES)]
            _call(code, "tileloadd64", [tile], code.at(source, run), spike_stride)
            _call(code, "tdpbssd", [_SUMS[n], tile, _WEIGHT])

    code.each(run_count, one_run)
    for tile, target in zip(_SUMS, targets, strict=False):
        _call(code, "tilestored64", [tile], target, current_stride)


def _call(
    code: Code, name: str, tiles: Sequence[int], address: Value | None = None, stride: Value | None = None
) -> None:
    """Use tiles by their numbers; ``stride`` is the distance of the rows in memory, in bytes."""
    where = [] if address is None else [code.pointer(address, I8), stride]
    code.call(f"llvm.x86.{name}", ir.VoidType(), [*(ir.Constant(I8, tile) for tile in tiles), *where])
