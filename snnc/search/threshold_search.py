"""Learn thresholds against the spiking network that will be deployed.

The closed form of a layer's threshold minimises that layer's own error, but the answer of the whole network
after all later corrections is what matters. So the thresholds and the initial potentials of groups of
populations are multiplied by factors, the rest of the pipeline is run on some of the rows, and the resulting
integer network is simulated on held-back rows. The search minimises the error of its answers (for class
scores the mean Kullback-Leibler divergence from the source network's, for numbers the relative squared
error), optionally with a penalty on synaptic operations. It uses no labels, no gradients and no surrogate
model.

The search is a coordinate descent from coarse to fine: all populations of a residual stream and all others;
both by resolution; every population; and the channels of a population, those of low thresholds in one
direction and those of high ones in the other. A direction that helped is followed further. A candidate is
converted again only from the first layer that it changes (:mod:`snnc.compensation.snapshots`). At the end
the network is converted with the initial and with the best factors from all rows except a last set, which no
decision has used: that set accepts the result, or the network is returned unchanged.

Source: thresholds learned to clip as in Liu et al., "Efficient ANN-SNN Conversion with Error Compensation
Learning", ICML 2025, but on the converted network instead of in training.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

import numpy as np

from snnc.analysis import costs
from snnc.compensation.snapshots import SNAPSHOT_BYTES, Snapshots, content
from snnc.diagnostics import FALLBACK, Diagnostic
from snnc.errors import InternalError
from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.operations import classified
from snnc.ir.snn import ChannelWeight, IntegrateFire, SnnGraph
from snnc.numerics.divergence import real_logits
from snnc.numerics.quantisation import correct_readers
from snnc.pipeline import Context, RemainingPasses
from snnc.search.journal import Journal
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import encode_all
from snnc.source.calibration import Calibration

FEWEST_ROWS = 250
"""Rows below which too few are left to decide."""

PARTS = 5
"""Of so many rows two are fitted on, two decide, and one accepts the result."""

STEPS = (1.25, 1.15, 1.1, 1.1, 1.1)
"""Factor of one step on each level of the search."""

FARTHEST = 3
"""Steps in one direction before the next coordinate has its turn."""

LARGEST_START = np.float32(0.95)
"""Of the threshold: beyond it a neuron would fire without input."""

MARGIN = 0.002
"""Share of the first objective by which a step must lower it: less is noise."""


@dataclass(frozen=True, slots=True)
class Search:
    """How to search.

    Attributes:
        budget: networks that are made and measured at most.
        rows: rows that each of them is fitted on, at most.
        activity: what the synaptic operations of the first network are worth, in the error of the answers,
            nats for class scores.
        seconds: stop after so long; the result then depends on the clock.
    """

    budget: int
    rows: int
    activity: float = 0.0
    seconds: float | None = None


class Parameter(Enum):
    """What is learned of a population.

    A factor ``f`` multiplies all thresholds; for ``CHANNELS`` by ``f^r``, ``r`` from -1 for the lowest to 1
    for the highest; the start; or the negative threshold, where there is one other than 0.
    """

    THRESHOLD = "threshold"
    CHANNELS = "channels"
    START = "start"
    NEGATIVE = "negative"


@dataclass(frozen=True, slots=True)
class Knob:
    """Populations of which one parameter is moved together.

    Attributes:
        name: for the record.
        parameter: which.
        members: the populations' names.
    """

    name: str
    parameter: Parameter
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """One network that was made and measured.

    Attributes:
        factors: by ``population:parameter``; others have 1.
        divergence: the error of the answers on rows that it was not fitted on.
        synops: synaptic operations per row.
        objective: what is minimised.
    """

    factors: Mapping[str, float]
    divergence: float
    synops: float
    objective: float


def learn(graph: SnnGraph, context: Context, search: Search) -> SnnGraph:
    """Return a float32 network with better thresholds, or as it is.

    What was found is left in the context's findings as ``learned``.
    """
    rows = len(context.calibration)
    if rows < FEWEST_ROWS:
        _fall_back(
            context,
            f"{rows} calibration rows are too few to learn thresholds; at least {FEWEST_ROWS} are needed, "
            "and they were left unchanged",
            "give 2,000 training rows, or do not learn thresholds",
        )
        return graph
    if context.rest is None:
        raise InternalError("thresholds are learned with the rest of the pipeline, and it is not known")
    work = _Search(graph, context, context.rest, search)
    best = work.best()
    start = work.start
    before = after = start
    if best is not start:
        before, after = work.accepted({}), work.accepted(best.factors)
    better = best is not start and (
        after.divergence + search.activity * after.synops / max(before.synops, 1e-12)
        < before.divergence + search.activity
    )
    kept = best if better else start
    context.findings["learned"] = {
        "evaluations": work.evaluations,
        "stopped": work.stopped,
        "kept": better,
        "objective": context.answer_error().value,
        "divergence": {"start": round(start.divergence, 5), "learned": round(best.divergence, 5)},
        "held_back": {"start": round(before.divergence, 5), "learned": round(after.divergence, 5)},
        "synops": {"start": round(before.synops), "learned": round(after.synops)},
        "factors": {name: round(factor, 4) for name, factor in sorted(kept.factors.items())},
    }
    if not better:
        _fall_back(
            context,
            "no thresholds were found that are better on rows held back; they were kept as they are",
            "give more calibration rows, or a larger learn-thresholds.budget",
        )
    return scaled(graph, kept.factors)


def scaled(graph: SnnGraph, factors: Mapping[str, float]) -> SnnGraph:
    """Return the float32 network with parameters of its populations multiplied.

    With a threshold go the unit of the spikes, the initial potential and the negative threshold, and what
    the readers make of a spike; an initial potential stays below its threshold.

    Args:
        graph: the network.
        factors: by ``population:parameter``.
    """
    for key, factor in factors.items():
        name, _, parameter = key.rpartition(":")
        node = graph[name]
        if not isinstance(node, IntegrateFire):
            raise InternalError(f"{name!r} has no threshold to learn")
        match Parameter(parameter):
            case Parameter.THRESHOLD:
                graph = with_thresholds(graph, node, np.full(node.channels, factor, np.float32))
            case Parameter.CHANNELS:
                graph = with_thresholds(graph, node, np.float32(factor) ** _ranks(node.threshold))
            case Parameter.START:
                v_init = np.minimum(node.v_init * np.float32(factor), node.threshold * LARGEST_START)
                graph = graph.replacing({name: node.with_(v_init=v_init.astype(np.float32))})
            case Parameter.NEGATIVE if node.negative_threshold is not None:
                moved = (node.negative_threshold * np.float32(factor)).astype(np.float32)
                graph = graph.replacing({name: node.with_(negative_threshold=moved)})
            case _:
                raise InternalError(f"{name!r} has no negative threshold to learn")
    return graph


def _ranks(thresholds: NumberArray) -> FloatArray:
    """Return where each channel stands between the lowest threshold, -1, and the highest, 1; else 0."""
    different, order = np.unique(thresholds, return_inverse=True)
    if len(different) == 1:
        return np.zeros(len(order), np.float32)
    return (2 * order / (len(different) - 1) - 1).astype(np.float32)


def with_thresholds(graph: SnnGraph, node: IntegrateFire, factor: FloatArray) -> SnnGraph:
    """Return the float32 network with the thresholds of one population multiplied, (channels,) each.

    They are counted from the floor, which stays.
    """
    classified(node)
    vectors = {"threshold": node.threshold, "v_init": node.v_init, "spike_scale": node.spike_scale}
    if node.negative_threshold is not None:
        vectors["negative_threshold"] = node.negative_threshold
    moved = {field: (value * factor).astype(np.float32) for field, value in vectors.items()}
    return correct_readers(graph.replacing({node.name: node.with_(**moved)}), node.name, factor)


def knobs(graph: SnnGraph) -> tuple[tuple[Knob, ...], ...]:
    """Return the coordinates of the search, level by level, from coarse to fine."""
    kinds: dict[str, list[str]] = {}
    sizes: dict[str, list[str]] = {}
    # A step function has levels in closed form, and functions of counts rely on its unit.
    populations = [node for node in graph.of_type(IntegrateFire) if node.breakpoints is None]
    for node in populations:
        kind = "stream" if _in_stream(graph, node) else "branch"
        kinds.setdefault(kind, []).append(node.name)
        place = "x".join(map(str, node.shape[1:])) or "dense"
        sizes.setdefault(f"{kind} {place}", []).append(node.name)
    signed = all(node.negative_threshold is not None for node in populations)
    first = (Parameter.THRESHOLD, Parameter.START, *((Parameter.NEGATIVE,) if signed else ()))
    single = {node.name: [node.name] for node in populations}
    levels = [[knob for parameter in first for knob in _knobs(kinds, parameter)]]
    levels += [_knobs(groups, Parameter.THRESHOLD) for groups in (sizes, single) if len(groups) > len(kinds)]
    uneven = {node.name for node in populations if np.ptp(node.threshold) > 0}
    for groups in (kinds, single):
        moved = {name: [member for member in members if member in uneven] for name, members in groups.items()}
        levels.append(
            _knobs({name: members for name, members in moved.items() if members}, Parameter.CHANNELS)
        )
    return tuple(tuple(level) for level in levels)


def _knobs(groups: Mapping[str, list[str]], parameter: Parameter) -> list[Knob]:
    return [Knob(f"{name}:{parameter.value}", parameter, tuple(names)) for name, names in groups.items()]


def _in_stream(graph: SnnGraph, node: IntegrateFire) -> bool:
    """Whether a population sums branches, or is summed: an error there is carried through a stage."""
    readers = graph.consumers[node.name]
    return len(node.inputs) > 1 or any(isinstance(reader, ChannelWeight) for reader in readers)


class _Search:
    """One search: what it has measured, and the best so far."""

    def __init__(self, graph: SnnGraph, context: Context, rest: RemainingPasses, search: Search) -> None:
        self.graph = graph
        self.context = context
        self.rest = rest
        self.search = search
        self.error = context.answer_error()
        part = np.arange(len(context.calibration)) % PARTS
        calibration = context.calibration
        some = partial(Calibration, threads=calibration.threads, workers=calibration.workers)
        self.fitted = some(calibration.rows[part < 2][: search.rows])
        self.deciding = some(calibration.rows[(part == 2) | (part == 3)])
        self.remaining = some(calibration.rows[part < PARTS - 1])
        self.accepting = some(calibration.rows[part == PARTS - 1])
        self.snapshots = Snapshots(SNAPSHOT_BYTES)
        self.journal = Journal(context.journal, self._identity())
        self.evaluations = 0
        self.stopped = "nothing better was found"
        self._objectives: set[float] = set()
        self._began = time.monotonic()
        self._bar: Iterator[int] = context.progress.track(
            range(search.budget), search.budget, "learning thresholds"
        )
        first = self._measured({})
        if first is None:
            raise InternalError("a search without a budget")
        self.start = first

    def _identity(self) -> str:
        digest = hashlib.sha256()
        for node in self.graph:
            digest.update(content(node))
        context = self.context
        words = (
            context.calibration.sha256,
            context.timesteps,
            context.seed,
            self.graph.settle_steps,
            self.graph.schedule,
            self.rest.text,
            self.search.rows,
            self.error.value,
        )
        digest.update(repr(words).encode())
        return digest.hexdigest()

    def best(self) -> Trial:
        """Search until nothing helps or the budget is spent."""
        best = self.start
        levels = knobs(self.graph)
        for level, step in zip(levels, STEPS, strict=False):
            for knob in level:
                best = self._climbed(best, knob, step)
            if self.evaluations > 1 and len(self._objectives) == 1:
                self.stopped = "the answers do not depend on the thresholds"
                return best
        if self._spent():
            self.stopped = "the budget of evaluations is spent"
        if self._late():
            self.stopped = "the time is up"
        return best

    def _climbed(self, best: Trial, knob: Knob, step: float) -> Trial:
        """Follow one coordinate, upwards and else downwards."""
        for factor in (step, 1 / step):
            before = best
            for _ in range(FARTHEST):
                keys = [f"{name}:{knob.parameter.value}" for name in knob.members]
                moved = {key: best.factors.get(key, 1.0) * factor for key in keys}
                trial = self._measured({**best.factors, **moved})
                if trial is None:
                    return best
                if trial.objective >= best.objective - MARGIN * self.start.objective:
                    break
                best = trial
            if best is not before:
                return best
        return best

    def _spent(self) -> bool:
        return self.evaluations >= self.search.budget

    def _late(self) -> bool:
        limit = self.search.seconds
        return limit is not None and time.monotonic() - self._began > limit

    def _measured(self, factors: Mapping[str, float]) -> Trial | None:
        """Return one trial, or ``None`` if no more may be made."""
        if self.evaluations and (self._spent() or self._late()):
            return None
        factors = {name: factor for name, factor in factors.items() if abs(factor - 1) > 1e-9}
        key = _key(factors)
        next(self._bar, None)
        self.evaluations += 1
        trial = self._trial(key, factors, self.fitted, self.deciding)
        self._objectives.add(trial.objective)
        self.context.progress.message(
            f"{self.error.value} {trial.divergence:.4f}, {trial.synops:,.0f} operations"
        )
        return trial

    def accepted(self, factors: Mapping[str, float]) -> Trial:
        """Make a network from all rows but the last set, and measure it there."""
        self.context.progress.message("accepting")
        # Other rows are fitted on: nothing made so far is of use, and its memory is.
        self.snapshots = Snapshots()
        return self._trial(f"accept {_key(factors)}", factors, self.remaining, self.accepting)

    def _trial(
        self, key: str, factors: Mapping[str, float], fitted: Calibration, judging: Calibration
    ) -> Trial:
        found, synops = self.journal.value(key, lambda: self._evaluated(factors, fitted, judging))
        first = self.start.synops if factors else synops
        return Trial(factors, found, synops, found + self.search.activity * synops / max(first, 1e-12))

    def _evaluated(
        self, factors: Mapping[str, float], fitted: Calibration, judging: Calibration
    ) -> tuple[float, float]:
        """Make one network and return the error of its answers and its operations per row."""
        network = self.rest.run(scaled(self.graph, factors), fitted, self.snapshots)
        if not isinstance(network, SnnGraph):
            raise InternalError("the rest of the pipeline makes no spiking network")
        logits, synops = answers_of(network, judging.rows, self.context)
        return self.error.of(judging.logits(self.context.ann()), logits), synops


def _key(factors: Mapping[str, float]) -> str:
    return ";".join(f"{name}={factor:.9g}" for name, factor in sorted(factors.items())) or "start"


def answers_of(network: SnnGraph, rows: Any, context: Context) -> tuple[Any, float]:
    """Return a network's answers in units of the source network, and its operations per row."""
    steps = network.timesteps
    inputs = encode_all(network, rows)
    trace = context.simulator.run(network, inputs, steps, RecordOptions(activity=True))
    counted = costs.count(network, trace.activity, len(rows), steps)
    return real_logits(network, trace.outputs), counted.synops


def _fall_back(context: Context, message: str, cure: str) -> None:
    context.diagnostics.append(Diagnostic(FALLBACK, message, help=cure))
    context.findings.setdefault("learned", {"kept": False})
