"""The section of a report on how a network learned."""

from __future__ import annotations

from typing import Any

from snnc.report.learning import learning_chart, learning_of


def record(*, accuracy: bool = True) -> dict[str, Any]:
    def line(stage: str, step: int, right: float, error: float | None) -> dict[str, Any]:
        return {"stage": stage, "step": step, "of": 40, "error": error} | (
            {"accuracy": right} if accuracy else {}
        )

    curve = [
        line("T = 2, levels", 0, 0.5, 1.5),
        line("T = 2, levels", 40, 0.75, None),
        line("T = 2, integers", 0, 0.75, 0.5),
        line("T = 2, integers", 4, 0.8, 0.25),
    ]
    closed = line("", 0, 0.6, 1.25)
    return {"pass": "tune", "curve": curve, "closed_form": closed, "held_back": 200, "kept": "tuned"}


def test_a_curve_of_right_answers() -> None:
    learning = learning_of([{"pass": "lower"}, record()])
    assert learning is not None
    assert (learning.what, learning.closed, learning.rows) == ("accuracy", 0.6, 200)
    assert [each.value for each in learning.curve] == [0.5, 0.75, 0.75, 0.8]
    chart = learning_chart(learning)
    assert "Accuracy on 200 rows held back" in chart.title
    assert "60.0\u00a0%" in chart.description
    assert "80.0\u00a0%" in chart.description
    assert [row[1] for row in chart.rows] == ["0", "40", "0", "4", ""]
    for text in ("T = 2, levels", "T = 2, integers", "without learning"):
        assert text in chart.svg


def test_errors_that_are_not_finite_are_left_out() -> None:
    learning = learning_of([record(accuracy=False)])
    assert learning is not None
    assert learning.what == "error"
    assert [each.value for each in learning.curve] == [1.5, 0.5, 0.25]
    description = learning_chart(learning).description
    assert "1.2500" in description
    assert "at best 0.2500" in description


def test_networks_that_did_not_learn_have_none() -> None:
    assert learning_of([{"pass": "lower"}, {"pass": "tune"}]) is None
    assert learning_of([]) is None
