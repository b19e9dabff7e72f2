"""Which sums of products float32 computes exactly, and how to split the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from snnc.artefact.functions import DIGITS
from snnc.errors import InternalError, TargetError
from snnc.ir.bounds import EXACT_FLOAT32, step_bounds, weight_sums
from snnc.ir.kinds import constant_nodes
from snnc.ir.neuron import Schedule
from snnc.ir.operations import firing, operations
from snnc.ir.snn import Encode, IntegrateFire, SnnGraph, SnnNode, SumPool, Weighted

UNSPLIT = (1, 0)


def plan_digits(weight_sum: int, largest: int) -> tuple[int, int] | None:
    """Choose how to split the input of a sum of products, so that float32 computes it exactly.

    Args:
        weight_sum: largest ``sum |w|`` of an output.
        largest: largest magnitude of the input.

    Returns:
        Number of digits and their radix, 1 and 0 where nothing has to be split; ``None`` where even
        the most digits do not suffice.
    """
    if weight_sum * largest <= EXACT_FLOAT32:
        return UNSPLIT
    for digits in DIGITS[1:]:
        radix = 1 << -(-largest.bit_length() // digits)
        if weight_sum * radix <= EXACT_FLOAT32:
            return digits, radix
    return None


def node_digits(graph: SnnGraph) -> dict[str, tuple[int, int]]:
    """Return number of digits and radix for each node that sums products.

    Raises:
        TargetError: naming a node that even the most digits do not make exact.
    """
    bounds = value_bounds(graph) if graph.integer else {}
    found = {}
    for node in operations(graph):
        if not isinstance(node, Weighted | SumPool):
            continue
        plan: tuple[int, int] | None = UNSPLIT
        if graph.integer:
            summed = node.window.area if isinstance(node, SumPool) else _weight_sum(node)
            plan = plan_digits(summed, bounds[node.inputs[0]])
        if plan is None:
            raise TargetError(
                f"{type(node).__name__} {node.name!r} has sums too large for float32 in runs of up to "
                f"T = {graph.max_timesteps}; convert with fewer weights per neuron or with fewer steps"
            )
        found[node.name] = plan
    return found


def _weight_sum(node: Weighted) -> int:
    """Return the largest sum of magnitudes that an output weighs its inputs with."""
    return int(weight_sums(node.weight.astype(np.int64)).max())


def value_bounds(graph: SnnGraph) -> dict[str, int]:
    """Return the largest magnitude of each value in the ONNX model of an integer network.

    In one step of the synchronous schedule; over the whole run in the layerwise schedule, whose model
    works on counts, but for what is constant in time.

    Raises:
        InternalError: the network was quantised without proving its bounds.
    """
    longest = graph.max_timesteps
    if not longest:
        raise InternalError(f"{graph.name}: the bounds of its integers were not proved; see quantise-weights")
    step = step_bounds(graph, longest)
    if graph.schedule is Schedule.SYNCHRONOUS:
        return step
    counts = step_bounds(graph.with_nodes([_counting(node, longest) for node in graph]), longest)
    return counts | {name: step[name] for name in constant_nodes(graph)}


def _counting(node: SnnNode, timesteps: int) -> SnnNode:
    """Return a source of spikes as one whose single step amounts to a whole run."""
    match node:
        case Encode():
            return node.with_(limit=node.limit * timesteps)
        case IntegrateFire():
            # In the layerwise schedule a single step sends the whole count.
            neuron = replace(node.neuron, spikes_per_step=None)
            if not firing(node).remembers and node.neuron.spikes_per_step is not None:
                neuron = replace(node.neuron, spikes_per_step=node.neuron.spikes_per_step * timesteps)
            return node.with_(neuron=neuron)
        case _:
            return node
