"""The neuron as vector code: sixteen channels at a time, all steps of a block in registers.

See :class:`snnc.ir.snn.IntegrateFire` for the equations. Potentials are int32. Of the spikes sent so far
the negative is kept, ``-N``, int32: it is the lowest number of spikes that may leave next. Before
quantisation all of them are float32.

A neuron without memory never takes a spike back, and its capacity is never reached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from snnc.backends.numba_cpu.codegen.vector import F32, I8, I16, I32, I64, Code, Value, vector, vector_code
from snnc.backends.numba_cpu.machine.cpu import detect

LANES = 16
"""Channels that are updated together."""

PIXELS = 4 if detect().avx512 else 1
"""Pixels that are updated together, so that one works while the others wait: as many as fit the registers."""

NO_CAPACITY = 2**30
"""Stands for the capacity of a neuron without memory: more spikes than a run can bring."""

LARGEST_THRESHOLD = 2**29
"""Up to here a quotient may be estimated in float32 and corrected by its remainder, in int32."""

I32S = vector(I32, LANES)
F32S = vector(F32, LANES)
F64S = vector(ir.DoubleType(), LANES)
Decide = Callable[[Code, "_Neuron", Value, Value, Value | None], tuple[Value, Value]]
"""Writes how many spikes leave, from the charged potential and ``-N``, and what potential is left.

The last argument is the capacity, where it can be reached.
"""


PARAMETERS = ("threshold", "bias", "negative", "reciprocal", "v_init")
"""Rows of the table of parameters, of 4 bytes per channel: int32, but for the float32 reciprocal.

Before quantisation all are float32."""

SETTINGS = ("capacity", "limit", "takes_back")
"""Settings of a population: C, Mmax, and -1 where several spikes may be taken back, else 0."""

NEVER = 2**31 - 1
"""Negative threshold of a neuron that takes nothing back."""


class _Neuron:
    """Parameters and settings, read before the loops so that they stay in registers."""

    def __init__(self, code: Code, parameters: Value, row: Value, settings: Value, kind: Any) -> None:
        b = code.b

        def parameter(name: str, kind: Any) -> Value:
            return code.load(kind, parameters, b.mul(row, code.number(PARAMETERS.index(name))))

        def setting(name: str) -> Value:
            value = code.load(I64, settings, 8 * SETTINGS.index(name))
            return code.spread(b.sitofp(value, F32) if kind == F32S else b.trunc(value, I32), kind)

        negative = parameter("negative", kind)
        self.threshold = parameter("threshold", kind)
        self.bias = parameter("bias", kind)
        self.negative = b.fneg(negative) if kind == F32S else b.neg(negative)
        self.reciprocal = parameter("reciprocal", F32S)
        self.capacity = setting("capacity")
        self.limit = setting("limit")
        self.takes_back = setting("takes_back")


def _at_most_one(
    code: Code, neuron: _Neuron, m: Value, n: Value, capacity: Value | None
) -> tuple[Value, Value]:
    """One spike at most: comparisons stand for the division. Each is -1 in the lanes where it holds."""
    b = code.b
    up = b.sext(b.icmp_signed(">=", m, neuron.threshold), I32S)
    down = b.sext(b.icmp_signed("<", m, neuron.negative), I32S)
    s = code.most(b.sub(down, up), n)
    if capacity is not None:
        s = code.least(s, b.add(capacity, n))
    return s, b.sub(m, b.mul(s, neuron.threshold))


def _at_most_two(
    code: Code, neuron: _Neuron, m: Value, n: Value, capacity: Value | None
) -> tuple[Value, Value]:
    """Two spikes at most: four comparisons stand for the division."""
    b = code.b
    theta, one = neuron.threshold, code.all(I32S, 1)
    wanted = b.ashr(m, code.all(I32S, 31))  # -1 below zero
    for level in (theta, b.add(theta, theta)):
        wanted = b.select(b.icmp_signed(">=", m, level), b.add(wanted, one), wanted)
    wanted = b.select(b.icmp_signed("<", m, b.neg(theta)), b.sub(wanted, one), wanted)
    s = code.most(wanted, b.and_(n, neuron.takes_back))
    if capacity is not None:
        s = code.least(s, b.add(capacity, n))
    return s, b.sub(m, b.mul(s, theta))


def _clipped(code: Code, neuron: _Neuron, wanted: Value, n: Value, capacity: Value | None) -> Value:
    """Return the spikes that may leave of those that are wanted."""
    b = code.b
    high = neuron.limit if capacity is None else code.least(b.add(capacity, n), neuron.limit)
    low = b.and_(code.most(n, b.neg(neuron.limit)), neuron.takes_back)
    return code.most(code.least(wanted, high), low)


def _several(code: Code, neuron: _Neuron, m: Value, n: Value, capacity: Value | None) -> tuple[Value, Value]:
    """Several spikes: the quotient is estimated in float32, and corrected by its remainder.

    A quotient up to 2^19, far more than fit an int16, is off by at most one, and one beyond the limit is
    clipped anyway.
    """
    b = code.b
    theta = neuron.threshold
    beyond = b.sitofp(b.add(neuron.limit, code.all(I32S, 1)), F32S)
    estimate = b.fmul(b.sitofp(m, F32S), neuron.reciprocal)
    estimate = code.call("llvm.floor.v16f32", F32S, [estimate])
    estimate = b.select(b.fcmp_ordered("<", estimate, beyond), estimate, beyond)
    lowest = b.fsub(code.all(F32S, 0.0), beyond)
    estimate = b.select(b.fcmp_ordered(">", estimate, lowest), estimate, lowest)
    quotient = b.fptosi(estimate, I32S)
    rest = b.sub(m, b.mul(quotient, theta))
    # A comparison is -1 in each lane where it holds.
    quotient = b.sub(quotient, b.sext(b.icmp_signed(">=", rest, theta), I32S))
    quotient = b.add(quotient, b.sext(b.icmp_signed("<", rest, code.all(I32S, 0)), I32S))
    s = _clipped(code, neuron, quotient, n, capacity)
    return s, b.sub(m, b.mul(s, theta))


def _several_divided(
    code: Code, neuron: _Neuron, m: Value, n: Value, capacity: Value | None
) -> tuple[Value, Value]:
    """Several spikes, for thresholds too large for the estimate: the quotient is taken in float64.

    Its floor is exact: where ``m / theta`` lies below an integer ``k`` it does so by at least
    ``1 / theta``, and rounding moves it by at most ``k / 2^53``, which is less.
    """
    b = code.b
    theta = neuron.threshold
    quotient = b.fdiv(b.sitofp(m, F64S), b.sitofp(theta, F64S))
    quotient = b.fptosi(code.call("llvm.floor.v16f64", F64S, [quotient]), I32S)
    s = _clipped(code, neuron, quotient, n, capacity)
    return s, b.sub(m, b.mul(s, theta))


def _several_floats(
    code: Code, neuron: _Neuron, m: Value, n: Value, capacity: Value | None
) -> tuple[Value, Value]:
    """Several spikes before quantisation: the quotient is what float32 says it is."""
    b = code.b
    none = code.all(F32S, 0.0)

    def least(one: Value, two: Value) -> Value:
        return b.select(b.fcmp_ordered("<", one, two), one, two)

    def most(one: Value, two: Value) -> Value:
        return b.select(b.fcmp_ordered(">", one, two), one, two)

    wanted = code.call("llvm.floor.v16f32", F32S, [b.fdiv(m, neuron.threshold)])
    kept = b.and_(b.fcmp_ordered("<", wanted, none), b.fcmp_ordered(">=", m, neuron.negative))
    wanted = b.select(kept, none, wanted)
    high = neuron.limit if capacity is None else least(b.fadd(capacity, n), neuron.limit)
    low = b.fmul(most(n, b.fneg(neuron.limit)), b.fneg(neuron.takes_back))
    s = most(least(wanted, high), low)
    return s, b.fsub(m, b.fmul(s, neuron.threshold))


KINDS: dict[str, tuple[Decide, Any, bool]] = {
    "units": (_at_most_one, I8, False),
    "twos": (_at_most_two, I8, True),
    "bytes": (_several, I8, True),
    "words": (_several, I16, True),
    "divided": (_several_divided, I8, True),
    "floats": (_several_floats, F32, True),
}
"""Kinds of neurons: what decides, the type of a spike, and whether the capacity can be reached in a step that
has input: not by a neuron that sends at most ``M`` of its ``T M`` spikes in each of ``T`` steps."""


@vector_code
def fire_row(
    code: Code,
    kind: str,
    current: Value,
    current_frame: Value,
    pixel: Value,
    potential: Value,
    count: Value,
    start_potential: Value,
    start_count: Value,
    start_pixel: Value,
    spikes: Value,
    spike_frame: Value,
    spike_pixel: Value,
    pixels: Value,
    steps: Value,
    input_steps: Value,
    parameters: Value,
    row: Value,
    settings: Value,
) -> None:
    """Integrate and fire: sixteen channels of a row of pixels.

    Args:
        code: what to write with.
        kind: one of :data:`KINDS`.
        current: address of the int32 currents of the first pixel in the first step.
        current_frame: bytes from step to step.
        pixel: bytes from pixel to pixel, of currents, potentials and counts alike.
        potential: address of the int32 potentials of the first pixel.
        count: address of its int32 ``-N``.
        start_potential: address of the potential from before the first step.
        start_count: address of ``-N`` from before the first step.
        start_pixel: bytes from pixel to pixel of these, 0 where all pixels begin alike.
        spikes: address of its spikes in the first step.
        spike_frame: bytes from step to step.
        spike_pixel: bytes from pixel to pixel.
        pixels: number of pixels.
        steps: number of steps.
        input_steps: how many of them have the bias.
        parameters: address of the rows of :data:`PARAMETERS`, from the first of the channels.
        row: bytes from one row of the parameters to the next.
        settings: address of :data:`SETTINGS`, int64.
    """
    b = code.b
    decide, element, counted = KINDS[kind]
    state_kind = F32S if element == F32 else I32S
    plus, minus = (b.fadd, b.fsub) if element == F32 else (b.add, b.sub)
    neuron = _Neuron(code, parameters, row, settings, state_kind)

    def some_pixels(first: Value, number: int) -> None:
        """Update neighbouring pixels."""
        places = [code.at(first, k) for k in range(number)]
        states = [b.mul(p, pixel) for p in places]
        currents = [b.add(current, state) for state in states]
        outputs = [b.add(spikes, b.mul(p, spike_pixel)) for p in places]

        def step(state: list[Value], t: Value, bias: Value | None, capacity: Value | None) -> list[Value]:
            left = []
            for m, n, source, target in zip(state[::2], state[1::2], currents, outputs, strict=True):
                charged = m if bias is None else plus(m, bias)
                charged = plus(charged, code.load(state_kind, source, b.mul(t, current_frame)))
                s, rest = decide(code, neuron, charged, n, capacity)
                sent = s if element == F32 else b.trunc(s, vector(element, LANES))
                code.store(sent, target, b.mul(t, spike_frame))
                left += [rest, minus(n, s)]
            return left

        def input_step(t: Value, state: list[Value]) -> list[Value]:
            return step(state, t, neuron.bias, neuron.capacity if counted else None)

        def settle_step(t: Value, state: list[Value]) -> list[Value]:
            return step(state, b.add(t, input_steps), None, neuron.capacity)

        starts = [b.mul(p, start_pixel) for p in places]
        before = (start_potential, start_count)
        state = [code.load(state_kind, address, place) for place in starts for address in before]
        state = code.loop(input_steps, state, input_step)
        state = code.loop(b.sub(steps, input_steps), state, settle_step)
        for place, v, n in zip(states, state[::2], state[1::2], strict=True):
            code.store(v, potential, place)
            code.store(n, count, place)

    together = b.sdiv(pixels, code.number(PIXELS))
    code.each(together, lambda j: some_pixels(code.multiply(j, PIXELS), PIXELS))
    done = code.multiply(together, PIXELS)
    code.each(b.sub(pixels, done), lambda j: some_pixels(b.add(done, j), 1))
