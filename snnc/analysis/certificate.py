"""Certificates that a spiking network equals its quantised network: proved if possible, else observed.

The quantised network has graded neurons, whose count after T steps is ``N* = clip(floor(X / Theta), 0, C)``,
or ``N* = K(X)`` where they follow a step function, with X the sum of all input, in any order. A neuron with
count memory that may send ``s`` spikes per step falls behind if much input arrives at once. In K settle steps
it catches up: once its input is final, every step moves N towards ``N*`` by ``min(|N* - N|, s M)``. No count
is further from another than ``C = T M``, and those of a step function with both signs ``max c - min c``, up
to ``2 C``: call ``n`` the spikes of M levels that make up the largest of these, T without such functions.

*Proved*, for every input: with ``s = n`` nothing is ever held back, so the network is the graded one; with
fewer, ``ceil(n / s)`` settle steps for each population on the longest path are enough, by induction along it.
A network in the layerwise schedule needs none.

*Observed*: fewer settle steps give the same counts on all rows of the data. Other rows may differ;
:func:`disagreements` counts them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from snnc.analysis import costs
from snnc.analysis.evaluation import Share
from snnc.analysis.latency import depth, latency_steps
from snnc.errors import InputError, TargetError, UsageError
from snnc.ir.batch import Batch, Rows
from snnc.ir.bounds import provable_timesteps
from snnc.ir.graph import IntArray
from snnc.ir.neuron import Schedule
from snnc.ir.operations import Firing, check_known, populations
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.progress import Progress, Silent
from snnc.scale.plain import packed
from snnc.scale.tasks import Shared, Task
from snnc.scale.workers import Workers
from snnc.simulation.protocol import Activity, RecordOptions, Simulator
from snnc.simulation.remote import WorkersSimulator, narrow, packed_graph

SHARD = 50
"""Rows that are compared at once."""

SPREAD = 2000
"""Rows that are handed to workers at once where events are counted."""


class Basis(Enum):
    """Why a setting is taken to be exact."""

    PROVED = "proved"
    OBSERVED = "observed"


@dataclass(frozen=True, slots=True)
class Exact:
    """A setting whose counts are those of the quantised network.

    Attributes:
        spikes_per_step: that a population may send; ``None`` where the network leaves no choice.
        settle_steps: K.
        basis: proved for every input, or observed on the rows.
        proved_settle_steps: the K from which it is proved.
        latency_steps: from the input to the answer.
        synops: synaptic operations per row, over all steps.
        spikes_per_neuron_per_step: mean ``|s|``.
    """

    spikes_per_step: int | None
    settle_steps: int
    basis: Basis
    proved_settle_steps: int
    latency_steps: int
    synops: float
    spikes_per_neuron_per_step: float


PROVED = frozenset({Firing.LIMITED, Firing.HESITANT, Firing.GRADED, Firing.STEPS})
"""Rules whose counts end at the quantised network's, given time; HESITANT where the threshold is zero."""


def refusal(graph: SnnGraph) -> str | None:
    """Say why a network cannot be compared with a quantised one, or return ``None``."""
    found = populations(graph)
    if not graph.integer:
        return "float32 potentials have no exact counts: convert with --precision int8"
    if (leaking := graph.leaking()) is not None:
        return f"{leaking} is leaky: no quantised network computes what it does"
    if graph.schedule is Schedule.LAYERWISE:
        return None
    for node, rule in found:
        if not rule.remembers:
            return (
                f"{node.name!r} has no count memory and cannot take spikes back: convert with "
                "dual-threshold, or with set-schedule{kind=layerwise}"
            )
        if node.negative_threshold is not None and node.negative_threshold.any():
            return f"{node.name!r} holds corrections back: convert with dual-threshold{{negative=0.0}}"
        if rule not in PROVED:
            return f"{node.name!r} fires by a rule for which nothing is proved"
    return None


def quantised(graph: SnnGraph) -> SnnGraph:
    """Return the graded network that a network is held to.

    Raises:
        UsageError: there is none.
    """
    if (reason := refusal(graph)) is not None:
        raise UsageError(reason)
    return _bounded(_limited(graph, None, 0))


def variant(graph: SnnGraph, spikes_per_step: int | None, settle_steps: int) -> SnnGraph:
    """Return a network with other spikes a step and settle steps, whose integers are proved again.

    ``None`` leaves the spikes as they are; fewer settle steps than the network has need no new proof.

    Raises:
        TargetError: in so many steps an integer may overflow.
    """
    check_known(graph)
    if spikes_per_step is None:
        return replace(graph, settle_steps=settle_steps)
    return _bounded(_limited(graph, spikes_per_step, settle_steps))


def _limited(graph: SnnGraph, spikes_per_step: int | None, settle_steps: int) -> SnnGraph:
    def limited(node: IntegrateFire) -> IntegrateFire:
        neuron = replace(node.neuron, count_memory=True, spikes_per_step=spikes_per_step)
        # Fine populations that are graded stay so.
        keep = node.neuron.spikes_per_step is None
        return (
            node
            if keep and spikes_per_step is not None
            else node.with_(neuron=neuron, negative_threshold=None)
        )

    made = graph.map(IntegrateFire, limited)
    return replace(made, schedule=Schedule.SYNCHRONOUS, settle_steps=settle_steps, max_timesteps=0)


def _bounded(graph: SnnGraph) -> SnnGraph:
    proved = provable_timesteps(graph)
    if proved < graph.timesteps:
        raise TargetError(
            f"{graph.name}: with {graph.settle_steps} settle steps the integers are proved for T = {proved} "
            f"only, not {graph.timesteps}"
        )
    return replace(graph, max_timesteps=proved)


def proved_settle_steps(graph: SnnGraph, spikes_per_step: int) -> int:
    """Return the settle steps from which exactness is proved: ``ceil(n / s)`` per population of the path."""
    most = _most_spikes(graph)
    return 0 if spikes_per_step >= most else depth(graph) * -(-most // spikes_per_step)


def _most_spikes(graph: SnnGraph) -> int:
    """Return ``n``: how many spikes bring any count from one end to the other.

    In the only step of T = 1 a count comes from zero.
    """
    T = graph.timesteps
    if T == 1:
        return T
    spans = (-(-node.span() // node.neuron.levels) for node in graph.of_type(IntegrateFire))
    return max(T, *spans, 0)


def certify(
    graph: SnnGraph,
    inputs: IntArray,
    simulator: Simulator,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> tuple[Exact, ...]:
    """Return for each number of spikes a step the fewest settle steps that are exact on all rows.

    Args:
        graph: an integer network.
        inputs: (rows, *input shape), encoded.
        simulator: what runs it.
        progress: where to show how far it is.
        workers: who runs the rows; counts are integers, so that nothing depends on them.

    Returns:
        Fewer spikes a step first; those that take more spikes for no fewer settle steps are left out.

    Raises:
        UsageError: the network has no quantised counterpart.
        InputError: there are no rows.
    """
    if len(inputs) == 0:
        raise InputError("there are no rows to certify on")
    reference = quantised(graph)
    neurons = [node.neuron for node in graph.of_type(IntegrateFire)]
    if graph.schedule is Schedule.LAYERWISE or all(neuron.limit is None for neuron in neurons):
        return (_measured(graph, None, 0, Basis.PROVED, inputs, simulator, workers),)
    found: list[Exact] = []
    most = _most_spikes(graph)
    tracked = (progress or Silent()).track(range(1, most + 1), most, "certifying")
    for spikes in tracked:
        limit = proved_settle_steps(graph, spikes)
        settle = 0
        while settle < limit and _differing(
            variant(graph, spikes, settle), reference, inputs, simulator, 1, workers
        ):
            settle += 1
        if found and settle >= found[-1].settle_steps:
            continue
        basis = Basis.PROVED if settle == limit else Basis.OBSERVED
        found.append(_measured(graph, spikes, settle, basis, inputs, simulator, workers))
        if settle == 0:
            break
    return tuple(found)


def disagreements(
    graph: SnnGraph, exact: Exact, inputs: IntArray, simulator: Simulator, workers: Workers | None = None
) -> Share:
    """Return how many rows have other counts under a setting than in the quantised network."""
    setting, count = variant(graph, exact.spikes_per_step, exact.settle_steps), len(inputs)
    return Share(_differing(setting, quantised(graph), inputs, simulator, count, workers), count)


def differing_rows(graph: SnnGraph, reference: SnnGraph, rows: Rows, simulator: Simulator) -> int:
    """Return how many of some encoded rows have other counts in one network than in the other."""
    ours, theirs = (
        simulator.run(network, rows, network.timesteps, RecordOptions(states=True)).counts
        for network in (graph, reference)
    )
    unequal = np.zeros(len(rows), bool)
    for name, counts in ours.items():
        unequal |= (counts != theirs[name]).reshape(len(counts), -1).any(axis=1)
    return int(unequal.sum())


def _differing(
    graph: SnnGraph,
    reference: SnnGraph,
    inputs: Rows,
    simulator: Simulator,
    enough: int,
    workers: Workers | None,
) -> int:
    """Return how many rows have other counts, or at least ``enough``."""
    if workers is None:
        counted: Iterator[int] = (
            differing_rows(graph, reference, inputs[rows], simulator) for rows in _shards(len(inputs))
        )
    else:
        counted = _differing_on(workers, graph, reference, inputs)
    found = 0
    for count in counted:
        found += count
        if found >= enough:
            break
    return found


INPUT = "input:"
"""Put before the name of an input among the arrays of a task."""


def _differing_on(workers: Workers, graph: SnnGraph, reference: SnnGraph, inputs: Rows) -> Iterator[int]:
    """Yield how many of consecutive rows have other counts, counted by workers."""
    everything = frozenset(node.name for node in graph)
    shared = tuple(Shared.of(packed_graph(each, everything)) for each in (graph, reference))
    several = isinstance(inputs, Batch)
    arrays = inputs.arrays if isinstance(inputs, Batch) else {"": inputs}

    def task(rows: slice) -> Task:
        sent = {INPUT + name: narrow(array[rows]) for name, array in arrays.items()}
        label = f"rows {rows.start} to {min(rows.stop, len(inputs)) - 1} of {graph.name}"
        return Task("differing", packed({"several": several}, sent), shared, label)

    return (int(done.values["differing"]) for done in workers.results(map(task, _shards(len(inputs)))))


def _measured(
    graph: SnnGraph,
    spikes_per_step: int | None,
    settle_steps: int,
    basis: Basis,
    inputs: IntArray,
    simulator: Simulator,
    workers: Workers | None,
) -> Exact:
    setting = variant(graph, spikes_per_step, settle_steps)
    activity: dict[str, Activity] = {}
    size = SHARD
    if workers is not None:
        simulator, size = WorkersSimulator(simulator, workers), SPREAD
    for rows in _shards(len(inputs), size):
        trace = simulator.run(setting, inputs[rows], setting.timesteps, RecordOptions(activity=True))
        for name, counted in trace.activity.items():
            activity[name] = activity[name] + counted if name in activity else counted
    found = costs.count(setting, activity, len(inputs), setting.timesteps)
    proved = 0 if spikes_per_step is None else proved_settle_steps(graph, spikes_per_step)
    return Exact(
        spikes_per_step,
        settle_steps,
        basis,
        proved,
        latency_steps(setting, setting.timesteps),
        found.synops,
        found.spikes_per_neuron_per_step,
    )


def _shards(rows: int, size: int = SHARD) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, rows, size))
