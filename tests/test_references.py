"""What sources and documentation name must be there: scripts, and packages that pip can install."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXTS = sorted(
    path
    for folder, kinds in (
        ("snnc", "*.py"),
        ("passes", "*.py"),
        ("backends", "*.py"),
        ("backends", "*.txt"),
        ("models", "*.py"),
        ("benchmarks", "*.py"),
        ("docs", "*.md"),
        (".", "*.md"),
    )
    for path in (ROOT.glob(kinds) if folder == "." else (ROOT / folder).rglob(kinds))
)


def test_scripts_that_are_named_are_there() -> None:
    script = re.compile(r"\b(?:snnc|passes|backends|benchmarks|tests|models)/[a-z0-9_/]+\.(?:py|sh)\b")
    named = [(path, name) for path in TEXTS for name in script.findall(path.read_text("utf-8"))]
    named = [(path, name) for path, name in named if path.name != "CHANGELOG.md"]  # which tells of the past
    assert len(named) > 10
    missing = [f"{path.relative_to(ROOT)}: {name}" for path, name in named if not (ROOT / name).is_file()]
    assert missing == []


def test_nothing_tells_to_install_snnc_from_an_index_that_has_none() -> None:
    """Until snnc is published, its name finds nothing, or somebody else's package: only a checkout works."""
    by_name = re.compile(r"pip3? install[^\n`#]*[ '\"]snnc(?=[\[ '\"=<>~\n)`]|$)")
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in TEXTS
        for match in by_name.finditer(path.read_text("utf-8"))
    ]
    assert found == []
