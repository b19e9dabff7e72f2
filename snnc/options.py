"""The options of a conversion: the one table that all ways to give them are made from.

:class:`ConvertOptions` has a field for each; its metadata say what the option means and what it may be. From
them come the command line (``snnc/cli/options.py``), the configuration file, its JSON Schema and the table of
the documentation (``snnc/cli/config.py``); and the Python interface checks its arguments by them.
"""

from __future__ import annotations

import math
import operator
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any

from snnc.errors import UsageError

LAYOUTS = ("NCHW", "NHWC", "NCL", "NLC")
TASKS = ("classes", "binary", "regression")
HOSTS = ("none", "edges", "any")
PRECISIONS = ("int8", "float32")


class Kind(Enum):
    """What the value of an option is; the value is its type in a JSON Schema."""

    INTEGER = "integer"
    NUMBER = "number"
    STRING = "string"
    PATH = "path"
    FLAG = "boolean"
    ARRAY = "array"
    OBJECT = "object"


_KINDS: dict[object, Kind] = {
    int: Kind.INTEGER,
    float: Kind.NUMBER,
    str: Kind.STRING,
    Path: Kind.PATH,
    bool: Kind.FLAG,
    tuple: Kind.ARRAY,
    Mapping: Kind.OBJECT,
}

_TYPES: dict[Kind, tuple[tuple[type, ...], str]] = {
    Kind.STRING: ((str,), "a string"),
    Kind.PATH: ((str, Path), "a path"),
    Kind.FLAG: ((bool,), "true or false"),
    Kind.ARRAY: ((list, tuple), "a list of strings"),
}
"""What a value of a kind is, beside numbers and settings, and what it is called."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is said of an option beside its name, type and default.

    Attributes:
        help: for ``--help``.
        meaning: one line for the configuration file; empty where only the command line has the option.
        short: a second spelling, such as ``-T``.
        name: as it is written, where it is not that of the field.
        metavar: what stands for the value in the help.
        least: the least that a number may be, or, where only what lies ``beyond`` it is, the bound.
        beyond: whether ``least`` itself is refused.
        because: why a number below is refused.
        choices: the words that are allowed.
        show_default: whether the help tells the default.
    """

    help: str
    meaning: str = ""
    short: str = ""
    name: str = ""
    metavar: str | None = None
    least: int | None = None
    beyond: bool = False
    because: str = ""
    choices: tuple[str, ...] = ()
    show_default: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a conversion.

    Attributes:
        field: its name in Python.
        kind: what its value is.
        default: what it is where it is not given.
        facts: everything else.
    """

    field: str
    kind: Kind
    default: Any
    facts: Facts

    @property
    def name(self) -> str:
        """As it is written on the command line, behind two hyphens, and in a file."""
        return self.facts.name or self.field.replace("_", "-")

    @property
    def in_file(self) -> bool:
        """Whether a configuration file may give it."""
        return bool(self.facts.meaning)

    def problem(self, value: Any) -> str | None:
        """Say why a value does not fit, in words that follow the option's name; ``None`` where it does."""
        if self.kind in (Kind.INTEGER, Kind.NUMBER):
            return self._number_problem(value)
        if self.kind is Kind.OBJECT:
            return _settings_problem(value)
        types, what = _TYPES[self.kind]
        items: Any = value if isinstance(value, list | tuple) else ()
        if not isinstance(value, types) or not all(isinstance(item, str) for item in items):
            return f"must be {what}, not {_said(value)}"
        if self.facts.choices and value not in self.facts.choices:
            return f"must be one of {', '.join(self.facts.choices)}, not {value!r}"
        return None

    def checked(self, value: Any, name: str = "") -> Any:
        """Return a value as Python's own kind; ``None`` stays where that is the default.

        Args:
            value: given.
            name: what the option is called in the error; that of its field otherwise.

        Raises:
            UsageError: it does not fit.
        """
        if value is None and self.default is None:
            return None
        problem = self.problem(value)
        if problem is not None:
            raise UsageError(f"{name or self.field} {problem}")
        return self._plain(value)

    def _plain(self, value: Any) -> Any:
        """Return a value that fits as Python's own kind."""
        match self.kind:
            case Kind.INTEGER:
                return operator.index(value)
            case Kind.NUMBER:
                return float(value)
            case Kind.PATH:
                return Path(value)
            case Kind.ARRAY:
                return tuple(value)
            case Kind.OBJECT:
                return {key: setting_text(item) for key, item in value.items()}
            case _:
                return value

    def _number_problem(self, value: Any) -> str | None:
        whole = self.kind is Kind.INTEGER
        # Numbers of NumPy are numbers, too; a truth value is none, and 4.0 is no whole one.
        if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
            return f"must be {'a whole number' if whole else 'a number'}, not {_said(value)}"
        if not whole and not _is_finite(value):
            return f"must be a finite number, not {_said(value)}"
        low, beyond, because = self.facts.least, self.facts.beyond, self.facts.because
        if low is not None and (value <= low if beyond else value < low):
            bound = f"{'more than' if beyond else 'at least'} {low:g}"
            return f"must be {bound}, not {_said(value)}" + (f": {because}" if because else "")
        return None


def setting_text(value: str | float) -> str:
    """Return the value of an option of a pass as a pipeline writes it: ``true`` for ``True``, ``8`` for 8."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def setting_problem(value: object) -> str | None:
    """Say why a value is none of an option of a pass."""
    if not isinstance(value, str | int | float):
        return f"must be a string, a number, true or false, not {_said(value)}"
    return None if isinstance(value, str) or _is_finite(value) else f"must be a finite number, not {value}"


def _settings_problem(values: object) -> str | None:
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        return f"must be a dictionary, {{'PASS.OPTION': value}}, not {_said(values)}"
    problems = ((key, setting_problem(value)) for key, value in values.items())
    return next((f"hold {key}, which {problem}" for key, problem in problems if problem), None)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _said(value: object) -> str:
    """Return a short form of anything."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # a whole number of thousands of digits
        return f"this {type(value).__name__}"
    return text if len(text) <= 40 else f"this {type(value).__name__}"


def _option(default: Any, text: str, meaning: str = "", **facts: Any) -> Any:
    """Return a field of the table."""
    metadata = {"facts": Facts(text, meaning, **facts)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertOptions:
    """Every option of ``snnc convert``, in the order of its help; the metadata say what each means."""

    output: Path | None = _option(
        None,
        "The artefact to write, usually NAME.snn.onnx. Required unless --dry-run.",
        short="-o",
        metavar="OUT",
    )
    calib: Path | None = _option(
        None,
        "500 to 1,000 training rows: an .npz file with `x`, an .npy file, a folder of pictures, sounds or "
        "recordings, a list of such files, or a CSV table; a network of the zoo has its own rows.",
        "the calibration rows: an .npz or .npy file, a folder, a list of files, or a CSV table",
        metavar="ROWS",
    )
    timesteps: int | None = _option(
        None,
        "Number of time steps; by default chosen, or 4 with --pipeline.",
        "T, the number of time steps",
        short="-T",
        metavar="N",
        least=1,
    )
    preset: str | None = _option(
        None,
        "A fixed pipeline: balanced, fast, binary-only, graded, low-latency, one-step, precise, low-power, "
        "exact or paper. By default exact, T = 1, for a quantised network whose levels it keeps; else a "
        "short list is compared on held-back rows, and the candidate with the fewest operations that loses "
        "at most one point is chosen; without -T, so are the steps.",
        "the name of a fixed pipeline",
        metavar="NAME",
    )
    pipeline: str | None = _option(
        None,
        "The passes in order, instead of a preset: a,b{option=value},c.",
        "the text form of a pipeline, instead of a preset",
        metavar="TEXT",
    )
    settings: Mapping[str, Any] = _option(
        {},
        "Set one option of a pass: PASS.OPTION=VALUE. May be repeated.",
        "options of single passes: PASS.OPTION = value",
        name="set",
        metavar="KEY=VALUE",
    )
    preprocess: Path | None = _option(
        None,
        "Preprocessing of raw rows: a JSON file, or preset:imagenet, preset:cifar10 or preset:tf. "
        "For one input of several: INPUT=FILE.json.",
        "the preprocessing of raw rows: a JSON file, or preset:imagenet, preset:cifar10, preset:tf; "
        "INPUT=FILE for one input of several",
        metavar="[INPUT=]FILE.json",
    )
    rows_layout: str | None = _option(
        None,
        "Layout of the rows, where their shape fits several: NCHW or NHWC, or for signals NCL or NLC.",
        "layout of the rows",
        metavar="LAYOUT",
        choices=LAYOUTS,
    )
    precision: str = _option(
        "int8",
        "Precision of weights and potentials.",
        "precision of weights and potentials",
        choices=PRECISIONS,
        show_default=True,
    )
    host: str = _option(
        "edges",
        "What has no spiking form may run as ordinary ONNX: nothing of it, what stands before or behind all "
        "spikes, or also islands between spikes, each of which costs the steps of one more run. What does is "
        "named node by node.",
        "where ordinary ONNX may keep what has no spiking form",
        choices=HOSTS,
        show_default=True,
    )
    frames: bool = _option(
        False,
        "The network was trained on accumulated frames, and the result takes the frames, (rows, T, *shape): "
        "step t sees frame t. The calibration rows are accumulated.",
        "whether the result takes T frames that add up to a row of the network",
    )
    seed: int = _option(
        0,
        "Seed of all random choices.",
        "seed of every random choice",
        metavar="N",
        least=0,
        show_default=True,
    )
    max_drop: float | None = _option(
        None,
        "Write nothing and exit with 4 if the loss is larger. Every fifth calibration row is held back to "
        "measure it: as accuracy if FILE.npz has labels `y`, else as the share of different answers. Not for "
        "outputs that are numbers: see --min-metric.",
        "the largest accepted loss, in points",
        metavar="POINTS",
        least=0,
    )
    min_metric: tuple[str, ...] = _option(
        (),
        "Exit with 4 if a metric is lower, such as r2=0.99 or sqnr=35: see docs/metrics.md. May be repeated.",
        "lower limits of metrics: NAME=VALUE, such as r2=0.99",
        metavar="NAME=VALUE",
    )
    task: str | None = _option(
        None,
        "Kind of the outputs, where labels, artefact and softmax leave it open: classes, binary (one yes or "
        "no) or regression (numbers).",
        "the kind of the outputs",
        metavar="KIND",
        choices=TASKS,
    )
    shape: tuple[str, ...] = _option(
        (),
        "Fix the sizes of an input that MODEL leaves open, the batch first: NAME=1,3,320,320. May be "
        "repeated.",
        "sizes of an input that the network leaves open: NAME=1,3,320,320",
        metavar="NAME=SIZES",
    )
    keep_output: tuple[str, ...] = _option(
        (),
        "Keep only this output of MODEL, and the inputs that it needs. May be repeated.",
        "names of the outputs to keep; all by default",
        metavar="NAME",
    )
    max_latency: int | None = _option(
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
    max_synops: float | None = _option(
        None,
        "A budget: synaptic operations divided by the MACs of the ANN.",
        "a budget: synaptic operations divided by the source network's MACs",
        metavar="RATIO",
        least=0,
        beyond=True,
        because="a network without operations answers nothing",
    )
    payload: str | None = _option(
        None,
        "The largest payload of a spike: binary, signed or levels:M. Restricts the candidates of the choice "
        "or of a budget.",
        "the largest payload of a spike: binary, signed or levels:M",
        metavar="KIND",
    )
    tune: float | None = _option(
        None,
        "Learn thresholds, weights and membranes on the calibration rows for so many minutes, by gradients; "
        "needs -T, and PyTorch. `snnc tune` has all options, and learns from labels, too.",
        "minutes in which thresholds, weights and membranes are learned by gradients",
        metavar="MINUTES",
        least=0,
        beyond=True,
        because="nothing is learned in no time",
    )
    front: Path | None = _option(
        None,
        "Search conversions, within a budget if there is one, and draw the cost and loss of each.",
        metavar="FILE.svg",
    )
    journal: Path | None = _option(
        None,
        "Where a search stores its measurements, so that the same command continues after an interruption; "
        "OUT.journal by default, removed when OUT is written.",
        metavar="FILE",
    )
    dry_run: bool = _option(
        False,
        "Check options, network and rows, and print what would be done.",
    )
    dump_ir_after: str | None = _option(
        None,
        "Print the network after this pass on stderr.",
        metavar="PASS|all",
    )
    threads: int | None = _option(
        None,
        "Number of threads; all cores by default.",
        "the number of threads",
        metavar="N",
        least=1,
    )
    force: bool = _option(
        False,
        "Replace OUT and the picture of --front if they exist.",
    )

    def __post_init__(self) -> None:
        """Refuse values that do not fit, in one line.

        Raises:
            UsageError: naming the option.
        """
        for name, option in OPTIONS.items():
            object.__setattr__(self, name, option.checked(getattr(self, name)))


def _kind(hint: Any) -> Kind:
    """Return the kind of a type, with or without ``None``."""
    if isinstance(hint, UnionType):
        (hint,) = (each for each in typing.get_args(hint) if each is not type(None))
    return _KINDS[typing.get_origin(hint) or hint]


def _options() -> dict[str, Option]:
    hints = typing.get_type_hints(ConvertOptions)
    return {
        item.name: Option(
            item.name,
            _kind(hints[item.name]),
            item.default if item.default_factory is MISSING else item.default_factory(),
            item.metadata["facts"],
        )
        for item in fields(ConvertOptions)
    }


OPTIONS: Mapping[str, Option] = _options()
"""Every option by the name of its field, in the order of the help."""


def input_and_file(path: Path) -> tuple[str | None, Path]:
    """Split ``INPUT=FILE``, the preprocessing of one input of several; ``None`` for no input.

    A file of that very name is no such pair.
    """
    name, equals, file = str(path).partition("=")
    return (name, Path(file)) if name and equals and file and not path.exists() else (None, path)
