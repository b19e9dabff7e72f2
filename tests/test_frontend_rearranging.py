"""Rearrangements and linear maps of every form: read exactly, and lowered to spikes that compute the same.

Every operator is drawn with random sizes and attributes, with a layer before it and behind it, and compared
with onnxruntime. A few of each are lowered to spikes of many levels, which compute the source's function.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto

from snnc.ir import ann
from tests.onnx_models import check_equal, model, node, normal
from tests.test_frontend_forms import faithful

drawn = settings(max_examples=12, deadline=None)


@dataclass
class Case:
    """An operation that reads ``x`` and gives ``h``.

    Attributes:
        shape: of ``x``.
        nodes: the operation.
        constants: what it reads beside.
        opset: of the model.
    """

    shape: list[int]
    nodes: list[NodeProto]
    constants: dict[str, Any] = field(default_factory=dict)
    opset: int = 17


def image(r: Random, rank: int | None = None) -> list[int]:
    """Return the shape of a small image, or of a sequence."""
    rank = rank or r.choice((3, 4))
    return [1, r.choice((1, 2, 4)), *(r.randint(2, 6) for _ in range(rank - 2))]


def conv_transpose(r: Random) -> Case:
    shape = image(r)
    rank = len(shape) - 2
    groups = r.choice((1, 2)) if shape[1] % 2 == 0 else 1
    kernel = [r.randint(1, 4) for _ in range(rank)]
    strides = [r.randint(1, 3) for _ in range(rank)]
    dilations = [r.choice((1, 1, 2)) for _ in range(rank)]
    given_: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": groups}
    full = [
        s * (n - 1) + d * (k - 1) + 1
        for n, k, s, d in zip(shape[2:], kernel, strides, dilations, strict=True)
    ]
    how = r.choice(("pads", "pads", "output_shape", "SAME_UPPER", "SAME_LOWER", "VALID"))
    if how == "pads":
        given_["pads"] = [r.randint(0, (full[i % rank] - 1) // 2) for i in range(2 * rank)]
        given_["output_padding"] = [r.randint(0, s - 1) for s in strides]
    elif how == "output_shape":
        given_["output_shape"] = [r.randint(max(1, n - 3), n) for n in full]
    else:
        given_["auto_pad"] = how
    outputs = r.randint(1, 3)
    constants = {"w": normal(shape[1], outputs, *kernel), "b": normal(outputs * groups)}
    return Case(shape, [node("ConvTranspose", "x w b", "h", **given_)], constants)


def resize(r: Random) -> Case:
    shape = image(r, 4)
    mode = r.choice(("nearest", "linear"))
    how = r.choice(("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"))
    given_: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": how}
    if mode == "nearest":
        given_["nearest_mode"] = r.choice(("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"))
    if r.random() < 0.5:
        sizes = np.array([*shape[:2], r.randint(1, 9), r.randint(1, 9)])
        return Case(shape, [node("Resize", "x - - s", "h", **given_)], {"s": sizes}, 13)
    scales = np.array([1, 1, r.choice((0.5, 1, 1.5, 2)), r.choice((1.25, 2, 3))], np.float32)
    if how == "align_corners":
        scales = np.ceil(scales)
    return Case(shape, [node("Resize", "x - s", "h", **given_)], {"s": scales}, 18)


def upsample(r: Random) -> Case:
    scales = np.array([1, 1, r.choice((2, 3)), r.choice((1, 2, 1.5))], np.float32)
    mode = r.choice(("nearest", "linear"))
    return Case(image(r, 4), [node("Upsample", "x s", "h", mode=mode)], {"s": scales}, 9)


def average_pool(r: Random) -> Case:
    shape = image(r)
    rank = len(shape) - 2
    shape[2:] = [r.randint(4, 9) for _ in range(rank)]
    kernel = [r.randint(1, 4) for _ in range(rank)]
    given_: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [r.randint(1, 3) for _ in range(rank)],
        "pads": [r.randint(0, kernel[i % rank] - 1) for i in range(2 * rank)],
        "ceil_mode": r.randint(0, 1),
        "count_include_pad": r.randint(0, 1),
    }
    if r.random() < 0.3:
        return Case(
            shape, [node("AveragePool", "x", "h", **given_, dilations=[r.randint(1, 2)] * rank)], {}, 19
        )
    return Case(shape, [node("AveragePool", "x", "h", **given_)])


def reduction(r: Random) -> Case:
    shape = image(r, r.choice((3, 4, 5)))
    axes = r.sample(range(1, len(shape)), r.randint(1, len(shape) - 1))
    kind = r.choice(("ReduceMean", "ReduceSum", "ReduceMax"))
    keep = r.randint(0, 1)
    if kind == "ReduceSum":
        return Case(shape, [node(kind, "x a", "h", keepdims=keep)], {"a": np.array(axes)}, 13)
    return Case(shape, [node(kind, "x", "h", axes=axes, keepdims=keep)], {}, 13)


def matrix(r: Random) -> Case:
    shape = image(r, r.choice((2, 3, 4, 5)))
    if r.random() < 0.7:
        return Case(shape, [node("MatMul", "x w", "h")], {"w": normal(shape[-1], r.randint(1, 4))})
    return Case(shape, [node("MatMul", "w x", "h")], {"w": normal(r.randint(1, 4), shape[-2])})


def matrices(r: Random) -> Case:
    """MatMul with a matrix for each channel, and Einsum."""
    shape = image(r, 4)
    if r.random() < 0.4:
        many = r.choice(([shape[1]], [1, shape[1]], [1, 1]))
        if r.random() < 0.5:
            return Case(shape, [node("MatMul", "x w", "h")], {"w": normal(*many, shape[3], r.randint(1, 4))})
        return Case(shape, [node("MatMul", "w x", "h")], {"w": normal(*many, r.randint(1, 4), shape[2])})
    sizes = dict(zip("bchw", shape, strict=True)) | {"o": r.randint(1, 4)}
    own = "".join(r.sample("chwo", r.randint(1, 3)))
    result = [k for k in "chw" if r.random() < 0.6 or k not in own]
    result += [k for k in own if k == "o"]
    equation = f"bchw,{own}->b{''.join(r.sample(result, len(result)))}"
    constant = {"w": normal(*(sizes[k] for k in own))}
    return Case(shape, [node("Einsum", "x w", "h", equation=equation)], constant)


def pad(r: Random) -> Case:
    shape = image(r)
    rank = len(shape)
    mode = r.choice(("edge", "reflect", "wrap", "constant"))
    pads = [0] * (2 * rank)
    for axis in range(1, rank):
        for side in (axis, axis + rank):
            most = 2 if mode == "constant" else shape[axis] - 1
            pads[side] = r.randint(-1 if shape[axis] > 2 else 0, most) * r.randint(0, 1)
    constants: dict[str, Any] = {"p": np.array(pads)}
    if mode == "constant":
        constants["v"] = np.float32(r.choice((0, 0.5, -1)))
    return Case(shape, [node("Pad", "x p v" if mode == "constant" else "x p", "h", mode=mode)], constants, 19)


def moved(r: Random) -> Case:
    """Tile, Expand, Slice, Gather, Transpose, DepthToSpace and SpaceToDepth."""
    shape = image(r)
    rank = len(shape)
    axes = range(1, rank)
    match r.choice(("Tile", "Expand", "Slice", "Gather", "Transpose", "DepthToSpace", "SpaceToDepth")):
        case "Tile":
            return Case(
                shape, [node("Tile", "x t", "h")], {"t": np.array([1, *(r.randint(1, 3) for _ in axes)])}
            )
        case "Expand":
            shape = [1, *(n if r.random() < 0.5 else 1 for n in shape[1:])]
            wanted = [n if n > 1 else r.randint(1, 4) for n in shape[1:]]
            return Case(shape, [node("Expand", "x t", "h")], {"t": np.array([1, *wanted])})
        case "Slice":
            some = r.sample(axes, r.randint(1, rank - 1))
            steps = [r.choice((1, 2, -1, -2)) for _ in some]
            bounds = {"a": [0 if n > 0 else -1 for n in steps], "b": [999 if n > 0 else -999 for n in steps]}
            constants = {key: np.array(value) for key, value in {**bounds, "c": some, "d": steps}.items()}
            return Case(shape, [node("Slice", "x a b c d", "h")], constants)
        case "Gather":
            axis = r.choice(axes)
            index = np.array([r.randrange(shape[axis]) for _ in range(r.randint(1, 4))])
            return Case(shape, [node("Gather", "x i", "h", axis=axis)], {"i": index})
        case "Transpose":
            return Case(shape, [node("Transpose", "x", "h", perm=[0, *r.sample(axes, rank - 1)])])
        case "DepthToSpace":
            mode = r.choice(("DCR", "CRD"))
            return Case([1, 8, 2, 3], [node("DepthToSpace", "x", "h", blocksize=2, mode=mode)])
        case _:
            return Case([1, 2, 4, 6], [node("SpaceToDepth", "x", "h", blocksize=2)])


def folded(r: Random) -> Case:
    """Reshape behind Transpose: channels, rows and columns mixed in any way."""
    shape = image(r)
    size = int(np.prod(shape))
    first = r.choice([n for n in range(1, size + 1) if size % n == 0])
    second = r.choice([n for n in range(1, size // first + 1) if size // first % n == 0])
    turned = node("Transpose", "x", "g", perm=[0, *r.sample(range(1, len(shape)), len(shape) - 1)])
    target = np.array([1, first, second, size // first // second])
    return Case(shape, [turned, node("Reshape", "g t", "h")], {"t": target})


def joined(r: Random) -> Case:
    shape = image(r)
    parts = r.choice(("x g", "g x", "x g x"))
    nodes = [node("Mul", "x k", "g"), node("Concat", parts, "h", axis=r.randint(1, len(shape) - 1))]
    return Case(shape, nodes, {"k": normal(1)})


def broadcast(r: Random) -> Case:
    shape = image(r, 4)
    if r.random() < 0.5:
        mean = node("ReduceMean", "x", "g", axes=r.sample([1, 2, 3], r.randint(1, 2)))
        operation = node(r.choice(("Sub", "Add", "Sum", "Mean")), r.choice(("x g", "g x")), "h")
        return Case(shape, [mean, operation], {}, 13)
    sizes = [n if r.random() < 0.6 else 1 for n in shape[1:]]
    constant = normal(*sizes[r.randint(0, 2) :])
    constant[np.abs(constant) < 0.1] = 0.5
    return Case(shape, [node(r.choice(("Mul", "Add", "Sub", "Div")), "x k", "h")], {"k": constant})


OPERATIONS: dict[str, Callable[[Random], Case]] = {
    function.__name__: function
    for function in (
        conv_transpose,
        resize,
        upsample,
        average_pool,
        reduction,
        matrix,
        matrices,
        pad,
        moved,
        folded,
        joined,
        broadcast,
    )
}


def result_shape(case: Case) -> tuple[int, ...] | None:
    """Return the shape of ``h``; ``None`` where onnxruntime does not take the operation either."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    proto = model(case.nodes, case.shape, case.constants, opset=case.opset, output="h")
    try:
        session = ort.InferenceSession(proto.SerializeToString(), options)
        return np.asarray(session.run(None, {"x": np.zeros(case.shape, np.float32)})[0]).shape
    except Exception:  # noqa: BLE001 - onnxruntime raises many kinds
        return None


def loads(proto: onnx.ModelProto) -> bool:
    """Say whether onnxruntime takes a model: the shapes that it expects of ``ceil_mode`` are not its own."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        ort.InferenceSession(proto.SerializeToString(), options)
    except Exception:  # noqa: BLE001 - onnxruntime raises many kinds
        return False
    return True


def surrounded(case: Case, r: Random, first: float = 0.8) -> onnx.ModelProto | None:
    """Return a model with a layer before the operation, with a probability, and one behind it."""
    found = result_shape(case)
    if found is None or 0 in found:
        return None
    nodes, constants = list(case.nodes), dict(case.constants)
    if len(case.shape) in (3, 4) and r.random() < first:
        for item in nodes:
            item.input[:] = ["before" if name == "x" else name for name in item.input]
        constants["first"] = normal(case.shape[1], case.shape[1], *[1] * (len(case.shape) - 2))
        nodes = [
            node("Conv", "x first", "linear"),
            node(r.choice(("Relu", "Identity")), "linear", "before"),
            *nodes,
        ]
    behind = r.choice(("output", "Relu", "Conv", "Gemm", "MaxPool"))
    window = [min(2, n) for n in found[2:]]
    if behind == "Conv" and len(found) in (3, 4):
        constants["last"] = normal(3, found[1], *window)
        nodes += [node(r.choice(("Relu", "Identity")), "h", "r"), node("Conv", "r last")]
    elif behind == "MaxPool" and len(found) == 4:
        nodes.append(node("MaxPool", "h", kernel_shape=window))
    elif behind == "Gemm":
        constants |= {"last": normal(int(np.prod(found)), 3), "bias": normal(3), "flat": np.array([1, -1])}
        nodes += [node("Relu", "h", "r"), node("Reshape", "r flat", "q"), node("Gemm", "q last bias")]
    else:
        nodes.append(node("Relu" if behind == "Relu" else "Identity", "h"))
    proto = model(nodes, case.shape, constants, opset=case.opset)
    return proto if loads(proto) else None


@pytest.mark.parametrize("operation", OPERATIONS)
@drawn
@given(seed=st.integers(0, 2**32))
def test_it_computes_what_onnxruntime_does(operation: str, seed: int) -> None:
    r = Random(seed)
    proto = surrounded(OPERATIONS[operation](r), r)
    if proto is not None:
        with tempfile.TemporaryDirectory() as folder:
            check_equal(Path(folder), proto)


@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_spikes_of_many_levels_compute_it(operation: str, seed: int) -> None:
    r = Random(seed)
    proto = surrounded(OPERATIONS[operation](r), r, first=1)
    if proto is not None:
        with tempfile.TemporaryDirectory() as folder:
            faithful(Path(folder), proto)


def test_a_transposed_convolution_multiplies_no_zeros(tmp_path: Path) -> None:
    weight = normal(4, 3, 4, 4)
    proto = model(
        [node("ConvTranspose", "x w", strides=[2, 2], pads=[1, 1, 1, 1])], [1, 4, 5, 6], {"w": weight}
    )
    source = check_equal(tmp_path, proto)
    (convolution,) = source.graph.of_type(ann.Convolution)
    assert convolution.window.kernel == (2, 2)
    assert convolution.shape == (12, 6, 7)
    assert np.count_nonzero(convolution.weight) == weight.size
