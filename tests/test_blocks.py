"""Rows of large arrays, some at a time."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from snnc.ir.blocks import evenly, in_blocks, released, spread_blocks

SHAPE = (24, 1 << 20)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "rows.npy"
    rows = np.lib.format.open_memmap(path, "w+", np.uint8, SHAPE)
    rows[:] = np.arange(SHAPE[0], dtype=np.uint8)[:, None]
    rows.flush()
    return path


def resident_files() -> int:
    """Return the resident megabytes of this process that are pages of files."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"^RssFile:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found.group(1)) // 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_mapped_file_does_not_stay_in_memory(large: Path) -> None:
    rows = np.asarray(np.load(large, mmap_mode="r"))  # a view, no longer a memmap
    before = resident_files()
    peak = 0
    for some in in_blocks(rows):
        rows[some].max()
        peak = max(peak, resident_files() - before)
    assert peak <= 8
    assert rows.max() == SHAPE[0] - 1  # read again


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_what_was_written_is_kept(large: Path, mode: Literal["r+", "c"]) -> None:
    rows = np.load(large, mmap_mode=mode)
    rows[3, :] = 77
    released(rows[1:])
    assert (rows[3] == 77).all()
    assert (rows[4] == 4).all()


def test_spread_blocks_are_the_rows_at_even_places() -> None:
    rows = np.random.default_rng(0).standard_normal((700, 3, 80, 80)).astype(np.float32)
    parts = list(spread_blocks(rows, 100))
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate(parts), rows[np.linspace(0, 699, 100).astype(int)])


def test_few_rows_are_all_taken() -> None:
    for count in range(1, 513):
        np.testing.assert_array_equal(evenly(count, 512), np.arange(count))
