"""``--cluster``: who does the work of a verb."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from snnc.cli.given import refuse

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from snnc.cli.terminal import Terminal
    from snnc.scale.workers import Workers

CLUSTER_HELP = (
    "Who does the work: local[:N] for processes of this machine, tcp:// or tls:// with the address of a dask "
    "scheduler, or a FILE.toml with it; see docs/cluster.md."
)

cluster_option = click.option("--cluster", metavar="WHERE", help=CLUSTER_HELP)
"""The option of every verb that hands out tasks."""


def workers_of(terminal: Terminal, where: str) -> Workers:
    """Return who does the work.

    Raises:
        UsageError: the address is none, or the extra is missing.
        ClusterError: nobody can be reached, or workers do not fit.
    """
    from snnc.scale.opening import open_workers

    return open_workers(where, terminal.detail, terminal.warn)


def workers_if(terminal: Terminal, where: str | None) -> AbstractContextManager[Workers | None]:
    """Return who does the work, to be closed; ``None`` where this process does it itself."""
    return nullcontext() if where is None else workers_of(terminal, where)


def refuse_threads(where: str | None) -> None:
    """Refuse a number of threads where workers do the work.

    Raises:
        UsageError: one is given.
    """
    if where is not None:
        refuse("is for one process, and workers have one thread each: leave out --cluster or it", "--threads")
