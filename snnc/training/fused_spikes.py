"""The spikes of a population in all steps, and their derivatives by rates, in one pass over memory on a CPU.

:meth:`snnc.training.temporal.TemporalNetwork.sent` says what is computed: these are the same bits. As some
forty operations of torch in every step it takes longer than the convolutions.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnc.ir.graph import NumberArray
from snnc.training.fused import all_parts, columns_of


class Rule(NamedTuple):
    """When a population fires.

    Attributes:
        signed: whether it takes back what it sent.
        limit: most spikes in a step, of either sign; infinite for any number.
        capacity: most that it may have sent in all steps.
        least: potentials from which on a negative one sends nothing, as those of channels; ``None`` for none.
    """

    signed: bool
    limit: float
    capacity: float
    least: Tensor | None


def usable(current: Tensor) -> bool:
    """Say whether the currents of all steps, (t, batch, channels, ...), lie as the kernel reads them."""
    if current.dtype is not torch.float32 or current.device.type != "cpu" or not current.numel():
        return False
    return _channels_behind(current).is_contiguous()


def sent(current: Tensor, theta: Tensor, start: Tensor, rule: Rule) -> tuple[Tensor, Tensor, Tensor]:
    """Return spikes, and by how much their mean changes with a constant input and with the start.

    Args:
        current: (t, batch, channels, ...), for which :func:`usable` holds.
        theta: thresholds, which broadcast to a step as those of channels do.
        start: initial potentials, likewise.
        rule: when it fires.
    """
    train, e, e_start = (torch.empty_like(each) for each in (current, current[0], current[0]))
    channels = current.shape[2]
    width = columns_of(current[0])
    parameters = np.full((3, channels), np.inf, np.float32)
    for row, given in enumerate((theta, start, rule.least)):
        if given is not None:
            parameters[row] = given.detach().reshape(-1).numpy()
    spread = np.tile(parameters, (1, width))
    given, made = (_rows(each, width) for each in (current, train))
    slopes, starts = (_rows(each[None], width)[0] for each in (e, e_start))
    kernel = _kernel()
    numbers = (rule.signed, np.float32(rule.limit), np.float32(rule.capacity))

    def part(number: int, rows: slice) -> None:
        kernel(given[:, rows], made[:, rows], slopes[rows], starts[rows], spread, *numbers)

    all_parts(part, given.shape[1])
    return train, e, e_start


def _channels_behind(x: Tensor) -> Tensor:
    """View steps, (t, batch, channels, ...), with the channels last."""
    return x.movedim(2, -1)


def _rows(x: Tensor, width: int) -> NumberArray:
    """View steps as (t, rows, columns), each row ``width`` pixels of whole channels."""
    found: NumberArray = _channels_behind(x.detach()).view(len(x), -1, width * x.shape[2]).numpy()
    return found


@cache
def _kernel() -> Any:
    """Return the compiled pass; each loop touches few arrays, so that the compiler makes vectors of it."""
    from numba import njit

    @njit(nogil=True, error_model="numpy")
    def fire(
        current: Any, train: Any, slopes: Any, starts: Any, p: Any, signed: bool, limit: Any, capacity: Any
    ) -> None:
        theta, start, least = p[0], p[1], p[2]
        zero, one = np.float32(0), np.float32(1)
        v, count, e, e_start = (
            np.empty_like(p[0]),
            np.empty_like(p[0]),
            np.empty_like(p[0]),
            np.empty_like(p[0]),
        )
        kappa, left, z, s = np.empty_like(p[0]), np.empty_like(p[0]), np.empty_like(p[0]), np.empty_like(p[0])
        low, high = np.zeros_like(p[0]), np.full_like(p[0], limit)
        for i in range(current.shape[1]):
            v[:] = start
            count[:], e[:], e_start[:] = zero, zero, zero
            kappa[:], left[:] = one, one
            for t in range(current.shape[0]):
                now, after = np.float32(t), np.float32(t + 1)
                x = current[t, i]
                for f in range(len(v)):
                    v[f] += x[f]
                for f in range(len(v)):
                    z[f] = v[f] / theta[f]
                    s[f] = np.floor(z[f])
                if signed:
                    for f in range(len(v)):
                        low[f] = -count[f] if count[f] < limit else -limit
                        high[f] = min(limit, capacity - count[f])
                    for f in range(len(v)):
                        s[f] = zero if (s[f] < zero) & (v[f] >= least[f]) else s[f]
                for f in range(len(v)):
                    s[f] = max(low[f], s[f])
                    s[f] = min(high[f], s[f])
                for f in range(len(v)):
                    rising, falling = z[f] - low[f], high[f] + one - z[f]
                    slope = min(falling, rising)
                    slope = max(zero, slope)
                    slope = min(one, slope)
                    z[f] = slope if high[f] > low[f] else zero
                for f in range(len(v)):
                    v[f] -= s[f] * theta[f]
                    count[f] += s[f]
                train[t, i] = s
                for f in range(len(v)):
                    e[f] = (now * e[f] + z[f] * kappa[f]) / after
                    kappa[f] = one + kappa[f] * (one - z[f])
                for f in range(len(v)):
                    e_start[f] = (now * e_start[f] + z[f] * left[f]) / after
                    left[f] = left[f] * (one - z[f])
            slopes[i], starts[i] = e, e_start

    return fire
