"""Weights laid out for depthwise convolutions and identities, in which a channel reads only itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc.backends.numba_cpu.codegen.micro_products import CHANNEL_LANES, channels_together
from snnc.backends.numba_cpu.kernels.product_currents import multiplying_channels, product_fields
from snnc.backends.numba_cpu.layout.terms import Packed, Synapse, common_fields, fits
from snnc.backends.numba_cpu.machine.memory import aligned


@dataclass(frozen=True, slots=True)
class Channels:
    """Every channel reads only itself.

    Attributes:
        kind: name of the kernel.
    """

    kind: str

    def __str__(self) -> str:
        return self.kind.replace("_", " ")


def channel_choice(synapse: Synapse) -> Channels | None:
    """Return how to run a depthwise convolution or an identity, or ``None`` if it is neither."""
    source = synapse.source
    if synapse.groups != source.channels or synapse.inputs != 1 or synapse.outputs != 1:
        return None
    if source.padded != synapse.padded or source.padded % CHANNEL_LANES:
        return None
    if source.kind == np.float32:
        return Channels("channel_floats")
    if synapse.weight.dtype.itemsize > 2:
        return None
    if source.kind == np.int8:
        return Channels("channel_bytes" if fits(synapse.weight, (1, 2, 3), source) else "channel_words")
    return Channels("channel_wide") if source.kind == np.int16 else None


def pack_channels(synapse: Synapse, choice: Channels) -> Packed:
    """Lay a weight out for :func:`snnc.backends.numba_cpu.codegen.micro_products.multiply_channels`."""
    window, source = synapse.window, synapse.source
    kind = np.float32 if source.kind == np.float32 else np.int16
    weight = np.zeros((window.area, source.padded), kind)
    weight[:, : source.channels] = synapse.weight.reshape(source.channels, window.area).T
    laid = aligned(weight)
    width = source.width + window.pads[1] + window.pads[3]
    row = width * source.pixel_bytes
    taps = aligned(
        np.array(
            [
                ky * window.dilations[0] * row + kx * window.dilations[1] * source.pixel_bytes
                for ky in range(window.kernel[0])
                for kx in range(window.kernel[1])
            ],
            np.int64,
        )
    )
    lanes = channels_together(choice.kind, source.padded)
    zeros = aligned(np.zeros(lanes, np.int32))
    return Packed(
        common_fields(synapse, choice.kind)
        | {
            "multiply": multiplying_channels(choice.kind, lanes).address,
            "outputs": lanes,
            **product_fields(channels=True),
            "weight": laid.ctypes.data,
            "runs": taps.ctypes.data,
            "run_count": window.area,
            "direct": int(not any(window.pads)),
            "padded_row": row,
            "padded_pixel": source.pixel_bytes,
            "complete": 1,
            "zeros": zeros.ctypes.data,
        },
        kept=[laid, taps, zeros],
    )
