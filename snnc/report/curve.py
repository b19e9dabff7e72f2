"""Accuracy against T: the network as it is, and converted anew for each T.

A network that is calibrated for T steps can be run for any number of them, though it was made for one. Where
that is exact, the answers after every step come from one simulation: under the synchronous schedule, without
settle steps, with one spike a step, a neuron cannot have sent more than ``t M`` units after ``t`` steps, so
the capacity of a shorter run binds nothing. Elsewhere every T is a run of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc.analysis.evaluation import Share, outputs_of
from snnc.artefact import Artefact
from snnc.errors import InternalError
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.neuron import Schedule
from snnc.ir.operations import populations
from snnc.ir.snn import SnnGraph
from snnc.metrics import Measured, decisions
from snnc.progress import Progress, Silent
from snnc.simulation.protocol import Simulator

Score = Callable[[FloatArray], Measured]
"""Judges numbers, (n, outputs), in units of the source network before its last activation."""


@dataclass(frozen=True, slots=True)
class Point:
    """Accuracy, or agreement with the source network where there are no labels, at one T.

    Attributes:
        timesteps: T.
        share: right, or equal, answers; of numbers a metric.
    """

    timesteps: int
    share: Share | Measured


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy against T.

    Attributes:
        calibrated_for: T of the artefact.
        labelled: whether answers are compared with labels, or else with the source network's.
        ann: accuracy of the source network on the same rows; ``None`` without labels.
        same: this artefact at other T.
        again: converted anew for each T; empty where that was not asked for.
        metric: of numbers; empty where shares of rows are measured.
        one_run: whether ``same`` was read from one simulation.
    """

    calibrated_for: int
    labelled: bool
    ann: Share | Measured | None
    same: tuple[Point, ...]
    again: tuple[Point, ...]
    one_run: bool
    metric: str = ""

    @property
    def measured(self) -> str:
        """What is measured, in words."""
        if self.metric:
            return f"{self.metric} against the {'labels' if self.labelled else 'source'}"
        return "accuracy" if self.labelled else "agreement"

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""

        def told(points: Sequence[Point]) -> list[dict[str, Any]]:
            name = self.metric or "top1"
            return [
                {
                    "timesteps": p.timesteps,
                    name: p.share.value,
                    f"{name}_ci95": None if p.share.interval is None else list(p.share.interval),
                }
                for p in points
            ]

        return {
            "measured": self.measured,
            "calibrated_for": self.calibrated_for,
            "n": self.same[0].share.n if self.same else 0,
            f"ann_{self.metric or 'top1'}": None if self.ann is None else self.ann.value,
            "this_artefact": told(self.same),
            "converted_for_each": told(self.again),
        }


def exact_in_one_run(graph: SnnGraph) -> bool:
    """Whether the answers at every step of a run are those of shorter runs."""
    single = all(node.neuron.spikes_per_step == 1 for node, _ in populations(graph))
    return (
        single
        and not graph.only_timesteps
        and graph.schedule is Schedule.SYNCHRONOUS
        and graph.settle_steps == 0
    )


def answers_at(
    artefact: Artefact,
    x: NumberArray,
    timesteps: Sequence[int],
    simulator: Simulator,
    progress: Progress | None = None,
) -> dict[int, NumberArray]:
    """Return what a network answers at each T, (n, outputs) each.

    Args:
        artefact: the network.
        x: (n, ...) rows.
        timesteps: the T that are wanted, none above what was proved.
        simulator: what runs it.
        progress: where to show how far it is.
    """
    graph = artefact.graph
    if exact_in_one_run(graph) and artefact.finish is None:
        outputs = outputs_of(
            graph,
            artefact.encode,
            x,
            simulator=simulator,
            timesteps=max(timesteps),
            per_step=True,
            progress=progress,
        )
        return {T: outputs[T - 1] for T in timesteps}
    return {
        T: outputs_of(
            graph,
            artefact.encode,
            x,
            simulator=simulator,
            timesteps=T,
            progress=progress or Silent(),
            finish=artefact.finish,
        )
        for T in timesteps
    }


def accuracy_curve(
    artefact: Artefact,
    x: NumberArray,
    targets: IntArray | None,
    *,
    labelled: bool,
    ann: Share | Measured | None,
    timesteps: Sequence[int],
    simulator: Simulator,
    known: Mapping[int, IntArray] | None = None,
    convert: Callable[[int], Artefact] | None = None,
    score: Score | None = None,
    progress: Progress | None = None,
) -> Curve:
    """Measure the curve.

    Args:
        artefact: the network.
        x: (n, ...) rows.
        targets: (n,) labels, or the source network's answers; ``None`` where ``score`` judges.
        labelled: which of both.
        ann: accuracy of the source network.
        timesteps: the T that are wanted.
        simulator: what runs the networks.
        known: answers of the artefact, (n,) each, at T at which it was run already.
        convert: makes an artefact for a T; ``None`` to leave that curve out.
        score: judges numbers, (n, outputs) of a run of T steps; ``None`` for classes.
        progress: where to show how far it is.
    """
    graph = artefact.graph
    wanted = sorted({T for T in timesteps if not graph.max_timesteps or graph.max_timesteps >= T})
    # Step functions are made for one T; those of other conversions for theirs.
    others = sorted(set(timesteps)) if graph.only_timesteps else wanted
    wanted = [T for T in wanted if graph.timesteps == T or not graph.only_timesteps]

    def judged(made: Artefact, T: int, outputs: NumberArray) -> Point:
        readout = made.graph.readout
        if score is not None:
            return Point(
                T, score(readout.real(outputs.reshape(-1, *readout.shape), T).reshape(outputs.shape))
            )
        return Point(T, _share(decisions(outputs), targets))

    found = {} if score is not None else {T: Point(T, _share(c, targets)) for T, c in (known or {}).items()}
    if left := [T for T in wanted if T not in found]:
        answers = answers_at(artefact, x, left, simulator, progress)
        found |= {T: judged(artefact, T, answers[T]) for T in left}
    same = tuple(found[T] for T in wanted)
    again: list[Point] = []
    if convert is not None:
        for T in (progress or Silent()).track(others, len(others), "converting for every T"):
            made = convert(T)
            again.append(judged(made, T, answers_at(made, x, [T], simulator)[T]))
    metric = next((each.share.metric for each in same if isinstance(each.share, Measured)), "")
    return Curve(graph.timesteps, labelled, ann, same, tuple(again), exact_in_one_run(graph), metric)


def _share(classes: IntArray, targets: IntArray | None) -> Share:
    if targets is None:
        raise InternalError("classes are compared with nothing")
    return Share(int(np.count_nonzero(classes == targets)), len(targets))
