"""Poolings, and reductions over all positions of an image."""

from __future__ import annotations

import math

import numpy as np

from snnc.diagnostics import UNSUPPORTED_STRUCTURE
from snnc.frontend.builder import Image
from snnc.frontend.call import Call
from snnc.frontend.geometry import kernel_shape, read_window
from snnc.frontend.views import View, outer_sum
from snnc.ir import ann
from snnc.ir.geometry import Window


def average_pool(call: Call) -> View:
    """Read AveragePool, whose padding must count as zeros or lie outside every window."""
    view = call.view()
    image = call.builder.image(view, call.origin)
    window = _window(call, image, len(view.shape) - 2, rounds_up=False)
    if window.dilations != (1, 1):
        call.refuse("dilated averages are not supported", "use dilations of 1")
    window = _without_unused_pads(window, image.shape[1:])
    if any(window.pads) and not call.integer("count_include_pad", 0):
        call.refuse(
            "its mean leaves out the padding, so that the divisor changes along the border",
            "use count_include_pad=1 (PyTorch: count_include_pad=True), or no padding",
        )
    if call.integer("ceil_mode", 0):
        up = _window(call, image, len(view.shape) - 2, rounds_up=True)
        if up.output_size(*image.shape[1:]) != window.output_size(*image.shape[1:]):
            call.refuse(
                "with ceil_mode, its last windows are not full", "use ceil_mode=0, or a size that fits"
            )
    return _pooled(call, view, image, window, ann.AveragePool)


def max_pool(call: Call) -> View:
    """Read MaxPool without indices."""
    call.only_output()
    view = call.view()
    image = call.builder.image(view, call.origin)
    rounds_up = bool(call.integer("ceil_mode", 0))
    window = _without_unused_pads(_window(call, image, len(view.shape) - 2, rounds_up), image.shape[1:])
    if window.sees_only_padding(*image.shape[1:]):
        call.refuse("a window may see nothing but padding", "use pads smaller than the kernel")
    return _pooled(call, view, image, window, ann.MaxPool)


def global_average_pool(call: Call) -> View:
    """Read GlobalAveragePool."""
    return _over_positions(call, ann.AveragePool, tuple(range(2, len(call.view().shape))), keep=True)


def global_max_pool(call: Call) -> View:
    """Read GlobalMaxPool."""
    return _over_positions(call, ann.MaxPool, tuple(range(2, len(call.view().shape))), keep=True)


def reduce_mean(call: Call) -> View:
    """Read ReduceMean over all positions."""
    if call.whole:
        call.refuse("the mean of integers is cut to a whole number", "cast the input to floats first")
    return _reduce(call, ann.AveragePool)


def reduce_max(call: Call) -> View:
    """Read ReduceMax over all positions."""
    return _reduce(call, ann.MaxPool)


def _reduce(call: Call, kind: type[ann.AveragePool] | type[ann.MaxPool]) -> View:
    shape = call.view().shape
    rank = len(shape)
    axes = call.sizes("axes", 1, 18)
    if not axes:
        if call.integer("noop_with_empty_axes", 0):
            return call.view()
        axes = tuple(range(rank))
    reduced = call.axes(axes, rank)
    if 0 in reduced and shape[0] == 1 != call.batch:  # a free batch is not of length 1
        call.refuse("reduces the batch, so that rows mix", "reduce the positions of an image only")
    return _over_positions(call, kind, reduced, keep=bool(call.integer("keepdims", 1)))


def _over_positions(
    call: Call, kind: type[ann.AveragePool] | type[ann.MaxPool], axes: tuple[int, ...], *, keep: bool
) -> View:
    """Reduce all positions of every channel to one, whatever the layout."""
    view = call.view()
    reduced = tuple(1 if axis in axes else n for axis, n in enumerate(view.shape))
    result = reduced if keep else tuple(n for axis, n in enumerate(view.shape) if axis not in axes)
    kept = [axis for axis in range(len(view.shape)) if axis not in axes]
    channels = math.prod(reduced)
    if channels == view.index.size:
        return call.reshaped(view, result)
    if view.node in call.builder.doubtful:
        return call.builder.stand_in_view(result, call.origin)
    apart = np.transpose(view.index, (*kept, *axes)).reshape(channels, -1)
    spatial = tuple(view.shape[axis] for axis in axes if view.shape[axis] > 1)
    height, width = (1, *spatial) if len(spatial) == 1 else (spatial[0], math.prod(spatial[1:]))
    call.builder.want(apart.reshape(channels, height, width))
    view = call.builder.settle(view, call.origin)
    apart = np.transpose(view.index, (*kept, *axes)).reshape(channels, -1)
    parts = outer_sum(apart)
    if parts is None:
        call.refuse(
            f"reduces the axes {axes} of {view.shape}, which are not all positions of an image",
            "reduce height and width together, and nothing else",
            UNSUPPORTED_STRUCTURE,
        )
    node = call.builder.shape(view.node)
    shape = node if len(node) == 3 and node[0] == channels else (channels, height, width)
    name = call.builder.reshape(view.node, shape, view.origin)
    pooled = kind(
        name=call.name,
        inputs=(name,),
        shape=(channels, 1, 1),
        origin=call.origin,
        window=Window((shape[1], shape[2]), (1, 1)),
    )
    return View(call.builder.emit(pooled), parts[0].reshape(result), call.origin)


def _window(call: Call, image: Image, rank: int, rounds_up: bool) -> Window:
    kernel = kernel_shape(call, rank)
    if kernel is None:
        call.refuse("the attribute kernel_shape is missing", "export the model again")
    return read_window(call, image.shape[1:], kernel, rank, rounds_up=rounds_up)


def _without_unused_pads(window: Window, size: tuple[int, int]) -> Window:
    """Drop the pads at the bottom and at the right that no window reaches."""
    rows, columns = window.output_size(*size)
    needed = [
        (count - 1) * stride + dilation * (kernel - 1) + 1 - before - n
        for count, stride, dilation, kernel, before, n in zip(
            (rows, columns),
            window.strides,
            window.dilations,
            window.kernel,
            window.pads[:2],
            size,
            strict=True,
        )
    ]
    bottom, right = max(needed[0], 0), max(needed[1], 0)
    return Window(window.kernel, window.strides, (*window.pads[:2], bottom, right), window.dilations)


def _pooled(
    call: Call, view: View, image: Image, window: Window, kind: type[ann.AveragePool] | type[ann.MaxPool]
) -> View:
    """Add a pooling, which keeps the order of the channels."""
    size = window.output_size(*image.shape[1:])
    shape = (image.shape[0], *size)
    node = kind(name=call.name, inputs=(image.node,), shape=shape, origin=call.origin, window=window)
    positions = math.prod(size)
    index = image.channels[:, None] * positions + np.arange(positions)
    result = (1, *shape) if len(view.shape) == 4 else (1, shape[0], shape[2])
    return View(call.builder.emit(node), index.reshape(result), call.origin)
