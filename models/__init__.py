"""The bundled zoo: small trained networks, and the rows to calibrate and judge them on.

``catalog.json`` describes every file of this folder: what it is, its SHA-256, its licence, what was measured
on it and how to make it again. A network is named ``zoo:NAME`` wherever snnc takes a model path, and one that
is a spiking network already wherever it takes an artefact::

    entry = snnc.models.resolve("zoo:fashion-resnet")
    images, labels = snnc.models.calibration_data(entry)

Importing this package reads nothing and loads neither numpy nor onnx.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from snnc.errors import InputError, UsageError

if __name__ != "snnc.models":
    raise ImportError("this folder is the package snnc.models; import it by that name")

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "FOLDER",
    "PREFIX",
    "Accuracy",
    "Dataset",
    "ZooEntry",
    "calibration_data",
    "list_models",
    "resolve",
    "test_data",
]

PREFIX = "zoo:"
FOLDER = Path(__file__).parent
_CATALOG = FOLDER / "catalog.json"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A measured accuracy.

    An ONNX network is run by onnxruntime in float32, an artefact by the CPU simulator.

    Attributes:
        rows: which rows it was measured on, in words.
        n: how many they are.
        top1: the share of them whose label gets the highest output, in [0, 1].
        ci95: the 95 % Wilson score interval of ``top1``.
    """

    rows: str
    n: int
    top1: float
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled rows that a network was trained on; most come with snnc.

    Attributes:
        name: the data set's name.
        path: an ``.npz`` file with uint8 ``calibration_x``, ``calibration_y``, ``test_x`` and ``test_y``;
            ``None`` where no rows are bundled.
        sha256: of that file, in hexadecimal.
        licence: under which the rows are distributed.
        notice: the text of that licence, which goes with every copy.
        source: where they come from.
        classes: the name of every class, in the order of the outputs.
    """

    name: str
    path: Path | None
    sha256: str | None
    licence: str
    notice: str
    source: str
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """One bundled network.

    Attributes:
        name: what follows ``zoo:``.
        kind: what the zoo has it for: ``small CNN``, for example.
        path: the ``.onnx`` or ``.snn.onnx`` file.
        sha256: of that file, in hexadecimal.
        summary: one line on the architecture.
        licence: of the weights.
        dataset: what it was trained on, with the bundled rows, if there are some.
        input_shape: of one row as the network takes it, without the batch axis.
        preprocessing: from the bundled uint8 rows to the network's input, with the keys of a
            ``--preprocess`` file (see docs/cli.md).
        accuracy: on all the test rows that were at hand.
        bundled_accuracy: on the bundled test rows; ``None`` where there are none.
        training: the command that makes the network again.
        parameters: trained numbers; the running statistics of batch normalisations are not counted.
        macs: multiply-accumulates of one inference, of convolutions and matrix products.
        source: the name of the bundled network that an artefact was made from, whose parameters and
            operations are told; ``None`` of an ordinary network.
        timesteps: of an artefact; ``None`` of an ordinary network.
    """

    name: str
    kind: str
    path: Path
    sha256: str
    summary: str
    licence: str
    dataset: Dataset
    input_shape: tuple[int, ...]
    preprocessing: Mapping[str, object] = field(hash=False)
    accuracy: Accuracy
    bundled_accuracy: Accuracy | None
    training: str
    parameters: int
    macs: int
    source: str | None = None
    timesteps: int | None = None


def list_models() -> tuple[ZooEntry, ...]:
    """Return every bundled network, in the catalog's order; no other file than the catalog is opened."""
    catalog: dict[str, Any] = json.loads(_CATALOG.read_text(encoding="utf-8"))
    datasets = {
        row["name"]: Dataset(
            name=row["name"],
            path=None if row["file"] is None else FOLDER / row["file"],
            sha256=row["sha256"],
            licence=row["licence"],
            notice=row["notice"],
            source=row["source"],
            classes=tuple(row["classes"]),
        )
        for row in catalog["datasets"]
    }
    return tuple(
        ZooEntry(
            name=row["name"],
            kind=row["kind"],
            path=FOLDER / row["file"],
            sha256=row["sha256"],
            summary=row["summary"],
            licence=row["licence"],
            dataset=datasets[row["dataset"]],
            input_shape=tuple(row["input_shape"]),
            preprocessing=MappingProxyType(row["preprocessing"]),
            accuracy=_accuracy(row["accuracy"]),
            bundled_accuracy=None if row["bundled_accuracy"] is None else _accuracy(row["bundled_accuracy"]),
            training=row["training"],
            parameters=row["parameters"],
            macs=row["macs"],
            source=row.get("source"),
            timesteps=row.get("timesteps"),
        )
        for row in catalog["models"]
    )


def resolve(name: str) -> ZooEntry:
    """Return the entry of ``zoo:NAME`` after checking that its file is the one that the catalog means.

    Raises:
        InputError: there is no such network, or its file is missing or altered.
    """
    entries = {PREFIX + entry.name: entry for entry in list_models()}
    if name not in entries:
        raise InputError(f"{name}: not in the zoo, which holds {', '.join(entries)}")
    entry = entries[name]
    _check(entry.path, entry.sha256)
    return entry


def calibration_data(entry: ZooEntry) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the bundled training rows, (N, H, W), and their labels, (N,), both uint8.

    Raises:
        UsageError: there are none.
        InputError: the file is missing or altered.
    """
    return _rows(entry.dataset, "calibration")


def test_data(entry: ZooEntry) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the bundled test rows, (N, H, W), and their labels, (N,), both uint8.

    Raises:
        UsageError: there are none.
        InputError: the file is missing or altered.
    """
    return _rows(entry.dataset, "test")


def _rows(dataset: Dataset, split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    import numpy as np

    if dataset.path is None or dataset.sha256 is None:
        option = "--calib or --train" if split == "calibration" else "--data"
        raise UsageError(f"the zoo holds no rows of {dataset.name}: name your own by {option} ROWS")
    _check(dataset.path, dataset.sha256)
    with np.load(dataset.path, allow_pickle=False) as arrays:
        return arrays[f"{split}_x"], arrays[f"{split}_y"]


def _check(path: Path, sha256: str) -> None:
    """Refuse a bundled file that is not, byte for byte, the one that the catalog describes."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: the bundled file cannot be read ({error.strerror}); reinstall snnc"
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{path}: the bundled file was altered, its SHA-256 differs; reinstall snnc")


def _accuracy(row: dict[str, Any]) -> Accuracy:
    low, high = row["ci95"]
    return Accuracy(rows=row["rows"], n=row["n"], top1=row["top1"], ci95=(low, high))
