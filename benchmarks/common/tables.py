"""Lines of measurements, tables of them in Markdown, and where they stand in a page."""

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


def write_between(page: Path, mark: str, text: str) -> None:
    """Replace what stands between the two marks of a page, ``<!-- MARK: begin -->`` and ``end``.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"{page} has no marks {begin} and {end}")
    page.write_text(f"{before}{begin}\n{text}{end}{after}", encoding="utf-8")
