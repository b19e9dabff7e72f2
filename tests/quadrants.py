"""A task that a tiny network solves: which quadrant of an 8x8 image is bright."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

PREPROCESSING = {"divide": 255.0, "mean": [0.25], "std": [0.5], "layout": "NCHW"}
CLASSES = 6
"""The last two classes never win: with more than five, top-5 means something."""


def network(classes: int = CLASSES) -> onnx.ModelProto:
    """Return convolution, ReLU, mean over each quadrant, classifier; a free batch of (1, 8, 8).

    Classes beyond the sixth never win, either.
    """
    blur = np.full((2, 1, 3, 3), 1 / 9, np.float32)
    blur[1, 0] = np.eye(3) / 3
    classifier = np.full((classes, 8), -2, np.float32)
    for quadrant in range(4):
        classifier[quadrant, [quadrant, 4 + quadrant]] = 6
    constants: dict[str, NDArray[np.float32]] = {
        "blur": blur,
        "blur.bias": np.array([0.05, -0.05], np.float32),
        "fc": classifier,
        "fc.bias": np.array([0, 0, 0, 0, -4, *range(-5, 0 - classes, -1)], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "blur", "blur.bias"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("AveragePool", ["r"], ["p"], "pool", kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "fc", "fc.bias"], ["scores"], "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "quadrants",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images(n: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images (n, 8, 8) uint8, and the quadrant that is brighter, (n,)."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, n)
    x = random.uniform(0, 120, (n, 8, 8))
    for row, label in enumerate(labels):
        down, right = 4 * (label // 2), 4 * (label % 2)
        x[row, down : down + 4, right : right + 4] += random.uniform(30, 120)
    return x.astype(np.uint8), labels


@dataclass(frozen=True)
class Files:
    """What a user has on disk.

    Attributes:
        folder: where all lies.
        model: the network.
        calibration: 200 labelled rows, uint8.
        test: 150 labelled rows, uint8.
        preprocessing: what `--preprocess` takes.
    """

    folder: Path
    model: Path
    calibration: Path
    test: Path
    preprocessing: Path


def write(folder: Path) -> Files:
    """Write the network and its data into a folder."""
    files = Files(
        folder,
        folder / "quadrants.onnx",
        folder / "calibration.npz",
        folder / "test.npz",
        folder / "preprocessing.json",
    )
    files.model.write_bytes(network().SerializeToString())
    for path, n, seed in ((files.calibration, 200, 1), (files.test, 150, 2)):
        x, y = images(n, seed)
        np.savez(path, x=x, y=y)
    files.preprocessing.write_text(json.dumps(PREPROCESSING), encoding="utf-8")
    return files
