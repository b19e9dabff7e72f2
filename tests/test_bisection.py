"""Which layer costs most: all hybrids are looked at, and none is named where none stands out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.analysis.evaluation import Share
from snnc.metrics import Task
from snnc.report.bisection import Bisection, Trial, bisect, conclusion
from tests.conversions import CountingSimulator, convert

ROWS = 10_000


def hybrids(*lost: float, classes: bool = True) -> Bisection:
    """Conclude from hybrids that lose so many rows in a thousand, the first ones."""
    trials = []
    for k, share in enumerate(lost):
        wrong = (np.arange(ROWS) < round(share * ROWS / 1000)).astype(np.float64)
        right = Share(ROWS - int(wrong.sum()), ROWS) if classes else None
        trials.append(Trial(k, f"relu{k}", "", wrong, right))
    return conclusion(tuple(trials), labelled=True, classes=classes, tolerance=0.005)


@pytest.mark.parametrize("classes", [True, False])
def test_the_layer_that_costs_most_is_named_wherever_half_is_lost(classes: bool) -> None:
    # Half of the whole, 19.8, is reached at the third layer; the first costs more.
    found = hybrids(0, 18.5, 18.5, 29.5, 39.6, classes=classes)
    assert found.culprit is not None
    assert found.culprit.layer == "relu1"
    assert found.cost == pytest.approx(0.0185)
    assert found.interval is not None
    assert 0 < found.interval[0] < found.cost < found.interval[1]


def test_a_layer_whose_loss_others_take_back_is_named() -> None:
    found = hybrids(0, 2, 62, 4, 8)
    assert found.lost == pytest.approx(0.008)
    assert found.culprit is not None
    assert found.culprit.layer == "relu2"
    assert found.before is not None
    assert found.before.layer == "relu1"


def test_no_layer_stands_out_of_many_alike() -> None:
    found = hybrids(*range(0, 110, 10))
    assert found.culprit is None
    assert found.largest is not None
    assert found.cost == pytest.approx(0.01)


def test_what_may_be_chance_is_not_named() -> None:
    wrong = [np.zeros(40), np.eye(40)[0]]
    trials = tuple(Trial(k, f"relu{k}", "", w, Share(40 - k, 40)) for k, w in enumerate(wrong))
    found = conclusion(trials, labelled=True, classes=True, tolerance=0.005)
    assert found.lost == pytest.approx(0.025)
    assert found.culprit is None
    assert found.interval is not None
    assert found.interval[0] < 0


def test_little_is_nothing() -> None:
    assert hybrids(0, 1, 2, 4).culprit is None


@given(st.lists(st.integers(0, 300), min_size=2, max_size=9))
def test_the_cost_is_the_largest_step(lost: list[int]) -> None:
    found = hybrids(0, *lost)
    steps = np.diff([0, *lost]) / 1000
    assert found.cost == pytest.approx(steps.max())
    if found.culprit is not None:
        assert steps[found.culprit.spiking - 1] == pytest.approx(steps.max())


def test_one_simulation_serves_all_hybrids(monkeypatch: pytest.MonkeyPatch) -> None:
    made = convert(rows=12)
    counting = CountingSimulator()
    found = bisect(
        made.artefact, made.source, made.rows, None, simulator=counting, task=Task.CLASSES, threads=1
    )
    assert len(counting.ran) == 1
    monkeypatch.setattr("snnc.report.bisection.SESSION_BYTES", 1)
    again = bisect(
        made.artefact, made.source, made.rows, None, simulator=counting, task=Task.CLASSES, threads=1
    )
    assert len(counting.ran) == 1 + found.populations
    for one, other in zip(found.trials, again.trials, strict=True):
        np.testing.assert_array_equal(one.losses, other.losses)
