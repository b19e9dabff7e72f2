"""Passes, the context they run in, and pipelines of them with a text form.

A pipeline reads as the compiler does::

    fold-batchnorm,clip-activations{method=mse,granularity=channel},lower,init-membrane{fraction=0.5}

The graph is verified before the first pass and after each one.
"""

from __future__ import annotations

import math
import re
import time
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, cast, overload

from snnc.compensation.snapshots import Snapshots
from snnc.diagnostics import Diagnostic
from snnc.errors import UnknownOperationError, UsageError, VerificationError
from snnc.ir.ann import AnnGraph
from snnc.ir.batch import Batch
from snnc.ir.graph import Graph
from snnc.ir.operations import check_known
from snnc.ir.snn import SnnGraph
from snnc.metrics.task import Task
from snnc.numerics.divergence import AnswerError, AnswersError, answer_error
from snnc.pass_options import format_pass, make_pass, once, read_options, with_text, with_values
from snnc.progress import Progress, Silent

if TYPE_CHECKING:
    from snnc.pass_options import Table
    from snnc.simulation.protocol import Simulator
    from snnc.source.calibration import Calibration

G_in = TypeVar("G_in", bound=Graph[Any], contravariant=True)
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
        tasks: what single outputs are, by their names, where that is known better.
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
    tasks: Mapping[str, Task | None] = field(default_factory=dict)
    _judged_by: AnswerError | AnswersError | None = None

    def task_of(self, output: str) -> Task | None:
        """Return what one output is; ``None`` where it is not evident."""
        return self.tasks.get(output, self.task)

    def answer_error(self) -> AnswerError | AnswersError:
        """Return by which error of the answers passes decide; the same for all of them."""
        if self._judged_by is None:
            targets = self.calibration.logits(self.ann())
            if isinstance(targets, Batch):
                self._judged_by = AnswersError(
                    {name: answer_error(self.task_of(name), s) for name, s in targets.arrays.items()}
                )
            else:
                self._judged_by = answer_error(self.task_of(self.ann().output_names[0]), targets)
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

    passes: Pipeline
    context: Context

    @property
    def text(self) -> str:
        """The text form of the passes."""
        return self.passes.text

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
class Pipeline(Sequence[AnyPass]):
    """Passes in their order: a value, from which others are made.

    What would change nothing is refused, so that a change that a pipeline no longer takes is noticed.

    Attributes:
        passes: the passes.
    """

    passes: tuple[AnyPass, ...]

    @classmethod
    def of(cls, *passes: AnyPass) -> Pipeline:
        """Return a pipeline of these passes."""
        return cls(passes)

    @classmethod
    def parse(cls, text: str, table: Table) -> Pipeline:
        """Read the text form.

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
            passes.append(make_pass(name, read_options(name, options or ""), table))
            position = match.end()
            if comma and position == len(text):
                raise UsageError(f"the pipeline ends with a comma: {text!r}")
        if not passes:
            raise UsageError("the pipeline is empty")
        return cls(tuple(passes))

    @property
    def text(self) -> str:
        """The text form, which :meth:`parse` reads."""
        return ",".join(map(format_pass, self.passes))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the passes, in order."""
        return tuple(item.name for item in self.passes)

    def with_option(self, name: str, **options: Any) -> Pipeline:
        """Return the pipeline with other options of a pass.

        Args:
            name: of the pass; where there are several, all of them change.
            options: by the names of its fields.

        Raises:
            UsageError: there is no such pass or option, the pass does not take a value, or has it already.
        """
        self._require(name)
        changed = tuple(with_values(item, options) if item.name == name else item for item in self.passes)
        if changed == self.passes:
            given = ", ".join(f"{key}={value}" for key, value in options.items()) or "no option"
            raise UsageError(f"the pass {name!r} of {self.text!r} has {given} already")
        return Pipeline(changed)

    def with_settings(self, settings: Mapping[str, str]) -> Pipeline:
        """Return the pipeline with other options: ``{"clip-activations.method": "max"}``.

        They are as a user writes them, who may write what is so already.

        Raises:
            UsageError: there is no such pass or option, the pass does not take a value, or an option is given
                twice.
        """
        passes = self.passes
        for key, text in once(settings.items(), "the option").items():
            name, dot, option = key.partition(".")
            if not dot:
                raise UsageError(f"{key!r} is not an option: write PASS.OPTION=VALUE")
            self._require(name)
            passes = tuple(with_text(item, option, text) if item.name == name else item for item in passes)
        return Pipeline(passes)

    def with_pass(self, *passes: AnyPass, after: str | None = None, before: str | None = None) -> Pipeline:
        """Return the pipeline with passes put in.

        Args:
            passes: one or more.
            after: the name of the pass that they go behind, or
            before: of the one that they go in front of.

        Raises:
            UsageError: the pipeline has no such pass, or several; or nothing is put in.
        """
        if not passes or (after is None) == (before is None):
            raise UsageError("with_pass takes passes, and the pass that they go `after` or `before`")
        at = self._place(before) if before is not None else self._place(cast(str, after)) + 1
        return Pipeline((*self.passes[:at], *passes, *self.passes[at:]))

    def replace(self, name: str, *passes: AnyPass) -> Pipeline:
        """Return the pipeline with a pass replaced by others.

        Raises:
            UsageError: the pipeline has no such pass, or several; or nothing would change.
        """
        at = self._place(name)
        if passes in ((), (self.passes[at],)):
            raise UsageError(f"the pass {name!r} is replaced by {'its equal' if passes else 'nothing'}")
        return Pipeline((*self.passes[:at], *passes, *self.passes[at + 1 :]))

    def without(self, *names: str) -> Pipeline:
        """Return the pipeline without passes of these names.

        Raises:
            UsageError: one of them is not there.
        """
        for name in names:
            self._require(name)
        return Pipeline(tuple(item for item in self.passes if item.name not in names))

    def _require(self, name: str) -> None:
        if name not in self.names:
            raise UsageError(f"the pipeline has no pass {name!r}; it has {', '.join(self.names)}")

    def _place(self, name: str) -> int:
        self._require(name)
        if self.names.count(name) > 1:
            raise UsageError(f"the pipeline has the pass {name!r} more than once: {self.text}")
        return self.names.index(name)

    def __len__(self) -> int:
        """Return the number of passes."""
        return len(self.passes)

    def __iter__(self) -> Iterator[AnyPass]:
        """Yield the passes in order."""
        return iter(self.passes)

    @overload
    def __getitem__(self, at: int) -> AnyPass: ...
    @overload
    def __getitem__(self, at: slice) -> Pipeline: ...
    def __getitem__(self, at: int | slice) -> AnyPass | Pipeline:
        """Return a pass, or the pipeline of some of them."""
        return Pipeline(self.passes[at]) if isinstance(at, slice) else self.passes[at]


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
        context.rest = RemainingPasses(Pipeline(tuple(passes[index + 1 :])), context)
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
