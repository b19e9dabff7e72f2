"""Vector code for step functions, sixteen channels at a time.

Steps that are evenly apart are found by a product; of others few breakpoints are compared, many looked up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from snnc.backends.numba_cpu.codegen.micro import I32X16
from snnc.backends.numba_cpu.codegen.vector import F64, I8, I16, I32, I64, Code, Value, vector, vector_code

F64X16 = vector(F64, 16)

ELEMENTS = {"bytes": I8, "words": I16, "wide": I32}
"""Types of a spike."""


@vector_code
def follow_steps(
    code: Code,
    kind: str,
    current: Value,
    start: Value,
    points: Value,
    apart: Value,
    rises: Value,
    count: Value,
    base: Value,
    limit: Value,
    blocks: Value,
    spikes: Value,
) -> None:
    """Write the first spikes of ``16 * blocks`` neurons that lie side by side.

    Args:
        code: what to write with.
        kind: one of :data:`ELEMENTS`.
        current: address of their int32 currents.
        start: address of what is added to them, int32.
        points: address of their first breakpoints, int32.
        apart: bytes from a breakpoint to the next of the same neuron.
        rises: address of one int32 per breakpoint, by how much the count changes there.
        count: how many breakpoints.
        base: the count below all of them.
        limit: most that leaves in a step, of either sign.
        blocks: how many times sixteen neurons.
        spikes: where their spikes go.
    """
    element = ELEMENTS[kind]
    b = code.b
    nothing = code.all(I32X16, 0)
    lowest, highest = (code.spread(b.trunc(value, I32), I32X16) for value in (b.neg(limit), limit))
    first = code.spread(b.trunc(base, I32), I32X16)

    def one_block(j: Value) -> None:
        at = code.multiply(j, 64)
        v = b.add(code.load(I32X16, current, at), code.load(I32X16, start, at))
        own = code.at(points, at)

        def one_point(i: Value, carried: list[Value]) -> list[Value]:
            point = code.load(I32X16, own, b.mul(i, apart))
            rise = code.spread(code.load(I32, rises, code.multiply(i, 4)), I32X16)
            return [b.add(carried[0], b.select(b.icmp_signed("<=", point, v), rise, nothing))]

        (wanted,) = code.loop(count, [first], one_point)
        sent = code.least(code.most(wanted, lowest), highest)
        narrow = vector(element, 16)
        made = sent if narrow == I32X16 else b.trunc(sent, narrow)
        code.store(made, spikes, code.multiply(j, 2 * element.width))

    code.each(blocks, one_block)


@vector_code
def look_up_steps(
    code: Code,
    kind: str,
    remembers: bool,
    current: Value,
    start: Value,
    buckets: Value,
    apart: Value,
    table: Value,
    base: Value,
    limit: Value,
    potential: Value,
    taken: Value,
    row: Value,
    pixels: Value,
    spikes: Value,
    spike_row: Value,
) -> None:
    """Write the spikes of one step of sixteen neurons side by side in many pixels, by buckets of breakpoints.

    Args:
        code: what to write with.
        kind: one of :data:`ELEMENTS`.
        remembers: whether there are potentials and counts of earlier steps, which are read and written, and a
            limit; else a count is sent whole.
        current: address of the int32 currents of the first pixel.
        start: address of what is added to them, int32.
        buckets: address of sixteen int32 each of: where the first bucket begins, the last potential that is
            told apart, what is added to find its place in the table, the shift that finds its bucket, the
            largest rest.
        apart: bytes from the first of these to the next.
        table: address of one int32 per bucket, those of a channel together: the count below its breakpoint in
            the lowest byte, the count from there on in the next, and above them how far within the bucket the
            breakpoint lies.
        base: the count that a byte of zero stands for.
        limit: most that leaves in a step, of either sign.
        potential: address of the int32 potentials.
        taken: address of minus the int32 counts.
        row: bytes from a pixel to the next, of currents, potentials and counts.
        pixels: how many there are.
        spikes: where their spikes go.
        spike_row: bytes from a pixel to the next, of spikes.
    """
    b, element = code.b, ELEMENTS[kind]
    first = code.spread(b.trunc(base, I32), I32X16)
    low, last, begin, shift, mask = (
        code.load(I32X16, buckets, b.mul(code.number(k), apart)) for k in range(5)
    )
    byte, eight, sixteen = (code.all(I32X16, n) for n in (255, 8, 16))

    def count_of(v: Value) -> Value:
        far = b.add(code.most(code.least(v, last), low), begin)
        place = b.lshr(far, shift)
        word = code.all(I32X16, 0)
        for lane in range(16):
            index = b.zext(b.extract_element(place, ir.Constant(I32, lane)), I64)
            found = code.load(I32, table, code.multiply(index, 4))
            word = b.insert_element(word, found, ir.Constant(I32, lane))
        reached = b.icmp_unsigned(">=", b.and_(far, mask), b.lshr(word, sixteen))
        return b.add(b.and_(b.select(reached, b.lshr(word, eight), word), byte), first)

    rest = remembers, current, start, limit, potential, taken, row, pixels, spikes, spike_row
    _each_pixel(code, element, count_of, *rest)


@vector_code
def scale_steps(
    code: Code,
    kind: str,
    remembers: bool,
    current: Value,
    start: Value,
    fields: Value,
    apart: Value,
    last: Value,
    base: Value,
    limit: Value,
    potential: Value,
    taken: Value,
    row: Value,
    pixels: Value,
    spikes: Value,
    spike_row: Value,
) -> None:
    """Write the spikes of one step of sixteen neurons side by side in many pixels, by products.

    Args:
        code: what to write with.
        kind: one of :data:`ELEMENTS`.
        remembers: as for :func:`look_up_steps`, and so are all that are not named here.
        current: address of the int32 currents of the first pixel.
        start: address of what is added to them, int32.
        fields: address of sixteen float64 each of origin and factor.
        apart: bytes from the first of these to the next.
        last: largest number of steps.
        base: the count in front of the first.
        limit: most that leaves in a step, of either sign.
        potential: address of the int32 potentials.
        taken: address of minus the int32 counts.
        row: bytes from a pixel to the next, of currents, potentials and counts.
        pixels: how many there are.
        spikes: where their spikes go.
        spike_row: bytes from a pixel to the next, of spikes.
    """
    b, element = code.b, ELEMENTS[kind]
    first = code.spread(b.trunc(base, I32), I32X16)
    origin, factor = (code.load(F64X16, fields, b.mul(code.number(k), apart)) for k in range(2))
    nothing, most = code.all(F64X16, 0.0), code.spread(b.sitofp(last, F64), F64X16)

    def count_of(v: Value) -> Value:
        steps = b.fmul(b.fsub(b.sitofp(v, F64X16), origin), factor)
        steps = b.select(b.fcmp_ordered(">", steps, nothing), steps, nothing)
        steps = b.select(b.fcmp_ordered("<", steps, most), steps, most)
        return b.add(b.fptosi(steps, I32X16), first)

    rest = remembers, current, start, limit, potential, taken, row, pixels, spikes, spike_row
    _each_pixel(code, element, count_of, *rest)


def _each_pixel(
    code: Code,
    element: Any,
    count_of: Callable[[Value], Value],
    remembers: bool,
    current: Value,
    start: Value,
    limit: Value,
    potential: Value,
    taken: Value,
    row: Value,
    pixels: Value,
    spikes: Value,
    spike_row: Value,
) -> None:
    """Write the spikes of many pixels, of whose potentials the counts are known."""
    b, narrow = code.b, vector(element, 16)
    added = code.load(I32X16, start)

    def one_pixel(p: Value) -> None:
        at = b.mul(p, row)
        v = b.add(code.load(I32X16, current, at), added)
        if remembers:
            v = b.add(v, code.load(I32X16, potential, at))
            code.store(v, potential, at)
        count = count_of(v)
        if remembers:
            lowest, highest = (code.spread(b.trunc(n, I32), I32X16) for n in (b.neg(limit), limit))
            before = code.load(I32X16, taken, at)
            count = code.least(code.most(b.add(count, before), lowest), highest)
            code.store(b.sub(before, count), taken, at)
        made = count if narrow == I32X16 else b.trunc(count, narrow)
        code.store(made, spikes, b.mul(p, spike_row))

    code.each(pixels, one_pixel)
