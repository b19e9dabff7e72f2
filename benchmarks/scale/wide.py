"""A small network of rows of ImageNet's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from snnc.ir.graph import FloatArray


def write_network(path: Path) -> Path:
    """Write a convolution of stride 8, a ReLU, a mean, and a classifier of ten for (3, 224, 224)."""
    random = np.random.default_rng(0)
    constants: dict[str, FloatArray] = {
        "w": random.standard_normal((8, 3, 8, 8)).astype(np.float32) / 14,
        "b": np.zeros(8, np.float32),
        "fc": random.standard_normal((10, 8)).astype(np.float32),
        "fb": np.zeros(10, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], strides=[8, 8]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "fc", "fb"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, 224, 224])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    return path
