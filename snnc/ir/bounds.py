"""Proofs that integers stay within the types that the backends give them.

Every figure is a worst case over all inputs, from the weights alone. Values, potentials and counts have 32
bits; what a function of counts computes from them has 64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from snnc.errors import InternalError
from snnc.ir.counts import Function
from snnc.ir.graph import NumberArray
from snnc.ir.kinds import ValueKind, value_kinds
from snnc.ir.leak import WHOLE, leaky_bound
from snnc.ir.operations import Firing, firing, largest_count, largest_spike, operations
from snnc.ir.snn import (
    ConstantCurrent,
    CountFunction,
    CountMaxPool,
    Delay,
    Encode,
    IntegrateFire,
    Readout,
    SnnGraph,
)
from snnc.ir.snn.synapses import weight_sums as weight_sums

EXACT_FLOAT32 = 2**24
"""Integers up to here are exact in float32, so a float32 convolution of them is, too."""

INT32 = 2**31
INT64 = 2**63

MOST_TIMESTEPS = 256
"""No longer run is proved: every bound that grows with T would cost the backends wider arithmetic."""


def step_bounds(graph: SnnGraph, timesteps: int, names: Sequence[str] = ()) -> dict[str, int]:
    """Return for each node the largest magnitude of its value in one step of a run of ``timesteps``.

    Args:
        graph: the network.
        timesteps: T.
        names: of nodes that are wanted, with all that they read in the same step; all nodes by default.
    """
    bounds: dict[str, int] = {}
    wanted = graph.ancestors(names or [node.name for node in graph], within_step=True)
    for node in operations(graph):
        if node.name not in wanted:
            continue
        read = [bounds[name] for name in node.inputs]
        match node:
            case Encode():
                bounds[node.name] = node.limit
            case IntegrateFire():
                bounds[node.name] = largest_spike(node, timesteps, graph.settle_steps)
            case Delay():
                bounds[node.name] = _delayed(graph, node, timesteps)
            case ConstantCurrent():
                bounds[node.name] = _most(node.values)
            case CountFunction():
                bounds[node.name] = node.largest_change(read)
            case Readout():
                bounds[node.name] = sum(read) + _most(node.bias)
            case _:
                bounds[node.name] = node.magnitude(read)
    return bounds


def count_bounds(graph: SnnGraph, timesteps: int) -> dict[str, int]:
    """Return for each node that gives spikes the largest magnitude of their sum up to any step of a run.

    The sums of what a population or a function of counts sends telescope to its own count, however often it
    takes spikes back. No weight matters, so this holds in both precisions.
    """
    kinds = value_kinds(graph)
    found: dict[str, int] = {}
    for node in operations(graph):
        if kinds[node.name] is not ValueKind.SPIKES:
            continue
        read = [found[name] for name in node.inputs if name in found]
        match node:
            case Encode():
                found[node.name] = node.limit * timesteps
            case IntegrateFire():
                found[node.name] = _largest_count(node, timesteps, graph.settle_steps)
            case Delay():
                found[node.name] = _delayed(graph, node, timesteps) * timesteps
            case CountFunction():
                found[node.name] = node.largest(read)
            case _:
                found[node.name] = node.magnitude(read)
    return found


def _delayed(graph: SnnGraph, node: Delay, timesteps: int) -> int:
    """Return the largest magnitude of a delayed value: its source's own limit, whatever that reads."""
    source = graph[node.source]
    if isinstance(source, Encode):
        return source.limit
    if isinstance(source, IntegrateFire):
        return largest_spike(source, timesteps, graph.settle_steps)
    raise InternalError(f"{node.name!r} delays {node.source!r}, which has no limit of its own")


def _most(values: NumberArray) -> int:
    """Return the largest magnitude of integers."""
    return int(np.abs(values.astype(np.int64)).max())


def leaky_reach(node: IntegrateFire | Readout, current: int, steps: int) -> int:
    """Return how far the potential and the filtered current of a leaky node get in a run.

    Args:
        node: a population or read-out in integers.
        current: largest magnitude of the sum that it reads in a step.
        steps: of the run.
    """
    decay = WHOLE if node.decay is None else int(node.decay.max())
    filtering = None if node.synapse_decay is None else int(node.synapse_decay.max())
    start = 0
    if isinstance(node, IntegrateFire):
        start = _most(node.v_init)
        if node.reset_to is not None:
            start = max(start, _most(node.reset_to))
        elif node.reset_by is not None and (node.reset_by > node.threshold).any():
            start = max(start, node.neuron.largest(steps) * int(node.reset_by.max()))
    return max(leaky_bound(steps, current, _most(node.bias), decay, filtering, node.fraction_bits, start))


def _largest_count(node: IntegrateFire, timesteps: int, settle_steps: int) -> int:
    """Return the largest magnitude of a population's count after any step."""
    if firing(node) is Firing.STEPS and node.step_values is not None:
        return node.furthest()  # it moves between zero and these
    return largest_count(node, timesteps, settle_steps)


def sum_bounds(graph: SnnGraph, timesteps: int) -> dict[str, int]:
    """Return for each node the largest magnitude of its value's sum up to any step, from the counts.

    A current is linear in the spikes that it weighs, so that its sum is that of their counts:
    ``sum |w| max |N|``, whatever is taken back in between.
    """
    found = count_bounds(graph, timesteps)
    for node in operations(graph):
        if node.name in found:
            continue
        read = [found[name] for name in node.inputs]
        match node:
            case ConstantCurrent():  # the same in each of the T steps
                found[node.name] = timesteps * _most(node.values)
            case Readout():
                found[node.name] = sum(read) + timesteps * _most(node.bias)
            case _:
                found[node.name] = node.magnitude(read)
    return found


def function_bounds(graph: SnnGraph, timesteps: int) -> dict[str, int]:
    """Return for each function of counts the largest magnitude of all that is computed for it, in int64."""
    functions = [node for node in operations(graph) if isinstance(node, Function)]
    if not functions:
        return {}
    counts = count_bounds(graph, timesteps)
    return {
        node.name: node.reach(
            [counts[name] for name in node.inputs], [graph[name].shape for name in node.inputs]
        )
        for node in functions
    }


def run_bounds(graph: SnnGraph, timesteps: int) -> dict[str, int]:
    """Return the largest magnitude that is reached in a run by what nodes keep from step to step, in int32.

    Of leaky nodes it is the recurrence of their magnitudes; of others ``|v0| + (T + K)(max |I| + |B|)`` for
    potentials, ``(T + K)(max |I| + |B|)`` for the read-out, and
    ``(T + K) max |s|`` for the counts of which a pooling takes the maximum. A network with step functions or
    functions of counts, which runs for one T, has a second proof, from the sums of :func:`sum_bounds`: a
    potential from which nothing is taken stays within ``|v0| + sum |w| max |N| + T |B|``, one from which its
    spikes are taken within ``Theta max |N|`` of that, and the smaller of both figures holds.
    """
    step = step_bounds(graph, timesteps)
    sums = sum_bounds(graph, timesteps) if graph.only_timesteps else {}
    steps = timesteps + graph.settle_steps
    found: dict[str, int] = {}
    for node in graph:
        if isinstance(node, IntegrateFire | Readout) and node.leaky:
            found[node.name] = leaky_reach(node, sum(step[name] for name in node.inputs), steps)
        elif isinstance(node, IntegrateFire):
            bias = int(np.abs(node.bias.astype(np.int64)).max())
            current = sum(step[name] for name in node.inputs) + bias
            start = int(np.abs(node.v_init.astype(np.int64)).max())
            # Division rounds toward minus infinity through the next multiple of the threshold below,
            # and the product ``s Theta`` is formed before it is taken from ``m``.
            threshold = 0 if node.breakpoints is not None else int(node.threshold.max())
            product = node.neuron.largest(timesteps) * threshold
            reached = start + steps * current + threshold
            if sums:
                spent = 0
                if firing(node) is not Firing.STEPS:
                    spent = threshold * (1 + _largest_count(node, timesteps, graph.settle_steps))
                total = start + sum(sums[name] for name in node.inputs) + timesteps * bias + spent
                # A current is added up before it meets the potential, and may go from one end to the other.
                reached = max(min(reached, total), current)
            found[node.name] = max(reached, 0 if firing(node) is Firing.STEPS else product)
        elif isinstance(node, Readout):
            found[node.name] = steps * step[node.name]
            if sums:
                found[node.name] = max(min(found[node.name], sums[node.name]), step[node.name])
        elif isinstance(node, CountMaxPool | Function):
            summed = [min(steps * step[name], sums.get(name, steps * step[name])) for name in node.inputs]
            found[node.name] = max(summed)
    return found


@dataclass(frozen=True, slots=True)
class Overflow:
    """A node whose integers could leave their type.

    Attributes:
        node: its name.
        bound: the largest magnitude that could be reached.
        what: the integers, in words.
        bits: of their type.
        timesteps: T of the run.
    """

    node: str
    bound: int
    what: str
    bits: int
    timesteps: int

    def __str__(self) -> str:
        """Say what could leave which type, in one line."""
        bound = str(self.bound) if self.bound < 2**64 else "more than 2^64"
        steps = str(self.timesteps) if self.timesteps < INT32 else "more than 2^31"
        run = "in one step" if self.timesteps == 1 else f"in {steps} steps"
        return f"the {self.what} of {self.node!r} could reach {bound} {run}, beyond int{self.bits}"


def overflow(graph: SnnGraph, timesteps: int) -> Overflow | None:
    """Return the first node of an integer network that could overflow in a run of ``timesteps``."""
    found = function_overflow(graph, timesteps)
    if found is not None:
        return found
    for name, bound in run_bounds(graph, timesteps).items():
        if bound >= INT32:
            what = "counts" if isinstance(graph[name], CountMaxPool | Function) else "potentials"
            return Overflow(name, bound, what, 32, timesteps)
    return None


def function_overflow(graph: SnnGraph, timesteps: int) -> Overflow | None:
    """Return the first function of counts that could overflow, in a network of either precision."""
    for name, bound in function_bounds(graph, timesteps).items():
        if bound >= INT64:
            return Overflow(name, bound, "sums", 64, timesteps)
    return None


def provable_timesteps(graph: SnnGraph, at_most: int = MOST_TIMESTEPS) -> int:
    """Return the largest T up to ``at_most`` for which no integer can overflow; 0 if there is none.

    A network with step functions or functions of counts runs for its own T alone.
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
    if found.bits == 64:
        cure = "ask for fewer levels or steps, or leave the operation to the host"
    return f"{found}; {cure}"
