"""What decides between states of a network: its answers on the rows held back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc.ir.batch import joined
from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.snn import SnnGraph
from snnc.metrics.shares import Share
from snnc.metrics.task import Task, decisions
from snnc.numerics.divergence import AnswerError, relative_error
from snnc.simulation.protocol import Simulator
from snnc.simulation.reference import encode_all

AT_ONCE = 250
"""Rows that are run at once."""


@dataclass(frozen=True, slots=True)
class Measure:
    """How good answers are.

    Attributes:
        error: divergence from the source's answers, or squared error relative to the variance; the mean of
            several outputs'. Numbers with labels are held to these.
        right: answers that are the label; ``None`` without labels of classes.
    """

    error: float
    right: Share | None

    @property
    def key(self) -> tuple[float, float]:
        """By which measures are ordered: the best is the least."""
        error = self.error if np.isfinite(self.error) else np.inf
        return (0.0 if self.right is None else float(self.right.n - self.right.hits), error)

    @property
    def text(self) -> str:
        """For the user."""
        if self.right is None:
            return f"error {self.error:.4f}"
        low, high = self.right.interval
        share = f"{100 * self.right.value:.1f} % ({100 * low:.1f} to {100 * high:.1f}, n = {self.right.n})"
        return f"accuracy {share}, error {self.error:.4f}"

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        found: dict[str, Any] = {"error": round(self.error, 6) if np.isfinite(self.error) else None}
        if self.right is not None:
            low, high = self.right.interval
            found |= {"right": self.right.hits, "rows": self.right.n, "accuracy": round(self.right.value, 5)}
            found["interval"] = [round(low, 5), round(high, 5)]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """The rows held back, and what is wanted there.

    Attributes:
        rows: (n, *shape) by the inputs' names.
        targets: the source's answers before a softmax, (n, *shape) by output.
        labels: of each output that has some.
        tasks: what each output is.
        errors: by which error each output is judged.
    """

    rows: Mapping[str, FloatArray]
    targets: Mapping[str, FloatArray]
    labels: Mapping[str, NumberArray]
    tasks: Mapping[str, Task]
    errors: Mapping[str, AnswerError]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.rows.values())))

    def of(self, answers: Mapping[str, FloatArray]) -> Measure:
        """Measure answers, (n, *shape) by output."""
        found, hits, asked = [], 0, 0
        for name, target in self.targets.items():
            given = answers[name]
            labels = self.labels.get(name)
            if labels is not None and self.tasks[name] is Task.REGRESSION:
                flat = labels.reshape(len(labels), -1).astype(np.float64)
                found.append(relative_error(flat, given.reshape(len(given), -1)))
                continue
            found.append(self.errors[name].of(target, given))
            if labels is not None:
                hits += int((decisions(given.reshape(len(given), -1)) == labels.reshape(-1)).sum())
                asked += len(labels)
        return Measure(float(np.mean(found)), Share(hits, asked) if asked else None)

    def simulated(self, graph: SnnGraph, simulator: Simulator) -> Measure:
        """Measure a spiking network as it runs."""
        parts: dict[str, list[FloatArray]] = {name: [] for name in self.targets}
        for start in range(0, len(self), AT_ONCE):
            batch = {name: rows[start : start + AT_ONCE] for name, rows in self.rows.items()}
            q = encode_all(graph, joined(batch))
            trace = simulator.run(graph, q, graph.timesteps)
            for name, values in trace.outputs.items():
                parts[name].append(graph.readouts[name].decoded(values, graph.timesteps))
        return self.of({name: np.concatenate(each) for name, each in parts.items()})
