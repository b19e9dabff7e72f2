"""Plain convolutional networks with pooling, for consumers' tables: filters drawn, classifier fitted.

The bundled network is residual and pools once. These have no shortcut and pool twice, by mean or by maximum.
Their filters are drawn from a seed, and only the classifier is fitted, by least squares on the zoo's
calibration images: enough for answers that differ from image to image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

FILTERS = (12, 24)
RIDGE = 30.0


def write(path: Path, pooling: str, x: NDArray[np.float32], labels: NDArray[np.integer]) -> None:
    """Fit and write a network.

    Args:
        path: the ONNX file.
        pooling: ``AveragePool`` or ``MaxPool``; empty for convolutions with strides instead.
        x: (rows, 1, 28, 28) float32, preprocessed.
        labels: (rows,).
    """
    random = np.random.default_rng(3)
    constants: dict[str, NDArray[np.float32]] = {}
    before = 1
    for index, filters in enumerate(FILTERS, start=1):
        scale = np.sqrt(2 / (9 * before))
        constants[f"w{index}"] = (scale * random.normal(size=(filters, before, 3, 3))).astype(np.float32)
        constants[f"b{index}"] = (0.1 * random.normal(size=filters)).astype(np.float32)
        before = filters
    constants["w"] = np.zeros((10, FILTERS[-1] * 7 * 7), np.float32)
    constants["b"] = np.zeros(10, np.float32)
    session = onnxruntime.InferenceSession(_model(constants, pooling).SerializeToString())
    (features,) = session.run(["flat"], {"image": x})
    wanted = np.eye(10)[labels] * 2 - 1
    inside = np.hstack([features, np.ones((len(features), 1))]).astype(np.float64)
    solved = np.linalg.solve(inside.T @ inside + RIDGE * np.eye(inside.shape[1]), inside.T @ wanted)
    constants["w"], constants["b"] = solved[:-1].T.astype(np.float32), solved[-1].astype(np.float32)
    onnx.save(_model(constants, pooling), path)


def _model(constants: dict[str, NDArray[np.float32]], pooling: str) -> onnx.ModelProto:
    window: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    geometry: dict[str, Any] = {"pads": [1, 1, 1, 1]}
    if not pooling:
        geometry = {"pads": [0, 0, 1, 1], "strides": [2, 2]}
    nodes, top = [], "image"
    for i in (1, 2):
        nodes.append(helper.make_node("Conv", [top, f"w{i}", f"b{i}"], [f"c{i}"], f"conv{i}", **geometry))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"], f"relu{i}"))
        top = f"r{i}"
        if pooling:
            nodes.append(helper.make_node(pooling, [top], [f"p{i}"], f"pool{i}", **window))
            top = f"p{i}"
    nodes += [
        helper.make_node("Flatten", [top], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w", "b"], ["scores"], "classifier", transB=1),
    ]
    outputs = {"scores": 10, "flat": FILTERS[-1] * 49}
    graph = helper.make_graph(
        nodes,
        f"pooled-{pooling}",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 1, 28, 28])],
        # The second output is there for the fit alone, while there is no classifier.
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])
            for name, size in list(outputs.items())[: 1 if constants["w"].any() else 2]
        ],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
