"""Networks for workers: the bytes of their files, which go once to each worker."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from snnc.artefact import Artefact, load
from snnc.artefact.weights import locations
from snnc.data.preprocessing import Preprocessing
from snnc.errors import InputError
from snnc.scale.plain import packed, unpacked
from snnc.scale.tasks import Blob, Shared, ready
from snnc.source.selection import Selection
from snnc.sources import Located, open_source


def shared_files(path: Path) -> Shared:
    """Return a network's file, and those that hold its weights, as what tasks share.

    Args:
        path: of an artefact or of an ordinary network.

    Raises:
        InputError: a file cannot be read.
    """
    return Shared.of(bytes_of_files(path))


def bytes_of_files(path: Path) -> bytes:
    """Return a network's file, and those that hold its weights, as bytes."""
    try:
        content = path.read_bytes()
        beside = sorted(_external(content, path))
        arrays = {path.name: np.frombuffer(content, np.uint8)}
        arrays |= {name: np.frombuffer((path.parent / name).read_bytes(), np.uint8) for name in beside}
    except OSError as error:
        raise InputError(f"{error.filename or path} cannot be read: {error.strerror}") from None
    return packed({"first": path.name}, arrays)


def _external(content: bytes, path: Path) -> set[str]:
    """Return the names of the files in which a model keeps weights."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
        named = locations(model)
    except Exception:  # noqa: BLE001 - protobuf's errors have no root; whoever reads the model tells what is wrong
        return set()
    outside = [name for name in named if Path(name).is_absolute() or ".." in Path(name).parts]
    if outside:
        raise InputError(f"{path} keeps weights in {outside[0]!r}, outside its folder: move them into it")
    return named


@dataclass(eq=False)
class Unpacked:
    """The files of a network in a temporary folder, which goes with this object.

    Attributes:
        path: of the network.
    """

    path: Path

    @classmethod
    def of(cls, data: bytes) -> Unpacked:
        """Write what :func:`bytes_of_files` read."""
        values, arrays = unpacked(data)
        folder = tempfile.TemporaryDirectory(prefix="snnc-network-")
        for name, content in arrays.items():
            path = Path(folder.name) / name
            if not path.resolve().is_relative_to(Path(folder.name).resolve()):
                raise InputError(f"a file of a network is called {name!r}, outside its folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.tobytes())
        found = cls(Path(folder.name) / values["first"])
        weakref.finalize(found, folder.cleanup)
        return found


def artefact_of(blob: Blob, rows_layout: str | None) -> Artefact:
    """Return an artefact in a worker, read once."""

    def made(data: bytes) -> Artefact:
        files = Unpacked.of(data)  # which are there until it is read
        return load(files.path).with_rows_layout(rows_layout)

    return ready("artefact", blob, made, str(rows_layout))


def source_of(blob: Blob, told: dict[str, Any]) -> Any:
    """Return a source network in a worker, opened once, on one thread.

    Args:
        blob: its files.
        told: see :func:`told_of_source`.
    """

    def made(data: bytes) -> Any:
        files = Unpacked.of(data)
        given = told["preprocessing"]
        preprocessing = None if given is None else Preprocessing.from_dict(given)
        selection = Selection.from_dict(told["selection"])
        located = Located(told["name"], files.path)
        found = open_source(lambda text: None, located, preprocessing, 1, selection)
        found.session.all_ends  # noqa: B018 - read while the files are there
        _kept[id(found)] = files
        weakref.finalize(found.session, _kept.pop, id(found), None)
        return found

    return ready("source", blob, made, repr(sorted(told.items(), key=lambda item: item[0])))


_kept: dict[int, Unpacked] = {}
"""The files of sources that are open."""


def told_of_source(
    name: str, preprocessing: Preprocessing | None, selection: Selection | None
) -> dict[str, Any]:
    """Return what a worker has to know of a source beside its files."""
    return {
        "name": name,
        "preprocessing": None if preprocessing is None else preprocessing.as_dict(),
        "selection": {} if selection is None else selection.as_dict(),
    }


def in_parts(count: int, size: int) -> Sequence[slice]:
    """Return the rows of each task: fixed, whoever does them."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
