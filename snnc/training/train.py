"""Train a network from nothing, to the levels that a spiking network sends."""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from snnc import __version__
from snnc.arguments import Model, as_preprocessing, read_source
from snnc.backends import load_simulator
from snnc.cores import available_cores
from snnc.data.preprocessing import Preprocessing
from snnc.errors import InputError, InternalError, UsageError
from snnc.ir.ann import AnnGraph
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.passes import PASSES
from snnc.pipeline import Context, Pipeline, run_pipeline
from snnc.progress import Callback, Progress, as_progress
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.protocol import RecordOptions, Simulator
from snnc.simulation.reference import encode_all
from snnc.source.calibration import Calibration
from snnc.training.architectures import initial
from snnc.training.course import Course
from snnc.training.extra import require_torch
from snnc.training.judge import Measure
from snnc.training.pixels import Pixels
from snnc.training.plan import run_folder
from snnc.training.recipe import Recipe
from snnc.training.rows import TrainingRows
from snnc.training.tuning import teller
from snnc.writing import replacing

if TYPE_CHECKING:
    from snnc.training.trainer import Grown

PROPERTY = "snnc.training"
"""Where the ONNX file says how it was made."""

EXACT = "exact-max-pool{leave-rounded=true},lower-quantised"
CLOSE = 1e-4
READ_BACK_ROWS = 100
"""Rows held back on which the counts of the network that was written are compared with those trained."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """The result of :func:`train`.

    Attributes:
        model: the network, quantised if it has levels, as `snnc convert` takes it.
        measure: how good it is on rows held back, which chose among its states.
        record: how it was made: course, recipe, rows and measurements, as JSON.
    """

    model: onnx.ModelProto
    measure: Measure
    record: Mapping[str, Any]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network, whole or not at all."""
        with replacing(Path(path)) as stream:
            stream.write(self.model.SerializeToString())


def train(
    arch: str,
    x: Any,
    y: Any,
    *,
    course: Course | None = None,
    recipe: Recipe | None = None,
    teacher: Model | None = None,
    teacher_preprocessing: Preprocessing | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    checkpoints: str | os.PathLike[str] | None = None,
    metrics: str | os.PathLike[str] | None = None,
    progress: Progress | Callback | None = None,
    threads: int | None = None,
    name: str = "the images",
    **choices: Any,
) -> Trained:
    """Train a network from nothing, and return it quantised: a conversion keeps its counts exactly.

    A network of smooth activations is returned as it was trained, in floats.

    Args:
        arch: of :data:`snnc.training.architectures.ARCHITECTURES`.
        x: (n, height, width), (n, height, width, channels) or (n, channels, height, width), uint8.
        y: (n,) classes from 0.
        course: what to train; the architecture with four levels by default.
        recipe: how long, in which batches; or give its fields by their names, such as ``minutes=60``.
        teacher: a float network whose answers are learned; see :class:`snnc.training.teacher.Teacher`.
        teacher_preprocessing: from pixels to what the teacher takes.
        checkpoints: folder of the run, in which it goes on after an interruption; ``None`` to keep none.
        metrics: file for the measurements, one JSON object a line; ``None`` for none but the folder's.
        progress: as for a conversion.
        threads: of torch; all cores by default.
        name: what the images are called in messages.
        **choices: fields of the recipe.

    Raises:
        UsageError: torch is not installed, or an option makes no sense.
        InputError: images, labels or checkpoints do not fit.
    """
    require_torch("training")
    from snnc.training.course import training_recipe

    wanted = Course(arch=arch) if course is None else course
    asked = training_recipe(wanted, **choices) if recipe is None else recipe
    if asked.reverse:
        raise UsageError("reverse distillation belongs to tune: train without, and tune what is written")
    if asked.channels is not None:
        raise UsageError(
            "channels are taken out by tune: train without, and tune the network that is written"
        )
    if wanted.optimiser != "adam" and asked.second_share == 1:
        raise UsageError(
            f"{wanted.optimiser} trains levels, and there are none: leave rounded below 1, or adam"
        )
    if wanted.arch != arch:
        raise UsageError(f"the course is of {wanted.arch!r}, not of {arch!r}")
    import torch

    from snnc.training.teacher import read_teacher
    from snnc.training.trainer import Trainer

    if asked.device != "cpu" and not torch.cuda.is_available():
        raise UsageError(f"the device {asked.device!r} is not there: leave it out")
    pixels = Pixels.of(x, y, name)
    source, _ = read_source(initial(arch, pixels.x, pixels.classes, asked.seed))
    if wanted.first_size < 1:
        _require_large(wanted, pixels)
    output = source.graph.output_names[0]
    rows = TrainingRows.split(pixels.x, {output: pixels.y}, source, None, name, asked.held_back)
    taught = (
        None if teacher is None else read_teacher(teacher, as_preprocessing(teacher_preprocessing), pixels)
    )
    facts = {
        "version": __version__,
        "course": wanted.as_dict(),
        "recipe": asked.as_dict(),
        "teacher": None if taught is None else taught.sha256,
        "classes": pixels.classes,
        "rows": rows.digest,
    }
    identity = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    before = torch.get_num_threads()
    count = threads or available_cores()
    torch.set_num_threads(count)
    simulator = load_simulator("numba", count)
    try:
        with run_folder(checkpoints, "snnc-train-") as folder:
            grown = Trainer(
                wanted,
                asked,
                pixels,
                source,
                rows,
                taught,
                folder,
                identity,
                teller(folder, metrics),
                simulator,
                as_progress(progress),
            ).run()
    finally:
        torch.set_num_threads(before)
    check_read_back(grown, rows, simulator)
    record = {
        **facts,
        "rows": len(rows.trained),
        "held_back": len(rows.held),
        "measure": grown.measure.as_dict(),
        "equal_rows": grown.equal_rows,
        "steps": list(grown.steps),
        "bfloat16": grown.bfloat16,
        "diverged": list(grown.diverged),
        "curve": list(grown.history),
    }
    text = json.dumps(record)
    grown.model.metadata_props.add(key=PROPERTY, value=text)
    return Trained(grown.model, grown.measure, json.loads(text))


def _require_large(course: Course, pixels: Pixels) -> None:
    """Refuse first images that are too small for the network."""
    from snnc.training.growth import Growth

    growth, one = Growth(course.first_size), pixels.x[:1]
    height, width = (growth.side(size, 0, 1) for size in one.shape[2:])
    try:
        initial(course.arch, one[:, :, :height, :width], pixels.classes, 0)
    except InputError as error:
        raise UsageError(
            f"first_size {course.first_size:g} begins with images of {height} x {width}, too small for "
            f"{course.arch}: give a larger one"
        ) from error


def check_read_back(grown: Grown, rows: TrainingRows, simulator: Simulator) -> None:
    """Read the network that is written, lower it by its own integers, and compare the counts.

    Of a network without levels the scores are compared.

    Raises:
        InternalError: a count or a score differs, or the levels are not all the source's own.
    """
    source, _ = read_source(grown.model)
    chosen = rows.raw[rows.held[:READ_BACK_ROWS]].astype("float32")
    if isinstance(grown.graph, AnnGraph):
        wanted, found = (run_ann(graph, chosen)[0] for graph in (grown.graph, source.graph))
        if not np.allclose(wanted, found, rtol=CLOSE, atol=CLOSE * float(np.abs(wanted).max())):
            raise InternalError("the scores of the network that is written are not those that were trained")
        return
    context = Context(Calibration(chosen, 1), 1, simulator)
    made, _ = run_pipeline(Pipeline.parse(EXACT, PASSES), source.graph, context)
    if not isinstance(made, SnnGraph) or context.findings.get("approximated"):
        raise InternalError("what is written is not read to the same integers")
    traces = [
        simulator.run(graph, encode_all(graph, chosen), 1, RecordOptions(states=True))
        for graph in (grown.graph, made)
    ]
    names = [[node.name for node in graph.of_type(IntegrateFire)] for graph in (grown.graph, made)]
    for one, other in zip(*names, strict=True):
        if (traces[0].counts[one] != traces[1].counts[other]).any():
            raise InternalError(f"the counts of {one!r} are not those of the network that is written")
