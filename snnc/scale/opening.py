"""Workers by the words of ``--cluster``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from snnc.cores import available_cores
from snnc.errors import UsageError
from snnc.scale.address import Place, read_place
from snnc.scale.dask_engine import DaskEngine
from snnc.scale.pool import LocalPool
from snnc.scale.workers import Workers


def open_workers(
    where: str,
    tell: Callable[[str], object] = lambda text: None,
    warn: Callable[[str], object] = lambda text: None,
) -> Workers:
    """Return who does the work.

    Args:
        where: see :mod:`snnc.scale.address`.
        tell: called with a line on what is reached.
        warn: called with a line on what looks unsafe.

    Raises:
        UsageError: it is no such place, or the extra is missing.
        InputError: the file is missing or holds something else.
        ClusterError: nobody can be reached, or workers do not fit.
    """
    if where == "local" or where.startswith("local:"):
        return Workers(LocalPool(_processes(where)))
    if where.endswith(".toml"):
        place = read_place(Path(where))
    elif where.startswith(("tcp://", "tls://")):
        place = Place(where)
    else:
        raise UsageError(
            f"--cluster {where}: write local, local:N, tcp://HOST:PORT, tls://HOST:PORT or a FILE.toml"
        )
    return Workers(DaskEngine(place, tell, warn))


def _processes(where: str) -> int:
    text = where.removeprefix("local").removeprefix(":")
    if where == "local":
        return available_cores()
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise UsageError(f"--cluster {where}: write local:N with a number of processes from 1 to 1024")
    return int(text)
