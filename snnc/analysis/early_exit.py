"""Answers as soon as they are sure: when a classifier may stop, and what it has cost until then.

After step ``t`` the read-out has accumulated ``y(t)``, which stands for scores ``y(t) / t`` of the source. A
network may stop as soon as the largest softmax probability of these scores reaches a confidence; else it
answers after its last step as ever. The answer of a row is then that of the step in which it stops, and its
operations are those of the spikes up to that step.

The criterion, :func:`confident`, is one function, for whoever shows a network rows or streams. It is that of
Li et al., "SEENN: Towards Temporal Spiking Early-Exit Neural Networks", NeurIPS 2023, without the training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.analysis.answers import after_every_step
from snnc.analysis.costs import unary
from snnc.analysis.node_costs import fan_outs
from snnc.errors import UsageError
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.neuron import Schedule
from snnc.ir.operations import check_known
from snnc.ir.snn import Function, IntegrateFire, SnnGraph
from snnc.metrics.shares import Share
from snnc.simulation.protocol import RecordOptions, Simulator

ROWS = 64
"""Rows whose spikes in every step are held at once."""

QUANTILES = (0.5, 0.9, 0.99)


def confident(scores: FloatArray, confidence: float) -> NDArray[np.bool_]:
    """Whether the largest softmax probability of scores, (..., classes), reaches a confidence, (...)."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    found: NDArray[np.bool_] = 1 / np.exp(shifted).sum(axis=-1) >= confidence
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Exits:
    """When rows stopped, and what they answered.

    Attributes:
        confidence: from which on they stop.
        latency: (rows,), steps until the answer.
        answers: (rows,), the classes.
        full: (rows,), the classes after the last step.
        synops: (rows,), operations that the spikes caused until then.
        values: (rows, classes) float32, the scores that are answered, in units of the source network.
        steps: T + K.
        labels: (rows,) classes, or ``None``.
    """

    confidence: float
    latency: IntArray
    answers: IntArray
    full: IntArray
    synops: FloatArray
    values: FloatArray
    steps: int
    labels: IntArray | None = None

    @property
    def top1(self) -> Share | None:
        """Right answers, where labels are known."""
        if self.labels is None:
            return None
        return Share(int((self.answers == self.labels).sum()), len(self.labels))

    @property
    def agreement(self) -> Share:
        """Answers that are those after the last step."""
        return Share(int((self.answers == self.full).sum()), len(self.full))

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form: latency and operations as distributions."""
        found: dict[str, Any] = {
            "confidence": self.confidence,
            "n": len(self.latency),
            "agreement_with_all_steps": self.agreement.value,
            "latency_steps": {
                **_distribution(self.latency),
                "rows_by_step": np.bincount(self.latency, minlength=self.steps + 1)[1:].tolist(),
            },
            "synops": _distribution(self.synops),
        }
        if (top1 := self.top1) is not None:
            found |= {"top1": top1.value, "top1_ci95": list(top1.interval)}
        return found


def _distribution(values: NumberArray) -> dict[str, float]:
    """Return the mean and some quantiles, each a value that occurs."""
    found = {"mean": float(values.mean())}
    for share in QUANTILES:
        found[f"p{100 * share:g}"] = float(np.quantile(values, share, method="higher"))
    return found


def check_confidence(confidence: float) -> None:
    """Refuse what is no confidence.

    Raises:
        UsageError: it does not lie between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise UsageError(f"--exit-confidence {confidence:g} must lie between 0 and 1, neither included")


def early_exits(
    graph: SnnGraph,
    encode: Callable[[Any], Any],
    x: Any,
    confidence: float,
    simulator: Simulator,
    *,
    labels: IntArray | None = None,
    timesteps: int | None = None,
) -> Exits:
    """Run a classifier until its answers are sure.

    Args:
        graph: the network.
        encode: quantises rows for it.
        x: (rows, ...).
        confidence: between 0 and 1.
        simulator: one that records spike trains.
        labels: (rows,) classes.
        timesteps: T; the calibrated value by default.

    Raises:
        UsageError: the network has no steps to save, or no class scores.
    """
    check_confidence(confidence)
    check_known(graph)
    T = graph.timesteps if timesteps is None else timesteps
    _require_classes_over_time(graph, T)
    parts = [
        _until(graph, encode(x[start : start + ROWS]), T, confidence, simulator)
        for start in range(0, len(x), ROWS)
    ]
    latency, answers, full, synops, values = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Exits(confidence, latency, answers, full, synops, values, T + graph.settle_steps, labels)


def _require_classes_over_time(graph: SnnGraph, timesteps: int) -> None:
    """Refuse networks that cannot stop early."""
    if len(graph.readouts) != 1 or len(graph.readout.shape) != 1 or graph.readout.channels == 1:
        reason = "its output is no vector of class scores"
    elif graph.readout.leaky:
        reason = "its read-out forgets, so that its scores belong to the last step"
    elif graph.schedule is Schedule.LAYERWISE:
        reason = "in the layerwise schedule there is no answer before the last step"
    elif timesteps + graph.settle_steps == 1:
        reason = "it runs for one step, and none can be saved"
    elif any(isinstance(node, Function) for node in graph):
        reason = "functions of counts are evaluated in every step, and are not counted step by step"
    else:
        return
    raise UsageError(f"{graph.name} cannot stop early: {reason}; leave out --exit-confidence")


def _until(
    graph: SnnGraph, q: Any, timesteps: int, confidence: float, simulator: Simulator
) -> tuple[IntArray, IntArray, IntArray, FloatArray, FloatArray]:
    """Return latency, answer, last answer, operations and scores of encoded rows."""
    readout = graph.readout
    populations = graph.of_type(IntegrateFire)
    names = [node.name for node in populations]
    trace = simulator.run(graph, q, timesteps, RecordOptions(trains=(*names, *dict.fromkeys(readout.inputs))))
    steps = np.arange(1, timesteps + graph.settle_steps + 1)
    driven = np.minimum(steps, timesteps)  # neither bias nor input arrives while it settles
    (outputs,) = trace.outputs.values()
    y = after_every_step(readout, trace, outputs.dtype)
    scores = np.stack([readout.real(each, int(t)) for each, t in zip(y, driven, strict=True)])
    sure = confident(scores, confidence)
    sure[-1] = True
    last = sure.argmax(axis=0)
    rows = np.arange(len(last))
    reach = fan_outs(graph)
    spent = np.zeros(sure.shape)
    for node in populations:
        train = np.abs(trace.trains[node.name].astype(np.int64))
        sent = train if unary(node.neuron) else train != 0
        axes = tuple(range(2, sent.ndim))
        spent += (sent * reach[node.name]).sum(axis=axes)
    answers = scores.argmax(axis=-1)
    values = np.stack([readout.decoded(each, int(t)) for each, t in zip(y, driven, strict=True)])
    synops = np.cumsum(spent, axis=0)[last, rows]
    return last + 1, answers[last, rows], answers[-1], synops, values[last, rows]
