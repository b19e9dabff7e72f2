"""Measurements are kept under the digest of all that they depend on, so that none outlives its sources."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common import digests
from benchmarks.corpus import graph_digests
from snnc.ir.leak import WHOLE
from snnc.ir.snn import Encode, IntegrateFire, Presented, Readout
from tests.spiking_graphs import random_graph
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


def test_a_graph_has_the_digest_of_its_settings() -> None:
    graph = random_graph(6)
    seen = {graph_digests.digest(graph)}
    assert graph_digests.digest(random_graph(6)) in seen
    decay = np.full(1, WHOLE // 2, np.int32)
    for changed in (
        graph.map(IntegrateFire, lambda node: node.with_(bias=node.bias + 1)),
        graph.map(IntegrateFire, lambda node: node.with_(decay=np.repeat(decay, node.channels))),
        graph.map(Readout, lambda node: node.with_(decay=np.repeat(decay, node.channels))),
        graph.map(Encode, lambda node: node.with_(presented=Presented.ACCUMULATED)),
    ):
        seen.add(graph_digests.digest(changed))
    assert len(seen) == 5


def test_fields_that_came_later_are_fields() -> None:
    for kind in (Encode, IntegrateFire, Readout):
        assert graph_digests.ADDED[kind.__name__] <= {field.name for field in dataclasses.fields(kind)}
    assert len(graph_digests.ADDED) == 3
