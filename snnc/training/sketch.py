"""An ONNX network in the making: nodes in order, each named after what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8


@dataclass(slots=True)
class Sketch:
    """Nodes and constants of a network with one input and one output.

    Attributes:
        shape: of one row of the input.
        input: its name.
    """

    shape: tuple[int, ...]
    input: str = "x"
    _nodes: list[onnx.NodeProto] = field(default_factory=list)
    _constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, *inputs: str | NDArray[Any], name: str, **attributes: Any) -> str:
        """Add a node, whose arrays become constants, and return what it gives: its name."""
        read = [
            each if isinstance(each, str) else self._constant(f"{name}.{place}", each)
            for place, each in enumerate(inputs)
        ]
        self._nodes.append(helper.make_node(operator, read, [name], name=name, **attributes))
        return name

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def model(self, output: str, shape: Sequence[int], title: str) -> onnx.ModelProto:
        """Return the network; ``N`` rows of any number."""
        graph = helper.make_graph(
            self._nodes,
            title,
            [helper.make_tensor_value_info(self.input, TensorProto.FLOAT, ["N", *self.shape])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", *shape])],
            self._constants,
        )
        made = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="snnc"
        )
        onnx.checker.check_model(made)
        return made
