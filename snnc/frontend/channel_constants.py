"""Constants beside a tensor: one value for each channel, in whatever layout keeps them apart."""

from __future__ import annotations

import math

import numpy as np

from snnc.diagnostics import UNSUPPORTED_STRUCTURE
from snnc.frontend.builder import GraphBuilder
from snnc.frontend.refusals import finite, refuse
from snnc.frontend.tensors import Constant
from snnc.frontend.views import View
from snnc.frontend.weaving import weave
from snnc.ir import ann
from snnc.ir.graph import FloatArray


def channel_values(
    builder: GraphBuilder, view: View, values: tuple[Constant, ...], origin: str
) -> tuple[View, tuple[FloatArray, ...]]:
    """Find the constant of each channel from constants that are broadcast over a tensor.

    Args:
        builder: the network in the making.
        view: the tensor.
        values: constants of shapes that can be broadcast to that of the tensor.
        origin: the operation.

    Returns:
        A view that reads each value of its node once, and a (channels,) vector for each constant.

    Raises:
        RefusalError: a constant differs within a channel, or is not finite.
    """
    view = builder.settle(view, origin)
    elements = _elements(builder, view, values, origin)
    if not _uniform(builder, view, elements) and (image := _woven(builder, view)) is not None:
        view = image  # the pixels that became channels have constants of their own
        elements = _elements(builder, view, values, origin)
    if not _uniform(builder, view, elements) and (turned := _turned(builder, view, values)) is not None:
        view = turned
        elements = _elements(builder, view, values, origin)
    if _uniform(builder, view, elements):
        channels = builder.shape(view.node)[0]
        return view, tuple(element.reshape(channels, -1)[:, 0].copy() for element in elements)
    flat = builder.reshape(view.node, (view.index.size,), view.origin)
    return View(flat, view.index, view.origin), tuple(elements)


def in_order(builder: GraphBuilder, view: View, value: Constant, origin: str) -> FloatArray:
    """Return a constant that is broadcast over a tensor in the order of the tensor's node, (values,)."""
    ordered = np.empty(view.index.size, np.float32)
    known = finite(value, origin, "constant")
    try:
        spread = np.full(view.shape, known) if known.size == 1 else np.broadcast_to(known, view.shape)
    except ValueError:
        refuse(
            UNSUPPORTED_STRUCTURE,
            origin,
            f"its constant of shape {known.shape} does not fit one row, {view.shape}",
            "use a constant of length 1 along the first axis",
        )
    ordered[view.index.ravel()] = spread.ravel()
    return ordered


def per_channel(builder: GraphBuilder, view: View, value: Constant, origin: str) -> bool:
    """Say whether a constant that is broadcast over a tensor is one value per channel."""
    settled = builder.settle(view, origin)
    if _uniform(builder, settled, [in_order(builder, settled, value, origin)]):
        return True
    image = _woven(builder, settled)
    if image is not None and _uniform(builder, image, [in_order(builder, image, value, origin)]):
        return True
    return _turned(builder, settled, (value,)) is not None


def _elements(
    builder: GraphBuilder, view: View, values: tuple[Constant, ...], origin: str
) -> list[FloatArray]:
    return [in_order(builder, view, value, origin) for value in values]


def _uniform(builder: GraphBuilder, view: View, elements: list[FloatArray]) -> bool:
    rows = [element.reshape(builder.shape(view.node)[0], -1) for element in elements]
    return all(bool((row == row[:, :1]).all()) for row in rows)


def _turned(builder: GraphBuilder, view: View, values: tuple[Constant, ...]) -> View | None:
    """Return a tensor in a layout whose channels are the one axis along which constants differ.

    Of what functions of counts give alone: all its values have one unit, so that spikes can be moved.
    """
    if view.node in builder.doubtful or not _of_counts(builder, view.node):
        return None
    rank = len(view.shape)
    shapes = [(1,) * (rank - value.ndim) + value.shape for value in values]
    varying = [axis for axis in range(rank) if any(shape[axis] > 1 for shape in shapes)]
    if len(varying) != 1:
        return None
    order = [*varying, *(axis for axis in range(rank) if axis not in varying)]
    sizes = [view.shape[axis] for axis in order[1:] if view.shape[axis] > 1]
    shape = (
        view.shape[varying[0]],
        *((1, sizes[0]) if len(sizes) == 1 else (math.prod(sizes[:1]), math.prod(sizes[1:]))),
    )
    return builder.turned_to(view, order, shape)


def _of_counts(builder: GraphBuilder, name: str) -> bool:
    """Say whether a node holds what a function of counts gives, moved perhaps: it has one unit."""
    node = builder.nodes[name]
    while isinstance(node, ann.Reshape | ann.Gather | ann.Slice | ann.ChannelAffine):
        if isinstance(node, ann.ChannelAffine) and np.ptp(node.scale) + np.ptp(node.shift) > 0:
            return False
        node = builder.nodes[node.inputs[0]]
    return isinstance(node, ann.Levelled) and not isinstance(node, ann.Pointwise)


def _woven(builder: GraphBuilder, view: View) -> View | None:
    """Return a tensor of pixels folded into channels as a view of a node that has these channels."""
    if len(view.shape) != 4 or view.shape[0] != 1 or view.node in builder.doubtful:
        return None
    _, channels, height, width = view.shape
    image = weave(builder, view, (channels, height, width))
    if image is None:
        return None
    places = np.arange(height * width)
    return View(image.node, (image.channels[:, None] * places.size + places).reshape(view.shape), view.origin)
