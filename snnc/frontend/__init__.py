"""Reading trained networks from ONNX files."""

from snnc.frontend.onnx import SourceInput, SourceModel, SourceOutput, check_onnx, read_onnx
from snnc.frontend.operators import SupportedOperator, supported_operators
from snnc.ir.layout import InputLayout

__all__ = [
    "InputLayout",
    "SourceInput",
    "SourceModel",
    "SourceOutput",
    "SupportedOperator",
    "check_onnx",
    "read_onnx",
    "supported_operators",
]
