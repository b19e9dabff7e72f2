"""Small quantised ONNX networks for tests, with random integers, as exporters write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]

MICROSOFT = "com.microsoft"


class Network:
    """Collects nodes and constants.

    Attributes:
        levels: the zero point of each quantised tensor.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.levels: dict[str, int] = {}

    def node(self, op: str, read: list[str], write: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, read, [write], name=f"n_{write}", domain=domain, **attributes))
        return write

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def scale(self, name: str, scale: float, zero: int, kind: str = "uint8") -> list[str]:
        """Add scale and zero point of the tensor ``name``."""
        self.levels[name] = zero
        return [
            self.constant(f"{name}_scale", np.float32(scale)),
            self.constant(f"{name}_zero", np.array(zero, kind)),
        ]

    def weights(self, name: str, shape: tuple[int, ...], channels: int = 0) -> list[str]:
        """Add random int8 weights, with one scale or one per output."""
        integers = self.rng.integers(-128, 128, shape).astype(np.int8)
        scale = self.rng.uniform(0.002, 0.02, channels or 1).astype(np.float32)
        zero = np.zeros(channels or 1, np.int8)
        return [
            self.constant(name, integers),
            self.constant(f"{name}_scale", scale if channels else scale[0]),
            self.constant(f"{name}_zero", zero if channels else zero[0]),
        ]

    def model(self, shape: tuple[int, ...], outputs: Mapping[str, int], opset: int = 13) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "quantised",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
            [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        imports = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)


def integer_operators(seed: int = 0) -> Network:
    """Return a residual network of QLinearConv, QLinearAdd, pools and QGemm, as onnxruntime writes them."""
    net = Network(seed)
    x = net.scale("a", 0.02, 117)
    net.node("QuantizeLinear", ["x", *x], "a")
    b = net.scale("b", 0.05, 0)
    bias = net.constant("b_bias", net.rng.integers(-4000, 4000, 6).astype(np.int32))
    net.node("QLinearConv", ["a", *x, *net.weights("wb", (6, 3, 3, 3), 6), *b, bias], "b", pads=[1, 1, 1, 1])
    c = net.scale("c", 0.07, 131)
    net.node("QLinearConv", ["b", *b, *net.weights("wc", (6, 1, 3, 3)), *c], "c", pads=[1] * 4, group=6)
    d = net.scale("d", 0.061, 20)
    net.node("QLinearAdd", ["b", *b, "c", *c, *d], "d", domain=MICROSOFT)
    net.node("MaxPool", ["d"], "e", kernel_shape=[2, 2], strides=[2, 2])
    f = net.scale("f", 0.03, 3)
    net.node("QLinearGlobalAveragePool", ["e", *d, *f], "f", domain=MICROSOFT)
    net.node("Flatten", ["f"], "g")
    h = net.scale("h", 0.04, 128)
    bias = net.constant("h_bias", net.rng.integers(-900, 900, 5).astype(np.int32))
    net.node("QGemm", ["g", *f, *net.weights("wh", (5, 6), 5), bias, *h], "h", domain=MICROSOFT, transB=1)
    net.node("DequantizeLinear", ["h", *h], "y")
    return net


def more_integer_operators(seed: int = 4) -> Network:
    """Return a network of other integer operators, of int8, that ends in a softmax."""
    net = Network(seed)
    a = net.scale("a", 0.02, 3, "int8")
    net.node("QuantizeLinear", ["x", *a], "a")
    b, c = net.scale("b", 0.05, -128, "int8"), net.scale("c", 0.067, -31, "int8")
    net.node("QLinearConv", ["a", *a, *net.weights("wb", (4, 3, 3, 3), 4), *b], "b", pads=[1] * 4)
    net.node("QLinearConv", ["a", *a, *net.weights("wc", (3, 3, 1, 1)), *c], "c")
    d = net.scale("d", 0.071, -40, "int8")
    net.node("QLinearConcat", [*d, "b", *b, "c", *c], "d", domain=MICROSOFT, axis=1)
    e = net.scale("e", 0.033, -20, "int8")
    net.node("QLinearAveragePool", ["d", *d, *e], "e", domain=MICROSOFT, kernel_shape=[3, 3], strides=[3, 3])
    g = net.scale("g", 0.031, -11, "int8")
    factor = net.constant("factor", net.rng.integers(10, 127, (7, 1, 1)).astype(np.int8))
    factors = [factor, *net.scale("factor", 0.013, 0, "int8")]
    net.node("QLinearMul", ["e", *e, *factors, *g], "g", domain=MICROSOFT)
    net.node("Reshape", ["g", net.constant("shape", np.array([-1, 28]))], "f")
    h = net.scale("h", 0.05, 7, "int8")
    net.node("QLinearMatMul", ["f", *g, *net.weights("wh", (28, 5)), *h], "h")
    i = net.scale("i", 1 / 256, -128, "int8")
    net.node("QLinearSoftmax", ["h", *h, *i], "i", domain=MICROSOFT, axis=-1, opset=13)
    net.node("DequantizeLinear", ["i", *i], "y")
    return net


def qdq(seed: int = 1, kind: str = "int8", summed: float = 0.0589) -> Network:
    """Return a network of QuantizeLinear and DequantizeLinear around float operators.

    Args:
        seed: of the integers.
        kind: type of the activations.
        summed: scale behind the residual sum of activations of scales 0.0457 and 0.0613.
    """
    net = Network(seed)
    low = -128 if kind == "int8" else 0

    def quantised(read: str, name: str, scale: float, zero: int) -> str:
        parameters = net.scale(name, scale, zero, kind)
        net.node("QuantizeLinear", [read, *parameters], name)
        return net.node("DequantizeLinear", [name, *parameters], f"{name}_real")

    def weight(name: str, shape: tuple[int, ...]) -> str:
        integers, scale, zero = net.weights(name, shape, shape[0])
        return net.node("DequantizeLinear", [integers, scale, zero], f"{name}_real", axis=0)

    def bias(name: str, read_scale: float, weights: str) -> str:
        scale = net.constant(f"{name}_scale", np.float32(read_scale) * net.constants[f"{weights}_scale"])
        integers = net.constant(
            name, net.rng.integers(-2000, 2000, len(net.constants[scale])).astype(np.int32)
        )
        zero = net.constant(f"{name}_zero", np.zeros(len(net.constants[scale]), np.int32))
        return net.node("DequantizeLinear", [integers, scale, zero], f"{name}_real", axis=0)

    a = quantised("x", "a", 0.021, low + 130)
    net.node("Conv", [a, weight("wb", (5, 3, 3, 3)), bias("bb", 0.021, "wb")], "b0", pads=[1] * 4)
    net.node("Relu", ["b0"], "b1")
    b = quantised("b1", "b", 0.0457, low)
    net.node("Conv", [b, weight("wc", (5, 5, 1, 1))], "c0")
    c = quantised("c0", "c", 0.0613, low + 120)
    net.node("Add", [b, c], "d0")
    net.node("Relu", ["d0"], "d1")
    d = quantised("d1", "d", summed, low)
    net.node("AveragePool", [d], "e0", kernel_shape=[2, 2], strides=[2, 2])
    e = quantised("e0", "e", 0.05, low)
    net.node("Flatten", [e], "f")
    net.node("Gemm", ["f", weight("wg", (4, 5 * 9))], "g0", transB=1)
    g = quantised("g0", "g", 0.11, low + 128)
    net.node("Identity", [g], "y")
    return net


def rounded_sum(kind: str, seed: int = 0) -> Network:
    """Return a network that rounds a sum ``s`` of two activations to ``d``.

    Args:
        kind: ``pooled``, the sum is averaged before it is rounded; ``scales``, a scale per channel.
        seed: of the integers.
    """
    net = Network(seed)
    a = net.scale("a", 0.02, 117)
    net.node("QuantizeLinear", ["x", *a], "a")
    net.node("DequantizeLinear", ["a", *a], "a_real")
    for name, scale in (("b", 0.05), ("c", 0.0613)):
        net.node("DequantizeLinear", net.weights(f"w{name}", (6, 3, 3, 3)), f"w{name}_real")
        net.node("Conv", ["a_real", f"w{name}_real"], f"{name}_in", pads=[1] * 4)
        parameters = net.scale(name, scale, 0)
        net.node("QuantizeLinear", [f"{name}_in", *parameters], name)
        net.node("DequantizeLinear", [name, *parameters], f"{name}_real")
    read = net.node("Add", ["b_real", "c_real"], "s")
    if kind == "pooled":
        read = net.node("AveragePool", ["s"], "s_pooled", kernel_shape=[2, 2], strides=[2, 2])
        d = net.scale("d", 0.0471, 0)
    else:
        d = net.scale("d", 1, 0)
        net.constant("d_scale", np.linspace(0.03, 0.09, 6).astype(np.float32))
        net.constant("d_zero", np.zeros(6, np.uint8))
    net.node("QuantizeLinear", [read, *d], "d", axis=1)
    net.node("DequantizeLinear", ["d", *d], "d_real", axis=1)
    net.node("Flatten", ["d_real"], "f")
    size = 54 if kind == "pooled" else 216
    net.node("DequantizeLinear", net.weights("wy", (size, 5)), "wy_real")
    net.node("MatMul", ["f", "wy_real"], "y")
    return net


def sliced_sum(seed: int = 0) -> Network:
    """Return a network that adds parts of two maps, whose sums are often half-way between two levels."""
    net = Network(seed)
    a = net.scale("a", 0.045, 117)
    net.node("QuantizeLinear", ["x", *a], "a")
    inside = [net.constant(name, np.array([at])) for name, at in (("start", 1), ("end", 5), ("axis", 2))]
    terms = []
    for name, scale, zero in (("b", 0.045, 117), ("c", 0.06, 131)):
        codes = net.scale(name, scale, zero)
        net.node("QLinearConv", ["a", *a, *net.weights(f"w{name}", (3, 3, 1, 1)), *codes], name)
        terms += [net.node("Slice", [name, *inside], f"{name}_part"), *codes]
    d = net.scale("d", 0.058, 20)
    net.node("QLinearAdd", [*terms, *d], "d", domain=MICROSOFT)
    net.node("DequantizeLinear", ["d", *d], "d_real")
    net.node("Flatten", ["d_real"], "f")
    net.node("DequantizeLinear", net.weights("wy", (72, 5)), "wy_real")
    net.node("MatMul", ["f", "wy_real"], "y")
    return net


def of_integers(seed: int = 0) -> Network:
    """Return a network that reads integers as they are, and rounds to ``b``."""
    net = Network(seed)
    net.node("DequantizeLinear", net.weights("wb", (6, 3, 3, 3)), "wb_real")
    net.node("Conv", ["x", "wb_real"], "b_in")
    b = net.scale("b", 20, 100)
    net.node("QuantizeLinear", ["b_in", *b], "b")
    net.node("DequantizeLinear", ["b", *b], "b_real")
    net.node("Flatten", ["b_real"], "f")
    net.node("DequantizeLinear", net.weights("wy", (96, 5)), "wy_real")
    net.node("MatMul", ["f", "wy_real"], "y")
    return net


def learned(seed: int = 2) -> Network:
    """Return a network whose activations are QCFS, LSQ and PACT in floats, with integer weights and input."""
    net = Network(seed)
    half, zero, levels = (
        net.constant(n, np.float32(v)) for n, v in (("half", 0.5), ("zero", 0), ("levels", 15))
    )
    unit, limit = net.constant("unit", np.float32(0.1)), net.constant("limit", np.float32(1.3))
    a = net.scale("a", 0.02, 128)
    net.node("QuantizeLinear", ["x", *a], "a")
    net.node("DequantizeLinear", ["a", *a], "a_real")

    def convolved(read: str, name: str, shape: tuple[int, ...]) -> str:
        integers, scale, point = net.weights(f"w{name}", shape)
        real = net.node("DequantizeLinear", [integers, scale, point], f"w{name}_real")
        return net.node("Conv", [read, real], f"{name}_in", pads=[1] * 4)

    b = convolved("a_real", "b", (6, 3, 3, 3))
    for op, read, write in (
        ("Mul", [b, levels], "b1"),
        ("Div", ["b1", limit], "b2"),
        ("Add", ["b2", half], "b3"),
        ("Floor", ["b3"], "b4"),
        ("Clip", ["b4", zero, levels], "b5"),
        ("Mul", ["b5", limit], "b6"),
        ("Div", ["b6", levels], "b7"),
    ):
        net.node(op, read, write)
    c = convolved("b7", "c", (4, 6, 3, 3))
    for op, read, write in (
        ("Div", [c, unit], "c1"),
        ("Clip", ["c1", zero, levels], "c2"),
        ("Round", ["c2"], "c3"),
        ("Sub", ["c3", "c2"], "c4"),
        ("Add", ["c4", "c2"], "c5"),
        ("Mul", ["c5", unit], "c6"),
    ):
        net.node(op, read, write)
    net.node("Flatten", ["c6"], "f")
    integers, scale, point = net.weights("wg", (4 * 36, 5))
    net.node("DequantizeLinear", [integers, scale, point], "wg_real")
    net.node("MatMul", ["f", "wg_real"], "y")
    return net


def qcfs_residual(seed: int = 5) -> Network:
    """Return a residual QCFS network with float weights and batch norm; ``a``, ``b``, ``d`` are rounded."""
    net = Network(seed)
    half, zero, levels = (net.constant(n, np.float32(v)) for n, v in (("half", 0.5), ("zero", 0), ("L", 8)))
    one = net.constant("one", np.float32(1))

    def qcfs(read: str, name: str, limit: float) -> str:
        top = net.constant(f"{name}_limit", np.float32(limit))
        for place, (op, other) in enumerate(
            (("Div", [top]), ("Clip", [zero, one]), ("Mul", [levels]), ("Add", [half]), ("Floor", []))
        ):
            read = net.node(op, [read, *other], f"{name}_{place}")
        return net.node("Mul", [net.node("Div", [read, levels], f"{name}_unit"), top], name)

    def convolved(read: str, name: str, outputs: int, inputs: int) -> str:
        weight = net.constant(
            f"{name}_w", net.rng.normal(size=(outputs, inputs, 3, 3)).astype(np.float32) / 5
        )
        net.node("Conv", [read, weight], f"{name}_conv", pads=[1] * 4)
        vectors = [
            net.constant(f"{name}_{k}", net.rng.uniform(low, high, outputs).astype(np.float32))
            for k, low, high in (("g", -1.5, 1.5), ("h", -0.1, 0.2), ("m", -0.1, 0.1), ("v", 0.5, 2))
        ]
        return net.node("BatchNormalization", [f"{name}_conv", *vectors], name)

    a = qcfs(convolved("x", "c1", 6, 3), "a", 1.5)
    b = qcfs(convolved(a, "c2", 6, 6), "b", 1.1)
    d = qcfs(net.node("Add", [convolved(b, "c3", 6, 6), a], "sum"), "d", 2.1)
    net.node("GlobalAveragePool", [d], "pooled")
    net.node("Flatten", ["pooled"], "f")
    weight = net.constant("w", net.rng.normal(size=(6, 5)).astype(np.float32))
    net.node("MatMul", ["f", weight], "y")
    return net


def images(count: int, seed: int = 0, shape: tuple[int, ...] = (3, 6, 6)) -> Array:
    """Return normalised 8-bit images."""
    rng = np.random.default_rng(seed)
    colour = rng.integers(0, 200, (count, shape[0], 1, 1)) + rng.integers(0, 56, (count, *shape))
    mean, deviation = (np.array(v).reshape(3, 1, 1) for v in ((0.49, 0.48, 0.45), (0.2, 0.21, 0.22)))
    return ((colour / 255 - mean) / deviation).astype(np.float32)


def rows(count: int, seed: int = 0, shape: tuple[int, ...] = (3, 6, 6)) -> Array:
    """Return inputs with blots."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, *shape)) + 1.5 * rng.normal(size=(count, shape[0], 1, 1))).astype(
        np.float32
    )
