"""Rows held against those that calibration saw."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.data.input_statistics import KEY, InputStatistics
from snnc.errors import InputError
from snnc.ir.graph import FloatArray


def pictures(n: int, seed: int, channels: int = 3) -> FloatArray:
    """Smooth pictures of bytes, each of its own brightness and contrast."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, channels, 12, 12))
    for axis in (2, 3):
        x = np.stack([np.roll(x, shift, axis) for shift in range(-2, 3)]).sum(axis=0) / 5**0.5
    x = (x + 0.3 * random.standard_normal((n, 1, 1, 1))) * random.uniform(0.5, 1, (n, 1, 1, 1))
    return np.clip(np.rint(128 + 60 * x), 0, 255).astype(np.float32)


def table(n: int, seed: int) -> FloatArray:
    """Features of very different ranges."""
    random = np.random.default_rng(seed)
    scales, offsets = np.array([1, 1e4, 30, 0.01]), np.array([0, 5e4, 100, 0.5])
    return (random.standard_normal((n, 4)) * scales + offsets).astype(np.float32)


def channels_last(x: FloatArray) -> FloatArray:
    return np.moveaxis(x, 1, -1).reshape(x.shape)


Rows = Callable[[int, int], FloatArray]
MISTAKES: dict[str, tuple[Rows, Callable[[FloatArray], FloatArray], str]] = {
    "divided": (pictures, lambda x: x / 255, "a division by 255 is applied twice"),
    "multiplied": (pictures, lambda x: x * 255, "a division by 255 is missing"),
    "signed": (pictures, lambda x: x / 127.5 - 1, "applied twice"),
    "centred": (pictures, lambda x: x - 128, "their mean"),
    "channels last": (pictures, channels_last, "axes"),
    "table divided": (table, lambda x: x / 255, "the rows lie in"),
    "table standardised": (table, lambda x: (x - x.mean(0)) / x.std(0), "the rows lie in"),
    "columns in another order": (table, lambda x: x[:, ::-1], "the rows lie in"),
}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("n", [4, 300])
def test_a_mistake_in_all_rows_is_found_and_named(name: str, n: int) -> None:
    rows, mistake, words = MISTAKES[name]
    found = InputStatistics.of(rows(400, 0)).foreign(mistake(rows(n, 1)).astype(np.float32))
    assert found is not None
    assert words in found.text
    assert found.diagnostic().code.number == "SNN204"


def test_the_message_gives_both_ranges() -> None:
    found = InputStatistics.of(pictures(200, 0)).foreign(pictures(50, 1) / 255)
    assert found is not None
    assert found.text.startswith("the rows lie in 0 .. 1, calibration saw 0 .. 255: ")


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 5, 20, 200]), st.sampled_from([pictures, table]))
def test_other_rows_from_the_same_place_are_not_reported(seed: int, n: int, rows: Rows) -> None:
    assert InputStatistics.of(rows(300, seed)).foreign(rows(n, seed + 1)) is None


def test_darker_and_fewer_pictures_are_not_reported() -> None:
    seen = InputStatistics.of(pictures(400, 0))
    others = pictures(400, 1)
    darkest = others[np.argsort(others.mean(axis=(1, 2, 3)))[:40]]
    assert seen.foreign(darkest) is None
    assert seen.foreign(others * 0.9) is None


def test_what_never_varied_has_no_unit_and_is_not_judged() -> None:
    seen = InputStatistics.of(np.full((50, 3), 7, np.float32))
    assert seen.foreign(np.zeros((5, 3), np.float32)) is None


@pytest.mark.parametrize("rows", [pictures(40, 3), table(40, 3), pictures(5, 0, 100)])
def test_the_json_form_holds_all_and_stays_small(rows: FloatArray) -> None:
    seen = InputStatistics.of(rows)
    text = json.dumps({KEY: seen.as_dict()})
    assert InputStatistics.stored(json.loads(text)) == seen
    assert len(text) < 6000


def test_an_artefact_without_statistics_claims_nothing() -> None:
    assert InputStatistics.stored({"rows": 100}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 0},
        {"range": [1]},
        {"features": {}},
        {"mean": [0.0, 1.0]},
        {"features": None},
        {"shape": [3, 12]},
    ],
)
def test_damaged_statistics_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="record of its calibration rows is damaged"):
        InputStatistics.from_dict({**InputStatistics.of(pictures(20, 0)).as_dict(), **change})


def test_large_images_are_described_a_few_at_a_time() -> None:
    """500 images of 224 x 224 in double precision took 5 GB."""
    rows = np.random.default_rng(0).normal(size=(96, 3, 224, 224)).astype(np.float32)
    tracemalloc.start()
    try:
        found = InputStatistics.of(rows)
        assert found.foreign(rows) is None
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * rows.nbytes + 2**28
    assert np.allclose(found.mean, rows.mean(axis=(0, 2, 3)), atol=1e-4)
    assert np.allclose(found.std, rows.std(axis=(0, 2, 3)), rtol=1e-4)
