"""Operators of quantised networks: what rounds becomes a rectifier with levels, what is rounded stays real.

A quantised tensor holds integers ``k`` that stand for ``scale (k - zero)``. The reader goes on with these
real values, and keeps scale and zero point beside them (:class:`Codes`) until they are read as what they
are. So QDQ graphs, the integer operators of ONNX and of onnxruntime, and QONNX all become the same network:
weights that are multiples of a scale, and :class:`snnc.ir.ann.Relu` with levels.

What an operator of integers multiplies its sums by is kept as the rectifier's ``gain``: onnxruntime
computes ``round(float32(sum) gain)``, half to even, with ``gain`` in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper

from snnc.diagnostics import QUANTISED_GRAPH
from snnc.frontend import elementwise, linear, pooling, reshaping
from snnc.frontend.call import Call
from snnc.frontend.quantised.codes import Coded, Codes, levels_of
from snnc.frontend.simplify import Constant, evaluate
from snnc.frontend.views import View
from snnc.ir import ann
from snnc.ir.graph import FloatArray, Shape

MOST_LEVELS = 2**16
"""Levels of a quantised activation; with more there is nothing to gain from its integers."""

FEW_BITS: Mapping[str, int] = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4}
"""Bits of the integer types that are not NumPy's own, and whose kind does not say that they are integers."""

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


def _codes(call: Call, scale: int, zero: int, axis: int | None = None, shape: Shape = ()) -> Codes:
    """Return what an operator says of integers by two of its inputs."""
    scales = call.weights(scale, "scale")
    if (scales <= 0).any():
        call.refuse("a scale is not positive", "quantise the network again")
    if scales.size > 1 and axis is not None:
        if scales.size != shape[axis]:
            call.refuse(
                f"has {scales.size} scales along axis {axis}, whose size is {shape[axis]}",
                "quantise activations with one scale, or one per channel",
            )
        scales = scales.reshape(scales.size, *(1,) * (len(shape) - axis - 1))
    zeros = call.constant(zero, "zero point") if call.has(zero) else np.zeros(1, np.uint8)
    if zeros.dtype.kind not in "iu" and zeros.dtype.name not in FEW_BITS:
        kind = zeros.dtype
        call.refuse(f"quantises to {kind}, which is no integer type", "quantise to int8 or uint8")
    if (zeros != zeros.ravel()[0]).any():
        call.refuse("its zero point differs from channel to channel", "use one zero point for an activation")
    lowest, highest = _limits(zeros.dtype)
    return Codes(scales if scales.size > 1 else scales.reshape(()), int(zeros.ravel()[0]), lowest, highest)


def _limits(kind: np.dtype[np.generic]) -> tuple[int, int]:
    """Return the least and the largest integer of a type, those of 2 and 4 bits included."""
    bits = FEW_BITS.get(kind.name, 8 * kind.itemsize)
    signed = kind.name.startswith("int")
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def rounded(
    call: Call, view: View, codes: Codes, rounding: str = "half-even", gain: FloatArray | None = None
) -> Coded:
    """Return a tensor rounded to the levels of some integers.

    Args:
        call: the operation.
        view: the tensor.
        codes: the integers.
        rounding: as :class:`snnc.ir.ann.Relu` has it.
        gain: () or (channels,), in place of the division by the scale.
    """
    lowest, highest = codes.lowest - codes.zero, codes.highest - codes.zero
    if highest - lowest > MOST_LEVELS:
        call.refuse(f"rounds to {highest - lowest} levels", "leave this activation in floats")
    if not lowest <= 0 < highest:
        call.refuse(
            f"the zero point {codes.zero} leaves no level above zero, of {codes.lowest} to {codes.highest}",
            "quantise the network again, with a zero point inside the range",
        )
    view, (scales,) = call.builder.channel_values(view, (codes.scale,), call.origin)
    shape = call.builder.shape(view.node)
    node = ann.Relu(
        name=call.name,
        inputs=(view.node,),
        shape=shape,
        origin=call.origin,
        zero=codes.zero,
        rounding=rounding,
        gain=None if gain is None else _per_channel(call, gain, shape[0]),
        **levels_of(scales, lowest, highest),
    )
    return Coded(View(call.builder.emit(node), view.index, call.origin), codes)


def _per_channel(call: Call, gain: FloatArray, channels: int) -> FloatArray:
    if gain.size not in (1, channels):
        call.refuse(f"{gain.size} weight scales do not fit {channels} channels", "quantise the network again")
    return np.ascontiguousarray(np.broadcast_to(gain.ravel(), channels), np.float32)


def quantize_linear(call: Call) -> Coded:
    """Read QuantizeLinear of an activation."""
    view = call.view()
    axis = call.axis(call.integer("axis", 1), len(view.shape)) if len(view.shape) > 1 else 0
    if call.integer("block_size", 0):
        call.refuse("quantises by blocks", "quantise activations with one scale")
    kind = call.integer("output_dtype", 0)
    codes = _codes(call, 1, 2, axis, view.shape)
    if isinstance(call.builder.nodes[view.node], ann.Softmax):
        return Coded(view, codes)  # at the end: rounding keeps the order of the classes
    if kind and not call.has(2):
        try:
            lowest, highest = _limits(np.dtype(helper.tensor_dtype_to_np_dtype(kind)))
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
    codes = _codes(call, 1, 2, axis, view.shape)
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


def _input(call: Call, position: int, scale: int, zero: int, axis: int | None = None) -> View:
    """Return a quantised input, whose integers are read as they were written."""
    view, codes = call.view(position), _codes(call, scale, zero)
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
    codes = _codes(call, 6, 7)
    input_scale = call.weights(1, "scale").ravel()[0]
    products = input_scale * scale.reshape(len(scale), -1)[:, 0]
    bias = _real_bias(call, 8, products)
    inner = replace(call, operands=(view, weight, bias), codes=(), scales=(None, scale, None))
    return rounded(call, linear.conv(inner), codes, gain=(products / codes.scale).astype(np.float32))


def qlinear_matmul(call: Call) -> Coded:
    """Read QLinearMatMul with a constant second matrix."""
    view = _input(call, 0, 1, 2)
    weight, scale = _weight(call, 3, -1)
    codes = _codes(call, 6, 7)
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
    codes = _codes(call, 7, 8)
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
            codes = _codes(call, first + 1, first + 2)
            integers = call.constant(first, "constant").astype(np.float32)
            terms.append(((integers - np.float32(codes.zero)) * codes.scale).astype(np.float32))
        else:
            terms.append(_input(call, first, first + 1, first + 2))
    inner = replace(call, operands=tuple(terms), codes=(), scales=())
    return rounded(call, read(inner), _codes(call, 6, 7))


def _pooled(call: Call, read: Callable[[Call], View]) -> Coded:
    if call.integer("channels_last", 0):
        call.refuse("its channels lie last", "quantise the network before layouts are changed")
    view = _input(call, 0, 1, 2)
    inner = replace(call, operands=(view,), codes=(), scales=())
    return rounded(call, read(inner), _codes(call, 3, 4))


def qlinear_global_average_pool(call: Call) -> Coded:
    """Read QLinearGlobalAveragePool of onnxruntime."""
    return _pooled(call, pooling.global_average_pool)


def qlinear_average_pool(call: Call) -> Coded:
    """Read QLinearAveragePool of onnxruntime."""
    return _pooled(call, pooling.average_pool)


def qlinear_concat(call: Call) -> Coded:
    """Read QLinearConcat of onnxruntime: each part is rounded to the common levels."""
    codes = _codes(call, 0, 1)
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
    return Coded(elementwise.softmax(inner), _codes(call, 3, 4))


QONNX_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
"""Domains under which files have the operators of QONNX."""

QONNX_ROUNDING = {"ROUND": "half-even", "HALF_EVEN": "half-even", "FLOOR": "floor", "HALF_UP": "half-up"}
"""Rounding modes of QONNX that have a spiking form, ``HALF_UP`` of integers from zero up alone."""


def quant(call: Call) -> View:
    """Read Quant of QONNX, which gives real numbers."""
    zero = call.scalar(2, "zero point", 0)
    bits = call.scalar(3, "bit width", 8)
    if bits != int(bits):
        call.refuse(f"its bit width {bits:g} is no integer", "train with whole bits", QUANTISED_GRAPH)
    lowest, highest = quant_limits(bits, bool(call.integer("signed", 1)), bool(call.integer("narrow", 0)))
    mode = str(call.attribute("rounding_mode") or "ROUND").upper()
    if mode not in QONNX_ROUNDING:
        call.refuse(f"rounds by {mode}", f"use one of {', '.join(QONNX_ROUNDING)}", QUANTISED_GRAPH)
    if mode == "HALF_UP" and lowest < 0:
        call.refuse(
            "rounds ties away from zero on both sides (HALF_UP of signed integers)",
            "train with another rounding mode",
            QUANTISED_GRAPH,
        )
    if zero != int(zero) or (QONNX_ROUNDING[mode] == "half-even" and zero % 2):
        call.refuse(
            f"its zero point {zero:g} is no even integer, so that ties round another way",
            "train with a zero point of 0",
            QUANTISED_GRAPH,
        )
    codes = Codes(call.weights(1, "scale"), int(zero), lowest, highest)
    if (codes.scale <= 0).any():
        call.refuse("a scale is not positive", "quantise the network again")
    return rounded(call, call.view(), codes, QONNX_ROUNDING[mode]).view


def quant_limits(bits: float, signed: bool, narrow: bool) -> tuple[int, int]:
    """Return the least and the largest integer of QONNX's Quant."""
    if signed:
        return -(2 ** (int(bits) - 1)) + narrow, 2 ** (int(bits) - 1) - 1
    return 0, 2 ** int(bits) - 1 - narrow


def folded_quant(node_inputs: list[Constant], signed: bool, narrow: bool, mode: str) -> Constant:
    """Compute Quant of QONNX of constants; with one signed bit they become -1 and 1, as BipolarQuant's.

    Raises:
        ValueError: the rounding mode is unknown, or there is no one whole number of bits.
    """
    x, scale, zero, bits = (np.asarray(value, np.float32) for value in node_inputs)
    if bits.size != 1 or bits != np.rint(bits):
        raise ValueError("its bit width is no single integer")
    if signed and bits == 1:
        return ((folded_bipolar(x / scale + zero, np.ones(1, np.float32)) - zero) * scale).astype(np.float32)
    lowest, highest = quant_limits(float(bits.item()), signed, narrow)
    levels = np.clip(x / scale + zero, lowest, highest)
    rounds: dict[str, Callable[[FloatArray], FloatArray]] = {
        "ROUND": np.rint,
        "HALF_EVEN": np.rint,
        "FLOOR": np.floor,
        "CEIL": np.ceil,
        "ROUND_TO_ZERO": np.trunc,
        "DOWN": np.trunc,
        "HALF_UP": lambda y: np.sign(y) * np.floor(np.abs(y) + np.float32(0.5)),
    }
    if mode not in rounds:
        raise ValueError(f"the rounding mode {mode} is not known")
    return ((rounds[mode](levels) - zero) * scale).astype(np.float32)


def folded_bipolar(x: Constant, scale: Constant) -> Constant:
    """Compute BipolarQuant of QONNX of a constant."""
    return (np.where(np.asarray(x) >= 0, np.float32(1), np.float32(-1)) * scale).astype(np.float32)


def dynamic(call: Call) -> View:
    """Refuse what chooses its scale anew for each input."""
    call.refuse(
        "its scale depends on each input (dynamic quantisation), and neurons have constant thresholds",
        STATIC,
        QUANTISED_GRAPH,
    )


CONSTANTS_MOVE = frozenset(
    {"Cast", "Concat", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators of constants that leave every element a multiple of what it was."""


def folded(node: onnx.NodeProto, operands: Sequence[Constant | None]) -> tuple[FloatArray, Constant] | None:
    """Compute an operator of another domain than ONNX's that quantises constants.

    Returns:
        The numbers of which the elements are integer multiples, and the elements; ``None`` for another node.

    Raises:
        ValueError: it rounds in an unknown way.
    """
    given = [np.asarray(value) for value in operands if value is not None]
    settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.domain in QONNX_DOMAINS and node.op_type in ("Quant", "IntQuant"):
        mode = settings.get("rounding_mode", b"ROUND").decode().upper()
        signed, narrow = bool(settings.get("signed", 1)), bool(settings.get("narrow", 0))
        values = folded_quant(given, signed, narrow, mode)
    elif node.domain in QONNX_DOMAINS and node.op_type == "BipolarQuant":
        values = folded_bipolar(given[0], given[1])
    elif node.domain == "com.microsoft" and node.op_type == "DequantizeLinear":
        spread = dequantising_scale(node, given[0], given[1])
        zeros = np.zeros(1, np.float32) if len(given) < 3 else given[2].astype(np.float32)
        if zeros.size > 1:
            zeros = dequantising_scale(node, given[0], zeros)
        return spread, ((given[0].astype(np.float32) - zeros) * spread).astype(np.float32)
    else:
        return None
    return np.broadcast_to(given[1].astype(np.float32), values.shape).copy(), values


def dequantising_scale(node: onnx.NodeProto, values: Constant, scale: Constant) -> FloatArray:
    """Return the scale of each element of a constant that is dequantised."""
    settings = {a.name: a.i for a in node.attribute}
    axis = settings.get("axis", 1)
    if scale.size > 1 and scale.ndim == 1:
        shape = [1] * values.ndim
        shape[axis] = scale.size
        scale = scale.reshape(shape)
    if scale.size > 1 and scale.ndim == values.ndim and scale.shape != values.shape:  # by blocks
        for place, (count, size) in enumerate(zip(scale.shape, values.shape, strict=True)):
            if count not in (1, size):
                block = settings.get("block_size", 0) or -(-size // count)
                scale = np.repeat(scale, block, axis=place)[
                    tuple(slice(0, n) if p == place else slice(None) for p, n in enumerate(values.shape))
                ]
    return np.broadcast_to(scale.astype(np.float32), values.shape).copy()


def scales_of(
    node: onnx.NodeProto, given: Mapping[str, Constant], known: Mapping[str, FloatArray], opset: int
) -> dict[str, FloatArray]:
    """Return, for what a node makes of constants, the numbers of which its elements are integer multiples.

    Args:
        node: the node.
        given: its inputs.
        known: such numbers of constants.
        opset: version of the default domain.
    """
    if node.op_type == "DequantizeLinear":
        names = [given[name] for name in node.input[:2]]
        return {node.output[0]: dequantising_scale(node, *names)}
    if node.op_type not in CONSTANTS_MOVE or not node.input or node.input[0] not in known:
        return {}
    if node.op_type == "Concat" and not all(name in known for name in node.input):
        return {}
    same = {name: known.get(name, value) for name, value in given.items()}
    return {node.output[0]: np.asarray(evaluate(node, same, opset)[0], np.float32)}
