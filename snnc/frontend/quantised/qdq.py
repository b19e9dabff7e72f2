"""QuantizeLinear and DequantizeLinear: what rounds is a rectifier with levels, what is rounded stays real.

A quantised tensor holds integers ``k`` that stand for ``scale (k - zero)``. The reader goes on with these
real values, and keeps scale and zero point beside them (:class:`Codes`) until they are read as what they
are. So QDQ graphs, the integer operators of ONNX and of onnxruntime, and QONNX all become the same network:
weights that are multiples of a scale, and :class:`snnc.ir.ann.Relu` with levels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import helper

from snnc.diagnostics import QUANTISED_GRAPH
from snnc.frontend import elementwise
from snnc.frontend.call import Call
from snnc.frontend.quantised.codes import Coded, Codes
from snnc.frontend.quantised.rounding import codes_of, limits_of, rounded
from snnc.frontend.views import View
from snnc.ir import ann

STATIC = "quantise it with static scales, as onnxruntime.quantization.quantize_static does"

MOVES = frozenset(
    {
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that give integers as they are: what they give stands for the same."""


def quantize_linear(call: Call) -> Coded:
    """Read QuantizeLinear of an activation."""
    view = call.view()
    axis = call.axis(call.integer("axis", 1), len(view.shape)) if len(view.shape) > 1 else 0
    if call.integer("block_size", 0):
        call.refuse("quantises by blocks", "quantise activations with one scale")
    kind = call.integer("output_dtype", 0)
    codes = codes_of(call, 1, 2, axis, view.shape)
    if isinstance(call.builder.nodes[view.node], ann.Softmax):
        return Coded(view, codes)  # at the end: rounding keeps the order of the classes
    if kind and not call.has(2):
        try:
            lowest, highest = limits_of(np.dtype(helper.tensor_dtype_to_np_dtype(kind)))
        except (KeyError, TypeError):
            call.refuse(f"quantises to type {kind}, which is no integer", "quantise to int8 or uint8")
        codes = replace(codes, lowest=lowest, highest=highest)
    return rounded(call, view, codes)


def dequantize_linear(call: Call) -> View:
    """Read DequantizeLinear of an activation, or of an input that is quantised outside of the network."""
    view = call.view()
    axis = call.axis(call.integer("axis", 1), len(view.shape)) if len(view.shape) > 1 else 0
    if call.integer("block_size", 0):
        call.refuse("dequantises by blocks", "quantise activations with one scale")
    codes = codes_of(call, 1, 2, axis, view.shape)
    before = call.code(0)
    if before is None:
        # The network's own input: the integers are its values.
        return elementwise.affine(call, view, codes.scale, -codes.scale * np.float32(codes.zero))
    if before.same(codes):
        return view
    ratio = (codes.scale / before.scale).astype(np.float32)
    return elementwise.affine(call, view, ratio, codes.scale * np.float32(before.zero - codes.zero))


def as_integers(call: Call, view: View, codes: Codes) -> View:
    """Return the integers that stand for a quantised tensor: what a network gives that ends with them."""
    return elementwise.affine(call, view, (1 / codes.scale).astype(np.float32), np.float32(codes.zero))


def clip(call: Call) -> Coded:
    """Read Clip between QuantizeLinear and DequantizeLinear, by which fewer bits are said."""
    codes = call.code(0)
    if codes is None:
        call.refuse("clips no quantised activation", "export the model again")
    low, high = call.scalar(1, "lower bound", codes.lowest), call.scalar(2, "upper bound", codes.highest)
    limited = replace(codes, lowest=max(codes.lowest, int(low)), highest=min(codes.highest, int(high)))
    return rounded(call, call.view(), limited)


def dynamic(call: Call) -> View:
    """Refuse what chooses its scale anew for each input."""
    call.refuse(
        "its scale depends on each input (dynamic quantisation), and neurons have constant thresholds",
        STATIC,
        QUANTISED_GRAPH,
    )
