"""Operators that make maps larger: transposed convolutions and resizing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from snnc.frontend.call import Call
from snnc.frontend.images import image_of
from snnc.frontend.refusals import check_size
from snnc.frontend.sums import summed_up
from snnc.frontend.views import PADDED, Index, View
from snnc.ir import ann
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray, Shape

Pair = tuple[int, int]
NEWER = "export with one of the modes nearest and linear, and fine-tune"

ROUNDING = 1e-4
"""How near to the middle between two values a coordinate lies in it, as runtimes have it."""


def conv_transpose(call: Call) -> View:
    """Read ConvTranspose over one or two spatial axes, as a convolution of the input at its own size.

    A stride s leaves s phases of outputs along an axis, each of which some weights of the kernel reach: they
    are as many channels of one convolution (sub-pixel convolution, Shi et al., CVPR 2016), and an index map
    puts the pixels in their places. No zeros are inserted, so nothing multiplies them.
    """
    view = call.view()
    weight = call.weights(1, "weight")
    rank = len(view.shape) - 2
    if rank not in (1, 2) or weight.ndim != rank + 2:
        call.refuse(f"the weight {weight.shape} does not fit the input {view.shape}", "export again")
    image = image_of(call.builder, view, call.origin)
    kernels = weight if rank == 2 else weight[:, :, None]
    groups = call.integer("group", 1)
    inputs, each = kernels.shape[:2]
    outputs = each * groups
    bias = call.weights(2, "bias") if call.has(2) else np.zeros(outputs, np.float32)
    if groups < 1 or inputs != image.shape[0] or inputs % groups or bias.shape != (outputs,):
        call.refuse(
            f"weight {weight.shape}, bias {bias.shape}, {groups} groups do not fit {image.shape[0]} channels",
            "export the model again",
        )
    strides, dilations = _pair(call, "strides", rank, 1), _pair(call, "dilations", rank, 1)
    if min(*strides, *dilations) < 1:
        call.refuse("strides and dilations must be positive", "export the model again")
    size = (image.shape[1], image.shape[2])
    before, result = _extent(call, size, (kernels.shape[2], kernels.shape[3]), strides, dilations, rank)
    check_size((outputs, *result), call.origin)
    axes = [
        _Phases.of(size[k], kernels.shape[2 + k], strides[k], dilations[k], before[k], result[k])
        for k in range(2)
    ]
    if not image.plain:
        kernels, groups = _in_order_of(kernels, image.channels, groups), 1
    count = axes[0].phases * axes[1].phases
    window = Window(
        (axes[0].reach, axes[1].reach),
        pads=(axes[0].before, axes[1].before, axes[0].after, axes[1].after),
        dilations=(axes[0].dilation, axes[1].dilation),
    )
    made = window.output_size(*size)
    node = ann.Convolution(
        name=call.name,
        inputs=(image.node,),
        shape=(outputs * count, *made),
        origin=call.origin,
        weight=_phased(kernels, groups, axes),
        bias=np.repeat(bias, count).astype(np.float32),
        window=window,
        groups=groups,
    )
    down, right = (axis.places(n) for axis, n in zip(axes, result, strict=True))
    channel = np.arange(outputs)[:, None, None] * count
    channel = channel + down[0][:, None] * axes[1].phases + right[0]
    index = (channel * made[0] + down[1][:, None]) * made[1] + right[1]
    shape = (1, outputs, *result) if rank == 2 else (1, outputs, result[1])
    return View(call.builder.emit(node), index.reshape(shape), call.origin)


@dataclass(frozen=True, slots=True)
class _Phases:
    """One axis of a transposed convolution as a convolution with several phases.

    The output ``o = s q + p - cut`` sums ``w[k] x[q + (p - k d) / s]`` over the k for which that is whole.

    Attributes:
        phases: s, how many outputs stand between two inputs.
        offsets: for each phase p and place of the new kernel, the place k of the old one; -1 for none.
        dilation: of the new kernel.
        before, after: zeros around the input.
        first: the q of the new convolution's first output.
        cut: what is cut off in front of the result.
    """

    phases: int
    offsets: Index
    dilation: int
    before: int
    after: int
    first: int
    cut: int

    @property
    def reach(self) -> int:
        """Size of the new kernel."""
        return self.offsets.shape[1]

    @classmethod
    def of(cls, size: int, kernel: int, stride: int, dilation: int, cut: int, result: int) -> _Phases:
        """Find the convolution of one axis.

        Args:
            size: of the input.
            kernel: size of the transposed convolution's kernel.
            stride: how far its inputs are moved apart.
            dilation: of its kernel.
            cut: what is cut off in front of its result.
            result: size of what is left.
        """
        taps = np.arange(kernel)
        if stride == 1:
            offsets, step, lowest = taps[::-1][None], dilation, -(kernel - 1) * dilation
        else:
            whole = [(p - taps * dilation) // stride for p in range(stride)]
            fits = [(p - taps * dilation) % stride == 0 for p in range(stride)]
            reached = [w[f] for w, f in zip(whole, fits, strict=True)]
            lowest = min((int(r.min()) for r in reached if r.size), default=0)
            highest = max((int(r.max()) for r in reached if r.size), default=0)
            offsets = np.full((stride, highest - lowest + 1), -1)
            for phase in range(stride):
                offsets[phase, reached[phase] - lowest] = taps[fits[phase]]
            step = 1
        first, last = cut // stride, (result - 1 + cut) // stride
        first = min(first, -lowest)  # no fewer zeros than none stand in front
        before = -(first + lowest)
        reach = step * (offsets.shape[1] - 1) + 1
        after = max(last + lowest + reach - size, 0)
        return cls(stride, offsets, step, before, after, first, cut)

    def places(self, result: int) -> tuple[Index, Index]:
        """Return the phase and the place among its phase's outputs of each output."""
        at = np.arange(result) + self.cut
        return at % self.phases, at // self.phases - self.first


def _phased(kernels: FloatArray, groups: int, axes: list[_Phases]) -> FloatArray:
    """Return the weight of the convolution, (outputs * phases, inputs a group, height, width).

    Args:
        kernels: (inputs, outputs a group, height, width).
        groups: channel groups.
        axes: height and width.
    """
    inputs, each = kernels.shape[:2]
    padded = np.pad(kernels, ((0, 0), (0, 0), (0, 1), (0, 1)))  # the last place, -1, is zero
    down, right = axes[0].offsets, axes[1].offsets
    picked = padded[:, :, down[:, None, :, None], right[None, :, None, :]]
    grouped = picked.reshape(groups, inputs // groups, each, *picked.shape[2:])
    moved = grouped.transpose(0, 2, 3, 4, 1, 5, 6)
    shape = (groups * each * axes[0].phases * axes[1].phases, inputs // groups, *picked.shape[4:])
    return np.ascontiguousarray(moved.reshape(shape))


def _in_order_of(kernels: FloatArray, channels: Index, groups: int) -> FloatArray:
    """Return a weight of one group for a node whose channels stand in another order."""
    inputs, each = kernels.shape[:2]
    dense = np.zeros((inputs, each * groups, *kernels.shape[2:]), np.float32)
    for channel in range(inputs):
        group = channel * groups // inputs
        dense[channels[channel], group * each : (group + 1) * each] = kernels[channel]
    return dense


def _pair(call: Call, name: str, rank: int, default: int) -> Pair:
    values = call.integers(name) or (default,) * rank
    if len(values) != rank:
        call.refuse(f"{name} {values} do not fit {rank} spatial axes", "export the model again")
    return (values[0], values[1]) if rank == 2 else (default, values[0])


def _extent(
    call: Call, size: Pair, kernel: Pair, strides: Pair, dilations: Pair, rank: int
) -> tuple[Pair, Pair]:
    """Return what is cut off in front, and the size of the result, by pads, auto_pad or output_shape."""
    more = _pair(call, "output_padding", rank, 0)
    full = [
        s * (n - 1) + a + d * (k - 1) + 1
        for n, k, s, d, a in zip(size, kernel, strides, dilations, more, strict=True)
    ]
    mode = call.attribute("auto_pad") or "NOTSET"
    wanted = call.integers("output_shape")
    if wanted is not None and len(wanted) == rank + 2:
        wanted = wanted[2:]
    same = mode in ("SAME_UPPER", "SAME_LOWER")
    if wanted is not None or same:
        if wanted is None:
            sizes = [min(n * s, most) for n, s, most in zip(size, strides, full, strict=True)]
        elif len(wanted) == rank:
            sizes = list(wanted) if rank == 2 else [1, wanted[0]]
        else:
            call.refuse(f"the output shape {wanted} does not fit {rank} spatial axes", "export again")
        total = [max(n - m, 0) for n, m in zip(full, sizes, strict=True)]
        before = [n // 2 if mode == "SAME_UPPER" else n - n // 2 for n in total]
        return (before[0], before[1]), (sizes[0], sizes[1])
    if mode == "VALID":
        return (0, 0), (full[0], full[1])
    if mode != "NOTSET":
        call.refuse(f"auto_pad {mode!r} is unknown", "export the model again")
    pads = call.integers("pads") or (0,) * (2 * rank)
    if len(pads) != 2 * rank or min(pads) < 0:
        call.refuse(f"pads {pads} do not fit {rank} spatial axes", "export the model again")
    top, left, bottom, right = pads if rank == 2 else (0, pads[0], 0, pads[1])
    height, width = full[0] - top - bottom, full[1] - left - right
    if min(height, width) < 1:
        call.refuse("its pads cut off all that it makes", "use smaller pads")
    return (top, left), (height, width)


def resize(call: Call) -> View:
    """Read Resize, nearest or linear."""
    view = call.view()
    sizes = _sizes(call, view.shape)
    mode = call.attribute("mode") or "nearest"
    if mode not in ("nearest", "linear"):
        call.refuse(f"the mode {mode!r} is not supported", NEWER)
    old = call.opset < 11
    default = "asymmetric" if old else "half_pixel"
    how = (None if old else call.attribute("coordinate_transformation_mode")) or default
    rounding = "floor" if old else (call.attribute("nearest_mode") or "round_prefer_floor")
    if how == "tf_crop_and_resize":
        call.refuse(f"the coordinates {how!r} are not supported", NEWER)
    if call.integer("antialias", 0) and mode == "linear":
        call.refuse("antialias is not supported", "export with antialias=0")
    check_size(tuple(n for n, _ in sizes), call.origin)
    if tuple(n for n, _ in sizes) == view.shape:  # then runtimes copy, whatever the scale
        return view
    taps: list[Index] = []
    shares: list[FloatArray] = []
    for n, (size, scale) in zip(view.shape, sizes, strict=True):
        if how == "align_corners" and abs(n * scale - size) > ROUNDING:
            call.refuse(
                f"with {how!r} and a scale of {scale:g} for {n} values, runtimes disagree where they lie",
                "give sizes instead of scales",
            )
        places = _coordinates(call, n, size, scale, how)
        if size == n and np.allclose(places, np.arange(n), atol=1e-6):
            taps.append(np.arange(n)[:, None])
            shares.append(np.ones((n, 1), np.float32))
        elif mode == "nearest":
            tied = np.abs(places - np.rint(places)).min() < ROUNDING
            if how == "half_pixel_symmetric" and rounding in ("floor", "ceil") and tied:
                call.refuse(
                    f"with {how!r} and {rounding!r}, rounding errors decide which value is nearest",
                    "use the coordinates half_pixel",
                )
            taps.append(np.clip(_nearest(call, places, rounding), 0, n - 1)[:, None])
            shares.append(np.ones((size, 1), np.float32))
        else:
            # Beyond the ends both neighbours are the last value: the weights are those of the inside.
            low = np.floor(places).astype(np.int64)
            part = (places - low).astype(np.float32)
            taps.append(np.clip(np.stack([low, low + 1], axis=1), 0, n - 1))
            shares.append(np.stack([1 - part, part], axis=1))
    if mode == "nearest":
        return call.same_node(view, view.index[np.ix_(*(tap[:, 0] for tap in taps))])
    return _interpolated(call, view, taps, shares)


def upsample(call: Call) -> View:
    """Read Upsample, nearest or linear: Resize with the coordinates of old."""
    return resize(call)


def _interpolated(call: Call, view: View, taps: list[Index], shares: list[FloatArray]) -> View:
    """Return the sums over all combinations of the taps of each axis."""
    sizes: Shape = tuple(len(tap) for tap in taps)
    terms = tuple(tap.shape[1] for tap in taps)
    rank = len(taps)
    grid = np.ix_(*(tap.ravel() for tap in taps))
    order = (*range(0, 2 * rank, 2), *range(1, 2 * rank, 2))
    pairs = tuple(n for pair in zip(sizes, terms, strict=True) for n in pair)
    check_size(pairs, call.origin)
    picked = view.index[grid].reshape(pairs).transpose(order).reshape(*sizes, -1)
    weight: FloatArray = np.ones((1,) * (2 * rank), np.float32)
    for axis, share in enumerate(shares):
        shape = [1] * (2 * rank)
        shape[2 * axis], shape[2 * axis + 1] = share.shape
        weight = weight * share.reshape(shape)
    weights = weight.transpose(order).reshape(*sizes, math.prod(terms))
    if (picked == PADDED).all():
        return call.same_node(view, picked[..., 0])
    return summed_up(call, view, picked, weights)


def _sizes(call: Call, shape: Shape) -> list[tuple[int, float]]:
    """Return the size and the scale of every axis of the result."""
    rank = len(shape)
    if call.proto.op_type == "Upsample":
        position = 1
        scales = call.attribute("scales") if call.opset < 9 else None
    else:
        position = 1 if call.opset < 11 else 2
        scales = None
    axes = call.axes(call.integers("axes") or range(rank), rank)
    if scales is None and call.has(position) and np.size(call.constant(position, "scale")):
        scales = np.ravel(call.constant(position, "scale")).tolist()
    if scales is not None:
        if len(scales) != len(axes):
            call.refuse(f"the scales {scales} do not fit {shape}", "export the model again")
        found = [(n, 1.0) for n in shape]
        for axis, scale in zip(axes, scales, strict=True):
            found[axis] = (math.floor(shape[axis] * float(scale) + 1e-6), float(scale))
    elif call.opset >= 11 and call.has(3):
        wanted = [int(n) for n in np.ravel(call.constant(3, "size"))]
        if len(wanted) != len(axes):
            call.refuse(f"the sizes {wanted} do not fit {shape}", "export the model again")
        found = [(n, 1.0) for n in shape]
        keep = call.attribute("keep_aspect_ratio_policy") or "stretch"
        factors = [n / shape[axis] for n, axis in zip(wanted, axes, strict=True)]
        for axis, n, factor in zip(axes, wanted, factors, strict=True):
            if keep == "stretch":
                found[axis] = (n, factor)
            else:
                common = min(factors) if keep == "not_larger" else max(factors)
                found[axis] = (math.floor(shape[axis] * common + 0.5), common)
    else:
        call.refuse("it has neither scales nor sizes", "export the model again")
    if min(n for n, _ in found) < 1:
        call.refuse("nothing is left of its input", "use larger scales")
    return found


def _coordinates(call: Call, n: int, size: int, scale: float, how: str) -> FloatArray:
    """Return where each value of the result lies along an axis of the input."""
    at = np.arange(size, dtype=np.float32)  # runtimes compute in these, and ties are broken by them
    half = np.float32(0.5)
    middles: FloatArray = (at + half) / np.float32(scale)
    off = np.float32(n / 2) * (1 - np.float32(size) / (np.float32(n) * np.float32(scale)))
    found: dict[str, FloatArray] = {
        "half_pixel": middles - half,
        "half_pixel_symmetric": off + middles - half,
        "pytorch_half_pixel": middles - half if size > 1 else np.zeros(1, np.float32),
        "align_corners": at * np.float32(n - 1) / np.float32(max(size - 1, 1)),
        "asymmetric": at / np.float32(scale),
    }
    if how not in found:
        call.refuse(f"the coordinates {how!r} are not supported", NEWER)
    return found[how]


def _nearest(call: Call, places: FloatArray, rounding: str) -> Index:
    """Round coordinates."""
    halves = np.rint(2 * places) / 2
    ties = np.where(np.abs(places - halves) < ROUNDING, halves, places)
    found = {
        "round_prefer_floor": np.ceil(ties - 0.5),
        "round_prefer_ceil": np.floor(ties + 0.5),
        "floor": np.floor(places),
        "ceil": np.ceil(places),
    }
    if rounding not in found:
        call.refuse(f"the rounding {rounding!r} is unknown", "export the model again")
    return found[rounding].astype(np.int64)
