"""Fit the weights of one group to the spikes that really arrive at it.

The pre-activation ``z`` of the source network is regressed on the spike counts ``N_i`` of all
convolutional and dense synapses of the group together, main branch and shortcut alike::

    T z = sum_i w_i N_i + (fixed synapses) + T b

at sampled positions of the fitting rows. Identity branches and grouped convolutions keep their weights.

Least squares shrinks uncertain predictions towards their mean: the fitted current varies less than its
target by the factor ``rho = sd(fitted) / sd(target)``, per channel, so some levels are not used. Deviations
from the mean are therefore multiplied by ``rho^-spread``. With many levels ``rho`` is near 1, and the factor
has no effect.

A weight that is exactly zero is no synapse: it stays zero, and the others are fitted without it. A pruned
network therefore stays pruned. With a sparsity, weights are taken out first by the curvature of the same
equations (:mod:`snnc.numerics.pruning`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from snnc.ir.graph import FloatArray, IntArray
from snnc.ir.kinds import constant_nodes
from snnc.ir.snn import (
    ChannelWeight,
    Convolution,
    IntegrateFire,
    Linear,
    Readout,
    SnnGraph,
    SnnNode,
    Weighted,
)
from snnc.numerics.pruning import Sparsity, kept_weights
from snnc.numerics.quantisation import Group
from snnc.numerics.regression import Float64Array, Normal, narrow, normal_equations, ridge
from snnc.numerics.spill import RowArray
from snnc.scale.workers import Workers
from snnc.simulation.partial import PartialSimulation

POSITIONS = 60_000
"""Positions used in a regression, beside those that its number of features asks for."""

POSITIONS_PER_FEATURE = 40
"""Further positions for each feature."""

LARGEST_GAIN = 2.0
"""Of a fitted current: what varies less than half as much as it should is mostly noise."""

LEAST_PER_FEATURE = 2
"""Positions per feature below which nothing is fitted."""


@dataclass(frozen=True, slots=True)
class CannotFit:
    """Why the weights of a group stay as they are.

    Attributes:
        reason: for the user.
        needed: fitting rows that would be enough, where more would help.
    """

    reason: str
    needed: int | None = None


def refit(
    graph: SnnGraph,
    group: Group,
    prefix: PartialSimulation,
    z: RowArray,
    offsets: Mapping[str, FloatArray],
    rows: IntArray,
    strength: float,
    spread: float,
    seed: int,
    *,
    densify: bool = False,
    sparsity: Sparsity | None = None,
    thrift: int = 1,
    workers: Workers | None = None,
    threads: int = 1,
) -> SnnGraph | CannotFit | None:
    """Return the network with fitted float32 weights and bias in one group.

    Args:
        graph: the network; the group is not quantised yet, all before it is.
        group: what to fit.
        prefix: the spikes that arrive.
        z: (all rows, *shape), in memory or on disk, what the group's current should be, bias included.
        offsets: (channels,) by population, what its own bias holds beside that.
        rows: (fitting rows,), those of ``z`` and of the prefix to fit on.
        strength: of the ridge, relative to the power of the counts.
        spread: how much of the lost variation is given back: 0 for nothing, 1 for all.
        seed: of the choice of positions.
        densify: whether weights that are exactly zero may become others; else a pruned network stays pruned.
        sparsity: how many of the fitted weights stay; all of them by default.
        thrift: the positions are divided by it.
        workers: who multiplies, without a difference.
        threads: how many multiply where there are no workers, without a difference, either.

    Returns:
        The network; the reason where a fit fails; ``None`` where there is nothing to fit.
    """
    fitted, fixed = _fittable(graph, group)
    if not fitted:
        return None
    channels, size = z.shape[1], math.prod(z.shape[2:])
    features = sum(int(np.prod(s.weight.shape[1:])) for s in fitted) + 1
    wanted = (POSITIONS + POSITIONS_PER_FEATURE * features) // thrift
    places = _places(size, len(rows), wanted, seed)
    if places.size < LEAST_PER_FEATURE * features:
        need = -(-LEAST_PER_FEATURE * features // size)
        return CannotFit(f"{len(rows)} fitted rows are too few for {features} weights per output", need)
    first = graph[group.sinks[0]]
    y = _picked(prefix, rows, places, channels, lambda chunk: z[chunk])
    y *= graph.timesteps
    for synapse in fixed:
        if isinstance(synapse, ChannelWeight):
            current = scaled_counts(graph, synapse, prefix, rows, places)
        else:
            current = _picked(prefix, rows, places, channels, partial(prefix.current, graph, synapse.name))
        current *= first.inputs.count(synapse.name)
        y -= current
    columns = []
    for synapse in fitted:
        counts, times = _columns(graph, synapse, prefix, rows, places), first.inputs.count(synapse.name)
        columns.append(counts if times == 1 else counts.astype(np.int32) * times)
    start = [s.weight.reshape(channels, -1).T for s in fitted]
    bias = _bias(first) - offsets.get(first.name, 0)
    initial = np.concatenate([*start, graph.timesteps * bias[None]]).astype(np.float64)
    kept = None if densify else initial != 0
    if kept is not None:
        kept[-1] = True  # the bias is no synapse
    try:
        normal = normal_equations(columns, y, workers, threads)
        if sparsity is not None:
            free = np.ones(initial.shape, np.bool_) if kept is None else kept
            blocks = _neighbours(fitted, sparsity)
            kept = kept_weights(normal, initial, strength, free, sparsity, blocks)
            initial = np.where(kept, initial, 0)
        weights = ridge(normal, initial, strength, kept)
    except np.linalg.LinAlgError as error:
        return CannotFit(f"the least-squares system has no unique solution ({error})")
    if not isinstance(first, Readout):
        weights = spread_out(weights, normal, y, spread)
    return _put(graph, group, fitted, weights.astype(np.float32), offsets)


def _neighbours(fitted: list[Weighted], sparsity: Sparsity) -> IntArray:
    """Return which of the weights of an output read neighbouring channels, by number, (features,)."""
    found: list[IntArray] = []
    for synapse in fitted:
        blocks = sparsity.blocks(synapse.weight.shape[1], math.prod(synapse.weight.shape[2:]))
        found.append(blocks + (found[-1].max() + 1 if found else 0))
    return np.concatenate(found)


def spread_out(weights: Float64Array, normal: Normal, y: FloatArray, spread: float) -> Float64Array:
    """Multiply fitted currents about their means by ``rho^-spread``.

    Args:
        weights: (features, outputs), the bias last.
        normal: the equations that they were fitted to.
        y: (positions, outputs), the targets.
        spread: 0 to 1.
    """
    gram = normal.gram / normal.rows
    with threadpool_limits(1):
        mean = gram[-1] @ weights
        variance = np.einsum("fo,fo->o", weights, gram @ weights) - mean**2
    target = y.var(axis=0, dtype=np.float64)
    # Without variation there is nothing to spread.
    usable = (variance > 0) & (target > variance)
    rho = np.sqrt(np.where(usable, variance, 1) / np.where(usable, target, 1))
    gain = np.minimum(rho**-spread, LARGEST_GAIN)
    weights = weights * gain
    weights[-1] += mean * (1 - gain)
    return weights


def _fittable(graph: SnnGraph, group: Group) -> tuple[list[Weighted], list[SnnNode]]:
    """Split the synapses of a group into those to fit and those that stay.

    The analogue first layer has no spikes to fit to. A current that is pooled on its way is not fitted,
    nor is anything beside it; nor is one that some of the group's sinks add more often than others.
    """
    constant = constant_nodes(graph)
    sums = [sorted(graph[sink].inputs) for sink in group.sinks]
    members = [graph[name] for name in group.synapses]
    if any(read != sums[0] for read in sums) or any(node.name not in sums[0] for node in members):
        return [], members
    fitted: list[Weighted] = [
        node
        for node in members
        if (isinstance(node, Linear) or (isinstance(node, Convolution) and node.groups == 1))
        and node.name not in constant
    ]
    return fitted, [node for node in members if node not in fitted]


def _places(size: int, rows: int, wanted: int, seed: int) -> IntArray:
    """Choose output positions in each row, (rows, positions)."""
    count = min(size, max(1, -(-wanted // rows)))
    random = np.random.default_rng(seed)
    return np.stack([np.sort(random.permutation(size)[:count]) for _ in range(rows)])


def _picked(
    prefix: PartialSimulation,
    rows: IntArray,
    places: IntArray,
    channels: int,
    values: Callable[[slice], FloatArray],
) -> FloatArray:
    """Return the values at the chosen positions, (positions, channels), taken from a chunk at a time."""
    found = np.empty((*places.shape, channels), np.float32)
    for chunk, inside in _inside(prefix, rows):
        part = values(chunk)
        flat = part.reshape(len(part), channels, -1).transpose(0, 2, 1)
        found[inside] = flat[rows[inside][:, None] - chunk.start, places[inside]]
    return found.reshape(-1, channels)


def _inside(prefix: PartialSimulation, rows: IntArray) -> Iterator[tuple[slice, slice]]:
    """Yield the chunks that hold some of the rows, which are in order, and where these stand among them."""
    for chunk in prefix.chunks:
        first, last = np.searchsorted(rows, (chunk.start, chunk.stop))
        if first < last:
            yield chunk, slice(int(first), int(last))


def scaled_counts(
    graph: SnnGraph, synapse: ChannelWeight, prefix: PartialSimulation, rows: IntArray, places: IntArray
) -> FloatArray:
    """Return the current of an identity branch at chosen positions, summed over all steps, float32.

    Args:
        graph: the network; the branch is not quantised yet.
        synapse: the branch.
        prefix: the spikes that arrive.
        rows: (n,), numbers of the rows to look at, in order.
        places: (n, positions) of each row.

    Returns:
        (n * positions, channels); only what is read is multiplied.
    """
    found = np.empty((*places.shape, synapse.channels), np.float32)
    for chunk, inside in _inside(prefix, rows):
        train = prefix.spikes(graph, synapse.inputs[0], chunk)
        flat = np.moveaxis(train, 2, -1).reshape(*train.shape[:2], -1, synapse.channels)
        picked = flat[:, rows[inside][:, None] - chunk.start, places[inside]].astype(np.float32)
        picked *= synapse.weight
        found[inside] = picked.sum(axis=0)
    return found.reshape(-1, synapse.channels)


def _columns(
    graph: SnnGraph, synapse: Weighted, prefix: PartialSimulation, rows: IntArray, places: IntArray
) -> IntArray:
    """Return the counts that each chosen output position reads, (positions, features), in a narrow type."""
    parts = []
    for chunk, inside in _inside(prefix, rows):
        counts = narrow(prefix.counts(graph, synapse.inputs[0], chunk)[rows[inside] - chunk.start])
        if isinstance(synapse, Convolution):
            parts.append(patches(counts, synapse, places[inside]))
        else:
            parts.append(counts.reshape(len(counts), -1))
    return np.concatenate(parts)


def patches(counts: IntArray, synapse: Convolution, places: IntArray) -> IntArray:
    """Return what each chosen output position reads, (n * positions, channels * kernel), of integers.

    Args:
        counts: (n, channels, height, width).
        synapse: with one group.
        places: (n, positions), numbers of output positions of each row.
    """
    window = synapse.window
    top, left, bottom, right = window.pads
    last = np.moveaxis(counts, 1, -1)  # the channels of a pixel lie together, and are copied together
    padded = np.pad(last, ((0, 0), (top, bottom), (left, right), (0, 0)))
    rows, height, width, channels = padded.shape
    down, along = np.unravel_index(places, synapse.shape[1:])
    corner = down * window.strides[0] * width + along * window.strides[1]
    corner += np.arange(rows)[:, None] * (height * width)
    steps = np.multiply.outer(np.arange(window.kernel[0]) * window.dilations[0], [width])
    taps = (steps + np.arange(window.kernel[1]) * window.dilations[1]).ravel()
    read: IntArray = padded.reshape(-1, channels).take(corner.reshape(-1, 1) + taps, axis=0)
    return read.transpose(0, 2, 1).reshape(len(read), -1)


def _bias(sink: SnnNode) -> FloatArray:
    if isinstance(sink, IntegrateFire | Readout):
        return sink.bias.astype(np.float64)
    raise TypeError(f"{type(sink).__name__} has no bias")


def _put(
    graph: SnnGraph,
    group: Group,
    fitted: list[Weighted],
    weights: FloatArray,
    offsets: Mapping[str, FloatArray],
) -> SnnGraph:
    """Put fitted weights into the graph: (features, outputs) in the order of ``fitted``, the bias last."""
    changed: dict[str, SnnNode] = {}
    start = 0
    for synapse in fitted:
        features = int(np.prod(synapse.weight.shape[1:]))
        part = weights[start : start + features].T
        changed[synapse.name] = synapse.with_(weight=part.reshape(synapse.weight.shape))
        start += features
    bias = weights[-1] / np.float32(graph.timesteps)
    for name in group.sinks:
        sink = graph[name]
        if isinstance(sink, IntegrateFire | Readout):
            changed[name] = sink.with_(bias=(bias + offsets.get(name, 0)).astype(np.float32))
    return graph.replacing(changed)
