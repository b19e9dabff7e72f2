"""What a backend is: what it can express, what it writes, and how that is verified."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from snnc.errors import UsageError
from snnc.ir.batch import Batch, Rows
from snnc.ir.graph import IntArray
from snnc.ir.operations import Firing, firing, unknown
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


OVER_TIME = "use the target c99 or spiking-onnx"


def unknown_operations(
    graph: SnnGraph,
    kinds: Collection[type] = COMMON_KINDS,
    rules: Collection[Firing] = COMMON_RULES,
    *,
    over_time: bool = False,
) -> tuple[Unsupported, ...]:
    """Return the nodes of unknown kinds or settings; every ``check`` of a target begins with this.

    Args:
        graph: the network.
        kinds: of nodes, that the target knows.
        rules: by which populations may fire.
        over_time: whether the target knows inputs that are frames, and leaky read-outs.
    """

    def reason(node: SnnNode) -> tuple[str, str] | None:
        if (found := unknown(node)) is not None:
            return found, "use the version of snnc that made the network"
        if type(node) not in kinds:
            return f"the target knows no {type(node).__name__}", "choose another target"
        if isinstance(node, IntegrateFire) and firing(node) not in rules:
            return f"the target knows no neurons that fire by {firing(node).value!r}", "choose another target"
        if isinstance(node, Encode) and node.varies and not over_time:
            return "the target knows no input that is frames: it sees the same row in each step", OVER_TIME
        if isinstance(node, Readout) and node.leaky and not over_time:
            return "the target knows no leaky read-out: its outputs are sums", OVER_TIME
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


@runtime_checkable
class LaidOut(Protocol):
    """A backend whose files can be laid out in several ways, for the tools that take them.

    Attributes:
        layout: the name of the one that this backend writes.
    """

    layout: str

    def laid_out(self, layout: str) -> Backend:
        """Return the same backend for another layout.

        Raises:
            UsageError: there is no such layout.
        """
        ...
