"""Weighted sums of any values of a tensor, as convolutions of kernel 1 behind an index map.

A sum reads some values of a node, each with a weight. Sums with the same weights of values of the same
channels are one group: an index map lays their values side by side, and a grouped convolution of kernel 1
weighs them. So no channel of the map mixes channels of the node, whose spikes have units of their own.
"""

from __future__ import annotations

import numpy as np

from snnc.diagnostics import UNSUPPORTED_STRUCTURE
from snnc.frontend.call import Call
from snnc.frontend.views import PADDED, Index, View
from snnc.ir import ann
from snnc.ir.geometry import Window, source_channels
from snnc.ir.graph import FloatArray, IntArray

MOST_WEIGHTS = 2**24
"""Most weights that a linear map along an axis may become."""


def weighted(
    call: Call,
    view: View,
    taps: Index,
    weight: FloatArray,
    bias: FloatArray,
    *,
    which: IntArray | None = None,
    scale: FloatArray | None = None,
) -> View:
    """Multiply vectors of values of a node by a matrix.

    Args:
        call: the operation.
        view: the tensor whose node is read.
        taps: (..., inputs), flat positions in the node, or ``PADDED``.
        weight: (outputs, inputs), or several matrices (matrices, outputs, inputs).
        bias: (outputs,).
        which: (...), the matrix of each vector, where there are several.
        scale: (outputs,) of which the weights are integer multiples; ``None`` if unknown.

    Returns:
        The tensor (..., outputs).

    Raises:
        RefusalError: it would take too many weights.
    """
    matrices = weight if weight.ndim == 3 else weight[None]
    outputs = matrices.shape[1]
    if view.node in call.builder.doubtful:
        return call.builder.stand_in_view((*taps.shape[:-1], outputs), call.origin)
    vectors = taps.reshape(-1, taps.shape[-1])
    chosen = np.zeros(len(vectors), np.int64) if which is None else which.ravel()
    channels = source_channels(vectors, call.builder.shape(view.node))
    group, place, members = _grouped(np.concatenate([channels, chosen[:, None]], axis=1))
    _check(call, len(members) * matrices[0].size)
    name = _laid_out(call, view, vectors[members])
    shape = (len(members) * outputs, 1, members.shape[1])
    kernels = matrices[chosen[members[:, 0]]].reshape(-1, matrices.shape[2]).astype(np.float32)
    node = _convolution(call, name, shape, kernels, np.tile(bias, len(members)), len(members))
    if scale is not None:
        node = node.with_(weight_scale=np.tile(scale, len(members)))
    index = (group * outputs)[:, None] + np.arange(outputs)
    index = index * members.shape[1] + place[:, None]
    return View(call.builder.emit(node), index.reshape(*taps.shape[:-1], outputs), call.origin)


def summed_up(call: Call, view: View, taps: Index, weights: FloatArray) -> View:
    """Sum values of a node, each with a weight of its own.

    Args:
        call: the operation.
        view: the tensor whose node is read.
        taps: (*shape, terms), flat positions in the node, or ``PADDED``.
        weights: of the same shape.

    Returns:
        The tensor (*shape).

    Raises:
        RefusalError: it would take too many weights.
    """
    if view.node in call.builder.doubtful:
        return call.builder.stand_in_view(taps.shape[:-1], call.origin)
    rows = taps.reshape(-1, taps.shape[-1])
    factors = np.where(rows == PADDED, 0, weights.reshape(rows.shape)).astype(np.float32)
    # A term of weight zero reads what another reads, so that it brings in no further channel.
    heaviest = np.take_along_axis(rows, np.abs(factors).argmax(axis=1)[:, None], axis=1)
    rows = np.where(factors == 0, heaviest, rows)
    channels = source_channels(rows, call.builder.shape(view.node))
    key = np.concatenate([channels, factors.view(np.int32)], axis=1)
    group, place, members = _grouped(key)
    _check(call, members.size * rows.shape[1])
    name = _laid_out(call, view, rows[members])
    kernels = factors[members[:, 0]]
    shape = (len(members), 1, members.shape[1])
    node = _convolution(call, name, shape, kernels, np.zeros(len(members), np.float32), len(members))
    index = group * members.shape[1] + place
    return View(call.builder.emit(node), index.reshape(taps.shape[:-1]), call.origin)


def _grouped(keys: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Group rows that are equal.

    Returns:
        The group of each row and its place there, (rows,), and the rows of each group, (groups, members):
        smaller groups repeat their first row.
    """
    _, group, count = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    group = group.ravel()
    order = np.argsort(group, kind="stable")
    start = np.cumsum(count) - count
    place = np.empty_like(group)
    place[order] = np.arange(len(group)) - start[group[order]]
    places = np.arange(count.max())
    return group, place, order[start[:, None] + np.where(places < count[:, None], places, 0)]


def _laid_out(call: Call, view: View, rows: Index) -> str:
    """Return the index map that lays (groups, members, terms) out as (groups * terms, 1, members)."""
    groups, members, terms = rows.shape
    index = rows.transpose(0, 2, 1).reshape(groups * terms, 1, members)
    return call.builder.routes.node(view.node, index, view.origin)


def _convolution(
    call: Call, source: str, shape: tuple[int, int, int], weight: FloatArray, bias: FloatArray, groups: int
) -> ann.Convolution:
    return ann.Convolution(
        name=call.name,
        inputs=(source,),
        shape=shape,
        origin=call.origin,
        weight=np.ascontiguousarray(weight[:, :, None, None]),
        bias=bias.astype(np.float32),
        window=Window((1, 1)),
        groups=groups,
    )


def _check(call: Call, weights: int) -> None:
    if weights > MOST_WEIGHTS:
        call.refuse(
            f"it would take {weights} weights: it is linear along an axis that is not that of the channels",
            "let the axis of the vectors be that of the channels, or use smaller maps",
            UNSUPPORTED_STRUCTURE,
        )
