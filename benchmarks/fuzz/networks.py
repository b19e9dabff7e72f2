"""The networks that are mutated: small ones made here, and those of others beside the project."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHARED = Path(__file__).parents[3] / "shared"
LARGEST = 2 << 20
"""Bytes of the largest file that is mutated: larger ones hold no other structure."""

OUTSIDE = "weights.bin"
"""Where the networks made here keep their external data."""

_F, _I, _B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


@dataclass(frozen=True, slots=True)
class Seed:
    """A network to mutate.

    Attributes:
        name: what it is called.
        data: its file.
        beside: the file with its external data; empty for none.
    """

    name: str
    data: bytes
    beside: bytes = b""


@cache
def made() -> tuple[Seed, ...]:
    """Return the networks that are made here."""
    builders: tuple[Callable[[], onnx.ModelProto], ...]
    builders = (
        perceptron,
        image,
        residual,
        shapes,
        branches,
        loop,
        functions,
        sparse,
        half,
        quantised,
        signal,
    )
    seeds = [Seed(build.__name__, build().SerializeToString()) for build in builders]
    return (*seeds, _external(perceptron()))


@cache
def others() -> tuple[Seed, ...]:
    """Return the public networks beside the project; none where there are none."""
    found = []
    for folder in ("models", "wild/models"):
        for path in sorted((SHARED / folder).glob("*.onnx")):
            if path.stat().st_size > LARGEST:
                continue
            data = path.with_name(path.name + ".data")
            found.append(Seed(path.stem, path.read_bytes(), data.read_bytes() if data.exists() else b""))
    return tuple(sorted(found, key=lambda seed: len(seed.data)))


def _values(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(sum(n * (place + 7) for place, n in enumerate(shape)))
    return rng.normal(scale=0.5, size=shape).astype(np.float32)


def _info(name: str, shape: list[int | str], kind: int = _F) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(
    nodes: list[onnx.NodeProto],
    shape: list[int | str],
    weights: Mapping[str, Any],
    opset: int = 17,
    kind: int = _F,
) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    output = helper.make_tensor_value_info("y", kind, None)
    graph = helper.make_graph(nodes, "network", [_info("x", shape, kind)], [output], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _node(op: str, read: str, written: str, **attributes: Any) -> onnx.NodeProto:
    names = ["" if name == "-" else name for name in read.split()]
    return helper.make_node(op, names, written.split(), f"{op}_{written.split()[0]}", **attributes)


def perceptron() -> onnx.ModelProto:
    """Dense layers with a softmax."""
    nodes = [
        _node("Gemm", "x w b", "a", transB=1),
        _node("Relu", "a", "r"),
        _node("MatMul", "r v", "m"),
        _node("Softmax", "m", "y"),
    ]
    return _model(nodes, ["N", 6], {"w": _values(8, 6), "b": _values(8), "v": _values(8, 3)})


def image() -> onnx.ModelProto:
    """Convolutions, normalisation and poolings."""
    nodes = [
        _node("Conv", "x w b", "c", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        _node("BatchNormalization", "c s h m v", "n", epsilon=1e-4),
        _node("Clip", "n zero six", "r"),
        _node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]),
        _node("Conv", "p u", "d", group=2, strides=[1, 1], dilations=[1, 1]),
        _node("Relu", "d", "e"),
        _node("GlobalAveragePool", "e", "g"),
        _node("Flatten", "g", "f", axis=1),
        _node("Gemm", "f k", "y", alpha=0.5),
    ]
    weights = {"w": _values(4, 2, 3, 3), "b": _values(4), "u": _values(4, 2, 2, 2), "k": _values(4, 3)}
    weights |= {"s": _values(4), "h": _values(4), "m": _values(4), "v": np.abs(_values(4)) + 1}
    weights |= {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
    return _model(nodes, ["N", 2, 6, 6], weights)


def residual() -> onnx.ModelProto:
    """A sum and a join of two paths."""
    nodes = [
        _node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        _node("Relu", "a", "r"),
        _node("Conv", "r v", "b", auto_pad="SAME_UPPER"),
        _node("Add", "b x", "s"),
        _node("Relu", "s", "q"),
        _node("Concat", "q r", "j", axis=1),
        _node("AveragePool", "j", "p", kernel_shape=[2, 2], strides=[2, 2]),
        _node("ReduceMean", "p", "y", axes=[2, 3], keepdims=0),
    ]
    return _model(nodes, [1, 2, 4, 4], {"w": _values(2, 2, 3, 3), "v": _values(2, 2, 3, 3)})


def shapes() -> onnx.ModelProto:
    """Operations that only move values, with shapes that are computed."""
    nodes = [
        _node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
        _node("Pad", "t pads", "p"),
        _node("Slice", "p starts ends axes", "c"),
        _node("Split", "c", "left right", axis=1),
        _node("Sub", "left right", "d"),
        _node("Shape", "d", "s"),
        _node("Gather", "s zero", "n"),
        _node("Unsqueeze", "n zeros", "u"),
        _node("Concat", "u rest", "to", axis=0),
        _node("Reshape", "d to", "f"),
        _node("Relu", "f", "r"),
        _node("MatMul", "r w", "y"),
    ]
    weights = {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "starts": np.array([1]), "ends": np.array([5])}
    weights |= {"axes": np.array([2]), "zero": np.array(0), "zeros": np.array([0]), "rest": np.array([-1])}
    return _model(nodes, ["N", 4, 4, 2], {**weights, "w": _values(24, 3)})


def branches() -> onnx.ModelProto:
    """An If whose condition is known, inside another."""
    inner = helper.make_graph([_node("Neg", "x", "i")], "inner", [], [_info("i", ["N", 4])])
    other = helper.make_graph([_node("Relu", "x", "o")], "other", [], [_info("o", ["N", 4])])
    nested = helper.make_graph(
        [_node("If", "no", "t", then_branch=inner, else_branch=other)], "nested", [], [_info("t", ["N", 4])]
    )
    nodes = [_node("If", "yes", "b", then_branch=nested, else_branch=inner), _node("MatMul", "b w", "y")]
    return _model(nodes, ["N", 4], {"yes": np.array(True), "no": np.array(False), "w": _values(4, 2)})


def loop() -> onnx.ModelProto:
    """A Loop of a known number of trips."""
    body = helper.make_graph(
        [_node("MatMul", "s w", "m"), _node("Relu", "m", "n"), _node("Identity", "c", "d")],
        "body",
        [_info("i", [], _I), _info("c", [], _B), _info("s", ["N", 4])],
        [_info("d", [], _B), _info("n", ["N", 4])],
    )
    nodes = [_node("Loop", "trips yes x", "l", body=body), _node("MatMul", "l v", "y")]
    weights = {"trips": np.array(3), "yes": np.array(True), "w": _values(4, 4), "v": _values(4, 2)}
    return _model(nodes, ["N", 4], weights)


def functions() -> onnx.ModelProto:
    """A function that calls another."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    inner = helper.make_function("my", "In", ["a"], ["b"], [_node("Relu", "a", "b")], imports)
    body = [
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(_values(4), "k")),
        _node("Add", "a k", "s"),
        helper.make_node("In", ["s"], ["b"], domain="my"),
    ]
    outer = helper.make_function("my", "Out", ["a"], ["b"], body, imports)
    nodes = [helper.make_node("Out", ["x"], ["h"], "call", domain="my"), _node("MatMul", "h w", "y")]
    model = _model(nodes, ["N", 4], {"w": _values(4, 2)})
    model.functions.extend([inner, outer])
    model.opset_import.append(helper.make_opsetid("my", 1))
    return model


def sparse() -> onnx.ModelProto:
    """Sparse weights, and constants as nodes."""
    places = np.arange(0, 24, 5)
    constant = helper.make_node("Constant", [], ["k"], "k", value_floats=[1.0, 2.0, -1.0])
    nodes = [_node("MatMul", "x w", "a"), _node("Relu", "a", "r"), constant, _node("Mul", "r k", "y")]
    model = _model(nodes, ["N", 8], {})
    values = numpy_helper.from_array(_values(len(places)), "w")
    where = numpy_helper.from_array(places, "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, where, [8, 3]))
    return model


def half() -> onnx.ModelProto:
    """A network in float16."""
    nodes = [_node("MatMul", "x w", "a"), _node("Relu", "a", "r"), _node("MatMul", "r v", "y")]
    weights = {"w": _values(4, 6).astype(np.float16), "v": _values(6, 2).astype(np.float16)}
    return _model(nodes, ["N", 4], weights, kind=TensorProto.FLOAT16)


def quantised() -> onnx.ModelProto:
    """A dense layer between QuantizeLinear and DequantizeLinear."""
    nodes = [
        _node("QuantizeLinear", "x s z", "q"),
        _node("DequantizeLinear", "q s z", "d"),
        _node("DequantizeLinear", "w t -", "v", axis=1),
        _node("MatMul", "d v", "a"),
        _node("Relu", "a", "y"),
    ]
    weights = {"s": np.float32(0.1), "z": np.uint8(128), "w": np.arange(-6, 6, dtype=np.int8).reshape(4, 3)}
    return _model(nodes, ["N", 4], {**weights, "t": np.array([0.1, 0.2, 0.3], np.float32)})


def signal() -> onnx.ModelProto:
    """One-dimensional convolutions of an old operator set."""
    nodes = [
        _node("Conv", "x w", "c", kernel_shape=[3], pads=[1, 1]),
        _node("Relu", "c", "r"),
        _node("MaxPool", "r", "p", kernel_shape=[2], strides=[2]),
        _node("Squeeze", "p", "s", axes=[0]),
        _node("Unsqueeze", "s", "u", axes=[0]),
        _node("Dropout", "u", "d"),
        _node("GlobalMaxPool", "d", "g"),
        _node("Reshape", "g to", "f"),
        _node("LogSoftmax", "f", "y", axis=1),
    ]
    return _model(nodes, [1, 2, 8], {"w": _values(3, 2, 3), "to": np.array([1, -1])}, opset=9)


def _external(model: onnx.ModelProto) -> Seed:
    data = b""
    for tensor in model.graph.initializer:
        tensor.data_location = TensorProto.EXTERNAL
        entries = (("location", OUTSIDE), ("offset", str(len(data))), ("length", str(len(tensor.raw_data))))
        for key, value in entries:
            tensor.external_data.add(key=key, value=value)
        data += tensor.raw_data
        tensor.ClearField("raw_data")
    return Seed("external", model.SerializeToString(), data)
