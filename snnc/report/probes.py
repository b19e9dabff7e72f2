"""Questions about the input that no layer's error answers: its range, its normalisation, its colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc.ir.ann import AnnGraph
from snnc.ir.batch import Rows, rows_of
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.metrics import decisions
from snnc.report.fed import FedSource
from snnc.source.ann_session import AnnSession
from snnc.source.source_map import raised_by

COLOURS = 3
BEYOND = 1.02
"""A value counts as beyond the range from here on: what only rounds down to it does not."""

PROBED_ROWS = 256
"""Rows on which the other order of the colours is tried."""


@dataclass(frozen=True, slots=True)
class InputUse:
    """How rows fill the range of the quantised input.

    Attributes:
        limited: share of values beyond the largest magnitude that the code holds.
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
        first_layer: squared difference between what the first spiking layer received and what the source's
            weights make of the rows, relative to the latter's square.
        reversed_first_layer: the same if those weights get the rows with their colours reversed.
    """

    score: float
    reversed_score: float
    rows: int
    first_layer: float
    reversed_first_layer: float


class Probe:
    """Gathers the answers, chunk by chunk."""

    def __init__(self, graph: SnnGraph, source: AnnGraph, fed: FedSource, logits: str) -> None:
        """Prepare.

        Args:
            graph: the spiking network.
            source: the source network.
            fed: the same, driven by spikes.
            logits: name of the class scores, of the first output.
        """
        self._encoders = graph.encoders
        self._logits = logits
        self._session = None
        first = self._encoders[0]
        if len(self._encoders) == 1 and first.channels == COLOURS and len(first.shape) == COLOURS:
            self._session = AnnSession(source, [logits], 1)
        self._fed = fed
        self._beyond = self._values = self._rows = 0
        self._largest = 0.0
        self._score = self._reversed = 0.0
        self._first = np.zeros(3)
        self._before = 0

    def begin(self, before: int) -> None:
        """Begin anew with a chunk before which there are so many rows."""
        self._beyond = self._values = self._rows = 0
        self._largest = 0.0
        self._score = self._reversed = 0.0
        self._first = np.zeros(3)
        self._before = before

    def state(self) -> NumberArray:
        """Return what was added, to be joined to other probes; counts are exact in floats."""
        counted = (self._beyond, self._values, self._rows, self._largest, self._score, self._reversed)
        return np.array([*counted, *self._first])

    def join(self, state: NumberArray) -> None:
        """Add what was added to another probe of the same network."""
        beyond, values, rows, largest, score, turned, *first = state.tolist()
        self._beyond += int(beyond)
        self._values += int(values)
        self._rows += int(rows)
        self._largest = max(self._largest, largest)
        self._score += score
        self._reversed += turned
        self._first = self._first + first

    @property
    def _is_done(self) -> bool:
        return self._session is None or self._before + self._rows >= PROBED_ROWS

    def add_first(
        self, node: IntegrateFire, q: Rows, zhat: FloatArray, counted: dict[str, IntArray], timesteps: int
    ) -> None:
        """Add what a layer that reads the input received.

        Args:
            node: the population.
            q: (batch, *input shape), the code of the rows.
            zhat: (batch, *shape), its mean input; see :mod:`snnc.report.terms`.
            counted: spikes of every population.
            timesteps: T.
        """
        if self._is_done:
            return
        shift = raised_by(node, self._fed.rectifier(node.name))
        raised = 0.0 if shift is None else per_channel(shift, zhat.ndim - 1)
        straight, turned = (
            self._fed.run(code, counted, timesteps).before[node.name] + raised
            for code in (q, np.ascontiguousarray(q[:, ::-1]))
        )
        self._first += (
            np.square(zhat - straight).sum(),
            np.square(zhat - turned).sum(),
            np.square(straight).sum(dtype=np.float64),
        )

    def add(self, rows: Rows, labels: IntArray | None, logits: FloatArray) -> None:
        """Add a chunk: the rows, (batch, *input shape), their labels and class scores."""
        for encoder in self._encoders:
            values = rows_of(rows, encoder.name)
            rank = values.ndim - 1
            if encoder.gain is not None and encoder.offset is not None:
                values = values * per_channel(encoder.gain, rank) + per_channel(encoder.offset, rank)
            magnitude = np.abs(values) / (encoder.scale * encoder.limit)
            self._beyond += int(np.count_nonzero(magnitude > BEYOND))
            self._values += magnitude.size
            self._largest = max(self._largest, float(magnitude.max()))
        if self._session is None or self._is_done:
            return
        other = self._session.run(np.ascontiguousarray(rows[:, ::-1]))[self._logits].reshape(logits.shape)
        self._score += _score(logits, labels)
        self._reversed += _score(other, labels)
        self._rows += len(rows)

    def input_use(self) -> InputUse:
        """Return how the range is filled."""
        return InputUse(self._beyond / self._values, self._largest)

    def channel_order(self) -> ChannelOrder | None:
        """Return both scores, or ``None`` where the input has not three colours."""
        if not self._rows:
            return None
        straight, turned, power = self._first
        scale = power if power > 0 else 1.0
        return ChannelOrder(
            self._score / self._rows,
            self._reversed / self._rows,
            self._rows,
            float(straight / scale),
            float(turned / scale),
        )


def _score(logits: FloatArray, labels: IntArray | None) -> float:
    """Return the number of right answers, or the sum of the confidences."""
    if labels is not None:
        return float((decisions(logits) == labels).sum())
    if logits.shape[1] == 1:  # of a yes or no, the surer one
        return float(np.exp(-np.logaddexp(0, -np.abs(logits.astype(np.float64)))).sum())
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return float((shifted.max(axis=1) / shifted.sum(axis=1)).sum())
