"""The search: all candidates on few rows, then the best on all; learned and pruned where none keeps to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from snnc.analysis.front import Point, pareto
from snnc.budget.candidates import Budget, Candidate
from snnc.budget.trials import SEARCH_ROWS
from snnc.compiler import LEARNING
from snnc.passes.learn_thresholds import LearnThresholds
from snnc.passes.prune_channels import PruneChannels
from snnc.progress import Progress, Silent
from snnc.search.journal import Journal

FINALISTS = 3
"""Candidates that are made with all rows, at most, before thresholds are learned."""

PRUNED_TO = 0.95
"""Share of the limit to which channels are pruned: what is left may fire a little more afterwards."""

ACTIVITY = 1.0
"""Price of operations, in nats for those of the first network, where they are what is missing."""

Measure = Callable[[Candidate, int | None], Point | None]
"""Makes a candidate with so many rows (all for ``None``) and measures it; ``None`` if it cannot be made."""


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
    ahead: Callable[[Sequence[Candidate], int | None], Iterable[Point | None]] | None = None,
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

    elsewhere: Iterator[Point | None] = iter(())
    left: list[Candidate] = []
    if ahead is not None:
        left = [candidate for candidate in tried if key_of(candidate, few) not in journal]
        elsewhere = iter(ahead(tuple(left), few))

    def made(candidate: Candidate, rows: int | None) -> Point | None:
        if left and left[0] == candidate and rows == few:
            left.pop(0)
            return next(elsewhere)
        return measure(candidate, rows)

    def measured(candidate: Candidate, rows: int | None) -> Point | None:
        value = journal.value(key_of(candidate, rows), lambda: _as_dict(made(candidate, rows)))
        if value is None:
            return None
        return Point(**{**value, "metrics": tuple((name, float(least)) for name, least in value["metrics"])})

    bar = (progress or Silent()).track(tried, len(tried), "trying conversions")
    points = {candidate: point for candidate in bar if (point := measured(candidate, few)) is not None}

    def rank(item: tuple[Candidate, Point]) -> tuple[float, float, float]:
        point = item[1]
        wanted = (point.synops, point.drop) if budget.limits_loss else (point.drop, point.synops)
        return (budget.excess(point), *wanted)

    ranked = sorted(points.items(), key=rank)
    finished: list[tuple[Candidate, Point]] = []
    chosen: tuple[Candidate, Point] | None = None
    # More rows make a network better, so those that missed the budget by little have a chance.
    for candidate, _ in ranked[:FINALISTS]:
        if (whole := measured(candidate, None)) is None:
            continue
        finished.append((candidate, whole))
        if budget.excess(finished[-1][1]) == 0:
            chosen = finished[-1]
            break
    if chosen is None or sparing:
        candidate, point = chosen or min(finished, key=rank)
        dear = sparing or (budget.synops is not None and point.synops > budget.synops)
        last = learned(candidate, ACTIVITY if dear else 0.0)
        if (whole := measured(last, None)) is not None:
            finished.append((last, whole))
        if budget.excess(finished[-1][1]) == 0 and (chosen is None or rank(finished[-1]) < rank(chosen)):
            chosen = finished[-1]
    if chosen is None and budget.synops is not None:
        able = [each for each, point in finished if _prunable(each, point, budget)]
        smaller = [pruned(candidate, budget.synops) for candidate in able[:1]]
        wholes = [(candidate, measured(candidate, None)) for candidate in smaller]
        # Even one channel a layer can be too many.
        finished += [(candidate, whole) for candidate, whole in wholes if whole is not None]
        if budget.excess(finished[-1][1]) == 0:
            chosen = finished[-1]
    # Where few rows are all rows, the second measurement is the first.
    everything = tuple(dict.fromkeys((*points.values(), *(point for _, point in finished))))
    nearest = chosen[1] if chosen else min((point for _, point in finished), key=budget.excess)
    return Outcome(everything, pareto(everything), chosen, nearest)


def _prunable(candidate: Candidate, point: Point, budget: Budget) -> bool:
    """Whether operations are all that a candidate has too many of, and its weights are fitted anew."""
    return "compensate" in candidate.pipeline.names and budget.excess(replace(point, synops=0.0)) == 0


def _as_dict(point: Point | None) -> dict[str, Any] | None:
    return None if point is None else {name: getattr(point, name) for name in Point.__dataclass_fields__}
