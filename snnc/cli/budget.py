"""``snnc convert`` with a budget: tries conversions, shows their front, and writes the best within it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnc.cli.given import given
from snnc.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from snnc.analysis.front import Point
    from snnc.budget.candidates import Budget, Candidate
    from snnc.budget.search import Outcome
    from snnc.budget.trials import Trials
    from snnc.cli.convert import Rows
    from snnc.cli.models import Located
    from snnc.compiler import Options
    from snnc.metrics import Outputs
    from snnc.scale.workers import Workers

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
        options: of any conversion: seed, threads, task, sizes, outputs to keep, host.
        outputs: what each output is, by its name.
        journal: where measurements are kept.
        keeps_journal: whether the user named it, so that it stays when the artefact is written.
        workers: who makes and measures candidates; ``None`` for this process alone.
    """

    timesteps: int | None
    output: Path | None
    front: Path | None
    sparing: bool
    options: Options
    outputs: Mapping[str, Outputs]
    journal: Path | None
    keeps_journal: bool
    workers: Workers | None = None


def refuse_contradicting(options: Options) -> None:
    """Refuse what contradicts a budget.

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
                f"{option} contradicts the budget or --front, whose search chooses it: leave one of them out"
            )


def requested(
    options: Options, front: Path | None, output: Path | None, outputs: Mapping[str, Outputs]
) -> Request:
    """Return what is asked for beside the budget."""
    from snnc.compiler import Options

    return Request(
        timesteps=options.timesteps if given("--timesteps") else None,
        output=output,
        front=front,
        sparing=options.preset == SPARING,
        options=Options(
            seed=options.seed,
            threads=options.threads,
            task=next(iter(outputs.values())).task if len(outputs) == 1 else options.task,
            shape=options.shape,
            fix=options.fix,
            keep_output=options.keep_output,
            host=options.host,
        ),
        outputs=outputs,
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
    from snnc.budget.candidates import candidates
    from snnc.budget.search import search
    from snnc.budget.trials import SEARCH_ROWS, Trials
    from snnc.cli.models import open_source
    from snnc.errors import GateError
    from snnc.search.journal import Journal

    tried = candidates(budget, request.timesteps)
    draw = _drawing() if request.front is not None else None
    trials = Trials(
        model=located.name,
        rows=used.x,
        kept=kept.x,
        labels=kept.y,
        source=open_source(
            terminal, located, used.preprocessing, request.options.threads, request.options.selection
        ),
        options=request.options,
        preprocessing=used.preprocessing,
        each=request.outputs,
        journal=request.journal,
        metrics=tuple(dict.fromkeys(limit.asked for limit in budget.floors)),
        workers=request.workers,
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
        ahead=None if request.workers is None else _ahead(request.workers, located, trials),
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


def _ahead(
    workers: Workers, located: Located, trials: Trials
) -> Callable[[Sequence[Candidate], int | None], Iterator[Point | None]]:
    """Return what measures candidates on workers."""
    from snnc.remote.files import shared_files, told_of_source
    from snnc.remote.trials import points_on

    told = told_of_source(located.name, trials.preprocessing, trials.options.selection)
    files = shared_files(located.path)

    def points(candidates: Sequence[Candidate], few: int | None) -> Iterator[Point | None]:
        return points_on(workers, files, told, trials, candidates, few)

    return points


def _identity(located: Located, trials: Trials) -> str:
    """Identify all that a measurement depends on, beside the candidate."""
    import hashlib

    import numpy as np

    from snnc.ir.batch import Batch

    digest = hashlib.sha256(located.path.read_bytes())
    for rows in (trials.rows, trials.kept, trials.labels):
        given = rows.arrays if isinstance(rows, Batch) else rows
        for name, array in given.items() if isinstance(given, Mapping) else (("", given),):
            digest.update(name.encode())
            digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    options = trials.options
    words: tuple[object, ...] = (options.seed, trials.preprocessing, options.task, trials.metrics)
    if (read := (options.host, options.shape, options.keep_output)) != ("edges", (), ()) or options.fix:
        words = (*words, read, *options.fix)
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
    from snnc.report.energy import microjoules

    chosen = None if outcome.chosen is None else outcome.chosen[1]
    lines = [
        (
            ("→ " if point == chosen else "") + point.label,
            str(point.latency),
            point.payload,
            f"{point.synops:.2f}",
            "" if point.picojoules is None else microjoules(point.picojoules),
            "" if point.footprint is None else f"{point.footprint / 1000:.1f}",
            f"{point.drop:.2f}",
            str(point.rows),
        )
        for point in outcome.front
    ]
    costs = ("latency", "payload", "operations / MACs", "µJ an image (45nm)", "footprint, kB")
    terminal.table(("front", *costs, "points lost", "made with rows"), lines)
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
