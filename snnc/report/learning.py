"""How a network learned, as its record tells: measurements on the rows held back, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from snnc.report.drawing import INK, SERIES, Chart, figure_of, finished, percent


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement.

    Attributes:
        stage: of the training.
        step: of this stage.
        value: the share of right answers, or an error.
    """

    stage: str
    step: int
    value: float


@dataclass(frozen=True, slots=True)
class Learning:
    """How a network was tuned.

    Attributes:
        counts: whether values are shares of right answers; else they are errors.
        curve: measurements, in order.
        closed: the same of the conversion without learning.
        rows: held back.
        kept: what is kept: ``tuned`` or ``closed form``.
    """

    counts: bool
    curve: tuple[Measured, ...]
    closed: float
    rows: int
    kept: str

    @property
    def what(self) -> str:
        """What is measured."""
        return "accuracy" if self.counts else "error"

    def said(self, value: float) -> str:
        """Return a value for people."""
        return percent(value) if self.counts else f"{value:.4f}"


def learning_of(records: Sequence[Mapping[str, Any]]) -> Learning | None:
    """Return how a network learned; ``None`` where its record has no curve.

    Args:
        records: of the passes that made it.
    """
    for record in records:
        if record.get("pass") != "tune" or not record.get("curve"):
            continue
        counts = all("accuracy" in line for line in (record["closed_form"], *record["curve"]))
        name = "accuracy" if counts else "error"
        curve = tuple(
            Measured(str(line["stage"]), int(line["step"]), float(line[name]))
            for line in record["curve"]
            if line[name] is not None and math.isfinite(line[name])
        )
        closed = record["closed_form"][name]
        if curve and closed is not None:
            return Learning(counts, curve, float(closed), int(record["held_back"]), str(record["kept"]))
    return None


def learning_chart(learning: Learning) -> Chart:
    """Draw what was measured on the rows held back, the stages side by side."""
    factor = 100 if learning.counts else 1
    with figure_of(5.4, 3.0) as figure:
        ax = figure.add_subplot()
        begun = 0
        rows = []
        for number, stage in enumerate(dict.fromkeys(each.stage for each in learning.curve)):
            points = [each for each in learning.curve if each.stage == stage]
            steps = [begun + each.step for each in points]
            values = [factor * each.value for each in points]
            colour = SERIES[number % len(SERIES)]
            ax.plot(steps, values, label=stage, color=colour, marker="o", markersize=3, linewidth=1.4)
            rows += [(stage, str(each.step), learning.said(each.value)) for each in points]
            begun = steps[-1]
        ax.axhline(factor * learning.closed, color=INK, linestyle="--", linewidth=1, label="without learning")
        rows.append(("without learning", "", learning.said(learning.closed)))
        ax.set_xlabel("steps")
        ax.set_ylabel(f"{learning.what}, %" if learning.counts else learning.what)
        ax.legend(fontsize=8)
        best = (max if learning.counts else min)(each.value for each in learning.curve)
        return finished(
            figure,
            "learning",
            f"{learning.what.capitalize()} on {learning.rows:,} rows held back, while the network learned",
            f"Without learning {learning.said(learning.closed)}; at best {learning.said(best)}.",
            ("stage", "step", learning.what),
            rows,
        )
