"""Vector code for products: every input is multiplied, whether it spiked or not.

Some pixels times some outputs stay in
registers while a group of input channels at a time is multiplied and added::

                bytes                                      words                        floats
    spikes      (c0, c1, c2, c3) of a pixel, u8 + offset   (c0, c1) of a pixel, int16   c0, float32
    weight      [group of four][output][4] int8            [pair][output][2] int16      [one][output]
    sum         two int16 lanes per output, c0 c1 | c2 c3  one int32 lane per output    one float32 lane
                (one int32 lane where the CPU has VNNI)

Without VNNI, multiplying bytes sums two products in 16 bits and would saturate: it does not while
``2 * 127 * u < 2^15``, that is, for ``u`` up to 129. The lanes wrap; in the end each must fit 16 bits, and
the two of an output are added. With VNNI every product has room, and ``u`` may be any byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from snnc.backends.numba_cpu.codegen.micro import add_to_current
from snnc.backends.numba_cpu.codegen.vector import F32, I8, I16, I32, I64, Code, Value, vector, vector_code
from snnc.backends.numba_cpu.machine.cpu import detect

_CPU = detect()

LANES = 16 if _CPU.avx512 else 8
"""Outputs of a vector of 32-bit numbers."""

BYTES, WORDS, SUMS, FLOATS = (
    vector(kind, 4 * LANES * 8 // bits) for kind, bits in ((I8, 8), (I16, 16), (I32, 32), (F32, 32))
)
"""The types of a vector."""

BYTE_LANES = 1 if _CPU.vnni else 2
"""Sums per output: int32, or two int16."""


def largest_byte(least_weight: int, lanes: int = BYTE_LANES) -> int:
    """Return the largest unsigned spike whose products with weights as low as ``least_weight`` have room."""
    if lanes == 1:
        return 255
    # -128 is not among the weights that quantisation gives, and its products need more room.
    return 129 if least_weight >= -127 else 127


KINDS = ("bytes", "words", "floats")

OUTPUTS = 16
"""Fewest outputs that are multiplied together."""

WIDTHS = (2 * OUTPUTS, OUTPUTS) if _CPU.avx512 else (OUTPUTS,)
"""Outputs that can be multiplied together: twice as many read each spike half as often."""

PIXELS = (8, 7, 4) if _CPU.avx512 else (4,)
"""Pixels that can be multiplied together: as many as fit the registers; many widths are multiples of 7.

The processor begins two products in a cycle and ends them four cycles later: eight sums keep it busy.
"""


def outputs_together(outputs: int) -> int:
    """Return how many outputs to multiply together, so that fewest are multiplied in vain."""
    return min(WIDTHS, key=lambda n: -(-outputs // n) * n)


def pixels_together(width: int) -> int:
    """Return how many pixels of a row to multiply together, so that fewest are multiplied in vain."""
    return min(PIXELS, key=lambda n: -(-width // n) * n)


@vector_code
def multiply_row(
    code: Code,
    kind: str,
    pixels: int,
    outputs: int,
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
    """Add products to the currents of ``pixels`` times ``blocks`` pixels and some outputs.

    Args:
        code: what to write with.
        kind: one of :data:`KINDS`.
        pixels: that are multiplied together, one of :data:`PIXELS`.
        outputs: that are multiplied together, one of :data:`WIDTHS`.
        current: address of the int32 (for floats, float32) currents of the first pixel.
        current_stride: bytes from pixel to pixel.
        before: address of what the products are added to: the same currents, or zeros.
        before_stride: bytes from pixel to pixel.
        blocks: how many times so many pixels.
        spikes: address of the first pixel's spikes, unsigned if bytes.
        spike_stride: bytes from pixel to pixel.
        runs: address of one int64 per run: its first spike relative to the pixel's, in bytes.
        run_count: how many.
        groups: groups of inputs in a run, of four bytes each.
        weight: address of (run, group, output, input of the group).
        start: for bytes, address of the sums to begin with, int16 or int32: what cancels the offset of
            the spikes.
    """
    starting = kind == "bytes"
    sums, add_product, finished = _ARITHMETIC[kind](code)
    vectors = range(outputs // LANES)
    _multiply(
        code,
        add_product,
        finished,
        [code.load(sums, start, 4 * LANES * v) if starting else code.all(sums, 0) for v in vectors],
        pixels,
        (current, current_stride, before, before_stride, blocks, spikes, spike_stride),
        (runs, run_count, groups, weight),
    )


Arithmetic = tuple[Any, Callable[[Value, Value, Value], Value], Callable[[Value], Value]]
"""Type of the sums, what adds a product to one, and what makes 32-bit numbers of them."""


def _of_bytes(code: Code) -> Arithmetic:
    def add_product(total: Value, s: Value, w: Value) -> Value:
        if _CPU.vnni:
            return code.call(f"llvm.x86.avx512.vpdpbusd.{32 * LANES}", SUMS, [total, s, w])
        u, w = code.b.bitcast(s, BYTES), code.b.bitcast(w, BYTES)
        return code.b.add(total, _byte_products(code, u, w))

    def finished(total: Value) -> Value:
        return total if _CPU.vnni else _word_products(code, total, code.all(WORDS, 1))

    return SUMS if _CPU.vnni else WORDS, add_product, finished


def _of_words(code: Code) -> Arithmetic:
    def add_product(total: Value, s: Value, w: Value) -> Value:
        if _CPU.vnni:
            return code.call(f"llvm.x86.avx512.vpdpwssd.{32 * LANES}", SUMS, [total, s, w])
        return code.b.add(total, _word_products(code, code.b.bitcast(s, WORDS), code.b.bitcast(w, WORDS)))

    return SUMS, add_product, lambda total: total


def _of_floats(code: Code) -> Arithmetic:
    def add_product(total: Value, s: Value, w: Value) -> Value:
        # In one instruction where the CPU has it.
        factors = [code.b.bitcast(x, FLOATS) for x in (s, w)]
        return code.call(f"llvm.fmuladd.v{LANES}f32", FLOATS, [*factors, total])

    return FLOATS, add_product, lambda total: total


_ARITHMETIC = {"bytes": _of_bytes, "words": _of_words, "floats": _of_floats}


def _multiply(
    code: Code,
    add_product: Callable[[Value, Value, Value], Value],
    finished: Callable[[Value], Value],
    initial: list[Value],
    together: int,
    pixels: tuple[Value, ...],
    weights: tuple[Value, ...],
) -> None:
    """Multiply four bytes of each pixel at a time; the weight is read once per block, front to back."""
    b = code.b
    current, current_stride, before, before_stride, blocks, spikes, spike_stride = pixels
    runs, run_count, groups, weight = weights
    vectors = len(initial)
    row_bytes = 4 * LANES * vectors

    def one_block(block: Value) -> None:
        pixel = code.multiply(block, together)

        def of_pixels(address: Value, stride: Value) -> list[Value]:
            first = b.add(address, b.mul(pixel, stride))
            return [b.add(first, code.multiply(stride, p)) for p in range(together)]

        sources = of_pixels(spikes, spike_stride)

        def one_run(r: Value, carried: list[Value]) -> list[Value]:
            *sums, w = carried
            run = code.load(I64, runs, code.multiply(r, 8))
            starts = [b.add(source, run) for source in sources]

            def group(j: Value, sums: list[Value]) -> list[Value]:
                row = b.add(w, code.multiply(j, row_bytes))
                factors = [code.load(SUMS, row, 4 * LANES * v) for v in range(vectors)]
                at = code.multiply(j, 4)
                read = [code.spread(code.load(I32, start, at), SUMS) for start in starts]
                return [
                    add_product(sums[p * vectors + v], read[p], factors[v])
                    for p in range(together)
                    for v in range(vectors)
                ]

            def two_groups(j: Value, sums: list[Value]) -> list[Value]:
                first = code.multiply(j, 2)
                return group(code.at(first, 1), group(first, sums))

            sums = code.loop(b.lshr(groups, code.number(1)), sums, two_groups)
            odd = b.and_(groups, code.number(1))
            last = b.sub(groups, code.number(1))
            sums = code.loop(odd, sums, lambda _, carried: group(last, carried))
            return [*sums, b.add(w, code.multiply(groups, row_bytes))]

        sums = code.loop(run_count, [*(initial * together), weight], one_run)[:-1]
        places = zip(of_pixels(current, current_stride), of_pixels(before, before_stride), strict=True)
        for p, (target, source) in enumerate(places):
            for v in range(vectors):
                total = finished(sums[p * vectors + v])
                plus = b.fadd if total.type == FLOATS else b.add
                code.store(plus(code.load(total.type, source, 4 * LANES * v), total), target, 4 * LANES * v)

    code.each(blocks, one_block)


def _byte_products(code: Code, u: Value, w: Value) -> Value:
    """Return ``u[2i] w[2i] + u[2i+1] w[2i+1]`` for unsigned ``u``, in 16 bits."""
    if _CPU.avx2:
        name = "llvm.x86.avx512.pmaddubs.w.512" if _CPU.avx512 else "llvm.x86.avx2.pmadd.ub.sw"
        return code.call(name, WORDS, [u, w])
    wide = vector(I16, BYTES.count)
    return _neighbours(code, code.b.mul(code.b.zext(u, wide), code.widen(w, wide)), WORDS)


def _word_products(code: Code, s: Value, w: Value) -> Value:
    """Return ``s[2i] w[2i] + s[2i+1] w[2i+1]`` in 32 bits."""
    if _CPU.avx2:
        name = "llvm.x86.avx512.pmaddw.d.512" if _CPU.avx512 else "llvm.x86.avx2.pmadd.wd"
        return code.call(name, SUMS, [s, w])
    wide = vector(I32, WORDS.count)
    return _neighbours(code, code.b.mul(code.widen(s, wide), code.widen(w, wide)), SUMS)


def _neighbours(code: Code, x: Value, kind: Any) -> Value:
    """Add each even lane to the odd one behind it."""
    picked = [
        code.b.shuffle_vector(x, x, ir.Constant(vector(I32, kind.count), list(range(i, x.type.count, 2))))
        for i in (0, 1)
    ]
    return code.b.add(picked[0], picked[1])


CHANNEL_KINDS = {
    "channel_bytes": (I8, I16),
    "channel_words": (I8, I32),
    "channel_wide": (I16, I32),
    "channel_floats": (F32, F32),
}
"""The operations in which a channel reads only itself: type of a spike, and of sums that certainly fit."""

CHANNEL_PIXELS = 4
"""Pixels for which a weight is read once, where a channel reads only itself."""

CHANNEL_LANES = 16
"""Fewest channels that are worked on together."""


def channels_together(kind: str, channels: int) -> int:
    """Return how many of the channels to work on together: as many 16-bit sums as fit a vector.

    Args:
        kind: one of :data:`CHANNEL_KINDS`.
        channels: a multiple of :data:`CHANNEL_LANES`.
    """
    twice = 2 * CHANNEL_LANES
    fit = CHANNEL_KINDS[kind][1] == I16 and _CPU.avx512 and channels % twice == 0
    return twice if fit else CHANNEL_LANES


@vector_code
def multiply_channels(
    code: Code,
    kind: str,
    lanes: int,
    current: Value,
    current_stride: Value,
    before: Value,
    before_stride: Value,
    spikes: Value,
    spike_stride: Value,
    taps: Value,
    tap_count: Value,
    weight: Value,
    weight_stride: Value,
    pixels: Value,
) -> None:
    """Add ``sum_k weight[k, c] s[tap k, c]`` to the currents of some channels of some pixels.

    Args:
        code: what to write with.
        kind: one of :data:`CHANNEL_KINDS`.
        lanes: channels, as :func:`channels_together` says.
        current: address of the int32 currents of the first pixel.
        current_stride: bytes from pixel to pixel.
        before: address of what the products are added to: the same currents, or zeros.
        before_stride: bytes from pixel to pixel.
        spikes: address of the first pixel's spikes.
        spike_stride: bytes from pixel to pixel.
        taps: address of one int64 per tap: its spikes relative to the pixel's, in bytes.
        tap_count: how many.
        weight: address of the int16 weights of the first tap, float32 for float32 spikes.
        weight_stride: bytes from tap to tap.
        pixels: how many.
    """
    element, sum_type = CHANNEL_KINDS[kind]
    spike_kind, sum_kind = vector(element, lanes), vector(sum_type, lanes)
    weight_kind = sum_kind if element == F32 else vector(I16, lanes)
    b = code.b

    def added(total: Value, s: Value, w: Value) -> Value:
        if element == F32:
            return b.fadd(total, b.fmul(s, w))
        return b.add(total, b.mul(code.widen(s, sum_kind), w))

    def several(first: Value, count: int) -> None:
        places = [b.add(first, code.number(n)) for n in range(count)]
        sources = [b.add(spikes, b.mul(p, spike_stride)) for p in places]

        def one_tap(k: Value, sums: list[Value]) -> list[Value]:
            tap = code.load(I64, taps, code.multiply(k, 8))
            w = code.widen(code.load(weight_kind, weight, b.mul(k, weight_stride)), sum_kind)
            read = [code.load(spike_kind, source, tap) for source in sources]
            return [added(total, s, w) for total, s in zip(sums, read, strict=True)]

        sums = code.loop(tap_count, [code.all(sum_kind, 0)] * count, one_tap)
        for p, total in zip(places, sums, strict=True):
            target = b.add(current, b.mul(p, current_stride))
            source = b.add(before, b.mul(p, before_stride))
            parts = [total] if lanes == CHANNEL_LANES else code.halves(total)
            for k, part in enumerate(parts):
                add_to_current(code, part, target, 4 * CHANNEL_LANES * k, source)

    blocks = b.sdiv(pixels, code.number(CHANNEL_PIXELS))
    done = code.multiply(blocks, CHANNEL_PIXELS)
    code.each(blocks, lambda block: several(code.multiply(block, CHANNEL_PIXELS), CHANNEL_PIXELS))
    code.each(b.sub(pixels, done), lambda p: several(b.add(done, p), 1))
