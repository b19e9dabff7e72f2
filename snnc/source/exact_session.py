"""Sessions of onnxruntime that compute integers exactly, wherever it can."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

EXACT_BYTES = "session.x64quantprecision"
"""Has an effect from the extended optimisations on, which turn int8 weights into uint8."""

MULTIPLYING = frozenset(
    {"ConvInteger", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QGemm"}
)
PAIR = 2 * 255 * 127
"""The sum of two products of bytes that does not fit 16 bits."""

_log = logging.getLogger("snnc")


def exact_session(model: Any, options: ort.SessionOptions, **more: Any) -> ort.InferenceSession:
    """Open a model on the CPU.

    On x64 processors without VNNI onnxruntime sums two products of bytes in 16 bits, and saturates, unless it
    is told not to. A few networks it cannot open then, for lack of a kernel: these run as it does by itself,
    and a warning says so where that saturates.

    Args:
        model: its bytes, or the path of its file.
        options: of the session; changed.
        more: further arguments of ``onnxruntime.InferenceSession``.
    """
    providers = ["CPUExecutionProvider"]
    options.add_session_config_entry(EXACT_BYTES, "1")
    try:
        return ort.InferenceSession(model, options, providers=providers, **more)
    except Exception:  # noqa: BLE001 - onnxruntime's exceptions have no root of their own
        options.add_session_config_entry(EXACT_BYTES, "0")
        session = ort.InferenceSession(model, options, providers=providers, **more)
    if saturates():
        _log.warning(
            "onnxruntime has no exact kernel for a network in integers, and saturates sums of bytes on this "
            "processor: the source's answers may be wrong where its activations are large"
        )
    return session


def multiplies_bytes(node: onnx.NodeProto) -> bool:
    """Say whether a node multiplies integers: it is exact where onnxruntime may rewrite the network."""
    return node.op_type.startswith("QLinear") or node.op_type in MULTIPLYING


@cache
def saturates() -> bool:
    """Say whether onnxruntime by itself saturates sums of products of bytes on this processor."""
    names = ("a", "b")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", names, ["y"])],
        "pair",
        [
            helper.make_tensor_value_info("a", TensorProto.UINT8, [1, 2]),
            helper.make_tensor_value_info("b", TensorProto.INT8, [2, 1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {"a": np.full((1, 2), 255, np.uint8), "b": np.full((2, 1), 127, np.int8)}
    (found,) = session.run(None, given)
    return int(np.asarray(found).item()) != PAIR
