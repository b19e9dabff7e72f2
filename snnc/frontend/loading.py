"""Read an ONNX file and its external data, neither of which is trusted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper

from snnc.errors import InputError

MAX_BYTES = 2**31 - 1
"""Largest model, its external data included: what protobuf can hold in one message."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """An ONNX file in memory.

    Attributes:
        path: where it was read.
        sha256: hash of the file, followed by its external data files in the order of their names.
        proto: the model; all tensors lie in it, none outside.
    """

    path: Path
    sha256: str
    proto: onnx.ModelProto


def load(path: Path) -> LoadedModel:
    """Read a model and its external data.

    Args:
        path: an ``.onnx`` file.

    Raises:
        InputError: the file is missing, unreadable, empty, huge or not ONNX, or its external data are
            missing, too short, or outside its folder.
    """
    data = _read(path)
    model = _parsed(data, path)
    digest = hashlib.sha256(data)
    total = len(data)
    for file in _external_files(path, model):
        total += file.stat().st_size
        if total > MAX_BYTES:
            raise InputError(_too_large(path, total))
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent.resolve()))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:  # such as for a file with hard links
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: its external data cannot be read: {reason}; save the model again, in one file"
        ) from error
    return LoadedModel(path, digest.hexdigest(), model)


def loaded_from(data: bytes, name: Path) -> LoadedModel:
    """Return a model that is in memory already.

    Args:
        data: what would be the file.
        name: what it is called; no file is opened.

    Raises:
        InputError: it is huge or not ONNX, or keeps tensors in other files.
    """
    if len(data) > MAX_BYTES:
        raise InputError(_too_large(name, len(data)))
    model = _parsed(data, name)
    if any(external_data_helper.uses_external_data(tensor) for tensor in _tensors(model.graph, model)):
        raise InputError(f"{name} stores tensors in other files, whose folder is unknown: give a path")
    return LoadedModel(name, hashlib.sha256(data).hexdigest(), model)


def _parsed(data: bytes, path: Path) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise InputError(
            f"{path} is not an ONNX file, or it is damaged or cut short: export or copy it again"
        ) from error
    if not model.ir_version or not model.HasField("graph"):
        raise InputError(f"{path} is not an ONNX file: it holds no graph; export the network to ONNX first")
    return model


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise InputError(f"{path} is a folder: give the .onnx file in it")
        if size > MAX_BYTES:
            raise InputError(_too_large(path, size))
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: check the path of the model") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not data:
        raise InputError(f"{path} is empty: export or copy the model again")
    return data


def _too_large(path: Path, size: int) -> str:
    return (
        f"{path} holds {size / 2**30:.1f} GiB with its data; at most 2 GiB can be read: use a smaller model"
    )


def _external_files(path: Path, model: onnx.ModelProto) -> list[Path]:
    """Return the files that hold the model's external tensors, each checked, in the order of their names."""
    folder = path.parent.resolve()
    files: dict[str, Path] = {}
    for tensor in _tensors(model.graph, model):
        if not external_data_helper.uses_external_data(tensor):
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        try:
            file = (folder / location).resolve()
            found = file.is_file()
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} keeps the tensor {tensor.name!r} in {location[:40]!r}, which is not a valid file "
                "name: export it again"
            ) from error
        if not location or not file.is_relative_to(folder):
            raise InputError(
                f"{path} keeps the tensor {tensor.name!r} in {location!r}, outside its own folder: "
                "this is refused; put the data beside the model"
            )
        if not found:
            raise InputError(
                f"{path} keeps the tensor {tensor.name!r} in {location!r}, which is missing: copy it too"
            )
        try:
            start, length = int(entries.get("offset", "0")), int(entries.get("length", "0"))
        except ValueError:
            start, length = -1, -1
        if min(start, length) < 0:
            raise InputError(f"{path} describes the tensor {tensor.name!r} wrongly: export it again")
        end = start + length
        if end > file.stat().st_size:
            raise InputError(
                f"{file} is cut short: the tensor {tensor.name!r} ends at byte {end}; copy it again"
            )
        files[location] = file
    return [files[name] for name in sorted(files)]


def _tensors(graph: onnx.GraphProto, model: onnx.ModelProto | None = None) -> list[onnx.TensorProto]:
    """Return all tensors of a graph, those of its subgraphs and of the model's functions included."""
    found = list(graph.initializer)
    nodes = list(graph.node)
    for function in model.functions if model is not None else ():
        nodes.extend(function.node)
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                found.append(attribute.t)
            found.extend(attribute.tensors)
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                found.extend(_tensors(inner))
    return found
