"""The model of growth in `benchmarks/scale`, and the page that it is told on."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scale import page
from benchmarks.scale.model import Work

ROOT = Path(__file__).parent.parent


def test_the_page_tells_what_was_measured() -> None:
    text = (ROOT / "benchmarks" / "measured" / "scale.jsonl").read_text(encoding="utf-8")
    found = [json.loads(line) for line in text.splitlines()]
    said = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert said == page.text(found), "python -m benchmarks.scale page"


@given(
    st.integers(1, 3000),
    st.integers(1, 400),
    st.floats(0.001, 1),
    st.integers(0, 10**6),
    st.floats(0, 0.1),
    st.integers(1, 40),
)
def test_nothing_is_faster_than_its_work(
    rows: int, shard: int, row_seconds: float, row_bytes: int, hand: float, workers: int
) -> None:
    work = Work(rows, shard, row_seconds, row_bytes, hand, 1.0)
    seconds, tasks = work.seconds(workers), -(-rows // shard)
    client = tasks * hand + rows * row_bytes / work.link
    alone = rows * row_seconds
    assert seconds >= 1 + max(alone / workers, client) - 1e-6
    assert seconds <= 1 + alone + client + hand + 1e-6
    assert work.efficiency(workers) <= 1


def test_workers_without_a_client_share_the_work() -> None:
    work = Work(1000, 10, 0.1, 0, 0.0, 0.0)
    assert [round(work.seconds(workers), 6) for workers in (1, 2, 10, 100)] == [100, 50, 10, 1]
    assert Work(1000, 10, 0.1, 0, 0.01, 0.0).most_workers == 100
