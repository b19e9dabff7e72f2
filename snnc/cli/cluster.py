"""``--cluster``: who does the work of a verb."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from snnc.cli.terminal import Terminal
    from snnc.scale.workers import Workers

cluster_option = click.option(
    "--cluster",
    metavar="WHERE",
    help="Who does the work: local[:N] for processes of this machine, tcp:// or tls:// with the address of a "
    "dask scheduler, or a FILE.toml with it; see docs/cluster.md.",
)
"""The option of every verb that hands out tasks."""


def workers_of(terminal: Terminal, where: str) -> Workers:
    """Return who does the work.

    Raises:
        UsageError: the address is none, or the extra is missing.
        ClusterError: nobody can be reached, or workers do not fit.
    """
    from snnc.scale.opening import open_workers

    return open_workers(where, terminal.detail, terminal.warn)
