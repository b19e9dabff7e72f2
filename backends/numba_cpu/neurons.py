"""The neuron as vector code: sixteen channels at a time, all steps of a block in registers.

See :class:`snnc.ir.snn.IntegrateFire` for the equations. Potentials and counts are int32. A neuron
without memory is one that never takes a spike back and whose capacity is never reached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from snnc.backends.numba_cpu.vector import F32, I8, I16, I32, I64, Code, Value, vector, vector_code

LANES = 16
"""Channels that are updated together."""

NO_CAPACITY = 2**30
"""Stands for the capacity of a neuron without memory: more spikes than a run can bring."""

LARGEST_THRESHOLD = 2**29
"""Up to here a quotient may be estimated in float32 and corrected by its remainder, in int32."""

LARGEST_QUOTIENT = 2**19
"""Up to here a quotient estimated in float32 is off by at most one."""

I32S = vector(I32, LANES)
F32S = vector(F32, LANES)
F64S = vector(ir.DoubleType(), LANES)
Decide = Callable[[Code, "_Neuron", Value, Value], tuple[Value, Value]]
"""Writes how many spikes leave, from the charged potential and the count, and what potential is left."""


def _fire(decide: Decide, element: Any) -> Callable[..., int]:
    """Return the code that updates sixteen channels of a row of pixels, with spikes of type ``element``."""

    @vector_code
    def fire(
        code: Code,
        current: Value,
        current_frame: Value,
        pixel: Value,
        potential: Value,
        count: Value,
        spikes: Value,
        spike_frame: Value,
        spike_pixel: Value,
        pixels: Value,
        steps: Value,
        driven: Value,
        parameters: Value,
        row: Value,
        settings: Value,
    ) -> None:
        """Integrate and fire.

        Args:
            code: what to write with.
            current: address of the int32 currents of the first pixel in the first step.
            current_frame: bytes from step to step.
            pixel: bytes from pixel to pixel, of currents, potentials and counts alike.
            potential: address of the int32 potentials of the first pixel.
            count: address of its int32 spike counts.
            spikes: address of its spikes in the first step.
            spike_frame: bytes from step to step.
            spike_pixel: bytes from pixel to pixel.
            pixels: number of pixels.
            steps: number of steps.
            driven: how many of them have the bias.
            parameters: address of the rows of :data:`PARAMETERS`, from the first of the channels.
            row: bytes from one row of the parameters to the next.
            settings: address of :data:`SETTINGS`, int64.
        """
        b = code.b
        neuron = _Neuron(code, parameters, row, settings)
        bias = neuron.parameter("bias", I32S)

        def one_pixel(p: Value) -> None:
            here = b.mul(p, pixel)
            first_current = b.add(current, here)
            first_spike = b.add(spikes, b.mul(p, spike_pixel))

            def one_step(t: Value, state: list[Value]) -> list[Value]:
                v, n = state
                m = b.add(v, code.load(I32S, first_current, b.mul(t, current_frame)))
                has_bias = code.spread(b.icmp_signed("<", t, driven), vector(ir.IntType(1), LANES))
                m = b.add(m, b.select(has_bias, bias, code.all(I32S, 0)))
                s, m = decide(code, neuron, m, n)
                code.store(b.trunc(s, vector(element, LANES)), first_spike, b.mul(t, spike_frame))
                return [m, b.add(n, s)]

            v, n = code.loop(
                steps, [code.load(I32S, potential, here), code.load(I32S, count, here)], one_step
            )
            code.store(v, potential, here)
            code.store(n, count, here)

        code.each(pixels, one_pixel)

    return fire


PARAMETERS = ("threshold", "bias", "negative", "reciprocal", "v_init")
"""Rows of the table of parameters, of 4 bytes per channel: int32, but for the float32 reciprocal."""

SETTINGS = ("capacity", "limit", "takes_back")
"""Settings of a population: C, Mmax, and -1 where spikes may be taken back, else 0."""


class _Neuron:
    """Reads parameters and settings."""

    def __init__(self, code: Code, parameters: Value, row: Value, settings: Value) -> None:
        self.code = code
        self.parameters = parameters
        self.row = row
        self.settings = settings

    def parameter(self, name: str, kind: Any) -> Value:
        place = self.code.b.mul(self.row, self.code.number(PARAMETERS.index(name)))
        return self.code.load(kind, self.parameters, place)

    def setting(self, name: str) -> Value:
        """Return a setting in each lane."""
        value = self.code.load(I64, self.settings, 8 * SETTINGS.index(name))
        return self.code.spread(self.code.b.trunc(value, I32), I32S)


def _at_most_one(code: Code, neuron: _Neuron, m: Value, n: Value) -> tuple[Value, Value]:
    """One spike at most: comparisons stand for the division."""
    b = code.b
    theta = neuron.parameter("threshold", I32S)
    negative = neuron.parameter("negative", I32S)
    back = neuron.setting("takes_back")
    room = b.icmp_signed("<", n, neuron.setting("capacity"))
    up = b.and_(b.icmp_signed(">=", m, theta), room)
    some = b.icmp_signed(">", b.and_(n, back), code.all(I32S, 0))
    down = b.and_(b.icmp_signed("<", m, b.neg(negative)), some)
    zero = code.all(I32S, 0)
    m = b.sub(m, b.select(up, theta, zero))
    m = b.add(m, b.select(down, theta, zero))
    return b.sub(b.sext(down, I32S), b.sext(up, I32S)), m


def _clipped(code: Code, neuron: _Neuron, wanted: Value, n: Value) -> Value:
    """Return the spikes that may leave of those that are wanted."""
    b = code.b
    limit = neuron.setting("limit")
    high = code.least(b.sub(neuron.setting("capacity"), n), limit)
    low = b.neg(b.and_(code.least(n, limit), neuron.setting("takes_back")))
    return code.most(code.least(wanted, high), low)


def _several(code: Code, neuron: _Neuron, m: Value, n: Value) -> tuple[Value, Value]:
    """Several spikes: the quotient is estimated in float32, and corrected by its remainder.

    A quotient within the limit is off by at most one, and one beyond is clipped anyway.
    """
    b = code.b
    theta = neuron.parameter("threshold", I32S)
    beyond = b.sitofp(b.add(neuron.setting("limit"), code.all(I32S, 1)), F32S)
    estimate = b.fmul(b.sitofp(m, F32S), neuron.parameter("reciprocal", F32S))
    estimate = code.call("llvm.floor.v16f32", F32S, [estimate])
    estimate = b.select(b.fcmp_ordered("<", estimate, beyond), estimate, beyond)
    lowest = b.fsub(code.all(F32S, 0.0), beyond)
    estimate = b.select(b.fcmp_ordered(">", estimate, lowest), estimate, lowest)
    quotient = b.fptosi(estimate, I32S)
    rest = b.sub(m, b.mul(quotient, theta))
    # A comparison is -1 in each lane where it holds.
    quotient = b.sub(quotient, b.sext(b.icmp_signed(">=", rest, theta), I32S))
    quotient = b.add(quotient, b.sext(b.icmp_signed("<", rest, code.all(I32S, 0)), I32S))
    s = _clipped(code, neuron, quotient, n)
    return s, b.sub(m, b.mul(s, theta))


def _several_divided(code: Code, neuron: _Neuron, m: Value, n: Value) -> tuple[Value, Value]:
    """Several spikes, for thresholds too large for the estimate: the quotient is taken in float64.

    Its floor is exact: where ``m / theta`` lies below an integer ``k`` it does so by at least
    ``1 / theta``, and rounding moves it by at most ``k / 2^53``, which is less.
    """
    b = code.b
    theta = neuron.parameter("threshold", I32S)
    quotient = b.fdiv(b.sitofp(m, F64S), b.sitofp(theta, F64S))
    quotient = b.fptosi(code.call("llvm.floor.v16f64", F64S, [quotient]), I32S)
    s = _clipped(code, neuron, quotient, n)
    return s, b.sub(m, b.mul(s, theta))


fire_units = _fire(_at_most_one, I8)
fire_bytes = _fire(_several, I8)
fire_words = _fire(_several, I16)
fire_divided = _fire(_several_divided, I16)
