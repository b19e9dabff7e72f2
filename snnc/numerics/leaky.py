"""Leaky populations and read-outs in integers.

A product with a decay rounds toward zero in each step, so that a potential of few units would lose a good
part of itself to rounding: with ``beta`` = 0.95 up to 20 units. Its unit is therefore finer than that of the
currents, by as many bits as int32 is proved to hold, and at most by :data:`FRACTION_BITS`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from snnc.errors import InternalError
from snnc.ir.bounds import INT32, MOST_TIMESTEPS, leaky_reach, step_bounds
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.leak import fixed_point
from snnc.ir.snn import IntegrateFire, Readout, SnnGraph

FRACTION_BITS = 8

Leaky = TypeVar("Leaky", IntegrateFire, Readout)


def rounded_leaky(graph: SnnGraph, node: Leaky, scale: FloatArray) -> Leaky:
    """Return a leaky node in integers.

    Args:
        graph: the network, in integers before the node.
        node: in float32.
        scale: (channels,) or (1,), the real value of one unit of its current.
    """
    before = graph.ancestors(node.inputs)
    nodes = tuple(each for each in graph if each.name in before)
    names = tuple(dict.fromkeys(node.inputs))
    part = replace(graph, nodes=nodes, outputs=names, output_names=names)
    bounds = step_bounds(part, MOST_TIMESTEPS)
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


def _rounded(node: Leaky, scale: FloatArray, bits: int) -> Leaky | None:
    """Return the node with a potential finer by so many bits; ``None`` where a parameter leaves int32."""
    fits = True

    def rounded(values: NumberArray | None) -> IntArray | None:
        nonlocal fits
        if values is None:
            return None
        whole = np.rint(values / scale * 2.0**bits)
        fits &= bool((np.abs(whole) < INT32).all())
        return np.clip(whole, 1 - INT32, INT32 - 1).astype(np.int32)

    common = {
        "bias": rounded(node.bias),
        "decay": None if node.decay is None else fixed_point(node.decay),
        "synapse_decay": None if node.synapse_decay is None else fixed_point(node.synapse_decay),
        "fraction_bits": bits,
    }
    if isinstance(node, Readout):
        unit = float(scale.min())
        gain = node.gain
        if gain is not None:
            gain = (gain * (scale / unit)).astype(np.float32)
        found = node.with_(**common, scale=node.scale * unit / 2**bits, gain=gain)
    else:
        threshold = np.maximum(1, rounded(node.threshold))
        start, to, by = map(rounded, (node.v_init, node.reset_to, node.reset_by))
        found = node.with_(**common, threshold=threshold, v_init=start, reset_to=to, reset_by=by)
    return found if fits else None
