"""What docs/performance.md says of processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import page


def rows(machine: str, code: str, ratio: float) -> list[dict[str, Any]]:
    """Return what a run leaves of one comparison."""
    timing = {"minimum": 1.0, "median": 1.0, "p90": 1.0}
    known = {"machine": machine, "code": code}
    compared = {
        "network": "a net",
        "timesteps": 4,
        "batch": 1,
        "threads": 1,
        "against": "onnxruntime",
        "mode": "spikes",
        "density": 0.1,
        "ratio": ratio,
        "ratio_int8": 2 * ratio,
        "giga_synops_per_second": 1.0,
        "snn": timing,
        "fp32": timing,
        "int8": timing,
    }
    return [{**known, **compared}]


@pytest.mark.parametrize(("about", "others"), [("Wide", ["Narrow"]), ("", ["Wide"]), ("Nar", ["Wide"])])
def test_other_processors_have_a_table_of_ratios(about: str, others: list[str], tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("by hand\n<!-- speed: begin -->\n<!-- speed: end -->\nby hand, too\n", encoding="utf-8")
    measured = rows("Narrow", "old", 9.0) + rows("Wide", "new", 0.25) + rows("Narrow", "new", 0.75)
    page.report(measured, path, machine=about)
    text = path.read_text(encoding="utf-8")
    tables = text.partition("## On other processors")[2]
    for name, told in (("Narrow", "0.75 / 1.50"), ("Wide", "0.25 / 0.50")):
        assert (f"### {name}, sources `new`" in tables) == (name in others)
        assert (told in tables) == (name in others)
    assert "9.00" not in text  # of older sources
    assert text.startswith("by hand\n")
    assert text.endswith("by hand, too\n")


def test_a_processor_that_was_not_measured(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'ARM'"):
        page.report(rows("Wide", "new", 1.0), tmp_path / "page.md", machine="ARM")
