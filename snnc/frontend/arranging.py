"""Nodes in which axes of a tensor are whole axes: what products, softmax, norms and maxima read.

Such an operation names axes of a node, or pairs the values of two nodes. So its operands are brought to one
layout, or to a layout in which some axes of the tensor stand alone: as they lie, by a reshape, or by an index
map where nothing else will do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from snnc.diagnostics import UNSUPPORTED_STRUCTURE
from snnc.frontend.call import Call
from snnc.frontend.views import Index, View, is_bijection, row_major
from snnc.ir.graph import Shape


@dataclass(frozen=True, slots=True)
class Arranged:
    """A node some axes of which are what an operation names.

    Attributes:
        node: its name.
        axes: of the node, ascending.
        index: (*shape of the tensor,), flat positions in the node.
    """

    node: str
    axes: Shape
    index: Index


def together(call: Call, views: Sequence[View]) -> tuple[tuple[str, ...], Shape, Index]:
    """Bring tensors that broadcast to one layout.

    Returns:
        A node for each, whose axes have the size of the common shape or 1; the common shape; and where each
        value of the resulting tensor lies in it.

    Raises:
        RefusalError: the shapes do not broadcast, or rows would mix.
    """
    shape = broadcast_shape(call, [view.shape for view in views])
    more = [len(shape) - len(view.shape) for view in views]
    views = [
        view.to(view.index.reshape((1,) * n + view.shape), view.origin)
        for view, n in zip(views, more, strict=True)
    ]
    if any(view.node in call.builder.doubtful for view in views):
        stood = call.builder.stand_in(shape)
        return (stood,) * len(views), shape, row_major(shape)
    common, where = _layout(call, views, shape)
    place = np.argsort(where, axis=None)  # of each value of the common shape, in the tensor
    indices = []
    for view in views:
        index = np.broadcast_to(view.index, shape).ravel()[place].reshape(common)
        for axis in range(index.ndim):
            first = index.take([0], axis)
            if (index == first).all():
                index = first
        indices.append(index)
    least = np.broadcast_shapes(*(index.shape for index in indices))
    names = tuple(
        call.builder.routes.node(view.node, index, view.origin)
        for view, index in zip(views, indices, strict=True)
    )
    # Where all repeat their values along an axis, the result does.
    return names, least, np.broadcast_to(row_major(least), common).ravel()[where]


def broadcast_shape(call: Call, shapes: Sequence[Shape]) -> Shape:
    """Return the shape that tensors of some shapes take together.

    Raises:
        RefusalError: there is none, or rows would mix.
    """
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        call.refuse(
            f"combines tensors of different shapes {list(shapes)}",
            "combine tensors of the same shape",
            UNSUPPORTED_STRUCTURE,
        )
    if call.batch != 1 and len(set(map(len, shapes))) > 1:
        call.refuse(
            f"combines tensors of different ranks, {list(shapes)}, so that rows mix",
            "give them the same number of axes, with the batch in front",
            UNSUPPORTED_STRUCTURE,
        )
    return shape


def _layout(call: Call, views: Sequence[View], shape: Shape) -> tuple[Shape, Index]:
    """Choose the layout of a tensor from those that are read.

    Returns:
        The shape of a node, and where each value of the tensor lies in it.
    """
    for view in views:
        settled = call.builder.settled(view, call.origin)
        if settled is not None and settled.shape == shape and settled.index.size == math.prod(shape):
            return call.builder.shape(settled.node), settled.index
    widest = max(views, key=lambda view: view.index.size)
    wide = widest.to(np.broadcast_to(widest.index, shape), widest.origin)
    order, common = call.builder.routes.layout(wide)
    where = row_major(tuple(shape[axis] for axis in order)).transpose(np.argsort(order))
    return common, where


def apart(call: Call, view: View, axes: Sequence[int], *, one: bool = False) -> Arranged:
    """Return a node in which axes of a tensor are whole axes.

    Args:
        call: the operation.
        view: the tensor.
        axes: those of the tensor that stand alone.
        one: whether they must be a single axis of the node, in the order of the tensor.

    Raises:
        RefusalError: one of the axes is that of the rows.
    """
    if call.batch != 1 and 0 in axes and view.shape[0] == 1:
        call.refuse("works along the batch axis, which mixes rows", "keep the batch in front")
    count = math.prod(view.shape[axis] for axis in axes)
    kept = [axis for axis in range(len(view.shape)) if axis not in axes and view.shape[axis] > 1]
    long = [axis for axis in axes if view.shape[axis] > 1]
    settled = call.builder.settled(view, call.origin)
    if settled is not None:
        view = settled
        found = _as_they_lie(view, call.builder.shape(view.node), kept, count)
        if found is not None and (len(found) == 1 or not one) and (not one or _rising(view.index, long)):
            return Arranged(view.node, found, view.index)
    elif view.node in call.builder.doubtful:
        view = call.builder.stand_in_view(view.shape, view.origin)
    order = sorted([*kept, *long], key=lambda axis: -_stride(view.index, axis))
    if one and [axis for axis in order if axis in long] != long:
        order = [*kept, *long]
    runs = _runs(order, set(long))
    if len(runs) > 3 or (one and sum(run[0] in long for run in runs) > 1):
        order = [*kept, *long]
        runs = [kept, long] if kept else [long]
    sizes = [math.prod(view.shape[axis] for axis in run) for run in runs] or [1]
    named = [place for place, run in enumerate(runs) if run and run[0] in long]
    shape = tuple(sizes)
    if len(shape) == 2:  # as images have, whose positions are two axes
        shape, named = (shape[0], 1, shape[1]), [2 * place for place in named]
    ones = [axis for axis in range(len(view.shape)) if axis not in order]
    turned = [*ones, *order]
    index = view.index.transpose(turned).reshape(shape)
    name = call.builder.routes.node(view.node, index, view.origin)
    sorted_shape = tuple(view.shape[axis] for axis in turned)
    where = row_major(sorted_shape).transpose(np.argsort(turned))
    return Arranged(name, tuple(named) or (0,), where)


def _as_they_lie(view: View, shape: Shape, kept: Sequence[int], count: int) -> Shape | None:
    """Return the axes of a node that are some axes of a tensor, as a whole; ``None`` where there are none.

    Args:
        view: a tensor that holds each value of the node once.
        shape: of the node.
        kept: the other axes of the tensor.
        count: how many values lie along those that are sought.
    """
    if not is_bijection(view.index, math.prod(shape)):
        return None
    sizes = tuple(view.shape[axis] for axis in kept)
    group: Index = np.zeros((), np.int64)
    for axis, stride in zip(kept, np.cumprod((1, *sizes[::-1]))[-2::-1], strict=True):
        along = np.arange(view.shape[axis]) * stride
        group = group + along.reshape([-1 if a == axis else 1 for a in range(len(view.shape))])
    in_node = np.empty(view.index.size, np.int64)
    in_node[view.index.ravel()] = np.broadcast_to(group, view.shape).ravel()
    in_node = in_node.reshape(shape)
    whole = tuple(
        axis for axis, n in enumerate(shape) if n > 1 and (in_node == in_node.take([0], axis)).all()
    )
    if math.prod(shape[axis] for axis in whole) != count:
        return None
    return whole or (len(shape) - 1,)


def _stride(index: Index, axis: int) -> int:
    """Return how far apart neighbours along an axis lie."""
    ends = index.take([0, 1], axis).ravel()
    half = np.abs(np.diff(index.take([0, 1], axis), axis=axis))
    return int(half.max()) if ends.size else 0


def _rising(index: Index, axes: Sequence[int]) -> bool:
    """Whether values lie in a node as along axes of a tensor, the last of which is the fastest."""
    strides = [_stride(index, axis) for axis in axes]
    return strides == sorted(strides, reverse=True)


def _runs(order: Sequence[int], named: set[int]) -> list[list[int]]:
    """Split axes into runs of those that are named and those that are not."""
    runs: list[list[int]] = []
    for axis in order:
        if runs and (axis in named) == (runs[-1][0] in named):
            runs[-1].append(axis)
        else:
            runs.append([axis])
    return runs
