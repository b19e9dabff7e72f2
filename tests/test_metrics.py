"""The list of metrics: values by their definitions, intervals that hold, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.errors import InputError, UsageError
from snnc.ir.graph import NumberArray
from snnc.metrics import (
    DEFAULTS,
    METRICS,
    Case,
    Task,
    behaves_as_classifier,
    decisions,
    finished,
    floor,
    loss_interval,
    measure,
    measure_all,
    recognise,
)
from snnc.metrics.intervals import of_auc

ROWS = 60


def numbers(seed: int, outputs: int = 3, noise: float = 0.3, rows: int = ROWS) -> Case:
    random = np.random.default_rng(seed)
    source = random.standard_normal((rows, outputs)) * (1 + np.arange(outputs)) + 5
    answers = source + noise * random.standard_normal((rows, outputs))
    return Case(answers, Task.REGRESSION, source=source)


def binary(seed: int, rows: int = ROWS) -> Case:
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % 3 // 2
    scores = np.round(random.standard_normal((rows, 1)) + 2 * labels[:, None] - 1, 1)
    return Case(scores, Task.BINARY, source=scores + 0.1, labels=labels)


def test_r2_is_the_mean_over_outputs() -> None:
    case = numbers(1)
    assert case.source is not None
    by_output = [
        1 - np.square(case.answers[:, k] - case.source[:, k]).sum() / (case.source[:, k].var() * ROWS)
        for k in range(3)
    ]
    assert measure("r2", case).value == pytest.approx(np.mean(by_output))
    mean = Case(np.broadcast_to(case.source.mean(axis=0), (ROWS, 3)), Task.REGRESSION, case.source)
    assert measure("r2", mean).value == pytest.approx(0, abs=1e-12)
    assert measure("sqnr", mean).value > 5  # the mean counts as signal there


def test_one_output_of_many_that_is_wrong_lowers_r2() -> None:
    case = numbers(2, noise=0.01)
    answers = case.answers.copy()
    answers[:, 0] = answers[::-1, 0]
    assert measure("r2", Case(answers, Task.REGRESSION, case.source)).value < 0.9


def test_sums_over_all_values() -> None:
    case = numbers(3)
    assert case.source is not None
    y, s = case.answers, case.source
    error = np.square(y - s)
    assert measure("sqnr", case).value == pytest.approx(10 * np.log10(np.square(s).sum() / error.sum()))
    assert measure("mse", case).value == pytest.approx(error.mean())
    assert measure("psnr", case).value == pytest.approx(10 * np.log10(np.ptp(s) ** 2 / error.mean()))
    expected = (y * s).sum() / np.linalg.norm(y) / np.linalg.norm(s)
    assert measure("cosine", case).value == pytest.approx(expected)


@given(st.integers(0, 10_000))
def test_auc_counts_pairs(seed: int) -> None:
    case = binary(seed)
    assert case.labels is not None
    yes, no = (case.answers[case.labels == k, 0] for k in (1, 0))
    pairs = (yes[:, None] > no).mean() + (yes[:, None] == no).mean() / 2
    found = measure("auc", case)
    assert found.value == pytest.approx(pairs)
    assert found.interval is not None
    assert found.interval[0] <= found.value <= found.interval[1]


def test_a_perfect_auc_is_not_certain() -> None:
    low, high = of_auc(1.0, 20, 20)
    assert 0.8 < low < 0.95
    assert high == 1
    assert of_auc(1.0, 200, 200)[0] > low
    assert of_auc(0.0, 20, 20) == pytest.approx((0, 1 - low))


def test_iou_is_the_mean_over_classes() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2] * 4)
    ours = np.array([0, 0, 1, 1, 1, 1] * 4)
    case = Case(np.eye(4)[ours], Task.CLASSES, labels=labels)
    assert measure("iou", case).value == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)
    assert measure("top1", case).value == pytest.approx(4 / 6)


def test_one_output_decides_at_its_threshold() -> None:
    assert decisions(np.array([[-1.0], [0.0], [2.0]])).tolist() == [0, 0, 1]
    assert decisions(np.array([[0.4], [0.5], [0.6]]), 0.5).tolist() == [0, 0, 1]
    z = np.array([[-800.0], [0.0], [3.0]])
    assert finished(z, "Sigmoid")[:, 0] == pytest.approx([0, 0.5, 1 / (1 + np.exp(-3))])
    case = binary(5)
    assert measure("top1", case).value < 1
    assert measure("top1", case).value > 0.7


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from(["r2", "sqnr", "cosine", "mse", "psnr"]))
def test_an_interval_holds_the_value_and_is_always_the_same(seed: int, name: str) -> None:
    case = numbers(seed)
    found, again = measure(name, case), measure(name, case)
    assert found == again
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]


def test_intervals_cover_what_they_estimate() -> None:
    truth = 1 - 0.3**2 / np.arange(1, 4).astype(float) ** 2
    held = []
    for seed in range(60):
        interval = measure("r2", numbers(seed, rows=120)).interval
        assert interval is not None
        held.append(interval[0] <= truth.mean() <= interval[1])
    assert sum(held) >= 51  # 57 of 60 are expected


def test_few_rows_have_no_interval_and_no_error_has_no_bound() -> None:
    assert measure("r2", numbers(0, rows=9)).interval is None
    case = numbers(0)
    exact = measure("sqnr", Case(case.source if case.source is not None else case.answers, None, case.source))
    assert exact.value == np.inf
    assert exact.as_dict() == {"value": None, "ci95": [None, None], "n": ROWS, "against": "source"}


@pytest.mark.parametrize(
    ("name", "case", "says"),
    [
        ("sharpness", numbers(0), "known: top1, agreement, auc"),
        ("top1", numbers(0), "does not fit outputs of the task regression; use r2, sqnr, "),
        ("agreement", numbers(0), "does not fit"),
        ("auc", Case(np.eye(3), Task.CLASSES, np.eye(3)), "does not fit outputs of the task classes"),
        ("top1", Case(np.ones((4, 1)), None, np.ones((4, 1))), "one output holds no classes"),
        ("agreement", Case(np.ones((4, 1)), None, np.ones((4, 1))), "--task binary"),
        ("top1", Case(np.eye(3), Task.CLASSES, np.eye(3)), "needs labels"),
        ("sqnr", Case(np.eye(3), Task.CLASSES), "needs the answers of the source network"),
        ("r2", Case(np.ones((4, 2)), Task.REGRESSION, np.ones((4, 2))), "all are equal"),
        ("psnr", Case(np.ones((4, 2)), Task.REGRESSION, np.ones((4, 2))), "all are equal"),
        ("sqnr", Case(np.ones((4, 2)), Task.REGRESSION, np.zeros((4, 2))), "needs a signal"),
        ("auc", Case(np.ones((4, 1)), Task.BINARY, labels=np.ones(4)), "rows of both classes"),
    ],
)
def test_what_cannot_be_measured_is_refused(name: str, case: Case, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        measure(name, case)


def test_labels_are_preferred_where_they_are_numbers() -> None:
    case = numbers(0)
    labelled = Case(case.answers, Task.REGRESSION, case.source, labels=case.answers + 1)
    assert measure("mse", labelled).against == "labels"
    assert measure("mse", labelled).value == pytest.approx(1)
    assert measure("sqnr", labelled).against == "source"
    classes = Case(np.eye(3)[[0, 1, 2] * 4], Task.CLASSES, np.eye(3)[[0, 1, 1] * 4], np.array([0, 1, 2] * 4))
    assert measure("r2", classes).against == "source"
    assert [found.metric for found in measure_all(classes)] == ["top1", "agreement"]


@pytest.mark.parametrize(
    ("size", "labels", "ends", "task"),
    [
        (4, np.array([0, 3]), "", Task.CLASSES),
        (4, np.array([[0], [3]], np.uint8), "", Task.CLASSES),
        (4, None, "Softmax", Task.CLASSES),
        (4, None, "LogSoftmax", Task.CLASSES),
        (4, None, "Sigmoid", None),
        (4, None, "", None),
        (4, np.zeros((2, 4), np.float32), "Softmax", Task.REGRESSION),
        (4, np.zeros((2, 2, 2)), "", Task.REGRESSION),
        (1, np.array([0, 1]), "", Task.BINARY),
        (1, np.array([True, False]), "", Task.BINARY),
        (1, np.array([[0.0], [1.0]]), "", Task.BINARY),
        (1, np.array([0.5, 12.0]), "", Task.REGRESSION),
        (1, None, "Sigmoid", Task.BINARY),
        (1, None, "Softmax", None),
        (1, None, "", None),
    ],
)
def test_what_outputs_are_is_recognised(
    size: int, labels: NumberArray | None, ends: str, task: Task | None
) -> None:
    found = recognise(size, rows=2, labels=labels, ends=ends)
    assert found.task is task
    assert found.have_classes == (task in (Task.CLASSES, Task.BINARY) or (task is None and size > 1))
    if labels is not None:
        assert found.labels is not None
        assert found.labels.shape == ((2, size) if task is Task.REGRESSION else (2,))


def test_the_user_decides_and_the_artefact_remembers() -> None:
    counts = np.array([3, 7])
    assert recognise(1, rows=2, labels=counts, given=Task.REGRESSION).labels is not None
    assert recognise(1, rows=2, labels=counts, stored=Task.REGRESSION).task is Task.REGRESSION
    assert recognise(4, rows=2, ends="Softmax", given=Task.REGRESSION).task is Task.REGRESSION
    assert recognise(4, rows=2, stored=Task.CLASSES, given=Task.REGRESSION).task is Task.REGRESSION


@pytest.mark.parametrize(
    ("size", "labels", "given_task", "error", "says"),
    [
        (1, np.array([0, 7]), None, InputError, "the label 7 does not fit 1 output.*--task regression"),
        (1, np.array([-1, 1]), None, InputError, "the label -1 does not fit"),
        (1, np.array([0, 2]), Task.BINARY, InputError, "the label 2 does not fit 2 classes"),
        (4, np.array([0, 4]), None, InputError, "the label 4 does not fit 4 classes; check `y`"),
        (4, np.array([0.5, 2.5]), None, InputError, "do not fit 4 outputs"),
        (4, np.zeros((2, 4), np.int64), None, InputError, "do not fit 4 outputs"),
        (4, np.array([0.5, 2.5]), Task.CLASSES, InputError, "another --task"),
        (4, np.array([0, 1]), Task.REGRESSION, InputError, "another --task"),
        (4, np.array([0, 1, 1]), None, InputError, "there are 2 rows, but 3 labels"),
        (4, np.array([[np.nan] * 4] * 2), None, InputError, "NaN"),
        (1, None, Task.CLASSES, UsageError, "one output holds no classes"),
        (4, None, Task.BINARY, UsageError, "it takes one output, and there are 4"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    size: int, labels: NumberArray | None, given_task: Task | None, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        recognise(size, rows=2, labels=labels, given=given_task)


def test_a_task_may_be_given_by_its_name() -> None:
    assert recognise(4, rows=2, given="regression").task is Task.REGRESSION
    with pytest.raises(UsageError, match="unknown task 'guess'; known: classes, binary, regression"):
        recognise(4, rows=2, given="guess")


def test_many_outputs_are_resampled_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    case = numbers(6, outputs=7)
    whole = measure("r2", case)
    monkeypatch.setattr("snnc.metrics.catalogue.OUTPUTS_AT_ONCE", 3)
    parts = measure("r2", case)
    assert parts.value == whole.value
    assert parts.interval == pytest.approx(whole.interval)


def test_what_must_choose_asks_for_the_task() -> None:
    assert recognise(4, rows=2, ends="Softmax").require("--max-drop") is Task.CLASSES
    with pytest.raises(
        UsageError, match=r"--max-drop: .*4 outputs are classes or numbers.*--task classes or"
    ):
        recognise(4, rows=2).require("--max-drop")
    with pytest.raises(UsageError, match=r"one output means .*--task binary or --task regression"):
        recognise(1, rows=2).require("--max-drop")


@given(st.integers(0, 10_000))
def test_trained_scores_move_apart_and_forecasts_together(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.standard_normal((80, 6))
    apart = scores - 0.7 * scores.mean(axis=1, keepdims=True)
    level = 3 * random.standard_normal((80, 1))
    assert behaves_as_classifier(apart)
    assert not behaves_as_classifier(scores + level)
    assert not behaves_as_classifier(scores[:, :1])


def test_the_loss_can_fail_for_every_kind_of_output() -> None:
    case = numbers(4)
    assert case.source is not None
    constant = np.broadcast_to(case.source.mean(axis=0), case.source.shape)
    assert loss_interval(Task.REGRESSION, constant, case.source).value == pytest.approx(1)
    one = loss_interval(None, constant[:, :1], case.source[:, :1])
    assert one.value == pytest.approx(1)
    near = loss_interval(None, case.answers, case.source)
    assert 0 < near.low <= near.value <= near.high < 0.5
    # All answers moved alike: no arg max notices.
    moved = loss_interval(None, case.source + 3, case.source)
    assert moved.value > 0.5
    # The same numbers but for a close second: only the arg max notices.
    scores = np.tile([[1.0, 1.001, 0.0], [0.0, 5.0, 9.0]], (30, 1))
    told = loss_interval(None, scores + np.array([0.002, 0, 0]), scores)
    assert told.value == pytest.approx(0.5)
    assert told.measured.startswith("answers that differ")


def test_the_loss_of_classes_is_paired_with_labels() -> None:
    source = np.eye(4)[np.arange(40) % 4]
    answers = source.copy()
    answers[0] = np.roll(answers[0], 1)
    found = loss_interval(Task.CLASSES, answers, source, np.arange(40) % 4)
    assert (found.value, found.n) == (1 / 40, 40)
    assert found.low < found.value < found.high
    assert loss_interval(Task.CLASSES, answers, source).high > found.value
    assert loss_interval(Task.REGRESSION, source[:5], source[:5]).high == np.inf


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("r2", "write NAME=VALUE"),
        ("r3=1", "unknown metric 'r3'"),
        ("r2=high", "'high' is not a number"),
        ("r2=nan", "give a number from -inf to 1 for r2"),
        ("r2=1.5", "give a number"),
        ("top1=99", "from 0 to 1"),
        ("mse=1", "improves towards lower values"),
    ],
)
def test_limits_that_nothing_could_miss_or_reach_are_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        floor(text)


def test_a_limit_is_kept_or_missed() -> None:
    found = measure("sqnr", numbers(0))
    assert floor(f"sqnr={found.value - 1}").kept(found)
    assert not floor(f"sqnr={found.value + 1}").kept(found)
    assert str(floor("r2=0.990")) == "r2=0.99"


def test_the_page_lists_every_metric() -> None:
    page = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name, metric in METRICS.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert metric.interval.lower() in row.lower()
        assert ("higher" if metric.higher_is_better else "lower") in row
        assert all(each in row for each in metric.references)
        assert metric.compute.__doc__
        assert "Interval: " in metric.compute.__doc__
    assert {name for names in DEFAULTS.values() for name in names} <= set(METRICS)
