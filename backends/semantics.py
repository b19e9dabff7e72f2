"""The loss on targets that follow other rules than the artefact, measured before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc.artefact import Artefact
from snnc.backends import load_simulator
from snnc.errors import TargetError
from snnc.ir.graph import IntArray, NumberArray
from snnc.metrics import decisions, recognise
from snnc.simulation.targets import Backend, Emulating


@dataclass(frozen=True, slots=True)
class Cost:
    """The target beside the artefact on the same rows.

    Attributes:
        rows: how many.
        same: rows to which both give the same class; ``None`` where outputs are numbers.
        artefact: rows that the artefact gets right; ``None`` without labels.
        target: rows that the target gets right; likewise.
        correlation: of numbers, with the artefact's, the lowest of all outputs; ``None`` for classes. The
            target may use another unit.
    """

    rows: int
    same: int | None
    artefact: int | None = None
    target: int | None = None
    correlation: float | None = None

    @property
    def points(self) -> float | None:
        """Accuracy lost, in percentage points; ``None`` without labels."""
        if self.artefact is None or self.target is None:
            return None
        return 100 * (self.artefact - self.target) / self.rows

    def __str__(self) -> str:
        """Return one line."""
        if self.same is None:
            found = "no number" if self.correlation is None else f"{self.correlation:.4f}"
            return f"a correlation of {found} with the artefact's numbers on {self.rows} rows"
        same = f"the same class for {100 * self.same / self.rows:.1f} % of {self.rows} rows"
        if self.points is None or self.artefact is None or self.target is None:
            return f"{same}; no labels, so no accuracy"
        there, here = (100 * right / self.rows for right in (self.target, self.artefact))
        word = "lost" if self.points >= 0 else "won"
        return f"{there:.1f} % right, the artefact {here:.1f} %: {abs(self.points):.1f} points {word}; {same}"

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "rows": self.rows,
            "same_class": self.same,
            "artefact_correct": self.artefact,
            "target_correct": self.target,
            "points_lost": self.points,
            "correlation": self.correlation,
        }


@dataclass(frozen=True, slots=True)
class Semantics:
    """Whether a target computes what the artefact does.

    Attributes:
        differences: in which points it does not, in words.
        cost: what that costs; ``None`` where it was not measured because there is no difference.
    """

    differences: tuple[str, ...] = ()
    cost: Cost | None = None

    @property
    def equal(self) -> bool:
        """Whether there is no difference."""
        return not self.differences

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        measured = None if self.cost is None else self.cost.as_dict()
        return {"differences": list(self.differences), "measured": measured}

    def require(self, backend: Backend, *, accepted: bool) -> None:
        """Refuse a difference that nobody has accepted.

        Raises:
            TargetError: saying what differs, what it costs, and how to go on.
        """
        if self.equal or accepted:
            return
        advice = backend.advice if isinstance(backend, Emulating) else ""
        raise TargetError(
            f"{backend.name}, profile {backend.profile}, computes something else than the artefact: "
            f"{'; '.join(self.differences)}. Measured: {self.cost}. Add --accept-semantics if that will do"
            f"{', or ' if advice else ''}{advice}"
        )


def judge(artefact: Artefact, backend: Backend, q: IntArray, labels: NumberArray | None = None) -> Semantics:
    """Compare a target with an artefact, on rows if there is anything to compare.

    Args:
        artefact: the network; it fits the target.
        backend: the target.
        q: (rows, *input shape), quantised.
        labels: (rows, ...), if known.
    """
    differences = backend.differences(artefact.graph) if isinstance(backend, Emulating) else ()
    if not isinstance(backend, Emulating) or not differences:
        return Semantics()
    ours = load_simulator("onnx").run(artefact.graph, q, artefact.graph.timesteps).logits
    theirs = backend.emulate(artefact.graph, q)
    stored = artefact.metadata.stored_task
    outputs = recognise(ours.shape[1], rows=len(q), labels=labels, ends=artefact.metadata.ends, stored=stored)
    if not outputs.have_classes:
        return Semantics(differences, Cost(len(q), None, correlation=_correlation(ours, theirs)))
    reference, found = decisions(ours), decisions(theirs)
    same = int(np.count_nonzero(found == reference))
    if (right := outputs.classes) is None:
        return Semantics(differences, Cost(len(q), same))
    hits = (int(np.count_nonzero(answers == right)) for answers in (reference, found))
    return Semantics(differences, Cost(len(q), same, *hits))


def _correlation(ours: NumberArray, theirs: NumberArray) -> float | None:
    """Return the lowest correlation of an output, (rows, outputs) each; ``None`` where none varies."""
    a, b = (values.astype(np.float64) - values.mean(axis=0) for values in (ours, theirs))
    varies = np.ptp(ours, axis=0) > 0
    if not varies.any():
        return None
    power = np.sqrt(np.square(a).sum(axis=0) * np.square(b).sum(axis=0))
    product = (a * b).sum(axis=0)
    return float(np.divide(product, power, out=np.zeros_like(product), where=power > 0)[varies].min())
