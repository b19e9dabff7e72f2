"""Operators that compute in integers: QLinear operators of ONNX and onnxruntime, and QGemm.

What such an operator multiplies its sums by is kept as the rectifier's ``gain``: onnxruntime computes
``round(float32(sum) gain)``, half to even, with ``gain`` in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from snnc.frontend import elementwise, linear, pooling, reshaping
from snnc.frontend.call import Call
from snnc.frontend.quantised.codes import Coded
from snnc.frontend.quantised.rounding import codes_of, rounded
from snnc.frontend.tensors import Constant
from snnc.frontend.views import View
from snnc.ir.graph import FloatArray


def _input(call: Call, position: int, scale: int, zero: int, axis: int | None = None) -> View:
    """Return a quantised input, whose integers are read as they were written."""
    view, codes = call.view(position), codes_of(call, scale, zero)
    before = call.code(position)
    if before is None:
        return elementwise.affine(call, view, codes.scale, -codes.scale * np.float32(codes.zero))
    if not before.same(codes):
        call.refuse(
            "reads integers by another scale than they were written with", "quantise the network again"
        )
    return view


def _weight(call: Call, position: int, axis: int) -> tuple[FloatArray, FloatArray]:
    """Return real weights and their scale, broadcast to them.

    Args:
        call: the operation.
        position: of the integers, which scale and zero point follow.
        axis: of the outputs, along which scales may differ.
    """
    integers = call.constant(position, "weight")
    scales = call.weights(position + 1, "weight scale")
    zeros = (
        call.constant(position + 2, "weight zero point") if call.has(position + 2) else np.zeros(1, np.int8)
    )

    def spread(values: Constant) -> Constant:
        if values.size == 1:
            return np.broadcast_to(values.ravel()[0], integers.shape)
        if integers.shape[axis] != values.size:
            call.refuse(
                f"{values.size} scales do not fit weights {integers.shape}", "quantise the network again"
            )
        shape = [1] * integers.ndim
        shape[axis] = values.size
        return np.broadcast_to(values.reshape(shape), integers.shape)

    scale = np.asarray(spread(scales), np.float32)
    return ((integers.astype(np.float32) - spread(zeros).astype(np.float32)) * scale).astype(
        np.float32
    ), scale


def _real_bias(call: Call, position: int, scale: FloatArray) -> FloatArray | None:
    """Return the bias of integers in real numbers."""
    if not call.has(position):
        return None
    return (call.constant(position, "bias").astype(np.float64).ravel() * scale.ravel()).astype(np.float32)


def qlinear_conv(call: Call) -> Coded:
    """Read QLinearConv."""
    view = _input(call, 0, 1, 2)
    weight, scale = _weight(call, 3, 0)
    codes = codes_of(call, 6, 7)
    input_scale = call.weights(1, "scale").ravel()[0]
    products = input_scale * scale.reshape(len(scale), -1)[:, 0]
    bias = _real_bias(call, 8, products)
    inner = replace(call, operands=(view, weight, bias), codes=(), scales=(None, scale, None))
    return rounded(call, linear.conv(inner), codes, gain=(products / codes.scale).astype(np.float32))


def qlinear_matmul(call: Call) -> Coded:
    """Read QLinearMatMul with a constant second matrix."""
    view = _input(call, 0, 1, 2)
    weight, scale = _weight(call, 3, -1)
    codes = codes_of(call, 6, 7)
    products = call.weights(1, "scale").ravel()[0] * scale.reshape(-1, scale.shape[-1])[0]
    inner = replace(call, operands=(view, weight), codes=(), scales=(None, scale))
    return rounded(call, linear.matmul(inner), codes, gain=(products / codes.scale).astype(np.float32))


def qgemm(call: Call) -> Coded | View:
    """Read QGemm of onnxruntime."""
    view = _input(call, 0, 1, 2)
    transposed = bool(call.integer("transB", 0))
    weight, scale = _weight(call, 3, 0 if transposed else 1)
    alpha = np.float32(call.number("alpha", 1))
    rows = scale.reshape(scale.shape[0], -1)[:, 0] if transposed else scale[0]
    products = alpha * call.weights(1, "scale").ravel()[0] * rows
    bias = _real_bias(call, 6, products)
    inner = replace(call, operands=(view, weight, bias), codes=(), scales=(None, scale, None))
    result = linear.gemm(inner)
    if not call.has(7):
        return result
    codes = codes_of(call, 7, 8)
    return rounded(call, result, codes, gain=(products / codes.scale).astype(np.float32))


def qlinear_add(call: Call) -> Coded:
    """Read QLinearAdd of onnxruntime, of two activations or of one and a constant."""
    return _arithmetic(call, elementwise.add)


def qlinear_mul(call: Call) -> Coded:
    """Read QLinearMul of onnxruntime by a constant, such as what is left of a batch norm."""
    return _arithmetic(call, elementwise.multiply)


def _arithmetic(call: Call, read: Callable[[Call], View]) -> Coded:
    """Read an operator of two operands, each with scale and zero point, of which one may be constant."""
    terms: list[View | Constant | None] = []
    for first in (0, 3):
        if isinstance(call.operands[first], np.ndarray):
            codes = codes_of(call, first + 1, first + 2)
            integers = call.constant(first, "constant").astype(np.float32)
            terms.append(((integers - np.float32(codes.zero)) * codes.scale).astype(np.float32))
        else:
            terms.append(_input(call, first, first + 1, first + 2))
    inner = replace(call, operands=tuple(terms), codes=(), scales=())
    return rounded(call, read(inner), codes_of(call, 6, 7))


def _pooled(call: Call, read: Callable[[Call], View]) -> Coded:
    if call.integer("channels_last", 0):
        call.refuse("its channels lie last", "quantise the network before layouts are changed")
    view = _input(call, 0, 1, 2)
    inner = replace(call, operands=(view,), codes=(), scales=())
    return rounded(call, read(inner), codes_of(call, 3, 4))


def qlinear_global_average_pool(call: Call) -> Coded:
    """Read QLinearGlobalAveragePool of onnxruntime."""
    return _pooled(call, pooling.global_average_pool)


def qlinear_average_pool(call: Call) -> Coded:
    """Read QLinearAveragePool of onnxruntime."""
    return _pooled(call, pooling.average_pool)


def qlinear_concat(call: Call) -> Coded:
    """Read QLinearConcat of onnxruntime: each part is rounded to the common levels."""
    codes = codes_of(call, 0, 1)
    parts = []
    for first in range(2, len(call.operands), 3):
        view = _input(call, first, first + 1, first + 2)
        before = call.code(first)
        same = before is not None and before.same(codes)
        parts.append(view if same else rounded(call, view, codes).view)
    inner = replace(call, operands=tuple(parts), codes=(), scales=())
    return Coded(reshaping.concat(inner), codes)


def qlinear_softmax(call: Call) -> Coded:
    """Read QLinearSoftmax of onnxruntime at the end of a network: rounding keeps the order of the classes."""
    view = _input(call, 0, 1, 2)
    inner = replace(call, operands=(view,), codes=(), scales=(), opset=call.integer("opset", call.opset))
    return Coded(elementwise.softmax(inner), codes_of(call, 3, 4))
