"""The interface in three lines: convert a network or load one, see how well it does, take it somewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnc import compiler
from snnc.arguments import Model, as_artefact, as_names, as_preprocessing, as_shown, shape_texts, value_texts
from snnc.artefact import Artefact
from snnc.artefact import load as load_artefact
from snnc.backends.torch_module import to_torch as module_of
from snnc.converted_network import ConvertedNetwork
from snnc.data.datasets import is_dataset, read_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.errors import InputError, UsageError
from snnc.metrics.task import Task, as_task
from snnc.models import PREFIX, calibration_data, resolve
from snnc.pipeline import Pipeline
from snnc.progress import Callback, Progress

if TYPE_CHECKING:
    from snnc.backends.torch_module.module import SpikingModule

_log = logging.getLogger("snnc")

CALIBRATION_ROWS = 1000
"""Rows of a data set or a loader that are calibrated on: more change little."""


def convert(
    model: Model,
    calibration: Any = None,
    *,
    timesteps: int | None = None,
    preset: str | None = None,
    pipeline: Pipeline | str | None = None,
    settings: Mapping[str, Any] | None = None,
    precision: str = "int8",
    seed: int = 0,
    preprocessing: Preprocessing | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: Progress | Callback | bool | None = None,
    task: Task | str | None = None,
    payload: str | None = None,
    shape: Mapping[str, Sequence[int]] | Sequence[str] = (),
    fix: Mapping[str, float | Sequence[float]] | Sequence[str] = (),
    keep_output: Sequence[str] = (),
    host: str = "edges",
    frames: bool = False,
) -> ConvertedNetwork:
    """Convert a trained network; see :func:`snnc.compiler.convert` for what it does.

    Args:
        model: path of an ONNX file, ``zoo:NAME``, an ``onnx.ModelProto``, its bytes, or a
            ``torch.nn.Module``.
        calibration: unlabelled rows of training data, as :func:`snnc.compiler.convert` takes them, or a data
            set or a loader, of which 1,000 rows are used; labels do not count. Of a network of the zoo its
            own by default.
        timesteps: T; chosen by default.
        preset: a fixed pipeline; chosen by default.
        pipeline: a pipeline or its text form, instead of a preset.
        settings: options of single passes, ``{"clip-activations.method": "max"}``.
        precision: ``int8`` or ``float32``.
        seed: of every random choice.
        preprocessing: from raw rows to what the network takes; stored in the artefact.
        threads: at most this many; no result depends on it.
        progress: ``True`` for bars, also in notebooks; or called with (done, total, description).
        task: kind of the outputs, ``classes``, ``binary`` or ``regression``; recognised by default.
        payload: the largest payload of a spike.
        shape: (batch, *shape) of inputs whose sizes the file leaves open, by their names.
        fix: values that inputs get for good, by their names: a number, or all values in order.
        keep_output: names of the outputs to keep, all by default.
        host: what may run as ordinary ONNX.
        frames: whether the result takes T frames that add up to a row, (rows, T, *shape); the calibration
            rows are accumulated.

    Raises:
        UnsupportedModelError: the network holds something that cannot be converted.
        InputError: the file or the rows are damaged or do not fit.
        UsageError: an option makes no sense, or the network is an artefact already.
    """
    options = compiler.Options(
        timesteps,
        preset,
        pipeline,
        {} if settings is None else settings,
        precision,
        seed,
        threads,
        task=as_task(task),
        payload=payload,
        shape=shape_texts(shape),
        fix=value_texts(fix),
        keep_output=as_names(keep_output, "outputs to keep"),
        host=host,
        frames=frames,
    )
    if calibration is None:
        if not isinstance(model, str) or not model.startswith(PREFIX):
            raise UsageError("no calibration rows: give 500 to 1,000 of the training data")
        entry = resolve(model)
        calibration = calibration_data(entry)[0]
        preprocessing = entry.preprocessing if preprocessing is None else preprocessing
    if is_dataset(calibration):
        sampled = read_dataset(calibration, CALIBRATION_ROWS)
        if sampled.is_part:
            _log.info("calibrated on %d of %s", len(sampled.x), sampled.name)
        calibration = sampled.x
    made = compiler.convert(
        model,
        calibration,
        options,
        preprocessing=as_preprocessing(preprocessing),
        progress=as_shown(progress),
    )
    for finding in made.diagnostics:
        _log.warning("%s", finding)
    return ConvertedNetwork.of(
        made.artefact, source=made.source, warnings=made.diagnostics, choice=made.choice
    )


def load(path: str | os.PathLike[str]) -> ConvertedNetwork:
    """Read an artefact; see :func:`snnc.artefact.load`.

    Args:
        path: of the file, or ``zoo:NAME`` of a bundled spiking network.

    Raises:
        ArtefactError: it is damaged, foreign, or made by a newer snnc.
        InputError: it cannot be read, or the zoo has no such network.
    """
    if isinstance(path, str) and path.startswith(PREFIX):
        entry = resolve(path)
        if entry.timesteps is None:
            raise InputError(f"{path} is not an artefact: convert it first with snnc.convert({path!r}, ...)")
        path = entry.path
    return ConvertedNetwork.of(load_artefact(path), path=Path(os.fsdecode(path)))


def to_torch(artefact: Artefact | str | os.PathLike[str]) -> SpikingModule:
    """Return an artefact, or the one in a file, as a ``torch.nn.Module`` with its exact semantics.

    Raises:
        UsageError: torch is not installed, or a part of the network runs as ordinary ONNX.
    """
    return module_of(as_artefact(artefact))


compile_model = convert
"""What :func:`convert` was called before."""
