"""Operators that only move values: they change index maps and add no operation."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from snnc.diagnostics import UNSUPPORTED_STRUCTURE
from snnc.frontend.call import HUGE, Call, Limited
from snnc.frontend.elementwise import affine
from snnc.frontend.images import image_of
from snnc.frontend.refusals import check_size, finite
from snnc.frontend.simplify import Constant
from snnc.frontend.views import LOWEST, PADDED, Index, View
from snnc.ir import ann

BLOCKS = {"DCR": (0, 3, 5, 1, 2, 4), "CRD": (0, 1, 3, 5, 2, 4)}
"""The order of (n, channel, row, row in the block, column, column in the block) by the mode of a fold."""

WITHOUT_END = 10**9
"""An end of a slice that no axis reaches, as exporters write it; larger ones are met, too."""

FLOATS = (1, 10, 11, 16)
"""Tensor types float, float16, double and bfloat16."""

MODES: dict[str, Literal["constant", "edge", "reflect", "wrap"]] = {
    "constant": "constant",
    "edge": "edge",
    "reflect": "reflect",
    "wrap": "wrap",
}
"""How NumPy calls the modes of Pad."""


def identity(call: Call) -> View:
    """Read Identity."""
    return call.view()


def dropout(call: Call) -> View:
    """Read Dropout, which does nothing at inference."""
    call.only_output()
    if call.has(2) and np.asarray(call.constant(2, "training mode")).any():
        call.refuse("it is in training mode", "export the model in evaluation mode")
    return call.view()


def cast(call: Call) -> View:
    """Read Cast to a float type."""
    if call.integer("to", 1) not in FLOATS:
        call.refuse("it rounds activations to integers", "remove the cast: activations must stay floats")
    return call.view()


def shape(call: Call) -> Constant:
    """Read Shape, known at batch size 1."""
    (value,) = call.operands
    sizes = value.view.shape if isinstance(value, Limited) else call.view().shape
    start, end = call.integer("start", 0), call.integer("end", len(sizes))
    return np.array(sizes[start:end], np.int64)


def size(call: Call) -> Constant:
    """Read Size, known at batch size 1."""
    return np.array(call.view().index.size, np.int64)


def reshape(call: Call) -> View:
    """Read Reshape."""
    view = call.view()
    wanted = list(call.sizes("shape", 1, 5) or ())
    if not call.integer("allowzero", 0):
        for axis, n in enumerate(wanted):
            if n == 0 and axis >= len(view.shape):
                call.refuse(f"the shape {tuple(wanted)} copies an axis that does not exist", "export again")
            wanted[axis] = n or view.shape[axis]
    if wanted.count(-1) > 1 or min(wanted, default=1) < -1:
        call.refuse(f"the shape {tuple(wanted)} is ambiguous", "export again")
    batch = call.batch or 1
    if (
        wanted
        and wanted[0] == batch > 1
        and -1 not in wanted
        and math.prod(wanted) == batch * view.index.size
    ):
        wanted[0] = 1  # the file spells out its own batch size, which has been set to 1
    elif wanted and wanted[0] == batch > 1 and -1 in wanted:
        wanted[0] = 1
    return call.reshaped(view, tuple(wanted))


def flatten(call: Call) -> View:
    """Read Flatten."""
    view = call.view()
    axis = call.integer("axis", 1)
    axis = axis if axis == len(view.shape) else call.axis(axis, len(view.shape))
    if axis == 0 and call.batch != 1:
        call.refuse("joins the rows of a batch to one", "flatten the axes behind the batch: axis 1")
    return call.reshaped(view, (math.prod(view.shape[:axis]), math.prod(view.shape[axis:])))


def transpose(call: Call) -> View:
    """Read Transpose."""
    view = call.view()
    order = call.integers("perm") or tuple(reversed(range(len(view.shape))))
    if sorted(order) != list(range(len(view.shape))):
        call.refuse(f"the order {order} does not fit the rank {len(view.shape)}", "export again")
    return call.same_node(view, view.index.transpose(order))


def squeeze(call: Call) -> View:
    """Read Squeeze."""
    view = call.view()
    axes = call.sizes("axes", 1, 13)
    if axes is None:
        # A batch of other lengths than 1 stays.
        axes = tuple(axis for axis, n in enumerate(view.shape) if n == 1 and not call.may_be_batch(axis))
    gone = call.axes(axes, len(view.shape))
    if any(view.shape[axis] != 1 for axis in gone):
        call.refuse(f"the axes {axes} of the shape {view.shape} are longer than 1", "export again")
    return call.reshaped(view, tuple(n for axis, n in enumerate(view.shape) if axis not in gone))


def unsqueeze(call: Call) -> View:
    """Read Unsqueeze."""
    view = call.view()
    axes = call.sizes("axes", 1, 13) or ()
    rank = len(view.shape) + len(axes)
    new = call.axes(axes, rank)
    if len(set(new)) < len(new):
        call.refuse(f"the axes {axes} repeat", "export again")
    old = iter(view.shape)
    return call.reshaped(view, tuple(1 if axis in new else next(old) for axis in range(rank)))


def expand(call: Call) -> View:
    """Read Expand."""
    view = call.view()
    wanted = call.sizes("shape", 1, 8) or ()
    try:
        result = np.broadcast_shapes(view.shape, wanted)
    except ValueError:
        call.refuse(f"{view.shape} cannot be expanded to {wanted}", "export again")
    check_size(result, call.origin)
    _require_one_batch(call, view, result)
    return call.same_node(view, np.broadcast_to(view.index, result))


def tile(call: Call) -> View:
    """Read Tile."""
    view = call.view()
    times = call.sizes("repeats", 1, 6) or ()
    if len(times) != len(view.shape) or min(times) < 1:
        call.refuse(f"the repeats {times} do not fit {view.shape}", "export again")
    result = tuple(n * count for n, count in zip(view.shape, times, strict=True))
    check_size(result, call.origin)
    _require_one_batch(call, view, result)
    return call.same_node(view, np.tile(view.index, times))


def _require_one_batch(call: Call, view: View, result: tuple[int, ...]) -> None:
    """Refuse to repeat the batch, which is of length 1 here and of any length when the network runs."""
    if len(result) > len(view.shape):
        return
    if any(n != 1 and call.may_be_batch(axis) for axis, n in enumerate(result)):
        call.refuse("repeats the batch", "repeat other axes only")


def slice_(call: Call) -> View:
    """Read Slice."""
    view = call.view()
    starts, ends = call.sizes("starts", 1, 10) or (), call.sizes("ends", 2, 10) or ()
    axes = call.sizes("axes", 3, 10) or tuple(range(len(starts)))
    steps = (call.sizes("steps", 4, 10) if call.opset >= 10 else None) or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        call.refuse("starts, ends, axes and steps do not fit together", "export again")
    cut = [slice(None)] * len(view.shape)
    for axis, start, end, step in zip(call.axes(axes, len(cut)), starts, ends, steps, strict=True):
        n = view.shape[axis]
        every = step == 1 and start == 0 and end >= (call.batch or WITHOUT_END)
        if not every and call.may_be_batch(axis):
            call.refuse("takes a part of the batch, so that rows mix", "keep every row")
        # Backwards, an end before the first element means "to the front", which Python writes as None.
        stop = None if step < 0 and end < -n else end
        cut[axis] = slice(start, stop, step)
    return _part(call, view, view.index[tuple(cut)])


def gather(call: Call) -> View:
    """Read Gather with constant indices."""
    view = call.view()
    indices = np.asarray(call.constant(1, "index"))
    if indices.dtype.kind not in "iu":
        call.refuse(f"the index holds {indices.dtype} numbers, which count nothing", "export the model again")
    axis = call.axis(call.integer("axis", 0), len(view.shape))
    if indices.size and (indices.min() < -view.shape[axis] or indices.max() >= view.shape[axis]):
        call.refuse(f"an index lies outside the {view.shape[axis]} positions of axis {axis}", "export again")
    if call.may_be_batch(axis):
        call.refuse("picks from the batch, so that rows mix", "keep every row")
    return _part(call, view, np.take(view.index, indices, axis=axis))


def split(call: Call) -> tuple[View, ...]:
    """Read Split."""
    view = call.view()
    axis = call.axis(call.integer("axis", 0), len(view.shape))
    n, parts = view.shape[axis], len(call.proto.output)
    sizes = call.sizes("split", 1, 13)
    if sizes is None:
        each = -(-n // parts)
        sizes = (*(each,) * (parts - 1), n - each * (parts - 1))
    if sum(sizes) != n or len(sizes) != parts or min(sizes) < 1:
        call.refuse(f"the parts {sizes} do not fit {n} positions", "export again")
    pieces = np.split(view.index, np.cumsum(sizes)[:-1], axis=axis)
    return tuple(call.same_node(view, piece) for piece in pieces)


def pad(call: Call) -> View:
    """Read Pad in every mode, or with minus infinity in front of MaxPool; negative pads cut."""
    view = call.view()
    rank = len(view.shape)
    mode = call.attribute("mode") or "constant"
    value = call.number("value", 0) if call.opset < 11 else call.scalar(2, "padding value", 0)
    pads = call.sizes("pads", 1, 11) or ()
    axes = (call.sizes("axes", 3, 18) if call.opset >= 18 else None) or tuple(range(rank))
    if len(pads) != 2 * len(axes):
        call.refuse(f"{len(pads)} pads do not fit {len(axes)} axes", "export again")
    if not any(pads):
        return view
    filler = LOWEST if value <= -HUGE else PADDED
    if mode not in MODES:
        call.refuse(f"pads by the mode {mode!r}, which is unknown", "export the model again")
    if not np.isfinite(value) and filler == PADDED:
        call.refuse(f"pads with {value:g}", "pad with numbers")
    widths = [(0, 0)] * rank
    for position, axis in enumerate(call.axes(axes, rank)):
        widths[axis] = (pads[position], pads[position + len(axes)])
    if widths[0] != (0, 0) and view.shape[0] == 1:
        call.refuse("pads the batch", "pad height, width or channels only")
    if any(n + min(b, 0) + min(a, 0) < 0 for n, (b, a) in zip(view.shape, widths, strict=True)):
        call.refuse(f"the pads {pads} cut off more than the shape {view.shape} has", "export again")
    index = view.index[
        tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(view.shape, widths, strict=True))
    ]
    grown = [(max(b, 0), max(a, 0)) for b, a in widths]
    check_size(tuple(b + n + a for n, (b, a) in zip(index.shape, grown, strict=True)), call.origin)
    if mode != "constant":
        if any(sum(sides) and not n for n, sides in zip(index.shape, grown, strict=True)):
            call.refuse("nothing is left of its input", "export again", UNSUPPORTED_STRUCTURE)
        if mode == "reflect" and any(max(sides) >= n for n, sides in zip(index.shape, grown, strict=True)):
            call.refuse(f"mirrors more than there is of {index.shape}", "use smaller pads")
        return _part(call, view, np.pad(index, grown, mode=MODES[mode]))
    padded = _part(call, view, np.pad(index, grown, constant_values=filler))
    if value == 0 or filler == LOWEST:
        return padded
    around = np.pad(np.zeros(index.shape, np.float32), grown, constant_values=np.float32(value))
    return affine(call, padded, np.float32(1), around)


def space_to_depth(call: Call) -> View:
    """Read SpaceToDepth: the pixels of a block become channels."""
    view = call.view()
    block = call.integer("blocksize", 1)
    if len(view.shape) != 4 or block < 1 or view.shape[2] % block or view.shape[3] % block:
        call.refuse(f"blocks of {block} do not fit {view.shape}", "export again")
    n, channels, height, width = view.shape
    apart = view.index.reshape(n, channels, height // block, block, width // block, block)
    folded = (n, channels * block**2, height // block, width // block)
    mode = call.attribute("mode") or "DCR"
    if mode not in BLOCKS:
        call.refuse(f"its mode is {mode!r}", f"use {' or '.join(BLOCKS)}")
    return call.same_node(view, apart.transpose(BLOCKS[mode]).reshape(folded))


def depth_to_space(call: Call) -> View:
    """Read DepthToSpace: channels become the pixels of a block."""
    view = call.view()
    block = call.integer("blocksize", 1)
    mode = call.attribute("mode") or "DCR"
    if len(view.shape) != 4 or block < 1 or view.shape[1] % block**2 or mode not in ("DCR", "CRD"):
        call.refuse(f"blocks of {block} in the mode {mode!r} do not fit {view.shape}", "export again")
    n, channels, height, width = view.shape
    depth = channels // block**2
    if mode == "DCR":
        apart = view.index.reshape(n, block, block, depth, height, width).transpose(0, 3, 4, 1, 5, 2)
    else:
        apart = view.index.reshape(n, depth, block, block, height, width).transpose(0, 1, 4, 2, 5, 3)
    return call.same_node(view, apart.reshape(n, depth, height * block, width * block))


def concat(call: Call) -> View:
    """Read Concat of activations, of constants, and of zeros, which pad."""
    rank = next(len(value.shape) for value in call.operands if isinstance(value, View))
    axis = call.axis(call.integer("axis", 1), rank)
    operands = [
        _constant_part(call, value, axis) if isinstance(value, np.ndarray) and np.any(value) else value
        for value in call.operands
    ]
    views = [value for value in operands if isinstance(value, View)]
    if len(views) > 1:
        views = [call.builder.settle(view, call.origin) for view in _as_images(call, views, axis)]
        if len({call.builder.shape(view.node)[1:] for view in views}) > 1:
            flat = [call.builder.flat(view) for view in views]
            views = [
                View(node, order.reshape(view.shape), view.origin)
                for view, (node, order) in zip(views, flat, strict=True)
            ]
    offsets = np.cumsum([0, *(math.prod(call.builder.shape(view.node)) for view in views)])
    parts = []
    remaining = iter(zip(views, offsets, strict=False))
    for value in operands:
        if isinstance(value, View):
            view, offset = next(remaining)
            parts.append(np.where(view.index == PADDED, PADDED, view.index + offset))
        elif isinstance(value, np.ndarray):
            parts.append(np.full(np.shape(value), PADDED, np.int64))
    try:
        index = np.concatenate(parts, axis=axis)
    except ValueError:
        call.refuse(f"the shapes {[part.shape for part in parts]} do not fit", "export again")
    if len(views) == 1:
        return call.same_node(views[0], index)
    shapes = [call.builder.shape(view.node) for view in views]
    node = call.builder.emit(
        ann.Concat(
            name=call.name,
            inputs=tuple(view.node for view in views),
            shape=(sum(s[0] for s in shapes), *shapes[0][1:]),
            origin=call.origin,
        )
    )
    return View(node, index, call.origin)


def _as_images(call: Call, views: list[View], axis: int) -> list[View]:
    """Return tensors that are joined along their channels as images, where one of them is one already."""
    shapes = [view.shape[2:] for view in views]
    if axis != 1 or call.builder.probing or len(views[0].shape) not in (3, 4) or len(set(shapes)) > 1:
        return views
    places = (1, *shapes[0])[-2:]
    nodes = [call.builder.shape(view.node) for view in views]
    same = [
        shape == (view.shape[1], *places) or view.node in call.builder.doubtful
        for shape, view in zip(nodes, views, strict=True)
    ]
    if all(same) or not any(same):
        return views
    images = [image_of(call.builder, view, call.origin) for view in views]
    positions = np.arange(math.prod(places))
    rows = [image.channels[:, None] * positions.size + positions for image in images]
    return [
        View(image.node, index.reshape(view.shape), view.origin)
        for image, index, view in zip(images, rows, views, strict=True)
    ]


def _constant_part(call: Call, value: Constant, axis: int) -> View:
    """Return a constant, such as coordinates, as a tensor whose channels lie along the axis of the join."""
    if axis == 0 or value.ndim <= axis or value.shape[0] != 1:
        call.refuse("joins activations with constants along the batch", "join along the channels")
    values = np.ascontiguousarray(np.moveaxis(finite(value, call.origin, "constant"), axis, 1)[0])
    flat = values.ravel() if call.builder.probing else values  # as is the input, until its layout is known
    node = call.builder.constant(f"{call.name}.constant", flat, call.origin)
    index = np.moveaxis(np.arange(value.size).reshape(1, *values.shape), 1, axis)
    return View(node, index, call.origin)


def _part(call: Call, view: View, index: Index) -> View:
    """Return a part of a tensor.

    Raises:
        RefusalError: nothing is left of it.
    """
    if not index.size:
        call.refuse("nothing is left of its input", "export again", UNSUPPORTED_STRUCTURE)
    return call.same_node(view, index)
