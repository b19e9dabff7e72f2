"""Operators with weights: convolutions, matrix products and batch normalisation."""

from __future__ import annotations

import math

import numpy as np

from snnc.frontend.call import Call
from snnc.frontend.channel_constants import channel_values
from snnc.frontend.geometry import kernel_shape, read_window
from snnc.frontend.images import image_of
from snnc.frontend.products import matrix_product
from snnc.frontend.sums import weighted
from snnc.frontend.views import Image, Index, View, outer_sum, row_major
from snnc.ir import ann
from snnc.ir.channels import per_channel
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray


def conv(call: Call) -> View:
    """Read Conv over one or two spatial axes."""
    view = call.view()
    weight = call.weights(1, "weight")
    bias = call.weights(2, "bias") if call.has(2) else np.zeros(weight.shape[:1], np.float32)
    image = image_of(call.builder, view, call.origin)
    rank = len(view.shape) - 2
    if weight.ndim != rank + 2:
        call.refuse(
            f"the weight {weight.shape} does not fit the input {view.shape}", "export the model again"
        )
    kernels = weight.reshape(*weight.shape[:2], -1, weight.shape[-1]) if rank == 2 else weight[:, :, None]
    kernel = (kernels.shape[2], kernels.shape[3])
    if kernel_shape(call, rank) not in (None, kernel):
        call.refuse(f"kernel_shape differs from the weight's {weight.shape}", "export the model again")
    groups = call.integer("group", 1)
    outputs, inputs = kernels.shape[:2]
    if groups < 1 or inputs * groups != image.shape[0] or outputs % groups or bias.shape != (outputs,):
        call.refuse(
            f"weight {weight.shape}, bias {bias.shape}, {groups} groups do not fit {image.shape[0]} channels",
            "export the model again",
        )
    window = read_window(call, image.shape[1:], kernel, rank)
    kernels, bias, groups, order = _follow_channels(image, kernels, bias, groups)
    size = window.output_size(*image.shape[1:])
    scale = call.row_scale(1, 0)
    node = ann.Convolution(
        name=call.name,
        inputs=(image.node,),
        shape=(outputs, *size),
        origin=call.origin,
        weight=kernels,
        bias=bias,
        window=window,
        groups=groups,
        weight_scale=None if scale is None else scale[np.argsort(order)],
    )
    positions = math.prod(size)
    index = order[:, None] * positions + np.arange(positions)
    shape = (1, outputs, *size) if rank == 2 else (1, outputs, size[1])
    return View(call.builder.emit(node), index.reshape(shape), call.origin)


def _follow_channels(
    image: Image, kernels: FloatArray, bias: FloatArray, groups: int
) -> tuple[FloatArray, FloatArray, int, Index]:
    """Rearrange the weights of a convolution for a node whose channels stand in another order.

    Returns:
        Weight, bias, groups, and the channel of the node that each output channel of the tensor is.
    """
    outputs, width = kernels.shape[:2]
    if image.plain:
        return kernels, bias, groups, np.arange(outputs)
    columns = image.channels.reshape(groups, width)
    blocks = columns // width
    if (blocks == blocks[:, :1]).all():
        # Every group reads one aligned block of channels: the groups change places, each with its outputs.
        each = outputs // groups
        grouped = kernels.reshape(groups, each, *kernels.shape[1:])
        moved = np.empty_like(grouped)
        for group in range(groups):
            moved[blocks[group, 0]][:, columns[group] % width] = grouped[group]
        target = blocks[:, :1] * each + np.arange(each)
        new_bias = np.empty_like(bias)
        new_bias[target.ravel()] = bias
        return moved.reshape(kernels.shape), new_bias, groups, target.ravel()
    dense = np.zeros((outputs, image.shape[0], *kernels.shape[2:]), np.float32)
    for output, kernel in enumerate(kernels):
        dense[output, columns[output * groups // outputs]] = kernel
    return dense, bias, 1, np.arange(outputs)


def gemm(call: Call) -> View:
    """Read Gemm with a constant second matrix."""
    view = call.view()
    weight = call.weights(1, "weight")
    if call.integer("transA", 0):
        call.refuse("transA=1 multiplies the transposed activations", "use transA=0")
    if weight.ndim != 2 or len(view.shape) != 2:
        call.refuse(f"{view.shape} and {weight.shape} are not two matrices", "export the model again")
    alpha, transposed = np.float32(call.number("alpha", 1)), bool(call.integer("transB", 0))
    weight = weight if transposed else weight.T
    if alpha != 1:
        weight = weight * alpha
    scale = call.row_scale(1, 0 if transposed else 1)
    bias: FloatArray = np.zeros(len(weight), np.float32)
    if call.has(2):
        constant = call.weights(2, "bias")
        if constant.size not in (1, len(weight)) or constant.shape[:-1] not in ((), (1,)):
            call.refuse(f"the bias {constant.shape} is not one value per output", "use one bias per output")
        bias += constant.ravel() * np.float32(call.number("beta", 1))
    return along(call, view, 1, weight, bias, None if scale is None else scale * np.abs(alpha))


def matmul(call: Call) -> View:
    """Read MatMul of two tensors, or with a constant matrix on one side."""
    left, right = call.operands
    if isinstance(left, View) and isinstance(right, View):
        return matrix_product(call, left, right)
    before = isinstance(left, View)
    view = call.view(0 if before else 1)
    weight = call.weights(1 if before else 0, "weight")
    if not weight.ndim:
        call.refuse("its weight is one number, not a matrix", "multiply by Mul, or export the model again")
    if weight.ndim > 2 and math.prod(weight.shape[:-2]) == 1 and weight.ndim <= len(view.shape):
        weight = weight.reshape(weight.shape[-2:])
    vector = weight.ndim == 1
    if vector:
        weight = weight[:, None] if before else weight[None]
    if weight.ndim != 2:
        return _many(call, view, weight, before=before)
    axis = len(view.shape) - (1 if before or len(view.shape) == 1 else 2)
    matrix = weight.T if before else weight
    scale = None if vector else call.row_scale(1 if before else 0, -1 if before else -2)
    result = along(call, view, axis, matrix, np.zeros(len(matrix), np.float32), scale)
    if not vector:
        return result
    return call.reshaped(result, (*result.shape[:axis], *result.shape[axis + 1 :]))


def _many(call: Call, view: View, weight: FloatArray, *, before: bool) -> View:
    """Multiply by matrices that differ along the axes in front of the last two."""
    index = view.index
    if index.ndim < 2 or index.shape[-1 if before else -2] != weight.shape[-2 if before else -1]:
        call.refuse(f"matrices {weight.shape} do not fit {view.shape}", "export the model again")
    try:
        front = np.broadcast_shapes(index.shape[:-2], weight.shape[:-2])
    except ValueError:
        call.refuse(f"matrices {weight.shape} do not fit {view.shape}", "export the model again")
    if call.batch != 1 and (len(front) >= index.ndim - 1 or front[0] != 1):
        call.refuse("its matrices differ along the batch", "use one matrix for all rows")
    call.builder.want(view.node, None)
    if before:
        weight = np.swapaxes(weight, -1, -2)
    else:
        index = np.swapaxes(index, -1, -2)
    matrices = weight.reshape(-1, *weight.shape[-2:])
    which = np.arange(len(matrices)).reshape(*weight.shape[:-2], 1)
    taps = np.broadcast_to(index, (*front, *index.shape[-2:]))
    chosen = np.broadcast_to(which, taps.shape[:-1])
    bias = np.zeros(matrices.shape[1], np.float32)
    result = weighted(call, view, taps, matrices, bias, which=chosen)
    return result if before else View(result.node, np.swapaxes(result.index, -1, -2), call.origin)


def along(
    call: Call,
    view: View,
    axis: int,
    weight: FloatArray,
    bias: FloatArray,
    scale: FloatArray | None = None,
) -> View:
    """Multiply every vector along one axis of a tensor by a matrix.

    A single vector makes a fully connected layer; many, at the positions of an image, a 1x1 convolution.

    Args:
        call: the operation.
        view: the tensor.
        axis: where its vectors lie.
        weight: (outputs, inputs).
        bias: (outputs,).
        scale: (outputs,) of which the weights are integer multiples; ``None`` if unknown.

    Raises:
        RefusalError: sizes do not fit, or too many weights would be needed.
    """
    outputs, inputs = weight.shape
    if not 0 <= axis < len(view.shape) or view.shape[axis] != inputs:
        call.refuse(f"a matrix {weight.shape} does not fit {view.shape}", "export the model again")
    shape = tuple(outputs if place == axis else n for place, n in enumerate(view.shape))
    if view.index.size == inputs:
        if inputs < math.prod(call.builder.shape(view.node)):
            # What is not read needs no weights.
            view = call.builder.settled(view, call.origin) or call.builder.narrowed(view)
        node, order = call.builder.flat(view)
        linear = ann.Linear(
            name=call.name,
            inputs=(node,),
            shape=(outputs,),
            origin=call.origin,
            weight=call.builder.spread(weight, order, call.builder.shape(node)[0]),
            bias=bias,
            weight_scale=scale,
        )
        return View(call.builder.emit(linear), row_major(shape), call.origin)
    if view.node in call.builder.doubtful:
        return call.builder.stand_in_view(shape, call.origin)
    vectors = np.moveaxis(view.index, axis, 0)
    call.builder.want(view.node, _as_image(vectors))
    settled = call.builder.settled(view, call.origin)
    whole = view if settled is None else settled
    vectors = np.moveaxis(whole.index, axis, 0)
    node_shape = call.builder.shape(whole.node)
    parts = None
    if settled is not None and node_shape[0] == inputs and len(node_shape) == 3:
        parts = outer_sum(vectors.reshape(inputs, -1))
    if parts is None:
        taps = np.moveaxis(whole.index, axis, -1)
        result = weighted(call, whole, taps, weight, bias, scale=scale)
        return View(result.node, np.moveaxis(result.index, -1, axis), call.origin)
    view = whole
    channels, places = parts
    kernels = np.empty((outputs, inputs, 1, 1), np.float32)
    kernels[:, channels, 0, 0] = weight
    convolution = ann.Convolution(
        name=call.name,
        inputs=(view.node,),
        shape=(outputs, *node_shape[1:]),
        origin=call.origin,
        weight=kernels,
        bias=bias,
        window=Window((1, 1)),
        weight_scale=scale,
    )
    index = np.arange(outputs)[:, None] * places.size + places
    moved = index.reshape(outputs, *vectors.shape[1:])
    return View(call.builder.emit(convolution), np.moveaxis(moved, 0, axis), call.origin)


def _as_image(vectors: Index) -> Index:
    """Reshape (channels, *positions) to (channels, height, width)."""
    sizes = [n for n in vectors.shape[1:] if n > 1]
    return vectors.reshape(vectors.shape[0], 1 if len(sizes) == 1 else sizes[0], -1)


def batch_normalisation(call: Call) -> View:
    """Read BatchNormalization at inference."""
    call.only_output()
    # Before opset 14, the mode was said by the number of outputs alone.
    if call.integer("training_mode", 0) or (call.opset < 14 and any(call.proto.output[1:])):
        call.refuse("it is in training mode", "export the model in evaluation mode")
    if call.opset < 9 and not call.integer("spatial", 1):
        call.refuse("spatial=0 normalises every pixel separately", "use one mean and variance per channel")
    view = call.view()
    names = ("scale", "shift", "mean", "variance")
    vectors = tuple(call.weights(position + 1, name) for position, name in enumerate(names))
    if len(view.shape) < 2:
        call.refuse(f"its input of shape {view.shape} has no channels", "export the model again")
    channels = view.shape[1]
    if any(vector.shape != (channels,) for vector in vectors):
        call.refuse(f"its vectors do not fit {channels} channels", "export the model again")
    view, (scale, shift, mean, variance) = channel_values(
        call.builder, view, tuple(per_channel(vector, len(view.shape) - 1) for vector in vectors), call.origin
    )
    epsilon = call.number("epsilon", 1e-5)
    if (variance + epsilon).min() < 0:
        call.refuse("a variance is negative", "check that the file is undamaged")
    if (variance + epsilon).min() == 0:
        call.refuse(
            "a variance is zero, and so is epsilon: it divides by zero",
            "export with a positive epsilon, such as 1e-5, or remove the channels that never vary",
        )
    node = ann.BatchNormalisation(
        name=call.name,
        inputs=(view.node,),
        shape=call.builder.shape(view.node),
        origin=call.origin,
        scale=scale,
        shift=shift,
        mean=mean,
        variance=variance,
        epsilon=epsilon,
    )
    return View(call.builder.emit(node), view.index, call.origin)
