"""Passes, the context they run in, and pipelines of them with a text form.

A pipeline reads as the compiler does::

    fold-batchnorm,clip-activations{method=mse,granularity=channel},lower,init-membrane{fraction=0.5}

The graph is verified before the first pass and after each one.
"""

from __future__ import annotations

import dataclasses
import math
import re
import time
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, cast

from snnc.compensation.snapshots import Snapshots
from snnc.diagnostics import Diagnostic
from snnc.errors import SnncError, UnknownOperationError, UsageError, VerificationError
from snnc.ir.ann import AnnGraph
from snnc.ir.graph import Graph
from snnc.ir.operations import check_known
from snnc.ir.snn import SnnGraph
from snnc.metrics.task import Task
from snnc.numerics.divergence import AnswerError, answer_error
from snnc.progress import Progress, Silent

if TYPE_CHECKING:
    from snnc.simulation.protocol import Simulator
    from snnc.source.calibration import Calibration

G_in = TypeVar("G_in", bound=Graph[Any], contravariant=True)
_V = TypeVar("_V")
G_out = TypeVar("G_out", bound=Graph[Any], covariant=True)


@dataclass(slots=True)
class Context:
    """What a pass may use beside its graph.

    Attributes:
        calibration: unlabelled inputs and the source network's activations on them.
        timesteps: T of the network to be made.
        simulator: runs spiking networks, for passes that measure.
        seed: of every random choice.
        progress: where to say how far the work is.
        task: what the outputs are; ``None`` where it is not evident.
        source: the network as the last ANN pass left it; set by the pipeline.
        rest: the passes behind the running one, for those that search with the whole pipeline.
        journal: where a search keeps what it measured, to go on after an interruption.
        snapshots: of networks that a search made before; none are kept elsewhere.
        findings: what the running pass wants in its record: figures and words, JSON values.
        diagnostics: warnings for the user, of all passes.
        thrift: samples and positions that passes look at are divided by it, for trials, where time counts.
    """

    calibration: Calibration
    timesteps: int
    simulator: Simulator
    seed: int = 0
    progress: Progress = field(default_factory=Silent)
    task: Task | None = None
    source: AnnGraph | None = None
    rest: RemainingPasses | None = None
    journal: Path | None = None
    snapshots: Snapshots = field(default_factory=Snapshots)
    findings: dict[str, Any] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    thrift: int = 1
    _judged_by: AnswerError | None = None

    def answer_error(self) -> AnswerError:
        """Return by which error of the answers passes decide; the same for all of them."""
        if self._judged_by is None:
            self._judged_by = answer_error(self.task, self.calibration.logits(self.ann()))
        return self._judged_by

    def ann(self) -> AnnGraph:
        """Return the source network in the form that the ANN passes gave it.

        Raises:
            UsageError: the pipeline began with a spiking network.
        """
        if self.source is None:
            raise UsageError("this pass needs the source network: start the pipeline from the ANN")
        return self.source


@dataclass(frozen=True, slots=True)
class RemainingPasses:
    """The passes behind the running one.

    Attributes:
        passes: in order; empty behind the last one.
        context: of the pipeline that they belong to.
    """

    passes: tuple[AnyPass, ...]
    context: Context

    @property
    def text(self) -> str:
        """The text form of the passes."""
        return format_pipeline(self.passes)

    def option(self, name: str) -> object | None:
        """Return an option of the first pass that has it; ``None`` if none has."""
        found = (
            getattr(each, name)
            for each in self.passes
            for item in fields(cast(Any, each))
            if item.name == name
        )
        return next(found, None)

    def run(
        self, graph: Graph[Any], calibration: Calibration, snapshots: Snapshots | None = None
    ) -> Graph[Any]:
        """Run them on other calibration rows, leaving no trace in the pipeline's context.

        Args:
            graph: what they begin with.
            calibration: the rows.
            snapshots: of networks that were made before, to repeat only what differs.
        """
        self.context.answer_error()  # not anew from other rows
        apart = replace(
            self.context,
            calibration=calibration,
            progress=Silent(),
            rest=None,
            journal=None,
            snapshots=snapshots or Snapshots(),
            findings={},
            diagnostics=[],
        )
        result, _ = run_pipeline(self.passes, graph, apart)
        return result


class Pass(Protocol[G_in, G_out]):
    """One step of the compiler: a frozen dataclass whose fields are its options."""

    name: ClassVar[str]

    def run(self, graph: G_in, context: Context, /) -> G_out:
        """Return the changed graph, or the same object when nothing changed."""
        ...


AnyPass = Pass[Any, Any]


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What one pass did.

    Attributes:
        text: the pass with its options, as in the pipeline.
        changed: whether it returned another graph.
        nodes: number of nodes afterwards.
        seconds: wall time; kept out of the artefact, which must not depend on the clock.
        findings: what the pass measured.
    """

    text: str
    changed: bool
    nodes: int
    seconds: float
    findings: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form for the artefact, without the time."""
        return {"pass": self.text, "changed": self.changed, "nodes": self.nodes, **self.findings}


Dump = Callable[[str, Graph[Any]], None]


def run_pipeline(
    passes: Sequence[AnyPass], graph: Graph[Any], context: Context, dump: Dump | None = None
) -> tuple[Graph[Any], tuple[PassRecord, ...]]:
    """Run passes in order, verifying between them.

    Args:
        passes: the pipeline.
        graph: what it starts from.
        context: shared by all passes.
        dump: called with the pass's name and its result after each pass.

    Returns:
        The last graph and a record of each pass.

    Raises:
        VerificationError: naming the pass whose result breaks the dialect's rules.
        UsageError: a pass stands where its dialect is not the current one.
    """
    graph.verify()
    check_known(graph)
    records = []
    for index, item in enumerate(context.progress.track(passes, len(passes), "converting")):
        expected = typing.get_type_hints(type(item).run)["graph"]
        if not isinstance(graph, expected):
            raise _misplaced(item, expected, isinstance(graph, SnnGraph))
        if isinstance(graph, AnnGraph):
            context.source = graph
        context.findings = {}
        context.rest = RemainingPasses(tuple(passes[index + 1 :]), context)
        context.progress.message(item.name)
        start = time.perf_counter()
        result = item.run(graph, context)
        seconds = time.perf_counter() - start
        try:
            result.verify()
            check_known(result)
        except (UnknownOperationError, VerificationError) as error:
            raise VerificationError(f"after the pass {item.name!r}: {error}") from error
        records.append(
            PassRecord(format_pass(item), result is not graph, len(result.nodes), seconds, context.findings)
        )
        if dump is not None:
            dump(item.name, result)
        graph = result
    return graph, tuple(records)


def check_order(passes: Sequence[AnyPass]) -> None:
    """Refuse a pipeline that cannot turn an ANN into a spiking network, whatever the network.

    Raises:
        UsageError: a pass stands where its dialect is not the current one, or the last one leaves an ANN.
    """
    current: type[Graph[Any]] = AnnGraph
    for item in passes:
        hints = typing.get_type_hints(type(item).run)
        if not issubclass(current, hints["graph"]):
            raise _misplaced(item, hints["graph"], issubclass(current, SnnGraph))
        current = hints["return"]
    if not issubclass(current, SnnGraph):
        raise UsageError("the pipeline ends with an ANN: it needs the pass `lower`")


def _misplaced(item: AnyPass, expected: type[Graph[Any]], lowered: bool) -> UsageError:
    cure = f"put it {'before' if lowered else 'after'} `lower`" if item.name != "lower" else "one is enough"
    return UsageError(f"the pass {item.name!r} works on {expected.__name__}: {cure}")


MANY = 2**15 - 1
"""The most levels of a spike, and spikes a step: what the widest type of a spike holds."""


def require(option: str, value: float, low: float, high: float, *, beyond: bool = False) -> None:
    """Refuse an option that lies outside a range; NaN and infinity always do.

    Args:
        option: its name, as the user writes it.
        value: given.
        low: the least that is allowed, or, where only what lies ``beyond`` it is, the bound.
        high: the most that is allowed.
        beyond: whether ``low`` itself is refused.

    Raises:
        UsageError: it does.
    """
    if not (low < value if beyond else low <= value) or not value <= high or not math.isfinite(value):
        raise UsageError(f"{option} must lie in {'(' if beyond else '['}{low:g}, {high:g}], not {value}")


def once(items: Iterable[tuple[str, _V]], what: str) -> dict[str, _V]:
    """Return names with their values, and refuse a name that is given twice, hyphens and underscores alike.

    Raises:
        UsageError: naming it.
    """
    found: dict[str, _V] = {}
    for name, value in items:
        plain = name.replace("_", "-")
        if plain in found:
            raise UsageError(f"{what} {plain} is given twice: leave one of them out")
        found[plain] = value
    return found


def format_pass(item: AnyPass) -> str:
    """Return the text form of one pass: its name, and the options that differ from the default."""
    options = []
    for option in dataclasses.fields(item):  # type: ignore[arg-type]
        value = getattr(item, option.name)
        if value != option.default:
            options.append(f"{option.name.replace('_', '-')}={_format_value(value)}")
    return f"{item.name}{{{','.join(options)}}}" if options else item.name


def format_pipeline(passes: Sequence[AnyPass]) -> str:
    """Return the text form of a pipeline."""
    return ",".join(format_pass(item) for item in passes)


def parse_pipeline(text: str, table: Mapping[str, Callable[[], type[AnyPass]]]) -> tuple[AnyPass, ...]:
    """Read the text form of a pipeline.

    Args:
        text: passes separated by commas, each with options in braces.
        table: pass name -> loader of its class.

    Raises:
        UsageError: unknown pass or option, or a value of the wrong type.
    """
    passes = []
    position = 0
    pattern = re.compile(r"\s*([a-z0-9-]+)\s*(?:\{([^{}]*)\})?\s*(,|$)")
    while position < len(text):
        match = pattern.match(text, position)
        if match is None:
            raise UsageError(
                f"cannot read the pipeline at {text[position:]!r}: write pass{{option=value}},pass"
            )
        name, options, comma = match.groups()
        given = once((_split_option(o) for o in _split(options or "")), f"the option {name}")
        passes.append(make_pass(name, given, table))
        position = match.end()
        if comma and position == len(text):
            raise UsageError(f"the pipeline ends with a comma: {text!r}")
    if not passes:
        raise UsageError("the pipeline is empty")
    return tuple(passes)


def override(
    passes: Sequence[AnyPass],
    settings: Mapping[str, str],
    table: Mapping[str, Callable[[], type[AnyPass]]],
) -> tuple[AnyPass, ...]:
    """Change options of a pipeline: ``{"clip-activations.method": "max"}``.

    Raises:
        UsageError: the pipeline has no such pass, or the pass no such option.
    """
    changed = list(passes)
    for key, text in once(settings.items(), "the option").items():
        name, dot, option = key.partition(".")
        if not dot:
            raise UsageError(f"{key!r} names no option: write PASS.OPTION=VALUE")
        found = [index for index, item in enumerate(changed) if item.name == name]
        if not found:
            raise UsageError(
                f"the pipeline has no pass {name!r}; it has {', '.join(p.name for p in changed)}"
            )
        for index in found:
            field_name, value = _option(type(changed[index]), option, text)
            try:
                changed[index] = replace(changed[index], **{field_name: value})  # type: ignore[type-var]
            except (SnncError, ValueError) as error:
                raise UsageError(f"pass {name!r}: {error}") from error
    return tuple(changed)


def make_pass(
    name: str, options: Mapping[str, str], table: Mapping[str, Callable[[], type[AnyPass]]]
) -> AnyPass:
    """Make one pass from its name and the text of its options.

    Raises:
        UsageError: unknown pass or option, or a value of the wrong type.
    """
    if name not in table:
        raise UsageError(f"unknown pass {name!r}; known: {', '.join(sorted(table))}")
    kind = table[name]()
    given = once(options.items(), f"the option {name}")
    arguments = dict(_option(kind, key, value) for key, value in given.items())
    try:
        return kind(**arguments)
    except (SnncError, ValueError) as error:
        raise UsageError(f"pass {name!r}: {error}") from error


def _split(options: str) -> list[str]:
    return [option for option in options.split(",") if option.strip()]


def _split_option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"cannot read the option {text!r}: write key=value")
    return key.strip(), value.strip()


def _option(kind: type[AnyPass], key: str, text: str) -> tuple[str, Any]:
    name = key.replace("-", "_")
    known = {option.name for option in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if name not in known:
        options = ", ".join(sorted(k.replace("_", "-") for k in known)) or "none"
        raise UsageError(f"pass {kind.name!r} has no option {key!r}; it has {options}")
    return name, _parse_value(f"{kind.name}.{key}", typing.get_type_hints(kind)[name], text)


def _parse_value(where: str, kind: Any, text: str) -> Any:
    choices = [c for c in typing.get_args(kind) if c is not type(None)]
    if type(None) in typing.get_args(kind):
        if text == "none":
            return None
        kind = choices[0]
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if isinstance(kind, type) and issubclass(kind, Enum):
            return kind(text)
        value = kind(text)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(text)
        return value
    except (KeyError, ValueError, OverflowError):
        expected = (
            "|".join(m.value for m in kind)
            if isinstance(kind, type) and issubclass(kind, Enum)
            else {bool: "true|false", float: "a finite number", int: "an integer"}.get(kind, kind.__name__)
        )
        raise UsageError(f"{where}={text}: expected {expected}") from None


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    return "none" if value is None else str(value)
