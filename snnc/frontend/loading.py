"""Read an ONNX file and its external data, neither of which is trusted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import onnx
from google.protobuf.message import DecodeError

from snnc.errors import InputError
from snnc.frontend.tensors import byte_size, is_external

MAX_BYTES = 2**31 - 1
"""Largest model without its external data: what protobuf can hold in one message."""

_MODULE = "load it in PyTorch, and give snnc.convert the module, or export that by torch.onnx.export"
_KERAS = "load it in Keras, and export it by model.export(PATH, format='onnx')"
OTHER_FORMS = {
    ".pt": _MODULE,
    ".pth": _MODULE,
    ".ckpt": _MODULE,
    ".safetensors": _MODULE,
    ".keras": _KERAS,
    ".h5": _KERAS,
    ".tflite": "python -m tf2onnx.convert --tflite FILE --output NETWORK.onnx makes one of it",
}
"""How a file of another form becomes an ONNX file, by its suffix."""

UNUSED_BYTES = 3 * 2**30
UNUSED_RATIO = 64
"""External data may hold so many bytes, and so many times what the model uses: all of them are hashed."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """An ONNX file in memory.

    Attributes:
        path: where it was read.
        sha256: hash of the file, followed by its external data files in the order of their names.
        proto: the model. Tensors in other files stay there; their locations are absolute, inside the
            model's folder, and hold all of their bytes: see :func:`snnc.frontend.tensors.read_tensor`.
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
    for file in _located(path, model):
        for block in _blocks(file):
            digest.update(block)
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
    if any(map(is_external, _tensors(model))):
        raise InputError(f"{name} stores tensors in other files, whose folder is unknown: give a path")
    return LoadedModel(name, hashlib.sha256(data).hexdigest(), model)


def _parsed(data: bytes, path: Path) -> onnx.ModelProto:
    model = onnx.ModelProto()
    export = OTHER_FORMS.get(path.suffix)
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        reason = "is not an ONNX file, or it is damaged or cut short"
        raise InputError(f"{path} {reason}: {export or 'export or copy it again'}") from error
    if not model.ir_version or not model.HasField("graph"):
        reason = "is not an ONNX file: it holds no graph"
        raise InputError(f"{path} {reason}; {export or 'export the network to ONNX first'}")
    if (damaged := next((text for text in _texts(model) if isinstance(text, bytes)), None)) is not None:
        raise InputError(f"{path} is damaged: the name {damaged[:40]!r} is no UTF-8; export or copy it again")
    return model


def _read(path: Path) -> bytes:
    try:
        found = path.stat()
        if path.is_dir():
            raise InputError(f"{path} is a folder: give the .onnx file in it")
        if path.is_char_device() or path.is_block_device():
            raise InputError(f"{path} is a device: give an .onnx file")
        if found.st_size > MAX_BYTES:
            raise InputError(_too_large(path, found.st_size))
        with path.open("rb") as stream:
            data = stream.read() if path.is_file() else _read_open_end(stream)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: check the path of the model") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not data:
        raise InputError(f"{path} is empty: export or copy the model again")
    if len(data) > MAX_BYTES:
        raise InputError(_too_large(path, len(data)))
    return data


def _read_open_end(stream: IO[bytes]) -> bytes:
    """Read a pipe, whose size is not known, up to one byte more than may be."""
    blocks: list[bytes] = []
    while (left := MAX_BYTES + 1 - sum(map(len, blocks))) > 0 and (block := stream.read(min(left, 1 << 20))):
        blocks.append(block)
    return b"".join(blocks)


def _blocks(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                yield block
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error


def _too_large(path: Path, size: int) -> str:
    return (
        f"{path} holds {size / 2**30:.1f} GiB; a file of ONNX holds at most 2 GiB: "
        "save the model with external data"
    )


def _located(path: Path, model: onnx.ModelProto) -> list[Path]:
    """Make the locations of external tensors absolute; return their files in the order of their names.

    Raises:
        InputError: one is missing, too short, or outside the model's folder.
    """
    folder = path.parent.resolve()
    files: dict[str, tuple[Path, int]] = {}
    used: Counter[Path] = Counter()
    for tensor in _tensors(model):
        if not is_external(tensor):
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if location not in files:
            files[location] = _external_file(path, folder, tensor.name, location)
        file, size = files[location]
        try:
            start, length = int(entries.get("offset", "0")), byte_size(tensor)
            given = int(entries.get("length", length))
        except ValueError:
            start = length = given = -1
        if start < 0 or given < length:
            raise InputError(f"{path} describes the tensor {tensor.name!r} wrongly: export it again")
        if start + length > size:
            raise InputError(
                f"{file} is cut short: the tensor {tensor.name!r} ends at byte {start + length}; "
                "copy it again"
            )
        used[file] += length
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=str(file))
        tensor.external_data.add(key="offset", value=str(start))
    for file, size in files.values():
        if size > UNUSED_BYTES + UNUSED_RATIO * used[file]:
            raise InputError(
                f"{file} holds {size / 2**30:.1f} GiB, of which {path.name} uses {used[file]} bytes: "
                "save the model again with data of its own"
            )
    return [files[name][0] for name in sorted(files)]


def _external_file(path: Path, folder: Path, name: str, location: str) -> tuple[Path, int]:
    """Return where a tensor called ``name`` lies, links followed, and how many bytes that file has."""
    try:
        file = (folder / location).resolve()
        found = file.is_file()
        size = file.stat().st_size if found else 0
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{path} keeps the tensor {name!r} in {location[:40]!r}, which is not a valid file name: "
            "export it again"
        ) from error
    if not location or not file.is_relative_to(folder):
        raise InputError(
            f"{path} keeps the tensor {name!r} in {location!r}, outside its own folder: "
            "this is refused; put the data beside the model"
        )
    if not found:
        raise InputError(f"{path} keeps the tensor {name!r} in {location!r}, which is missing: copy it too")
    return file, size


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield all tensors of a model, those of subgraphs and of functions included."""
    yield from _tensors_of(model.graph)
    for function in model.functions:
        for attribute in function.attribute_proto:
            yield from _tensors_in(attribute)
        for node in function.node:
            for attribute in node.attribute:
                yield from _tensors_in(attribute)


def _tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from _tensors_in(attribute)


def _tensors_in(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for sparse in (
        *attribute.sparse_tensors,
        *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
    ):
        yield from (sparse.values, sparse.indices)
    for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
        yield from _tensors_of(inner)


def _texts(model: onnx.ModelProto) -> Iterator[str | bytes]:
    """Yield all names of a model. Those that are no UTF-8 come as bytes, which nothing else expects."""
    for entry in (*model.opset_import, *(each for f in model.functions for each in f.opset_import)):
        yield entry.domain
    for item in model.metadata_props:
        yield from (item.key, item.value)
    yield from _texts_of(model.graph)
    for function in model.functions:
        yield from (function.domain, function.name, function.overload, *function.input, *function.output)
        yield from (*function.attribute, *(each.name for each in function.attribute_proto))
        for node in function.node:
            yield from _texts_in(node)
    for tensor in _tensors(model):
        yield tensor.name
        for item in tensor.external_data:
            yield from (item.key, item.value)


def _texts_of(graph: onnx.GraphProto) -> Iterator[str | bytes]:
    yield graph.name
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    for node in graph.node:
        yield from _texts_in(node)


def _texts_in(node: onnx.NodeProto) -> Iterator[str | bytes]:
    yield from (node.name, node.op_type, node.domain, node.overload, *node.input, *node.output)
    for attribute in node.attribute:
        yield from (attribute.name, attribute.ref_attr_name)
        for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            yield from _texts_of(inner)
