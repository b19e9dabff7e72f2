"""``snnc convert`` with a budget: tries conversions, shows their front, and writes the best within it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnc.cli.given import given
from snnc.cli.terminal import Terminal

if TYPE_CHECKING:
    from snnc.analysis.front import Point
    from snnc.budget import Budget, Candidate, Outcome, Trials
    from snnc.cli.convert import Rows
    from snnc.cli.models import Located
    from snnc.compiler import Options
    from snnc.metrics import Task

SPARING = "low-power"
"""The preset for which a limit on the drop asks for the fewest operations."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks for beside the budget.

    Attributes:
        timesteps: T, where it was named.
        output: where the artefact goes.
        front: where the picture goes.
        sparing: whether the fewest operations are wanted.
        seed, threads, task, host, shape, keep_output: as for any conversion.
        journal: where measurements are kept.
        keeps_journal: whether the user named it, so that it stays when the artefact is written.
    """

    timesteps: int | None
    output: Path | None
    front: Path | None
    sparing: bool
    seed: int
    threads: int | None
    task: Task | None
    host: str
    shape: tuple[str, ...]
    keep_output: tuple[str, ...]
    journal: Path | None
    keeps_journal: bool


def requested(options: Options, front: Path | None, output: Path | None) -> Request:
    """Return what is asked for beside the budget, and refuse what contradicts it.

    Raises:
        UsageError: an option was given that a budget decides about.
    """
    from snnc.errors import UsageError

    contradicting = {
        "--preset": given("--preset") and options.preset != SPARING,
        "--pipeline": options.pipeline is not None,
        "--set": bool(options.settings),
        "--precision float32": options.precision != "int8",
        "--dump-ir-after": given("--dump-ir-after"),
        "--dry-run": given("--dry-run"),
    }
    for option, wanted in contradicting.items():
        if wanted:
            raise UsageError(
                f"{option} contradicts the budget, whose search chooses it: leave out one of the two"
            )
    return Request(
        timesteps=options.timesteps if given("--timesteps") else None,
        output=output,
        front=front,
        sparing=options.preset == SPARING,
        seed=options.seed,
        threads=options.threads,
        task=options.task,
        host=options.host,
        shape=options.shape,
        keep_output=options.keep_output,
        journal=options.journal,
        keeps_journal=given("--journal"),
    )


def convert_to_budget(
    terminal: Terminal, located: Located, used: Rows, kept: Rows, budget: Budget, request: Request
) -> None:
    """Search, show what was found, and write the artefact.

    Args:
        terminal: where to.
        located: the source network.
        used: rows to convert with.
        kept: rows to measure on.
        budget: the limits.
        request: everything else.

    Raises:
        GateError: nothing keeps to the budget.
        UsageError: the limits contradict each other, or the picture's library is missing.
    """
    from snnc.artefact import save
    from snnc.budget import SEARCH_ROWS, Trials, candidates, search
    from snnc.cli.models import open_source
    from snnc.compiler import Options
    from snnc.errors import GateError
    from snnc.search.journal import Journal

    tried = candidates(budget, request.timesteps)
    options = Options(
        seed=request.seed,
        threads=request.threads,
        task=request.task,
        host=request.host,
        shape=request.shape,
        keep_output=request.keep_output,
    )
    draw = _drawing() if request.front is not None else None
    trials = Trials(
        model=located.name,
        rows=used.x,
        kept=kept.x,
        labels=kept.y,
        source=open_source(terminal, located, used.preprocessing, request.threads, options.selection),
        options=options,
        preprocessing=used.preprocessing,
        journal=request.journal,
        metrics=tuple(dict.fromkeys(limit.metric for limit in budget.floors)),
    )
    terminal.journal = request.journal
    outcome = search(
        budget,
        tried,
        trials.point,
        journal=Journal(request.journal, _identity(located, trials)),
        sparing=request.sparing,
        few=SEARCH_ROWS if len(used.x) > SEARCH_ROWS else None,
        progress=terminal.progress(),
    )
    measured = trials.measured
    output = request.output if outcome.chosen is not None else None
    if output is not None and outcome.chosen is not None:
        save(trials.made(outcome.chosen[0], None).artefact, output)
    if draw is not None and request.front is not None:
        chart = draw(outcome.points, outcome.front, None if outcome.chosen is None else outcome.chosen[1])
        _write(request.front, chart.svg + "\n")
    if terminal.json:
        terminal.data(_as_dict(outcome, measured, len(kept.x), output))
    else:
        _show(terminal, outcome, measured, len(kept.x), output)
    if outcome.chosen is None:
        raise GateError(
            f"no conversion meets the budget; nearest: {_said(outcome.nearest)}. Nothing was written"
        )
    if request.journal is not None and not request.keeps_journal:
        for path in (request.journal, *trials.learning_journals()):
            path.unlink(missing_ok=True)


def _identity(located: Located, trials: Trials) -> str:
    """Identify all that a measurement depends on, beside the candidate."""
    import hashlib

    import numpy as np

    digest = hashlib.sha256(located.path.read_bytes())
    for rows in (trials.rows, trials.kept, trials.labels):
        digest.update(b"none" if rows is None else np.ascontiguousarray(rows).tobytes())
    options = trials.options
    words: tuple[object, ...] = (options.seed, trials.preprocessing, options.task, trials.metrics)
    if (read := (options.host, options.shape, options.keep_output)) != ("edges", (), ()):
        words = (*words, read)
    digest.update(repr(words).encode())
    return digest.hexdigest()


def _drawing() -> Any:
    from snnc.errors import UsageError

    try:
        from snnc.report.front import front_chart
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise UsageError("--front draws with matplotlib: pip install matplotlib") from error
    return front_chart


def _write(path: Path, text: str) -> None:
    from snnc.writing import replacing

    with replacing(path) as stream:
        stream.write(text.encode())


def _show(terminal: Terminal, outcome: Outcome, measured: str, rows: int, output: Path | None) -> None:
    chosen = None if outcome.chosen is None else outcome.chosen[1]
    lines = [
        (
            ("→ " if point == chosen else "") + point.label,
            str(point.latency),
            point.payload,
            f"{point.synops:.2f}",
            f"{point.drop:.2f}",
            str(point.rows),
        )
        for point in outcome.front
    ]
    terminal.table(
        ("front", "latency", "payload", "operations / MACs", "points lost", "made with rows"), lines
    )
    terminal.text(f"Points of {measured} lost on {rows} rows kept back; {len(outcome.points)} were measured.")
    if chosen is not None and output is not None:
        terminal.done(f"wrote {output}: {_said(chosen)}")


def _said(point: Point) -> str:
    return (
        f"{point.label}, latency {point.latency}, {point.payload} spikes, {point.synops:.2f} of the MACs, "
        f"{point.drop:.2f} points lost" + "".join(f", {name} {value:.4g}" for name, value in point.metrics)
    )


def _finite(value: float) -> float | None:
    from math import isfinite

    return value if isfinite(value) else None


def _as_dict(outcome: Outcome, measured: str, rows: int, output: Path | None) -> dict[str, Any]:
    def told(point: Point, candidate: Candidate | None = None) -> dict[str, Any]:
        found = {name: getattr(point, name) for name in point.__dataclass_fields__}
        found["metrics"] = {name: _finite(value) for name, value in point.metrics}
        return found if candidate is None else {**found, "pipeline": candidate.pipeline.text}

    return {
        "measured": measured,
        "n": rows,
        "points": [told(point) for point in outcome.points],
        "front": [told(point) for point in outcome.front],
        "chosen": None if outcome.chosen is None else told(outcome.chosen[1], outcome.chosen[0]),
        "nearest": told(outcome.nearest),
        "output": None if output is None else str(output),
    }
