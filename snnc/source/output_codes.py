"""Integer outputs of quantised networks, and the real values that they stand for: ``scale (code - zero)``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from snnc.ir.graph import FloatArray, NumberArray

MOVERS = frozenset({"Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators whose output has the codes of their first input."""

PLACES: Mapping[str, tuple[int, int]] = {
    "QuantizeLinear": (1, 2),
    "QLinearConv": (6, 7),
    "QLinearMatMul": (6, 7),
    "QGemm": (7, 8),
    "QLinearAdd": (6, 7),
    "QLinearMul": (6, 7),
    "QLinearConcat": (0, 1),
    "QLinearAveragePool": (3, 4),
    "QLinearGlobalAveragePool": (3, 4),
    "QLinearLeakyRelu": (3, 4),
    "QLinearSigmoid": (3, 4),
    "QLinearSoftmax": (3, 4),
}
"""Which inputs hold scale and zero point of the output, by operator."""


@dataclass(frozen=True, slots=True)
class OutputCode:
    """The code of an output.

    Attributes:
        scale: real value of one unit.
        zero: the integer that stands for zero.
    """

    scale: float
    zero: int

    def decoded(self, codes: NumberArray) -> FloatArray:
        """Return the real values, float32."""
        return ((codes.astype(np.float64) - self.zero) * self.scale).astype(np.float32)


def output_code(model: onnx.ModelProto, output: str) -> OutputCode | None:
    """Return the code of an output; ``None`` where it is no code, or none that is constant per tensor."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants.update((node.output[0], item.t) for item in node.attribute if item.name == "value")
    maker = makers.get(output)
    while maker is not None and maker.op_type in MOVERS:
        maker = makers.get(maker.input[0])
    if maker is None or maker.op_type not in PLACES:
        return None
    found: list[NumberArray] = []
    for place in PLACES[maker.op_type]:
        name = maker.input[place] if place < len(maker.input) else ""
        if name and name not in constants:
            return None
        value = numpy_helper.to_array(constants[name]) if name else np.zeros(1)
        if value.size != 1:
            return None
        found.append(value)
    return OutputCode(float(found[0].item()), int(found[1].item()))
