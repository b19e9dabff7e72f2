"""Move rectifiers to positions where spikes can replace them exactly, mainly around max-pooling.

A rectifier is monotone and elementwise, so it commutes with all operations that only select or move values:
``relu(maxpool(x)) = maxpool(relu(x))``, and the same for concatenation, reshaping, slicing, zero padding
and index maps. After a population, max-pooling is exact on spike counts,
``y_t = max_i N_i(t) - max_i N_i(t-1)``, so the rectifier moves in front of the pool. In the analogue
first layer the current is constant in time, and the pool moves in front of the rectifier instead:
fewer neurons, and exact as well.

Where a move lets several channels become one, as a pixel shuffle does, their spikes would need one unit.
There the rectifier stands behind the move, which moves currents: each new channel has its own threshold.
It moves only where the channels that become one are rectified alike, and zeros beside them stay zeros. The
levels of the source may share one unit already: a pipeline that keeps them leaves their rectifiers in front.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir.ann import (
    Add,
    AnnGraph,
    AnnNode,
    AveragePool,
    BatchNormalisation,
    ChannelAffine,
    Concat,
    Convolution,
    Gather,
    Linear,
    MaxPool,
    Pad,
    Relu,
    Reshape,
    Slice,
)
from snnc.ir.geometry import ABSENT, source_channels
from snnc.ir.graph import FloatArray
from snnc.ir.operations import check_known
from snnc.ir.rewriter import Rewriter
from snnc.numerics.input_range import first_layer
from snnc.pipeline import Context

PER_CHANNEL = ("ceiling", "threshold", "floor", "shift", "scale", "gain", "points")
"""What a rectifier has for each channel, and a plain one has not."""

Mover = MaxPool | Concat | Reshape | Slice | Pad | Gather
"""Operations that a rectifier commutes with."""

Sum = Convolution | Linear | Add | BatchNormalisation | ChannelAffine
"""Operations that give currents."""


@dataclass(frozen=True, slots=True)
class ExactMaxPool:
    """Reorder rectifiers and pools without changing what the network computes.

    Attributes:
        leave_rounded: rectifiers that round to levels of the source stay in front of what mixes channels, so
            that counts of these levels are moved.
    """

    name: ClassVar[str] = "exact-max-pool"
    leave_rounded: bool = False

    def run(self, graph: AnnGraph, context: Context, /) -> AnnGraph:
        """Return an equal network in which no rectifier reads a max-pool, except of the first layer."""
        check_known(graph)
        reordered = _drop_repeated(graph)
        while (moved := self._move_one(reordered)) is not reordered:
            reordered = _drop_repeated(moved)
        return reordered

    def _move_one(self, graph: AnnGraph) -> AnnGraph:
        """Make one exchange; the same graph if there is none to make."""
        analogue = first_layer(graph)
        for node in graph.of_type(Relu):
            before = graph[node.inputs[0]]
            alone = graph.read_once(before.name)
            if isinstance(before, MaxPool) and before.inputs[0] in analogue:
                continue
            if isinstance(before, Mover) and alone and _before(before, graph):
                moved = _rectify_first(graph, before, node)
                if moved is not graph:
                    return moved
        for total in graph.of_type(Add):
            moved = _rectify_joined(graph, total)
            if moved is not graph:
                return moved
        for mover in graph:
            if not isinstance(mover, Reshape | Gather):
                continue
            relu = graph[mover.inputs[0]]
            if not isinstance(relu, Relu) or mover.keeps_channels(relu.shape):
                continue
            if self.leave_rounded and relu.scale is not None:
                continue
            if graph.read_once(relu.name) and isinstance(graph[relu.inputs[0]], Sum):
                moved = _rectify_last(graph, relu, mover)
                if moved is not graph:
                    return moved
        for pool in graph.of_type(MaxPool):
            before = graph[pool.inputs[0]]
            only = graph.read_once(before.name)
            if isinstance(before, Relu) and only and before.inputs[0] in analogue:
                # The population keeps the rectifier's name, and with it the name of the ONNX node.
                first = pool.with_(inputs=before.inputs)
                second = before.with_(inputs=(pool.name,), shape=pool.shape)
                rewriter = Rewriter(graph)
                rewriter.replace((before.name, pool.name), first, second)
                return graph.with_nodes(rewriter.nodes, rewriter.outputs)
        return graph


def _drop_repeated(graph: AnnGraph) -> AnnGraph:
    """Remove plain rectifiers of values that cannot be negative."""
    positive: set[str] = set()
    rewriter = Rewriter(graph)
    for node in graph:
        if isinstance(node, Relu) and node.shift is None:
            if _is_plain(node) and node.inputs[0] in positive:
                rewriter.replace_uses(node.name, rewriter[node.name].inputs[0])
                rewriter.erase(node.name)
            positive.add(node.name)
        elif isinstance(node, Mover | AveragePool | Add) and positive.issuperset(node.inputs):
            positive.add(node.name)
    return graph.with_nodes(rewriter.nodes, rewriter.outputs)


def _before(mover: Mover, graph: AnnGraph) -> bool:
    """Whether a rectifier belongs before a move: not where channels are mixed, nor values only dropped."""
    if isinstance(mover, Reshape | Gather):
        shape = graph[mover.inputs[0]].shape
        return mover.keeps_channels(shape) and math.prod(shape) <= math.prod(mover.shape)
    return True


def _rectify_last(graph: AnnGraph, relu: Relu, mover: Reshape | Gather) -> AnnGraph:
    """Exchange ``relu`` then ``mover``: the move of the currents, then one rectifier."""
    vectors = _moved(relu, mover)
    if vectors is None:
        return graph
    rewriter = Rewriter(graph)
    first = mover.with_(name=rewriter.fresh(f"{relu.name}.moved"), inputs=relu.inputs)
    # The population keeps the rectifier's name, and with it the name of the ONNX node.
    last = relu.with_(inputs=(first.name,), shape=mover.shape, **vectors)
    rewriter.replace((relu.name, mover.name), first, last)
    return graph.with_nodes(rewriter.nodes, rewriter.outputs)


def _moved(relu: Relu, mover: Reshape | Gather) -> dict[str, FloatArray] | None:
    """Return what a rectifier has for each channel behind a move; ``None`` where it cannot stand there.

    A channel behind the move may hold values of several channels if these are rectified alike, and zeros if
    they stay zeros.
    """
    index = mover.index if isinstance(mover, Gather) else np.arange(math.prod(relu.shape))
    rows = source_channels(index, relu.shape).reshape(mover.channels, -1)
    one = np.maximum(rows.max(axis=1), 0)  # a channel of zeros alone is rectified as any
    read = np.where(rows == ABSENT, one[:, None], rows)
    if (rows == ABSENT).any() and not _keeps_zero(relu):
        return None
    vectors = _vectors(relu)
    if vectors:
        together = np.concatenate([values.reshape(relu.channels, -1) for values in vectors.values()], axis=1)
        kind = np.unique(together, axis=0, return_inverse=True)[1].ravel()
        if (kind[read] != kind[one][:, None]).any():
            return None
    return {field: values[one] for field, values in vectors.items()}


def _vectors(relu: Relu) -> dict[str, FloatArray]:
    """Return what a rectifier has for each channel, by its field; not what all channels share."""
    found = {field: getattr(relu, field) for field in PER_CHANNEL}
    return {
        field: values
        for field, values in found.items()
        if values is not None and len(values) == relu.channels
    }


def _is_plain(relu: Relu) -> bool:
    """Whether a rectifier is ``max(x, 0)`` and nothing else."""
    return all(getattr(relu, field) is None for field in PER_CHANNEL)


def _keeps_zero(relu: Relu) -> bool:
    """Whether zero stays zero in every channel."""
    if relu.points is not None or relu.floor is not None:
        return False
    shift = np.float32(0) if relu.shift is None else relu.shift
    return all(limit is None or bool((shift <= limit).all()) for limit in (relu.ceiling, relu.threshold))


def _rectify_joined(graph: AnnGraph, total: Add) -> AnnGraph:
    """Put one rectifier behind parts that are joined, in the place of one before each.

    Joined along height or width, the parts are index maps that are added, each zero where others are not.
    """
    maps = [graph[name] for name in total.inputs]
    parts = [node for node in maps if isinstance(node, Gather) and graph.read_once(node.name)]
    relus = [graph[part.inputs[0]] for part in parts]
    plain = [
        node
        for node in relus
        if isinstance(node, Relu)
        and _is_plain(node)
        and graph.read_once(node.name)
        and isinstance(graph[node.inputs[0]], Sum)
    ]
    if len(plain) < len(maps) or np.sum([part.index != ABSENT for part in parts], axis=0).max() > 1:
        return graph
    rewriter = Rewriter(graph)
    for part, relu in zip(parts, plain, strict=True):
        rewriter.replace((relu.name, part.name), part.with_(inputs=relu.inputs))
    joined = total.with_(name=rewriter.fresh(f"{total.name}.joined"))
    last = plain[0].with_(name=total.name, inputs=(joined.name,), shape=total.shape, origin=total.origin)
    rewriter.replace(total.name, joined, last)
    return graph.with_nodes(rewriter.nodes, rewriter.outputs)


def _rectify_first(graph: AnnGraph, mover: Mover, relu: Relu) -> AnnGraph:
    """Exchange ``mover`` then ``relu``: a rectifier on each input, then the move under the old name."""
    if isinstance(mover, Pad | Gather) and not _keeps_zero(relu):
        return graph
    several = len(mover.inputs) > 1
    shapes = [graph[name].shape for name in mover.inputs]
    rectifiers: list[AnnNode] = []
    rewriter = Rewriter(graph)
    start = 0
    for index, (source, shape) in enumerate(zip(mover.inputs, shapes, strict=True)):
        vectors: dict[str, FloatArray] = {}
        for field, vector in _vectors(relu).items():
            if isinstance(mover, Concat):
                vector = vector[start : start + shape[0]]
            elif isinstance(mover, Reshape | Slice | Pad | Gather):
                if (vector != vector[:1]).any():
                    if shape[0] != relu.channels or isinstance(mover, Slice | Pad | Gather):
                        return graph
                else:
                    vector = vector[:1].repeat(shape[0], axis=0)
            vectors[field] = vector
        start += shape[0]
        name = rewriter.fresh(f"{relu.name}.{index}") if several else relu.name
        rectifiers.append(relu.with_(name=name, inputs=(source,), shape=shape, **vectors))
    moved = mover.with_(inputs=tuple(node.name for node in rectifiers))
    rewriter.replace((mover.name, relu.name), *rectifiers, moved)
    return graph.with_nodes(rewriter.nodes, rewriter.outputs)
