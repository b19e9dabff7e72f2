"""Programs that are not snnc's and check a bundle: compilers, interpreters that have a consumer."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from snnc.errors import UsageError


def run(command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a command and return what it wrote, whatever its exit status.

    Args:
        command: the program and its arguments.
        seconds: how long it may take.

    Raises:
        UsageError: it took longer, and was stopped.
    """
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"{command[0]} had not finished after {seconds:g} s and was stopped; verify on a faster machine, "
            "or check the files alone by --hashes-only"
        ) from None
