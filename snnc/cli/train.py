"""``snnc train``: a network from nothing, to the levels that a spiking network sends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.given import given, refuse
from snnc.cli.learning import Learning, learning_options
from snnc.cli.quantities import FiniteRange
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from snnc.training.train import Trained

ARCHITECTURES = (
    *("small", "wide", "compact", "tiny"),
    *("resnet8", "resnet20", "resnet18", "vgg16", "mobilenetv3", "vit"),
)
"""As in :data:`snnc.training.architectures.ARCHITECTURES`, which would import NumPy."""

OPTIMISERS = ("adam", "sgd")
"""As in :data:`snnc.training.course.OPTIMISERS`."""

LEAKY = ("lif", "da-lif", "cuba-lif")
"""As in :data:`snnc.training.leaky.NEURONS`."""

LEAKY_EPOCHS, LEAKY_BATCH, LEAKY_RATE = 30, 50, 4e-3
"""What leaky networks take where nothing is given."""


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
    optimiser: str
    weight_decay: float | None
    first_size: float
    method: str
    decays: str


@click.command("train", cls=Verb)
@click.option(
    "--arch",
    type=click.Choice((*ARCHITECTURES, *LEAKY)),
    required=True,
    metavar="NAME",
    help=f"The network: {', '.join(ARCHITECTURES)}; see docs/training.md. {', '.join(LEAKY)} learn "
    "frames over time; see docs/time.md.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="ROWS",
    help="Labelled images: .npz with uint8 `x` and classes `y`, a folder of one folder of pictures for each "
    "class, or CIFAR's binary files; for leaky networks .npz whose `x` is frames, (rows, T, *shape).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="OUT.onnx",
    help="The network to write, for `snnc convert`; of leaky neurons the artefact, OUT.snn.onnx.",
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
    "--optimiser",
    type=click.Choice(OPTIMISERS),
    default="adam",
    show_default=True,
    help="Of the first stage: Adam, or gradient descent with Nesterov's momentum.",
)
@click.option(
    "--weight-decay",
    type=FiniteRange(min=0),
    metavar="X",
    help="By how much a step of rate 1 shrinks a weight: 0.02 by default; 0.0012 with sgd, whose "
    "momentum gathers it.",
)
@click.option(
    "--first-size",
    type=FiniteRange(0.5, 1),
    default=1.0,
    show_default=True,
    metavar="SHARE",
    help="Side of the images at the first step, relative to theirs; it grows, and is whole from three "
    "fifths of the first stage on.",
)
@click.option(
    "--method",
    type=click.Choice(["bptt", "rate", "tssl"]),
    default="bptt",
    show_default=True,
    help="How gradients of leaky networks go back: through every step, once through the rates, or through "
    "the times of spikes, which needs the synaptic filter of cuba-lif.",
)
@click.option(
    "--decays",
    type=click.Choice(["layer", "channel"]),
    default="channel",
    show_default=True,
    help="Of what da-lif learns its two decays.",
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
    rate=None,
    rounded=0.15,
    slower=": 0.005 by default, and 0.4 with sgd",
)
@click.pass_obj
def command(terminal: Terminal, /, **options: Any) -> None:
    """Train a network on labelled images, to few levels of activation and int8 weights, and write it as ONNX.

    `snnc convert OUT.onnx --calib ROWS -T N` makes a spiking network of it whose counts are these levels,
    without any loss. A network of smooth activations (mobilenetv3) is trained and written in floats. Needs
    PyTorch: pip install torch.
    """
    from snnc.cli.files import check_outputs, read_named
    from snnc.cli.freed_memory import keep_freed_memory
    from snnc.training.course import Course, training_recipe
    from snnc.training.extra import require_torch

    require_torch("snnc train")
    keep_freed_memory()
    request = Request(**options)
    if request.arch in LEAKY:
        _train_leaky(terminal, request)
        return
    refuse("is for the leaky networks lif, da-lif and cuba-lif", "--method", "--decays")
    read = (request.data, request.teacher_preprocess)
    check_outputs(request.output, request.metrics, others=read, force=request.force)
    course = Course(
        arch=request.arch,
        levels=request.levels,
        smoothing=request.smoothing,
        optimiser=request.optimiser,
        weight_decay=request.weight_decay,
        first_size=request.first_size,
    )
    if course.levels is None:
        refuse(f"is for networks with levels, and {request.arch} has none to train in integers", "--rounded")
    recipe = training_recipe(course, losses=request.losses(), **request.recipe())
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


def _train_leaky(terminal: Terminal, request: Request) -> None:
    """Train a network of leaky neurons on frames, and write the artefact."""
    from snnc.artefact import save
    from snnc.cli.files import check_outputs, read_named
    from snnc.training.leaky import train_leaky

    refuse(
        "is not for leaky networks, which learn labels in one stage of --epochs",
        *("--minutes", "--loss", "--augment", "--levels", "--teacher", "--teacher-preprocess", "--smoothing"),
        *("--weight-decay", "--precision", "--temperature", "--rounded", "--checkpoints", "--metrics"),
        *("--density", "--regrow", "--first-size", "--optimiser"),
    )
    if request.arch != "da-lif":
        refuse(f"is for da-lif: {request.arch} learns no decays", "--decays")
    if request.device != "cpu":
        refuse("is not for leaky networks, which are trained on the CPU", "--device")
    check_outputs(request.output, others=(request.data,), force=request.force)
    rows = read_named(request.data, ("x",), ("y",))
    trained = train_leaky(
        request.arch,
        rows.x,
        rows.y,
        epochs=request.epochs or LEAKY_EPOCHS,
        method=request.method,
        decays=request.decays,
        batch=request.batch if given("--batch") else LEAKY_BATCH,
        rate=LEAKY_RATE if request.rate is None else request.rate,
        held_back=request.held_back,
        seed=request.seed,
        threads=request.threads,
        progress=terminal.progress(),
    )
    save(trained.artefact, request.output)
    held = trained.held_back
    if terminal.json:
        told = {"rows": held.n, "accuracy": held.value, "interval": list(held.interval)}
        record = {"held_back": told, "equal_rows": trained.equal_rows, "decays": trained.decays}
        terminal.data({"output": str(request.output), "arch": request.arch, **record})
        return
    decays = "; ".join(f"{name} {low:.3f} to {high:.3f}" for name, (low, high) in trained.decays.items())
    terminal.done(
        f"wrote {request.output}: {request.arch}; {held} of rows held back; on {trained.equal_rows} of them "
        f"all counts are those that were trained; decays: {decays}"
    )


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
    for stage in trained.record["diverged"]:
        terminal.warn(
            f"the loss or the answers of the stage {stage} were not finite; the last good state is kept "
            "(train at a lower --rate)"
        )
    levels = trained.record["course"]["levels"]
    what, how = "in floats", "--preset one-step -T 1"
    if levels is not None:
        what, how = f"{levels} levels", f"-T {min(2, levels)}"
    terminal.done(
        f"wrote {request.output} ({size / 1e3:,.0f} kB): {request.arch}, {what}; on rows held back, which "
        f"chose among its states, {trained.measure.text}; next: snnc convert {request.output} --calib "
        f"{request.data} {how} {last}-o {request.output.stem}.snn.onnx"
    )
