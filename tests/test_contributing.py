"""CONTRIBUTING names files that there are, as few as is promised; the page of the rooms names all rooms."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def files(text: str) -> list[str]:
    """Return the files and folders of the project that a text names, placeholders included."""
    return re.findall(r"`((?:snnc|passes|backends|benchmarks|docs|tests)/[\w/.<>*-]+)`", text)


def table(heading: str) -> str:
    """Return the first table behind a heading."""
    _, _, behind = TEXT.partition(f"## {heading}\n")
    lines = behind.partition("\n## ")[0].splitlines()
    return "\n".join(line for line in lines if line.startswith("| ") and not line.startswith("| file |"))


def test_every_file_that_is_named_is_there() -> None:
    named = [name for name in files(TEXT) if "<" not in name and "*" not in name]
    assert len(named) > 30
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize(
    ("heading", "most"), [("Add a setting of neurons", 8), ("Add a kind of node", 10), ("Add a pass", 2)]
)
def test_an_addition_touches_few_files(heading: str, most: int) -> None:
    text = table(heading) or TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    named = {name for name in files(text) if not name.startswith("tests/")}
    assert 2 <= len(named) <= most, sorted(named)


@pytest.mark.parametrize(("folder", "prefix"), [("snnc", "snnc/"), ("benchmarks", "")])
def test_every_room_has_its_line(folder: str, prefix: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = [path for path in sorted((ROOT / folder).iterdir()) if not path.is_symlink()]
    names = [path.name for path in rooms if not path.name.startswith("__") and path.name != "py.typed"]
    assert not [name for name in names if f"\n| `{prefix}{name}" not in page]
