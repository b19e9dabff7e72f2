"""The operator table: what can be read, in which forms, and by which function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx

from snnc.diagnostics import QUANTISED_GRAPH
from snnc.frontend import choosing, elementwise, linear, pooling, quantised, reshaping
from snnc.frontend.call import Call, Value
from snnc.frontend.codes import Coded
from snnc.frontend.functions import DEFAULT_DOMAINS
from snnc.frontend.simplify import NEWEST_OPSET, OLDEST_OPSET


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator that can be read on activations.

    Attributes:
        read: from the operation to what its outputs are.
        forms: which forms are supported, for the user.
        refused: whether there is no form that can be read, so that its refusal needs no operands.
    """

    read: Callable[[Call], Value | Coded | tuple[Value, ...]]
    forms: str
    refused: bool = False


OPERATORS: Mapping[str, Operator] = {
    "Add": Operator(elementwise.add, "two activations of one shape (residual), or a constant of any shape"),
    "AveragePool": Operator(
        pooling.average_pool,
        "1-D and 2-D; padding only with count_include_pad=1; ceil_mode only where it changes nothing",
    ),
    "BatchNormalization": Operator(linear.batch_normalisation, "inference"),
    "Cast": Operator(choosing.cast, "to a float type"),
    "Clip": Operator(elementwise.clip, "from 0 to a constant, such as ReLU6"),
    "Concat": Operator(reshaping.concat, "along channels, or of flat features; with constants, too"),
    "Conv": Operator(
        linear.conv, "1-D and 2-D, constant weights; groups, depthwise, strides, dilations, pads, auto_pad"
    ),
    "Div": Operator(elementwise.divide, "by a scalar or per-channel constant"),
    "Dropout": Operator(reshaping.dropout, "inference"),
    "Expand": Operator(reshaping.expand, "where it repeats nothing"),
    "Flatten": Operator(reshaping.flatten, "any axis"),
    "Gather": Operator(reshaping.gather, "constant indices: a slice, or a permutation of channels"),
    "Gemm": Operator(linear.gemm, "constant weight and bias; transA=0"),
    "GlobalAveragePool": Operator(pooling.global_average_pool, "1-D and 2-D"),
    "GlobalMaxPool": Operator(pooling.global_max_pool, "1-D and 2-D"),
    "Greater": Operator(choosing.above, "of an activation and a constant, for Where"),
    "GreaterOrEqual": Operator(choosing.above, "as Greater"),
    "Identity": Operator(reshaping.identity, "all"),
    "LeakyRelu": Operator(elementwise.leaky_relu, "alpha = 0"),
    "Less": Operator(choosing.below, "as Greater"),
    "LessOrEqual": Operator(choosing.below, "as Greater"),
    "Log": Operator(elementwise.logarithm, "of the final Softmax"),
    "LogSoftmax": Operator(elementwise.log_softmax, "over the classes, as the last operation"),
    "MatMul": Operator(linear.matmul, "one constant matrix, on flat features or on the channels of an image"),
    "Max": Operator(elementwise.maximum, "with the constant 0"),
    "MaxPool": Operator(
        pooling.max_pool, "1-D and 2-D, without indices; pads, auto_pad, dilations, ceil_mode"
    ),
    "Mean": Operator(elementwise.mean, "as Add, of any number of inputs"),
    "Min": Operator(elementwise.minimum, "with a constant of at least 0, directly before or after Relu"),
    "Mul": Operator(elementwise.multiply, "by a scalar or per-channel constant"),
    "Neg": Operator(elementwise.negate, "all"),
    "PRelu": Operator(elementwise.prelu, "slope = 0"),
    "Not": Operator(choosing.negation, "of a comparison, for Where"),
    "Pad": Operator(
        reshaping.pad,
        "with zeros: height, width, channels; negative pads cut; with minus infinity before MaxPool",
    ),
    "ReduceMax": Operator(pooling.reduce_max, "over all positions of an image, any layout"),
    "ReduceMean": Operator(
        pooling.reduce_mean, "over channels, rows, columns, features, or the parts of a join; any layout"
    ),
    "ReduceSum": Operator(pooling.reduce_sum, "as ReduceMean"),
    "Relu": Operator(elementwise.relu, "all"),
    "Reshape": Operator(reshaping.reshape, "to a shape that is known when the file is read"),
    "Shape": Operator(reshaping.shape, "folded"),
    "Size": Operator(reshaping.size, "folded"),
    "Slice": Operator(reshaping.slice_, "constant bounds; negative steps only along channels"),
    "Softmax": Operator(elementwise.softmax, "over the classes, as the last operation"),
    "SpaceToDepth": Operator(reshaping.space_to_depth, "all"),
    "Split": Operator(reshaping.split, "constant sizes"),
    "Squeeze": Operator(reshaping.squeeze, "all"),
    "Sub": Operator(
        elementwise.subtract,
        "two activations of one shape; a constant of any shape, from either side",
    ),
    "Sum": Operator(elementwise.add, "as Add, of any number of inputs"),
    "Transpose": Operator(reshaping.transpose, "all; between NCHW and NHWC it costs nothing"),
    "Unsqueeze": Operator(reshaping.unsqueeze, "all"),
    "Where": Operator(
        choosing.where, "a limit: `Where(x < 0, 0, x)` is Relu, and `Where(x > c, c, x)` Min with c"
    ),
}
"""Every operator that may depend on the network's input. Of constants alone, every operator is folded."""

_DYNAMIC = Operator(quantised.dynamic, "refused: dynamic quantisation has no constant thresholds", True)
_CODED_CLIP = Operator(quantised.clip, "between QuantizeLinear and DequantizeLinear")
_QUANT = Operator(
    quantised.quant, "QONNX: even zero point; rounding ROUND, HALF_UP or FLOOR; of constants any"
)

QUANTISED: Mapping[str, Mapping[str, Operator]] = {
    "ai.onnx": {
        "ConvInteger": _DYNAMIC,
        "DequantizeLinear": Operator(
            quantised.dequantize_linear, "per tensor and per channel; of constants any"
        ),
        "DynamicQuantizeLinear": _DYNAMIC,
        "MatMulInteger": _DYNAMIC,
        "QLinearConv": Operator(quantised.qlinear_conv, "as Conv, constant weights"),
        "QLinearMatMul": Operator(quantised.qlinear_matmul, "as MatMul, one constant matrix"),
        "QuantizeLinear": Operator(
            quantised.quantize_linear,
            "to integers of 2 to 16 bits, per tensor and per channel; one zero point",
        ),
    },
    "com.microsoft": {
        "DequantizeLinear": Operator(quantised.dequantize_linear, "as in ai.onnx"),
        "DynamicQuantizeMatMul": _DYNAMIC,
        "MatMulIntegerToFloat": _DYNAMIC,
        "QGemm": Operator(quantised.qgemm, "as Gemm, constant weights"),
        "QLinearAdd": Operator(quantised.qlinear_add, "of activations, or with a constant"),
        "QLinearAveragePool": Operator(quantised.qlinear_average_pool, "as AveragePool; channels_last=0"),
        "QLinearConcat": Operator(quantised.qlinear_concat, "as Concat"),
        "QLinearGlobalAveragePool": Operator(quantised.qlinear_global_average_pool, "channels_last=0"),
        "QuantizeLinear": Operator(quantised.quantize_linear, "as in ai.onnx"),
    },
    **{domain: {"Quant": _QUANT, "IntQuant": _QUANT} for domain in quantised.QONNX_DOMAINS},
}
"""Operators of quantised networks, by domain: they alone read quantised tensors, but for what moves them."""


def reads_codes(call: Call, operator: Operator) -> Operator:
    """Return what reads a quantised tensor.

    Raises:
        RefusalError: the operation would compute with its integers.
    """
    kind, coded = call.proto.op_type, [codes for codes in call.codes if codes is not None]
    alike = len(coded) == len(call.operands) and all(coded[0].same(codes) for codes in coded)
    moves = kind in quantised.MOVES or (kind == "Concat" and alike)
    if kind != "Clip" and not moves and not any(kind in operators for operators in QUANTISED.values()):
        call.refuse(
            "computes with the integers of a quantised tensor", "dequantise them before", QUANTISED_GRAPH
        )
    return _CODED_CLIP if kind == "Clip" else operator


def operator_of(node: onnx.NodeProto) -> Operator | None:
    """Return what reads a node; ``None`` where nothing does."""
    domain = "ai.onnx" if node.domain in DEFAULT_DOMAINS else node.domain
    found = QUANTISED.get(domain, {}).get(node.op_type)
    return OPERATORS.get(node.op_type) if found is None and domain == "ai.onnx" else found


@dataclass(frozen=True, slots=True)
class SupportedOperator:
    """A row of the support table.

    Attributes:
        name: the operator.
        domain: its domain.
        opsets: versions of the operator set.
        forms: which forms are supported.
    """

    name: str
    domain: str
    opsets: str
    forms: str


def supported_operators() -> tuple[SupportedOperator, ...]:
    """Return the support table."""
    opsets = f"{OLDEST_OPSET}-{NEWEST_OPSET}"
    rows = [SupportedOperator(name, "ai.onnx", opsets, OPERATORS[name].forms) for name in sorted(OPERATORS)]
    rows += [
        SupportedOperator(name, domain, opsets if domain == "ai.onnx" else "1", operator.forms)
        for domain, operators in QUANTISED.items()
        for name, operator in operators.items()
    ]
    rest = "folded where it depends on constants and static shapes only"
    return (*rows, SupportedOperator("any other", "ai.onnx", opsets, rest))
