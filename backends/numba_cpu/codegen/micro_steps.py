"""Vector code for step functions of few breakpoints: all of them are compared, sixteen channels at a time."""

from __future__ import annotations

from snnc.backends.numba_cpu.codegen.micro import I32X16
from snnc.backends.numba_cpu.codegen.vector import I8, I16, I32, Code, Value, vector, vector_code

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
