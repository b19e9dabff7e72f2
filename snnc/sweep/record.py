"""What is told of a cell of a sweep: what it is, and what was measured, or why nothing was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from snnc.analysis.evaluation import Evaluation
from snnc.analysis.neurobench import footprint
from snnc.analysis.parts import Asking
from snnc.budget.trials import lost, needed
from snnc.remote.conversion import Made
from snnc.report.energy import picojoules
from snnc.sweep.material import Measured, Ready
from snnc.sweep.plan import Cell

Record = dict[str, Any]
"""What is told of a cell, in values that JSON holds."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no result.

    Attributes:
        kind: the class of the error.
        message: its line.
    """

    kind: str
    message: str


def record_of(
    cell: Cell,
    ready: Ready,
    measured: Measured,
    made: Made | None,
    evaluation: Evaluation | None,
    points_lost: float | None,
    failure: Failure | None,
) -> Record:
    """Return what is told of a cell: what it is, and what was measured, or why nothing was.

    Of a conversion that was chosen, preset and steps are those that were.
    """
    chosen = {} if made is None or made.chosen is None else made.chosen
    options = cell.options
    record: Record = {
        "model": ready.network.model,
        "source_sha256": ready.sha256,
        "cell": cell.label,
        "preset": chosen.get("preset", options.preset),
        "pipeline": None if options.pipeline is None else str(options.pipeline),
        "timesteps": chosen.get("timesteps", options.timesteps),
        "set": dict(options.settings),
        "precision": options.precision,
        "seed": options.seed,
        "calibration": ready.origin,
        "preprocessing": ready.told["preprocessing"],
        "data": measured.name,
        "rows": len(measured.rows),
        "error": None if failure is None else {"kind": failure.kind, "message": failure.message},
        "points_lost": None,
        "relative_synops": None,
        "picojoules": None,
        "footprint": None,
    }
    if evaluation is None or made is None:
        return record
    macs = ready.source.macs
    return {
        **record,
        "timesteps": evaluation.timesteps,
        "points_lost": points_lost,
        "relative_synops": evaluation.costs.synops / macs if macs else None,
        "picojoules": picojoules(evaluation.costs),
        "footprint": footprint(made.artefact.graph, evaluation.costs.neurons),
        "artefact_files_sha256": made.files.sha256,
        "warnings": [dict(each) for each in made.warnings],
        "measured": evaluation.as_dict(),
    }


def points_lost_of(evaluation: Evaluation, asked: Asking) -> float | None:
    """Return what is lost beside the source, in points, at the worst output; ``None`` if unknown."""
    losses = []
    for name, judged in evaluation.outputs.items():
        outputs = asked.outputs[name]
        values = {each.metric: each.value for each in judged.scores.measured}
        if judged.ann is None or not all(metric in values for metric in needed(outputs)):
            continue
        losses.append(lost(judged.ann, values, outputs))
    return 100 * max(losses) if losses else None
