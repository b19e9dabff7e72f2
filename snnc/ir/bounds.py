"""Proofs that integers stay within the types that the backends give them.

Every figure is a worst case over all inputs, from the weights alone.
"""

from __future__ import annotations

import numpy as np

from snnc.ir.graph import IntArray
from snnc.ir.operations import operations, unmatched
from snnc.ir.snn import (
    ChannelWeight,
    Concat,
    ConstantCurrent,
    Convolution,
    CountMatrixProduct,
    CountMaximum,
    CountMaxPool,
    CountNormalisation,
    CountProduct,
    CountSoftmax,
    CurrentMaxPool,
    Encode,
    Gather,
    IntegrateFire,
    Linear,
    Pad,
    Readout,
    Reshape,
    Slice,
    SnnGraph,
    SumPool,
)

EXACT_FLOAT32 = 2**24
"""Integers up to here are exact in float32, so a float32 convolution of them is, too."""

INT32 = 2**31

MOST_TIMESTEPS = 256
"""No longer run is proved: every bound that grows with T would cost the backends wider arithmetic."""


def weight_sums(weight: IntArray) -> IntArray:
    """Return ``sum |w|`` per output channel, as int64."""
    # The magnitudes of 8 or 16 bits fit into 32, in a tenth of the time that 64 take.
    wide = np.int32 if weight.itemsize < 4 else np.int64
    return np.abs(weight, dtype=wide).reshape(len(weight), -1).sum(axis=1, dtype=np.int64)


def step_bounds(graph: SnnGraph, timesteps: int) -> dict[str, int]:
    """Return for each node the largest magnitude of its value in one step of a run of ``timesteps``."""
    bounds: dict[str, int] = {}
    for node in operations(graph):
        read = [bounds[name] for name in node.inputs]
        match node:
            case Encode():
                bounds[node.name] = node.limit
            case IntegrateFire():
                bounds[node.name] = node.neuron.largest(timesteps)
            case ConstantCurrent():
                bounds[node.name] = int(np.abs(node.values.astype(np.int64)).max())
            case Convolution() | Linear() | ChannelWeight():
                bounds[node.name] = int(weight_sums(node.weight).max()) * read[0]  # type: ignore[arg-type]
            case SumPool():
                bounds[node.name] = node.window.area * read[0]
            case CountMaxPool() | CurrentMaxPool() | Concat():
                bounds[node.name] = max(read)
            case CountProduct() | CountMatrixProduct() | CountNormalisation():
                bounds[node.name] = node.highest - node.lowest
            case CountSoftmax():
                bounds[node.name] = node.levels
            case CountMaximum():
                # Between two steps it moves as far as the counts it reads, and the first step is from zero.
                bounds[node.name] = max(read)
            case Readout():
                bounds[node.name] = sum(read) + int(np.abs(node.bias.astype(np.int64)).max())
            case Reshape() | Pad() | Slice() | Gather():
                bounds[node.name] = read[0]
            case _:
                raise unmatched(node)
    return bounds


def run_bounds(graph: SnnGraph, timesteps: int) -> dict[str, int]:
    """Return the largest magnitude that is reached in a run by what nodes keep from step to step.

    ``|v0| + (T + K)(max |I| + |B|)`` for potentials, ``(T + K)(max |I| + |B|)`` for the read-out, and
    ``(T + K) max |s|`` for the counts of which a pooling takes the maximum.
    """
    step = step_bounds(graph, timesteps)
    steps = timesteps + graph.settle_steps
    found: dict[str, int] = {}
    for node in graph:
        if isinstance(node, IntegrateFire):
            current = sum(step[name] for name in node.inputs) + int(np.abs(node.bias.astype(np.int64)).max())
            start = int(np.abs(node.v_init.astype(np.int64)).max())
            # Division rounds toward minus infinity through the next multiple of the threshold below,
            # and the product ``s Theta`` is formed before it is taken from ``m``.
            threshold = 0 if node.breakpoints is not None else int(node.threshold.max())
            product = node.neuron.largest(timesteps) * threshold
            found[node.name] = max(start + steps * current + threshold, product)
        elif isinstance(node, Readout):
            found[node.name] = steps * step[node.name]
        elif isinstance(node, CountMaxPool):
            found[node.name] = steps * step[node.inputs[0]]
    return found


def overflow(graph: SnnGraph, timesteps: int) -> tuple[str, int] | None:
    """Return the first node whose int32 could overflow in a run of ``timesteps``, and its bound."""
    for name, bound in run_bounds(graph, timesteps).items():
        if bound >= INT32:
            return name, bound
    return None


def provable_timesteps(graph: SnnGraph, at_most: int = MOST_TIMESTEPS) -> int:
    """Return the largest T up to ``at_most`` for which no int32 can overflow; 0 if there is none.

    A network with step functions runs for its own T alone.
    """
    if graph.only_timesteps:
        return graph.timesteps if overflow(graph, graph.timesteps) is None else 0
    low, high = 0, at_most
    while low < high:
        middle = (low + high + 1) // 2
        if overflow(graph, middle) is None:
            low = middle
        else:
            high = middle - 1
    return low


def unproved(graph: SnnGraph, proved: int) -> str:
    """Say why a network cannot be run for its T, and what to ask for instead.

    Args:
        graph: the integer network.
        proved: its :func:`provable_timesteps`, below T.
    """
    cure = f"use at most T = {proved}" if proved else "ask for fewer levels or settle steps"
    found = overflow(graph, graph.timesteps)
    if found is None:
        return f"{graph.timesteps} steps are more than the {MOST_TIMESTEPS} that can be proved; {cure}"
    name, bound = found
    return f"the potentials of {name!r} could reach {bound} in {graph.timesteps} steps, beyond int32; {cure}"
