"""The fuzzer: a short run of every kind without a finding, and that it does find what it looks for."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import onnx
import pytest

from benchmarks.fuzz import __main__ as fuzz
from benchmarks.fuzz.mutations import mutated
from benchmarks.fuzz.networks import Seed, made
from benchmarks.fuzz.page import page
from benchmarks.fuzz.random_graphs import random_graph
from snnc.frontend import check_onnx

CASES = {
    "models": 200,
    "graphs": 40,
    "rows": 40,
    "recordings": 60,
    "artefacts": 8,
    "bundles": 4,
    "commands": 12,
}

WORKER = """
import json, os, sys, time
print(json.dumps({"stage": "ready"}), flush=True)
for line in sys.stdin:
    kind, seed, index = json.loads(line)
    if index >= 10:
        print(json.dumps({"stage": "oracle"}), flush=True)
    if kind == "crash":
        os.abort()
    if kind == "hang":
        while True: pass
    if kind == "memory":
        data = bytes(range(256)) * (1 << 18)
        time.sleep(60)
    told = "TypeError" if kind == "traceback" else ""
    answer = {"outcome": kind, "finding": told, "seconds": 0.0, "peak": 1 << 20}
    print(json.dumps(answer), flush=True)
"""


def test_a_short_run_without_a_finding(tmp_path: Path) -> None:
    child = fuzz.Child(tmp_path)
    try:
        for kind, count in CASES.items():
            tally = fuzz.run(kind, seed=1234, first=0, count=count, child=child)
            assert tally.findings == []
            assert sum(tally.outcomes.values()) == count
            assert len(tally.outcomes) > 1  # neither all refused, nor all read
    finally:
        child.stop()


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fuzz.Child:
    """A child that fails on request."""
    path = tmp_path / "worker.py"
    path.write_text(WORKER, encoding="utf-8")
    monkeypatch.setattr(fuzz, "MOST_SECONDS", 0.3)
    monkeypatch.setattr(fuzz, "MOST_BYTES", 50 << 20)
    return fuzz.Child(tmp_path, [sys.executable, str(path)])


def test_what_the_parent_finds(child: fuzz.Child) -> None:
    try:
        for kind in ("crash", "hang", "memory", "traceback"):
            assert child.run(kind, 0, 1)["finding"], kind
            assert child.run("fine", 0, 2)["finding"] == ""  # started again
        # What onnxruntime does, it does not find.
        assert child.run("crash", 0, 10) == {
            "outcome": "read, crash in onnxruntime",
            "finding": "",
            "seconds": 0.0,
            "peak": 0,
        }
    finally:
        child.stop()


def test_a_worker_that_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="does not start"):
        fuzz.Child(tmp_path, [sys.executable, "-c", "raise SystemExit(1)"]).run("models", 0, 0)


@pytest.mark.parametrize("seed", made(), ids=lambda seed: str(seed.name))
def test_networks_to_mutate_are_read(tmp_path: Path, seed: Seed) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(seed.data)
    (tmp_path / "weights.bin").write_bytes(seed.beside)
    check_onnx(path)  # raises nothing


def test_cases_are_made_from_their_number() -> None:
    data = made()[0].data
    first = [mutated(data, random.Random(index), data) for index in range(50)]
    assert first == [mutated(data, random.Random(index), data) for index in range(50)]
    assert len(set(first)) > 40
    assert random_graph(random.Random(3)) == random_graph(random.Random(3))


def test_random_graphs_are_valid() -> None:
    graphs = [random_graph(random.Random(index)) for index in range(30)]
    for graph in graphs:
        onnx.checker.check_model(graph, full_check=True)
    assert len({node.op_type for graph in graphs for node in graph.graph.node}) > 12


def test_a_record_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[int, int]] = []

    def run(_kind: str, _seed: int, first: int, count: int, _child: fuzz.Child) -> fuzz.Tally:
        ran.append((first, count))
        return fuzz.Tally()

    monkeypatch.setattr(fuzz, "run", run)
    record = tmp_path / "record.jsonl"
    for count in (1500, 1500, 2500):
        argv = ["fuzz", "rows", "--count", str(count), "--record", str(record)]
        monkeypatch.setattr(sys, "argv", argv)
        fuzz.main()
    assert ran == [(0, 1000), (1000, 500), (1500, 1000)]
    assert "| mutated `.npy` and `.npz` files | 2,500 | 0 | 0 |" in page(fuzz.lines(record))


def test_the_page_is_that_of_the_record() -> None:
    text = (fuzz.ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
    assert text == page(fuzz.lines(fuzz.RECORD)), "python -m benchmarks.fuzz --report docs/robustness.md"
