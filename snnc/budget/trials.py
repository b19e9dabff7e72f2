"""Trials of a search: a candidate is converted, on some rows or on all, and measured on rows kept back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from snnc.analysis.answers import Source
from snnc.analysis.evaluation import evaluate
from snnc.analysis.front import Point
from snnc.analysis.neurobench import footprint
from snnc.analysis.scores import AnnScores
from snnc.backends import load_simulator
from snnc.budget.candidates import Candidate
from snnc.compiler import Conversion, Options, convert
from snnc.data.preprocessing import Preprocessing
from snnc.errors import GateError, UnsupportedModelError
from snnc.ir.batch import Rows
from snnc.metrics import Outputs, Task
from snnc.metrics.outputs import Labels, metric_of
from snnc.report.energy import picojoules
from snnc.scale.workers import Workers

SEARCH_ROWS = 300
"""Calibration rows of a trial: enough to tell candidates apart."""


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

    def point(self, candidate: Candidate, rows: int | None) -> Point | None:
        """Convert with a candidate and measure it; ``None`` where a limit of its passes cannot be kept.

        Raises:
            UnsupportedModelError: the operations of the source network cannot be counted.
        """
        try:
            artefact = self.made(candidate, rows).artefact
        except GateError:
            return None
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
            picojoules=picojoules(found.costs),
            footprint=footprint(artefact.graph, found.costs.neurons),
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
