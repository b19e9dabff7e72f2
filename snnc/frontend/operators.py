"""The operator table: what can be read, in which forms, and by which function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import onnx

from snnc.diagnostics import QUANTISED_GRAPH
from snnc.frontend import (
    choosing,
    einsum,
    elementwise,
    linear,
    norms,
    pointwise,
    pooling,
    reshaping,
    tabular,
    upsampling,
)
from snnc.frontend.call import Call, Value
from snnc.frontend.functions import DEFAULT_DOMAINS
from snnc.frontend.inference import MACHINE_LEARNING
from snnc.frontend.programs import MICROSOFTS
from snnc.frontend.quantised import integers, qdq, qonnx
from snnc.frontend.quantised.codes import Coded
from snnc.frontend.recurrent.layer import MOST_STEPS
from snnc.frontend.recurrent.layer import OLDEST as OLDEST_UNROLLED
from snnc.frontend.simplify import NEWEST_OPSET, OLDEST_OPSET

Spiking = Literal["exact", "approximated", "host"]
"""What becomes of an operator among spikes.

``exact``: weights, sums, choices and moves of what spikes carry, with no error but the rounding of weights.
``approximated``: neurons, whose spikes give its values as finely as the steps allow. ``host``: no spikes; it
ends the network, keeps the order of the answers, and is left to whoever reads them.
"""


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator that can be read on activations.

    Attributes:
        read: from the operation to what its outputs are.
        forms: which forms are supported, for the user.
        spiking: what becomes of it among spikes.
        refused: whether there is no form that can be read, so that its refusal needs no operands.
    """

    read: Callable[[Call], Value | Coded | tuple[Value, ...]]
    forms: str
    spiking: Spiking = "exact"
    refused: bool = False


OPERATORS: Mapping[str, Operator] = {
    "Add": Operator(elementwise.add, "activations of shapes that broadcast, or a constant of any shape"),
    "AveragePool": Operator(
        pooling.average_pool,
        "1-D and 2-D; pads, auto_pad, ceil_mode, count_include_pad, dilations",
    ),
    "BatchNormalization": Operator(linear.batch_normalisation, "inference"),
    "Cast": Operator(choosing.cast, "to a float type"),
    "Clip": Operator(elementwise.clip, "to constants", "approximated"),
    "Concat": Operator(reshaping.concat, "along any axis but the batch; with constants, too"),
    "Conv": Operator(
        linear.conv, "1-D and 2-D, constant weights; groups, depthwise, strides, dilations, pads, auto_pad"
    ),
    "ConvTranspose": Operator(
        upsampling.conv_transpose,
        "1-D and 2-D, constant weights; groups, strides, dilations, pads, output_padding, auto_pad, "
        "output_shape",
    ),
    "DepthToSpace": Operator(reshaping.depth_to_space, "both modes"),
    "Div": Operator(
        elementwise.divide,
        "by a constant of any shape; by an activation: a product with its reciprocal, approximated",
    ),
    "Dropout": Operator(reshaping.dropout, "inference"),
    "Einsum": Operator(
        einsum.einsum, "of two activations, approximated, or of one and a constant; no diagonals, no ellipsis"
    ),
    "Expand": Operator(reshaping.expand, "all axes but the batch"),
    "Flatten": Operator(reshaping.flatten, "any axis"),
    "Gather": Operator(reshaping.gather, "constant indices"),
    "Gemm": Operator(linear.gemm, "constant weight and bias; transA=0"),
    "GlobalAveragePool": Operator(pooling.global_average_pool, "1-D and 2-D"),
    "GlobalMaxPool": Operator(pooling.global_max_pool, "1-D and 2-D"),
    "Greater": Operator(choosing.above, "of an activation and a constant", "approximated"),
    "GreaterOrEqual": Operator(choosing.above, "as Greater", "approximated"),
    "Identity": Operator(reshaping.identity, "all"),
    "GroupNormalization": Operator(norms.group_normalisation, "all", "approximated"),
    "InstanceNormalization": Operator(norms.instance_normalisation, "all", "approximated"),
    "LayerNormalization": Operator(norms.layer_normalisation, "the first output", "approximated"),
    "LpNormalization": Operator(norms.lp_normalisation, "p=2", "approximated"),
    "MeanVarianceNormalization": Operator(
        norms.mean_variance_normalisation, "any axes but the batch", "approximated"
    ),
    "RMSNormalization": Operator(norms.rms_normalisation, "all", "approximated"),
    "LeakyRelu": Operator(elementwise.leaky_relu, "all", "approximated"),
    "Less": Operator(choosing.below, "as Greater", "approximated"),
    "LessOrEqual": Operator(choosing.below, "as Greater", "approximated"),
    "Log": Operator(elementwise.logarithm, "all; of the final Softmax left out with it", "approximated"),
    "LogSoftmax": Operator(elementwise.log_softmax, "over the classes, as the last operation", "host"),
    "MatMul": Operator(
        linear.matmul,
        "constant matrices on one side, along any axis; of two activations, approximated",
    ),
    "Max": Operator(elementwise.maximum, "with constants; of two activations", "approximated"),
    "MaxPool": Operator(
        pooling.max_pool, "1-D and 2-D, without indices; pads, auto_pad, dilations, ceil_mode"
    ),
    "Mean": Operator(elementwise.mean, "as Add, of any number of inputs"),
    "Min": Operator(
        elementwise.minimum,
        "with constants; of two activations",
        "approximated",
    ),
    "Mul": Operator(
        elementwise.multiply,
        "by a constant of any shape; of two activations of shapes that broadcast, approximated",
    ),
    "Neg": Operator(elementwise.negate, "all"),
    "PRelu": Operator(elementwise.prelu, "constant slopes", "approximated"),
    "Not": Operator(choosing.negation, "of a comparison", "approximated"),
    "Pad": Operator(
        reshaping.pad,
        "all modes, with any constant; negative pads cut; with minus infinity before MaxPool",
    ),
    "ReduceL1": Operator(pooling.reduce_l1, "as ReduceMean", "approximated"),
    "ReduceL2": Operator(pooling.reduce_l2, "as ReduceMean", "approximated"),
    "ReduceMax": Operator(pooling.reduce_max, "any axes but the batch"),
    "ReduceMean": Operator(pooling.reduce_mean, "any axes but the batch"),
    "ReduceMin": Operator(pooling.reduce_min, "as ReduceMax"),
    "ReduceSumSquare": Operator(pooling.reduce_sum_square, "as ReduceMean", "approximated"),
    "ReduceSum": Operator(pooling.reduce_sum, "as ReduceMean"),
    "Relu": Operator(elementwise.relu, "all", "approximated"),
    "Reshape": Operator(reshaping.reshape, "to a shape that is known when the file is read"),
    "Resize": Operator(
        upsampling.resize, "nearest in all coordinate and rounding modes, and linear; no antialias, no crop"
    ),
    "Shape": Operator(reshaping.shape, "folded"),
    "Size": Operator(reshaping.size, "folded"),
    "Slice": Operator(reshaping.slice_, "constant bounds, any steps"),
    "Softmax": Operator(
        elementwise.softmax,
        "over the classes, as the last operation; over any axis within the network, approximated",
        "host",
    ),
    "SpaceToDepth": Operator(reshaping.space_to_depth, "all"),
    "Split": Operator(reshaping.split, "constant sizes"),
    "Squeeze": Operator(reshaping.squeeze, "all"),
    "Sub": Operator(
        elementwise.subtract,
        "two activations of shapes that broadcast; a constant of any shape, from either side",
    ),
    "Sum": Operator(elementwise.add, "as Add, of any number of inputs"),
    "Tile": Operator(reshaping.tile, "all axes but the batch"),
    "Transpose": Operator(reshaping.transpose, "all; between NCHW and NHWC it costs nothing"),
    "Unsqueeze": Operator(reshaping.unsqueeze, "all"),
    "Upsample": Operator(upsampling.upsample, "nearest and linear"),
    "Where": Operator(
        choosing.where,
        "by a constant condition, or whose condition and choices are functions of one value",
        "approximated",
    ),
    **{
        name: Operator(pointwise.alone, "alone, or with others as a function of one value", "approximated")
        for name in sorted(pointwise.CURVES | {"Abs", "Ceil", "Equal", "Floor", "Round", "And", "Or"})
        if name != "Log"
    },
}
"""Every operator that may depend on the network's input. Of constants alone, every operator is folded."""

_DYNAMIC = Operator(qdq.dynamic, "refused: dynamic quantisation has no constant thresholds", refused=True)
_CODED_CLIP = Operator(qdq.clip, "between QuantizeLinear and DequantizeLinear")
_QUANT = Operator(
    qonnx.quant,
    "QONNX: even zero point; rounding ROUND, FLOOR or, unsigned, HALF_UP; of constants any",
    "approximated",
)

QUANTISED: Mapping[str, Mapping[str, Operator]] = {
    "ai.onnx": {
        "ConvInteger": _DYNAMIC,
        "DequantizeLinear": Operator(qdq.dequantize_linear, "per tensor and per channel; of constants any"),
        "DynamicQuantizeLinear": _DYNAMIC,
        "MatMulInteger": _DYNAMIC,
        "QLinearConv": Operator(integers.qlinear_conv, "as Conv, constant weights", "approximated"),
        "QLinearMatMul": Operator(integers.qlinear_matmul, "as MatMul, one constant matrix", "approximated"),
        "QuantizeLinear": Operator(
            qdq.quantize_linear,
            "to integers of 2 to 16 bits, per tensor and per channel; one zero point",
            "approximated",
        ),
    },
    "com.microsoft": {
        "DequantizeLinear": Operator(qdq.dequantize_linear, "as in ai.onnx"),
        "DynamicQuantizeMatMul": _DYNAMIC,
        "MatMulIntegerToFloat": _DYNAMIC,
        **{name: Operator(pointwise.alone, "all", "approximated") for name in sorted(MICROSOFTS)},
        "QGemm": Operator(integers.qgemm, "as Gemm, constant weights", "approximated"),
        "QLinearAdd": Operator(integers.qlinear_add, "of activations, or with a constant", "approximated"),
        "QLinearAveragePool": Operator(
            integers.qlinear_average_pool, "as AveragePool; channels_last=0", "approximated"
        ),
        "QLinearConcat": Operator(integers.qlinear_concat, "as Concat", "approximated"),
        "QLinearGlobalAveragePool": Operator(
            integers.qlinear_global_average_pool, "channels_last=0", "approximated"
        ),
        "QLinearMul": Operator(integers.qlinear_mul, "by a scalar or per-channel constant", "approximated"),
        "QLinearSoftmax": Operator(
            integers.qlinear_softmax, "over the classes, as the last operation", "host"
        ),
        "QuantizeLinear": Operator(qdq.quantize_linear, "as in ai.onnx", "approximated"),
    },
    **{domain: {"Quant": _QUANT, "IntQuant": _QUANT} for domain in qonnx.QONNX_DOMAINS},
}
"""Operators of quantised networks, by domain: they alone read quantised tensors, but for what moves them."""

OTHERS: Mapping[str, Mapping[str, Operator]] = {
    "ai.onnx": {
        "SimplifiedLayerNormalization": Operator(
            norms.rms_normalisation, "the first output; an operator of onnxruntime", "approximated"
        )
    },
    MACHINE_LEARNING: {"Scaler": Operator(tabular.scaler, "one number, or one for each feature")},
    "com.microsoft": {
        "SkipLayerNormalization": Operator(
            norms.skip_layer_normalisation, "the first and fourth output", "approximated"
        ),
        "SkipSimplifiedLayerNormalization": Operator(
            norms.skip_rms_normalisation, "the first and fourth output", "approximated"
        ),
    },
}
"""Operators into which onnxruntime fuses others, and those of classical machine learning, by domain."""


UNROLLED: Mapping[str, tuple[int, Spiking | Literal[""], str]] = {
    "Attention": (
        23,
        "approximated",
        (
            "query, key and value of three or four axes, shared heads, constant masks and those that are "
            "added, is_causal, past keys and values; no scores as an output"
        ),
    ),
    "GRU": (OLDEST_UNROLLED, "approximated", "as LSTM, with linear_before_reset"),
    "If": (1, "", "with a condition that is known when the file is read"),
    "Loop": (1, "", "with a number of trips, or a condition in each, that is known when the file is read"),
    "LSTM": (
        OLDEST_UNROLLED,
        "approximated",
        (
            f"constant weights, at most {MOST_STEPS} steps of one length, each gate of each step on its own; "
            "both directions, all activations, peepholes, clip, both layouts, initial states"
        ),
    ),
    "RNN": (OLDEST_UNROLLED, "approximated", "as LSTM"),
    "Scan": (9, "", "over sizes that are known when the file is read"),
}
"""Operators that other operations take the place of: the first opset, what becomes of them, and the forms."""


def reads_codes(call: Call, operator: Operator) -> Operator:
    """Return what reads a quantised tensor.

    Raises:
        RefusalError: the operation would compute with its integers.
    """
    kind, coded = call.proto.op_type, [codes for codes in call.codes if codes is not None]
    alike = len(coded) == len(call.operands) and all(coded[0].same(codes) for codes in coded)
    moves = kind in qdq.MOVES or (kind == "Concat" and alike)
    if kind != "Clip" and not moves and not any(kind in operators for operators in QUANTISED.values()):
        call.refuse(
            "computes with the integers of a quantised tensor", "dequantise them before", QUANTISED_GRAPH
        )
    if moves and kind != "Identity" and any(codes.scale.size > 1 for codes in coded):
        call.refuse(
            "moves integers whose scales differ from channel to channel",
            "dequantise them before",
            QUANTISED_GRAPH,
        )
    return _CODED_CLIP if kind == "Clip" else operator


def operator_of(node: onnx.NodeProto) -> Operator | None:
    """Return what reads a node; ``None`` where nothing does."""
    domain = "ai.onnx" if node.domain in DEFAULT_DOMAINS else node.domain
    found = QUANTISED.get(domain, {}).get(node.op_type) or OTHERS.get(domain, {}).get(node.op_type)
    return OPERATORS.get(node.op_type) if found is None and domain == "ai.onnx" else found


@dataclass(frozen=True, slots=True)
class SupportedOperator:
    """A row of the support table.

    Attributes:
        name: the operator.
        domain: its domain.
        opsets: versions of the operator set.
        attributes: those that ONNX gives it in any of these; which values are supported, ``forms`` says.
        spiking: what becomes of it among spikes; empty where nothing is left of it.
        forms: which forms are supported.
    """

    name: str
    domain: str
    opsets: str
    attributes: tuple[str, ...]
    spiking: str
    forms: str

    def as_dict(self) -> dict[str, str | list[str]]:
        """Return the JSON form, a key for each attribute."""
        return {
            "name": self.name,
            "domain": self.domain,
            "opsets": self.opsets,
            "attributes": list(self.attributes),
            "spiking": self.spiking,
            "forms": self.forms,
        }


def supported_operators() -> tuple[SupportedOperator, ...]:
    """Return the support table."""
    rows = [_row(name, OPERATORS[name]) for name in OPERATORS]
    rows += [_row_of_unrolled(name, *told) for name, told in UNROLLED.items()]
    rows.sort(key=lambda row: row.name)
    domain, name = "com.microsoft", "MultiHeadAttention"
    forms = "as Attention, no packed inputs; a constant bias, a constant mask of padding"
    fused = SupportedOperator(f"{domain}::{name}", domain, "1", (), "approximated", forms)
    rows += [
        _row(name, operator, domain)
        for table in (QUANTISED, OTHERS)
        for domain, operators in table.items()
        for name, operator in operators.items()
        if not operator.refused
    ]
    rows.append(fused)
    rest = "folded where it depends on constants and static shapes only"
    opsets = f"{OLDEST_OPSET}-{NEWEST_OPSET}"
    return (*rows, SupportedOperator("any other", "ai.onnx", opsets, (), "", rest))


def _row(name: str, operator: Operator, domain: str = "ai.onnx") -> SupportedOperator:
    if domain != "ai.onnx":
        return SupportedOperator(f"{domain}::{name}", domain, "1", (), operator.spiking, operator.forms)
    if name not in _definitions():
        opsets = f"{OLDEST_OPSET}-{NEWEST_OPSET}"
        return SupportedOperator(name, domain, opsets, (), operator.spiking, operator.forms)
    history = [schema for schema in _definitions().get(name, ()) if schema.since_version <= NEWEST_OPSET]
    # Of the versions before the oldest that is read, the last one holds on.
    before = [schema.since_version for schema in history if schema.since_version <= OLDEST_OPSET]
    first = max(before, default=min(schema.since_version for schema in history))
    attributes = {key for schema in history if schema.since_version >= first for key in schema.attributes}
    opsets = f"{max(first, OLDEST_OPSET)}-{NEWEST_OPSET}"
    return SupportedOperator(
        name, "ai.onnx", opsets, tuple(sorted(attributes)), operator.spiking, operator.forms
    )


def is_miscounted(node: onnx.NodeProto, opset: int) -> bool:
    """Whether a node has a number of inputs that its operator never has."""
    if node.domain not in DEFAULT_DOMAINS:
        return False
    wanted = number_of_inputs(node.op_type, opset)
    return wanted is not None and len(node.input) not in wanted


@cache
def number_of_inputs(name: str, opset: int) -> range | None:
    """Return how many inputs an operator of the default domain reads; ``None`` if ONNX does not know it.

    In an operator set that does not have it yet, its first version holds.
    """
    history = sorted(_definitions().get(name, ()), key=lambda schema: schema.since_version)
    if not history:
        return None
    schema = max(
        (s for s in history if s.since_version <= opset), key=lambda s: s.since_version, default=history[0]
    )
    return range(schema.min_input, schema.max_input + 1)


def _row_of_unrolled(name: str, since: int, spiking: str, forms: str) -> SupportedOperator:
    attributes = sorted(onnx.defs.get_schema(name, NEWEST_OPSET).attributes)
    return SupportedOperator(name, "ai.onnx", f"{since}-{NEWEST_OPSET}", tuple(attributes), spiking, forms)


@cache
def _definitions() -> dict[str, list[onnx.defs.OpSchema]]:
    """Return every version of every operator of the default domain."""
    found: dict[str, list[onnx.defs.OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            found.setdefault(schema.name, []).append(schema)
    return found
