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
from snnc.ir.bounds import INT32, count_bounds, leaky_reach
from snnc.ir.graph import NumberArray
from snnc.ir.operations import Firing, firing, largest_count

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
    sums = count_ranges(request, given, inputs) if request.graph.only_timesteps else {}
    for node in request.nodes:
        read = [found[name] for name in node.inputs]
        match node:
            case snn.Encode():
                found[node.name] = inputs[node.name]
            case snn.IntegrateFire():
                most = node.neuron.largest(request.timesteps)
                takes_back = firing(node).remembers and not request.barrier
                found[node.name] = Interval(-most if takes_back else 0, most)
                if node.step_values is not None:
                    found[node.name] = changes(measured(node.step_values), request)
                if node.leaky:
                    reached = leaky_reach(node, sum(each.magnitude for each in read), request.steps)
                    _check(node, reached, request)
                else:
                    _check(node, _largest_potential(node, read, sums, request), request)
            case snn.Readout() if node.leaky:
                most = leaky_reach(node, sum(each.magnitude for each in read), request.steps)
                found[node.name] = Interval(-most, most)
                _check(node, most, request)
            case snn.Readout():
                current = sum(interval.magnitude for interval in read) + measured(node.bias).magnitude
                most = current * request.steps
                if sums:
                    total = sum(sums[name].magnitude for name in node.inputs)
                    most = min(most, total + request.timesteps * measured(node.bias).magnitude)
                found[node.name] = Interval(-most, most)
                _check(node, max(most, current), request)
            case snn.ConstantCurrent():
                found[node.name] = measured(node.values)
            case snn.Weighted():
                found[node.name] = _weighted(node.weight, read[0])
                _check(node, found[node.name].magnitude, request)
            case snn.SumPool():
                found[node.name] = read[0].times(node.window.area)
                _check(node, found[node.name].magnitude, request)
            case snn.CountMaximum():
                most = read[0].magnitude
                found[node.name] = read[0] if request.steps == 1 else Interval(-most, most)
            case (
                snn.CountProduct() | snn.CountMatrixProduct() | snn.CountSoftmax() | snn.CountNormalisation()
            ):
                found[node.name] = changes(function_range(node), request)
            case _:
                found[node.name] = Interval(min(i.low for i in read), max(i.high for i in read))
    return found


def _weighted(weight: NumberArray, read: Interval) -> Interval:
    w = weight.astype(np.int64).reshape(len(weight), -1)
    up, down = np.maximum(w, 0).sum(axis=1), np.minimum(w, 0).sum(axis=1)
    high = (up * read.high + down * read.low).max(initial=0)
    low = (up * read.low + down * read.high).min(initial=0)
    return Interval(int(low), int(high))


def changes(counts: Interval, request: Request) -> Interval:
    """Return where the change of a count stays that begins at zero and may go from one end to the other."""
    if request.steps == 1:
        return counts
    return Interval(counts.low - counts.high, counts.high - counts.low)


def function_range(
    node: snn.CountProduct | snn.CountMatrixProduct | snn.CountSoftmax | snn.CountNormalisation,
) -> Interval:
    """Return where ``G`` of a function that has a range of its own stays."""
    return (
        Interval(0, node.levels)
        if isinstance(node, snn.CountSoftmax)
        else Interval(node.lowest, node.highest)
    )


def count_ranges(
    request: Request, given: Mapping[str, Interval], inputs: Mapping[str, Interval]
) -> dict[str, Interval]:
    """Return where the sum of each node's value up to any step stays.

    What a population or a function sends telescopes to its count, and currents are linear in it. Before
    quantisation there are only the sums of spikes.

    Args:
        request: what is run.
        given: where the spikes from the caller stay in a step.
        inputs: where each quantised input stays.
    """
    if not request.integer:
        bounds = count_bounds(request.graph, request.timesteps)
        return {name: Interval(-bound, bound) for name, bound in bounds.items()}
    found = {name: interval.times(request.steps) for name, interval in given.items()}
    for node in request.nodes:
        read = [found[name] for name in node.inputs]
        match node:
            case snn.Encode():
                found[node.name] = inputs[node.name].times(request.timesteps)
            case snn.ConstantCurrent():
                found[node.name] = measured(node.values).times(request.timesteps)
            case snn.IntegrateFire(step_values=values) if values is not None:
                found[node.name] = measured(values)
            case snn.IntegrateFire():
                most = largest_count(node, request.timesteps, request.graph.settle_steps)
                found[node.name] = Interval(0, most)
            case snn.Weighted():
                found[node.name] = _weighted(node.weight, read[0])
            case snn.SumPool():
                found[node.name] = read[0].times(node.window.area)
            case snn.CountMaximum():
                found[node.name] = read[0]
            case (
                snn.CountProduct() | snn.CountMatrixProduct() | snn.CountSoftmax() | snn.CountNormalisation()
            ):
                found[node.name] = function_range(node)
            case _:
                found[node.name] = Interval(min(i.low for i in read), max(i.high for i in read))
    return found


def _largest_potential(
    node: snn.IntegrateFire, read: list[Interval], sums: Mapping[str, Interval], request: Request
) -> int:
    """Return the largest magnitude that appears while ``m`` and ``m - s Theta`` are computed.

    Where all sums are known, a potential cannot be further from them than what was taken for spikes.
    """
    bias, start = measured(node.bias).magnitude, measured(node.v_init).magnitude
    current = sum(interval.magnitude for interval in read) + bias
    threshold = measured(node.threshold).magnitude
    reached = start + request.steps * current + threshold
    stepped = firing(node) is Firing.STEPS
    if sums:
        total = start + sum(sums[name].magnitude for name in node.inputs) + request.timesteps * bias
        if not stepped:
            most = largest_count(node, request.timesteps, request.graph.settle_steps)
            total += threshold * (1 + most)
        reached = max(min(reached, total), current)
    return reached if stepped else max(reached, node.neuron.largest(request.timesteps) * threshold)


def _check(node: snn.SnnNode, bound: int, request: Request) -> None:
    if bound >= INT32:
        raise InputError(
            f"{node.name!r} could reach {bound:.3g} in {request.steps} steps, beyond 32 bits; run fewer steps"
        )
