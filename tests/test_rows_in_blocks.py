"""Rows are prepared, checked and hashed some at a time, many of them in a temporary file: the same bits."""

from __future__ import annotations

import hashlib
import tracemalloc

import numpy as np
import pytest

from snnc.data import stored
from snnc.data.preprocessing import Preprocessing, prepared_rows
from snnc.data.readings import NetworkInput
from snnc.errors import InputError
from snnc.source.calibration import Calibration

MIB = 1 << 20
SHAPE = (3, 64, 64)
TAKEN = NetworkInput.of_shape(SHAPE)
SCALED = Preprocessing(divide=255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), rows_layout="NHWC")


@pytest.fixture
def raw() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (500, 64, 64, 3)).astype(np.uint8)


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "IN_MEMORY", MIB)
    monkeypatch.setattr(stored, "BLOCK", MIB)


def test_the_same_rows_come_out(raw: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepared_rows(raw[:50], TAKEN, SCALED)
    for block in (1, 300_000, MIB):
        monkeypatch.setattr(stored, "BLOCK", block)
        np.testing.assert_array_equal(prepared_rows(raw[:50], TAKEN, SCALED), whole)
    by_hand = (raw[:50].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)).astype(np.float64)
    by_hand = (by_hand - np.reshape([0.5, 0.4, 0.3], (3, 1, 1))) / np.reshape([0.2, 0.3, 0.4], (3, 1, 1))
    np.testing.assert_allclose(whole, by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("on_disk")
def test_many_rows_take_no_memory(raw: np.ndarray) -> None:
    size = raw.size * 4
    tracemalloc.start()
    try:
        x = prepared_rows(raw, TAKEN, SCALED)
        calibration = Calibration(x)
        digest = calibration.sha256
        wide = stored.as_float32(x.astype(np.float16))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(x, np.memmap)
    assert isinstance(wide, np.memmap)
    assert peak - size / 2 < 10 * MIB < size  # the copy in half precision is in memory
    assert digest == hashlib.sha256(x.tobytes()).hexdigest()
    assert stored.as_float32(x) is x


@pytest.mark.usefixtures("on_disk")
def test_a_bad_row_is_named_by_its_number_among_all() -> None:
    x = np.zeros((400, *SHAPE), np.float32)
    x[317, 2, 5, 5] = np.nan
    with pytest.raises(InputError, match="row 317 is NaN"):
        prepared_rows(x, TAKEN, Preprocessing(rows_layout="NCHW"))
    with pytest.raises(InputError, match="NaN or infinity"):
        Calibration(x)


def test_no_row_and_one_row() -> None:
    assert prepared_rows(np.zeros((0, 64, 64, 3), np.uint8), TAKEN, SCALED).shape == (0, *SHAPE)
    assert prepared_rows(np.zeros((1, 64, 64, 3), np.uint8), TAKEN, SCALED).shape == (1, *SHAPE)
