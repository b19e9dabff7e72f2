"""Operators that act on every value for itself: activations and arithmetic with constants."""

from __future__ import annotations

import math

import numpy as np

from snnc.diagnostics import UNSUPPORTED_OPERATOR, UNSUPPORTED_STRUCTURE
from snnc.frontend.arranging import apart
from snnc.frontend.call import HUGE, Call
from snnc.frontend.channel_constants import channel_values, in_order, per_channel
from snnc.frontend.masks import masked
from snnc.frontend.products import product, quotient, reciprocal
from snnc.frontend.simplify import Constant
from snnc.frontend.views import View, is_range, row_major
from snnc.ir import ann
from snnc.ir.graph import FloatArray

RETRAIN = "replace the activation by ReLU and fine-tune"


def relu(call: Call) -> View:
    """Read Relu."""
    return _rectified(call, call.view(), None)


def clip(call: Call) -> View:
    """Read Clip from 0 to a limit, such as ReLU6."""
    if call.opset < 11:
        low, high = call.number("min", -math.inf), call.number("max", math.inf)
    else:
        low = call.scalar(1, "lower bound", -math.inf)
        high = call.scalar(2, "upper bound", math.inf)
    if low <= -HUGE and high >= HUGE:
        return call.view()
    if low != 0 or high < 0:
        call.refuse(
            f"clips to [{low:g}, {high:g}]; only a lower bound of 0 is a rectifier",
            "use ReLU or ReLU6, and fine-tune",
        )
    return _rectified(call, call.view(), None if high >= HUGE else np.float32(high))


def maximum(call: Call) -> View:
    """Read Max with zero, a ReLU, or of two activations: ``max(a, b) = max(a - b, 0) + b``."""
    if all(isinstance(value, View) for value in call.operands) and len(call.operands) == 2:
        return _larger(call, call.view(0), call.view(1))
    view, constant = _with_constant(call)
    if np.any(constant):
        call.refuse("a maximum with a constant other than 0 is no rectifier", "use ReLU and fine-tune")
    return _rectified(call, broadcast(call, view, constant), None)


def minimum(call: Call) -> View:
    """Read Min with a positive constant, before or after a ReLU, or of two activations."""
    if all(isinstance(value, View) for value in call.operands) and len(call.operands) == 2:
        return _negative(call, _larger(call, *(_negative(call, call.view(n)) for n in (0, 1))))
    view, constant = _with_constant(call)
    if not np.all(constant >= 0):
        call.refuse("a minimum with a negative constant is no rectifier", "use ReLU6 and fine-tune")
    if not is_rectified(call.builder.nodes[view.node]) and not _rectified_after(call):
        call.refuse(
            "an upper limit without a rectifier has no spiking form", "use it together with ReLU, as in ReLU6"
        )
    return _rectified(call, broadcast(call, view, constant), constant)


def _negative(call: Call, view: View) -> View:
    return affine(call, view, np.float32(-1), np.float32(0))


def _larger(call: Call, first: View, second: View) -> View:
    """Return the larger of two tensors that broadcast, value by value."""
    difference = summed(call, [first, _negative(call, second)])
    return summed(call, [_rectified(call, difference, None), second])


def is_rectified(node: ann.AnnNode) -> bool:
    """Say whether a node gives no value below 0: rounding to signed levels is a node of the same kind."""
    return isinstance(node, ann.Relu) and node.shift is None


def _rectified_after(call: Call) -> bool:
    """Say whether all that reads the output rectifies it, so that the order of the two limits is the same."""

    def rectifies(node: object) -> bool:
        return getattr(node, "op_type", None) in ("Relu", "Max")  # a Max is one, or it is refused

    return bool(call.readers[0]) and all(map(rectifies, call.readers[0]))


def prelu(call: Call) -> View:
    """Read PRelu whose slopes are all zero."""
    if np.any(call.weights(1, "slope")):
        call.refuse("a slope below zero is not 0", RETRAIN, UNSUPPORTED_OPERATOR)
    return _rectified(call, call.view(), None)


def leaky_relu(call: Call) -> View:
    """Read LeakyRelu of slope zero."""
    if call.number("alpha", 0.01) != 0:
        call.refuse(f"leaks by {call.number('alpha', 0.01):g} below zero", RETRAIN, UNSUPPORTED_OPERATOR)
    return _rectified(call, call.view(), None)


def _rectified(call: Call, view: View, ceiling: FloatArray | np.float32 | None) -> View:
    call.builder.refuse_lowest(view, call.origin)
    if ceiling is None and call.builder.repeats(view):  # what is repeated is rectified once
        node = ann.Relu(
            name=call.name, inputs=(view.node,), shape=call.builder.shape(view.node), origin=call.origin
        )
        return View(call.builder.emit(node), view.index, call.origin)
    if ceiling is None:
        view, limits = call.builder.settle(view, call.origin), None
    else:
        view, (limits,) = channel_values(call.builder, view, (np.asarray(ceiling),), call.origin)
    node = ann.Relu(
        name=call.name,
        inputs=(view.node,),
        shape=call.builder.shape(view.node),
        origin=call.origin,
        ceiling=limits,
    )
    return View(call.builder.emit(node), view.index, call.origin)


def add(call: Call) -> View:
    """Read Add or Sum of activations, of constants, or of both."""
    views = [value for value in call.operands if isinstance(value, View)]
    constants = [value for value in call.operands if isinstance(value, np.ndarray)]
    view = views[0] if len(views) == 1 else summed(call, views)
    if not constants:
        return view
    _require_exact(call, *constants)
    constants = [masked(call, constant) for constant in constants]
    view = broadcast(call, view, *constants)
    total = constants[0] if len(constants) == 1 else np.sum(np.broadcast_arrays(*constants), axis=0)
    return affine(call, view, np.float32(1), total)


def mean(call: Call) -> View:
    """Read Mean of activations, of constants, or of both."""
    total = add(call)
    return affine(call, total, np.float32(1 / len(call.operands)), np.float32(0))


def subtract(call: Call) -> View:
    """Read Sub of two activations, of a constant, or from a constant."""
    left, right = call.operands
    if isinstance(left, View) and isinstance(right, View):
        return summed(call, [left, affine(call, right, np.float32(-1), np.float32(0))])
    view, constant = _with_constant(call)
    _require_exact(call, constant)
    if isinstance(call.operands[0], View):
        return affine(call, view, np.float32(1), masked(call, -np.asarray(constant, np.float32)))
    return affine(call, view, np.float32(-1), masked(call, np.asarray(constant)))


def multiply(call: Call) -> View:
    """Read Mul by a constant, or of two activations."""
    if all(isinstance(value, View) for value in call.operands) and len(call.operands) == 2:
        return product(call, call.view(0), call.view(1))
    view, constant = _with_constant(call)
    _require_exact(call, constant)
    return affine(call, view, constant, np.float32(0))


def divide(call: Call) -> View:
    """Read Div by a constant, of two activations, or of a constant by one."""
    numerator = call.operands[0]
    if call.whole:
        call.refuse("divides integers, whose quotients are truncated", "cast the input to floats first")
    if len(call.operands) == 2 and isinstance(call.operands[1], View):
        if isinstance(numerator, View):
            return quotient(call, numerator, call.view(1))
        dividend = call.constant(0, "dividend")
        _require_exact(call, dividend)
        return affine(call, reciprocal(call, call.view(1)), dividend, np.float32(0))
    divisor = np.asarray(call.constant(1, "divisor"))
    _require_exact(call, divisor)
    with np.errstate(divide="ignore", over="ignore"):  # infinity is refused
        factor = 1 / divisor.astype(np.float32)
    return affine(call, call.view(), factor, np.float32(0))


def negate(call: Call) -> View:
    """Read Neg."""
    return affine(call, call.view(), np.float32(-1), np.float32(0))


def _with_constant(call: Call) -> tuple[View, Constant]:
    """Return the one input that depends on the network's input, and the one that does not."""
    if len(call.operands) != 2:
        call.refuse(f"has {len(call.operands)} inputs", "use two at a time")
    views = [value for value in call.operands if isinstance(value, View)]
    if len(views) == 2:
        call.refuse(
            "combines two tensors that both depend on the input",
            "use a network without gating: activations can only be added, subtracted, joined and pooled",
            UNSUPPORTED_STRUCTURE,
        )
    position = 1 if isinstance(call.operands[0], View) else 0
    return views[0], call.constant(position, "constant")


def _require_exact(call: Call, *constants: Constant) -> None:
    """Refuse arithmetic in integers that is not that of numbers; the activations are of the same type."""
    for constant in constants:
        if constant.dtype.kind in "iu" and (call.proto.op_type == "Div" or constant.dtype.itemsize < 4):
            call.refuse(
                f"results in {constant.dtype} are truncated to integers, or wrap around",
                "cast the input to floats first",
            )


def broadcast(call: Call, view: View, *constants: Constant) -> View:
    """Return a tensor in the shape that it takes beside constants, whose rank may be higher."""
    try:
        shape = np.broadcast_shapes(view.shape, *(constant.shape for constant in constants))
    except ValueError:
        call.refuse(f"the constant does not fit {view.shape}", "export the model again")
    more = len(shape) - len(view.shape)
    first = view.shape[0] == 1 < shape[more] if view.shape else False
    if call.batch != 1 and (math.prod(shape[:more]) > 1 or first):
        call.refuse("its constant repeats the batch", "use a constant of length 1 along the first axis")
    return view.to(np.broadcast_to(view.index, shape), view.origin)


def affine(call: Call, view: View, scale: Constant | np.float32, shift: Constant | np.float32) -> View:
    """Scale and shift a tensor by constants that are broadcast over it."""
    scale, shift = np.asarray(scale), np.asarray(shift)
    view = broadcast(call, view, scale, shift)
    if (scale == 1).all() and not shift.any():
        return view
    apart = np.zeros((), np.float32)
    if len(view.shape) > 2 and not per_channel(call.builder, view, shift, call.origin):
        shift, apart = apart, shift
    view = call.builder.settle(view, call.origin)
    shape = call.builder.shape(view.node)
    view, (scales, shifts) = channel_values(call.builder, view, (scale, shift), call.origin)
    if apart.any():
        return _placed(call, view, scales, apart)
    node = ann.ChannelAffine(
        name=call.name,
        inputs=(view.node,),
        shape=call.builder.shape(view.node),
        origin=call.origin,
        scale=scales,
        shift=shifts,
    )
    name = call.builder.emit(node)
    if len(node.shape) == 1 < len(shape):  # a factor for each value: what follows reads a map again
        name = call.builder.reshape(name, shape, call.origin)
    return View(name, view.index, call.origin)


def _placed(call: Call, view: View, scales: FloatArray, shift: Constant) -> View:
    """Scale a tensor, and add a constant that differs from place to place."""
    shape = call.builder.shape(view.node)
    name = view.node
    if (scales != 1).any():
        scaled = ann.ChannelAffine(
            name=call.name,
            inputs=(name,),
            shape=shape,
            origin=call.origin,
            scale=scales,
            shift=np.zeros_like(scales),
        )
        name = call.builder.emit(scaled)
    values = in_order(call.builder, view, shift, call.origin).reshape(shape)
    constant = call.builder.constant(f"{call.name}.constant", values, call.origin)
    total = ann.Add(name=call.name, inputs=(name, constant), shape=shape, origin=call.origin)
    return View(call.builder.emit(total), view.index, call.origin)


def summed(call: Call, views: list[View]) -> View:
    """Add tensors of one shape: a residual connection."""
    shapes = [view.shape for view in views]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        call.refuse(
            f"adds tensors of different shapes {shapes}",
            "add tensors of the same shape",
            UNSUPPORTED_STRUCTURE,
        )
    if call.batch != 1 and len(set(map(len, shapes))) > 1:
        call.refuse(
            f"adds tensors of different ranks, {shapes}, so that rows mix",
            "give them the same number of axes, with the batch in front",
            UNSUPPORTED_STRUCTURE,
        )
    if any(view.node in call.builder.doubtful for view in views):
        return call.builder.stand_in_view(shape, call.origin)
    wide = [view.to(np.broadcast_to(view.index, shape), view.origin) for view in views]
    cuts = [call.builder.settled(view, call.origin) for view in wide]
    first = next((view for view in cuts if view is not None), None) or call.builder.routed(wide[0])
    common = call.builder.shape(first.node)
    place = np.argsort(first.index, axis=None)  # of each value of the node, in the tensor
    nodes = []
    for view, cut in zip(wide, cuts, strict=True):
        if cut is not None and np.array_equal(cut.index, first.index):
            nodes.append(call.builder.reshape(cut.node, common, cut.origin))
        else:
            index = (cut or view).index.ravel()[place].reshape(common)
            nodes.append(call.builder.routes.node((cut or view).node, index, view.origin))
    node = ann.Add(name=call.name, inputs=tuple(nodes), shape=common, origin=call.origin)
    return View(call.builder.emit(node), first.index, call.origin)


def softmax(call: Call) -> View:
    """Read Softmax over the classes."""
    return _softmax(call, logarithm=False)


def log_softmax(call: Call) -> View:
    """Read LogSoftmax over the classes."""
    return _softmax(call, logarithm=True)


def logarithm(call: Call) -> View:
    """Read Log of a softmax."""
    view = call.view()
    node = call.builder.nodes[view.node]
    if not isinstance(node, ann.Softmax) or node.logarithm:
        call.refuse(
            "a logarithm has no spiking form", "remove it, or use LogSoftmax at the end", UNSUPPORTED_OPERATOR
        )
    return View(
        call.builder.emit(node.with_(name=call.name, origin=call.origin, logarithm=True)),
        view.index,
        call.origin,
    )


def _softmax(call: Call, *, logarithm: bool) -> View:
    view = call.view()
    rank = len(view.shape)
    axis = call.axis(call.integer("axis", 1 if call.opset < 13 else -1), rank)
    # Before opset 13, all axes from this one on were one.
    axes = tuple(range(axis, rank)) if call.opset < 13 else (axis,)
    classes = math.prod(view.shape[place] for place in axes)
    # Behind another softmax it is not left out: of the spikes nobody could tell which one they compute.
    inner = classes != view.index.size or call.builder.comes_of_softmax(view.node)
    if inner and not logarithm and classes > 1:
        return _inner_softmax(call, view, axes)
    if classes not in (1, view.index.size):
        call.refuse(
            f"normalises along axis {axis} of {view.shape}, which is not that of the classes",
            "use a softmax only over the classes, at the end of the network",
            UNSUPPORTED_STRUCTURE,
        )
    if classes == 1:
        what, value = ("logarithm of the softmax", 0) if logarithm else ("softmax", 1)
        call.refuse(
            f"the {what} of one value is always {value}",
            "use a sigmoid, or remove it",
            UNSUPPORTED_STRUCTURE,
        )
    node, order = call.builder.flat(view)
    if not is_range(order) or order.size != call.builder.shape(node)[0]:
        node = call.builder.ordered(view, (classes,)).node
    result = ann.Softmax(
        name=call.name, inputs=(node,), shape=(classes,), origin=call.origin, logarithm=logarithm
    )
    return View(call.builder.emit(result), row_major(view.shape), call.origin)


def _inner_softmax(call: Call, view: View, axes: tuple[int, ...]) -> View:
    """Return the softmax over some axes of a tensor, as of one, each row by itself."""
    if view.node in call.builder.doubtful:
        return call.builder.stand_in_view(view.shape, call.origin)
    arranged = apart(call, view, axes, one=True)
    node = ann.InnerSoftmax(
        name=call.name,
        inputs=(arranged.node,),
        shape=call.builder.shape(arranged.node),
        origin=call.origin,
        axis=arranged.axes[0],
    )
    return View(call.builder.emit(node), arranged.index, call.origin)
