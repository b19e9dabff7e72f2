"""What to do about operators that have no spiking form here."""

from __future__ import annotations

from snnc.diagnostics import QUANTISED_GRAPH, UNSUPPORTED_OPERATOR, Code

RELU = "replace it by ReLU and fine-tune"
_FLOAT = "use QuantizeLinear and DequantizeLinear, or Quant of QONNX; or export the float network"
ATTENTION = "export attention as MatMul, Softmax and MatMul"
NORM = "use batch normalisation instead, and train again"
_RECURRENT = "only loops whose length is known when the file is read are supported"
_CUT = "cut it off: onnx.utils.extract_model up to the class scores before it"

_ADVICE: dict[str, str] = {
    "LRN": NORM,
    **dict.fromkeys(("Loop", "Scan", "SequenceAt"), _RECURRENT),
    "RotaryEmbedding": ATTENTION,
    **dict.fromkeys(("ArgMax", "ArgMin", "TopK", "Hardmax", "NonMaxSuppression"), _CUT),
    **dict.fromkeys(
        ("MaxUnpool",),
        "only networks whose maps keep their size or shrink are supported",
    ),
    "If": "export the model in evaluation mode with fixed shapes, so that no branch is left",
    "ZipMap": (
        "export without it, by options={'zipmap': False} of skl2onnx, or keep another output by --keep-output"
    ),
    "LpPool": "use AveragePool or MaxPool",
}  # fmt: skip

_QUANTISED = frozenset(
    {
        "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul",
        "QLinearAdd", "QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearConcat", "QLinearSoftmax",
        "QGemm", "ConvInteger", "MatMulInteger", "Quant", "IntQuant", "FloatQuant", "BipolarQuant", "Trunc",
        "MultiThreshold",
    }
)  # fmt: skip


def is_quantised(operator: str) -> bool:
    """Say whether an operator belongs to a quantised network."""
    return operator in _QUANTISED


def special_advice(operator: str) -> str:
    """Return what to do about one operator in particular; empty where nothing is known."""
    return _ADVICE.get(operator, "")


def advice(operator: str, domain: str) -> tuple[Code, str, str]:
    """Return code, message and cure for an operator that cannot be read."""
    if is_quantised(operator):
        return QUANTISED_GRAPH, f"{operator} belongs to a quantised network", _FLOAT
    if domain:
        told = f"the operator {operator} of the domain {domain!r} is not supported"
        cure = "export with the standard operators, without a runtime's own optimisations"
    else:
        told, cure = f"the operator {operator} is not supported", "`snnc ops` lists the supported operators"
    return UNSUPPORTED_OPERATOR, told, special_advice(operator) or cure
