"""Random graphs that are valid: every node is one that onnx's shape inference accepts."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

Shape = tuple[int, ...]
LARGEST = 4096
"""Most values of a tensor."""


@dataclass
class _Drawing:
    """A graph in the making."""

    rng: random.Random
    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"k{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def floats(self, *shape: int, positive: bool = False) -> str:
        values = np.random.default_rng(self.rng.getrandbits(32)).normal(scale=0.5, size=shape)
        return self.constant(np.abs(values) + 0.5 if positive else values)

    def try_node(self, op: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> bool:
        """Add a node if it is valid and small, and say whether it was."""
        names = [f"t{len(self.nodes)}_{index}" for index in range(outputs)]
        node = helper.make_node(op, inputs, names, f"n{len(self.nodes)}", **attributes)
        stored = {tensor.name: tensor for tensor in self.weights if tensor.name in inputs}
        types = {
            name: helper.make_tensor_type_proto(TensorProto.FLOAT, self.shapes[name])
            for name in inputs
            if name in self.shapes
        }
        types |= {
            name: helper.make_tensor_type_proto(t.data_type, list(t.dims)) for name, t in stored.items()
        }
        try:
            schema = onnx.defs.get_schema(op, self.opset, "")
            imports = [helper.make_opsetid("", self.opset)]
            found = shape_inference.infer_node_outputs(schema, node, types, stored, opset_imports=imports)
        except (
            onnx.checker.ValidationError,
            onnx.defs.SchemaError,
            shape_inference.InferenceError,
            KeyError,
        ):
            return False
        shapes = {}
        for name in names:
            dims = found[name].tensor_type.shape.dim if name in found else []
            shape = tuple(d.dim_value for d in dims)
            if not shape or min(shape) < 1 or shape[0] != 1 or math.prod(shape) > LARGEST:
                return False
            shapes[name] = shape
        self.nodes.append(node)
        self.shapes |= shapes
        return True


def random_graph(rng: random.Random) -> onnx.ModelProto:
    """Return a random model with one input of batch size 1."""
    drawing = _Drawing(rng, rng.choice((8, 11, 13, 15, 17, 18, 21)))
    channels, side = rng.choice((1, 2, 3, 4)), rng.choice((4, 5, 6, 8))
    given = rng.choice(
        ((1, channels, side, side),) * 3 + ((1, side, side, channels), (1, 12), (1, channels, 8))
    )
    drawing.shapes["x"] = given
    wanted = rng.randrange(1, 14)
    for _ in range(5 * wanted):
        if len(drawing.nodes) >= wanted:
            break
        names = list(drawing.shapes)
        name = names[-1] if rng.random() < 0.8 else rng.choice(names)
        _draw(drawing, name)
    output = list(drawing.shapes)[-1]
    if output == "x":
        drawing.try_node("Relu", ["x"])
        output = list(drawing.shapes)[-1]
    graph = helper.make_graph(
        drawing.nodes,
        "random",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, drawing.shapes[output])],
        drawing.weights,
    )
    imports = [helper.make_opsetid("", drawing.opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def _draw(d: _Drawing, name: str) -> None:
    """Try to add one node that reads ``name``."""
    if d.rng.random() < 0.5:
        _draw_layer(d, name)
    else:
        _draw_movement(d, name)


def _draw_layer(d: _Drawing, name: str) -> None:
    """Try to add a layer, an activation or arithmetic."""
    rng, shape = d.rng, d.shapes[name]
    rank = len(shape)
    spatial = rank - 2
    match rng.randrange(12):
        case 0 | 1 | 2 if spatial in (1, 2):
            kernel = [rng.choice((1, 2, 3)) for _ in range(spatial)]
            groups = rng.choice((1, 1, 1, shape[1]))
            made = groups * rng.choice((1, 2, 3))
            weight = d.floats(made, shape[1] // groups, *kernel)
            inputs = [name, weight, *([d.floats(made)] if rng.random() < 0.5 else [])]
            d.try_node("Conv", inputs, group=groups, **_window(rng, spatial))
        case 3:
            d.try_node("Gemm", [name, d.floats(shape[-1], 5), d.floats(5)])
        case 4:
            d.try_node("MatMul", [name, d.floats(shape[-1], rng.choice((2, 5)))])
        case 5 | 6 | 7:
            d.try_node("Relu", [name])
        case 8 if spatial in (1, 2):
            kernel = [rng.choice((2, 3)) for _ in range(spatial)]
            op = rng.choice(("MaxPool", "AveragePool"))
            extra = {"count_include_pad": rng.randrange(2)} if op == "AveragePool" else {}
            if d.opset >= 10:
                extra["ceil_mode"] = rng.randrange(2)
            window = {key: value for key, value in _window(rng, spatial).items() if key != "dilations"}
            d.try_node(op, [name], kernel_shape=kernel, **window, **extra)
        case 9:
            d.try_node(rng.choice(("GlobalAveragePool", "GlobalMaxPool")), [name])
        case 10:
            others = [other for other, size in d.shapes.items() if size == shape]
            d.try_node(rng.choice(("Add", "Add", "Sub", "Sum", "Mean")), [name, rng.choice(others)])
        case 11:
            wide = [n if rng.random() < 0.5 else 1 for n in shape]
            wide = wide if rng.random() < 0.6 else wide[rng.randrange(rank) :]
            constant = d.floats(*wide, positive=True)
            pair = [name, constant] if rng.random() < 0.8 else [constant, name]
            d.try_node(rng.choice(("Add", "Mul", "Sub", "Div", "Max", "Min")), pair)
        case _:
            return


def _draw_movement(d: _Drawing, name: str) -> None:
    """Try to add what moves, joins, cuts or reduces values."""
    rng, shape = d.rng, d.shapes[name]
    rank, axis = len(shape), rng.randrange(len(shape))
    match rng.randrange(12, 26):
        case 12:
            order = rng.sample(range(rank), rank)
            order = [0, *[axis for axis in order if axis]] if rng.random() < 0.9 else order
            d.try_node("Transpose", [name], perm=order)
        case 13:
            d.try_node("Reshape", [name, d.constant(_factors(rng, shape), np.int64)])
        case 14:
            d.try_node("Flatten", [name], axis=rng.choice((1, 1, 1, axis)))
        case 15:
            pads = [0, *(rng.choice((0, 0, 1, 2, -1)) for _ in shape[1:])] * 2
            if d.opset >= 11:
                mode = rng.choice(("constant", "constant", "edge", "reflect"))
                d.try_node("Pad", [name, d.constant(pads, np.int64)], mode=mode)
            else:
                d.try_node("Pad", [name], pads=pads)
        case 16 if d.opset >= 10:
            start, stop, step = rng.randrange(-3, 3), rng.choice((-1, 2, 5, 2**40)), rng.choice((1, 1, 2, -1))
            lists = [d.constant([value], np.int64) for value in (start, stop, axis, step)]
            d.try_node("Slice", [name, *lists])
        case 17:
            others = [other for other, size in d.shapes.items() if len(size) == rank]
            d.try_node("Concat", [name, rng.choice(others)], axis=rng.choice((1, axis)))
        case 18:
            values = d.floats(shape[1] if rank > 1 else 1, positive=True)
            inputs = [name, values, d.floats(*shape[1:2]), d.floats(*shape[1:2]), values]
            d.try_node("BatchNormalization", inputs)
        case 19:
            if d.opset >= 11:
                d.try_node("Clip", [name, d.constant(0.0), d.constant(rng.choice((1.0, 6.0)))])
            else:
                d.try_node("Clip", [name], min=0.0, max=6.0)
        case 20:
            keep = {"keepdims": rng.randrange(2)}
            if d.opset >= 18:
                axes = d.constant([axis], np.int64)
                d.try_node(rng.choice(("ReduceMean", "ReduceSum", "ReduceMax")), [name, axes], **keep)
            else:
                d.try_node(rng.choice(("ReduceMean", "ReduceMax")), [name], axes=[axis], **keep)
        case 21:
            parts = rng.choice((2, 3))
            extra = {"num_outputs": parts} if d.opset >= 18 else {}
            d.try_node("Split", [name], outputs=parts, axis=axis, **extra)
        case 22:
            indices = [rng.randrange(shape[axis]) for _ in range(rng.choice((1, 2, shape[axis])))]
            d.try_node("Gather", [name, d.constant(indices, np.int64)], axis=axis)
        case 23:
            d.try_node(rng.choice(("Identity", "Dropout", "Neg", "LeakyRelu", "Sigmoid")), [name])
        case 24 if rank == 4:
            d.try_node(rng.choice(("DepthToSpace", "SpaceToDepth")), [name], blocksize=2)
        case 25:
            d.try_node("Softmax", [name], axis=rng.choice((-1, 1)))
        case _:
            return


def _window(rng: random.Random, spatial: int) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if rng.random() < 0.4:
        attributes["strides"] = [rng.choice((1, 2)) for _ in range(spatial)]
    if rng.random() < 0.2:
        attributes["dilations"] = [rng.choice((1, 2)) for _ in range(spatial)]
    if rng.random() < 0.4:
        attributes["pads"] = [rng.choice((0, 1)) for _ in range(2 * spatial)]
    elif rng.random() < 0.2:
        attributes["auto_pad"] = rng.choice(("SAME_UPPER", "SAME_LOWER", "VALID"))
    return attributes


def _factors(rng: random.Random, shape: Shape) -> list[int]:
    """Return another shape of as many values, one size possibly left open."""
    rest, sizes = math.prod(shape), list[int]()
    while rest > 1 and len(sizes) < 3:
        divisors = [n for n in range(2, rest + 1) if rest % n == 0]
        sizes.append(rng.choice(divisors))
        rest //= sizes[-1]
    sizes.append(rest)
    rng.shuffle(sizes)
    if rng.random() < 0.4:
        sizes[rng.randrange(len(sizes))] = -1
    return [1, *sizes]
