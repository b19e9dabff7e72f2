"""The operator table: what can be read, in which forms, and by which function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from snnc.frontend import choosing, elementwise, linear, pooling, reshaping
from snnc.frontend.call import Call, Value
from snnc.frontend.simplify import NEWEST_OPSET, OLDEST_OPSET


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator that can be read on activations.

    Attributes:
        read: from the operation to what its outputs are.
        forms: which forms are supported, for the user.
    """

    read: Callable[[Call], Value | tuple[Value, ...]]
    forms: str


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
    rest = "folded where it depends on constants and static shapes only"
    return (*rows, SupportedOperator("any other", "ai.onnx", opsets, rest))
