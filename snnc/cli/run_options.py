"""Options that verbs have alike which run a network on rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from snnc.cli.quantities import Threads

Command = TypeVar("Command", bound=Callable[..., Any])

OWN_ROWS = "for a network of the zoo, its own test rows by default"


def data_option(rows: str = "Rows `x` and, if known, labels `y`") -> Callable[[Command], Command]:
    """Return the decorator that adds ``--data``; the words say what the rows are for."""
    kind = click.Path(path_type=Path)
    return click.option("--data", type=kind, metavar="ROWS", help=f"{rows}; {OWN_ROWS}.")


source_option = click.option("--source", metavar="MODEL", help="Path of the source network.")

timesteps_option = click.option(
    "-T",
    "--timesteps",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of time steps; as calibrated by default.",
)

limit_option = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Use only the first N rows."
)

threads_option = click.option(
    "--threads", type=Threads(), metavar="N", help="Number of threads; all cores by default."
)
