"""Weights in a separate file, for models that would be too large with them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto
from onnx.external_data_helper import set_external_data, uses_external_data

from snnc.artefact.metadata import forget_data
from snnc.errors import ArtefactError

PAGE = 4096
WORTH_A_PAGE = 1024


def weight_bytes(model: onnx.ModelProto) -> int:
    """Return the size of a model's parameters."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def large_weights(model: onnx.ModelProto) -> list[TensorProto]:
    """Return the parameters that are worth a place in another file."""
    return [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= WORTH_A_PAGE]


def pages(tensors: Iterable[TensorProto]) -> Iterator[bytes]:
    """Yield the content of a file of weights, in which each parameter begins a page."""
    for tensor in tensors:
        yield tensor.raw_data
        yield b"\0" * (-len(tensor.raw_data) % PAGE)


def file_for(path: Path, tensors: Sequence[TensorProto]) -> Path:
    """Return the file for the weights of the model at ``path``.

    It is named after its content: so a model never finds the weights of another under the name it knows.
    """
    digest = hashlib.sha256()
    for part in pages(tensors):
        digest.update(part)
    return path.with_name(f"{path.name}.{digest.hexdigest()[:8]}.data")


def files_beside(path: Path) -> set[Path]:
    """Return the files beside a model that have the names of its weights; the first snncs gave no digits."""
    own = re.compile(re.escape(path.name) + r"(\.[0-9a-f]{8})?\.data")
    return {file for file in path.parent.glob("*.data") if own.fullmatch(file.name)}


def move_weights(tensors: Iterable[TensorProto], location: str) -> None:
    """Let parameters lie in another file, which holds their :func:`pages`."""
    offset = 0
    for tensor in tensors:
        length = len(tensor.raw_data)
        set_external_data(tensor, location, offset=offset, length=length)
        tensor.ClearField("raw_data")
        offset += length + -length % PAGE


def locations(model: onnx.ModelProto) -> set[str]:
    """Return the files that a model's parameters lie in, as it names them."""
    moved = filter(uses_external_data, model.graph.initializer)
    return {entry.value for tensor in moved for entry in tensor.external_data if entry.key == "location"}


def fetch_weights(model: onnx.ModelProto, path: Path) -> None:
    """Bring parameters that lie in other files into the model; those files must lie in its folder.

    Raises:
        ArtefactError: they lie elsewhere, or cannot be read.
    """
    # Beside the model itself, not beside a link to it.
    folder = Path(os.path.realpath(path)).parent
    for tensor in filter(uses_external_data, model.graph.initializer):
        info = {entry.key: entry.value for entry in tensor.external_data}
        location = info.get("location", "")
        try:
            where = Path(os.path.realpath(folder / location))
            if not where.is_relative_to(folder):
                raise ArtefactError(
                    f"{path}: refused, its weights {tensor.name!r} lie in {location!r}, outside its folder"
                )
            values = _part(where, int(info["offset"]), int(info["length"]))
        except (OSError, KeyError, ValueError) as error:
            raise ArtefactError(
                f"{path}: its weights in {location!r} cannot be read ({error}); keep both files together"
            ) from error
        forget_data(tensor)
        tensor.raw_data = values


def _part(path: Path, offset: int, length: int) -> bytes:
    """Return a part of a regular file.

    Raises:
        OSError: it cannot be read.
        ValueError: it has no such part. Without this check the stated length would be allocated first.
    """
    size = path.stat().st_size if path.is_file() else 0
    if offset < 0 or not 0 <= length <= size - offset:
        raise ValueError(f"no {length} bytes from {offset} on in a file of {size}")
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)
