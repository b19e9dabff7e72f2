"""How well old and new classes are told apart after an edit, with intervals, and what it takes in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.artefact import Artefact
from snnc.errors import InputError
from snnc.ir.batch import Rows
from snnc.ir.graph import IntArray
from snnc.metrics.loss import paired
from snnc.metrics.shares import Paired, Share
from snnc.simulation.latents import ROWS
from snnc.simulation.protocol import Simulator


@dataclass(frozen=True, slots=True)
class Outcome:
    """Accuracy on test rows.

    Attributes:
        old: of the classes that were there before, by the network that has learned; ``None`` without rows.
        new: of the others.
        every: of all.
        before: of the old classes, by the network before.
        forgotten: right answers on rows of old classes, before and after; ``None`` without rows.
    """

    old: Share | None
    new: Share | None
    every: Share
    before: Share | None
    forgotten: Paired | None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form; shares with their 95 % intervals, forgetting in points."""
        forgetting = None
        if self.forgotten is not None:
            forgetting = {
                "points": 100 * self.forgotten.drop,
                "points_ci95": [100 * end for end in self.forgotten.interval],
                "n": self.forgotten.n,
            }
        return {
            "old": _share(self.old),
            "new": _share(self.new),
            "all": _share(self.every),
            "old_before": _share(self.before),
            "forgetting": forgetting,
        }

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """What a person reads."""
        found = [
            ("old classes before", self.before),
            ("old classes", self.old),
            ("new classes", self.new),
            ("all classes", self.every),
        ]
        lines = [(name, str(share)) for name, share in found if share is not None]
        if self.forgotten is not None:
            low, high = self.forgotten.interval
            drop = f"{100 * self.forgotten.drop:.1f} points [{100 * low:.1f}, {100 * high:.1f}]"
            lines.append(("forgetting", f"{drop}, n = {self.forgotten.n}"))
        return tuple(lines)


def outcome(before: Artefact, after: Artefact, x: Rows, y: IntArray, simulator: Simulator) -> Outcome:
    """Run an artefact before and after an edit on test rows.

    Args:
        before: that has not learned it.
        after: that has.
        x: (rows, ...), none of which was learned.
        y: (rows,) classes.
        simulator: runs them.

    Raises:
        InputError: there are no rows, or a label is no class of ``after``.
    """
    labels = np.asarray(y)
    count = after.graph.readout.shape[0]
    if not len(labels) or labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(x):
        raise InputError("test rows need one class each, an integer")
    if labels.min() < 0 or labels.max() >= count:
        raise InputError(f"test rows have labels up to {labels.max()}, and there are {count} classes")
    return judged(
        answers(before, x, simulator), answers(after, x, simulator), labels, before.graph.readout.shape[0]
    )


def judged(before: IntArray, after: IntArray, labels: IntArray, known: int) -> Outcome:
    """Return the outcome of answers, (rows,) classes each; classes below ``known`` are old."""
    is_old = labels < known
    old = paired(after[is_old], before[is_old], labels[is_old]) if is_old.any() else None
    return Outcome(
        old=_right(after, labels, is_old),
        new=_right(after, labels, ~is_old),
        every=Share(int((after == labels).sum()), len(labels)),
        before=_right(before, labels, is_old),
        forgotten=old,
    )


def answers(artefact: Artefact, x: Rows, simulator: Simulator) -> IntArray:
    """Return the class of each row, (rows,)."""
    graph, found = artefact.graph, []
    for start in range(0, len(x), ROWS):
        q = artefact.encode(x[start : start + ROWS])
        found.append(simulator.run(graph, q, graph.timesteps).logits.argmax(axis=1))
    return np.concatenate(found)


def _right(answers_: IntArray, labels: IntArray, chosen: NDArray[np.bool_]) -> Share | None:
    n = int(chosen.sum())
    return Share(int((answers_ == labels)[chosen].sum()), n) if n else None


def _share(share: Share | None) -> dict[str, Any] | None:
    if share is None:
        return None
    return {"value": share.value, "ci95": list(share.interval), "n": share.n}
