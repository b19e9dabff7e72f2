"""Layouts fold away: channels last, permuted channels, flat images, and the caller's own arrays."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.backends import load_simulator
from snnc.compiler import Options, convert
from snnc.errors import InputError
from snnc.frontend import read_onnx
from snnc.frontend.layout import layout_of
from snnc.frontend.views import PADDED, find_cut, row_major
from snnc.ir import ann
from snnc.ir.layout import InputLayout
from snnc.simulation.ann_reference import run_ann
from tests.onnx_models import check_equal, kinds, model, node, normal, relative_error, saved

TO_NCHW = {"perm": [0, 3, 1, 2]}
TO_NHWC = {"perm": [0, 2, 3, 1]}


def test_channels_last_throughout_costs_no_operation(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", "x", "x1", **TO_NCHW),
        node("Conv", "x1 w", "c"),
        node("Transpose", "c", "c1", **TO_NHWC),
        node("Add", "c1 b", "c2"),
        node("Relu", "c2", "r"),
        node("Transpose", "r", "r1", **TO_NCHW),
        node("MaxPool", "r1", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Transpose", "p", "p1", **TO_NHWC),
        node("MatMul", "p1 v", "m"),
        node("Add", "m d", "n"),
        node("Concat", "n p1", "j", axis=-1),
        node("Relu", "j", "k"),
        node("Reshape", "k flat", "f"),
        node("MatMul", "f u", "l"),
        node("Add", "l e"),
    ]
    constants = {
        "w": normal(4, 3, 3, 3),
        "b": normal(4),
        "v": normal(4, 5),
        "d": normal(5),
        "flat": np.array([-1, 36]),
        "u": normal(36, 7),
        "e": normal(7),
    }
    source = check_equal(tmp_path, model(nodes, ["N", 6, 6, 3], constants))
    assert source.layout == InputLayout((6, 6, 3), (6, 6, 3), (2, 0, 1))
    expected = "Input Convolution Relu MaxPool Convolution Concat Relu Reshape Linear"
    assert kinds(source.graph) == expected.split()


def test_channels_last_padding_and_slicing(tmp_path: Path) -> None:
    nodes = [
        node("Relu", "x", "r"),
        node("Pad", "r pads", "p"),
        node("Slice", "p a b h s", "q"),
        node("Transpose", "q", "t", **TO_NCHW),
        node("Conv", "t w"),
    ]
    constants = {
        "pads": np.array([0, 1, 0, 1, 0, 2, 1, 0]),
        "a": np.array([0]),
        "b": np.array([99]),
        "h": np.array([2]),
        "s": np.array([2]),
        "w": normal(2, 4, 3, 3),
    }
    source = check_equal(tmp_path, model(nodes, ["N", 6, 6, 3], constants))
    assert source.graph.nodes[0].shape == (3, 6, 6)


def shuffle(
    groups: int, channels: int, size: int, source: str, result: str
) -> tuple[list[Any], dict[str, Any]]:
    each = channels // groups
    nodes = [
        node("Reshape", f"{source} {result}_s1", f"{result}_1"),
        node("Transpose", f"{result}_1", f"{result}_2", perm=[0, 2, 1, 3, 4]),
        node("Reshape", f"{result}_2 {result}_s2", result),
    ]
    constants = {
        f"{result}_s1": np.array([-1, groups, each, size, size]),
        f"{result}_s2": np.array([-1, channels, size, size]),
    }
    return nodes, constants


@pytest.mark.parametrize(("group", "outputs"), [(1, 5), (6, 6), (6, 12), (2, 4), (3, 6)])
def test_a_channel_shuffle_folds_into_the_next_weights(tmp_path: Path, group: int, outputs: int) -> None:
    moved, constants = shuffle(2, 6, 5, "r", "s")
    nodes = [
        node("Conv", "x w", "c"),
        node("Relu", "c", "r"),
        *moved,
        node("BatchNormalization", "s gain shift mean variance", "n"),
        node("AveragePool", "n", "p", kernel_shape=[2, 2]),
        node("Conv", "p v b", "d", group=group),
        node("Relu", "d", "e"),
        node("Flatten", "e", "f"),
        node("Gemm", "f u", transB=1),
    ]
    constants |= {
        "w": normal(6, 3, 1, 1),
        "gain": normal(6),
        "shift": normal(6),
        "mean": normal(6),
        "variance": np.abs(normal(6)) + 0.1,
        "v": normal(outputs, 6 // group, 3, 3),
        "b": normal(outputs),
        "u": normal(7, outputs * 4),
    }
    source = check_equal(tmp_path, model(nodes, ["N", 3, 5, 5], constants))
    assert source.graph.of_type(ann.Reshape)[0].origin == "Flatten_f"
    assert len(source.graph.of_type(ann.Convolution)) == 2


def test_groups_that_follow_whole_blocks_stay_groups(tmp_path: Path) -> None:
    constants = {"i": np.array([3, 2, 5, 4, 0, 1]), "w": normal(6, 2, 1, 1), "v": normal(3, 6)}
    nodes = [
        node("Relu", "x", "r"),
        node("Gather", "r i", "g", axis=1),
        node("Conv", "g w", "c", group=3),
        node("GlobalAveragePool", "c", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f v", transB=1),
    ]
    source = check_equal(tmp_path, model(nodes, ["N", 6, 4, 4], constants))
    assert source.graph.of_type(ann.Convolution)[0].groups == 3


def test_a_transpose_before_flatten_permutes_the_columns(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("Transpose", "c", "t", perm=[0, 3, 1, 2]),
        node("Flatten", "t", "f"),
        node("MatMul", "f v"),
    ]
    source = check_equal(
        tmp_path, model(nodes, ["N", 3, 4, 5], {"w": normal(2, 3, 1, 1), "v": normal(40, 3)})
    )
    assert kinds(source.graph) == ["Input", "Convolution", "Reshape", "Linear"]


@pytest.mark.parametrize(
    ("shape", "nodes", "expected"),
    [
        (["N", 12], [], InputLayout.plain((12,), (12,))),
        (["N", 1, 1, 12], [node("Flatten", "x", "f")], InputLayout.plain((1, 1, 12), (12,))),
        (["N", 3, 4], [node("Reshape", "x flat", "f")], InputLayout.plain((3, 4), (12,))),
        (["N", 3, 4], [node("Flatten", "x", "f")], InputLayout.plain((3, 4), (12,))),
    ],
)
def test_an_input_that_goes_into_a_dense_layer_is_flat(
    tmp_path: Path, shape: Any, nodes: Any, expected: InputLayout
) -> None:
    last = node("MatMul", "f w" if nodes else "x w")
    constants = {"flat": np.array([-1, 12]), "w": normal(12, 3)}
    source = check_equal(tmp_path, model([*nodes, last], shape, constants))
    assert source.layout == expected
    assert kinds(source.graph) == ["Input", "Linear"]


@pytest.mark.parametrize(
    ("shape", "nodes", "expected"),
    [
        (["N", 48], [node("Reshape", "x nchw", "i")], InputLayout.plain((48,), (3, 4, 4))),
        (
            ["N", 48],
            [node("Reshape", "x nhwc", "j"), node("Transpose", "j", "i", **TO_NCHW)],
            InputLayout((48,), (4, 4, 3), (2, 0, 1)),
        ),
        (["N", 3, 16], [node("Reshape", "x nchw", "i")], InputLayout.plain((3, 16), (3, 4, 4))),
        (
            ["N", 4, 4, 3],
            [node("Mul", "x c", "m"), node("Transpose", "m", "i", **TO_NCHW)],
            InputLayout((4, 4, 3), (4, 4, 3), (2, 0, 1)),
        ),
        (
            ["N", 4, 3, 4],
            [node("Transpose", "x", "i", perm=[0, 2, 1, 3])],
            InputLayout((4, 3, 4), (4, 3, 4), (1, 0, 2)),
        ),
        (
            ["N", 4, 4, 3],
            [node("Transpose", "x", "t", **TO_NCHW), node("Pad", "t pads", "i")],
            InputLayout((4, 4, 3), (4, 4, 3), (2, 0, 1)),
        ),
        (
            ["N", 6, 5, 3],
            [node("Slice", "x from to axes", "s"), node("Transpose", "s", "i", **TO_NCHW)],
            InputLayout((6, 5, 3), (6, 5, 3), (2, 0, 1)),
        ),
    ],
)
def test_an_input_that_goes_into_a_convolution_is_an_image(
    tmp_path: Path, shape: Any, nodes: Any, expected: InputLayout
) -> None:
    constants = {
        "nchw": np.array([-1, 3, 4, 4]),
        "nhwc": np.array([-1, 4, 4, 3]),
        "c": normal(3),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "from": np.array([1, 0]),
        "to": np.array([5, 4]),
        "axes": np.array([1, 2]),
        "w": normal(2, 3, 3, 3),
    }
    source = check_equal(tmp_path, model([*nodes, node("Conv", "i w")], shape, constants))
    assert source.layout == expected
    assert source.graph.nodes[0].shape == expected.shape


def test_a_spectrogram_without_channels_becomes_one_channel(tmp_path: Path) -> None:
    nodes = [node("Unsqueeze", "x axes", "u"), node("Conv", "u w")]
    source = check_equal(
        tmp_path, model(nodes, ["N", 8, 6], {"axes": np.array([1]), "w": normal(2, 1, 3, 3)})
    )
    assert source.graph.nodes[0].shape == (1, 8, 6)


def test_a_signal_becomes_an_image_of_height_one(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "c", pads=[1, 1]),
        node("Relu", "c", "r"),
        node("MaxPool", "r", "p", kernel_shape=[2], strides=[2]),
        node("Flatten", "p", "f"),
        node("MatMul", "f v"),
    ]
    source = check_equal(tmp_path, model(nodes, ["N", 2, 12], {"w": normal(3, 2, 3), "v": normal(18, 4)}))
    assert [n.shape for n in source.graph] == [(2, 1, 12), (3, 1, 12), (3, 1, 12), (3, 1, 6), (18,), (4,)]


def test_an_unflattened_vector_is_reshaped_once(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", "x w", "m"),
        node("Relu", "m", "r"),
        node("Reshape", "r image", "i"),
        node("Conv", "i v", "c"),
        node("Conv", "i v", "d"),
        node("Add", "c d"),
    ]
    constants = {"w": normal(5, 18), "image": np.array([-1, 2, 3, 3]), "v": normal(4, 2, 2, 2)}
    source = check_equal(tmp_path, model(nodes, ["N", 5], constants))
    assert len(source.graph.of_type(ann.Reshape)) == 1


def test_every_node_names_its_origin(tmp_path: Path) -> None:
    proto = model(
        [node("Relu", "x", "r"), node("Flatten", "r", "f"), node("MatMul", "f w", "m"), node("Relu", "m")],
        ["N", 2, 2, 2],
        {"w": normal(8, 3)},
    )
    named = check_equal(tmp_path, proto)
    assert [n.origin for n in named.graph] == ["", "Relu_r", "MatMul_m", "Relu_y"]
    for item in proto.graph.node:
        item.name = ""
    unnamed = check_equal(tmp_path, proto)
    assert [n.origin for n in unnamed.graph] == ["", "r", "m", "y"]
    assert [n.name for n in unnamed.graph] == ["x", "Relu_r", "MatMul_m", "Relu_y"]
    for item in proto.graph.node:
        item.name = "same"
    again = read_onnx(saved(tmp_path, proto))  # onnxruntime refuses this one
    assert [n.name for n in again.graph] == ["x", "same", "same.2", "same.3"]
    assert [n.origin for n in again.graph] == ["", "same", "same", "same"]


def test_an_integer_input_that_is_cast(tmp_path: Path) -> None:
    nodes = [node("Cast", "x", "f", to=1), node("Div", "f c", "d"), node("MatMul", "d w")]
    proto = model(nodes, ["N", 4], {"c": np.float32(255), "w": normal(4, 2)}, dtype=2)
    assert check_equal(tmp_path, proto).input_dtype == "uint8"


def test_a_double_network(tmp_path: Path) -> None:
    proto = model([node("MatMul", "x w")], ["N", 4], {"w": np.asarray(normal(4, 2), np.float64)}, dtype=11)
    proto.graph.output[0].type.tensor_type.elem_type = 11
    assert check_equal(tmp_path, proto).graph.of_type(ann.Linear)[0].weight.dtype == np.float32


def test_layout_round_trips_through_json_and_checks_shapes() -> None:
    layout = InputLayout((4, 5, 3), (4, 5, 3), (2, 0, 1))
    assert InputLayout.from_dict(json.loads(json.dumps(layout.as_dict()))) == layout
    x = np.arange(120).reshape(2, 4, 5, 3)
    assert np.array_equal(layout.to_canonical(x), x.transpose(0, 3, 1, 2))
    with pytest.raises(InputError, match=r"\(batch, 4, 5, 3\), not \(2, 60\)"):
        layout.to_canonical(x.reshape(2, 60))
    for broken in ({}, layout.as_dict() | {"axes": [0, 0, 1]}, layout.as_dict() | {"grid": [4, 5, 4]}):
        with pytest.raises(InputError, match="input layout"):
            InputLayout.from_dict(broken)


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@given(shapes, st.data())
def test_any_permutation_of_axes_is_found(grid: tuple[int, ...], data: st.DataObject) -> None:
    axes = tuple(data.draw(st.permutations(range(len(grid)))))
    size = math.prod(grid)
    index = row_major(grid).transpose(axes)
    layout = layout_of(index, (size,))
    assert layout is not None
    x = np.arange(2 * size).reshape(2, size)
    assert np.array_equal(layout.to_canonical(x), x.reshape(2, *grid).transpose(0, *(a + 1 for a in axes)))


def test_no_layout_for_what_is_no_permutation_of_axes() -> None:
    assert layout_of(np.array([0, 2, 1, 3]), (4,)) is None
    assert layout_of(np.array([3, 2, 1, 0]), (4,)) is None
    assert layout_of(np.array([PADDED, PADDED]), (2,)) is None


CutCase = tuple[tuple[int, ...], tuple[slice, ...], list[tuple[int, int]], tuple[int, ...]]


@st.composite
def cuts(draw: st.DrawFn) -> CutCase:
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple))
    slices = []
    for n in shape:
        start = draw(st.integers(0, n - 1))
        slices.append(slice(start, draw(st.integers(start + 1, n)), draw(st.integers(1, 3))))
    pads = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in shape]
    return shape, tuple(slices), pads, tuple(draw(st.permutations(range(len(shape)))))


@given(cuts())
def test_any_slice_with_zeros_around_is_found(cut: CutCase) -> None:
    shape, slices, pads, order = cut
    x = np.random.default_rng(0).integers(1, 1000, shape)
    index = np.pad(row_major(shape)[slices], pads, constant_values=PADDED).transpose(order)[None]
    expected = np.pad(x[slices], pads).transpose(order)[None]
    found = find_cut(index, shape)
    assert found is not None
    taken = x[tuple(map(slice, found.start, found.stop, found.step))]
    y = np.pad(taken, list(zip(found.before, found.after, strict=True)))
    y = y.transpose(sorted(range(y.ndim), key=lambda axis: found.axes[axis]))
    assert np.array_equal(y.reshape(expected.shape), expected)


def states(tmp_path: Path) -> Path:
    """A gate on a cell, of states as exporters stack them: hidden and cell along the last axis."""
    constants: dict[str, Any] = {"axes": np.array([0, 1, 2, 3]), "steps": np.ones(4, np.int64)}
    nodes = []
    for kind, name in enumerate("hc"):
        constants[f"{name}.from"] = np.array([0, kind, 0, kind])
        constants[f"{name}.to"] = np.array([2**31 - 1, kind + 1, 2**31 - 1, kind + 1])
        nodes.append(node("Slice", f"x {name}.from {name}.to axes steps", f"{name}.cut"))
        nodes.append(node("Squeeze", f"{name}.cut squeezed", name))
    constants |= {"squeezed": np.array([1, 3]), "w": normal(6, 6)}
    nodes += [node("MatMul", "h w", "g"), node("Sigmoid", "g", "gate"), node("Mul", "gate c")]
    return saved(tmp_path, model(nodes, ["N", 2, 6, 2], constants))


def test_states_that_are_cut_apart_are_features(tmp_path: Path) -> None:
    path = states(tmp_path)
    source = read_onnx(path)
    assert source.layout == InputLayout.plain((2, 6, 2), (24,))
    x = np.random.default_rng(0).standard_normal((3, 2, 6, 2)).astype(np.float32)
    assert relative_error(source, x) < 1e-4


def test_states_of_different_ranges_have_units_of_their_own(tmp_path: Path) -> None:
    """By the unit of cells of hundreds, hidden states and other cells would all be rounded away."""
    x = np.random.default_rng(1).uniform(-1, 1, (400, 2, 6, 2)).astype(np.float32)
    x[:, 1, ::2, 1] *= 300
    path = states(tmp_path)
    artefact = convert(path, x, Options(1, "precise", threads=1)).artefact
    trace = artefact.simulator(load_simulator("numba", 1)).run(artefact.graph, artefact.encode(x), 1)
    wanted, _ = run_ann(read_onnx(path).graph, read_onnx(path).layout.to_canonical(x))
    error = artefact.decode(trace, x)["y"] - wanted
    assert (np.square(error).mean(axis=0) < 1e-3 * np.square(wanted).mean(axis=0)).all()
