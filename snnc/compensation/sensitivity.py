"""The sensitivity of the source network's answers to the rounding of each rectifier alone.

One rectifier at a time is rounded to the levels that its spikes would carry, and everything else is
unchanged; the error of the answers, for class scores their Kullback-Leibler divergence from the source
network's, is the cost of its few levels. Additional levels go first to the rectifiers that gain most per
operation.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from snnc.analysis.costs import macs_of_ann
from snnc.errors import InternalError
from snnc.ir.ann import Activation, AnnGraph, AnnNode, Concat, Convolution, Input, Levelled, Linear, Relu
from snnc.ir.batch import joined
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray
from snnc.numerics.divergence import AnswerError, AnswersError
from snnc.numerics.thresholds import quantise
from snnc.source.ann_session import AnnSession
from snnc.source.calibration import Calibration

ROWS = 256
"""Rows on which sensitivities are measured."""


def sensitivities(
    clipped: AnnGraph,
    calibration: Calibration,
    levels: Mapping[str, int],
    error: AnswerError | AnswersError = AnswerError.DIVERGENCE,
) -> dict[str, float]:
    """Return for each rectifier the error of the answers if it alone is rounded.

    Args:
        clipped: the network with the thresholds, and floors if any, that go with ``levels``.
        calibration: rows; the first :data:`ROWS` are used.
        levels: of each rectifier, over all steps.
        error: of the answers.
    """
    graph = clipped.without_thresholds()
    rows = calibration.subset(slice(0, ROWS))
    targets, answers, names = rows.logits(graph), graph.answers, list(levels)
    found = {}
    # One session at a time: each holds all weights behind its rectifier.
    for index, name in enumerate(names):
        rounded = _rounded(clipped[name], rows.values(clipped, name, names[index + 1 :]), levels[name])
        session = AnnSession(graph, list(dict.fromkeys(answers.values())), rows.threads, fed=[name])
        values = session.run_fed({name: rounded}, rows.rows)
        moved = {output: values[node] for output, node in answers.items()}
        found[name] = error.of(targets, joined(moved))
    return found


def _rounded(node: AnnNode, values: FloatArray, levels: int) -> FloatArray:
    """Return the values of a clipped activation, (rows, *shape), rounded to its levels."""
    if isinstance(node, Levelled) and node.step is not None:
        step = per_channel(node.step, values.ndim - 1)
        return (np.clip(np.rint(values / step), node.lowest, node.highest) * step).astype(np.float32)
    if not isinstance(node, Relu) or node.threshold is None:
        raise InternalError(f"{node.name!r} is no clipped activation")
    channels = values.shape[1]
    rank = values.ndim - 1
    floor = np.zeros(channels, np.float32) if node.floor is None else node.floor
    shift = np.zeros(channels, np.float32) if node.shift is None else node.shift
    reach = np.where(node.threshold > floor, node.threshold - floor, np.float32(1))
    flat = (values + per_channel(shift - floor, rank)).swapaxes(0, 1).reshape(channels, -1)
    counts = quantise(flat, reach, levels).reshape(channels, len(values), *values.shape[2:]).swapaxes(0, 1)
    decoded = counts * per_channel(reach / np.float32(levels), rank) + per_channel(floor - shift, rank)
    return decoded.astype(np.float32)


def operations(graph: AnnGraph) -> dict[str, int]:
    """Return the multiply-accumulates of the source network that read each activation's values."""
    macs = macs_of_ann(graph)
    found = {node.name: 0.0 for node in graph if isinstance(node, Activation)}
    for node in graph.of_type(Convolution) + graph.of_type(Linear):
        for name, share in _read(graph, node.inputs[0]).items():
            if name in found:
                found[name] += share * macs[node.name]
    return {name: round(operations) for name, operations in found.items()}


def _read(graph: AnnGraph, name: str) -> dict[str, float]:
    """Return the rectifiers, or the input, that a value holds without weights, and their shares of it."""
    node = graph[name]
    if isinstance(node, Activation | Input | Convolution | Linear):
        return {name: 1.0}
    found: dict[str, float] = {}
    for source in node.inputs:
        part = graph[source].channels / node.channels if isinstance(node, Concat) else 1.0
        for behind, share in _read(graph, source).items():
            found[behind] = min(1.0, found.get(behind, 0.0) + part * share)
    return found


def most_sensitive(gained: Mapping[str, float], cost: Mapping[str, int], share: float) -> tuple[str, ...]:
    """Return the rectifiers that gain most for their operations, within a share of these.

    Args:
        gained: what more levels would gain, by rectifier.
        cost: the operations that read it; one that nothing reads is not chosen.
        share: of the operations that read rectifiers, what the chosen ones may feed, 0 to 1.
    """
    left = share * sum(cost.values())
    chosen = []
    for name in sorted(gained, key=lambda name: -gained[name] / max(cost[name], 1)):
        if 0 < cost[name] <= left:
            chosen.append(name)
            left -= cost[name]
    return tuple(chosen)
