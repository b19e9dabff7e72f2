"""``snnc tune``: thresholds, weights and membranes learned by gradients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli import nir
from snnc.cli.given import refuse
from snnc.cli.inputs_outputs import fix_option, keep_option, shape_option
from snnc.cli.judging import task_option
from snnc.cli.layouts import rows_layout, with_layout
from snnc.cli.learning import Learning, learning_options
from snnc.cli.options import option_of, setting
from snnc.cli.quantities import FiniteRange
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from snnc.cli.files import Labelled
    from snnc.cli.models import Located
    from snnc.compiler import Options
    from snnc.training.kept import Kept
    from snnc.training.recipe import Recipe
    from snnc.training.tuning import Tuning

STEPS = "{T}"
"""What stands for T in the name of an output, where there are several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Learning):
    """The options of the verb."""

    output: str
    train: Path | None
    labels: bool
    timesteps: str
    learn: str | None
    fine_skip: bool
    finish: str | None
    reverse: bool
    channels: float | None
    channel_score: str
    preset: str | None
    pipeline: str | None
    settings: tuple[str, ...]
    preprocess: Path | None
    rows_layout: str | None
    task: str | None
    shape: tuple[str, ...]
    fix: tuple[str, ...]
    keep_output: tuple[str, ...]
    host: str

    @property
    def prunes_channels(self) -> bool:
        """Whether channels go, so that others may grow again."""
        return self.channels is not None


@click.command("tune", cls=Verb, params=list(nir.OPTIONS))
@click.argument("model")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    help="The artefact to write, NAME.snn.onnx; with several T a name that holds {T}.",
)
@click.option(
    "--train",
    type=click.Path(path_type=Path),
    metavar="ROWS",
    help="Training rows, as many as there are: as for `convert --calib`; for a network of the zoo, its own "
    "rows by default.",
)
@click.option("--labels", is_flag=True, help="Learn from the labels `y` of ROWS, too, and judge by them.")
@click.option(
    "-T",
    "--timesteps",
    default="2",
    show_default=True,
    metavar="N[,N...]",
    help="Number of time steps; several, as 8,4,2,1, are trained from many to few, each from the last.",
)
@click.option(
    "--learn",
    metavar="NAME,...",
    help="What is learned: weights, biases, thresholds, floors, starts, norms. By default all.",
)
@click.option(
    "--fine-skip",
    is_flag=True,
    help="Give identity branches, narrow shortcuts and the classifier a graded population of more levels.",
)
@click.option(
    "--finish",
    type=click.Choice(["rate", "bptt", "cycles", "tssl"]),
    help="For spikes whose order matters, one a step: train the integers through all steps, back through "
    "their rates, through each step, that in turns with local plasticity, or the times of spikes (networks "
    "over time alone).",
)
@click.option(
    "--reverse",
    is_flag=True,
    help="With --density: let the sparse network teach a denser one in turns, and prune that again.",
)
@click.option(
    "--channels",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Share of the channels of every layer that are taken out while it learns; by default none.",
)
@click.option(
    "--channel-score",
    type=click.Choice(["gradient", "potential"]),
    default="gradient",
    show_default=True,
    help="With --channels: which go, by the gradient of their gates, or by their potentials.",
)
@learning_options(
    rows="training rows",
    folder="OUT.tuning",
    epochs="Passes over the training rows for each T, instead of --minutes, which are for all T together.",
    loss="kl, hta-kl, squared, labels, anytime, features, attention, activity. By default kl (or squared, of "
    "numbers), with a tenth of labels.",
    augment="none",
    changes="Random changes of images under which an answer stays right: crop, flip, cutout; or mix, for "
    "which the source alone has an answer.",
    batch=128,
    rate=1e-3,
    slower=", over the root of the levels of T steps; and 1e-4 at most for the integers behind them",
)
@option_of("preset", "How neurons fire: a preset of `snnc convert`; balanced by default.")
@option_of("pipeline")
@option_of("settings")
@option_of("preprocess")
@rows_layout
@task_option
@shape_option
@fix_option
@keep_option
@option_of("host")
@click.pass_obj
def command(terminal: Terminal, /, model: str, **options: Any) -> None:
    """Convert MODEL, tune its thresholds, weights, biases and initial potentials by gradients, and write it.

    The network that is trained is the one that is deployed, to the bit. It learns from MODEL's answers, and
    from labels with --labels. A network over time, a NIR file or an artefact of leaky neurons, is tuned on
    labelled frames; see docs/time.md. Needs PyTorch: pip install torch.
    """
    from snnc.artefact import save
    from snnc.cli.files import check_outputs
    from snnc.cli.models import locate
    from snnc.cli.tune_leaky import over_time, tune_over_time
    from snnc.errors import UsageError
    from snnc.training.extra import require_torch
    from snnc.training.recipe import Recipe, read_names

    require_torch("snnc tune")
    said = {name: options.pop(name) for name in nir.NAMES}
    request = Request(**options)
    timesteps = _timesteps(request.timesteps)
    outputs = _outputs(request.output, timesteps)
    located = locate(model)
    is_nir = model.endswith(nir.SUFFIX)
    artefact = None if is_nir else over_time(located.path, model)
    if is_nir or artefact is not None:
        tune_over_time(terminal, located.path, artefact, request, said)
        return
    nir.refuse_without_nir(said)
    if request.finish == "tssl":
        raise UsageError("--finish tssl needs a synaptic filter, which no network that is converted has")
    read = (located.path, request.train, request.preprocess)
    check_outputs(*outputs.values(), request.metrics, others=read, force=request.force)
    choices: dict[str, Any] = {}
    if request.learn is not None:
        choices["learn"] = read_names(request.learn)
    if request.density is None:
        refuse("lets a sparse network teach: give --density", "--reverse")
    if request.channels is None:
        refuse("is for networks that lose channels: give --channels", "--channel-score")
    recipe = Recipe(
        losses=request.losses() or {},
        fine_skip=request.fine_skip,
        finish=request.finish,
        reverse=request.reverse,
        channels=request.channels,
        channel_score=request.channel_score,
        **request.recipe(),
        **choices,
    )
    rows = _rows(located, request)
    folder = request.checkpoints or Path(f"{request.output.replace(STEPS, '')}.tuning")
    tuning = tuned(
        terminal,
        located,
        rows,
        recipe,
        _conversion_options(request),
        timesteps=timesteps,
        labels=request.labels,
        folder=folder,
        metrics=request.metrics,
    )
    for T, output in outputs.items():
        save(tuning.artefacts[T], output)
    request.forget(folder)
    _tell(terminal, tuning, outputs)


def tuned(
    terminal: Terminal,
    located: Located,
    rows: Labelled,
    recipe: Recipe,
    options: Options,
    *,
    timesteps: tuple[int, ...],
    labels: bool,
    folder: Path,
    metrics: Path | None = None,
) -> Tuning:
    """Tune a network, and warn of what is to be known; an interrupted run is told where it goes on."""
    from snnc.cli.freed_memory import keep_freed_memory
    from snnc.errors import UsageError
    from snnc.training.tuning import tune

    keep_freed_memory()
    if labels and rows.y is None:
        raise UsageError(f"--labels: {rows.name} come without labels `y`: leave it out")
    terminal.journal = folder
    tuning = tune(
        located.name,
        rows.x,
        rows.y if labels else None,
        timesteps=timesteps,
        recipe=recipe,
        options=options,
        preprocessing=rows.preprocessing,
        checkpoints=folder,
        metrics=metrics,
        progress=terminal.progress(),
        name=rows.name,
    )
    for found in tuning.diagnostics:
        terminal.warn(found)
    return tuning


def lines(tuning: Tuning) -> list[str]:
    """Return what came of each T, for the user."""
    return [
        f"T = {T}: {'tuned' if kept.is_tuned else 'closed form kept'}; on {_held(kept)} rows held back "
        f"{(kept.tuned or kept.closed).text}; closed form {kept.closed.text}; {_compared(kept)}"
        for T, kept in tuning.results.items()
    ]


def _compared(kept: Kept) -> str:
    if kept.untrained:
        return f"only the levels are trained: {kept.untrained}"
    return f"counts equal on {kept.equal_rows} of {kept.equal_rows} rows"


def _held(kept: Any) -> str:
    return "the" if kept.closed.right is None else f"{kept.closed.right.n}"


def _timesteps(text: str) -> tuple[int, ...]:
    from snnc.errors import UsageError

    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1 or len(set(found)) < len(found):
        raise UsageError(f"-T {text}: give a number of steps, or several that differ, as 8,4,2,1")
    return tuple(sorted(found, reverse=True))


def _outputs(name: str, timesteps: tuple[int, ...]) -> dict[int, Path]:
    from snnc.errors import UsageError

    if len(timesteps) > 1 and STEPS not in name:
        raise UsageError(
            f"there are {len(timesteps)} networks: give -o a name with {STEPS}, as net.T{STEPS}.snn.onnx"
        )
    return {T: Path(name.replace(STEPS, str(T))) for T in timesteps}


def _conversion_options(request: Request) -> Options:
    from snnc.cli.judging import task_of
    from snnc.compiler import Options
    from snnc.pass_options import once

    return Options(
        preset=request.preset,
        pipeline=request.pipeline,
        settings=once(map(setting, request.settings), "--set"),
        seed=request.seed,
        threads=request.threads,
        task=task_of(request.task),
        shape=request.shape,
        fix=request.fix,
        keep_output=request.keep_output,
        host=request.host,
    )


def _rows(located: Located, request: Request) -> Labelled:
    from snnc.cli.files import Labelled, read_named
    from snnc.cli.inputs_outputs import names_of
    from snnc.data.preprocessing import Preprocessing
    from snnc.errors import UsageError
    from snnc.models import calibration_data
    from snnc.options import ConvertOptions

    preprocessing = None if request.preprocess is None else Preprocessing.read(request.preprocess)
    if request.train is not None:
        asked = ConvertOptions(shape=request.shape, fix=request.fix, keep_output=request.keep_output)
        inputs, outputs = names_of(located.path, asked)
        found = read_named(request.train, inputs, outputs, preprocessing)
        return Labelled(found.x, found.y, found.name, with_layout(found.preprocessing, request.rows_layout))
    if located.entry is None:
        raise UsageError("no training rows: name them by --train ROWS")
    x, y = calibration_data(located.entry)
    if preprocessing is None:
        preprocessing = Preprocessing.from_dict(located.entry.preprocessing)
    name = f"the zoo's {located.entry.dataset.name}"
    return Labelled(x, y, name, with_layout(preprocessing, request.rows_layout))


def _tell(terminal: Terminal, tuning: Tuning, outputs: Mapping[int, Path]) -> None:
    if terminal.json:
        terminal.data(
            {
                "networks": [
                    {"output": str(path), "bytes": path.stat().st_size, **tuning.results[T].as_dict()}
                    for T, path in outputs.items()
                ],
                "total_seconds": round(terminal.seconds, 3),
                "diagnostics": [item.as_dict() for item in tuning.diagnostics],
            }
        )
        return
    for line, path in zip(lines(tuning), outputs.values(), strict=True):
        terminal.done(f"wrote {path} ({path.stat().st_size / 1e3:,.0f} kB): {line}")
