"""Round the weights of a layer on the spikes that really arrive at it: see :mod:`snnc.numerics.rounding`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from snnc.ir.graph import FloatArray, IntArray
from snnc.ir.snn import Convolution, Linear, SnnGraph, Weighted
from snnc.numerics.quantisation import Rounded
from snnc.numerics.regression import Float64Array
from snnc.numerics.rounding import round_in_turn
from snnc.simulation.arrays import windows
from snnc.simulation.partial import PartialSimulation

POSITIONS = 2000
"""Positions at which the counts are looked at, beside those for each feature."""

POSITIONS_PER_FEATURE = 4

MOST_FEATURES = 6000
"""Weights of one output beyond which they are rounded to the nearest: their covariance would be too large."""

VALUES = 1 << 24
"""Counts that are gathered at once."""


@dataclass(frozen=True, slots=True)
class SpikeRounding:
    """Rounds weights to the integers whose currents have the least error on some rows.

    Attributes:
        prefix: the spikes that arrive.
        rows: (n,), numbers of the rows to look at.
        seed: of the choice of positions.
    """

    prefix: PartialSimulation
    rows: IntArray
    seed: int

    def __call__(self, graph: SnnGraph, synapse: Weighted, scale: FloatArray, limit: int) -> Rounded | None:
        """Return the integers of a synapse, and what its errors leave on average; ``None`` for the nearest.

        Args:
            graph: the network.
            synapse: float32 weights.
            scale: (channels,) or (1,), what one integer stands for.
            limit: the largest magnitude of an integer.
        """
        if not isinstance(synapse, Linear | Convolution):
            return None
        features = math.prod(synapse.weight.shape[1:])
        if features > MOST_FEATURES:
            return None
        groups = synapse.groups if isinstance(synapse, Convolution) else 1
        total, gram, count = np.zeros((groups, features)), np.zeros((groups, features, features)), 0
        with threadpool_limits(1):
            for part in self._counts(graph, synapse, groups, features):  # integers: exact in any order
                total += part.sum(axis=1)
                gram += part.transpose(0, 2, 1) @ part
                count += part.shape[1]
        mean = total / count
        weight = synapse.weight.astype(np.float64).reshape(groups, -1, features)
        units = np.broadcast_to(scale.astype(np.float64), len(synapse.weight)).reshape(groups, -1, 1)
        found = np.empty(weight.shape, np.int32)
        for group in range(groups):
            covariance = gram[group] / count - np.outer(mean[group], mean[group])
            found[group] = round_in_turn(weight[group] / units[group], covariance, limit)
        left = np.einsum("gof,gf->go", found * units - weight, mean) / graph.timesteps
        return Rounded(found.reshape(synapse.weight.shape).astype(np.int8), -left.reshape(-1))

    def _counts(
        self, graph: SnnGraph, synapse: Linear | Convolution, groups: int, features: int
    ) -> Iterator[Float64Array]:
        """Yield the counts that some output positions read, (groups, positions, features)."""
        size = math.prod(synapse.shape[1:]) if isinstance(synapse, Convolution) else 1
        wanted = POSITIONS + POSITIONS_PER_FEATURE * features
        each = min(size, max(1, -(-wanted // len(self.rows))))
        step = max(1, VALUES // (each * features * groups))
        random = np.random.default_rng(self.seed)
        for chunk in self.prefix.chunks:
            rows = self.rows[(self.rows >= chunk.start) & (self.rows < chunk.stop)] - chunk.start
            if not len(rows):
                continue
            counts = self.prefix.counts(graph, synapse.inputs[0], chunk)
            for start in range(0, len(rows), step):
                at = rows[start : start + step]
                if isinstance(synapse, Linear):
                    yield counts[at].reshape(1, len(at), features).astype(np.float64)
                    continue
                chosen = np.stack([np.sort(random.permutation(size)[:each]) for _ in at])
                views = windows(counts, synapse.window, 0)
                down, right = np.unravel_index(chosen, synapse.shape[1:])
                read = views[at[:, None], :, down, right].reshape(len(at) * each, groups, features)
                yield read.transpose(1, 0, 2).astype(np.float64)
