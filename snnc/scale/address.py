"""Where workers are, as ``--cluster`` says it: ``local[:N]``, ``tcp://...``, ``tls://...``, ``FILE.toml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnc.errors import InputError, UsageError
from snnc.option_files import check_keys, read_toml

WAIT = 60.0
"""Seconds in which the first worker, or another one once all are gone, has to come."""

KEYS: Mapping[str, tuple[str, str]] = {
    "scheduler": ("string", "address of the dask scheduler: `tcp://HOST:PORT` or `tls://HOST:PORT`"),
    "ca": ("path", "certificate of who signed those of scheduler and workers, PEM; for `tls://`"),
    "certificate": ("path", "certificate of this client, PEM"),
    "key": ("path", "its private key, PEM; may be in the file of the certificate"),
    "rows": (
        "`send` or `path`",
        "whether rows are sent, which is the default, or workers read large `.npy` files by their paths",
    ),
    "cpu": (
        "`client` or `workers`",
        "whether CPUs must be of this machine's class, which is the default, or only of one class",
    ),
    "wait": ("number > 0", f"seconds in which a worker has to come; {WAIT:g} by default"),
    "direct": (
        "true or false",
        "whether this machine reaches the workers, which is the default; else bytes pass the scheduler",
    ),
}
"""The keys of the file: what a value may be, and what it means."""


@dataclass(frozen=True, slots=True)
class Place:
    """A dask scheduler, and how to work with it; see :data:`KEYS`."""

    scheduler: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    rows: str = "send"
    cpu: str = "client"
    wait: float = WAIT
    direct: bool = True

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            UsageError: naming it.
        """
        if not re.fullmatch(r"(tcp|tls)://[^\s/]+:\d{1,5}", self.scheduler):
            raise UsageError(
                f"{self.scheduler!r} is no address of a scheduler: write tcp://HOST:PORT or tls://HOST:PORT"
            )
        files = {"ca": self.ca, "certificate": self.certificate, "key": self.key}
        given = [name for name, path in files.items() if path is not None]
        if given and not self.is_encrypted:
            raise UsageError(
                f"`{given[0]}` is for tls://, and {self.scheduler} is not encrypted: write tls://, or leave "
                "it out"
            )
        missing = [name for name in ("ca", "certificate") if name not in given]
        if given and missing:
            raise UsageError(f"TLS needs `{missing[0]}` beside `{given[0]}`: name the file")
        for name, path in files.items():
            if path is not None and not path.is_file():
                raise InputError(f"the {name} {path} of the cluster does not exist")

    @property
    def is_encrypted(self) -> bool:
        """Whether connections are by TLS."""
        return self.scheduler.startswith("tls://")


def read_place(path: Path) -> Place:
    """Read the file of a cluster; relative paths in it are resolved against its folder.

    Raises:
        InputError: it is missing, not TOML, or holds an unknown key or a value that does not fit.
        UsageError: its values contradict each other.
    """
    values = read_toml(path, "the cluster")
    check_keys(values, KEYS, _problem, f"the cluster {path}")
    if "scheduler" not in values:
        raise InputError(f"the cluster {path} has no `scheduler`: write its address, tcp:// or tls://")
    for name in ("ca", "certificate", "key"):
        if name in values:
            values[name] = path.parent / values[name]
    return Place(**values)


def _problem(name: str, value: Any) -> str | None:
    """Say why a value does not fit its key."""
    words = {"rows": ("send", "path"), "cpu": ("client", "workers")}
    if name == "direct":
        return None if isinstance(value, bool) else f"must be true or false, not {value!r}"
    if name == "wait":
        fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9
        return None if fits else f"must be a number of seconds, not {value!r}"
    if not isinstance(value, str):
        return f"must be a string, not {value!r}"
    if name in words and value not in words[name]:
        return f"must be one of {', '.join(words[name])}, not {value!r}"
    return None


def table() -> str:
    """Return the keys of the file as a table in Markdown."""
    lines = ["| key | value | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {value} | {meaning} |" for name, (value, meaning) in KEYS.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    import click

    click.echo(table())
