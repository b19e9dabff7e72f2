"""Target ``fpga``: the network as memory images of a core in SystemVerilog, verified by simulating both."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from snnc.artefact import Artefact, load, save
from snnc.backends import manifest
from snnc.backends.fpga import bundle, files, simulate
from snnc.backends.fpga.addresses import beyond
from snnc.backends.fpga.layout import Design
from snnc.backends.fpga.mapper import Designs, Mapped, smaller
from snnc.backends.fpga.parts import DEVICES, Device, description, device
from snnc.backends.fpga.units import units
from snnc.backends.golden import replay
from snnc.backends.programs import foreign
from snnc.errors import ArtefactError, InternalError, UsageError
from snnc.ir.graph import IntArray
from snnc.ir.operations import Firing
from snnc.ir.snn import Gather, IntegrateFire, SnnGraph
from snnc.simulation.targets import (
    COMMON_KINDS,
    COMMON_RULES,
    Capabilities,
    Emission,
    Golden,
    Unsupported,
    VerificationResult,
    unknown_operations,
)

NETWORK = "network.snn.onnx"
"""The artefact: all else is a function of it, its part and the golden vectors, and is checked as such."""

PART, CUSTOM = "part.toml", "custom"
"""Where a part that is no profile is kept in its bundle, and what the manifest calls it."""

CAPABILITIES = Capabilities(
    summary="SystemVerilog for FPGAs: an event-driven core, memory images, all that open tools build it of",
    exact=True,
    verified_by="simulated in Verilator or Icarus; outputs, counts and potentials compared bit for bit, on "
    "random networks and on every bundle; placed and routed, never run on a board",
    profiles={device.name: device.summary for device in DEVICES.values()},
    takes="integer networks whose spikes and potentials fit into the part's block RAM, weights there or in "
    "SDRAM; no functions of counts",
)


class Fpga:
    """Writes memory images, and simulates the core with them."""

    name: ClassVar[str] = "fpga"
    capabilities: ClassVar[Capabilities] = CAPABILITIES

    def __init__(self, profile: str | None = None) -> None:
        """Choose the part.

        Args:
            profile: name of a part, or a TOML file that describes one; ``None`` for the largest.

        Raises:
            UsageError: there is no such part.
            InputError: the file describes none.
        """
        named = CAPABILITIES.chosen(self.name, None) if profile is None else profile
        # A bundle of a part of its own is read back without knowing it: `verify` takes it from the bundle.
        self.device = device(next(iter(DEVICES)) if named == CUSTOM else named)
        self.profile = named if named in DEVICES else CUSTOM
        self.known = named != CUSTOM

    def check(self, graph: SnnGraph) -> tuple[Unsupported, ...]:
        """Return what the core cannot hold, or that the part is too small.

        Raises:
            UsageError: the part is the one of a bundle, and there is none.
        """
        if not self.known:
            raise UsageError(f"the profile {CUSTOM!r} is the part of a bundle; name a file PART.toml instead")
        found = list(unknown_operations(graph, COMMON_KINDS | {Gather}, COMMON_RULES | {Firing.STEPS}))
        for node in graph:
            if not getattr(node, "integer", True):
                reason = "float32 parameters: the core has integers only"
                found.append(Unsupported(node.name, node.origin, reason, "convert with --precision int8"))
        if found:
            return tuple(found)
        read = units(graph)
        if read.problems:
            return tuple(read.problems)
        designs = Designs(read)
        lacking = designs.lacking(self.device)
        if lacking is None:
            return ()
        largest = max(graph, key=lambda node: getattr(getattr(node, "weight", None), "size", 0))
        larger = [each.name for each in DEVICES.values() if designs.lacking(each) is None]
        cure = smaller(designs.narrowest(self.device).sizes, graph.timesteps, self.device)
        if larger:
            cure = f"use --profile {larger[-1]}; {cure}"
        fetched = " and weights in external memory" if self.device.sdram_words else ""
        reason = (
            f"the network takes {lacking} of {self.device.name} with one lane{fetched}; "
            "this node has the most weights"
        )
        return (Unsupported(largest.name, largest.origin, reason, cure),)

    def emit(self, artefact: Artefact, golden: Golden, directory: Path) -> Emission:
        """Write images, sources, and the network that they were made of."""
        mapped = _mapped(artefact.graph, self.device)
        _write(bundle.texts(mapped, self.device, *_vectors(artefact.graph, golden)), directory)
        save(artefact, directory / NETWORK)
        if self.profile == CUSTOM:
            (directory / PART).write_text(description(self.device), encoding="utf-8")
        only = f"T = {mapped.timesteps} alone, layer after layer, each for all its steps"
        return Emission(bundle.guide(mapped, self.device), bundle.facts(mapped, self.device), steps=only)

    def verify(self, directory: Path, golden: Golden) -> VerificationResult:
        """Write the bundle's files anew from its network, compare them, and simulate the new ones."""
        simulator = simulate.require()
        content = manifest.read(directory)
        if NETWORK not in content["files"]:
            raise ArtefactError(f"{directory}: {NETWORK} is missing; deploy again")
        graph = load(directory / NETWORK).graph
        if self.profile == CUSTOM:
            if PART not in content["files"]:
                raise ArtefactError(f"{directory}: {PART} is missing; deploy again")
            self.device, self.known = device(str(directory / PART)), True
        for problem in self.check(graph):
            raise ArtefactError(
                f"{directory / NETWORK}: no network for the core, {problem.reason}; deploy again"
            )
        mapped = _mapped(graph, self.device)
        golden = replay(graph, golden, directory)
        stimulus, scores = _vectors(graph, golden)
        texts = bundle.texts(mapped, self.device, stimulus, scores)
        other = foreign(directory, content, texts)
        if other:
            raise UsageError(
                f"{directory}: {', '.join(other[:3])} of snnc {content.get('snnc_version')}, not what this "
                f"version makes of {NETWORK}, and so not run: verify with that version, or deploy again"
            )
        cycles = mapped.estimate.cycles * len(stimulus) + FILL * mapped.use.external
        if cycles < SHORT and simulate.has("icarus"):
            simulator = "icarus"
        with tempfile.TemporaryDirectory(prefix="snnc-") as name:
            folder = Path(name)
            _write(texts, folder)
            command = simulate.build(simulator, folder, quick=cycles < LONG)
            found = simulate.simulate(command, mapped.design, stimulus, folder)
        wrong = _wrong(graph, mapped.design, golden, scores, found)
        compared = "outputs y, counts N and potentials v, bit for bit"
        return VerificationResult(simulate.version(simulator), len(scores), wrong, compared)


SHORT, LONG = 100_000, 3_000_000
"""Cycles below which Icarus is done before Verilator is compiled, and above which an optimised build pays."""

FILL = 10
"""Cycles in which a word of the external memory is written, at least."""


def _mapped(graph: SnnGraph, part: Device) -> Mapped:
    mapped = Designs(units(graph)).fitted(part)
    if not isinstance(mapped, Mapped):
        raise InternalError(f"{graph.name} does not fit {part.name}, but the check found no problem")
    if wrong := beyond(mapped.design):
        raise InternalError(f"{graph.name}: {wrong[0]}")
    return mapped


def _vectors(graph: SnnGraph, golden: Golden) -> tuple[IntArray, IntArray]:
    """Return golden inputs and outputs as the core takes and gives them, (rows, values)."""
    stimulus = files.stream(golden.q, [node.name for node in graph.encoders])
    return stimulus, files.stream(golden.y, graph.output_names)


def _wrong(
    graph: SnnGraph, design: Design, golden: Golden, scores: IntArray, found: simulate.Simulated
) -> int:
    """Return in how many rows anything differs."""
    differs = (found.scores != scores).any(axis=1)
    for node in graph.of_type(IntegrateFire):
        for expected, got in ((golden.counts, found.counts), (golden.potentials, found.potentials)):
            rows = len(scores)
            differs |= (expected[node.name].reshape(rows, -1) != got[node.name].reshape(rows, -1)).any(axis=1)
    return int(differs.sum())


def _write(texts: Mapping[str, str], folder: Path) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="ascii", newline="\n")
