"""Artefacts on disk: complete or not at all when written, checked in every part when read."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from snnc.artefact.artefact import Artefact
from snnc.artefact.checks import check_bounds, check_host, check_input, check_numbers
from snnc.artefact.host_nodes import without_host
from snnc.artefact.metadata import (
    PREFIX,
    SCHEMA,
    SCHEMA_VERSION,
    is_intact,
    properties_of,
    read_metadata,
    read_outputs,
    read_settings,
)
from snnc.artefact.reader import read_nodes
from snnc.artefact.weights import (
    fetch_weights,
    file_for,
    files_beside,
    large_weights,
    locations,
    move_weights,
    pages,
    weight_bytes,
)
from snnc.errors import ArtefactError, InputError, VerificationError
from snnc.ir.snn import SnnGraph
from snnc.source.host import Host
from snnc.writing import replacing

EXTERNAL_ABOVE = 2**30
"""Weights of more bytes go to a file of their own: an ONNX file cannot exceed 2 GiB."""

LARGEST_FILE = 2**31
FIRST_BYTE = b"\x08"
"""Every ONNX file that states its version first, as snnc's do, begins with the tag of that field."""

MALFORMED = (
    AttributeError,
    InputError,
    LookupError,
    OverflowError,
    RecursionError,
    StopIteration,
    TypeError,
    ValueError,
    VerificationError,
)
"""What reading ends in where a model of another form, or nonsense, has a hash that fits."""


def save(artefact: Artefact, path: str | os.PathLike[str], *, external_above: int = EXTERNAL_ABOVE) -> None:
    """Write an artefact. The same artefact always gives the same bytes.

    Args:
        artefact: the network and how it was made.
        path: the file, by custom ``NAME.snn.onnx``; it is replaced if it exists.
        external_above: beyond this many bytes of weights, these go to a file beside it,
            ``PATH.XXXXXXXX.data`` with the first digits of its SHA-256.

    Raises:
        InputError: the file cannot be written; then nothing has changed.
        TargetError: the network's integers are too large for float32 convolutions.
    """
    if not isinstance(artefact, Artefact):
        raise InputError(
            f"{type(artefact).__name__} is not an artefact: give the result of snnc.convert or snnc.load"
        )
    write_model(artefact.model(), _path(path), external_above)


def _path(value: Any) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"{type(value).__name__} is not a path: give the path of an artefact's file")
    return Path(os.fsdecode(value))


def write_model(model: onnx.ModelProto, path: Path, external_above: int = EXTERNAL_ABOVE) -> None:
    """Write a model; see :func:`save`. Where weights go to another file, ``model`` loses them.

    Raises:
        InputError: the file cannot be written; then nothing has changed.
    """
    # The weights lie beside the model itself, not beside a link to it.
    target = Path(os.path.realpath(path))
    old, beside = _weights_of(target), files_beside(target)
    new: set[Path] = set()
    try:
        with replacing(path) as stream:
            if weight_bytes(model) > external_above:
                moved = large_weights(model)
                data = file_for(target, moved)
                new.add(data)
                # It takes its place first, for no model names it yet.
                with replacing(data) as weights:
                    weights.writelines(pages(moved))
                move_weights(moved, data.name)
            stream.write(model.SerializeToString(deterministic=True))
    except BaseException:
        # An interrupt can come so late that the new model stands there already.
        _remove(new - beside - _weights_of(target))
        raise
    _remove(old - new)


def load(path: str | os.PathLike[str]) -> Artefact:
    """Read an artefact.

    Raises:
        InputError: there is no such file, or it cannot be read.
        ArtefactError: the file is damaged, altered, foreign, made by a newer snnc, or reads weights
            from outside its folder.
    """
    path = _path(path)
    model = _parse(path, _content(path))
    properties = properties_of(model)
    if SCHEMA not in properties:
        raise ArtefactError(
            f"{path}: an ONNX model, but not an artefact of snnc; make one with `snnc convert`"
        )
    try:
        schema = int(properties[SCHEMA])
    except ValueError:
        raise ArtefactError(f"{path}: damaged, its schema version is not a number; convert again") from None
    if schema > SCHEMA_VERSION:
        maker = properties.get(PREFIX + "snnc_version", "of unknown version").strip('"')
        raise ArtefactError(
            f"{path}: made by a newer snnc: {maker}, schema {schema}, and this one reads up to schema "
            f"{SCHEMA_VERSION}; upgrade snnc"
        )
    fetch_weights(model, path)
    if not is_intact(model, properties):
        raise ArtefactError(
            f"{path}: damaged or altered, its content does not match its SHA-256; convert again"
        )
    try:
        metadata = read_metadata(properties)
        host = None
        if metadata.host is not None:
            model, sections = without_host(model, metadata.host)
            host = Host.from_dict(metadata.host, sections)
        nodes = read_nodes(model, metadata.records)
        default = next(tensor for tensor in model.graph.initializer if tensor.name == "T")
        graph = SnnGraph(
            name=model.graph.name,
            nodes=nodes,
            **read_outputs(properties, nodes),
            timesteps=int(numpy_helper.to_array(default)),
            **read_settings(properties),
        )
        graph.verify()
        check_numbers(graph)
        check_bounds(graph)
        check_input(graph, metadata)
        if host is not None:
            check_host(graph, metadata, host)
        return Artefact(graph, metadata, host)
    except MALFORMED as error:
        reason = " ".join(str(error).split())[:300]
        raise ArtefactError(f"{path}: not in the form that snnc writes ({reason}); convert again") from error


def _remove(files: set[Path]) -> None:
    """Remove files that no model names."""
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink()


def _weights_of(path: Path) -> set[Path]:
    """Return the files that an earlier save made for the weights of the model at ``path``, if it did."""
    beside = files_beside(path)
    try:
        named = locations(_parse(path, _content(path))) if beside else set()
    except InputError:
        return set()
    return {file for file in beside if file.name in named}


def _content(path: Path) -> bytes:
    """Return the bytes of a file that may be an ONNX model."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: not a regular file; give an artefact, NAME.snn.onnx")
        size = path.stat().st_size
        if size == 0:
            raise ArtefactError(f"{path}: the file is empty; convert again")
        with path.open("rb") as stream:
            if size >= LARGEST_FILE or stream.read(1) != FIRST_BYTE:
                raise ArtefactError(f"{path}: not an ONNX file; give an artefact, NAME.snn.onnx")
            return FIRST_BYTE + stream.read()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def _parse(path: Path, content: bytes) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(content)
    except DecodeError:
        raise ArtefactError(f"{path}: truncated, or not an ONNX file; copy or convert it again") from None
