"""Accuracy against T: the network as it is, and converted anew for each T.

A network that is calibrated for T steps can be run for any number of them, though it was made for one. Where
that is exact, the answers after every step come from one simulation: under the synchronous schedule, without
settle steps, with one spike a step, a neuron cannot have sent more than ``t M`` units after ``t`` steps, so
the capacity of a shorter run binds nothing. Elsewhere every T is a run of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from snnc.analysis.answers import all_outputs_of
from snnc.analysis.evaluation import Share
from snnc.artefact import Artefact
from snnc.ir.batch import Rows
from snnc.ir.graph import NumberArray
from snnc.ir.neuron import Schedule
from snnc.ir.operations import populations
from snnc.ir.snn import SnnGraph
from snnc.metrics import Measured
from snnc.progress import Progress, Silent
from snnc.simulation.protocol import Simulator

Judge = Callable[[NumberArray], Share | Measured]
"""Judges answers, (n, values), in units of the source network: before its last activation, or where spikes or
ordinary ONNX compute that, behind it."""


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
        output: the name of the one that is judged; empty where there is one.
    """

    calibrated_for: int
    labelled: bool
    ann: Share | Measured | None
    same: tuple[Point, ...]
    again: tuple[Point, ...]
    one_run: bool
    metric: str = ""
    output: str = ""

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
            **({"output": self.output} if self.output else {}),
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
    x: Rows,
    output: str,
    timesteps: Sequence[int],
    simulator: Simulator,
    progress: Progress | None = None,
) -> dict[int, NumberArray]:
    """Return what a network answers at each T, (n, values) each, in units and layout of its source.

    Args:
        artefact: the network.
        x: (n, ...) rows; of several inputs a batch.
        output: the name of the one that is asked for.
        timesteps: the T that are wanted, none above what was proved.
        simulator: what runs it.
        progress: where to show how far it is.
    """
    graph, finish = artefact.graph, artefact.finish

    def told(T: int, values: NumberArray) -> NumberArray:
        if finish is None:
            values = artefact.output_layouts[output].to_source(graph.readouts[output].real(values, T))
        return values.reshape(len(values), -1)

    run = partial(all_outputs_of, graph, artefact.encode, x, simulator=simulator, progress=progress)
    if exact_in_one_run(graph) and finish is None:
        steps = run(timesteps=max(timesteps), per_step=True)[output]
        return {T: told(T, steps[T - 1]) for T in timesteps}
    return {T: told(T, run(timesteps=T, finish=finish)[output]) for T in timesteps}


def accuracy_curve(
    artefact: Artefact,
    x: Rows,
    judge: Judge,
    *,
    output: str,
    labelled: bool,
    ann: Share | Measured | None,
    timesteps: Sequence[int],
    simulator: Simulator,
    known: Mapping[int, Share | Measured] | None = None,
    convert: Callable[[int], Artefact] | None = None,
    progress: Progress | None = None,
) -> Curve:
    """Measure the curve.

    Args:
        artefact: the network.
        x: (n, ...) rows; of several inputs a batch.
        judge: judges the answers of a run.
        output: the name of the one that is judged.
        labelled: whether they are held to labels, or else to the source network's.
        ann: accuracy of the source network.
        timesteps: the T that are wanted.
        simulator: what runs the networks.
        known: what was judged at T at which the artefact was run already.
        convert: makes an artefact for a T; ``None`` to leave that curve out.
        progress: where to show how far it is.
    """
    graph = artefact.graph
    wanted = sorted({T for T in timesteps if not graph.max_timesteps or graph.max_timesteps >= T})
    # Step functions are made for one T; those of other conversions for theirs.
    others = sorted(set(timesteps)) if graph.only_timesteps else wanted
    wanted = [T for T in wanted if graph.timesteps == T or not graph.only_timesteps]
    found = {T: Point(T, share) for T, share in (known or {}).items()}
    if left := [T for T in wanted if T not in found]:
        answers = answers_at(artefact, x, output, left, simulator, progress)
        found |= {T: Point(T, judge(answers[T])) for T in left}
    same = tuple(found[T] for T in wanted)
    again: tuple[Point, ...] = ()
    if convert is not None:
        tracked = (progress or Silent()).track(others, len(others), "converting for every T")
        again = tuple(Point(T, judge(answers_at(convert(T), x, output, [T], simulator)[T])) for T in tracked)
    metric = next((each.share.metric for each in same if isinstance(each.share, Measured)), "")
    one_run = exact_in_one_run(graph) and artefact.finish is None
    named = output if len(artefact.gives) > 1 else ""
    return Curve(graph.timesteps, labelled, ann, same, again, one_run, metric, named)
