"""Leaky populations and read-outs, one neuron after the other over all steps."""

from __future__ import annotations

import numpy as np

from snnc.backends.numba_cpu.kernels.counting import Array
from snnc.backends.numba_cpu.machine.cache import kernel

WHOLE = 2**15
"""The decay that keeps everything, as in :mod:`snnc.ir.leak`; what a kernel inlines lies in this package."""


@kernel
def kept(value: np.int64, decay: np.int64) -> np.int64:
    """Return ``trunc(value decay / 2^15)``."""
    product = value * decay
    return -((-product) // WHOLE) if product < 0 else product // WHOLE


@kernel
def fire_leaky(
    currents: Array,
    images: int,
    vectors: Array,
    finer: int,
    limit: int,
    refractory: int,
    to_value: bool,
    out: Array,
    potential: Array,
    taken: Array,
) -> None:
    """Run all steps of a leaky population.

    Args:
        currents: (steps, images, height, width, channels) int32.
        images: how many of them to work on.
        vectors: (7, channels) int64: threshold, bias, initial potential, decay, decay of the synapse, the
            value that a spike sets, and what it takes.
        finer: by which currents are multiplied.
        limit: most that leaves in a step.
        refractory: steps of rest after a spike.
        to_value: whether a spike sets the potential.
        out: (steps, images, height, width, channels) integers, the spikes.
        potential: (images, height, width, channels) int32, the final potential.
        taken: (images, height, width, channels) int32, minus the final count.
    """
    steps, _, height, width, channels = currents.shape
    for b in range(images):
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    theta, bias, v = vectors[0, c], vectors[1, c], vectors[2, c]
                    filtered, resting, sent = np.int64(0), np.int64(0), np.int64(0)
                    for t in range(steps):
                        filtered = kept(filtered, vectors[4, c]) + np.int64(currents[t, b, y, x, c]) * finer
                        s = np.int64(0)
                        if resting > 0:
                            resting -= 1
                        else:
                            m = kept(v, vectors[3, c]) + filtered + bias
                            if m >= theta:
                                s = min(m // theta, np.int64(limit))
                                resting = np.int64(refractory)
                            v = vectors[5, c] if to_value and s > 0 else m - s * vectors[6, c]
                        sent += s
                        out[t, b, y, x, c] = s
                    potential[b, y, x, c] = v
                    taken[b, y, x, c] = -sent


@kernel
def leaky_readout(currents: Array, images: int, vectors: Array, finer: int, out: Array) -> None:
    """Write the final potential of a leaky read-out.

    Args:
        currents: (steps, images, height, width, channels) int32.
        images: how many of them to work on.
        vectors: (3, channels) int64: bias, decay, decay of the synapse.
        finer: by which currents are multiplied.
        out: (1, images, height, width, channels) int32.
    """
    steps, _, height, width, channels = currents.shape
    for b in range(images):
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    v, filtered = np.int64(0), np.int64(0)
                    for t in range(steps):
                        filtered = kept(filtered, vectors[2, c]) + np.int64(currents[t, b, y, x, c]) * finer
                        v = kept(v, vectors[1, c]) + filtered + vectors[0, c]
                    out[0, b, y, x, c] = v
