"""How large each value can become, so that it gets the narrowest integer type that always holds it.

The rules are those of :mod:`snnc.ir.bounds`, but only the nodes that are run are looked at, and the
spikes that the caller gives are measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from snnc.backends.numba_cpu.planning.request import Request
from snnc.errors import InputError
from snnc.ir import snn
from snnc.ir.bounds import INT32
from snnc.ir.graph import NumberArray
from snnc.ir.operations import Firing, firing

INTEGERS = (np.dtype(np.int8), np.dtype(np.int16), np.dtype(np.int32))


@dataclass(frozen=True, slots=True)
class Interval:
    """Between which values something stays; zero is always among them.

    Attributes:
        low: smallest value.
        high: largest value.
    """

    low: int
    high: int

    @property
    def magnitude(self) -> int:
        """Largest magnitude."""
        return max(self.high, -self.low)

    def hull(self, other: Interval) -> Interval:
        """Return the smallest interval that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))

    def times(self, count: int) -> Interval:
        """Return where the sum of ``count`` such values stays."""
        return Interval(self.low * count, self.high * count)


def narrowest(bound: int) -> np.dtype[np.signedinteger]:
    """Return the narrowest type that holds every integer of magnitude up to ``bound``."""
    return next((kind for kind in INTEGERS if bound <= np.iinfo(kind).max), np.dtype(np.int64))


def measured(values: NumberArray) -> Interval:
    """Return where an array of integers stays."""
    return Interval(min(0, int(values.min(initial=0))), max(0, int(values.max(initial=0))))


def value_ranges(
    request: Request, given: Mapping[str, Interval], inputs: Mapping[str, Interval]
) -> dict[str, Interval]:
    """Return where each node's value stays in one step.

    Args:
        request: what is run.
        given: where the spikes from the caller stay.
        inputs: where each quantised input stays.

    Raises:
        InputError: a potential or the read-out could leave int32.
    """
    found = dict(given)
    for node in request.nodes:
        read = [found[name] for name in node.inputs]
        match node:
            case snn.Encode():
                found[node.name] = inputs[node.name]
            case snn.IntegrateFire():
                most = node.neuron.largest(request.timesteps)
                rule = firing(node)
                takes_back = rule.remembers and (rule is Firing.STEPS or not request.barrier)
                found[node.name] = Interval(-most if takes_back else 0, most)
                _check(node, _largest_potential(node, read, request), request)
            case snn.Readout():
                current = sum(interval.magnitude for interval in read) + measured(node.bias).magnitude
                found[node.name] = Interval(-current, current).times(request.steps)
                _check(node, found[node.name].magnitude, request)
            case snn.ConstantCurrent():
                found[node.name] = measured(node.values)
            case snn.Weighted():
                found[node.name] = _weighted(node.weight, read[0])
                _check(node, found[node.name].magnitude, request)
            case snn.SumPool():
                found[node.name] = read[0].times(node.window.area)
                _check(node, found[node.name].magnitude, request)
            case _:
                found[node.name] = Interval(min(i.low for i in read), max(i.high for i in read))
    return found


def _weighted(weight: NumberArray, read: Interval) -> Interval:
    w = weight.astype(np.int64).reshape(len(weight), -1)
    up, down = np.maximum(w, 0).sum(axis=1), np.minimum(w, 0).sum(axis=1)
    high = (up * read.high + down * read.low).max(initial=0)
    low = (up * read.low + down * read.high).min(initial=0)
    return Interval(int(low), int(high))


def _largest_potential(node: snn.IntegrateFire, read: list[Interval], request: Request) -> int:
    """Return the largest magnitude that appears while ``m`` and ``m - s Theta`` are computed."""
    current = sum(interval.magnitude for interval in read) + measured(node.bias).magnitude
    threshold = measured(node.threshold).magnitude
    reached = measured(node.v_init).magnitude + request.steps * current + threshold
    return max(reached, node.neuron.largest(request.timesteps) * threshold)


def _check(node: snn.SnnNode, bound: int, request: Request) -> None:
    if bound >= INT32:
        raise InputError(
            f"{node.name!r} could reach {bound:.3g} in {request.steps} steps, beyond 32 bits; run fewer steps"
        )
