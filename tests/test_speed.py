"""Measuring: what a comparison says of times that are known."""

from __future__ import annotations

import gc
import mmap

import numpy as np
import pytest

from snnc.analysis.costs import Costs, Layer
from snnc.analysis.speed import Comparison, Timing, interleaved, resident


def test_contestants_take_turns() -> None:
    order: list[str] = []
    times = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert order == ["a", "b"] * 3
    assert {name: len(timing.seconds) for name, timing in times.items()} == {"a": 3, "b": 3}
    assert gc.isenabled()


def test_garbage_is_collected_again_after_a_failure() -> None:
    def fail() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        interleaved({"a": fail}, rounds=2)
    assert gc.isenabled()


def test_open_rounds_fit_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnc.analysis.speed.SECONDS", 0.0)
    assert len(interleaved({"a": lambda: None})["a"].seconds) == 7


def test_figures() -> None:
    layer = Layer(
        "p",
        neurons=10,
        events=40,
        units=60,
        acs=4_000_000,
        macs=0,
        unit_synops=0,
        bit_synops=0,
        effective=0,
    )
    found = Comparison(
        snn=Timing((4e-3, 2e-3, 3e-3)),
        ann=Timing((1e-3, 4e-3, 2e-3)),
        costs=Costs(
            (layer,), first_layer_macs=7, first_layer_effective=7, zero_weights=0.0, images=2, steps=4
        ),
        images=2,
        threads=1,
        timesteps=4,
        latency_steps=4,
        mode="spikes",
        memory=3 * 2**20,
    )
    assert found.ratio == 2  # of the shortest, not of the rounds in the middle
    shown = found.as_dict()
    assert shown["ratio"] == 2
    assert shown["ms"] == 1  # per image
    assert shown["ann_ms"] == 0.5
    assert shown["density"] == 0.5
    assert shown["spikes_per_neuron_per_step"] == 0.75
    assert shown["giga_synops_per_second"] == 2
    assert shown["memory_mb"] == 3
    assert (shown["threads"], shown["batch"], shown["mode"]) == (1, 2, "spikes")
    np.testing.assert_allclose(found.snn.p90, np.percentile([2e-3, 3e-3, 4e-3], 90))


def test_resident_memory_grows_with_what_is_used() -> None:
    before = resident()
    if before is None:
        pytest.skip("this system does not tell how much memory a process uses")
    size = 50 << 20
    with mmap.mmap(-1, size) as kept:  # what is freed before a new array is made would be used for that
        kept.write(bytes(size))
        after = resident()
    assert after is not None
    assert after - before > 0.9 * size
