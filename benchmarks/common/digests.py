"""Digests of the sources that a measurement depends on, kept beside it as its key."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@cache
def of_folders(*folders: str) -> str:
    """Return 12 hexadecimal digits over every file below folders of the project, names included.

    Not only Python is read: networks and rows of the zoo decide what is measured, and templates and
    hardware descriptions what is written. The command line computes nothing, so that `snnc/cli` is left out.
    """
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            left_out = "__pycache__" in path.parts or path.is_relative_to(ROOT / "snnc" / "cli")
            if path.is_file() and not left_out:
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def compiler() -> str:
    """Return the digest of all that a converted and simulated network depends on."""
    return of_folders("snnc", "passes", "backends", "models")
