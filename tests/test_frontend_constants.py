"""Constants that depend on the place, added or joined anywhere: they are exact, as are their currents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.ir import ann
from tests.onnx_models import model, node, normal
from tests.test_frontend_forms import HEAD, drawn, faithful, refused

STEPS: dict[str, list[Any]] = {
    "conv": [node("Conv", "in w3", "out", pads=[1, 1, 1, 1])],
    "grouped": [node("Conv", "in wg", "out", pads=[1, 1, 1, 1], group=2)],
    "relu": [node("Relu", "in", "out")],
    "place": [node("Add", "in place", "out")],
    "from": [node("Sub", "place in", "out")],
    "norm": [node("BatchNormalization", "in s s s s", "out")],
    "mean": [node("AveragePool", "in", "out", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)],
    "max": [node("MaxPool", "in", "out", kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
    "join": [node("Concat", "in coordinates", "j", axis=1), node("Conv", "j wj", "out", pads=[1, 1, 1, 1])],
    "before": [
        node("Concat", "coordinates in", "j", axis=1),
        node("Relu", "j", "k"),
        node("Conv", "k w6", "out"),
    ],
    "both": [node("Conv", "in w3", "a", pads=[1, 1, 1, 1]), node("Add", "a in", "out")],
    "pixels": [
        node("Transpose", "in", "a", perm=[0, 2, 3, 1]),
        node("Add", "a row", "b"),
        node("Concat", "b columns", "c", axis=3),
        node("Transpose", "c", "d", perm=[0, 3, 1, 2]),
        node("Conv", "d w6", "out"),
    ],
}


def constants(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "w3": rng.normal(size=(4, 4, 3, 3)).astype(np.float32) / 4,
        "wg": rng.normal(size=(4, 2, 3, 3)).astype(np.float32) / 4,
        "w6": rng.normal(size=(4, 6, 1, 1)).astype(np.float32) / 2,
        "wj": rng.normal(size=(4, 6, 3, 3)).astype(np.float32) / 4,
        "s": np.linspace(0.5, 1.5, 4, dtype=np.float32),
        "place": rng.normal(size=(1, 4, 5, 6)).astype(np.float32),
        "row": rng.normal(size=(6, 1)).astype(np.float32),
        "coordinates": rng.normal(size=(1, 2, 5, 6)).astype(np.float32),
        "columns": rng.normal(size=(1, 5, 6, 2)).astype(np.float32),
        "head": rng.normal(size=(120, 3)).astype(np.float32) / 8,
    }


@drawn
@given(steps=st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4), seed=st.integers(0, 9))
def test_constants_anywhere(tmp_path: Path, steps: list[str], seed: int) -> None:
    nodes, top = [], "x"
    for index, step in enumerate([*steps, "relu"]):
        for item in STEPS[step]:
            names = {"in": top, "out": f"t{index}"}
            names |= {name: f"{name}{index}" for name in "abcdjk"}
            read = " ".join(str(names.get(name, name)) for name in item.input)
            copy = node(item.op_type, read, names[item.output[0]])
            copy.attribute.extend(item.attribute)
            nodes.append(copy)
        top = f"t{index}"
    nodes += [node("Flatten", top, "flat"), HEAD[1]]
    faithful(tmp_path, model(nodes, ["N", 4, 5, 6], constants(seed)), seed=seed)


def test_only_sums_read_constants(tmp_path: Path) -> None:
    """A position bias, carried through two linear layers, is one current into the neurons behind them."""
    nodes = [
        node("Conv", "x w", "a"),
        node("Relu", "a", "r"),
        node("Add", "r place", "p"),
        node("AveragePool", "p", "m", kernel_shape=[2, 2]),
        node("Conv", "m w", "b"),
        node("Relu", "b", "top"),
        *HEAD,
    ]
    values = {"w": normal(3, 3, 1, 1), "place": normal(3, 6, 6), "head": normal(75, 2)}
    graph = faithful(tmp_path, model(nodes, ["N", 3, 6, 6], values)).graph
    (constant,) = graph.of_type(ann.Constant)
    (total,) = graph.consumers[constant.name]
    assert [type(reader).__name__ for reader in graph.consumers[total.name]] == ["Relu"]


def test_a_constant_of_attention_is_a_current_before_the_heads(tmp_path: Path) -> None:
    """Each output of the weights keeps a scale of its own: heads would have one for all their outputs."""
    heads = np.array([0, 4, 2, 4], np.int64)
    nodes = [
        node("Relu", "x", "r"),
        node("Add", "r place", "p"),
        node("MatMul", "p wq", "q"),
        node("MatMul", "p wk", "k"),
        node("Reshape", "q heads", "qh"),
        node("Reshape", "k heads", "kh"),
        node("Transpose", "qh", "qt", perm=[0, 2, 1, 3]),
        node("Transpose", "kh", "kt", perm=[0, 2, 3, 1]),
        node("MatMul", "qt kt", "top"),
        *HEAD,
    ]
    values = {"place": normal(4, 8), "wq": normal(8, 8), "wk": normal(8, 8), "heads": heads}
    graph = faithful(tmp_path, model(nodes, ["N", 4, 8], values | {"head": normal(32, 2)})).graph
    sums = [graph.consumers[constant.name][0] for constant in graph.of_type(ann.Constant)]
    assert len(sums) == 2
    for total in sums:
        weights = next(graph[name] for name in total.inputs if not isinstance(graph[name], ann.Constant))
        assert isinstance(weights, ann.Convolution | ann.Linear)
        assert all(isinstance(reader, ann.Reshape | ann.Gather) for reader in graph.consumers[total.name])


def test_joined_coordinates_cost_no_weights(tmp_path: Path) -> None:
    nodes = [
        node("Concat", "x coordinates", "j", axis=1),
        node("Conv", "j w", "c"),
        node("Relu", "c", "top"),
        *HEAD,
    ]
    values = {"coordinates": normal(1, 2, 4, 4), "w": normal(3, 5, 3, 3), "head": normal(12, 2)}
    graph = faithful(tmp_path, model(nodes, ["N", 3, 4, 4], values)).graph
    assert graph.of_type(ann.Convolution)[0].weight.shape == (3, 3, 3, 3)
    assert not graph.of_type(ann.Pad)


def test_coordinates_beside_an_input_with_channels_last(tmp_path: Path) -> None:
    nodes = [
        node("Concat", "coordinates x", "j", axis=3),
        node("Transpose", "j", "t", perm=[0, 3, 1, 2]),
        node("Conv", "t w", "c"),
        node("Relu", "c", "top"),
        *HEAD,
    ]
    values = {"coordinates": normal(1, 4, 5, 2), "w": normal(3, 5, 2, 2), "head": normal(36, 2)}
    assert faithful(tmp_path, model(nodes, ["N", 4, 5, 3], values)).graph.nodes[0].shape == (3, 4, 5)


@pytest.mark.parametrize("rectified", [False, True])
def test_constants_joined_with_features(tmp_path: Path, rectified: bool) -> None:
    nodes = [
        node("Flatten", "x", "f"),
        node("Concat", "f c", "j", axis=1),
        node("Relu" if rectified else "Identity", "j", "r"),
        node("Add", "r d", "a"),
        node("Gemm", "a w", "g"),
        node("Relu", "g", "h"),
        node("MatMul", "h head", "y"),
    ]
    values = {"c": normal(1, 18), "d": normal(36), "w": normal(36, 8), "head": normal(8, 2)}
    faithful(tmp_path, model(nodes, ["N", 2, 3, 3], values))


def test_features_and_constants_that_become_an_image(tmp_path: Path) -> None:
    nodes = [
        node("Flatten", "x", "f"),
        node("Concat", "f c", "j", axis=1),
        node("Reshape", "j shape", "i"),
        node("Conv", "i w", "top", pads=[1, 1, 1, 1]),
        *HEAD,
    ]
    values = {
        "c": normal(1, 18),
        "shape": np.array([-1, 4, 3, 3]),
        "w": normal(3, 4, 3, 3),
        "head": normal(27, 2),
    }
    faithful(tmp_path, model(nodes, ["N", 2, 3, 3], values))


def test_a_mean_image_is_a_bias_of_the_first_layer(tmp_path: Path) -> None:
    nodes = [
        node("Sub", "x image", "s"),
        node("Conv", "s w", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "top"),
        *HEAD,
    ]
    values = {"image": normal(3, 5, 6), "w": normal(4, 3, 3, 3), "head": normal(120, 3)}
    faithful(tmp_path, model(nodes, ["N", 3, 5, 6], values))


@pytest.mark.parametrize("behind", [False, True])
def test_factors_per_pixel(tmp_path: Path, behind: bool) -> None:
    nodes = [node("Relu", "x", "r"), node("Mul", "r image" if behind else "x image", "top"), *HEAD]
    values = {"image": normal(4, 4), "head": normal(48, 3)}
    faithful(tmp_path, model(nodes, ["N", 3, 4, 4], values))


def test_a_constant_row_of_the_batch_is_refused(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "r"), node("Concat", "r c", axis=0)]
    refused(tmp_path, model(nodes, ["N", 4], {"c": normal(1, 4)}), "along the batch")
