"""What a simulator and a backend are: the protocols that everything that runs or emits follows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from snnc.errors import InputError, UsageError
from snnc.ir.bounds import MOST_TIMESTEPS
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.operations import Firing, check_known, firing, unknown
from snnc.ir.snn import (
    ChannelWeight,
    Concat,
    ConstantCurrent,
    Convolution,
    CountMaxPool,
    CurrentMaxPool,
    Encode,
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

if TYPE_CHECKING:
    from snnc.artefact import Artefact


@dataclass(frozen=True, slots=True)
class RecordOptions:
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

    def add_population(
        self, node: IntegrateFire, train: NumberArray, v: NumberArray, record: RecordOptions
    ) -> None:
        """Keep what ``record`` asks for of one population's spikes and final potentials."""
        if record.states:
            self.counts[node.name] = train.sum(axis=0).astype(np.int32)
            self.potentials[node.name] = v.astype(np.int32 if node.integer else np.float32)
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
        record: RecordOptions = ...,
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
        verified_by: what checks that, in words.
        profiles: the forms that it writes, name -> one line; the first is the default.
        takes: what networks it takes, in words.
        exactness: how its results agree with the reference, where that depends on the network.
        sometimes_exact: whether they equal it bit for bit on those networks for which the target follows no
            rules of its own.
        every_integer_network: whether it takes all integer networks whose sums it can hold.
    """

    summary: str
    exact: bool
    verified_by: str
    profiles: Mapping[str, str]
    takes: str
    exactness: str = ""
    sometimes_exact: bool = False
    every_integer_network: bool = False

    @property
    def agreement(self) -> str:
        """How its results agree with the reference, in words."""
        return self.exactness or ("bit for bit" if self.exact else "no")

    def chosen(self, target: str, profile: str | None) -> str:
        """Return ``profile``, or the first one for ``None``.

        Raises:
            UsageError: the target has no such profile.
        """
        if profile is None:
            return next(iter(self.profiles))
        if profile not in self.profiles:
            known = ", ".join(self.profiles)
            raise UsageError(f"the target {target} has no profile {profile!r}; known: {known}")
        return profile


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """A few inputs and what the network has to answer, for whoever runs it elsewhere.

    Attributes:
        x: (rows, *input shape) float32, the canonical input of the analogue encoder.
        q: (rows, *input shape) int32, the same quantised: what a target without floats is given.
        y: (rows, classes) int32, the read-out after T + K steps.
        counts: (rows, *shape) int32 per population, final ``N``; empty where a bundle was read back.
        potentials: (rows, *shape) int32 per population, final ``v``; likewise.
    """

    x: FloatArray
    q: IntArray
    y: IntArray
    counts: Mapping[str, IntArray] = field(default_factory=dict)
    potentials: Mapping[str, IntArray] = field(default_factory=dict)

    @property
    def answers(self) -> int:
        """Number of different outputs: rows that all give the same one would prove nothing."""
        return len(np.unique(self.y.reshape(len(self.y), -1), axis=0))


@dataclass(frozen=True, slots=True)
class Emission:
    """What a backend tells of the files that it wrote.

    Attributes:
        guide: Markdown for whoever integrates them, without a first-level heading.
        facts: for the manifest: memory, form, semantics and whatever else the target needs; JSON.
        reset: what happens to the potential after a spike, where it is not the artefact's rule.
        payload: what a spike carries, likewise.
        steps: how many steps it runs, likewise.
    """

    guide: str
    facts: Mapping[str, Any]
    reset: str | None = None
    payload: str | None = None
    steps: str | None = None


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """What running a bundle on its golden inputs showed.

    Attributes:
        runner: what ran it, with its version.
        rows: number of inputs.
        wrong: number of inputs whose result was not the expected one.
        compared: what was compared, in words.
        foreign: programs in the bundle that are not what this snnc writes, since another version wrote it.
    """

    runner: str
    rows: int
    wrong: int
    compared: str
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A directory that was written for a target.

    Attributes:
        directory: where.
        files: relative paths of all files, sorted.
    """

    directory: Path
    files: tuple[str, ...]


COMMON_KINDS: frozenset[type] = frozenset(
    {
        *(Encode, Convolution, Linear, ChannelWeight, ConstantCurrent, SumPool, CountMaxPool),
        *(CurrentMaxPool, Concat, Reshape, Pad, Slice, IntegrateFire, Readout),
    }
)
COMMON_RULES = frozenset({Firing.PLAIN, Firing.LIMITED, Firing.HESITANT, Firing.GRADED})
"""What every target was written to take or to refuse. A new kind or rule is refused by all of them until one
passes it to :func:`unknown_operations`."""


def unknown_operations(
    graph: SnnGraph,
    kinds: Collection[type] = COMMON_KINDS,
    rules: Collection[Firing] = COMMON_RULES,
) -> tuple[Unsupported, ...]:
    """Return the nodes of which a target does not know what they compute: each ``check`` begins so.

    Args:
        graph: the network.
        kinds: of nodes, that the target knows.
        rules: by which populations may fire.
    """

    def reason(node: SnnNode) -> tuple[str, str] | None:
        if (found := unknown(node)) is not None:
            return found, "use the version of snnc that made the network"
        if type(node) not in kinds:
            return f"the target knows no {type(node).__name__}", "choose another target"
        if isinstance(node, IntegrateFire) and firing(node) not in rules:
            return f"the target knows no neurons that fire by {firing(node).value!r}", "choose another target"
        return None

    return tuple(
        Unsupported(node.name, node.origin, *found) for node in graph if (found := reason(node)) is not None
    )


class Backend(Protocol):
    """Emits an artefact for something else to run.

    Attributes:
        name: of the target.
        capabilities: what it can express.
        profile: the form that this one writes, among those of its capabilities.
    """

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    profile: str

    def check(self, graph: SnnGraph) -> tuple[Unsupported, ...]:
        """Return every problem that the target would have, with node and reason."""
        ...

    def emit(self, artefact: Artefact, golden: Golden, directory: Path) -> Emission:
        """Write the target's files into an existing, empty ``directory``; ``check`` found no problem.

        Raises:
            TargetError: something that only shows while writing.
        """
        ...

    def verify(self, directory: Path, golden: Golden) -> VerificationResult:
        """Run a bundle on its golden inputs, and compare.

        Whoever calls may not know who made the bundle: it is read as data, and nothing of it is executed.

        Raises:
            UsageError: what would run it is not installed.
            ArtefactError: its files are not of the form that this backend writes.
        """
        ...


@runtime_checkable
class Emulating(Protocol):
    """A backend whose target follows rules of its own, and that can tell beforehand what comes of them.

    Where the rules make a difference, a bundle is written only once someone has seen what it costs.

    Attributes:
        advice: how to get a network for which they make none, one line.
    """

    advice: ClassVar[str]

    def differences(self, graph: SnnGraph) -> tuple[str, ...]:
        """Say in which points the target's rules differ from the network's; empty if results are equal."""
        ...

    def emulate(self, graph: SnnGraph, q: IntArray) -> IntArray:
        """Return what the target will answer, (rows, classes) int32, to quantised inputs."""
        ...


def check_run(
    graph: SnnGraph, inputs: NumberArray, timesteps: int, given: Mapping[str, NumberArray] | None
) -> Mapping[str, NumberArray]:
    """Check the arguments of a simulation, and return ``given`` or an empty mapping.

    Raises:
        InputError: saying what does not fit.
    """
    check_known(graph)
    shape = graph.encoder.shape
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
            f"{graph.name} runs for T = {graph.timesteps} alone, for which its step functions were made, not "
            f"T = {timesteps}; convert it again for T = {timesteps}"
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
