"""The range and the units of a network's quantised input, and the normalisation that the encoder absorbs.

All channels of an input, or features of a vector, share one unit if their ranges are similar. Otherwise, as
in tables whose columns have different units, a channel gets a finer unit, by a power of two so that it is
exact, and its weights are divided by the same factor. The first layer determines how fine: the rounding of
no channel may change a current more than that of the channel that changes currents most,

    u_c = min(u, u max_k(w_k r_k) / (w_c r))

with the largest range ``r``, ranges ``r_c`` and weights ``w_c`` relative to what each output gets at most. So
a channel that is merely small, such as the pixels at the border of an image, keeps the common unit. What is
read without weights gets a unit by its own range.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from snnc.ir import ann, snn
from snnc.ir.blocks import in_blocks
from snnc.ir.channels import per_channel
from snnc.ir.geometry import ABSENT
from snnc.ir.graph import FloatArray, IntArray

WEIGHT_STEPS, WIDE_STEPS = 127, 2**15 - 1
"""Steps of the integers of a weight, and of an identity branch."""

ROOM_TIMESTEPS = 64
"""A network can be run for at least so many steps, unless its first layer is too wide for 8 bits of input."""

LEAST_LIMIT = 127
"""The coarsest input for the sake of long runs: 8 bits with sign."""

MIXED_LIMIT = 7
"""The coarsest input where it is added to what spikes say."""

MIXED_POWER = 0.3
"""Root of the mean square of an input over its largest magnitude, as is usual."""

MIXED_WEIGHT = 2
"""Integer weight of the input where it is added to what spikes say: exact, and with the most bits for it."""


HEADROOM = 1.5
"""How far beyond its range on the calibration rows a channel reaches at least, where units are not common."""

LEAST_LEVELS = 64
"""Levels that a channel has at least where no weights tell what it is worth."""

FAR_FROM_ZERO = 4
"""How often the half range of a feature fits its magnitude, from which on its middle is taken away first."""


@dataclass(frozen=True, slots=True)
class InputUnits:
    """In what units the channels of an input are quantised.

    Attributes:
        largest: magnitude that the common unit must reach.
        finer: (channels,) float32, by how much each channel's unit is finer: a power of two, at least 1.
        middle: (channels,) float32, what stands for zero.
    """

    largest: float
    finer: FloatArray
    middle: FloatArray

    @property
    def common(self) -> bool:
        """Whether all channels share one unit and zero."""
        return bool((self.finer == 1).all() and (self.middle == 0).all())


def input_units(graph: ann.AnnGraph, rows: FloatArray, given: ann.AnnNode | None = None) -> InputUnits:
    """Return the units for an input of a network.

    Args:
        graph: the network.
        rows: (n, *input shape), the calibration rows, before the affine map that the encoder takes in.
        given: the input; the one that there is by default.
    """
    channels = rows.shape[1]

    def parts() -> Iterator[FloatArray]:
        """Yield the encoded rows, (some, channels, positions)."""
        for some in in_blocks(rows):
            yield encoded(graph, rows[some], given).reshape(-1, channels, math.prod(rows.shape[2:]))

    ends = [(part.min(axis=(0, 2)), part.max(axis=(0, 2))) for part in parts()]
    low, high = np.min([low for low, _ in ends], axis=0), np.max([high for _, high in ends], axis=0)
    reach = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    middle = np.zeros(channels, np.float32)
    raw = raw_channels(graph, given)
    if rows.ndim == 2 and not any(_adds_zeros(graph[name]) for name in raw):
        half = (high - low) / 2
        far = (half > 0) & (FAR_FROM_ZERO * half < reach) & ~_folded(graph, raw, channels)
        middle = np.where(far, (low + high) / 2, 0).astype(np.float32)
        furthest = np.max([np.abs(part[:, :, 0] - middle).max(axis=0) for part in parts()], axis=0)
        reach = np.where(far, furthest, reach)
    largest = float(reach.max())
    if largest <= 0:
        return InputUnits(1.0, np.ones(channels, np.float32), middle)
    weight = _worth(graph, raw, reach)
    most = float((weight * reach).max(initial=0.0)) / largest
    share = np.divide(most, weight, out=np.ones(channels), where=weight > 0)
    own = reach / largest * snn.INPUT_LIMIT / LEAST_LEVELS
    share = np.where(_read_as_it_is(graph, raw, channels), np.minimum(share, own), share)
    share = np.clip(share, HEADROOM * reach / largest, 1)
    finer = np.exp2(np.floor(-np.log2(np.where(reach > 0, share, 1))))
    finer = np.where(_folded(graph, raw, channels), 1, finer)
    if (finer != 1).any():
        largest *= HEADROOM
    return InputUnits(largest, finer.astype(np.float32), middle)


def _adds_zeros(node: ann.AnnNode) -> bool:
    return isinstance(node, ann.Pad) or (isinstance(node, ann.Gather) and bool((node.index == ABSENT).any()))


def raw_channels(graph: ann.AnnGraph, given: ann.AnnNode | None = None) -> dict[str, IntArray]:
    """Return for each node that holds inputs alone, moved or pooled, which channel each place comes from.

    Args:
        graph: the network.
        given: of which input; the one that there is by default.

    Returns:
        (*shape) int64, -1 for padding and for other inputs, by name; the affine maps that the encoders take
        in are among them.
    """
    given = given or graph.input
    affines = [input_affine(graph, each) for each in graph.inputs]
    found: dict[str, IntArray] = {}
    for node in graph:
        if isinstance(node, ann.Input):
            numbers = np.arange(node.channels) if node is given else np.full(node.channels, -1)
            found[node.name] = np.broadcast_to(per_channel(numbers, len(node.shape)), node.shape)
        elif found.keys() >= set(node.inputs):
            read = [found[name] for name in node.inputs]
            match node:
                case ann.ChannelAffine() if node in affines:
                    found[node.name] = read[0]
                case ann.MaxPool() | ann.AveragePool():
                    found[node.name] = np.broadcast_to(read[0][:, :1, :1], node.shape)
                case ann.Concat():
                    found[node.name] = np.concatenate(read)
                case ann.Reshape():
                    found[node.name] = read[0].reshape(node.shape)
                case ann.Pad():
                    pads = tuple(zip(node.before, node.after, strict=True))
                    found[node.name] = np.pad(read[0], pads, constant_values=-1)
                case ann.Slice():
                    found[node.name] = read[0][tuple(map(slice, node.start, node.stop, node.step))]
                case ann.Gather():
                    found[node.name] = np.where(node.index == ABSENT, -1, read[0].ravel()[node.index])
                case _:
                    pass
    return found


def _folded(graph: ann.AnnGraph, raw: dict[str, IntArray], channels: int) -> IntArray:
    """Return which channels lie in one channel with others after a reshape, and so must share its unit."""
    found = np.zeros(channels, bool)
    for name, ids in raw.items():
        rows = ids.reshape(len(ids), -1)
        if isinstance(graph[name], ann.Reshape | ann.Gather):
            mixed = (rows != rows.max(axis=1, keepdims=True)).any(axis=1)
            found[np.unique(rows[mixed][rows[mixed] >= 0])] = True
    return found


def _worth(graph: ann.AnnGraph, raw: dict[str, IntArray], reach: FloatArray) -> FloatArray:
    """Return each channel's weight in the currents that it reaches, (channels,), relative to what these get.

    Of each output the weights are divided by the most that one channel gives it; a channel's is the root of
    the mean square over outputs, the largest over all layers and places that read it.
    """
    worth = np.zeros(len(reach))
    for node in graph:
        if not isinstance(node, ann.Convolution | ann.Linear) or node.inputs[0] not in raw:
            continue
        weight = np.abs(node.weight.astype(np.float64)).reshape(*node.weight.shape[:2], -1).max(axis=2)
        sources = raw[node.inputs[0]].reshape(len(raw[node.inputs[0]]), -1)[:, 0]
        groups = node.groups if isinstance(node, ann.Convolution) else 1
        for part, ids in zip(np.split(weight, groups), np.split(sources, groups), strict=True):
            most = (part * np.where(ids < 0, 0, reach[ids])).max(axis=1)
            part = part[most > 0] / most[most > 0, None]
            if len(part):
                inside = ids >= 0
                np.maximum.at(worth, ids[inside], np.sqrt(np.square(part).mean(axis=0))[inside])
    return worth


def _read_as_it_is(graph: ann.AnnGraph, raw: dict[str, IntArray], channels: int) -> IntArray:
    """Return which channels anything without weights reads: a sum, or an activation."""
    found = np.zeros(channels, bool)
    for name, ids in raw.items():
        readers = graph.consumers[name]
        if any(isinstance(reader, ann.Add | ann.Relu | ann.Levelled) for reader in readers):
            found[np.unique(ids[ids >= 0])] = True
    return found


def decoded_input(node: snn.Encode, graph: ann.AnnGraph, q: IntArray) -> FloatArray:
    """Return what a quantised input stands for, behind the affine map that the encoder takes in.

    Args:
        node: the encoder.
        graph: the source network that was lowered.
        q: (batch, *shape).

    Returns:
        (batch, *shape) float32.
    """
    values: FloatArray = (q * np.float32(node.scale)).astype(np.float32)
    if node.gain is None or node.offset is None:
        return values
    affine = input_affine(graph, graph[node.name])
    gain = np.ones_like(node.gain) if affine is None else affine.scale
    shift = np.zeros_like(node.gain) if affine is None else affine.shift
    ratio = np.divide(node.gain, gain, out=np.ones_like(node.gain), where=gain != 0)
    finer = np.exp2(np.rint(np.log2(ratio))).astype(np.float32)
    middle = shift - node.offset / finer
    rank = q.ndim - 1
    decoded: FloatArray = values / per_channel(finer, rank) + per_channel(middle, rank)
    return decoded


def encoded(graph: ann.AnnGraph, rows: FloatArray, given: ann.AnnNode | None = None) -> FloatArray:
    """Return the calibration rows of an input after the affine map that its encoder takes in, if any."""
    affine = input_affine(graph, given)
    if affine is None:
        return rows
    rank = rows.ndim - 1
    return rows * per_channel(affine.scale, rank) + per_channel(affine.shift, rank)


def input_affine(graph: ann.AnnGraph, given: ann.AnnNode | None = None) -> ann.ChannelAffine | None:
    """Return the normalisation of an input at the head of the network, where all else reads its result."""
    given = given or graph.input
    reader = graph.consumers[given.name][0] if graph.read_once(given.name) else None
    return reader if isinstance(reader, ann.ChannelAffine) else None


def first_layer(graph: ann.AnnGraph) -> frozenset[str]:
    """Return the names of the values that weights compute directly from the input: currents constant in time.

    A maximum of the input itself is one of spike counts, which change from step to step.
    """
    found: set[str] = set()
    raw: set[str] = set()
    for node in graph:
        moves = isinstance(node, ann.Concat | ann.Reshape | ann.Slice | ann.Pad | ann.Gather)
        if isinstance(node, ann.Input) or (moves and raw.issuperset(node.inputs)):
            raw.add(node.name)
        elif (isinstance(node, ann.Convolution | ann.Linear) and node.inputs[0] in raw) or (
            isinstance(node, ann.MaxPool | ann.Gather) and node.inputs[0] in found
        ):
            found.add(node.name)
    return frozenset(found)


def input_limit(
    graph: ann.AnnGraph,
    timesteps: int,
    finer: FloatArray | None = None,
    largest: float = 1.0,
    given: ann.AnnNode | None = None,
) -> int:
    """Return the largest magnitude that a quantised input of the network may have.

    First-layer potentials stay far from overflow: with int8 weights a current is at most ``127 limit r``,
    where ``r`` is the largest ``sum |w| / max |w|``, times the area where a mean is taken, and a potential
    gathers T of them. Wide first layers, such as a perceptron's, get fewer than 12 bits of input for it.

    Where the input is added as it is to what weights make of spikes, both share one scale per channel, which
    the largest weight of the spikes sets: the unit of the input may be as fine as two steps of it. Where
    weights read it beside spikes, its values and its weights are rounded about equally: a magnitude of ``L``
    leaves the relative errors ``1 / L`` of the values and ``L s / (r w)`` of the weights, with the step ``s``
    of the scale, and weights ``w`` and magnitudes ``r`` of the input as usual.

    Args:
        graph: the network.
        timesteps: T.
        finer: (channels,), by how much the unit of each channel is finer than the common one; 1 by default.
        largest: magnitude of the input that the common unit must reach.
        given: the input; the one that there is by default.
    """
    raw = raw_channels(graph, given) if finer is not None and (finer != 1).any() else {}
    reach: dict[str, float] = {}
    step: dict[str, float] = {}
    drive: dict[str, float] = {}
    beside: set[str] = set()
    limits: list[float] = []
    finest = 1.0 if finer is None else float(finer.max())
    tiny = float(np.finfo(np.float32).tiny)
    for node in graph:
        read = [reach[name] for name in node.inputs if name in reach]
        match node:
            case ann.Input():
                reach[node.name] = 1.0
            case ann.Constant():
                step[node.name] = drive[node.name] = 0.0
                continue
            case ann.Relu() | ann.Levelled():
                reach[node.name] = 0.0
            case ann.Convolution() | ann.Linear():
                weight = node.weight
                if finer is not None and node.inputs[0] in raw:
                    weight = _in_units(node, raw[node.inputs[0]], finer)
                reach[node.name] = read[0] * _weight_sum(weight)
            case ann.AveragePool():
                reach[node.name] = read[0] * node.window.area
            case ann.Add():
                reach[node.name] = sum(read)
            case _:
                reach[node.name] = max(read)
        step[node.name] = _weight_step(node, [step[name] for name in node.inputs])
        driven = [drive[name] for name in node.inputs]
        drive[node.name] = 1.0 if isinstance(node, ann.Input) else 0.0
        if not isinstance(node, ann.Input | ann.Activation):
            drive[node.name] = max(driven)
        if isinstance(node, ann.Convolution | ann.Linear):
            drive[node.name] *= _root_mean_square(node.weight)
        meets = 0.0 in read and any(read)
        if isinstance(node, ann.Concat) and (meets or beside.intersection(node.inputs)):
            beside.add(node.name)
        elif beside.intersection(node.inputs) or (isinstance(node, ann.Add) and meets):
            if isinstance(node, ann.Add) and 1.0 in driven:
                limits.append(largest / finest / (MIXED_WEIGHT * max(step[node.name], tiny)))
            elif isinstance(node, ann.Add | ann.Convolution | ann.Linear):
                ratio = largest * drive[node.name] / (MIXED_POWER * max(step[node.name], tiny))
                limits.append(float(np.sqrt(ratio)))
            else:
                beside.add(node.name)
    steps = max(ROOM_TIMESTEPS, 4 * timesteps)
    widest = max(1.0, *reach.values())
    limit = int(np.clip(2**30 / (127 * widest * steps), LEAST_LIMIT, snn.INPUT_LIMIT))
    return min([limit, *(int(np.clip(found, MIXED_LIMIT, snn.INPUT_LIMIT)) for found in limits)])


def _root_mean_square(weight: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(weight, dtype=np.float64))))


def _weight_step(node: ann.AnnNode, read: list[float]) -> float:
    """Return the real value of one step of the integers by which spikes are weighted on their way to a node.

    An activation gives its unit. Weights divide the largest product by 127 steps, identities by many more.
    """
    match node:
        case ann.Input():
            return 0.0
        case ann.Relu():
            reach = node.ceiling if node.threshold is None else node.threshold
            if reach is None:
                return 0.0
            unit = reach if node.floor is None else reach - node.floor
            return float(np.max(unit)) / node.levels / WIDE_STEPS
        case ann.Levelled():
            if node.step is None:
                return 0.0
            return float(np.max(node.step)) * max(node.highest, -node.lowest) / node.levels / WIDE_STEPS
        case ann.Convolution() | ann.Linear():
            return read[0] * float(np.abs(node.weight).max()) * WIDE_STEPS / WEIGHT_STEPS
        case ann.AveragePool():
            return read[0] / node.window.area
        case ann.ChannelAffine():
            return read[0] * float(np.abs(node.scale).max())
        case _:
            return max(read)


def _in_units(node: ann.Convolution | ann.Linear, ids: IntArray, finer: FloatArray) -> FloatArray:
    """Return the weights that read the input as they are when its units are folded into them."""
    unit = np.where(ids < 0, 1, 1 / finer[ids]).reshape(len(ids), -1)[:, 0]
    if isinstance(node, ann.Linear):
        return node.weight * unit.astype(np.float32)
    spread = np.repeat(unit.reshape(node.groups, -1), len(node.weight) // node.groups, axis=0)
    return (node.weight * spread[:, :, None, None]).astype(np.float32)


def _weight_sum(weight: FloatArray) -> float:
    """Return the largest ``sum |w| / max |w|`` of an output channel."""
    magnitude = np.abs(weight.astype(np.float64)).reshape(len(weight), -1)
    largest = magnitude.max(axis=1)
    return float((magnitude.sum(axis=1)[largest > 0] / largest[largest > 0]).max(initial=1.0))
