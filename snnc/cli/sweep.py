"""``snnc sweep``: many conversions of many networks, measured on many rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.cluster import cluster_option, workers_of
from snnc.cli.quantities import FiniteRange
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from snnc.sweep.plan import Plan
    from snnc.sweep.running import Outcome

STORE = "store"
"""The folder of results, in that of the sweep."""

OFTEN = 10.0
"""Seconds between two writings of what is found so far."""


@click.command("sweep", cls=Verb)
@click.argument("models", nargs=-1, metavar="[FILE.toml | MODEL...]")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FOLDER",
    help="Where results go, and where the same command goes on after an interruption.",
)
@click.option("--preset", "presets", multiple=True, metavar="NAME", help="A preset. May be repeated.")
@click.option(
    "--pipeline", "pipelines", multiple=True, metavar="TEXT", help="A pipeline as text. May be repeated."
)
@click.option("-T", "--timesteps", metavar="T,T,...", help="Numbers of time steps; chosen by default.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="One option of a pass, PASS.OPTION=VALUE, in every cell. May be repeated.",
)
@click.option(
    "--calib",
    type=click.Path(path_type=Path),
    metavar="ROWS",
    help="Calibration rows; for a network of the zoo, its own by default.",
)
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="ROWS",
    help="Labelled rows to measure on; for a network of the zoo, its own test rows by default. May be "
    "repeated.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Use only the first N rows of each.")
@click.option(
    "--budget",
    type=FiniteRange(min=0, min_open=True),
    metavar="MINUTES",
    help="Hand out no work after so long; the same command goes on with the rest.",
)
@click.option("--retry", is_flag=True, help="Try cells again that failed.")
@click.option("--no-pictures", is_flag=True, help="Draw nothing: pictures need matplotlib.")
@cluster_option
@click.pass_obj
def command(terminal: Terminal, /, models: tuple[str, ...], **options: Any) -> None:
    """Convert and measure every combination of networks, presets, T, settings and rows.

    What is asked for stands in FILE.toml, or in options. FOLDER gets results.jsonl, pictures of the fronts
    and index.html; what is measured there already is not measured again.
    """
    from snnc.errors import GateError
    from snnc.scale.store import Store
    from snnc.sweep.results import drawing, failure_line, summary, write
    from snnc.sweep.running import Sweep

    folder: Path = options["output"]
    plan = _plan(models, options)
    draw = None if options["no_pictures"] else drawing()
    store = Store.open(folder / STORE)
    terminal.journal = folder
    latest = 0.0

    def told(outcome: Outcome) -> None:
        nonlocal latest
        if outcome.seconds - latest > OFTEN:
            latest = outcome.seconds
            write(folder, outcome, None)

    budget = options["budget"]
    with workers_of(terminal, options["cluster"] or "local") as workers:
        sweep = Sweep(
            plan,
            store,
            workers,
            terminal.progress(),
            seconds=None if budget is None else 60 * budget,
            retry=options["retry"],
            told=told,
        )
        outcome = sweep.run()
    files = write(folder, outcome, draw)
    if terminal.json:
        terminal.data(
            {
                "cells": len(outcome.cells),
                "was_there": outcome.was_there,
                "left": outcome.left,
                "failed": sum(record["error"] is not None for record in outcome.records),
                "files": list(map(str, files)),
                "records": list(outcome.records),
            }
        )
    else:
        _show(terminal, outcome)
        terminal.done(f"wrote {', '.join(map(str, files))} in {terminal.seconds:.1f} s")
    for record in outcome.records:
        if record["error"] is not None:
            terminal.warn(failure_line(record))
    if outcome.left:
        terminal.note(f"{outcome.left} cells are left: the same command goes on with them")
    elif outcome.records and all(record["error"] is not None for record in outcome.records):
        raise GateError(f"{summary(outcome)} Nothing was measured")


def _show(terminal: Terminal, outcome: Outcome) -> None:
    from snnc.sweep.results import COLUMNS, rows_of, subjects, summary

    for subject, records in subjects(outcome.records).items():
        terminal.text(subject)
        terminal.table(COLUMNS, rows_of(records))
        terminal.text("")
    terminal.text(f"{summary(outcome)} → is on the front of operations and points lost.")


def _plan(models: tuple[str, ...], options: dict[str, Any]) -> Plan:
    """Return the plan that a file and options describe; an option takes the place of the file's key.

    Raises:
        UsageError: a file and networks are both named.
    """
    from snnc.cli.options import setting
    from snnc.errors import UsageError
    from snnc.pass_options import once
    from snnc.sweep.plan import plan_of, read_plan

    files = [name for name in models if name.endswith(".toml")]
    if len(files) > 1 or (files and len(models) > 1):
        raise UsageError("name one FILE.toml, or networks: the file names its networks itself")
    values: dict[str, Any] = read_plan(Path(files[0])) if files else {}
    if models and not files:
        values["models"] = list(models)
    for name in ("presets", "pipelines"):
        if options[name]:
            values[name] = list(options[name])
    if options["timesteps"] is not None:
        values["timesteps"] = _steps(options["timesteps"])
    if options["settings"]:
        common = once(map(setting, options["settings"]), "--set")
        values["set"] = [{**each, **common} for each in values.get("set", [{}])]
    if options["calib"] is not None:
        values["calib"] = str(options["calib"])
    if options["data"]:
        values["data"] = list(map(str, options["data"]))
    if options["limit"] is not None:
        values["limit"] = options["limit"]
    return plan_of(values)


def _steps(text: str) -> list[int]:
    from snnc.errors import UsageError

    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise UsageError(f"--timesteps {text}: write numbers of steps with commas, such as 1,2,4")
    return found
