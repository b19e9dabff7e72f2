"""A rough estimate of the time of a conversion on one core, to distinguish seconds from hours.

Fitted to conversions of eight networks of 0.01 to 41 M multiply-accumulates on one core with AVX-512, which
it meets within a factor of two: layers are simulated, fitted by least squares, and given thresholds; where
the values of all rows do not fit into memory, the source network runs once more for each part of them.
"""

from __future__ import annotations

import math

from snnc.analysis.costs import macs_of_ann
from snnc.analysis.memory import positions
from snnc.ir.ann import Activation, AnnGraph, Convolution, Linear
from snnc.source.calibration import CACHE_BYTES

START = 3.0
"""Seconds until libraries and kernels are loaded."""

SIMULATED = 0.9e-10
"""Seconds for each multiply-accumulate of the source, step and row."""

FITTED = 0.1e-10
"""Seconds for each product in the normal equations."""

SAMPLED = 0.6e-6
"""Seconds for each value that a threshold is chosen by."""

SAMPLES = 20_000
"""Values of a channel at most, as in the pass `clip-activations`."""

RUN = 2e-10
"""Seconds for each multiply-accumulate of the source network itself."""


def seconds(graph: AnnGraph, rows: int, timesteps: int, *, fitted: bool) -> float:
    """Return the seconds that a conversion takes on one core, about.

    Args:
        graph: the source network.
        rows: calibration rows.
        timesteps: T.
        fitted: whether a pass fits layers to spikes.
    """
    macs = sum(macs_of_ann(graph).values())
    size = {node.name: math.prod(node.shape) for node in graph}
    rectifiers = [node for node in graph if isinstance(node, Activation)]
    found = START + RUN * rows * macs
    found += SAMPLED * sum(min(rows * size[node.name], SAMPLES * node.channels) for node in rectifiers)
    if not fitted:
        return found
    found += SIMULATED * rows * timesteps * macs
    for layer in graph.of_type(Convolution) + graph.of_type(Linear):
        outputs, features = layer.weight.shape[0], math.prod(layer.weight.shape[1:])
        places = positions(layer, size[layer.name], rows)
        found += FITTED * (places * features * (features + outputs) + features**3)
    parts = 4 * rows * sum(size[node.name] for node in rectifiers) / CACHE_BYTES
    return found + parts * RUN * rows * macs / 2


def lasting(time: float) -> str:
    """Return a time in words, as exactly as an estimate is."""
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if time >= 2 * length:
            return f"{time / length:.0f} {unit}"
    return f"{time:.0f} s"
