"""What a simulator and a backend are: the protocols that everything that runs or emits follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from snnc.errors import InputError
from snnc.ir.graph import IntArray, NumberArray
from snnc.ir.snn import Encode, IntegrateFire, SnnGraph

if TYPE_CHECKING:
    from snnc.artefact import Artefact


@dataclass(frozen=True, slots=True)
class Record:
    """What a simulation keeps beside its outputs.

    Attributes:
        states: final spike counts ``N`` and potentials ``v`` of every population.
        activity: how often each neuron fired, summed over the batch.
        trains: names of nodes whose values in every step are kept.
        until: names of nodes to compute; only what they need is run. Empty for the whole network.
    """

    states: bool = False
    activity: bool = False
    trains: tuple[str, ...] = ()
    until: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Activity:
    """How often each neuron of a population fired, summed over batch and steps.

    Attributes:
        events: (*shape) int64, steps in which it sent anything.
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
    """What a simulation gives back.

    Attributes:
        timesteps: T of the run.
        samples: number of inputs.
        outputs: (batch, classes), the read-out: int32, or float32 before quantisation; ``None`` if
            the run stopped before it.
        counts: (batch, *shape) int32 per population, final ``N``.
        potentials: (batch, *shape) per population, final ``v``: int32 or float32.
        trains: (T + K, batch, *shape) per recorded node, int32 or float32.
        activity: events per population.
    """

    timesteps: int
    samples: int
    outputs: NumberArray | None = None
    counts: dict[str, IntArray] = field(default_factory=dict)
    potentials: dict[str, NumberArray] = field(default_factory=dict)
    trains: dict[str, NumberArray] = field(default_factory=dict)
    activity: dict[str, Activity] = field(default_factory=dict)

    def add_population(self, node: IntegrateFire, train: NumberArray, v: NumberArray, record: Record) -> None:
        """Keep what ``record`` asks for of one population's spikes and final potentials."""
        if record.states:
            self.counts[node.name] = train.sum(axis=0).astype(np.int32)
            self.potentials[node.name] = v.astype(np.int32 if node.integer else np.float32)
        if record.activity:
            self.activity[node.name] = Activity.of(train)

    @property
    def logits(self) -> NumberArray:
        """The read-out, (batch, classes).

        Raises:
            InputError: the run stopped before the read-out.
        """
        if self.outputs is None:
            raise InputError("this simulation stopped before the read-out; run it without `until`")
        return self.outputs


class Simulator(Protocol):
    """Runs a spiking network. Integer networks give the same bits on every simulator."""

    name: ClassVar[str]

    def run(
        self,
        graph: SnnGraph,
        inputs: NumberArray,
        timesteps: int,
        record: Record = ...,
        /,
        given: Mapping[str, NumberArray] | None = None,
    ) -> Trace:
        """Simulate a batch.

        Args:
            graph: the network; all its nodes in integers, or all in float32, or (while a pass
                quantises layer by layer) the part that is run.
            inputs: (batch, *input shape), the quantised input ``q`` of :class:`Encode`.
            timesteps: T; the network's settle steps follow.
            record: what to keep.
            given: spike trains, (T + K, batch, *shape), of nodes that need not be simulated again.

        Returns:
            Outputs and what was recorded.

        Raises:
            InputError: inputs of the wrong shape or type, or a T beyond the proved bounds.
        """
        ...


@dataclass(frozen=True, slots=True)
class Unsupported:
    """One thing that a target cannot take.

    Attributes:
        node: name of the node.
        origin: name of the ONNX node that it came from.
        reason: what is not supported.
        help: what to do about it.
    """

    node: str
    origin: str
    reason: str
    help: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can express.

    Attributes:
        summary: one line for the table of targets.
        exact: whether its results equal the reference bit for bit.
        verified_by: how that is checked.
    """

    summary: str
    exact: bool
    verified_by: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A directory that a backend wrote.

    Attributes:
        directory: where.
        files: relative paths of all files, sorted.
    """

    directory: Path
    files: tuple[str, ...]


class Backend(Protocol):
    """Emits an artefact for something else to run."""

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]

    def check(self, graph: SnnGraph) -> tuple[Unsupported, ...]:
        """Return every problem that the target would have, with node and reason."""
        ...

    def emit(self, artefact: Artefact, directory: Path) -> Bundle:
        """Write the artefact for the target into ``directory``."""
        ...


def check_run(
    graph: SnnGraph, inputs: NumberArray, timesteps: int, given: Mapping[str, NumberArray] | None
) -> Mapping[str, NumberArray]:
    """Check the arguments of a simulation, and return ``given`` or an empty mapping.

    Raises:
        InputError: saying what does not fit.
    """
    shape = next(node.shape for node in graph if isinstance(node, Encode))
    if timesteps < 1:
        raise InputError(f"T must be at least 1, not {timesteps}")
    if graph.max_timesteps and timesteps > graph.max_timesteps:
        raise InputError(
            f"T = {timesteps} is beyond {graph.max_timesteps}, up to which the integers of "
            f"{graph.name} were proved not to overflow; convert again with a larger T"
        )
    if inputs.ndim != len(shape) + 1 or inputs.shape[1:] != shape:
        raise InputError(f"inputs of shape {inputs.shape} do not fit the network's (batch, {shape})")
    if inputs.dtype.kind != "i":
        raise InputError(f"inputs must be quantised integers, not {inputs.dtype}; see Artefact.encode")
    steps = timesteps + graph.settle_steps
    for name, train in (given or {}).items():
        expected = (steps, len(inputs), *graph[name].shape)
        if train.shape != expected:
            raise InputError(f"the given spikes of {name!r} have shape {train.shape}, not {expected}")
    return given or {}
