"""Bundles: an artefact written for a target, with its manifest, and the verification of received bundles."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snnc.artefact import Artefact
from snnc.backends import load_backend, manifest
from snnc.backends.golden import make_golden, read_golden, write_golden
from snnc.backends.semantics import Semantics, judge
from snnc.diagnostics import TARGET_LIMIT, Diagnostic
from snnc.errors import ArtefactError, GateError, InputError, InternalError, TargetError, UsageError
from snnc.ir.batch import Given
from snnc.ir.snn import SnnGraph
from snnc.metrics.task import SIGMOID
from snnc.simulation.targets import (
    Backend,
    Bundle,
    Emission,
    Emulating,
    Golden,
    Unsupported,
    VerificationResult,
)
from snnc.source.host import Host
from snnc.writing import replacing_folder

README = "README.md"


@dataclass(frozen=True, slots=True)
class Checked:
    """What :func:`verify` found.

    Attributes:
        content: the manifest.
        verdict: what running the bundle showed; ``None`` where only the hashes were looked at.
    """

    content: manifest.Json
    verdict: VerificationResult | None


def problems(backend: Backend, graph: SnnGraph, host: Host | None = None) -> tuple[Diagnostic, ...]:
    """Return all that keeps a network from the target, as findings with node and cure.

    Args:
        backend: the target.
        graph: the network.
        host: what of its source runs as ordinary ONNX, which no bundle holds.
    """
    nodes = () if host is None else host.nodes
    cure = "the artefact itself is an ONNX model of the whole; or cut these nodes off and run them yourself"
    kept = [
        Unsupported(
            node.name, node.name, f"{node.operator} runs as ordinary ONNX in {_told(node.section)}", cure
        )
        for node in nodes
    ]
    return tuple(_diagnostic(item) for item in (*kept, *backend.check(graph)))


def _told(section: str) -> str:
    return f"{section}, between spikes" if section not in ("prefix", "suffix") else f"the {section}"


def _diagnostic(item: Unsupported) -> Diagnostic:
    return Diagnostic(TARGET_LIMIT, f"{item.node}: {item.reason}", item.origin or item.node, item.help)


def require_fit(backend: Backend, artefact: Artefact) -> None:
    """Refuse a network that the target cannot take.

    Raises:
        TargetError: with all findings; its message tells the first.
    """
    found = problems(backend, artefact.graph, artefact.host)
    for first in found[:1]:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise TargetError(
            f"the network does not fit {backend.name}: {first.message}; {first.help}{more}", found
        )


def deploy(
    artefact: Artefact,
    backend: Backend,
    directory: Path,
    *,
    rows: Given | Golden | None = None,
    source: Path | None = None,
    force: bool = False,
    semantics: Semantics | None = None,
    accept_semantics: bool = False,
) -> Bundle:
    """Write an artefact for a target. The folder appears whole or not at all.

    Args:
        artefact: the network.
        backend: the target.
        directory: the folder to make.
        rows: inputs for the golden vectors, as the artefact takes them, or the vectors; made up by default.
        source: the artefact's file, for the manifest.
        force: replace an earlier bundle.
        semantics: what was measured of a target with rules of its own; by default on the golden rows.
        accept_semantics: write the bundle although the target computes something else than the artefact.

    Raises:
        TargetError: the network does not fit the target, or the target's rules differ from the artefact's,
            and nobody has accepted that.
        UsageError: the folder exists.
        InputError: it cannot be written, or holds something else than a bundle.
        InternalError: the target computes something else although it should not.
    """
    check_directory(directory, force=force)
    require_fit(backend, artefact)
    golden = rows if isinstance(rows, Golden) else make_golden(artefact, rows)
    if semantics is None:
        semantics = judge(artefact, backend, golden.q)
    semantics.require(backend, accepted=accept_semantics)
    if isinstance(backend, Emulating):
        y = backend.emulate(artefact.graph, golden.q)
        if semantics.equal and not np.array_equal(y, golden.y):
            raise InternalError(
                f"{backend.name}, profile {backend.profile}, gives other results than the reference, "
                "although no difference is declared: report this network, and use another target"
            )
        golden = Golden(golden.x, golden.q, y)
    origin = {
        "path": "" if source is None else str(source),
        "sha256": "" if source is None else manifest.file_hash(source),
    }
    with replacing_folder(directory) as folder:
        emission = backend.emit(artefact, golden, folder)
        write_golden(golden, folder)
        content = manifest.describe(artefact, backend, golden, emission, origin, semantics)
        (folder / README).write_text(_readme(artefact, backend, content, emission), encoding="utf-8")
        files = manifest.write(folder, content)
    return Bundle(directory, files)


def verify(directory: Path, *, run: bool = True) -> Checked:
    """Check the hashes of a bundle, then run it on its golden vectors.

    Args:
        directory: the bundle.
        run: whether to run it; ``False`` for the hashes alone.

    Raises:
        ArtefactError: it is damaged, altered, foreign or made by a newer snnc.
        UsageError: what would run it is not installed.
        GateError: it gives other results than expected.
    """
    content = manifest.read(directory)
    manifest.check_files(directory, content)
    golden = read_golden(directory)
    if not run:
        return Checked(content, None)
    try:
        backend = load_backend(content["target"], content["profile"])
    except (KeyError, TypeError, UsageError, InputError) as error:
        raise ArtefactError(f"{directory}: for a target that this snnc does not know ({error})") from None
    verdict = backend.verify(directory, golden)
    if verdict.wrong:
        raise GateError(
            f"{directory}: {verdict.runner} gives other results than expected for {verdict.wrong} of "
            f"{verdict.rows} golden inputs; do not use this bundle with it"
        )
    return Checked(content, verdict)


def check_directory(directory: Path, *, force: bool) -> None:
    """Refuse a folder that could not be written, before the work begins.

    Raises:
        UsageError: it exists and is not to be replaced.
        InputError: it is something else than a bundle, or its parent is missing or closed.
    """
    try:
        exists = directory.exists() or directory.is_symlink()
    except OSError as error:
        raise InputError(f"{directory}: cannot be written ({error.strerror}); name another output") from error
    if exists:
        if not directory.is_dir() or directory.is_symlink():
            raise InputError(f"{directory} is not a folder: name another output")
        if not force:
            raise UsageError(f"{directory} exists already: name another folder, or replace it by --force")
        if any(directory.iterdir()):
            try:
                manifest.read(directory)
            except InputError:
                raise InputError(
                    f"{directory} is not a bundle, so even --force does not replace it: name another folder, "
                    "or remove it yourself"
                ) from None
    parent = directory.absolute().parent
    if not parent.is_dir():
        raise InputError(f"the folder {parent} does not exist: make it first")
    if not os.access(parent, os.W_OK):
        raise InputError(f"the folder {parent} cannot be written: choose another")


def _readme(artefact: Artefact, backend: Backend, content: manifest.Json, emission: Emission) -> str:
    """Return the text for whoever integrates the bundle."""
    graph = artefact.graph
    latency = content["latency"]
    steps, other = emission.steps, ""
    if steps is None:
        steps = (
            f"T = {latency['timesteps']} and K = {latency['settle_steps']} settle steps; latency\n"
            f"  {latency['latency_steps']} steps, {latency['depth']} populations deep;\n"
            f"  {manifest.schedule_rule(graph.schedule)}"
        )
        other = f"\n- Another T than {latency['timesteps']} runs, but thresholds were not calibrated for it."
    return f"""# {graph.name} for {backend.name}

A spiking network, compiled by snnc {content["snnc_version"]} from `{artefact.metadata.source_path}` (SHA-256
`{artefact.metadata.source_sha256}`). Target `{backend.name}`, profile `{backend.profile}`.
{_agreement(content)}

`snnc verify .` checks the files against `{manifest.NAME}` and runs the bundle on the vectors in
`{content["golden"]["file"]}`.

## Input and output

{_inputs(content, graph)}
- Steps: {steps}.
- Spikes carry: {content["payload"]}. Reset: {content["neuron"]["reset"]}.
{_outputs(content)}{other}

{emission.guide.strip()}
"""


def _inputs(content: manifest.Json, graph: SnnGraph) -> str:
    """Return a line for each input."""
    lines = []
    for data, node in zip(content.get("inputs") or [content["input"]], graph.encoders, strict=True):
        low, high = node.range
        shape = " x ".join(map(str, data["shape"]))
        affine = "(x * gain + offset) / scale" if data["gain"] is not None else "x / scale"
        values = f"scale = {data['scale']!r}"
        if data["gain"] is not None:
            values += ", gain and offset per channel in `MANIFEST.json`"
        which = f" `{data['name']}`" if "name" in data else ""
        when = "a frame for each step, each quantised by itself" if node.varies else "quantised once"
        lines.append(
            f"- Input{which}: {shape}, channels first, {when}, rounding half to even:\n"
            f"  `q = clip(rint({affine}), {low}, {high})`; {values}.{_before(data)}"
        )
    return "\n".join(lines)


def _outputs(content: manifest.Json) -> str:
    """Return a line for each output."""
    lines = []
    for output in content.get("outputs") or [content["output"]]:
        which = f" `{output['name']}`" if "name" in output else ""
        factor = f"{output['scale']!r} * gain" if "gain" in output else repr(output["scale"])
        where = ", gain per channel in `MANIFEST.json`" if "gain" in output else ""
        classes = (
            " Of class scores the class\n  is the index of the largest `y`, the lowest on ties; one output "
            "that decides says yes above 0. Logits, if\n  needed:"
        )
        shape = " x ".join(map(str, output["shape"]))
        leaky = "leak" in output
        summed = "a potential that leaks, after the last step" if leaky else "summed over all steps"
        over = "" if leaky else " / T"
        told = classes if len(output["shape"]) == 1 and "gain" not in output else " Channels first. Values:"
        if (behind := output.get("behind")) is not None:  # spikes compute it
            half = ", of which\n  a decision says yes above 0.5" if behind == SIGMOID else ""
            told = f" Channels first. Values\n  behind the source's {behind}{half}:"
        lines.append(f"- Output{which}: {shape} int32, `y`, {summed}.{told} `y * {factor}{over}`{where}.")
    return "\n".join(lines)


def _agreement(content: manifest.Json) -> str:
    """Return how the bundle's results relate to the artefact's."""
    if content["exact"]:
        return "Its results equal those of snnc's reference bit for bit."
    semantics = content["semantics"]
    if not semantics["differences"]:
        return "Its results equal those of snnc's reference within the bound below."
    listed = "".join(f"\n- {text};" for text in semantics["differences"])
    measured = semantics["measured"]
    cost = f"the same class for {measured['same_class']} of {measured['rows']} rows"
    if measured["same_class"] is None:
        found = "no number" if measured["correlation"] is None else f"{measured['correlation']:.4f}"
        cost = f"a correlation of {found} with its numbers on {measured['rows']} rows"
    if measured["points_lost"] is not None:
        cost += f", and {measured['points_lost']:.1f} points of accuracy lost"
    return f"\n\n**It does not compute the same as the artefact:**\n{listed[:-1]}.\n\nMeasured: {cost}."


def _before(data: manifest.Json) -> str:
    """Return what happens to a raw row before it is the ``x`` of the formula."""
    if data["preprocessing"] is None:
        return " `x` is what the source network takes, channels first."
    return " `x` is a raw row after the preprocessing and the layout in `MANIFEST.json`, channels first."
