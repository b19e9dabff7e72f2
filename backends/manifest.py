"""``MANIFEST.json``: what a bundle holds and means, and the SHA-256 of each of its files.

The hashes detect damage and accidental changes; they are no signature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from snnc import __version__
from snnc.analysis import costs
from snnc.analysis.latency import depth, latency_steps
from snnc.artefact import Artefact
from snnc.backends import golden as vectors
from snnc.backends.semantics import Semantics
from snnc.errors import ArtefactError, InputError
from snnc.ir.neuron import Schedule
from snnc.ir.operations import populations
from snnc.ir.snn import Encode, IntegrateFire, Readout, SnnGraph
from snnc.simulation.targets import Backend, Emission, Golden

NAME = "MANIFEST.json"
KIND = "snnc bundle"
SCHEMA_VERSION = 1
"""Raised whenever older versions of snnc would misread a bundle."""

OWN_HASH = "manifest_sha256"

Json = dict[str, Any]


def describe(
    artefact: Artefact,
    backend: Backend,
    golden: Golden,
    emission: Emission,
    source: Mapping[str, Any],
    semantics: Semantics,
) -> Json:
    """Return the manifest of a bundle, but for the hashes of its files.

    Args:
        artefact: the network.
        backend: what wrote the bundle.
        golden: its golden vectors, with the states of the populations.
        emission: what the backend told.
        source: path and SHA-256 of the artefact's file.
        semantics: whether the target computes what the artefact does.
    """
    graph, metadata = artefact.graph, artefact.metadata
    capabilities = backend.capabilities
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "snnc_version": __version__,
        "target": backend.name,
        "profile": backend.profile,
        "exact": semantics.equal and (capabilities.exact or capabilities.sometimes_exact),
        "semantics": semantics.as_dict(),
        "verified_by": capabilities.verified_by,
        "source": {
            "artefact": dict(source),
            "network": {"path": metadata.source_path, "sha256": metadata.source_sha256},
            "pipeline": metadata.pipeline,
        },
        "network": graph.name,
        "classes": list(metadata.classes),
        "neuron": {
            "reset": emission.reset or _reset(graph),
            "settings": _settings(graph),
        },
        "latency": {
            "timesteps": graph.timesteps,
            "settle_steps": graph.settle_steps,
            "depth": depth(graph),
            "schedule": graph.schedule.value,
            "latency_steps": latency_steps(graph, graph.timesteps),
            "max_timesteps": graph.max_timesteps,
            "on_the_target": emission.steps,
        },
        "payload": emission.payload or costs.payload(graph, graph.timesteps),
        **_interface(artefact),
        "golden": {
            "file": vectors.FILE,
            "rows": len(golden.y),
            "distinct_outputs": golden.answers,
            "timesteps": graph.timesteps,
            "states": vectors.state_hashes(golden, graph),
        },
        "facts": dict(emission.facts),
    }


def _settings(graph: SnnGraph) -> list[Json]:
    """Return the settings of every population."""
    return [
        {
            "population": node.name,
            "onnx_node": node.origin,
            "shape": list(node.shape),
            "levels": node.neuron.levels,
            "spikes_per_step": node.neuron.spikes_per_step,
            "memory": rule.remembers,
            "code": node.neuron.code.value,
            "negative_threshold": node.negative_threshold is not None,
            **({"leak": _leak(node)} if node.leaky else {}),
        }
        for node, rule in populations(graph)
    ]


def _reset(graph: SnnGraph) -> str:
    soft = "soft: a spike s subtracts s * threshold from the potential"
    if not any(node.leaky for node in graph.of_type(IntegrateFire)):
        return soft
    return f"{soft}; where `leak` tells reset_by or reset_to, s * reset_by, or it sets the potential"


def _leak(node: IntegrateFire | Readout) -> Json:
    """Return how a potential leaks and is reset: per channel, decays in units of ``2^-15``."""
    names = ("decay", "synapse_decay", "reset_to", "reset_by", "refractory", "fraction_bits")
    found = {name: getattr(node, name, None) for name in names}
    return {
        name: [int(each) for each in value] if isinstance(value, np.ndarray) else value
        for name, value in found.items()
        if value is not None
    }


def _interface(artefact: Artefact) -> Json:
    """Return what goes in and comes out; ``inputs`` and ``outputs`` by name where there are several."""
    graph = artefact.graph
    inputs = {node.name: _input(artefact, node) for node in graph.encoders}
    outputs = {name: _output(artefact, name, node) for name, node in graph.readouts.items()}
    if len(inputs) == len(outputs) == 1:
        return {"input": next(iter(inputs.values())), "output": next(iter(outputs.values()))}
    return {
        "inputs": [{"name": name, **told} for name, told in inputs.items()],
        "outputs": [{"name": name, **told} for name, told in outputs.items()],
    }


def _input(artefact: Artefact, node: Encode) -> Json:
    ends = "-limit, limit" if node.range == (-node.limit, node.limit) else "{}, {}".format(*node.range)
    return {
        "x": "float32, channels first: after the preprocessing and the layout below",
        "q": f"clip(rint((x * gain + offset) / scale), {ends}), half to even, in float32",
        "shape": list(node.shape),
        "scale": node.scale,
        "limit": node.limit,
        "gain": None if node.gain is None else [float(value) for value in node.gain],
        "offset": None if node.offset is None else [float(value) for value in node.offset],
        "preprocessing": artefact.metadata.preprocessing,
        "layout": _layout(artefact, node.name),
        **({"presented": node.presented.value} if node.varies else {}),
    }


def _layout(artefact: Artefact, name: str) -> Json | None:
    if len(artefact.graph.inputs) == 1:
        stored = artefact.metadata.input_layout
        return None if stored is None else dict(stored)
    return artefact.layouts[name].as_dict()


def _output(artefact: Artefact, name: str, node: Readout) -> Json:
    found: Json = {
        "y": "int32, the read-out after all steps; the class is its arg max, the lowest index on ties",
        "shape": list(node.shape),
        "scale": node.scale,
        "logits": "y * scale / T, float32",
    }
    if artefact.host is None and artefact.source_ends[name] and not artefact.ends[name]:
        found["behind"] = artefact.source_ends[name]  # spikes compute it
        found["y"] = "int32, the read-out after all steps"
    if len(node.shape) > 1:
        found["y"] = "int32, the read-out after all steps, channels first"
    if node.gain is not None:
        found |= {
            "gain": [float(value) for value in node.gain],
            "logits": "y * scale * gain / T, float32, gain per channel",
        }
    if node.leaky:
        found["y"] = "int32, the potential of the read-out after the last step"
        found["logits"] = found["logits"].replace(" / T", "")
        found["leak"] = _leak(node)
    return found


def schedule_rule(schedule: Schedule) -> str:
    """Return one line for people on when the populations fire."""
    if schedule is Schedule.LAYERWISE:
        return "every population integrates all its input before it fires (layerwise schedule)"
    return "every population fires in every step (synchronous schedule)"


def write(directory: Path, content: Json) -> tuple[str, ...]:
    """Write the manifest with the hashes of all files that are there, and return their names, sorted."""
    names = sorted(
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and path.name != NAME
    )
    complete = {**content, "files": {name: file_hash(directory / name) for name in names}}
    complete[OWN_HASH] = _own_hash(complete)
    text = json.dumps(complete, indent=2, ensure_ascii=False, allow_nan=False)
    (directory / NAME).write_text(f"{text}\n", encoding="utf-8")
    return (NAME, *names)


def read(directory: Path) -> Json:
    """Read the manifest of a bundle.

    Raises:
        InputError: there is no such folder, or it cannot be read.
        ArtefactError: it is no bundle, or the manifest is damaged, altered or made by a newer snnc.
    """
    path = directory / NAME
    if not directory.is_dir():
        raise InputError(f"{directory} is not a folder; give a bundle that `snnc deploy` wrote")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        own = _own_hash(content) if isinstance(content, dict) else ""
    except FileNotFoundError:
        raise ArtefactError(
            f"{directory}: not a bundle, {NAME} is missing; make one by `snnc deploy`"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (RecursionError, ValueError):
        raise ArtefactError(f"{path}: truncated or damaged, not valid JSON of snnc; deploy again") from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise ArtefactError(f"{path}: not written by snnc; make a bundle by `snnc deploy`")
    schema = content.get("schema_version")
    if isinstance(schema, int) and schema > SCHEMA_VERSION:
        raise ArtefactError(
            f"{path}: made by a newer snnc: {content.get('snnc_version')}, schema {schema}, and this one "
            f"reads up to schema {SCHEMA_VERSION}; upgrade snnc"
        )
    if content.get(OWN_HASH) != own or not isinstance(content.get("files"), dict):
        raise ArtefactError(f"{path}: damaged or altered, it does not match its own SHA-256; deploy again")
    return content


def check_files(directory: Path, content: Mapping[str, Any]) -> None:
    """Compare every file of a bundle with its hash. Files that the bundle did not bring are ignored.

    Raises:
        ArtefactError: naming all that is missing or altered.
    """
    missing, altered = [], []
    for name, expected in content["files"].items():
        path = directory / name
        try:
            if not path.resolve().is_relative_to(directory.resolve()):
                raise ArtefactError(f"{directory / NAME}: refused, it names {name!r} outside its folder")
            if not path.is_file():
                missing.append(name)
            elif file_hash(path) != expected:
                altered.append(name)
        except (OSError, ValueError) as error:
            raise ArtefactError(f"{directory}: {name!r} cannot be read ({error}); deploy again") from error
    found = [
        f"{', '.join(names)} {what}" for names, what in ((missing, "missing"), (altered, "altered")) if names
    ]
    if found:
        raise ArtefactError(f"{directory}: damaged: {'; '.join(found)}; deploy again")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _own_hash(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest's canonical text without the entry that holds it."""
    rest = {key: value for key, value in content.items() if key != OWN_HASH}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
