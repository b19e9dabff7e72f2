"""The metadata of an artefact, as properties of the ONNX model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import onnx
from onnx import TensorProto, helper

from snnc import __version__
from snnc.artefact.canonical import canonical_hash
from snnc.errors import InternalError
from snnc.ir.neuron import Schedule
from snnc.ir.snn import Readout, SnnGraph, SnnNode
from snnc.metrics.task import Task

SCHEMA_VERSION = 2
"""Raised whenever older versions of snnc would misread a file: by 2 for several inputs and outputs."""

PREFIX = "snnc."
SCHEMA, HASH = PREFIX + "schema_version", PREFIX + "content_sha256"
EARLIER_HASH = PREFIX + "sha256"
"""Of files from before the hash was independent of protobuf; see :func:`earlier_hash`."""

LATER = {
    "task": '""',
    "ends": '""',
    "inputs": "[]",
    "outputs": "[]",
    "selection": "{}",
    "host": "null",
    "adaptation": "null",
}
"""What files from before it was told have nothing of."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Metadata:
    """How a spiking network was made, and what its input and answers mean. All values are JSON.

    Attributes:
        snnc_version: version of snnc that made it.
        pipeline: text form of all passes with their options.
        preset: name of the preset, empty for a pipeline of the user's own.
        records: what each pass did.
        preprocessing: from raw rows to what the source network takes; ``None`` if there was none.
        input_layout: from there to the channels-first input, where there is one; ``None`` if it takes that
            already, and for several inputs.
        inputs: of each input of the source: its ``name``, ``dtype`` and ``layout``, in order; empty in files
            of schema 1.
        selection: what was taken of the source's file, see :class:`snnc.source.selection.Selection`; empty
            for everything as it is.
        outputs: of each output of the source: its ``name``, ``layout``, ``task`` and ``ends``, likewise.
        source_path: where the source network was.
        source_sha256: hash of its file.
        calibration: ``rows`` and ``sha256`` of the calibration data, and ``seed``.
        classes: names of the classes, in order; empty if unknown.
        task: what the outputs are, where one word says it of all, a value of :class:`snnc.metrics.Task`;
            empty where it was not evident, and in files from before it was asked.
        ends: the softmax or sigmoid that the source network ends with, as an ONNX operator, whoever computes
            it; empty for none, and in such files. :attr:`snnc.artefact.Artefact.ends` tells what is left out.
        host: what of the source runs as ordinary ONNX, see :meth:`snnc.source.host.Host.as_dict`; ``None``
            for nothing.
        adaptation: what was learned after the conversion, see :mod:`snnc.artefact.adaptations`; ``None``
            for nothing.
        schema_version: version of the form of the file.
    """

    snnc_version: str = __version__
    pipeline: str = ""
    preset: str = ""
    records: tuple[Json, ...] = ()
    preprocessing: Json | None = None
    input_layout: Json | None = None
    source_path: str = ""
    source_sha256: str = ""
    calibration: Json = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    task: str = ""
    ends: str = ""
    inputs: tuple[Json, ...] = ()
    outputs: tuple[Json, ...] = ()
    selection: Json = field(default_factory=dict)
    host: Json | None = None
    adaptation: Json | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def stored_task(self) -> Task | None:
        """What the outputs are; ``None`` where it was not evident."""
        return Task(self.task) if self.task else None


def attach(model: onnx.ModelProto, graph: SnnGraph, metadata: Metadata) -> None:
    """Write metadata, the settings of the whole network and the hash into a model.

    Raises:
        InternalError: the metadata hold something that JSON has no form for.
    """
    properties = {entry.name: getattr(metadata, entry.name) for entry in fields(metadata)}
    if metadata.adaptation is None:  # a file without one is the same as before there were any
        del properties["adaptation"]
    properties |= {
        "schema_version": SCHEMA_VERSION,
        "readouts": [[name, node] for name, node in zip(graph.output_names, graph.outputs, strict=True)],
        "settle_steps": graph.settle_steps,
        "schedule": graph.schedule.value,
        "max_timesteps": graph.max_timesteps,
        "density": dict(graph.density),
    }
    texts = {PREFIX + key: _text(key, value) for key, value in properties.items()}
    helper.set_model_props(model, texts)
    model.metadata_props.add(key=HASH, value=content_hash(model))


def _text(key: str, value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise InternalError(f"the artefact's {key!r} is not made of JSON values: {error}") from error


def properties_of(model: onnx.ModelProto) -> dict[str, str]:
    """Return the properties of a model that are snnc's, as text."""
    # In a damaged file a text may be no UTF-8; then it comes as bytes.
    texts = {str(entry.key): str(entry.value) for entry in model.metadata_props}
    return {key: value for key, value in texts.items() if key.startswith(PREFIX)}


def read_metadata(properties: Mapping[str, str]) -> Metadata:
    """Return the metadata among a model's properties.

    Raises:
        KeyError, ValueError: something is missing.
    """
    given = {PREFIX + key: empty for key, empty in LATER.items()} | dict(properties)
    values: dict[str, Any] = {
        entry.name: json.loads(given[PREFIX + entry.name]) for entry in fields(Metadata)
    }
    if values["task"] and values["task"] not in {task.value for task in Task}:
        raise ValueError("an unknown task")
    for name in ("records", "classes", "inputs", "outputs"):
        values[name] = tuple(values[name])
    return Metadata(**values)


def read_settings(properties: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of the whole network among a model's properties.

    Raises:
        KeyError, ValueError: something is missing.
    """
    return {
        "settle_steps": int(properties[PREFIX + "settle_steps"]),
        "schedule": Schedule(json.loads(properties[PREFIX + "schedule"])),
        "max_timesteps": int(properties[PREFIX + "max_timesteps"]),
        # Files from before simulators planned by it have none.
        "density": _shares(json.loads(properties.get(PREFIX + "density", "{}"))),
    }


def read_outputs(properties: Mapping[str, str], nodes: Sequence[SnnNode]) -> dict[str, Any]:
    """Return which nodes give the outputs, and what these are called, among a model's properties.

    Raises:
        KeyError, ValueError: something is missing.
    """
    stored = properties.get(PREFIX + "readouts")
    if stored is None:  # files of schema 1 have one output
        (readout,) = (node for node in nodes if isinstance(node, Readout))
        return {"outputs": (readout.name,)}
    found = [(str(name), str(node)) for name, node in json.loads(stored)]
    return {
        "outputs": tuple(node for _, node in found),
        "output_names": tuple(name for name, _ in found),
    }


def _shares(values: Mapping[str, Any]) -> dict[str, float]:
    found = {str(name): float(value) for name, value in values.items()}
    if not all(0 <= value <= 1 for value in found.values()):
        raise ValueError("a density is no share")
    return found


def content_hash(model: onnx.ModelProto) -> str:
    """Return the SHA-256 of all that a model holds, but for the property that holds the hash itself."""
    return canonical_hash(model, HASH)


def is_intact(model: onnx.ModelProto, properties: Mapping[str, str]) -> bool:
    """Whether a model is what its hash says: of the form of today, or of the one before."""
    if HASH in properties:
        return content_hash(model) == properties[HASH]
    return earlier_hash(model) == properties.get(EARLIER_HASH)


def earlier_hash(model: onnx.ModelProto) -> str:
    """Return the SHA-256 as it was: of the bytes that protobuf makes, which depend on its version.

    The property that holds the hash itself does not count.
    """
    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    for entry in [entry for entry in rest.metadata_props if entry.key == EARLIER_HASH]:
        rest.metadata_props.remove(entry)
    digest = hashlib.sha256()
    for tensor in rest.graph.initializer:
        digest.update(f"{tensor.name}\0{len(tensor.raw_data)}\0".encode())
        digest.update(tensor.raw_data)
        forget_data(tensor)
    digest.update(rest.SerializeToString(deterministic=True))
    return digest.hexdigest()


def forget_data(tensor: TensorProto) -> None:
    """Drop the values of a tensor and where they lie; name, type and sizes stay."""
    tensor.ClearField("raw_data")
    tensor.ClearField("data_location")
    tensor.ClearField("external_data")
