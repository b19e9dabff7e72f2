"""Means over other axes of a tensor than all positions of an image."""

from __future__ import annotations

import math

import numpy as np

from snnc.frontend.call import Call
from snnc.frontend.elementwise import affine, summed
from snnc.frontend.linear import along
from snnc.frontend.views import Index, View, find_cut, is_bijection
from snnc.ir import ann
from snnc.ir.geometry import Window

MOST_TERMS = 64
"""Most tensors that a mean is spelt as a sum of."""

MOST_WEIGHTS = 2**22
"""Largest matrix that a mean over features is spelt as."""


def averaged(call: Call, view: View, axes: tuple[int, ...]) -> View | None:
    """Return the mean over some axes, which keep the length 1; ``None`` where it is to be read otherwise.

    The mean over channels is a convolution of kernel 1, that over rows or columns a pooling, that over parts
    of a join, as of several networks' answers, a sum, and any mean of features a matrix.

    Args:
        call: the operation.
        view: the tensor.
        axes: those to reduce, from the front.
    """
    axes = tuple(axis for axis in axes if view.shape[axis] > 1)
    result = tuple(1 if axis in axes else n for axis, n in enumerate(view.shape))
    if not axes:
        return view
    if view.node in call.builder.doubtful:
        return call.builder.stand_in_view(result, call.origin)
    shape = call.builder.shape(view.node)
    if not is_bijection(view.index, math.prod(shape)):
        return _of_parts(call, view, axes)
    whole = _whole_axes(view.index, shape, axes)
    if len(shape) == 1:
        parts = _of_parts(call, view, axes) if _joined(call, view, axes) else None
        return parts or _of_features(call, view, axes)
    if whole is None:
        return _of_parts(call, view, axes)
    if 0 not in whole:
        return _of_positions(call, view, axes, whole)
    (channels,) = [axis for axis in axes if _whole_axes(view.index, shape, (axis,)) == {0}]
    weight = np.full((1, shape[0]), 1 / shape[0], np.float32)
    mixed = along(call, view, channels, weight, np.zeros(1, np.float32))
    return averaged(call, mixed, axes)


def _whole_axes(index: Index, shape: tuple[int, ...], axes: tuple[int, ...]) -> set[int] | None:
    """Return the axes of a node that axes of a tensor are, each as a whole; ``None`` where some are not."""
    if len(shape) != 3:
        return None
    places = np.unravel_index(index, shape)
    found = set()
    for axis in axes:
        moving = [k for k, place in enumerate(places) if np.diff(place, axis=axis).any()]
        if len(moving) != 1 or shape[moving[0]] != index.shape[axis]:
            return None
        found.add(moving[0])
    return found


def _of_positions(call: Call, view: View, axes: tuple[int, ...], whole: set[int]) -> View:
    """Return the mean over rows, columns or both, of every channel."""
    channels, height, width = call.builder.shape(view.node)
    window = Window((height if 1 in whole else 1, width if 2 in whole else 1))
    shape = (channels, *window.output_size(height, width))
    pooled = ann.AveragePool(
        name=call.name, inputs=(view.node,), shape=shape, origin=call.origin, window=window
    )
    first = view.index[tuple(slice(1) if axis in axes else slice(None) for axis in range(view.index.ndim))]
    places = np.unravel_index(first, (channels, height, width))
    kept = tuple(np.zeros_like(place) if k in whole else place for k, place in enumerate(places))
    return View(call.builder.emit(pooled), np.ravel_multi_index(kept, shape), call.origin)


def _terms(view: View, axes: tuple[int, ...]) -> list[View]:
    """Return what a mean is taken of, tensor by tensor."""
    front = np.moveaxis(view.index, axes, range(len(axes)))
    rest = front.reshape(-1, *front.shape[len(axes) :])
    left = tuple(1 if axis in axes else n for axis, n in enumerate(view.shape))
    return [view.to(part.reshape(left), view.origin) for part in rest]


def _joined(call: Call, view: View, axes: tuple[int, ...]) -> bool:
    """Whether every tensor that the mean is taken of is a part of its own of a join."""
    node = call.builder.nodes[view.node]
    terms = math.prod(view.shape[axis] for axis in axes)
    return isinstance(node, ann.Concat) and terms == len(node.inputs) and terms <= MOST_TERMS


def _of_parts(call: Call, view: View, axes: tuple[int, ...]) -> View | None:
    """Return the mean as a scaled sum, where the parts can be cut out."""
    count = math.prod(view.shape[axis] for axis in axes)
    if count > MOST_TERMS:
        return None
    terms = [call.builder.behind_joins(term) for term in _terms(view, axes)]
    if any(find_cut(term.index, call.builder.shape(term.node)) is None for term in terms):
        return None
    return affine(call, summed(call, terms), np.float32(1 / count), np.float32(0))


def _of_features(call: Call, view: View, axes: tuple[int, ...]) -> View | None:
    """Return the mean of features as a matrix."""
    terms = np.stack([term.index.ravel() for term in _terms(view, axes)])
    if view.index.size * terms.shape[1] > MOST_WEIGHTS:
        return None
    weight = np.zeros((terms.shape[1], view.index.size), np.float32)
    weight[np.arange(terms.shape[1]), terms] = 1 / len(terms)
    bias = np.zeros(len(weight), np.float32)
    node = ann.Linear(
        name=call.name, inputs=(view.node,), shape=bias.shape, origin=call.origin, weight=weight, bias=bias
    )
    left = tuple(1 if axis in axes else n for axis, n in enumerate(view.shape))
    return View(call.builder.emit(node), np.arange(len(bias)).reshape(left), call.origin)
