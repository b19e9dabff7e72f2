"""Two questions about the input that no layer's error answers: its range, and the order of its colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc.ann_session import AnnSession
from snnc.ir.ann import AnnGraph
from snnc.ir.graph import FloatArray, IntArray
from snnc.ir.snn import Encode, SnnGraph
from snnc.report.fed import FedSource

COLOURS = 3
PROBED_ROWS = 256
"""Rows on which the other order of the colours is tried."""


@dataclass(frozen=True, slots=True)
class InputUse:
    """How rows fill the range of the quantised input.

    Attributes:
        limited: share of values at the largest magnitude that the code holds.
        largest: the largest magnitude seen, relative to that.
    """

    limited: float
    largest: float


@dataclass(frozen=True, slots=True)
class ChannelOrder:
    """What the source network makes of the rows, as they are and with their colours reversed.

    Attributes:
        score: accuracy, or mean confidence where there are no labels, as they are.
        reversed_score: the same with the colours reversed.
        rows: how many were tried.
    """

    score: float
    reversed_score: float
    rows: int


class Probe:
    """Gathers the answers, chunk by chunk."""

    def __init__(self, graph: SnnGraph, source: AnnGraph, fed: FedSource, logits: str) -> None:
        """Prepare.

        Args:
            graph: the spiking network.
            source: the source network.
            fed: the same, driven by spikes.
            logits: name of the class scores.
        """
        self._encoder = graph.of_type(Encode)[0]
        self._logits = logits
        self._session = None
        if self._encoder.channels == COLOURS and len(self._encoder.shape) == COLOURS:
            self._session = AnnSession(source, [logits], 1)
        self._at_limit = self._values = self._rows = 0
        self._largest = 0
        self._score = self._reversed = 0.0

    def add(self, rows: FloatArray, q: IntArray, labels: IntArray | None, logits: FloatArray) -> None:
        """Add a chunk: the rows, (batch, *input shape), their code, labels and class scores."""
        magnitude = np.abs(q)
        self._at_limit += int(np.count_nonzero(magnitude == self._encoder.limit))
        self._values += q.size
        self._largest = max(self._largest, int(magnitude.max()))
        if self._session is None or self._rows >= PROBED_ROWS:
            return
        other = self._session.run(np.ascontiguousarray(rows[:, ::-1]))[self._logits].reshape(logits.shape)
        self._score += _score(logits, labels)
        self._reversed += _score(other, labels)
        self._rows += len(rows)

    def input_use(self) -> InputUse:
        """Return how the range is filled."""
        return InputUse(self._at_limit / self._values, self._largest / self._encoder.limit)

    def channel_order(self) -> ChannelOrder | None:
        """Return both scores, or ``None`` where the input has not three colours."""
        if not self._rows:
            return None
        return ChannelOrder(self._score / self._rows, self._reversed / self._rows, self._rows)


def _score(logits: FloatArray, labels: IntArray | None) -> float:
    """Return the number of right answers, or the sum of the confidences."""
    if labels is not None:
        return float((logits.argmax(axis=1) == labels).sum())
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return float((shifted.max(axis=1) / shifted.sum(axis=1)).sum())
