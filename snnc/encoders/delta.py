"""Send-on-delta: a spike wherever a value has changed by a step since the last spike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snnc.errors import UsageError


def delta_spikes(values: NDArray[np.floating], step: float) -> NDArray[np.int64]:
    """Return the spikes of values over time.

    Each channel follows its value by whole steps: ``s(t) = trunc((x(t) - y(t - 1)) / step)``,
    ``y(t) = y(t - 1) + s(t) step``, with y beginning at zero.

    Args:
        values: (frames, channels).
        step: the change of one spike.

    Returns:
        (frames, 2 channels): falls, then rises, as numbers of spikes.

    Raises:
        UsageError: the step is not positive.
    """
    if not 0 < step < float("inf"):
        raise UsageError(f"a step of {step}: give a positive number")
    followed = np.zeros(values.shape[1])
    found = np.zeros(values.shape, np.int64)
    for t, row in enumerate(values):
        found[t] = np.trunc((row - followed) / step)
        followed += found[t] * step
    return np.concatenate([np.maximum(-found, 0), np.maximum(found, 0)], axis=1)
