"""How large each value can become, so that it gets the narrowest integer type that always holds it.

The rules are those of :mod:`snnc.ir.bounds`, but only the nodes that are run are looked at, and the
spikes that the caller gives are measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from snnc.errors import InputError
from snnc.ir import snn
from snnc.ir.bounds import INT32, weight_sums
from snnc.ir.graph import IntArray, NumberArray

INTEGERS = (np.dtype(np.int8), np.dtype(np.int16), np.dtype(np.int32))


def narrowest(bound: int) -> np.dtype[np.signedinteger]:
    """Return the narrowest type that holds every integer of magnitude up to ``bound``."""
    return next((kind for kind in INTEGERS if bound <= np.iinfo(kind).max), np.dtype(np.int64))


def magnitude(values: NumberArray) -> int:
    """Return the largest magnitude in an array of integers."""
    return max(abs(int(values.max())), abs(int(values.min()))) if values.size else 0


def value_ranges(
    nodes: Iterable[snn.SnnNode], given: Mapping[str, IntArray], timesteps: int, steps: int
) -> dict[str, int]:
    """Return the largest magnitude of each node's value in one step.

    Args:
        nodes: the nodes that are run, in order.
        given: spikes from the caller.
        timesteps: T.
        steps: T + K.

    Raises:
        InputError: a potential or the read-out could leave int32.
    """
    found = {name: magnitude(train) for name, train in given.items()}
    for node in nodes:
        read = [found[name] for name in node.inputs]
        match node:
            case snn.Encode():
                found[node.name] = node.limit
            case snn.IntegrateFire():
                found[node.name] = node.neuron.largest(timesteps)
                _check(node, _largest_potential(node, sum(read), timesteps, steps), timesteps)
            case snn.Readout():
                found[node.name] = sum(read) + magnitude(node.bias)
                _check(node, steps * found[node.name], timesteps)
            case snn.Weighted():
                found[node.name] = int(weight_sums(node.weight).max()) * read[0]  # type: ignore[arg-type]
            case snn.SumPool():
                found[node.name] = node.window.area * read[0]
            case _:
                found[node.name] = max(read)
    return found


def _largest_potential(node: snn.IntegrateFire, current: int, timesteps: int, steps: int) -> int:
    """Return the largest magnitude that appears while ``m`` and ``m - s Theta`` are computed."""
    reached = magnitude(node.v_init) + steps * (current + magnitude(node.bias))
    return max(reached, node.neuron.largest(timesteps) * magnitude(node.threshold))


def _check(node: snn.SnnNode, bound: int, timesteps: int) -> None:
    if bound >= INT32:
        raise InputError(
            f"{node.name!r} could reach {bound:.3g} in {timesteps} steps, beyond 32 bits; run fewer steps"
        )
