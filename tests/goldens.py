"""Comparing a text with the one kept in `tests/golden/`."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"
UPDATE = "SNNC_UPDATE_GOLDEN"


def check_golden(name: str, text: str) -> None:
    """Fail unless ``tests/golden/NAME.txt`` holds ``text``; with SNNC_UPDATE_GOLDEN=1, write it there."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get(UPDATE):
        path.write_text(f"{text}\n", encoding="utf-8")
    kept = path.read_text(encoding="utf-8") if path.exists() else ""
    assert f"{text}\n" == kept, f"{path.name} differs; if the new text is right, run again with {UPDATE}=1"
