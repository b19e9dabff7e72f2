"""Limits of a conversion's loss on held-back calibration rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snnc.cli.judging import missed, outputs_of_model, require_floors, require_points, require_right
from snnc.cli.quantities import points

if TYPE_CHECKING:
    from snnc.analysis.evaluation import Evaluation
    from snnc.artefact import Artefact
    from snnc.cli.convert import Rows
    from snnc.cli.models import Located
    from snnc.cli.terminal import Terminal
    from snnc.compiler import Options
    from snnc.metrics import Floor, Outputs


@dataclass(frozen=True, slots=True)
class Limits:
    """What a conversion must keep to on rows kept back.

    Attributes:
        drop: points that may be lost.
        floors: the least of metrics.
    """

    drop: float | None
    floors: tuple[Floor, ...]

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self.drop is not None or bool(self.floors)

    def check(self, outputs: Outputs) -> None:
        """Refuse limits that these outputs cannot miss, before the work begins.

        Raises:
            UsageError: there is one.
        """
        if self.drop is not None:
            require_points(outputs)
        require_floors(self.floors, outputs)


def outputs_for(located: Located, rows: Rows, options: Options) -> Outputs:
    """Return what the outputs of the network are, by the user's word, the labels, or its end."""
    return outputs_of_model(located.path, len(rows.x), rows.y, options.task)


def gate(
    terminal: Terminal, located: Located, artefact: Artefact, rows: Rows, limits: Limits, options: Options
) -> dict[str, Any]:
    """Measure what the conversion lost on rows that it has not seen.

    Raises:
        GateError: a limit is missed.
    """
    from snnc.analysis.evaluation import evaluate
    from snnc.backends import load_simulator
    from snnc.cli.models import open_source
    from snnc.errors import GateError

    found = evaluate(
        artefact.graph,
        artefact.encode,
        rows.x,
        rows.y,
        simulator=load_simulator("numba", options.threads),
        source=open_source(terminal, located, rows.preprocessing, options.threads),
        task=options.task,
        metrics=tuple(dict.fromkeys(limit.metric for limit in limits.floors)),
        progress=terminal.progress(),
        finish=artefact.finish,
    )
    told = _drop(found, limits.drop)
    wrong = missed(limits.floors, found.scores.measured)
    if told is not None and told["points"] > told["limit"]:
        wrong.insert(
            0, f"{told['measured']}: {told['points']:.2f} points, more than --max-drop {limits.drop:g}"
        )
    if wrong:
        raise GateError(
            f"{'; '.join(wrong)}; on {len(rows.x)} calibration rows that were kept back. Try a larger "
            "--timesteps. Nothing was written"
        )
    metrics = {each.metric: each for each in found.scores.measured}
    floors = [
        {"metric": limit.metric, "least": limit.least, **metrics[limit.metric].as_dict()}
        for limit in limits.floors
    ]
    return {"max_drop": told, "min_metric": floors}


def _drop(found: Evaluation, limit: float | None) -> dict[str, Any] | None:
    """Return the points that are lost, if they are limited."""
    from snnc.errors import InternalError

    if limit is None:
        return None
    if found.ann is None or found.ann.agreement is None:
        raise InternalError("the gate ran without the source network, or without classes")
    if found.ann.paired is not None:
        paired = found.ann.paired
        right = (paired.both + paired.only_ann) / found.scores.n
        require_right(right, limit, "the source network", "the rows kept back")
        lost, what = points(found.ann.paired.drop), "accuracy lost"
    else:
        lost, what = points(1 - found.ann.agreement.value), "answers that differ from the ANN's"
    return {"points": lost, "limit": limit, "rows": found.scores.n, "measured": what}
