"""The tables of learned thresholds and certificates, from made-up measurements."""

from __future__ import annotations

import base64
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    return import_module("benchmarks.accuracy.learned")


def row(setting: str, right: list[int], synops: float) -> dict[str, Any]:
    bits = base64.b64encode(np.packbits(np.array(right, bool)).tobytes()).decode()
    share = sum(right) / len(right)
    return {
        "setting": setting,
        "timesteps": 1,
        "top1": share,
        "top1_ci95": [share, share],
        "n": len(right),
        "right": bits,
        "synops": synops,
        "events_per_neuron_per_step": 0.01 * synops,
        "ann_macs": 10.0,
        "convert_cpu_seconds": 1.0,
    }


def test_gains_are_paired_and_operations_are_compared(tables: Any, tmp_path: Path) -> None:
    base = row("l1-above", [1, 1, 0, 0] * 25, 10.0)
    learned = row("l1-learn", [1, 1, 1, 0] * 25, 8.0)
    assert tables.gain(base, base).startswith("+0.00")
    assert tables.gain(base, learned).startswith("+25.00 [+")
    (tmp_path / "learned.jsonl").write_text(json.dumps(base) + "\n" + json.dumps(learned) + "\n")
    page = "\n".join(tables.sections(tmp_path))
    assert "## Learned thresholds" in page
    assert "## Certified exactness" not in page
    line = next(line for line in page.splitlines() if "| `learn` |" in line)
    assert "+25.00" in line
    assert "| 0.080 (-20 %) | 0.80 (-20 %) |" in line


def test_certificates_say_on_how_many_rows_they_fail(tables: Any) -> None:
    found = {
        "timesteps": 4,
        "spikes_per_step": 2,
        "settle_steps": 1,
        "latency_steps": 5,
        "basis": "observed",
        "proved_settle_steps": 38,
        "synops": 20.0,
        "ann_macs": 10.0,
        "differing": 3,
        "others": 4000,
        "ci95": [0.0003, 0.0022],
    }
    assert (
        "| 4 | 2 | 1 | 5 | observed | 38 | 2.00 | 3 of 4000 [0.03 %, 0.22 %] |"
        in tables.certificate_table([found])
    )


def test_nothing_measured_makes_no_sections(tables: Any, tmp_path: Path) -> None:
    assert tables.sections(tmp_path) == []
