"""Calibration rows and the source network's activations on them. No labels are used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import ClassVar

import numpy as np

from snnc.data import normalisation
from snnc.diagnostics import FEW_ROWS, Diagnostic
from snnc.errors import InputError, NonFiniteError
from snnc.ir.ann import AnnGraph, AnnNode, BatchNormalisation, MaxPool, Relu, Softmax
from snnc.ir.batch import Batch, Rows, joined, rows_of
from snnc.ir.blocks import in_blocks
from snnc.ir.graph import FloatArray, NumberArray
from snnc.metrics.task import Task
from snnc.numerics.spill import RowArray
from snnc.scale.workers import Workers
from snnc.source.ann_session import AnnSession

ENOUGH_ROWS = 100
SAMPLED_ROWS = 8192
"""Rows of which values are kept at least, where there are as many; of twice as many every second is one."""

CACHE_BYTES = 256 * 2**20
LARGEST_ANSWERS = 16 * 2**20
"""Bytes of answers up to which they are kept: several passes ask for them."""

LARGEST_ACTIVATION = 1e18
"""Squares of larger ones overflow float32, in which errors are summed."""


@dataclass(frozen=True, slots=True)
class ActivationSample:
    """Activations of one node, a sample of positions per channel.

    Attributes:
        values: (channels, samples) float32.
        maximum: (channels,) float32, over all rows and positions.
        minimum: (channels,) float32, over all rows and positions.
        rows: how many rows the samples are from; a channel has as many of each, row by row.
    """

    values: FloatArray
    maximum: FloatArray
    minimum: FloatArray
    rows: int = 1

    def raised(self, shift: FloatArray | None) -> ActivationSample:
        """Return what spikes must carry of it: the values with a rectifier's shift, (channels,), if any."""
        if shift is None:
            return self
        # What the shift was measured on left nothing below zero; other rows may.
        low, high = (np.maximum(limit + shift, 0) for limit in (self.minimum, self.maximum))
        return replace(self, values=self.values + shift[:, None], maximum=high, minimum=low)


def require_squares(graph: AnnGraph, name: str, *values: FloatArray) -> None:
    """Refuse values of a node of the source network that float32 cannot square: errors are squared.

    Raises:
        NonFiniteError: naming the node.
    """
    largest = float(np.max([end for each in values for end in (each.max(), -each.min())]))
    if not largest <= LARGEST_ACTIVATION:  # NaN is not, either
        raise NonFiniteError(
            f"the source network reaches {largest:.3g} at {graph[name].origin or name!r} on the "
            f"calibration rows, more than float32 can square ({LARGEST_ACTIVATION:.0e}); check the "
            "preprocessing and the weights"
        )


@dataclass(eq=False)
class Calibration:
    """Unlabelled rows as the network takes them.

    Attributes:
        rows: (n, *input shape) float32, channels first; of several inputs a batch.
        threads: how many rows are worked on at once; no result depends on it.
        workers: who runs the source network on many rows; no result depends on them, either.

    Class attributes:
        is_real: whether activations are those of the network, of which levels are worth choosing.
    """

    is_real: ClassVar[bool] = True

    rows: Rows
    threads: int | None = None
    workers: Workers | None = None
    _cache: dict[str, RowArray] = field(default_factory=dict, repr=False)
    _cached: AnnGraph | None = field(default=None, repr=False)
    _answers: tuple[AnnGraph, Rows] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse rows that are empty or not finite."""
        if len(self.rows) == 0:
            raise InputError("the calibration data hold no rows; 500 to 1,000 training rows are enough")
        arrays = self._arrays.values()
        if not all(np.isfinite(array[rows]).all() for array in arrays for rows in in_blocks(array)):
            raise NonFiniteError("the calibration data hold NaN or infinity; check the preprocessing")

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    @cached_property
    def sha256(self) -> str:
        """Hash of the rows, for the artefact's record."""
        digest = hashlib.sha256()
        for name, array in self._arrays.items():
            digest.update(name.encode())  # empty where there is one input
            for rows in in_blocks(array):
                digest.update(np.ascontiguousarray(array[rows]).data)
        return digest.hexdigest()

    @property
    def _arrays(self) -> Mapping[str, NumberArray]:
        return self.rows.arrays if isinstance(self.rows, Batch) else {"": self.rows}

    def subset(self, rows: slice) -> Calibration:
        """Return some of the rows as calibration data of their own; these themselves if they are all."""
        if rows.indices(len(self)) == (0, len(self), 1):
            return self
        return Calibration(self.rows[rows], self.threads, self.workers)

    def require_finite(self, graph: AnnGraph, node: AnnNode, values: FloatArray) -> None:
        """Refuse values of a function that is not defined for all arguments that these rows give it.

        Args:
            graph: the network.
            node: the function.
            values: what it gives.

        Raises:
            NonFiniteError: some are not finite, or too large to square in float32.
        """
        if not np.isfinite(values).all():
            raise NonFiniteError(
                f"{node.origin or node.name!r} gives NaN or infinity on the calibration rows, as a logarithm "
                "does at and below zero: give rows for which the network is defined, and check the "
                "preprocessing"
            )
        require_squares(graph, node.name, values)

    def values(self, graph: AnnGraph, name: str, ahead: Sequence[str] = ()) -> FloatArray:
        """Return a node's values on all rows, (n, *shape) float32, as the source network computes them.

        See :meth:`stored` for the arguments, and where rows may be many.
        """
        return np.asarray(self.stored(graph, name, ahead)[:])

    def stored(self, graph: AnnGraph, name: str, ahead: Sequence[str] = ()) -> RowArray:
        """Return a node's values on all rows, on disk where they are many: slices of rows are to be taken.

        Args:
            graph: the network; clips of the conversion's own are left out.
            name: the node.
            ahead: nodes that will be asked for next; as many as fit the memory budget are computed
                in the same run.

        Raises:
            NonFiniteError: values are not finite, or too large to square in float32.
        """
        if self._cached is not graph:
            self._cache.clear()
            self._cached = graph
        if name not in self._cache:
            self._cache.clear()
            names = [name]
            used = self._bytes(graph, name)
            for other in ahead:
                used += self._bytes(graph, other)
                if used > CACHE_BYTES:
                    break
                if other not in names:
                    names.append(other)
            session = AnnSession(graph.without_thresholds(), names, self.threads, workers=self.workers)
            self._cache.update(session.stored(self.rows, partial(require_squares, graph)))
        return self._cache[name]

    def _bytes(self, graph: AnnGraph, name: str) -> int:
        return 4 * len(self.rows) * int(np.prod(graph[name].shape))

    def samples(
        self, graph: AnnGraph, names: Sequence[str], *, per_channel: int, seed: int
    ) -> dict[str, ActivationSample]:
        """Sample the values of several nodes in one run of the source network.

        Args:
            graph: the network.
            names: the nodes.
            per_channel: about how many values to keep per channel.
            seed: of the choice of positions.

        Raises:
            NonFiniteError: values are not finite, or too large to square in float32.
        """
        random = np.random.default_rng(seed)
        # What is kept does not grow with the number of rows.
        chosen = np.arange(0, len(self.rows), max(1, len(self.rows) // SAMPLED_ROWS))
        positions: dict[str, np.ndarray] = {}
        for name in names:
            size = int(np.prod(graph[name].shape[1:]))
            count = min(size, max(1, -(-per_channel // len(self.rows))))
            positions[name] = np.stack([random.permutation(size)[:count] for _ in chosen])
        kept: dict[str, list[FloatArray]] = {name: [] for name in names}
        highest: dict[str, FloatArray] = {}
        lowest: dict[str, FloatArray] = {}
        session = AnnSession(graph.without_thresholds(), names, self.threads, workers=self.workers)
        for part in session.sampled(self.rows, chosen, positions):
            for name, (found, high, low) in part.items():
                kept[name].append(found)
                highest[name] = np.maximum(highest[name], high) if name in highest else high
                lowest[name] = np.minimum(lowest[name], low) if name in lowest else low
        for name in names:
            require_squares(graph, name, highest[name], lowest[name])
        return {
            name: ActivationSample(
                np.concatenate(kept[name]).transpose(1, 0, 2).reshape(graph[name].channels, -1),
                highest[name],
                lowest[name],
                len(chosen),
            )
            for name in names
        }

    def warnings(self, graph: AnnGraph, task: Task | None = None) -> tuple[Diagnostic, ...]:
        """Say what looks wrong with these rows for this network.

        Args:
            graph: the network.
            task: what its outputs are; ``None`` where that is not evident.

        Raises:
            NonFiniteError: its answers are not finite, or too large to square in float32.
        """
        found = []
        if len(self.rows) < ENOUGH_ROWS:
            found.append(
                Diagnostic(
                    FEW_ROWS,
                    f"only {len(self.rows)} calibration row{'s' if len(self.rows) > 1 else ''}; "
                    "thresholds will be noisy",
                    help="give 500 to 1,000 training rows",
                )
            )
        if isinstance(self.rows, Batch):
            return tuple(found)  # which of several inputs is strange, no answer tells
        if len(graph.outputs) == 1 and len(graph[graph.logits].shape) == 1:
            if isinstance(graph[graph.output], Softmax):
                task = task or Task.CLASSES
            scores = self._scores(graph)
            require_squares(graph, graph.logits, *map(scores, normalisation.probed(self.rows)))
            misread = normalisation.judge(scores, self.rows, task=task)
            if misread is not None:
                return (*found, misread.diagnostic())
        if (strange := self._against_batch_normalisation(graph)) is not None:
            found.append(strange)
        return tuple(found)

    def _against_batch_normalisation(self, graph: AnnGraph) -> Diagnostic | None:
        """Hold the rows against what the first batch normalisation remembers of the training rows."""
        for node in graph.of_type(BatchNormalisation):
            before = graph.ancestors(node.inputs, frozenset())
            if not any(isinstance(graph[name], Relu | MaxPool) for name in before):
                name = node.inputs[0]
                session = AnnSession(graph, [name], self.threads)
                rows = normalisation.probed(rows_of(self.rows, graph.input.name))
                values = np.concatenate([session.run(some)[name] for some in rows])
                return normalisation.against_running(node.name, values, node.mean, node.variance)
        return None

    def logits(self, graph: AnnGraph) -> Rows:
        """Return the source network's answers before a final softmax, (n, *shape) float32 per output."""
        if self._answers is not None and self._answers[0] is graph:
            return self._answers[1]
        answers = graph.answers
        names = list(dict.fromkeys(answers.values()))
        session = AnnSession(graph.without_thresholds(), names, self.threads, workers=self.workers)
        values = session.run(self.rows)
        found = joined({name: values[node] for name, node in answers.items()})
        if sum(value.nbytes for value in values.values()) <= LARGEST_ANSWERS:
            self._answers = graph, found
        return found

    def _scores(self, graph: AnnGraph) -> Callable[[FloatArray], FloatArray]:
        name = graph.logits
        session = AnnSession(graph.without_thresholds(), [name], self.threads)

        def run(rows: FloatArray) -> FloatArray:
            return session.run(rows)[name].reshape(len(rows), -1)

        return run
