"""Convert to a budget: try many conversions on few rows, and make the best of those that keep to it.

Latency, operations, payload and accuracy pull at each other, so there is a front of conversions none of
which is better in everything. Candidates are presets, numbers of steps, levels (everywhere, or in the
layers that are measured to be the most sensitive), spikes a step, settle steps and fine skips; what can be
known of one without running it is checked first. Each of the others is converted with some of the
calibration rows and measured on rows kept back. Those within the budget are then made with all rows, the
best first, until one of them keeps to the budget as measured. Where nothing does, the thresholds of the
nearest are learned, over the whole network, with a price on operations where these are what is missing; and
where operations are still all that is too many, channels are pruned until they are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from snnc.analysis.answers import Source
from snnc.analysis.evaluation import evaluate
from snnc.analysis.front import Point, carried, pareto
from snnc.analysis.scores import AnnScores
from snnc.backends import load_simulator
from snnc.compiler import LEARNING, Conversion, Options, convert
from snnc.data.preprocessing import Preprocessing
from snnc.errors import GateError, UnsupportedModelError, UsageError
from snnc.ir.batch import Rows
from snnc.ir.neuron import Neuron, Schedule
from snnc.metrics import Floor, Outputs, Task
from snnc.metrics.outputs import Labels, metric_of
from snnc.options import OPTIONS
from snnc.passes import PRESETS
from snnc.passes.fine_skip import FineSkip
from snnc.passes.learn_thresholds import LearnThresholds
from snnc.passes.multi_threshold import MultiThreshold
from snnc.passes.prune_channels import PruneChannels
from snnc.pipeline import Pipeline
from snnc.progress import Progress, Silent
from snnc.scale.workers import Workers
from snnc.search.journal import Journal

STEPS = (1, 2, 4, 8, 16)
"""Numbers of time steps that are tried."""

LEVELS = (3, 7, 15)
"""Levels of one spike that are tried."""

SEARCH_ROWS = 300
"""Calibration rows of a trial: enough to tell candidates apart."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a conversion may cost. ``None`` leaves something free.

    Attributes:
        latency: steps from input to answer.
        synops: synaptic operations per row, relative to the source network's multiply-accumulates.
        payload: what an event may carry: ``binary``, ``signed`` or ``levels:M``.
        drop: points that may be lost on rows kept back.
        floors: the least of metrics on these rows.
    """

    latency: int | None = None
    synops: float | None = None
    payload: str | None = None
    drop: float | None = None
    floors: tuple[Floor, ...] = ()

    def __post_init__(self) -> None:
        """Refuse limits that nothing can keep."""
        limits = {"max_latency": self.latency, "max_synops": self.synops, "max_drop": self.drop}
        for name, limit in limits.items():
            OPTIONS[name].checked(limit, f"--{OPTIONS[name].name}")
        if self.payload is not None:
            carried(self.payload)

    @property
    def limits_loss(self) -> bool:
        """Whether there is a limit on what is lost."""
        return self.drop is not None or bool(self.floors)

    def excess(self, point: Point) -> float:
        """Return by how much a point misses the budget, relative to each limit; 0 if it keeps to it."""
        missed = 0.0
        if self.latency is not None:
            missed += max(0.0, point.latency / self.latency - 1)
        if self.synops is not None:
            missed += max(0.0, point.synops / self.synops - 1)
        if self.payload is not None:
            missed += max(0, carried(point.payload) - carried(self.payload))
        if self.drop is not None:
            missed += max(0.0, point.drop - self.drop) / max(self.drop, 1.0)
        found = dict(point.metrics)
        for limit in self.floors:
            missed += max(0.0, limit.least - found[limit.asked]) / max(abs(limit.least), 1e-3)
        return missed


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to convert.

    Attributes:
        timesteps: T.
        pipeline: the passes.
        label: for the user.
        latency: T + K; in the layerwise schedule that of two layers, a lower bound for deeper networks.
        payload: what an event carries.
    """

    timesteps: int
    pipeline: Pipeline
    label: str
    latency: int
    payload: str


@dataclass(frozen=True, slots=True)
class Trials:
    """Makes candidates and measures them on rows kept back.

    Attributes:
        model: path of an ONNX file, or ``zoo:NAME``.
        rows: (n, ...) to convert with.
        kept: (n, ...) to measure on.
        labels: (n, ...) of those; without them a lost point is an answer that differs from the source's. Of
            numbers it is a hundredth of their variance, of maps of their power. Of several outputs, in a
            mapping by their names, the one that loses most counts.
        source: the source network, with its multiply-accumulates.
        options: how to convert, but for steps and pipeline.
        preprocessing: from the rows to what the source network takes.
        each: what each output is, by its name.
        metrics: those that are limited, ``METRIC`` or ``OUTPUT:METRIC``.
        workers: who runs networks on many rows while one is converted.
        journal: of the whole search; that of a search for thresholds lies beside it.
    """

    model: str
    rows: Rows
    kept: Rows
    labels: Labels
    source: Source
    options: Options
    preprocessing: Preprocessing | None
    each: Mapping[str, Outputs]
    journal: Path | None = None
    metrics: tuple[str, ...] = ()
    workers: Workers | None = None
    _made: dict[Candidate, Conversion] = field(default_factory=dict)

    @property
    def measured(self) -> str:
        """What points are lost of, in words."""
        told = list(dict.fromkeys(_measured(each) for each in self.each.values()))
        return told[0] if len(self.each) == 1 else f"{' or '.join(told)}, at the output that loses most"

    def learning_journals(self) -> tuple[Path, ...]:
        """Return where searches for thresholds have kept what they measured."""
        return (
            () if self.journal is None else tuple(self.journal.parent.glob(f"{self.journal.name}.learning-*"))
        )

    def _learning_journal(self, candidate: Candidate) -> Path | None:
        """Return where the search of one candidate keeps what it measures: beside the other journal."""
        if self.journal is None:
            return None
        text = f"{candidate.timesteps}|{candidate.pipeline.text}"
        name = hashlib.sha256(text.encode()).hexdigest()[:8]
        return self.journal.with_name(f"{self.journal.name}.learning-{name}")

    def made(self, candidate: Candidate, rows: int | None) -> Conversion:
        """Convert with a candidate, on the first ``rows``, or on all and keep the result."""
        if rows is None and candidate in self._made:
            return self._made[candidate]
        options = replace(
            self.options,
            timesteps=candidate.timesteps,
            pipeline=candidate.pipeline,
            settings={},
            journal=self._learning_journal(candidate),
        )
        found = convert(
            self.model, self.rows[:rows], options, preprocessing=self.preprocessing, workers=self.workers
        )
        if rows is None:
            self._made[candidate] = found
        return found

    def point(self, candidate: Candidate, rows: int | None) -> Point:
        """Convert with a candidate and measure it.

        Raises:
            UnsupportedModelError: the operations of the source network cannot be counted.
        """
        artefact = self.made(candidate, rows).artefact
        simulator = load_simulator("numba", self.options.threads)
        x, y = self.kept, self.labels
        wanted = list(self.metrics)
        for name, outputs in self.each.items():
            wanted += [f"{name}:{metric}" for metric in needed(outputs)]
        found = evaluate(
            artefact.graph,
            artefact.encode,
            x,
            y,
            simulator=simulator,
            source=self.source,
            task={name: outputs.task for name, outputs in self.each.items()},
            metrics=tuple(dict.fromkeys(wanted)),
            layouts=artefact.output_layouts,
            finish=artefact.finish,
        )
        if not self.source.macs:
            raise UnsupportedModelError(
                f"{self.model}: its operations are not counted, so no budget is known"
            )
        values = {
            name: {each.metric: each.value for each in judged.scores.measured}
            for name, judged in found.outputs.items()
        }
        losses = [
            lost(judged.ann, values[name], self.each[name])
            for name, judged in found.outputs.items()
            if judged.ann is not None
        ]
        return Point(
            label=candidate.label,
            timesteps=candidate.timesteps,
            latency=found.latency_steps,
            payload=found.payload,
            synops=found.costs.synops / self.source.macs,
            drop=100 * max(losses),
            rows=len(self.rows[:rows]),
            metrics=tuple((asked, _least(asked, values)) for asked in self.metrics),
        )


def _measured(outputs: Outputs) -> str:
    """Return what an output loses points of, in words."""
    if outputs.task in (Task.CLASSES, Task.BINARY):
        return "agreement" if outputs.classes is None else "accuracy"
    if outputs.is_map:
        return "the power of the source's maps (inverse of the SQNR)"
    what = "the variance of the source's answers (1 - R2)"
    return what if outputs.task is Task.REGRESSION else f"agreement or of {what}, whichever is more"


def _least(asked: str, values: Mapping[str, Mapping[str, float]]) -> float:
    """Return what the one output reaches, or the worst of those that the metric fits."""
    output, metric = metric_of(asked)
    return min(each[metric] for name, each in values.items() if output in (None, name) and metric in each)


def needed(outputs: Outputs) -> tuple[str, ...]:
    """Return the metrics that a loss is read from, beside right and equal answers."""
    if outputs.task in (Task.CLASSES, Task.BINARY):
        return ()
    return ("sqnr",) if outputs.is_map else ("r2",)


def lost(ann: AnnScores, values: Mapping[str, float], outputs: Outputs) -> float:
    """Return the share that is lost: of right answers, of equal ones, of variance, or of the power of a map.

    Args:
        ann: the source network on the same rows.
        values: by the name of the metric.
        outputs: what they are; where that is not evident, the larger loss counts.
    """
    losses = [10 ** (-values[name] / 10) if name == "sqnr" else 1 - values[name] for name in needed(outputs)]
    if ann.paired is not None:
        losses.append(ann.paired.drop)
    elif ann.agreement is not None:
        losses.append(1 - ann.agreement.value)
    return max(losses)


Measure = Callable[[Candidate, int | None], Point]
"""Makes a candidate with so many rows (all for ``None``) and measures it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search found.

    Attributes:
        points: of every candidate that was tried.
        front: those that no other is better than, from few operations to many.
        chosen: the candidate to convert with, and its measurement with all rows; ``None`` if nothing keeps
            to the budget.
        nearest: the point that misses it by least, or the chosen one.
    """

    points: tuple[Point, ...]
    front: tuple[Point, ...]
    chosen: tuple[Candidate, Point] | None
    nearest: Point


def candidates(budget: Budget, timesteps: int | None = None) -> tuple[Candidate, ...]:
    """Return the conversions that may keep to a budget, by what is known without running them.

    Raises:
        UsageError: the limits contradict each other.
    """
    steps = STEPS if timesteps is None else (timesteps,)
    found = [candidate for T in steps for candidate in _at(T)]
    if timesteps is not None and budget.latency is not None and budget.latency < timesteps:
        raise UsageError(
            f"--max-latency {budget.latency} contradicts --timesteps {timesteps}: leave one of them out"
        )
    kept = tuple(
        candidate
        for candidate in found
        if (budget.latency is None or candidate.latency <= budget.latency)
        and (budget.payload is None or carried(candidate.payload) <= carried(budget.payload))
    )
    if not kept:
        raise UsageError("no conversion has this latency and payload: raise --max-latency or --payload")
    return kept


def _at(timesteps: int) -> Iterable[Candidate]:
    T = timesteps
    balanced, binary = PRESETS["balanced"].pipeline, PRESETS["binary-only"].pipeline
    signed = Neuron().payload
    low_latency = PRESETS["low-latency"].pipeline
    yield Candidate(T, binary, f"binary-only, T={T}", T, "binary")
    if T > 1:
        barrier = binary.with_option("set-schedule", kind=Schedule.LAYERWISE)
        yield Candidate(T, barrier, f"binary-only, layerwise, T={T}", 2 * T, "binary")
    yield Candidate(T, balanced, f"balanced, T={T}", T, signed)
    if 1 < T <= 8:
        one = balanced.with_option("dual-threshold", spikes_per_step=1)
        for K in (1, 2):
            settled = one.with_option("set-schedule", settle_steps=K)
            yield Candidate(T, settled, f"one spike per step, T={T}, K={K}", T + K, signed)
    if T <= 8:
        two = low_latency.without("fine-skip")
        yield Candidate(T, two, f"two levels, T={T}", T, "levels:2")
        mixed = balanced.with_option("clip-activations", levels=2, share=0.5)
        yield Candidate(T, mixed, f"balanced, two levels in sensitive layers, T={T}", T, "signed+levels:2")
        per_step = -(-15 // T)
        levels = 2 ** per_step.bit_length() - 1
        fine = balanced.with_pass(FineSkip(), before="init-membrane")
        yield Candidate(T, fine, f"balanced with fine skip, T={T}", T, f"signed+levels:{levels}")
        yield Candidate(T, low_latency, f"low-latency, T={T}", T, f"levels:2+levels:{levels}")
    if T <= 2:
        plain = binary.with_pass(MultiThreshold(), after="lower")
        for M in LEVELS:
            multi = plain.with_option("clip-activations", levels=M, floor=True)
            yield Candidate(T, multi, f"binary-weighted thresholds, T={T}, M={M}", T, f"levels:{M}")
        one_step = PRESETS["one-step"].pipeline
        yield Candidate(T, one_step, f"one-step, T={T}", T, "levels:15+levels:63")


def learned(candidate: Candidate, activity: float) -> Candidate:
    """Return a candidate whose thresholds are learned, over the whole network, with a price on operations."""
    if LEARNING in candidate.pipeline.names:
        return candidate
    learning = LearnThresholds(rows=SEARCH_ROWS, activity=activity)
    pipeline = candidate.pipeline.with_pass(learning, before="compensate")
    return replace(candidate, pipeline=pipeline, label=f"{candidate.label}, learned thresholds")


def pruned(candidate: Candidate, synops: float) -> Candidate:
    """Return a candidate that loses channels until its operations are below a limit, by the source's."""
    pruning = PruneChannels(max_synops=PRUNED_TO * synops)
    pipeline = candidate.pipeline.with_pass(pruning, before="compensate")
    return replace(candidate, pipeline=pipeline, label=f"{candidate.label}, channels pruned")


def search(
    budget: Budget,
    tried: Sequence[Candidate],
    measure: Measure,
    *,
    journal: Journal,
    sparing: bool = False,
    few: int | None = SEARCH_ROWS,
    progress: Progress | None = None,
    ahead: Callable[[Sequence[Candidate], int | None], Iterable[Point]] | None = None,
) -> Outcome:
    """Measure candidates on few rows, then make the best of them with all rows.

    With a limit on what is lost, the fewest operations win; else the smallest drop.

    Args:
        budget: the limits.
        tried: see :func:`candidates`.
        measure: makes and measures one of them.
        journal: keeps what was measured.
        sparing: learn thresholds with a price on operations even where the budget is kept.
        few: calibration rows of the first measurements; ``None`` where there are no more than that.
        progress: where to show how far it is.
        ahead: yields the first measurements of candidates in their order, made elsewhere at the same time.
    """

    def key_of(candidate: Candidate, rows: int | None) -> str:
        return f"{candidate.timesteps}|{candidate.pipeline.text}|{rows or 'all'}"

    elsewhere: Iterator[Point] = iter(())
    left: list[Candidate] = []
    if ahead is not None:
        left = [candidate for candidate in tried if key_of(candidate, few) not in journal]
        elsewhere = iter(ahead(tuple(left), few))

    def made(candidate: Candidate, rows: int | None) -> Point:
        if left and left[0] == candidate and rows == few:
            left.pop(0)
            return next(elsewhere)
        return measure(candidate, rows)

    def measured(candidate: Candidate, rows: int | None) -> Point:
        value = journal.value(key_of(candidate, rows), lambda: _as_dict(made(candidate, rows)))
        return Point(**{**value, "metrics": tuple((name, float(least)) for name, least in value["metrics"])})

    bar = (progress or Silent()).track(tried, len(tried), "trying conversions")
    points = {candidate: measured(candidate, few) for candidate in bar}

    def rank(item: tuple[Candidate, Point]) -> tuple[float, float, float]:
        point = item[1]
        wanted = (point.synops, point.drop) if budget.limits_loss else (point.drop, point.synops)
        return (budget.excess(point), *wanted)

    ranked = sorted(points.items(), key=rank)
    finished: list[tuple[Candidate, Point]] = []
    chosen: tuple[Candidate, Point] | None = None
    # More rows make a network better, so those that missed the budget by little have a chance.
    for candidate, _ in ranked[:FINALISTS]:
        finished.append((candidate, measured(candidate, None)))
        if budget.excess(finished[-1][1]) == 0:
            chosen = finished[-1]
            break
    if chosen is None or sparing:
        candidate, point = chosen or min(finished, key=rank)
        dear = sparing or (budget.synops is not None and point.synops > budget.synops)
        last = learned(candidate, ACTIVITY if dear else 0.0)
        finished.append((last, measured(last, None)))
        if budget.excess(finished[-1][1]) == 0 and (chosen is None or rank(finished[-1]) < rank(chosen)):
            chosen = finished[-1]
    if chosen is None and budget.synops is not None:
        able = [each for each, point in finished if _prunable(each, point, budget)]
        smaller = [pruned(candidate, budget.synops) for candidate in able[:1]]
        with suppress(GateError):  # not even one channel a layer is few enough
            finished += [(candidate, measured(candidate, None)) for candidate in smaller]
        if budget.excess(finished[-1][1]) == 0:
            chosen = finished[-1]
    # Where few rows are all rows, the second measurement is the first.
    everything = tuple(dict.fromkeys((*points.values(), *(point for _, point in finished))))
    nearest = chosen[1] if chosen else min((point for _, point in finished), key=budget.excess)
    return Outcome(everything, pareto(everything), chosen, nearest)


def _prunable(candidate: Candidate, point: Point, budget: Budget) -> bool:
    """Whether operations are all that a candidate has too many of, and its weights are fitted anew."""
    return "compensate" in candidate.pipeline.names and budget.excess(replace(point, synops=0.0)) == 0


FINALISTS = 3
"""Candidates that are made with all rows, at most, before thresholds are learned."""

PRUNED_TO = 0.95
"""Share of the limit to which channels are pruned: what is left may fire a little more afterwards."""

ACTIVITY = 1.0
"""Price of operations, in nats for those of the first network, where they are what is missing."""


def _as_dict(point: Point) -> dict[str, Any]:
    return {name: getattr(point, name) for name in Point.__dataclass_fields__}
