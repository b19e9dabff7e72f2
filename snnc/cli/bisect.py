"""``snnc bisect``: the layer at which accuracy is lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.artefacts import ArtefactPath
from snnc.cli.layouts import rows_layout
from snnc.cli.quantities import FiniteRange, Threads, lost
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from snnc.report.bisection import Bisection, Trial


@click.command("bisect", cls=Verb)
@click.argument("artefact", type=ArtefactPath(), metavar="ARTEFACT")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Rows `x` and, if known, labels `y`; the zoo's own test rows by default, for networks of the zoo.",
)
@click.option("--source", metavar="MODEL", help="Where the source network is.")
@click.option(
    "-T", "--timesteps", type=click.IntRange(min=1), metavar="N", help="Steps; as calibrated by default."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Use only the first N rows.")
@click.option(
    "--tolerance",
    type=FiniteRange(min=0),
    default=0.5,
    show_default=True,
    metavar="POINTS",
    help="A smaller loss is none.",
)
@rows_layout
@click.option("--threads", type=Threads(), metavar="N", help="At most this many; all by default.")
@click.pass_obj
def command(
    terminal: Terminal,
    /,
    artefact: Path,
    data: Path | None,
    source: str | None,
    timesteps: int | None,
    limit: int | None,
    tolerance: float,
    rows_layout: str | None,
    threads: int | None,
) -> None:
    """Swap layers of the source network back in until the accuracy returns.

    Names the layer at which half of the loss is reached, and the points that it costs.
    """
    from snnc.cli.artefacts import chosen_timesteps
    from snnc.cli.subjects import subject
    from snnc.report.bisection import bisect

    found = subject(
        terminal,
        artefact,
        data=data,
        source=source,
        limit=limit,
        threads=threads,
        rows_layout=rows_layout,
    )
    result = bisect(
        found.artefact,
        found.source,
        found.x,
        found.y,
        simulator=found.simulator,
        tolerance=tolerance / 100,
        timesteps=chosen_timesteps(terminal, found.artefact, timesteps),
        threads=threads,
        progress=terminal.progress(),
    )
    if terminal.json:
        terminal.data(_as_dict(result))
        return
    rows = [(str(t.spiking), t.layer or "(none)", f"{t.share.value:.2%}") for t in result.trials]
    measured = "accuracy" if result.labelled else "agreement"
    terminal.table(("layers spiking", "up to", measured), rows)
    terminal.text(_said(result))


def _said(result: Bisection) -> str:
    points = f"{lost(100 * result.lost)} from end to end"
    if result.culprit is None:
        return f"{points}: no layer to name."
    name = result.culprit.onnx_node or result.culprit.layer
    where = "before it less than half is lost, behind it more"
    return f"{points}, {100 * result.cost:.2f} of them in {name}: {where}."


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "spiking": trial.spiking,
        "layer": trial.layer,
        "onnx_node": trial.onnx_node,
        "share": trial.share.value,
        "ci95": list(trial.share.interval),
    }


def _as_dict(result: Bisection) -> dict[str, Any]:
    culprit = result.culprit
    return {
        "measured": "accuracy" if result.labelled else "agreement",
        "n": result.trials[0].share.n,
        "lost_points": 100 * result.lost,
        "layer": None if culprit is None else culprit.layer,
        "onnx_node": None if culprit is None else culprit.onnx_node,
        "cost_points": 100 * result.cost,
        "trials": [_trial(trial) for trial in result.trials],
    }
