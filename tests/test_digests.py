"""Measurements are kept under the digest of all that they depend on, so that none outlives its sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.common import digests
from tests.test_layering import FOLDERS

ROOT = Path(__file__).parent.parent
COMPILER = set(FOLDERS)


def test_no_measurement_is_kept_under_less_than_the_compiler() -> None:
    calls = [
        (path.name, set(re.findall(r'"([^"]+)"', call)))
        for path in (ROOT / "benchmarks").rglob("*.py")
        for call in re.findall(r"\bof_folders\(([^)]*)\)", path.read_text(encoding="utf-8"))
    ]
    named = [(name, folders) for name, folders in calls if folders]
    assert ("digests.py", COMPILER) in named
    assert all(folders >= COMPILER for _, folders in named), named


def test_a_digest_changes_with_every_name_and_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "ROOT", tmp_path)
    for folder in ("snnc/ir", "snnc/cli"):
        (tmp_path / folder).mkdir(parents=True)

    def digest() -> str:
        digests.of_folders.cache_clear()
        return digests.of_folders("snnc")

    seen = {digest()}
    written = [("ir/a.py", "x = 1"), ("ir/a.py", "x = 2"), ("ir/b.py", "x = 2"), ("c.py", "x = 2")]
    for name, text in [*written, ("network.onnx", "x = 2"), ("catalog.json", "{}")]:
        (tmp_path / "snnc" / name).write_text(text, encoding="utf-8")
        seen.add(digest())
    assert len(seen) == 7
    for folder in ("cli", "__pycache__"):
        (tmp_path / "snnc" / folder).mkdir(exist_ok=True)
        (tmp_path / "snnc" / folder / "main.py").write_text("x = 3", encoding="utf-8")
        assert digest() in seen, f"{folder} computes nothing"
    digests.of_folders.cache_clear()
