"""``snnc train``: a network from nothing, to the levels that a spiking network sends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.learning import Learning, learning_options
from snnc.cli.quantities import FiniteRange
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from snnc.training.train import Trained

ARCHITECTURES = ("small", "tiny", "resnet8", "resnet20", "resnet18", "vgg16", "mobilenetv3")
"""As in :data:`snnc.training.architectures.ARCHITECTURES`, which would import NumPy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Learning):
    """The options of the verb."""

    arch: str
    data: Path
    output: Path
    levels: int | None
    teacher: str | None
    teacher_preprocess: Path | None
    smoothing: float
    weight_decay: float


@click.command("train", cls=Verb)
@click.option(
    "--arch", type=click.Choice(ARCHITECTURES), required=True, help="The network; see docs/training.md."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="ROWS",
    help="Labelled images: .npz with uint8 `x` and classes `y`, a folder of one folder of pictures for each "
    "class, or CIFAR's binary files.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="OUT.onnx",
    help="The network to write, for `snnc convert`.",
)
@click.option(
    "--levels",
    type=click.IntRange(1, 255),
    metavar="N",
    help="Levels of every hidden activation, zero apart, 4 by default: in T steps, spikes carry up to "
    "LEVELS / T.",
)
@click.option("--teacher", metavar="MODEL", help="A float network whose answers are learned beside labels.")
@click.option(
    "--teacher-preprocess",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="From pixels to what the teacher takes, as for `convert --preprocess`.",
)
@click.option(
    "--smoothing",
    type=FiniteRange(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Share of a label that is spread over all classes.",
)
@click.option(
    "--weight-decay",
    type=FiniteRange(min=0),
    default=0.02,
    show_default=True,
    metavar="X",
    help="By how much a step of rate 1 shrinks a weight.",
)
@learning_options(
    rows="images",
    folder="OUT.training",
    epochs="Passes over the images, instead of --minutes.",
    loss="labels; with a teacher also kl, hta-kl. By default labels, or kl=0.9,labels=0.1.",
    augment="crop,alternate",
    changes="Changes of images: crop, flip, alternate (each image mirrored in every second pass), cutout; "
    "none.",
    batch=256,
    rate=5e-3,
    rounded=0.15,
)
@click.pass_obj
def command(terminal: Terminal, /, **options: Any) -> None:
    """Train a network on labelled images, to few levels of activation and int8 weights, and write it as ONNX.

    `snnc convert OUT.onnx --calib ROWS -T N` makes a spiking network of it whose counts are these levels,
    without any loss. A network of smooth activations (mobilenetv3) is trained and written in floats. Needs
    PyTorch: pip install torch.
    """
    from snnc.cli.files import check_outputs, read_named
    from snnc.training.course import Course, training_recipe
    from snnc.training.extra import require_torch

    require_torch("snnc train")
    request = Request(**options)
    read = (request.data, request.teacher_preprocess)
    check_outputs(request.output, request.metrics, others=read, force=request.force)
    course = Course(
        arch=request.arch,
        levels=request.levels,
        smoothing=request.smoothing,
        weight_decay=request.weight_decay,
    )
    recipe = training_recipe(losses=request.losses(), **request.recipe())
    rows = read_named(request.data, ("x",), ("y",))
    folder = request.checkpoints or Path(f"{request.output}.training")
    terminal.journal = folder
    from snnc.training.pixels import is_channels_last
    from snnc.training.train import train

    trained = train(
        request.arch,
        rows.x,
        rows.y,
        course=course,
        recipe=recipe,
        teacher=request.teacher,
        teacher_preprocessing=request.teacher_preprocess,
        checkpoints=folder,
        metrics=request.metrics,
        progress=terminal.progress(),
        threads=request.threads,
        name=rows.name,
    )
    trained.save(request.output)
    request.forget(folder)
    _tell(terminal, trained, request, "--rows-layout NHWC " if is_channels_last(rows.x) else "")


def _tell(terminal: Terminal, trained: Trained, request: Request, last: str) -> None:
    size = request.output.stat().st_size
    if terminal.json:
        terminal.data(
            {
                "output": str(request.output),
                "bytes": size,
                "total_seconds": round(terminal.seconds, 3),
                **trained.record,
            }
        )
        return
    levels = trained.record["course"]["levels"]
    what, how = "in floats", "--preset one-step -T 1"
    if levels is not None:
        what, how = f"{levels} levels", f"-T {min(2, levels)}"
    terminal.done(
        f"wrote {request.output} ({size / 1e3:,.0f} kB): {request.arch}, {what}; on rows held back, which "
        f"chose among its states, {trained.measure.text}; next: snnc convert {request.output} --calib "
        f"{request.data} {how} {last}-o {request.output.stem}.snn.onnx"
    )
