"""In which floating-point type a network computes, where that is not float32."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx

from snnc.diagnostics import OTHER_PRECISION, Diagnostic

CASTS = {
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.BFLOAT16: "bfloat16",
}
"""The types that are rounded to float32, or widened to it, as NumPy calls them."""


def precision_of(node: onnx.NodeProto, operands: Iterable[object]) -> str:
    """Return the type in which a node computes, as NumPy calls it, where its constants or its cast tell."""
    if node.op_type == "Cast":
        targets = [attribute.i for attribute in node.attribute if attribute.name == "to"]
        return next((CASTS[to] for to in targets if to in CASTS), "")
    for value in operands:
        if isinstance(value, np.ndarray) and value.dtype.name in CASTS.values():
            return str(value.dtype.name)
    return ""


def told(nodes: Sequence[tuple[str, str]]) -> tuple[Diagnostic, ...]:
    """Return what to tell about nodes that compute in another type.

    Args:
        nodes: type and name of each, in the order of the network.
    """
    if not nodes:
        return ()
    kinds = list(dict.fromkeys(kind for kind, _ in nodes))
    count = f"{len(nodes)} nodes compute" if len(nodes) > 1 else "one node computes"
    message = f"{count} in {' and '.join(kinds)}; the network is converted in float32"
    cure = "compare the converted network with the source by `snnc eval`"
    return (Diagnostic(OTHER_PRECISION, message, nodes[0][1], cure),)
