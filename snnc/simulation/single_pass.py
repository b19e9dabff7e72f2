"""A spiking network as one pass over spike counts, where this is proved to be the same function.

A graded neuron with a count memory takes back surplus spikes, so its count after step t depends only on the
sum of its input until then. From ``m = v + I`` and ``v = m - s Theta``, which lose nothing, follows

    N(T) Theta + v(T) = v(0) + T B + sum of I over all steps,     N(T) = clip(floor(./Theta), 0, T M)

whatever the order of the spikes. A population in the layerwise schedule integrates all of its input before
it fires, and ends with the same N and v. All operations between populations are linear, or a maximum of
counts, or a maximum of constant currents. The counts after T steps, the potentials and the read-out of such
a network are therefore those of one step in which every population may send ``T M`` levels, with the
analogue input and each bias multiplied by ``T``.

The results are those of the spiking network, but no spikes are simulated: times measured with it are not
those of a spiking simulation.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from snnc.errors import UsageError
from snnc.ir.batch import Batch, Rows
from snnc.ir.graph import NumberArray
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.operations import Firing, Operation, check_known, largest_count, operations, populations
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
    SnnNode,
    SumPool,
)

COMMUTE = frozenset(
    {
        *(Encode, Convolution, Linear, ChannelWeight, SumPool, CountMaxPool),
        *(CurrentMaxPool, Concat, Reshape, Pad, Slice, Gather),
        *(CountProduct, CountMatrixProduct, CountSoftmax, CountNormalisation, CountMaximum),
    }
)
"""Operations that are the same on counts as step by step; one that is not listed has no proof."""


def problem(graph: SnnGraph) -> str | None:
    """Say why a network is not proved to equal one pass over its spike counts; ``None`` if it is."""
    check_known(graph)
    found = populations(graph)
    for node in graph:
        if type(node) not in COMMUTE | {IntegrateFire, Readout, ConstantCurrent}:
            return f"{node.name!r} is not proved to be the same on counts"
    if not graph.integer:
        return "in float32 the order of the additions matters"
    if graph.changing is not None:
        return graph.changing
    if graph.schedule is Schedule.LAYERWISE:
        return None
    for node, rule in found:
        # Proved for this rule alone: any other, and any that will be added, is none of which it holds.
        if rule is Firing.STEPS and node.neuron.limit is None:
            continue  # the potential is all that arrived, whatever the order, and so is its step function
        if rule is not Firing.GRADED or node.negative_threshold is not None:
            return f"{node.name!r} sends a limited number of spikes per step, so their order matters"
    return None


def counted(graph: SnnGraph, timesteps: int) -> SnnGraph:
    """Return the network whose one step gives the counts, potentials and outputs of ``timesteps``.

    Its input is ``timesteps`` times the quantised input; see :func:`counted_input`.

    Raises:
        UsageError: the two are not proved equal.
    """
    reason = problem(graph)
    if reason is not None:
        raise UsageError(
            f"{graph.name} cannot be run as one pass over spike counts: {reason}; convert with "
            "--preset graded, or with --set set-schedule.kind=layerwise"
        )

    if graph.only_timesteps and timesteps != graph.timesteps:
        raise UsageError(f"{graph.name} runs for T = {graph.timesteps} alone, not T = {timesteps}")

    def over_all_steps(node: Operation) -> SnnNode:
        match node:
            case IntegrateFire():
                neuron = Neuron(
                    levels=largest_count(node, timesteps), spikes_per_step=None, count_memory=True
                )
                return node.with_(bias=_times(node.bias, timesteps), neuron=neuron, negative_threshold=None)
            case Readout():
                return node.with_(bias=_times(node.bias, timesteps))
            case ConstantCurrent():
                return node.with_(values=_times(node.values, timesteps))
            case _ if type(node) in COMMUTE:
                return node
            case _:
                raise UsageError(f"{node.name!r} is not proved to be the same function of counts")

    nodes = [over_all_steps(node) for node in operations(graph)]
    return replace(
        graph.with_nodes(nodes),
        timesteps=1,
        settle_steps=0,
        schedule=Schedule.SYNCHRONOUS,
        max_timesteps=1,
        density={},
    )


def counted_input(q: Rows, timesteps: int) -> Rows:
    """Return the input of :func:`counted`'s network for the quantised input ``q``, (batch, *shape)."""
    if isinstance(q, Batch):
        return Batch({name: array * np.int32(timesteps) for name, array in q.arrays.items()})
    return q * np.int32(timesteps)


def _times(values: NumberArray, timesteps: int) -> NumberArray:
    return (values.astype(np.int64) * timesteps).astype(np.int32)
