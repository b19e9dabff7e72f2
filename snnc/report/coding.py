"""The rule by which an activation becomes a spike train: the nearest count, evenly spaced.

An activation ``a`` is sent as ``N = clip(floor((a - l) T / u + 1/2), 0, C)`` units, where ``u`` is the real
value of one unit at rate one, ``l`` that of silence (the floor, mostly 0) and ``C`` the capacity of the
population that sends it; where it follows a step function, the nearest of that function's counts. After step
``t = 0 .. T-1``

    N(t) = floor(N (t + 1) / T + 1/2)

of them have left: what an undisturbed neuron sends that starts half-way to its threshold. No step carries
more than ``ceil(|N| / T) <= M`` units, and the settle steps carry none.
"""

from __future__ import annotations

import numpy as np

from snnc.ir.channels import per_channel
from snnc.ir.counts import LARGEST_COUNT, CountNormalisation, CountSoftmax, Requantised
from snnc.ir.graph import FloatArray, IntArray
from snnc.ir.operations import largest_count
from snnc.ir.snn import CountFunction, IntegrateFire


def range_of_counts(node: IntegrateFire | CountFunction, timesteps: int, steps: int) -> tuple[int, int]:
    """Return the smallest and the largest count that a neuron can be meant to end with.

    Args:
        node: the population, or a function of counts: one that only picks them gives any.
        timesteps: T.
        steps: T + K.
    """
    if isinstance(node, CountFunction):
        match node:
            case CountSoftmax():
                return 0, node.levels
            case Requantised() | CountNormalisation():
                return node.lowest, node.highest
            case _:
                return -LARGEST_COUNT, LARGEST_COUNT
    if node.step_values is not None:
        return int(node.step_values.min()), int(node.step_values.max())
    return 0, largest_count(node, timesteps, steps - timesteps)


def counts(node: IntegrateFire | CountFunction, a: FloatArray, timesteps: int) -> IntArray:
    """Return the counts nearest to activations, (batch, *shape) int32."""
    if isinstance(node, CountFunction):
        low, high = range_of_counts(node, timesteps, timesteps)
        each = np.ones(node.channels, np.float32) if node.unit is None else node.unit
        whole = np.floor(a / per_channel(each.astype(np.float64), len(node.shape)) + 0.5)
        return np.clip(whole, low, high).astype(np.int32)
    unit = per_channel(node.spike_scale.astype(np.float64), len(node.shape))
    real = (a - per_channel(node.lowest, len(node.shape))) * (timesteps / unit)
    if node.step_values is not None:
        known = np.unique(node.step_values)
        return known[np.searchsorted((known[1:] + known[:-1]) / 2, real, side="right")].astype(np.int32)
    return np.clip(np.floor(real + 0.5), 0, node.neuron.capacity(timesteps)).astype(np.int32)


def evenly_spaced(counted: IntArray, timesteps: int, settle_steps: int) -> IntArray:
    """Return the trains of the given counts, (T + K, batch, *shape) in the narrowest type that holds them.

    Their channels lie last in memory, as simulators like them best.
    """
    # 2N(t+1)+T over 2T is the floor with the half added, in whole numbers; few different counts occur.
    least = int(counted.min(initial=0))
    every = np.arange(least, int(counted.max(initial=0)) + 1)
    done = [(2 * every * t + timesteps) // (2 * timesteps) for t in range(timesteps + 1)]
    steps = np.diff(np.stack(done), axis=0)
    kind = np.int8 if np.abs(steps).max(initial=0) <= np.iinfo(np.int8).max else np.int32
    last = np.ascontiguousarray(np.moveaxis(counted, 1, -1)) - least
    train = np.zeros((timesteps + settle_steps, *last.shape), kind)
    for t, sent in enumerate(steps.astype(kind)):
        np.take(sent, last, out=train[t], mode="clip")  # other modes go through a buffer
    return np.moveaxis(train, -1, 2)
