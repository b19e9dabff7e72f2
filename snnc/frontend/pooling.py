"""Poolings, and reductions over all positions of an image."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from snnc.frontend.call import Call
from snnc.frontend.elementwise import affine
from snnc.frontend.geometry import kernel_shape, read_window
from snnc.frontend.images import image_of
from snnc.frontend.means import averaged
from snnc.frontend.pointwise import Written, emit_function
from snnc.frontend.products import product
from snnc.frontend.sums import summed_up
from snnc.frontend.views import LOWEST, PADDED, Image, View, bounding_box, outer_sum, row_major
from snnc.ir import ann
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray
from snnc.simulation.arrays import windows


def average_pool(call: Call) -> View:
    """Read AveragePool: what its windows divide by may change along the border."""
    view = call.view()
    image = image_of(call.builder, view, call.origin)
    rank, size = len(view.shape) - 2, image.shape[1:]
    rounds_up = bool(call.integer("ceil_mode", 0))
    declared = _window(call, size, rank, rounds_up=False).pads
    window = _without_unused_pads(_window(call, size, rank, rounds_up=rounds_up), size)
    if window.dilations == (1, 1):
        result = _pooled(call, view, image, window, ann.AveragePool)
    else:
        result = _dilated(call, view, image, window)
    if image.node in call.builder.doubtful or not any(window.pads):
        return result
    counted = declared if call.integer("count_include_pad", 0) else (0, 0, 0, 0)
    divisor = _divisors(size, window, counted)
    if not divisor.all():
        call.refuse("a window may see nothing but padding", "use pads smaller than the kernel")
    factors = (np.float32(window.area) / divisor).reshape(result.shape[2:])
    return affine(call, result, factors, np.float32(0))


def _divisors(size: tuple[int, int], window: Window, counted: tuple[int, int, int, int]) -> FloatArray:
    """Return by how much the sum of each window is divided, (rows, columns).

    Args:
        size: height and width of the input.
        window: its pads reach as far as the last window does.
        counted: the pads that count as values, at the top, left, bottom and right.
    """
    top, left, bottom, right = window.pads
    inside = np.zeros((1, 1, size[0] + top + bottom, size[1] + left + right), np.float32)
    first, last = (top - counted[0], left - counted[1]), (top + size[0], left + size[1])
    inside[:, :, first[0] : last[0] + counted[2], first[1] : last[1] + counted[3]] = 1
    slid = Window(window.kernel, window.strides, dilations=window.dilations)
    return windows(inside, slid, 0).sum(axis=(4, 5), dtype=np.float32)[0, 0]


def _dilated(call: Call, view: View, image: Image, window: Window) -> View:
    """Return the mean over a window with gaps: a convolution of equal weights."""
    size = window.output_size(*image.shape[1:])
    depth = image.shape[0]
    node = ann.Convolution(
        name=call.name,
        inputs=(image.node,),
        shape=(depth, *size),
        origin=call.origin,
        weight=np.full((depth, 1, *window.kernel), 1 / window.area, np.float32),
        bias=np.zeros(depth, np.float32),
        window=window,
        groups=depth,
    )
    positions = math.prod(size)
    index = image.channels[:, None] * positions + np.arange(positions)
    result = (1, depth, *size) if len(view.shape) == 4 else (1, depth, size[1])
    return View(call.builder.emit(node), index.reshape(result), call.origin)


def max_pool(call: Call) -> View:
    """Read MaxPool without indices, and minus infinity in front of it as its own padding."""
    call.only_output()
    view, (top, left, bottom, right) = _without_lowest(call.view())
    image = image_of(call.builder, view, call.origin)
    padded = (image.shape[1] + top + bottom, image.shape[2] + left + right)
    own = _window(call, padded, len(view.shape) - 2, rounds_up=bool(call.integer("ceil_mode", 0)))
    pads = (own.pads[0] + top, own.pads[1] + left, own.pads[2] + bottom, own.pads[3] + right)
    window = _without_unused_pads(replace(own, pads=pads), image.shape[1:])
    if window.sees_only_padding(*image.shape[1:]):
        call.refuse("a window may contain only padding", "use pads smaller than the kernel")
    return _pooled(call, view, image, window, ann.MaxPool)


def _without_lowest(view: View) -> tuple[View, tuple[int, int, int, int]]:
    """Take minus infinity off the height and width of an image, (1, channels, *positions).

    Returns:
        The rest, and how much lay at the top, left, bottom and right; all zero where it does not lie there.
    """
    none = (0, 0, 0, 0)
    lowest = view.index == LOWEST
    box = bounding_box(np.where(lowest, PADDED, 0))
    if not lowest.any() or len(view.shape) not in (3, 4) or lowest[box].any():
        return view, none
    ends = [(cut.start, n - cut.stop) for cut, n in zip(box, view.shape, strict=True)]
    if any(ends[0] + ends[1]):
        return view, none
    (top, bottom), (left, right) = ends[2:] if len(ends) == 4 else [(0, 0), ends[2]]
    return view.to(view.index[box], view.origin), (top, left, bottom, right)


def global_average_pool(call: Call) -> View:
    """Read GlobalAveragePool."""
    return _over_positions(call, ann.AveragePool, tuple(range(2, len(call.view().shape))), keep=True)


def global_max_pool(call: Call) -> View:
    """Read GlobalMaxPool."""
    return _over_positions(call, ann.MaxPool, tuple(range(2, len(call.view().shape))), keep=True)


def reduce_max(call: Call) -> View:
    """Read ReduceMax over all positions."""
    axes = reduced_axes(call, 18)
    if axes is None:
        return call.view()
    return _over_positions(call, ann.MaxPool, axes, keep=bool(call.integer("keepdims", 1)))


def reduce_min(call: Call) -> View:
    """Read ReduceMin: the maximum of what is turned around."""
    negative = affine(call, call.view(), np.float32(-1), np.float32(0))
    largest = reduce_max(replace(call, operands=(negative, *call.operands[1:])))
    return affine(call, largest, np.float32(-1), np.float32(0))


def reduce_sum_square(call: Call) -> View:
    """Read ReduceSumSquare."""
    if call.whole:
        call.refuse("computes in integers", "cast the input to floats first")
    squares = product(call, call.view(), call.view())
    return _averaged(replace(call, operands=(squares, *call.operands[1:])), since=18, total=True)


def reduce_l2(call: Call) -> View:
    """Read ReduceL2: the root of the sum of squares."""
    root = Written("Sqrt(x)", (), is_identity=False, is_rectifier=False, is_curved=True)
    return emit_function(call.builder, reduce_sum_square(call), root, call.proto)


def reduce_l1(call: Call) -> View:
    """Read ReduceL1: the sum of magnitudes."""
    if call.whole:
        call.refuse("computes in integers", "cast the input to floats first")
    magnitude = Written("Abs(x)", (), is_identity=False, is_rectifier=False, is_curved=True)
    magnitudes = emit_function(call.builder, call.view(), magnitude, call.proto)
    return _averaged(replace(call, operands=(magnitudes, *call.operands[1:])), since=18, total=True)


def reduce_mean(call: Call) -> View:
    """Read ReduceMean over any axes but the batch."""
    if call.whole:
        call.refuse("the mean of integers is truncated to an integer", "cast the input to floats first")
    return _averaged(call, since=18, total=False)


def reduce_sum(call: Call) -> View:
    """Read ReduceSum over any axes but the batch: means, multiplied."""
    return _averaged(call, since=13, total=True)


def _averaged(call: Call, *, since: int, total: bool) -> View:
    axes = reduced_axes(call, since)
    view = call.view()
    if axes is None:
        return view
    result = _over_positions(call, ann.AveragePool, axes, keep=bool(call.integer("keepdims", 1)))
    count = math.prod(view.shape[axis] for axis in axes) if total else 1
    return affine(call, result, np.float32(count), np.float32(0))


def reduced_axes(call: Call, since: int) -> tuple[int, ...] | None:
    """Return the axes that a reduction is over; ``None`` where it reduces nothing.

    Args:
        call: the reduction.
        since: the operator set from which on the axes are an input.
    """
    shape = call.view().shape
    axes = call.sizes("axes", 1, since)
    if not axes:
        if call.integer("noop_with_empty_axes", 0):
            return None
        axes = tuple(range(len(shape)))
    reduced = call.axes(axes, len(shape))
    if not shape:  # one number
        return None
    if any(map(call.may_be_batch, reduced)):
        call.refuse("reduces the batch axis, which mixes rows", "reduce other axes only")
    if call.batch != 1 and shape[0] != 1:
        # What stands before the batch moves it to another axis, which has the length 1 here as well.
        left = [n for axis, n in enumerate(shape) if axis not in reduced]
        if 1 not in left or any(shape[axis] == 1 for axis in reduced):
            call.refuse("may reduce the batch axis, which mixes rows", "keep the batch in front")
    return reduced


def _over_positions(
    call: Call, kind: type[ann.AveragePool] | type[ann.MaxPool], axes: tuple[int, ...], *, keep: bool
) -> View:
    """Reduce all positions of every channel to one, whatever the layout."""
    view = call.view()
    call.builder.refuse_lowest(view, call.origin)
    reduced = tuple(1 if axis in axes else n for axis, n in enumerate(view.shape))
    result = reduced if keep else tuple(n for axis, n in enumerate(view.shape) if axis not in axes)
    kept = [axis for axis in range(len(view.shape)) if axis not in axes]
    channels = math.prod(reduced)
    if channels == view.index.size:
        return call.reshaped(view, result)
    if view.node in call.builder.doubtful:
        return call.builder.stand_in_view(result, call.origin)
    if call.builder.probing and sum(view.shape[axis] > 1 for axis in kept) > 1:
        return call.builder.stand_in_view(result, call.origin)  # this tells nothing about the layout
    apart = np.transpose(view.index, (*kept, *axes)).reshape(channels, -1)
    spatial = tuple(view.shape[axis] for axis in axes if view.shape[axis] > 1)
    height, width = (1, *spatial) if len(spatial) == 1 else (spatial[0], math.prod(spatial[1:]))
    call.builder.want(view.node, apart.reshape(channels, height, width))
    whole = call.builder.settled(view, call.origin)
    parts = None
    if whole is not None:
        view = whole
        apart = np.transpose(view.index, (*kept, *axes)).reshape(channels, -1)
        parts = outer_sum(apart)
    mixed = bool(channels % call.builder.shape(view.node)[0])  # channels would be reduced, too
    if (parts is None or mixed) and kind is ann.AveragePool:
        found = averaged(call, view, axes)
        if found is not None:
            return call.reshaped(found, result)
    if parts is None and kind is ann.AveragePool:
        result_ = summed_up(call, view, apart, np.full(apart.shape, 1 / apart.shape[1], np.float32))
        return call.reshaped(result_, result)
    if parts is None:
        name = call.builder.routes.node(view.node, apart.reshape(channels, height, width), view.origin)
        view, parts = View(name, row_major(apart.shape), view.origin), (np.arange(channels), np.arange(1))
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


def _window(call: Call, size: tuple[int, int], rank: int, rounds_up: bool) -> Window:
    kernel = kernel_shape(call, rank)
    if kernel is None:
        call.refuse("the attribute kernel_shape is missing", "export the model again")
    return read_window(call, size, kernel, rank, rounds_up=rounds_up)


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
