"""Digests of the sources that a measurement depends on, kept beside it as its key."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@cache
def of_folders(*folders: str) -> str:
    """Return 12 hexadecimal digits over every Python file below folders of the project, names included.

    The command line computes nothing, so that `snnc/cli` is left out.
    """
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not path.is_relative_to(ROOT / "snnc" / "cli"):
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def compiler() -> str:
    """Return the digest of all that a converted and simulated network depends on."""
    return of_folders("snnc", "passes", "backends")
