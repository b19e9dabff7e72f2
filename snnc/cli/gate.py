"""Limits of a conversion's loss on held-back calibration rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snnc.cli.judging import (
    limited,
    missed,
    outputs_of_model,
    require_floors,
    require_points,
    require_right,
)
from snnc.cli.quantities import points

if TYPE_CHECKING:
    from collections.abc import Mapping

    from snnc.analysis.evaluation import Evaluation, Judged
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

    def check(self, outputs: Mapping[str, Outputs]) -> None:
        """Refuse limits that these outputs cannot miss, before the work begins.

        Raises:
            UsageError: there is one.
        """
        if self.drop is not None:
            require_points(outputs)
        require_floors(self.floors, outputs)


def outputs_for(located: Located, rows: Rows, options: Options) -> dict[str, Outputs]:
    """Return what each output of the network is, by the user's word, the labels, or its end."""
    from snnc.frontend import read_onnx

    source = read_onnx(located.path, options.host_mode, selection=options.selection)
    return outputs_of_model(source, len(rows.x), rows.y, options.task)


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
        source=open_source(terminal, located, rows.preprocessing, options.threads, options.selection),
        task=options.task,
        metrics=tuple(dict.fromkeys(limit.asked for limit in limits.floors)),
        layouts=artefact.output_layouts,
        progress=terminal.progress(),
        finish=artefact.finish,
    )
    told = _drop(found, limits.drop)
    measured = {name: judged.scores.measured for name, judged in found.outputs.items()}
    wrong = missed(limits.floors, measured)
    if told is not None and told["points"] > told["limit"]:
        wrong.insert(
            0, f"{told['measured']}: {told['points']:.2f} points, more than --max-drop {limits.drop:g}"
        )
    if wrong:
        raise GateError(
            f"{'; '.join(wrong)}; on {len(rows.x)} calibration rows that were kept back. Try a larger "
            "--timesteps. Nothing was written"
        )
    several = len(measured) > 1
    floors = [
        {
            "metric": limit.metric,
            "least": limit.least,
            **each.as_dict(),
            **({"output": name} if several else {}),
        }
        for limit, name, each in limited(limits.floors, measured)
    ]
    return {"max_drop": told, "min_metric": floors}


def _drop(found: Evaluation, limit: float | None) -> dict[str, Any] | None:
    """Return the points that are lost, if they are limited; of several outputs the one that loses most."""
    from snnc.errors import InternalError

    if limit is None:
        return None
    told = [
        {**lost, **({"output": name} if len(found.outputs) > 1 else {})}
        for name, judged in found.outputs.items()
        if (lost := _lost(judged, limit)) is not None
    ]
    if not told:
        raise InternalError("the gate ran without the source network, or without classes")
    return max(told, key=lambda each: each["points"])


def _lost(judged: Judged, limit: float) -> dict[str, Any] | None:
    """Return the points that one output loses; ``None`` where it has no classes."""
    if judged.ann is None or judged.ann.agreement is None:
        return None
    if judged.ann.paired is not None:
        paired = judged.ann.paired
        right = (paired.both + paired.only_ann) / judged.scores.n
        require_right(right, limit, "the source network", "the rows kept back")
        lost, what = points(paired.drop), "accuracy lost"
    else:
        lost, what = points(1 - judged.ann.agreement.value), "answers that differ from the ANN's"
    return {"points": lost, "limit": limit, "rows": judged.scores.n, "measured": what}
