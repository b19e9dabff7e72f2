"""The protocols of simulators and backends."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from snnc.errors import InputError, UsageError
from snnc.ir.batch import Batch, Given, Rows, arrays_by_name
from snnc.ir.bounds import MOST_TIMESTEPS, function_overflow
from snnc.ir.graph import IntArray, NumberArray
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
        activity: how often each neuron fired, and each function of counts, summed over the batch.
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
            inputs: (batch, *input shape), the quantised input ``q`` of :class:`Encode`; of several inputs one
                array each, by name.
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
    """One node or setting that a target does not support.

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
        takes: the networks that it supports, in words.
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
    """A few inputs and the expected answers, by which other runtimes are checked.

    Attributes:
        x: (rows, *input shape) float32, the canonical input of the analogue encoder, for each input.
        q: (rows, *input shape) int32, the same quantised: the input of targets without floats.
        y: (rows, *shape) int32, the read-out of each output after T + K steps.
        counts: (rows, *shape) int32 per population, final ``N``; empty where a bundle was read back.
        potentials: (rows, *shape) int32 per population, final ``v``; likewise.
    """

    x: Rows
    q: Rows
    y: Rows
    counts: Mapping[str, IntArray] = field(default_factory=dict)
    potentials: Mapping[str, IntArray] = field(default_factory=dict)

    @property
    def answers(self) -> int:
        """Number of different outputs: if all were equal, the comparison would prove nothing."""
        arrays = self.y.arrays.values() if isinstance(self.y, Batch) else (self.y,)
        flat = np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)
        return len(np.unique(flat, axis=0))


@dataclass(frozen=True, slots=True)
class Emission:
    """A backend's description of the files that it wrote.

    Attributes:
        guide: Markdown for the integration, without a first-level heading.
        facts: for the manifest: memory, form, semantics and other facts about the target; JSON.
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
    """The result of running a bundle on its golden inputs.

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
    """Return the nodes of unknown kinds or settings; every ``check`` of a target begins with this.

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


def several_inputs_or_outputs(graph: SnnGraph) -> tuple[Unsupported, ...]:
    """Return what a target with one input and one answer per row cannot take: more of either, and maps."""
    found = []
    if len(graph.inputs) > 1:
        first = graph.inputs[1]
        reason = f"a second of {len(graph.inputs)} inputs, and the target takes one"
        found.append(Unsupported(first.name, first.origin, reason, "use the target c99 or spiking-onnx"))
    if len(graph.outputs) > 1:
        second = graph[graph.outputs[1]]
        reason = f"a second of {len(graph.outputs)} outputs, and the target gives one"
        cure = "use the target c99 or spiking-onnx, or convert with --keep-output"
        found.append(Unsupported(second.name, second.origin, reason, cure))
    for readout in graph.readouts.values():
        if len(readout.shape) > 1:
            reason = f"a read-out of the shape {readout.shape}, and the target's is a vector"
            cure = "use the target c99 or spiking-onnx"
            found.append(Unsupported(readout.name, readout.origin, reason, cure))
    return tuple(found)


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
        """Return every node or setting that the target does not support, with the reason."""
        ...

    def emit(self, artefact: Artefact, golden: Golden, directory: Path) -> Emission:
        """Write the target's files into an existing, empty ``directory``; ``check`` found no problem.

        Raises:
            TargetError: a problem that is found only while writing.
        """
        ...

    def verify(self, directory: Path, golden: Golden) -> VerificationResult:
        """Run a bundle on its golden inputs, and compare.

        The origin of the bundle is unknown: it is read as data, and nothing in it is executed.

        Raises:
            UsageError: what would run it is not installed.
            ArtefactError: its files are not of the form that this backend writes.
        """
        ...


@runtime_checkable
class Emulating(Protocol):
    """A backend whose target follows rules of its own, and that can compute their results beforehand.

    If the rules change the results, a bundle is written only after the user has accepted the measured loss.

    Attributes:
        advice: how to get a network for which the results are equal, one line.
    """

    advice: ClassVar[str]

    def differences(self, graph: SnnGraph) -> tuple[str, ...]:
        """Say in which points the target's rules differ from the network's; empty if results are equal."""
        ...

    def emulate(self, graph: SnnGraph, q: IntArray) -> IntArray:
        """Return the answers that the target will give to quantised inputs, (rows, classes) int32."""
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
            f"{graph.name} runs for T = {graph.timesteps} alone, for which its step functions and functions "
            f"of counts were made, not T = {timesteps}; convert it again for T = {timesteps}"
        )
    if not graph.max_timesteps and (found := function_overflow(graph, timesteps)) is not None:
        raise InputError(f"{graph.name}: {found}; convert it again with fewer levels or steps")
    arrays = arrays_by_name(inputs, [node.name for node in graph.inputs], graph.name)
    for node in graph.inputs:
        array = arrays[node.name]
        which = f" of {node.name!r}" if len(arrays) > 1 else ""
        if array.ndim != len(node.shape) + 1 or array.shape[1:] != node.shape:
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
