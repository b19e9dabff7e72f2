"""Choice of preset and number of steps, if the user gives neither or only one of them.

Every candidate of a short list is converted with a fifth of the calibration rows and evaluated on the others.
Candidates are ordered by operations, then latency, then payload; the first that loses at most one point by
the upper end of its 95 % interval is chosen, or, if there is none, the one with the smallest loss.

**Loss.** Rows are few and have no labels. Counting the answers that differ would be too coarse: most of them
differ where the source itself is uncertain, so about as many become right as become wrong; and if no answer
differs, the interval still reaches up to ``3 / n``. So the loss of a row is computed from the source's own
probabilities ``p``, its answer ``a`` and the spiking network's answer ``s``,

    d = p(a) - p(s)        L = sum(d) / n

which is 0 where the answers agree, and the expected loss of accuracy if ``p`` is calibrated; for an
overconfident source it is an overestimate. The upper end is that of a normal interval with one additional row
whose answer differs at the cost ``c``: the mean cost of the observed differences, weighted by the cost, or,
if larger, the mean margin ``p(1st) - p(2nd)`` of the tenth of the rows with the smallest margins:

    c = max(sum(d^2) / sum(d), mean lead)
    S = sum(d) + c        L+ = S / n + 1.96 sqrt(sum(d^2) + c^2 - S^2 / (n + 1)) / n

If no answer differs, this is ``3 c / n``: the rule of three, times the cost of a difference. If the source's
mean confidence is below 45 %, its scores are not used as probabilities, and every answer that differs counts
in full (``d`` = ``c`` = 1). The loss of outputs that are no classes is their squared error relative to their
variance.

Sources: the added row as in Agresti and Min, "Simple improved confidence intervals for comparing matched
proportions", Statistics in Medicine 24 (2005); the rule of three: Hanley and Lippman-Hand, JAMA 249 (1983).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc.analysis import costs
from snnc.analysis.answers import SHARD
from snnc.analysis.front import Point, carried, pareto
from snnc.analysis.latency import latency_steps
from snnc.errors import InternalError, SnncError
from snnc.ir.ann import AnnGraph
from snnc.ir.batch import Batch
from snnc.ir.graph import FloatArray, IntArray
from snnc.ir.snn import SnnGraph
from snnc.metrics.shares import Z95
from snnc.metrics.task import Task
from snnc.numerics.divergence import AnswerError, answer_error, log_softmax
from snnc.progress import Progress
from snnc.simulation.protocol import Activity, RecordOptions, Simulator
from snnc.simulation.reference import encode_all
from snnc.source.calibration import Calibration

UNSURE = 0.45
"""Mean confidence below which scores do not tell how sure a source is."""

LIMIT = 1.0
"""Points that a candidate may lose."""

STEPS = (1, 2, 4, 8)
"""Numbers of steps that are tried of a preset that is named alone."""

COMPARED = ("one-step", "balanced", "fast")
"""Presets that are compared at a number of steps that is named alone."""

FEWEST_ROWS = 10
"""Rows below which nothing is judged."""

FITTED = 50
"""Rows that are fitted to at least, as long as as many are left to judge by."""

MOST_FITTED, MOST_HELD = 200, 1000
"""Rows that are fitted to, and judged by, at most."""


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """One way to convert.

    Attributes:
        preset: its name.
        timesteps: T.
    """

    preset: str
    timesteps: int

    def __str__(self) -> str:
        """Return it for the user."""
        return f"{self.preset}, T = {self.timesteps}"


EXACT = "exact"
"""The preset that keeps the levels of a quantised network."""

DEFAULTS = (Candidate("one-step", 1), Candidate("balanced", 4), Candidate("fast", 4))
"""What is tried where neither a preset nor a number of steps is named."""


BINARY = "binary-only"
"""The preset that is taken where binary spikes are asked for: those that are compared send none."""


def candidates(
    preset: str | None, timesteps: int | None, payload: str | None = None
) -> tuple[Candidate, ...]:
    """Return what may be chosen, given what is named.

    Args:
        preset: its name; ``None`` to compare presets.
        timesteps: T; ``None`` to choose it.
        payload: what an event may carry. What carries more is for the caller to leave out, for it depends
            on the network.
    """
    if preset == EXACT and timesteps is None:
        return (Candidate(EXACT, 1),)  # the counts are the same for every T
    if preset is None and payload is not None and carried(payload) == 0:
        preset = BINARY
    if preset is not None:
        return tuple(Candidate(preset, T) for T in (STEPS if timesteps is None else (timesteps,)))
    return DEFAULTS if timesteps is None else tuple(Candidate(name, timesteps) for name in COMPARED)


@dataclass(frozen=True, slots=True)
class Loss:
    """What is lost on rows held back.

    Attributes:
        points: the estimate, in points; or the error in % of the variance of outputs that are no classes.
        upper: the upper end of its 95 % interval.
        differ: rows answered otherwise than by the source; 0 where there are no classes.
        rows: how many there were.
    """

    points: float
    upper: float
    differ: int
    rows: int


def loss(targets: FloatArray, answers: FloatArray, *, classes: bool) -> Loss:
    """Return what answers lose beside the source network's.

    Args:
        targets: (n, outputs), the source's, before a softmax.
        answers: (n, outputs), the spiking network's.
        classes: whether the largest of them is an answer.
    """
    n = len(targets)
    lost, unseen, differ = _by_confidence(targets, answers) if classes else _by_error(targets, answers)
    total = lost.sum() + unseen
    spread = np.sqrt(max(float(np.square(lost).sum() + unseen**2 - total**2 / (n + 1)), 0.0))
    points = 100 * float(lost.mean())
    return Loss(points, max(points, 100 * float(total + Z95 * spread) / n), differ, n)


def _by_confidence(targets: FloatArray, answers: FloatArray) -> tuple[FloatArray, float, int]:
    """Return what each row loses, the cost of a difference that was not seen, and how many were."""
    p = np.exp(log_softmax(targets.astype(np.float64)))
    rows = np.arange(len(p))
    ours, theirs = answers.argmax(axis=1), targets.argmax(axis=1)
    differ = ours != theirs
    if p.max(axis=1).mean() < UNSURE:
        return differ.astype(np.float64), 1.0, int(differ.sum())
    leading = np.sort(p, axis=1)
    leads = np.sort(leading[:, -1] - leading[:, -2])
    unsure = leads[: max(1, len(leads) // 10)]
    lost = p[rows, theirs] - p[rows, ours]
    cost = max(float(unsure.mean()), float(np.square(lost).sum() / max(lost.sum(), 1e-12)))
    return lost, cost, int(differ.sum())


def _by_error(targets: FloatArray, answers: FloatArray) -> tuple[FloatArray, float, int]:
    """Return the squared error of each row relative to the variance of the outputs."""
    varied = float(np.square(targets - targets.mean(axis=0), dtype=np.float64).sum(axis=1).mean())
    lost = np.square(answers - targets, dtype=np.float64).sum(axis=1) / max(varied, 1e-12)
    return lost, float(lost.mean()), 0


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate that was made and judged.

    Attributes:
        candidate: what it is.
        point: what it costs and loses.
        loss: the same with its interval.
    """

    candidate: Candidate
    point: Point
    loss: Loss

    @property
    def order(self) -> tuple[float, int, int]:
        """What is preferred: few operations, then few steps, then a small payload."""
        return (self.point.synops, self.point.latency, self.point.carried)


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and among what.

    Attributes:
        chosen: the candidate.
        reason: why, for the user.
        tried: what was measured, in order of operations.
        failed: candidates that could not be made, and why.
        fitted, held: rows that each was made with, and judged on.
    """

    chosen: Candidate
    reason: str
    tried: tuple[Tried, ...] = ()
    failed: tuple[tuple[Candidate, str], ...] = ()
    fitted: int = 0
    held: int = 0

    def front(self) -> tuple[Tried, ...]:
        """Return those that no other is better than, from few operations to many, with the chosen one."""
        kept = set(pareto([each.point for each in self.tried]))
        return tuple(each for each in self.tried if each.point in kept or each.candidate == self.chosen)

    def neighbours(self) -> tuple[Tried, ...]:
        """Return what stands before and behind the chosen one on the front, where something does."""
        front = self.front()
        at = next((i for i, each in enumerate(front) if each.candidate == self.chosen), None)
        if at is None:
            return ()
        return (*front[max(at - 1, 0) : at], *front[at + 1 : at + 2])

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, for the artefact too."""
        return {
            "chosen": {"preset": self.chosen.preset, "timesteps": self.chosen.timesteps},
            "reason": self.reason,
            "limit": LIMIT,
            "rows_fitted": self.fitted,
            "rows_held": self.held,
            "candidates": [
                {
                    "preset": each.candidate.preset,
                    "timesteps": each.candidate.timesteps,
                    "latency": each.point.latency,
                    "payload": each.point.payload,
                    "synops": round(each.point.synops, 4),
                    "loss": round(each.loss.points, 4),
                    "loss_upper95": round(each.loss.upper, 4),
                    "answers_differ": each.loss.differ,
                }
                for each in self.tried
            ],
            "failed": [
                {"preset": each.preset, "timesteps": each.timesteps, "because": why}
                for each, why in self.failed
            ],
        }


def decide(tried: Sequence[Tried]) -> tuple[Tried, str]:
    """Return the one to take, and why; see the module for the rule."""
    ordered = sorted(tried, key=lambda each: each.order)
    good = [each for each in ordered if each.loss.upper <= LIMIT]
    if good:
        return good[0], f"the fewest operations among those that lose at most {LIMIT:g} point"
    best = min(ordered, key=lambda each: each.loss.points)
    return best, f"no candidate loses at most {LIMIT:g} point; this one loses least"


def split(rows: int) -> tuple[IntArray, IntArray]:
    """Return which rows are fitted to and which are held back, both spread over all of them."""
    fitted = min(max(rows // 5, min(FITTED, rows // 2)), MOST_FITTED)
    used = _spread(np.arange(rows), fitted)
    return used, _spread(np.setdiff1d(np.arange(rows), used), MOST_HELD)


def _spread(items: IntArray, most: int) -> IntArray:
    count = min(most, len(items))
    return items[np.arange(count) * len(items) // max(count, 1)]


def least_steps(steps: Sequence[Candidate], good: Callable[[Candidate], bool], progress: Progress) -> None:
    """Look for the fewest steps of one preset that are good enough, by halves.

    More steps cost more operations and lose less, so what lies beyond one that is good, or before one that is
    not, need not be tried.
    """
    low, high = 0, len(steps)
    for _ in progress.track(range(len(steps).bit_length()), len(steps).bit_length(), "comparing steps"):
        if low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if good(steps[middle]) else (middle + 1, high)


Make = Callable[[Candidate, Calibration], SnnGraph]
"""Makes a candidate with some of the rows."""


def choose(
    among: Sequence[Candidate],
    make: Make,
    source: AnnGraph,
    calibration: Calibration,
    simulator: Simulator,
    progress: Progress,
    task: Task | None = None,
    tasks: Mapping[str, Task | None] = {},
    segments: Mapping[str, int] = {},
) -> Choice:
    """Make candidates with some rows, judge them on others, and choose.

    Args:
        among: two candidates or more.
        make: makes one of them.
        source: the source network.
        calibration: all rows.
        simulator: runs what is made.
        progress: where to show how far it is.
        task: what the outputs are, if it is known.
        tasks: what single outputs are, by their names, where that is known better.
        segments: of the inputs, by their names, where segments wait for one another.

    Raises:
        SnncError: none of them can be made.
    """
    if len(calibration) < FEWEST_ROWS:
        # Nothing can be fitted to so few rows, so it is best to take what fits nothing.
        chosen = max(among, key=lambda each: (each.preset == "fast", each.timesteps == 4))
        return Choice(chosen, f"{len(calibration)} calibration rows are too few to compare presets")
    fitted, held = split(len(calibration))
    rows, judged = (
        Calibration(calibration.rows[part], calibration.threads, calibration.workers)
        for part in (fitted, held)
    )
    targets = judged.logits(source)
    by_name = targets.arrays if isinstance(targets, Batch) else {source.output_names[0]: targets}
    classes = {
        name: answer_error(tasks.get(name, task), each) is AnswerError.DIVERGENCE
        for name, each in by_name.items()
    }
    macs = sum(costs.macs_of_ann(source).values())
    tried: list[Tried] = []
    failed: list[tuple[Candidate, str]] = []
    refused: SnncError | None = None

    def good(candidate: Candidate) -> bool:
        nonlocal refused
        progress.message(f"trying {candidate}")
        try:
            graph = make(candidate, rows)
        except InternalError:
            raise
        except SnncError as error:
            refused = error
            failed.append((candidate, str(error)))
            return False
        tried.append(_judged(candidate, graph, judged, by_name, macs, simulator, classes, segments))
        return tried[-1].loss.upper <= LIMIT

    if len({each.preset for each in among}) == 1:
        steps = sorted(among, key=lambda each: each.timesteps)
        least_steps(steps, good, progress)
    else:
        for candidate in progress.track(among, len(among), "comparing presets"):
            good(candidate)
    if refused is not None and not tried:
        raise refused
    taken, reason = decide(tried)
    ordered = tuple(sorted(tried, key=lambda each: each.order))
    return Choice(taken.candidate, reason, ordered, tuple(failed), len(fitted), len(held))


def _judged(
    candidate: Candidate,
    graph: SnnGraph,
    held: Calibration,
    targets: Mapping[str, FloatArray],
    macs: int,
    simulator: Simulator,
    classes: Mapping[str, bool],
    segments: Mapping[str, int],
) -> Tried:
    """Run a network on the rows held back; of several outputs, the one that loses most counts."""
    T = candidate.timesteps
    answers: dict[str, list[FloatArray]] = {name: [] for name in targets}
    activity: dict[str, Activity] = {}
    for start in range(0, len(held), SHARD):
        q = encode_all(graph, held.rows[start : start + SHARD])
        trace = simulator.run(graph, q, T, RecordOptions(activity=True))
        for name, values in trace.outputs.items():
            answers[name].append(graph.readouts[name].decoded(values, T).reshape(len(values), -1))
        for name, counted in trace.activity.items():
            activity[name] = activity[name] + counted if name in activity else counted
    losses = [
        loss(each.reshape(len(each), -1), np.concatenate(answers[name]), classes=classes[name])
        for name, each in targets.items()
    ]
    found = max(losses, key=lambda each: each.upper)
    operations = costs.count(graph, activity, len(held), T).synops / max(macs, 1)
    point = Point(
        label=str(candidate),
        timesteps=T,
        latency=latency_steps(graph, T, segments),
        payload=costs.payload(graph, T),
        synops=operations,
        drop=found.points,
        rows=len(held),
    )
    return Tried(candidate, point, found)
