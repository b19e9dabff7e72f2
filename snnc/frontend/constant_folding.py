"""Computing operations of constants alone, within the memory that their file suggests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from snnc.diagnostics import QUANTISED_GRAPH, UNSUPPORTED_ATTRIBUTE
from snnc.frontend.call import Value
from snnc.frontend.environment import Environment, Tensor
from snnc.frontend.quantised.folding import folded, scales_of
from snnc.frontend.refusals import refuse
from snnc.frontend.simplify import evaluate, label
from snnc.frontend.tensors import MAX_MADE

MOST_MADE = 2 * MAX_MADE
"""Most elements of all folded constants together, beside a few times what the file holds."""


class ConstantFolder:
    """Folds the constants of one model."""

    def __init__(self, environment: Environment) -> None:
        """Begin with the constants of the file."""
        self._env = environment
        self._made = 0
        stored = (value for value in environment.values.values() if isinstance(value, np.ndarray))
        self._most_made = MOST_MADE + 4 * sum(value.size for value in stored)

    def quantised(self, node: onnx.NodeProto, operands: Sequence[Tensor | None]) -> Value | None:
        """Compute an operator of another domain that quantises constants; ``None`` for another node."""
        constants = [value if isinstance(value, np.ndarray) else None for value in operands]
        try:
            found = folded(node, constants)
        except ValueError as error:
            refuse(QUANTISED_GRAPH, label(node), f"{node.op_type}: {error}", "train with another rounding")
        if found is None:
            return None
        self._env.scales[node.output[0]], value = found
        return value

    def fold(self, node: onnx.NodeProto) -> tuple[Value, ...]:
        """Compute a node of the default domain."""
        given = self._env.constants([node])
        try:
            values = evaluate(node, given, self._env.opset)
            self._env.scales.update(scales_of(node, given, self._env.scales, self._env.opset))
            if node.op_type != "Identity":
                self._made += sum(value.size for value in values)
            if self._made > self._most_made:
                raise ValueError("all of these together would fill the memory")
            return tuple(values)
        except ValueError as error:
            refuse(
                UNSUPPORTED_ATTRIBUTE,
                label(node),
                f"{node.op_type} of constants cannot be computed: {error}",
                "store its result in the file as a constant",
            )
