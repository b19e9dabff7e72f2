"""Between which values a rectifier is represented: its floor and its threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc.compensation.reader_weights import squared_weights
from snnc.ir.ann import AnnGraph, Relu
from snnc.ir.graph import FloatArray
from snnc.numerics.thresholds import (
    HIGHEST_FLOOR,
    Method,
    mse_range,
    mse_threshold,
    percentile_threshold,
    reach_beyond,
)
from snnc.source.calibration import ActivationSample


@dataclass(frozen=True, slots=True)
class Limiter:
    """How floors and thresholds are found.

    Attributes:
        method: closed-form least squares, a percentile, or the range.
        per_layer: whether all channels share them.
        floored: whether floors may lie above zero.
        percentile: for that method.
    """

    method: Method
    per_layer: bool
    floored: bool
    percentile: float

    def limits(
        self, graph: AnnGraph, node: Relu, sample: ActivationSample, levels: int
    ) -> dict[str, FloatArray]:
        """Return threshold and, if any, floor of a rectifier, (channels,) each, by attribute.

        Args:
            graph: the network.
            node: the rectifier.
            sample: of its values.
            levels: that its spikes carry in all steps.
        """
        # What is raised for a maximum has its floor in the shift already.
        whole = node.shift is not None and graph.seen_as(node.name) != node.name
        floored = self.floored and not whole
        sample = sample.raised(node.shift)
        values, minimum, maximum = sample.values, sample.minimum, sample.maximum
        by_row = values.reshape(node.channels, sample.rows, -1)
        weights = squared_weights(graph, node.name)
        if self.per_layer:
            by_row, weights = by_row.transpose(1, 0, 2).reshape(1, sample.rows, -1), None
            values = values.reshape(1, -1)
            minimum, maximum = minimum.min(keepdims=True), maximum.max(keepdims=True)
        if self.method is Method.PERCENTILE:
            floor, threshold = (
                percentile_threshold(values, share) for share in (100 - self.percentile, self.percentile)
            )
        elif self.method is Method.MAXIMUM:
            floor, threshold = minimum, maximum
        else:
            found = mse_range(values, levels) if floored else (minimum, mse_threshold(values, levels))
            # A channel that the sample shows silent may still speak elsewhere in the rows.
            floor, threshold = found[0], np.where(found[1] > 0, found[1], maximum)
            threshold = reach_beyond(by_row, levels, weights).of(threshold).astype(np.float32)
        if node.ceiling is not None:
            threshold = np.minimum(threshold, node.ceiling)
        limits = {"threshold": threshold}
        if floored and floor.any():
            limits["floor"] = np.minimum(floor, HIGHEST_FLOOR * threshold)
        return {
            key: np.broadcast_to(values, (node.channels,)).astype(np.float32)
            for key, values in limits.items()
        }
