"""What is recorded for pictures of spikes: one row in every step, or counts of many rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from snnc.artefact import Artefact
from snnc.errors import InputError, UsageError
from snnc.ir.batch import Rows
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.neuron import Schedule
from snnc.ir.operations import Firing, firing, populations
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.progress import Progress
from snnc.simulation.protocol import RecordOptions, Simulator
from snnc.simulation.reference import ReferenceSimulator, leaky_steps

CHUNK = 64
"""Rows that are run at once."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A population on one row.

    Attributes:
        node: the population.
        spikes: (T + K, *shape), what it sent in every step.
        reached: (T + K, *shape), the potential with all that had arrived, before it fired.
        left: (T + K, *shape), the potential afterwards.
        start: (*shape), the potential before the first step.
    """

    node: IntegrateFire
    spikes: NumberArray
    reached: FloatArray
    left: FloatArray
    start: FloatArray

    def events(self) -> IntArray:
        """Return in how many steps each neuron sent something, (*shape)."""
        return np.count_nonzero(self.spikes, axis=0)


@dataclass(frozen=True, slots=True)
class Counted:
    """A population on many rows.

    Attributes:
        node: the population.
        rows: how many.
        counts: how many neurons, of all rows, ended with a count ``N``, by ``N`` in ascending order.
        units: (*shape), ``sum |s|`` over rows and steps.
    """

    node: IntegrateFire
    rows: int
    counts: Mapping[int, int]
    units: IntArray


def chosen_layers(artefact: Artefact, names: Sequence[str]) -> tuple[IntegrateFire, ...]:
    """Return populations by their names, in the network's order; all of them without names.

    Raises:
        InputError: there is none of a name.
    """
    known = tuple(node for node, _ in populations(artefact.graph))
    unknown = [name for name in names if name not in {node.name for node in known}]
    if unknown:
        listed = ", ".join(node.name for node in known)
        raise InputError(f"there is no layer {unknown[0]!r} in {artefact.graph.name}; its layers: {listed}")
    return tuple(node for node in known if not names or node.name in names)


def record(artefact: Artefact, row: Rows, layers: Sequence[str], timesteps: int) -> tuple[Recorded, ...]:
    """Record one row in every step, by the reference simulator.

    Args:
        artefact: the network.
        row: (1, ...) as the artefact takes it; of several inputs a batch of it.
        layers: names of populations; all without.
        timesteps: T.

    Raises:
        InputError: there is no such layer.
    """
    graph = artefact.graph
    nodes = chosen_layers(artefact, layers)
    names = tuple(dict.fromkeys(name for node in nodes for name in (node.name, *node.inputs)))
    wanted = RecordOptions(trains=names, until=tuple(node.name for node in nodes))
    trains = ReferenceSimulator().run(graph, artefact.encode(row), timesteps, wanted).trains
    return tuple(_recorded(graph, node, trains, timesteps) for node in nodes)


def _recorded(
    graph: SnnGraph, node: IntegrateFire, trains: Mapping[str, NumberArray], timesteps: int
) -> Recorded:
    rank = len(node.shape)
    spikes = trains[node.name][:, 0].astype(np.float64)
    currents = np.add.reduce([trains[name][:, 0].astype(np.float64) for name in node.inputs])
    bias = per_channel(node.bias, rank).astype(np.float64)
    start = np.broadcast_to(per_channel(node.v_init, rank), node.shape).astype(np.float64)
    if node.leaky:
        whole = np.add.reduce([trains[name] for name in node.inputs])
        steps = list(leaky_steps(node, whole.astype(np.int64) if node.integer else whole))
        reached, left = (np.stack([step[k][0] for step in steps]).astype(np.float64) for k in (0, 2))
        return Recorded(node, trains[node.name][:, 0], reached, left, start)
    if graph.schedule is Schedule.LAYERWISE:
        start = start + timesteps * bias + currents.sum(axis=0)
        arrived = np.zeros_like(currents)
    else:
        on = (np.arange(len(currents)) < timesteps).reshape(-1, *(1,) * rank)
        arrived = currents + on * bias
    taken = spikes * per_channel(node.threshold, rank) * (firing(node) is not Firing.STEPS)
    left = start + np.cumsum(arrived - taken, axis=0)
    return Recorded(node, trains[node.name][:, 0], left + taken, left, start)


def count(
    artefact: Artefact,
    x: Rows,
    layers: Sequence[str],
    timesteps: int,
    simulator: Simulator,
    progress: Progress,
) -> tuple[Counted, ...]:
    """Count the spikes of many rows.

    Args:
        artefact: the network.
        x: (n, ...) as the artefact takes them; of several inputs a batch of them.
        layers: names of populations; all without.
        timesteps: T.
        simulator: what runs the network.
        progress: where to show how far it is.

    Raises:
        InputError: there is no such layer, or there are no rows.
    """
    if len(x) == 0:
        raise InputError("there are no rows to draw")
    nodes = chosen_layers(artefact, layers)
    counts: dict[str, dict[int, int]] = {node.name: {} for node in nodes}
    units: dict[str, IntArray] = {node.name: np.zeros(node.shape, np.int64) for node in nodes}
    starts = range(0, len(x), CHUNK)
    for begin in progress.track(starts, len(starts), f"counting spikes at T = {timesteps}"):
        q = artefact.encode(x[begin : begin + CHUNK])
        trace = simulator.run(artefact.graph, q, timesteps, RecordOptions(states=True, activity=True))
        for node in nodes:
            units[node.name] += trace.activity[node.name].units
            found = counts[node.name]
            for value, times in zip(*np.unique(trace.counts[node.name], return_counts=True), strict=True):
                found[int(value)] = found.get(int(value), 0) + int(times)
    return tuple(
        Counted(node, len(x), dict(sorted(counts[node.name].items())), units[node.name]) for node in nodes
    )


def neuron_of(recorded: Recorded, place: str | None) -> tuple[int, ...]:
    """Return the place of a neuron in its population.

    Args:
        recorded: the population.
        place: one flat index, or an index on each axis, with commas; ``None`` for the busiest neuron, the
            first of several.

    Raises:
        UsageError: there is no such neuron.
    """
    shape = recorded.node.shape
    if place is None:
        return tuple(int(i) for i in np.unravel_index(int(recorded.events().argmax()), shape))
    try:
        index = tuple(int(part) for part in place.split(","))
    except ValueError:
        index = ()
    if len(index) == 1 and 0 <= index[0] < np.prod(shape):
        return tuple(int(i) for i in np.unravel_index(index[0], shape))
    if len(index) != len(shape) or any(not 0 <= i < n for i, n in zip(index, shape, strict=True)):
        raise UsageError(
            f"{recorded.node.name}:{place} is no neuron: give an index below {np.prod(shape)}, or one on "
            f"each axis "
            f"of {' x '.join(map(str, shape))}"
        )
    return index
