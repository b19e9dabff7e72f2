"""What a simulator is: what it is asked to keep, and what a run gives.

What a backend is stands in :mod:`snnc.simulation.targets`; its names are offered here as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np

from snnc.errors import InputError, UsageError
from snnc.ir.batch import Batch, Given, arrays_by_name
from snnc.ir.bounds import MOST_TIMESTEPS, function_overflow
from snnc.ir.graph import IntArray, NumberArray
from snnc.ir.operations import check_known
from snnc.ir.snn import Encode, IntegrateFire, SnnGraph, SnnNode
from snnc.simulation.targets import Backend as Backend
from snnc.simulation.targets import Bundle as Bundle
from snnc.simulation.targets import Capabilities as Capabilities
from snnc.simulation.targets import Emission as Emission
from snnc.simulation.targets import Emulating as Emulating
from snnc.simulation.targets import Golden as Golden
from snnc.simulation.targets import Unsupported as Unsupported
from snnc.simulation.targets import VerificationResult as VerificationResult
from snnc.simulation.targets import several_inputs_or_outputs as several_inputs_or_outputs
from snnc.simulation.targets import unknown_operations as unknown_operations


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """What a simulation keeps beside its outputs.

    Attributes:
        states: final spike counts ``N`` and potentials ``v`` of every population.
        activity: how often each neuron fired, and each function of counts, summed over the batch.
        trains: names of nodes whose values in every step are kept.
        until: names of nodes to compute; only what they need is run. Empty for the whole network.
        potentials: whether the states hold the potentials, too; without them a simulator may be quicker.
    """

    states: bool = False
    activity: bool = False
    trains: tuple[str, ...] = ()
    until: tuple[str, ...] = ()
    potentials: bool = True


@dataclass(frozen=True, slots=True)
class Activity:
    """How often each neuron of a population fired, summed over batch and steps.

    Attributes:
        events: (*shape) int64, steps in which it sent a spike.
        units: (*shape) int64, ``sum |s|``: what a unary code sends.
        bits: (*shape) int64, ones in the magnitudes: what binary-weighted thresholds send.
    """

    events: IntArray
    units: IntArray
    bits: IntArray

    @classmethod
    def of(cls, train: NumberArray) -> Activity:
        """Count the events of a spike train, (steps, batch, *shape)."""
        magnitude = np.abs(train).astype(np.int64)
        return cls(
            events=np.count_nonzero(magnitude, axis=(0, 1)).astype(np.int64),
            units=magnitude.sum(axis=(0, 1)),
            bits=np.bitwise_count(magnitude).sum(axis=(0, 1), dtype=np.int64),
        )

    def __add__(self, other: Activity) -> Activity:
        """Add the events of another batch."""
        return Activity(self.events + other.events, self.units + other.units, self.bits + other.bits)


@dataclass(slots=True)
class Trace:
    """The result of a simulation.

    Attributes:
        timesteps: T of the run.
        samples: number of inputs.
        outputs: (batch, *shape) per output, by its name, the read-out: int32, or float32 before quantisation;
            those that the run did not stop before.
        counts: (batch, *shape) int32 per population, final ``N``.
        potentials: (batch, *shape) per population, final ``v``: int32 or float32.
        trains: (T + K, batch, *shape) per recorded node, int32 or float32.
        activity: events per population, and per function of counts that sends events of its own.
        encoded: (batch, *shape) int32 per input behind an island, what was encoded there: none of it is known
            before the segments in front have run.
    """

    timesteps: int
    samples: int
    outputs: dict[str, NumberArray] = field(default_factory=dict)
    counts: dict[str, IntArray] = field(default_factory=dict)
    potentials: dict[str, NumberArray] = field(default_factory=dict)
    trains: dict[str, NumberArray] = field(default_factory=dict)
    activity: dict[str, Activity] = field(default_factory=dict)
    encoded: dict[str, IntArray] = field(default_factory=dict)

    def join(self, other: Trace) -> None:
        """Add what another part of the network did on the same rows."""
        self.outputs |= other.outputs
        self.counts |= other.counts
        self.potentials |= other.potentials
        self.trains |= other.trains
        self.activity |= other.activity
        self.encoded |= other.encoded

    def add_outputs(self, graph: SnnGraph, totals: Mapping[str, NumberArray]) -> None:
        """Keep what read-outs have accumulated, given by the names of their nodes, in the network's order."""
        given = zip(graph.output_names, graph.outputs, strict=True)
        self.outputs |= {name: totals[node] for name, node in given if node in totals}

    def add_population(
        self, node: IntegrateFire, train: NumberArray, v: NumberArray, record: RecordOptions
    ) -> None:
        """Keep the parts of one population's spikes and final potentials that ``record`` requests."""
        if record.states:
            self.counts[node.name] = train.sum(axis=0).astype(np.int32)
            self.potentials[node.name] = v.astype(np.int32 if node.integer else np.float32)
        if record.activity:
            self.activity[node.name] = Activity.of(train)

    def add_function(self, node: SnnNode, train: NumberArray, record: RecordOptions) -> None:
        """Keep the activity of a function of counts, which sends events of its own, if it is requested."""
        if record.activity:
            self.activity[node.name] = Activity.of(train)

    def density(self, settle_steps: int = 0) -> dict[str, float]:
        """Return the share of the neurons of each population that fired in a step.

        The activity must have been recorded.

        Args:
            settle_steps: K of the network.
        """
        places = (self.timesteps + settle_steps) * max(self.samples, 1)
        return {
            name: round(float(activity.events.mean()) / places, 4) for name, activity in self.activity.items()
        }

    @property
    def logits(self) -> NumberArray:
        """The read-out of the one output, (batch, *shape).

        Raises:
            InputError: the run stopped before the read-out.
            UsageError: there are several outputs.
        """
        if not self.outputs:
            raise InputError("this simulation stopped before the read-out; run it without `until`")
        if len(self.outputs) > 1:
            listed = ", ".join(map(repr, self.outputs))
            raise UsageError(f"there are {len(self.outputs)} outputs, {listed}: take them from `outputs`")
        return next(iter(self.outputs.values()))


class Simulator(Protocol):
    """Runs a spiking network. Integer networks give the same bits on every simulator."""

    name: ClassVar[str]

    def run(
        self,
        graph: SnnGraph,
        inputs: Given,
        timesteps: int,
        record: RecordOptions = ...,
        /,
        given: Mapping[str, NumberArray] | None = None,
    ) -> Trace:
        """Simulate a batch.

        Args:
            graph: the network; all its nodes in integers, or all in float32, or (while a pass
                quantises layer by layer) the part that is run.
            inputs: (batch, *input shape), the quantised input ``q`` of :class:`Encode`, or of frames
                (batch, T, *input shape); of several inputs one array each, by name.
            timesteps: T; the network's settle steps follow.
            record: what to keep.
            given: spike trains, (T + K, batch, *shape), of nodes that need not be simulated again.

        Returns:
            Outputs and what was recorded.

        Raises:
            InputError: inputs of the wrong shape or type, or a T beyond the proved bounds.
        """
        ...


def check_run(
    graph: SnnGraph, inputs: Given, timesteps: int, given: Mapping[str, NumberArray] | None
) -> tuple[Batch, Mapping[str, NumberArray]]:
    """Check the arguments of a simulation; return every input by its name, and ``given`` or an empty mapping.

    Raises:
        InputError: saying what does not fit.
    """
    check_known(graph)
    if timesteps < 1:
        raise InputError(f"T must be at least 1, not {timesteps}")
    if graph.max_timesteps and timesteps > graph.max_timesteps:
        cure = f"convert it again for T = {timesteps}"
        if timesteps > MOST_TIMESTEPS:  # for which no integers are proved
            cure = "convert it with --precision float32"
        raise InputError(
            f"T = {timesteps} is beyond {graph.max_timesteps}, up to which the integers of "
            f"{graph.name} were proved not to overflow; run it for fewer steps, or {cure}"
        )
    if graph.only_timesteps and timesteps != graph.timesteps:
        raise InputError(
            f"{graph.name} runs for T = {graph.timesteps} alone, for which its frames, step functions and "
            f"functions of counts were made, not T = {timesteps}; convert it again for T = {timesteps}"
        )
    if not graph.max_timesteps and (found := function_overflow(graph, timesteps)) is not None:
        raise InputError(f"{graph.name}: {found}; convert it again with fewer levels or steps")
    arrays = arrays_by_name(inputs, [node.name for node in graph.inputs], graph.name)
    for node in graph.inputs:
        array = arrays[node.name]
        which = f" of {node.name!r}" if len(arrays) > 1 else ""
        shape = node.row_shape(timesteps) if isinstance(node, Encode) else node.shape
        if array.shape[1:] != shape:
            if len(shape) > len(node.shape):
                raise InputError(
                    f"inputs{which} of shape {array.shape} are not (batch, T, {node.shape}) for "
                    f"T = {timesteps}: a frame for each step"
                )
            raise InputError(
                f"inputs{which} of shape {array.shape} do not fit the network's (batch, {node.shape})"
            )
        if array.dtype.kind != "i":
            raise InputError(
                f"inputs{which} must be quantised integers, not {array.dtype}; see Artefact.encode"
            )
    batch = Batch(arrays)
    steps = timesteps + graph.settle_steps
    for name, train in (given or {}).items():
        expected = (steps, len(batch), *graph[name].shape)
        if train.shape != expected:
            raise InputError(f"the given spikes of {name!r} have shape {train.shape}, not {expected}")
    return batch, given or {}
