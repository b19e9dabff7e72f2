"""Tune a network: gradients on thresholds, weights and membranes of the network that is deployed."""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from snnc import __version__
from snnc.arguments import Model, as_preprocessing, whole
from snnc.artefact import Artefact
from snnc.compiler import Conversion, Options, convert, read_convertible, tasks_of
from snnc.cores import available_cores
from snnc.data.leakage import row_hashes
from snnc.data.material import given_rows, preprocessing_beside
from snnc.data.preprocessing import Preprocessing
from snnc.diagnostics import Diagnostic
from snnc.errors import UsageError
from snnc.frontend import SourceModel
from snnc.ir.batch import flat, joined
from snnc.metrics.outputs import Labels, recognise_outputs
from snnc.metrics.task import Outputs
from snnc.pass_options import make_pass
from snnc.passes import PASSES, PRESETS
from snnc.progress import Callback, Progress, as_progress
from snnc.simulation.reference import encode_all
from snnc.training.extra import require_torch
from snnc.training.plan import run_folder
from snnc.training.recipe import Recipe
from snnc.training.rows import CHUNK, TrainingRows
from snnc.writing import replacing

if TYPE_CHECKING:
    from snnc.training.kept import Kept
    from snnc.training.tuner import Tuner

METRICS = "metrics.jsonl"
"""The measurements of a run in its folder, one JSON object a line."""

FINE = "fine-skip"
PRUNE = "prune-channels"
COMPENSATE = "compensate"
QUANTISE = "quantise-weights"
PRESET = "balanced"
"""The preset that is tuned by default: with as many signed spikes a step as steps, its counts are exact."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """The result of :func:`tune`.

    Attributes:
        conversions: the spiking networks and how they were made, by T, in the order of their training.
        results: what came of each: how good closed form and tuned network are, and which is kept.
    """

    conversions: Mapping[int, Conversion]
    results: Mapping[int, Kept]

    @property
    def artefacts(self) -> dict[int, Artefact]:
        """The spiking networks, by T."""
        return {T: made.artefact for T, made in self.conversions.items()}

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Warnings for the user, each once."""
        return tuple(dict.fromkeys(each for made in self.conversions.values() for each in made.diagnostics))

    @property
    def artefact(self) -> Artefact:
        """The one artefact.

        Raises:
            UsageError: there are several.
        """
        if len(self.artefacts) != 1:
            listed = ", ".join(f"T = {T}" for T in self.artefacts)
            raise UsageError(f"there are artefacts for {listed}: choose one of `artefacts`")
        return next(iter(self.artefacts.values()))


def tune(
    model: Model,
    rows: Any,
    labels: Labels = None,
    *,
    timesteps: int | Sequence[int] = 2,
    recipe: Recipe | None = None,
    options: Options | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    checkpoints: str | os.PathLike[str] | None = None,
    metrics: str | os.PathLike[str] | None = None,
    progress: Progress | Callback | None = None,
    name: str = "the training rows",
    **choices: Any,
) -> Tuning:
    """Tune a network by gradients, and return the spiking networks.

    Args:
        model: as for :func:`snnc.compiler.convert`, but for modules of torch.
        rows: training rows, as calibration rows are given there.
        labels: (n,) classes or (n, outputs) numbers, or these by the outputs' names; ``None`` to learn from
            the source alone.
        timesteps: T, or several: they are trained from many to few, each from the last.
        recipe: how to train; or give its fields by their names, such as ``minutes=10``.
        options: how to convert; their T is not looked at. By default ``balanced``, T signed spikes a step.
        preprocessing: from raw rows to what the network takes.
        checkpoints: folder of the run, in which it goes on after an interruption; ``None`` to keep none.
        metrics: file for the measurements, one JSON object a line; ``None`` for none but the folder's.
        progress: as for a conversion.
        name: what the rows are called in messages.
        **choices: fields of the recipe.

    Raises:
        UsageError: torch is not installed, or an option makes no sense.
        InputError: rows, labels or checkpoints do not fit.
        UnsupportedModelError: the network cannot be converted.
    """
    require_torch("tuning")
    asked = _recipe(recipe, choices)
    order = _order(timesteps)
    given = Options(preset=PRESET) if options is None else options
    import torch

    from snnc.training.tuner import Tuner

    if asked.device != "cpu" and not torch.cuda.is_available():
        raise UsageError(f"the device {asked.device!r} is not there: leave it out")
    prepared = as_preprocessing(preprocessing)
    first = _options(given, order[0], asked)
    source, named = read_convertible(model, first)
    if source.host is not None and source.host.islands:
        raise UsageError(
            f"{named} keeps ordinary ONNX between its spikes, and only spikes in one piece are tuned: "
            "convert it without tuning, or give --host edges"
        )
    if isinstance(rows, str | os.PathLike):
        prepared = preprocessing_beside(Path(rows), prepared)
    raw = joined(given_rows(rows, list(source.takes), named, name, prepared))
    outputs = {} if labels is None else _labelled(source, labels, len(raw), given)
    known = {name: np.asarray(each.labels) for name, each in outputs.items()}
    if len(source.outputs) == 1 and outputs:  # the labels tell what the one output is
        given = replace(given, task=next(iter(outputs.values())).task)
        first = _options(given, order[0], asked)
    tasks = tasks_of(source, given.task) | {name: each.task for name, each in outputs.items()}
    training = TrainingRows.split(raw, known, source, prepared, name, asked.held_back)
    identity = _identity(source, training, asked, order, first)
    before = torch.get_num_threads()
    torch.set_num_threads(given.threads or available_cores())
    try:
        with run_folder(checkpoints, "snnc-tune-") as folder:
            tuner = Tuner(asked, training, tasks, order, folder, identity, teller(folder, metrics))
            return _tuned(model, tuner, given, as_progress(progress))
    finally:
        torch.set_num_threads(before)


def teller(folder: Path, metrics: str | os.PathLike[str] | None) -> Callable[[list[dict[str, Any]]], None]:
    """Return what writes all measurements, whenever there is one more.

    Args:
        folder: of the run.
        metrics: another file; ``None`` for none.
    """
    paths = [folder / METRICS, *([] if metrics is None else [Path(metrics)])]

    def told(history: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in history).encode()
        for path in paths:
            with replacing(path) as stream:
                stream.write(text)

    return told


def _tuned(model: Model, tuner: Tuner, options: Options, progress: Progress) -> Tuning:
    rows = tuner.rows
    conversions: dict[int, Conversion] = {}
    hashes: str | None = None
    for T in tuner.timesteps:
        made = convert(
            model,
            rows.calibration(),
            _options(options, T, tuner.recipe),
            preprocessing=rows.preprocessing,
            progress=progress,
            name=rows.name,
            tuner=tuner,
        )
        if hashes is None:
            hashes = _hashes(rows, made.artefact)
        seen = {**made.artefact.metadata.calibration, "rows": len(rows.raw), "row_hashes": hashes}
        metadata = replace(made.artefact.metadata, calibration=seen)
        conversions[T] = replace(made, artefact=replace(made.artefact, metadata=metadata))
    return Tuning(conversions, dict(tuner.results))


def _recipe(recipe: Recipe | None, choices: Mapping[str, Any]) -> Recipe:
    try:
        return Recipe(**choices) if recipe is None else replace(recipe, **choices)
    except TypeError:
        unknown = sorted(set(choices) - set(Recipe.__dataclass_fields__))
        raise UsageError(
            f"tune takes no {unknown[0] if unknown else 'such recipe'!r}; a recipe has "
            f"{', '.join(Recipe.__dataclass_fields__)}"
        ) from None


def _order(timesteps: int | Sequence[int]) -> tuple[int, ...]:
    given = timesteps if isinstance(timesteps, list | tuple) else (timesteps,)
    found = tuple(sorted((whole(T, "T", 1) for T in given), reverse=True))
    if not found or len(set(found)) < len(found):
        raise UsageError(f"T is {list(given)}: give one number of steps, or several that differ")
    return found


def _options(options: Options, T: int, recipe: Recipe) -> Options:
    """Return the options of a conversion for one T, which takes channels out where that is asked for.

    Raises:
        UsageError: as :func:`_dense_options`; or channels are asked for, and the pipeline prunes itself.
    """
    found = _dense_options(options, T, recipe)
    if recipe.channels is None:
        return found
    pipeline = found.passes()
    if PRUNE in pipeline.names:
        raise UsageError(f"channels: the pipeline has {PRUNE} already: leave one of them out")
    before = next((name for name in (COMPENSATE, QUANTISE) if name in pipeline.names), None)
    if before is None:
        return found  # which is refused for what it lacks
    pruning = make_pass(PRUNE, {"share": repr(float(recipe.channels))}, PASSES)
    pruned = pipeline.with_pass(pruning, before=before)
    return replace(found, preset=None, pipeline=pruned, settings={})


def _dense_options(options: Options, T: int, recipe: Recipe) -> Options:
    """Return the options of a conversion for one T: T signed spikes a step, if nothing else is said.

    The closed form, with which the tuned network is compared, is to be as sparse.

    Raises:
        UsageError: a fine skip is asked for, and the pipeline is given or has one already; or a density, and
            the passes do not reach it without training.
    """
    preset = PRESET if options.preset is None and options.pipeline is None else options.preset
    settings = dict(options.settings)
    if recipe.density is not None:
        settings.setdefault("compensate.density", str(recipe.density))
        options = replace(options, settings=settings)
    if preset is None or preset not in PRESETS:
        if recipe.fine_skip:
            raise UsageError("fine_skip belongs to a preset: put `fine-skip` into the pipeline instead")
        return replace(options, timesteps=T, preset=preset)
    pipeline = PRESETS[preset].pipeline
    if "dual-threshold" in pipeline.names:
        settings.setdefault("dual-threshold.spikes-per-step", str(T))
    if not recipe.fine_skip:
        return replace(options, timesteps=T, preset=preset, settings=settings)
    if FINE in pipeline.names or "dual-threshold" not in pipeline.names:
        raise UsageError(f"fine_skip: the preset {preset!r} has fine skips already, or no signed neurons")
    finer = pipeline.with_pass(make_pass(FINE, {}, PASSES), after="dual-threshold")
    return replace(options, timesteps=T, preset=None, pipeline=finer, settings=settings)


def _labelled(source: SourceModel, labels: Labels, rows: int, options: Options) -> dict[str, Outputs]:
    """Return what each output is that has labels, with these, checked."""
    if source.host is not None and source.host.suffix is not None:
        raise UsageError("labels belong to what ordinary ONNX makes behind the spikes: tune without them")
    found = recognise_outputs(
        source.gives, rows=rows, labels=labels, ends=source.activations, given=options.task
    )
    return {name: each for name, each in found.items() if each.labels is not None}


def _identity(
    source: SourceModel, rows: TrainingRows, recipe: Recipe, order: tuple[int, ...], options: Options
) -> str:
    """Return a hash of all that the result of a run depends on."""
    text = json.dumps(
        {
            "version": __version__,
            "source": source.sha256,
            "rows": rows.digest,
            "preprocessing": None if rows.preprocessing is None else rows.preprocessing.as_dict(),
            "recipe": recipe.as_dict(),
            "timesteps": order,
            "pipeline": options.passes().text,
            "selection": options.selection.as_dict(),
            "seed": options.seed,
        },
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _hashes(rows: TrainingRows, artefact: Artefact) -> str:
    """Return the hashes of all rows that were learned from or decided by, so that they are recognised."""
    everything = np.arange(len(rows.raw))
    parts = (rows.prepared(everything[at : at + CHUNK]) for at in range(0, len(everything), CHUNK))
    return row_hashes(flat(encode_all(artefact.graph, joined(part))) for part in parts)
