"""Conversions in tasks: a network, its calibration rows and the options, to an artefact's files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from snnc.artefact import Artefact, load, save
from snnc.compiler import Options, convert
from snnc.data.preprocessing import Preprocessing
from snnc.data.shared_rows import rows_of_blob, rows_of_task
from snnc.errors import ClusterError, InputError, SnncError
from snnc.metrics.task import Task as Kind
from snnc.remote.files import Unpacked, bytes_of_files
from snnc.scale.plain import packed, unpacked
from snnc.scale.tasks import Arrays, Blob, Found, Shared, Task, ready, whereabouts

PLAIN = (
    "timesteps",
    "preset",
    "pipeline",
    "precision",
    "seed",
    "payload",
    "host",
    "frames",
)
"""Options that JSON holds as they are."""

LISTS = ("shape", "fix", "keep_output")
"""Options that JSON holds as lists."""


def told_of_options(options: Options) -> dict[str, Any]:
    """Return options as values of a task: all that a conversion depends on."""
    found = {name: getattr(options, name) for name in PLAIN}
    if options.pipeline is not None:
        found["pipeline"] = options.given().text  # settings and precision change it where it runs
    found["settings"] = dict(sorted(options.settings.items()))
    found["task"] = None if options.task is None else options.task.value
    return found | {name: list(getattr(options, name)) for name in LISTS}


def options_of(told: Mapping[str, Any]) -> Options:
    """Return the options of a task, for one thread."""
    values = dict(told)
    task = values.pop("task")
    return Options(
        **{**values, **{name: tuple(values[name]) for name in LISTS}},
        task=None if task is None else Kind(task),
        threads=1,
    )


def conversion(
    model: Shared,
    name: str,
    rows: Shared,
    options: Options,
    preprocessing: Preprocessing | None,
    origin: str,
) -> Task:
    """Return the task of a conversion.

    Args:
        model: the files of the network.
        name: what it is called in the artefact.
        rows: the calibration rows.
        options: how to convert.
        preprocessing: of the rows.
        origin: what the rows are called.
    """
    values = {
        "name": name,
        "options": told_of_options(options),
        "preprocessing": None if preprocessing is None else preprocessing.as_dict(),
        "origin": origin,
    }
    return Task("convert", packed(values), (model, rows), f"converting {name}")


def converted(values: dict[str, Any], arrays: Arrays, blobs: Sequence[Blob]) -> Found:
    """Convert, in a worker; a network that cannot be converted is a result, too."""
    given = values["preprocessing"]
    preprocessing = None if given is None else Preprocessing.from_dict(given)
    rows = rows_of_blob(blobs[1]) if len(blobs) > 1 else rows_of_task(values["rows"], arrays)
    files = ready("model", blobs[0], Unpacked.of)
    try:
        found = convert(
            files.path,
            rows,
            options_of(values["options"]),
            preprocessing=preprocessing,
            name=values["origin"],
        )
    except SnncError as error:
        text = str(error).replace(str(files.path), values["name"])
        raise type(error)(text) from error
    metadata = replace(found.artefact.metadata, source_path=values["name"])
    artefact = replace(found.artefact, metadata=metadata)
    with tempfile.TemporaryDirectory(prefix="snnc-made-") as folder:
        path = Path(folder) / "network.snn.onnx"
        try:
            save(artefact, path)
        except InputError as error:  # of the disk of this worker, and nothing of the network
            raise ClusterError(f"the worker {whereabouts()} failed: {error}") from None
        content = bytes_of_files(path)
    told = {
        "warnings": [item.as_dict() for item in found.diagnostics],
        "chosen": None if found.choice is None else found.choice.as_dict()["chosen"],
    }
    return told, {"files": np.frombuffer(content, np.uint8)}


@dataclass(frozen=True, slots=True)
class Made:
    """A conversion that was made.

    Attributes:
        files: the artefact's, as tasks share them.
        artefact: the network.
        chosen: preset and steps, where they were chosen.
        warnings: what a user should know.
    """

    files: Shared
    artefact: Artefact
    chosen: Mapping[str, Any] | None
    warnings: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, values: Mapping[str, Any], arrays: Arrays) -> Made:
        """Read what :func:`converted` gave."""
        content = arrays["files"].tobytes()
        files = Unpacked.of(content)
        return cls(Shared.of(content), load(files.path), values["chosen"], values["warnings"])


__all__ = ["Made", "conversion", "converted", "options_of", "told_of_options", "unpacked"]
