"""Normalisation of activations by statistics of their own, as one operator each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from snnc.diagnostics import UNSUPPORTED_STRUCTURE
from snnc.frontend.arranging import apart
from snnc.frontend.call import Call
from snnc.frontend.elementwise import affine, summed
from snnc.frontend.simplify import Constant
from snnc.frontend.views import View
from snnc.ir import ann

LEAST_EPSILON = 1e-30
"""What stands for an epsilon of zero, so that nothing is divided by zero."""

ONE = np.float32(1)
NONE = np.float32(0)


def normalised(call: Call, view: View, axes: Sequence[int], epsilon: float, *, centred: bool = True) -> View:
    """Normalise a tensor along some axes: ``(x - mean) / sqrt(variance + epsilon)``.

    Args:
        call: the operation.
        view: the tensor.
        axes: those along which mean and variance are taken.
        epsilon: added to the variance.
        centred: whether the mean is subtracted; without, the mean of the squares is the variance.
    """
    if not 0 <= epsilon < math.inf:
        call.refuse(f"its epsilon is {epsilon:g}", "use a small positive one, such as 1e-5")
    if math.prod(view.shape[axis] for axis in axes) == 1:
        call.refuse(
            f"normalises single values along {tuple(axes)} of {view.shape}",
            "remove it: what it gives says nothing but a sign",
            UNSUPPORTED_STRUCTURE,
        )
    if view.node in call.builder.doubtful:
        return call.builder.stand_in_view(view.shape, call.origin)
    arranged = apart(call, view, axes)
    node = ann.Normalisation(
        name=call.name,
        inputs=(arranged.node,),
        shape=call.builder.shape(arranged.node),
        origin=call.origin,
        axes=arranged.axes,
        epsilon=max(epsilon, LEAST_EPSILON),
        centred=centred,
    )
    return View(call.builder.emit(node), arranged.index, call.origin)


def layer_normalisation(call: Call) -> View:
    """Read LayerNormalization."""
    call.only_output()
    return _scaled(call, _along_rest(call, call.view(), centred=True), 1, 2)


def rms_normalisation(call: Call) -> View:
    """Read RMSNormalization, SimplifiedLayerNormalization of onnxruntime."""
    call.only_output()
    return _scaled(call, _along_rest(call, call.view(), centred=False), 1, None)


def skip_layer_normalisation(call: Call) -> tuple[View, ...]:
    """Read SkipLayerNormalization of onnxruntime: a sum, normalised; the sum is the fourth output."""
    return _skip(call, centred=True)


def skip_rms_normalisation(call: Call) -> tuple[View, ...]:
    """Read SkipSimplifiedLayerNormalization of onnxruntime, likewise."""
    return _skip(call, centred=False)


def _skip(call: Call, *, centred: bool) -> tuple[View, ...]:
    bias = 4 if centred else 3
    if any(call.readers[1:3]):
        call.refuse("its mean and variance are used", "use only its first and fourth output")
    total = summed(call, [call.view(0), call.view(1)])
    if call.has(bias):
        total = affine(call, total, ONE, call.weights(bias, "bias"))
    made = normalised(call, total, [len(total.shape) - 1], call.number("epsilon", 1e-12), centred=centred)
    made = _scaled(call, made, 2, 3 if centred else None)
    return (made, made, made, total)[: max(1, len(call.proto.output))]


def instance_normalisation(call: Call) -> View:
    """Read InstanceNormalization: every channel by itself."""
    view = call.view()
    if len(view.shape) < 3:
        call.refuse(f"its input of shape {view.shape} has no positions", "normalise images or sequences")
    made = normalised(call, view, range(2, len(view.shape)), call.number("epsilon", 1e-5))
    return _per_channel(call, made, 1, 2)


def group_normalisation(call: Call) -> View:
    """Read GroupNormalization: groups of channels."""
    view = call.view()
    groups = call.integer("num_groups", 0)
    if len(view.shape) < 3 or groups < 1 or view.shape[1] % groups:
        call.refuse(f"{groups} groups do not fit {view.shape}", "export the model again")
    grouped = call.reshaped(view, (view.shape[0], groups, view.shape[1] // groups, *view.shape[2:]))
    made = normalised(call, grouped, range(2, len(grouped.shape)), call.number("epsilon", 1e-5))
    if call.opset < 21:  # its scales were those of the groups
        return call.reshaped(_per_channel(call, made, 1, 2), view.shape)
    return _per_channel(call, call.reshaped(made, view.shape), 1, 2)


def mean_variance_normalisation(call: Call) -> View:
    """Read MeanVarianceNormalization."""
    view = call.view()
    axes = call.axes(call.integers("axes") or (0, 2, 3), len(view.shape))
    return normalised(call, view, axes, 0.0)


def lp_normalisation(call: Call) -> View:
    """Read LpNormalization of order 2: ``x / sqrt(n)`` over the root of the mean of squares."""
    view = call.view()
    if call.integer("p", 2) != 2:
        call.refuse("its order is not 2", "normalise by the root of the sum of squares: p=2")
    axis = call.axis(call.integer("axis", -1), len(view.shape))
    made = normalised(call, view, [axis], 0.0, centred=False)
    return affine(call, made, np.float32(view.shape[axis] ** -0.5), NONE)


def _along_rest(call: Call, view: View, *, centred: bool) -> View:
    """Normalise along an axis and all behind it."""
    first = call.axis(call.integer("axis", -1), len(view.shape))
    axes = range(first, len(view.shape))
    return normalised(call, view, axes, call.number("epsilon", 1e-5), centred=centred)


def _scaled(call: Call, view: View, scale: int, shift: int | None) -> View:
    """Scale and shift by constants that broadcast."""
    factors = call.weights(scale, "scale") if call.has(scale) else ONE
    offsets: Constant | np.float32 = NONE
    if shift is not None and call.has(shift):
        offsets = call.weights(shift, "bias")
    return affine(call, view, factors, offsets)


def _per_channel(call: Call, view: View, scale: int, shift: int) -> View:
    """Scale and shift by one constant for each place along the second axis."""
    vectors = [call.weights(scale, "scale"), call.weights(shift, "bias")]
    if any(vector.shape != (view.shape[1],) for vector in vectors):
        call.refuse(f"its scale and bias do not fit {view.shape[1]} channels", "export the model again")
    factors, offsets = (vector.reshape(-1, *(1,) * (len(view.shape) - 2)) for vector in vectors)
    return affine(call, view, factors, offsets)
