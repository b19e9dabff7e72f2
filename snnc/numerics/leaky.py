"""Leaky populations and read-outs in integers.

A product with a decay rounds toward zero in each step, so that a potential of few units would lose a good
part of itself to rounding: with ``beta`` = 0.95 up to 20 units. Its unit is therefore finer than that of the
currents, by as many bits as int32 is proved to hold, and at most by :data:`FRACTION_BITS`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snnc.errors import InternalError
from snnc.ir.bounds import INT32, MOST_TIMESTEPS, leaky_reach, step_bounds
from snnc.ir.graph import FloatArray
from snnc.ir.leak import fixed_point
from snnc.ir.snn import IntegrateFire, Readout, SnnGraph

FRACTION_BITS = 8


def rounded_leaky(
    graph: SnnGraph, node: IntegrateFire | Readout, scale: FloatArray
) -> IntegrateFire | Readout:
    """Return a leaky node in integers.

    Args:
        graph: the network, in integers before the node.
        node: in float32.
        scale: (channels,) or (1,), the real value of one unit of its current.
    """
    bounds = step_bounds(graph, MOST_TIMESTEPS, node.inputs)
    current = sum(bounds[name] for name in node.inputs)
    found = _rounded(node, scale, 0)
    for bits in range(1, FRACTION_BITS + 1):
        finer = _rounded(node, scale, bits)
        if finer is None or leaky_reach(finer, current, MOST_TIMESTEPS) >= INT32:
            break
        found = finer
    if found is None:
        raise InternalError(f"{node.name!r} has a scale at which its threshold does not fit")
    return found


def _rounded(node: IntegrateFire | Readout, scale: FloatArray, bits: int) -> IntegrateFire | Readout | None:
    """Return the node with a potential finer by so many bits; ``None`` where a parameter leaves int32."""
    given = {"bias": node.bias}
    if isinstance(node, IntegrateFire):
        resets = {"reset_to": node.reset_to, "reset_by": node.reset_by}
        given |= {"threshold": node.threshold, "v_init": node.v_init}
        given |= {name: values for name, values in resets.items() if values is not None}
    real = {name: np.rint(values / scale * 2.0**bits) for name, values in given.items()}
    if any((np.abs(values) >= INT32).any() for values in real.values()):
        return None
    changes: dict[str, Any] = {name: values.astype(np.int32) for name, values in real.items()}
    decays = {"decay": node.decay, "synapse_decay": node.synapse_decay}
    changes |= {name: fixed_point(values) for name, values in decays.items() if values is not None}
    if isinstance(node, IntegrateFire):
        changes["threshold"] = np.maximum(1, changes["threshold"])
        return node.with_(**changes, fraction_bits=bits)
    unit = float(scale.min())
    gain = node.gain
    if gain is not None:
        gain = (gain * (scale / unit)).astype(np.float32)
    return node.with_(**changes, fraction_bits=bits, scale=node.scale * unit / 2**bits, gain=gain)
