"""Lines of measurements, and tables of them in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Return the measurements in a file of JSON lines; none if it is not there."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def percent(row: Row) -> str:
    """Return top-1 with its interval."""
    low, high = row["top1_ci95"]
    return f"{100 * row['top1']:.2f} [{100 * low:.1f}, {100 * high:.1f}]"


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"
