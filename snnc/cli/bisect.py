"""``snnc bisect``: the layer at which accuracy is lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.artefacts import ArtefactPath
from snnc.cli.judging import task_of, task_option
from snnc.cli.layouts import rows_layout
from snnc.cli.quantities import FiniteRange, lost
from snnc.cli.run_options import data_option, limit_option, source_option, threads_option, timesteps_option
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from snnc.report.bisection import Bisection, Trial


@click.command("bisect", cls=Verb)
@click.argument("artefact", type=ArtefactPath(), metavar="ARTEFACT")
@data_option()
@source_option
@timesteps_option
@limit_option
@click.option(
    "--tolerance",
    type=FiniteRange(min=0),
    default=0.5,
    show_default=True,
    metavar="POINTS",
    help="Losses below this are ignored; for numbers, in hundredths of their variance.",
)
@rows_layout
@threads_option
@task_option
@click.option(
    "--output", metavar="NAME", help="The output to judge; it must be named where there are several."
)
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
    task: str | None,
    output: str | None,
) -> None:
    """Run hybrids in which more and more layers spike, and measure the loss of each layer.

    Names the layer with the largest loss, if one stands out.
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
        task=task_of(task),
        several=True,
    )
    result = bisect(
        found.artefact,
        found.source,
        found.x,
        found.y,
        simulator=found.simulator,
        output=output,
        task=found.told_task(task_of(task)),
        tolerance=tolerance / 100,
        timesteps=chosen_timesteps(terminal, found.artefact, timesteps),
        threads=threads,
        progress=terminal.progress(),
    )
    if terminal.json:
        terminal.data(_as_dict(result))
        return
    rows = [_row(result, trial) for trial in result.trials]
    terminal.table(("layers spiking", "up to", measured(result), "this layer costs"), rows)
    terminal.text(_said(result))


def measured(result: Bisection) -> str:
    """Return what is measured of a hybrid, in words."""
    if result.is_map:
        return f"1 - 1 / SQNR against the {'labels' if result.labelled else 'source'}"
    if not result.classes:
        return "R2 against the labels" if result.labelled else "R2 against the source"
    return "accuracy" if result.labelled else "agreement"


def _row(result: Bisection, trial: Trial) -> tuple[str, str, str, str]:
    value = f"{1 - trial.loss:.4f}" if trial.share is None else f"{trial.share.value:.2%}"
    cost = "" if trial.spiking == 0 else f"{100 * (trial.loss - result.trials[trial.spiking - 1].loss):.2f}"
    return str(trial.spiking), trial.layer or "(none)", value, cost


def _said(result: Bisection) -> str:
    whole = f"{lost(100 * result.lost)} from end to end"
    if result.is_map:
        whole = f"{100 * result.lost:.2f} hundredths of the power of the maps lost from end to end"
    elif not result.classes:
        whole = f"{100 * result.lost:.2f} hundredths of the variance lost from end to end"
    if result.largest is None or (result.culprit is None and result.lost <= result.tolerance):
        return f"{whole}: no layer to name."
    name = result.largest.onnx_node or result.largest.layer
    cost = f"{100 * result.cost:.2f}"
    if result.interval is not None:
        low, high = (100 * end for end in result.interval)
        cost += f" [{low:.2f}, {high:.2f}]"
    if result.culprit is None:
        return f"{whole}: no single layer stands out; the largest loss, {cost}, is in {name}."
    return f"{whole}; the largest loss, {cost}, is in {name}."


def _trial(result: Bisection, trial: Trial) -> dict[str, Any]:
    cost = None if trial.spiking == 0 else trial.loss - result.trials[trial.spiking - 1].loss
    return {
        "spiking": trial.spiking,
        "layer": trial.layer,
        "onnx_node": trial.onnx_node,
        "share": None if trial.share is None else trial.share.value,
        "ci95": None if trial.share is None else list(trial.share.interval),
        "r2": 1 - trial.loss if trial.share is None and not result.is_map else None,
        **({"power_lost": trial.loss} if result.is_map else {}),
        "cost": cost,
    }


def _as_dict(result: Bisection) -> dict[str, Any]:
    culprit, largest = result.culprit, result.largest
    return {
        "measured": measured(result),
        "n": len(result.trials[0].losses),
        "lost_points": 100 * result.lost,
        "layer": None if culprit is None else culprit.layer,
        "onnx_node": None if culprit is None else culprit.onnx_node,
        "cost_points": 0.0 if culprit is None else 100 * result.cost,
        "largest": None
        if largest is None
        else {
            "layer": largest.layer,
            "onnx_node": largest.onnx_node,
            "cost_points": 100 * result.cost,
            "ci95": None if result.interval is None else [100 * end for end in result.interval],
        },
        "trials": [_trial(result, trial) for trial in result.trials],
    }
