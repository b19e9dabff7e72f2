"""Rounding of activations to the levels of integers, and what operators say of these integers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from snnc.frontend.call import Call
from snnc.frontend.channel_constants import channel_values
from snnc.frontend.quantised.codes import Coded, Codes, levels_of
from snnc.frontend.views import View
from snnc.ir import ann
from snnc.ir.graph import FloatArray, Shape

MOST_LEVELS = 2**16
"""Levels of a quantised activation; with more there is nothing to gain from its integers."""

FEW_BITS: Mapping[str, int] = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4}
"""Bits of the integer types that are not NumPy's own, and whose kind does not say that they are integers."""


def codes_of(call: Call, scale: int, zero: int, axis: int | None = None, shape: Shape = ()) -> Codes:
    """Return what an operator says of integers by two of its inputs."""
    scales = call.weights(scale, "scale")
    if (scales <= 0).any():
        call.refuse("a scale is not positive", "quantise the network again")
    if scales.size > 1 and axis is not None:
        if scales.size != shape[axis]:
            call.refuse(
                f"has {scales.size} scales along axis {axis}, whose size is {shape[axis]}",
                "quantise activations with one scale, or one per channel",
            )
        scales = scales.reshape(scales.size, *(1,) * (len(shape) - axis - 1))
    zeros = call.constant(zero, "zero point") if call.has(zero) else np.zeros(1, np.uint8)
    if zeros.dtype.kind not in "iu" and zeros.dtype.name not in FEW_BITS:
        kind = zeros.dtype
        call.refuse(f"quantises to {kind}, which is no integer type", "quantise to int8 or uint8")
    if (zeros != zeros.ravel()[0]).any():
        call.refuse("its zero point differs from channel to channel", "use one zero point for an activation")
    lowest, highest = limits_of(zeros.dtype)
    return Codes(scales if scales.size > 1 else scales.reshape(()), int(zeros.ravel()[0]), lowest, highest)


def limits_of(kind: np.dtype[np.generic]) -> tuple[int, int]:
    """Return the least and the largest integer of a type, those of 2 and 4 bits included."""
    bits = FEW_BITS.get(kind.name, 8 * kind.itemsize)
    signed = kind.name.startswith("int")
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def rounded(
    call: Call, view: View, codes: Codes, rounding: str = "half-even", gain: FloatArray | None = None
) -> Coded:
    """Return a tensor rounded to the levels of some integers.

    Args:
        call: the operation.
        view: the tensor.
        codes: the integers.
        rounding: as :class:`snnc.ir.ann.Relu` has it.
        gain: () or (channels,), in place of the division by the scale.
    """
    lowest, highest = codes.lowest - codes.zero, codes.highest - codes.zero
    if highest - lowest > MOST_LEVELS:
        call.refuse(f"rounds to {highest - lowest} levels", "leave this activation in floats")
    if not lowest <= 0 < highest:
        call.refuse(
            f"the zero point {codes.zero} leaves no level above zero, of {codes.lowest} to {codes.highest}",
            "quantise the network again, with a zero point inside the range",
        )
    view, (scales,) = channel_values(call.builder, view, (codes.scale,), call.origin)
    shape = call.builder.shape(view.node)
    node = ann.Relu(
        name=call.name,
        inputs=(view.node,),
        shape=shape,
        origin=call.origin,
        zero=codes.zero,
        rounding=rounding,
        gain=None if gain is None else _per_channel(call, gain, shape[0]),
        **levels_of(scales, lowest, highest),
    )
    return Coded(View(call.builder.emit(node), view.index, call.origin), codes)


def _per_channel(call: Call, gain: FloatArray, channels: int) -> FloatArray:
    if gain.size not in (1, channels):
        call.refuse(f"{gain.size} weight scales do not fit {channels} channels", "quantise the network again")
    return np.ascontiguousarray(np.broadcast_to(gain.ravel(), channels), np.float32)
