"""The options of a conversion: the one table that all ways to give them are made from.

:class:`ConvertOptions` has a field for each; its metadata say what the option means and what it may be. From
them come the command line (``snnc/cli/options.py``), the configuration file, its JSON Schema and the table of
the documentation (``snnc/cli/config.py``); and the Python interface checks its arguments by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnc.option_kinds import Option, option, options_of

LAYOUTS = ("NCHW", "NHWC", "NCL", "NLC")
TASKS = ("classes", "binary", "regression")
HOSTS = ("none", "edges", "any")
PRECISIONS = ("int8", "float32")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertOptions:
    """Every option of ``snnc convert``, in the order of its help; the metadata say what each means."""

    output: Path | None = option(
        None,
        "The artefact to write, usually NAME.snn.onnx. Required unless --dry-run.",
        short="-o",
        metavar="OUT",
    )
    calib: Path | None = option(
        None,
        "500 to 1,000 training rows: an .npz file with `x`, an .npy file, a folder of pictures, sounds or "
        "recordings, a list of such files, or a CSV table; a network of the zoo has its own rows.",
        "the calibration rows: an .npz or .npy file, a folder, a list of files, or a CSV table",
        metavar="ROWS",
    )
    timesteps: int | None = option(
        None,
        "Number of time steps; by default chosen, or 4 with --pipeline.",
        "T, the number of time steps",
        short="-T",
        metavar="N",
        least=1,
    )
    preset: str | None = option(
        None,
        "A fixed pipeline: balanced, fast, binary-only, graded, low-latency, one-step, precise, low-power, "
        "exact or paper. By default exact, T = 1, for a quantised network whose levels it keeps; else a "
        "short list is compared on held-back rows, and the candidate with the fewest operations that loses "
        "at most one point is chosen; without -T, so are the steps.",
        "the name of a fixed pipeline",
        metavar="NAME",
    )
    pipeline: str | None = option(
        None,
        "The passes in order, instead of a preset: a,b{option=value},c.",
        "the text form of a pipeline, instead of a preset",
        metavar="TEXT",
    )
    settings: Mapping[str, Any] = option(
        {},
        "Set one option of a pass: PASS.OPTION=VALUE. May be repeated.",
        "options of single passes: PASS.OPTION = value",
        name="set",
        metavar="KEY=VALUE",
    )
    preprocess: Path | None = option(
        None,
        "Preprocessing of raw rows: a JSON file, or preset:imagenet, preset:cifar10 or preset:tf. "
        "For one input of several: INPUT=FILE.json.",
        "the preprocessing of raw rows: a JSON file, or preset:imagenet, preset:cifar10, preset:tf; "
        "INPUT=FILE for one input of several",
        metavar="[INPUT=]FILE.json",
    )
    rows_layout: str | None = option(
        None,
        "Layout of the rows, where their shape fits several: NCHW or NHWC, or for signals NCL or NLC.",
        "layout of the rows",
        metavar="LAYOUT",
        choices=LAYOUTS,
    )
    precision: str = option(
        "int8",
        "Precision of weights and potentials.",
        "precision of weights and potentials",
        choices=PRECISIONS,
        show_default=True,
    )
    host: str = option(
        "edges",
        "What has no spiking form may run as ordinary ONNX: nothing of it, what stands before or behind all "
        "spikes, or also islands between spikes, each of which costs the steps of one more run. What does is "
        "named node by node.",
        "where ordinary ONNX may keep what has no spiking form",
        choices=HOSTS,
        show_default=True,
    )
    frames: bool = option(
        False,
        "The network was trained on accumulated frames, and the result takes the frames, (rows, T, *shape): "
        "step t sees frame t. The calibration rows are accumulated.",
        "whether the result takes T frames that add up to a row of the network",
    )
    seed: int = option(
        0,
        "Seed of all random choices.",
        "seed of every random choice",
        metavar="N",
        least=0,
        show_default=True,
    )
    max_drop: float | None = option(
        None,
        "Write nothing and exit with 4 if the loss is larger. Every fifth calibration row is held back to "
        "measure it: as accuracy if FILE.npz has labels `y`, else as the share of different answers. Not for "
        "outputs that are numbers: see --min-metric.",
        "the largest accepted loss, in points",
        metavar="POINTS",
        least=0,
    )
    min_metric: tuple[str, ...] = option(
        (),
        "Exit with 4 if a metric is lower, such as r2=0.99 or sqnr=35: see docs/metrics.md. May be repeated.",
        "lower limits of metrics: NAME=VALUE, such as r2=0.99",
        metavar="NAME=VALUE",
    )
    task: str | None = option(
        None,
        "Kind of the outputs, where labels, artefact and softmax leave it open: classes, binary (one yes or "
        "no) or regression (numbers).",
        "the kind of the outputs",
        metavar="KIND",
        choices=TASKS,
    )
    shape: tuple[str, ...] = option(
        (),
        "Fix the sizes of an input that MODEL leaves open, the batch first: NAME=1,3,320,320. May be "
        "repeated.",
        "sizes of an input that the network leaves open: NAME=1,3,320,320",
        metavar="NAME=SIZES",
    )
    fix: tuple[str, ...] = option(
        (),
        "Give an input of MODEL a value that stays, and take it from the inputs: NAME=16000, or NAME=0,1,0 "
        "for all of its values. May be repeated.",
        "inputs of the network that get a value: NAME=16000",
        metavar="NAME=VALUE",
    )
    keep_output: tuple[str, ...] = option(
        (),
        "Keep only this output of MODEL, and the inputs that it needs. May be repeated.",
        "names of the outputs to keep; all by default",
        metavar="NAME",
    )
    max_latency: int | None = option(
        None,
        "A budget: steps from input to answer. --max-latency and --max-synops each start a search "
        "over presets, steps, levels, settle steps, spikes per step and fine skips. It prints the Pareto "
        "front and writes the best network within all limits, --payload and --max-drop included; exits with "
        "4 if there is none.",
        "a budget: steps from input to answer",
        metavar="N",
        least=1,
        because="an answer takes at least one step",
    )
    max_synops: float | None = option(
        None,
        "A budget: synaptic operations divided by the MACs of the ANN.",
        "a budget: synaptic operations divided by the source network's MACs",
        metavar="RATIO",
        least=0,
        beyond=True,
        because="a network without operations answers nothing",
    )
    payload: str | None = option(
        None,
        "The largest payload of a spike: binary, signed or levels:M. Restricts the candidates of the choice "
        "or of a budget.",
        "the largest payload of a spike: binary, signed or levels:M",
        metavar="KIND",
        pattern=r"(binary|signed|levels:[1-9]\d*)(\+(binary|signed|levels:[1-9]\d*))*",
        form="binary, signed or levels:M",
    )
    tune: float | None = option(
        None,
        "Learn thresholds, weights and membranes on the calibration rows for so many minutes, by gradients; "
        "needs -T, and PyTorch. `snnc tune` has all options, and learns from labels, too.",
        "minutes in which thresholds, weights and membranes are learned by gradients",
        metavar="MINUTES",
        least=0,
        beyond=True,
        because="nothing is learned in no time",
    )
    front: Path | None = option(
        None,
        "Search conversions, within a budget if there is one, and draw the cost and loss of each.",
        metavar="FILE.svg",
    )
    journal: Path | None = option(
        None,
        "Where a search stores its measurements, so that the same command continues after an interruption; "
        "OUT.journal by default, removed when OUT is written.",
        metavar="FILE",
    )
    dry_run: bool = option(
        False,
        "Check options, network and rows, and print what would be done.",
    )
    dump_ir_after: str | None = option(
        None,
        "Print the network after this pass on stderr.",
        metavar="PASS|all",
    )
    threads: int | None = option(
        None,
        "Number of threads; all cores by default.",
        "the number of threads",
        metavar="N",
        least=1,
    )
    force: bool = option(
        False,
        "Replace OUT and the picture of --front if they exist.",
    )

    def __post_init__(self) -> None:
        """Refuse values that do not fit, in one line.

        Raises:
            UsageError: naming the option.
        """
        for name, each in OPTIONS.items():
            object.__setattr__(self, name, each.checked(getattr(self, name)))


OPTIONS: Mapping[str, Option] = options_of(ConvertOptions)
"""Every option by the name of its field, in the order of the help."""


def input_and_file(path: Path) -> tuple[str | None, Path]:
    """Split ``INPUT=FILE``, the preprocessing of one input of several; ``None`` for no input.

    A file of that very name is no such pair.
    """
    name, equals, file = str(path).partition("=")
    return (name, Path(file)) if name and equals and file and not path.exists() else (None, path)
