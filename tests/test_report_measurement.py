"""How the report's sums are gathered: in order, in blocks, behind the simulator's back."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest

from snnc.ir.graph import NumberArray
from snnc.ir.snn import IntegrateFire
from snnc.metrics import Share
from snnc.report import chunks
from snnc.report.coding import evenly_spaced
from snnc.report.curve import accuracy_curve
from snnc.report.serial_worker import AHEAD, SerialWorker
from tests.conversions import CountingSimulator, convert


@pytest.mark.parametrize("threads", [1, 2])
def test_tasks_are_done_in_order(threads: int) -> None:
    done: list[int] = []
    with SerialWorker(threads) as behind:
        for number in range(20):
            behind.do(partial(done.append, number))
        behind.wait()
        assert done == list(range(20))


def test_few_tasks_wait() -> None:
    gate, begun = threading.Event(), threading.Event()

    def stall() -> None:
        begun.set()
        gate.wait(10)

    with SerialWorker(2) as behind:
        for _ in range(AHEAD):
            behind.do(stall)
        assert begun.wait(10)
        blocked = threading.Thread(target=behind.do, args=(lambda: None,))
        blocked.start()
        blocked.join(0.05)
        assert blocked.is_alive()
        gate.set()
        blocked.join(10)
        assert not blocked.is_alive()


@pytest.mark.parametrize("threads", [1, 2])
def test_what_a_task_raises_is_raised(threads: int) -> None:
    def fail() -> None:
        raise ValueError("wrong")

    def work() -> None:
        with SerialWorker(threads) as behind:
            behind.do(fail)
            behind.wait()

    with pytest.raises(ValueError, match="wrong"):
        work()


def test_blocks_change_nothing_but_the_order_of_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    made = convert(rows=7)
    whole = made.measured()
    monkeypatch.setattr(chunks, "BLOCK", 1)
    rows = made.measured()
    for one, other in zip(whole.layers, rows.layers, strict=True):
        for first, second in ((one.local, other.local), (one.cumulative, other.cumulative)):
            assert first.contributions == pytest.approx(second.contributions, rel=1e-9, abs=1e-12)
            assert first.rms == pytest.approx(second.rms, rel=1e-9, abs=1e-12)
        if one.firing is not None and other.firing is not None:
            assert one.firing.lead == other.firing.lead
            assert one.firing.activations == other.firing.activations


def test_trains_are_narrow_and_their_channels_lie_last() -> None:
    counted = np.random.default_rng(0).integers(0, 9, (2, 3, 4, 5)).astype(np.int32)
    train = evenly_spaced(counted, 8, 2)
    assert train.shape == (10, 2, 3, 4, 5)
    assert train.dtype == np.int8
    assert np.moveaxis(train, 2, -1).flags.c_contiguous
    assert np.array_equal(train.sum(axis=0), counted)
    assert not train[8:].any()
    large = evenly_spaced(np.array([[1000]], np.int32), 4, 0)
    assert large[:, 0, 0].tolist() == [250] * 4


def test_the_curve_runs_no_timesteps_twice() -> None:
    made = convert(rows=5)
    counting = CountingSimulator()
    found = made.measured(timesteps=4)
    assert made.artefact.graph.of_type(IntegrateFire)[0].neuron.spikes_per_step == 2
    target = found.ann.scores.classes

    def judge(answers: NumberArray) -> Share:
        return Share(int((answers.argmax(axis=1) == target).sum()), len(target))

    curve = accuracy_curve(
        made.artefact,
        made.rows,
        judge,
        output=found.name,
        labelled=False,
        ann=None,
        timesteps=(2, 4),
        simulator=counting,
        known={4: Share(int((found.snn.classes == target).sum()), len(target))},
    )
    assert [timesteps for _, timesteps in counting.ran] == [2]
    assert [point.timesteps for point in curve.same] == [2, 4]
    assert curve.same[1].share == Share(int((found.snn.classes == target).sum()), len(target))
