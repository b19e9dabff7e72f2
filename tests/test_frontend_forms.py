"""What is linear has many spellings: each computes what onnxruntime does, and so do the spikes made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snnc.backends import load_simulator
from snnc.errors import UnsupportedModelError
from snnc.frontend import SourceModel, check_onnx, read_onnx
from snnc.ir import ann, snn
from snnc.passes import PASSES
from snnc.pipeline import Context, Pipeline, run_pipeline
from snnc.simulation.reference import ReferenceSimulator, encode
from snnc.source.calibration import Calibration
from tests.onnx_models import check_equal, kinds, model, node, normal, original, saved
from tests.spiking_graphs import assert_same_outputs

PIPELINE = (
    "fold-batchnorm,exact-max-pool,compose-linear,rectify-linear,clip-activations{method=max,levels=%d},lower,"
    "graded,init-membrane"
)
HEAD = [node("Flatten", "top", "flat"), node("MatMul", "flat head", "y")]
drawn = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)


def faithful(folder: Path, proto: onnx.ModelProto, *, seed: int = 0) -> SourceModel:
    """Assert that a network is read exactly, that fine spikes compute it, and integers alike everywhere."""
    source = check_equal(folder, proto, seed=seed, rows=3)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((24, *source.layout.source_shape)).astype(np.float32)
    rows = source.layout.to_canonical(x).astype(np.float32)
    made = Context(Calibration(rows, threads=1), 1, ReferenceSimulator())
    fine, _ = run_pipeline(Pipeline.parse(PIPELINE % 4095, PASSES), source.graph, made)
    assert isinstance(fine, snn.SnnGraph)
    q = encode(fine.encoder, rows)
    found = fine.readout.decoded(ReferenceSimulator().run(fine, q, 1).logits, 1)
    found = source.output.layout.to_source(found).reshape(len(x), -1)
    expected = original(source.path, source.input_name, x)
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
    made = Context(Calibration(rows, threads=1), 3, ReferenceSimulator())
    whole, _ = run_pipeline(Pipeline.parse(f"{PIPELINE % 3},quantise-weights", PASSES), source.graph, made)
    assert isinstance(whole, snn.SnnGraph)
    q = encode(whole.encoder, rows)
    by_rule = ReferenceSimulator().run(whole, q, 3)
    at_speed = load_simulator("numba", 1).run(whole, q, 3)
    assert_same_outputs(at_speed, by_rule)
    return source


def hidden(channels: int = 4, image: str = "x") -> list[onnx.NodeProto]:
    """A first layer; what is tested stands behind it."""
    return [node("Conv", f"{image} w", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "r")]


def refused(folder: Path, proto: onnx.ModelProto, says: str) -> None:
    with pytest.raises(UnsupportedModelError, match=says):
        read_onnx(saved(folder, proto))


@pytest.mark.parametrize("order", ["r s", "s r"])
def test_differences(tmp_path: Path, order: str) -> None:
    nodes = [*hidden(), node("Conv", "x v", "d"), node("Relu", "d", "s"), node("Sub", order, "top"), *HEAD]
    constants = {"w": normal(3, 3, 3, 3), "v": normal(3, 3, 1, 1), "head": normal(3 * 36, 4)}
    faithful(tmp_path, model(nodes, ["N", 3, 6, 6], constants))


def test_a_difference_of_shapes_that_broadcast(tmp_path: Path) -> None:
    nodes = [*hidden(), node("GlobalAveragePool", "r", "g"), node("Sub", "r g", "top"), *HEAD]
    constants = {"w": normal(3, 3, 3, 3), "head": normal(3 * 36, 4)}
    faithful(tmp_path, model(nodes, ["N", 3, 6, 6], constants))


@pytest.mark.parametrize("inputs", ["r s", "r s r", "r half", "r"])
def test_means_of_several_tensors(tmp_path: Path, inputs: str) -> None:
    nodes = [*hidden(), node("Conv", "x v", "d"), node("Relu", "d", "s"), node("Mean", inputs, "top"), *HEAD]
    constants = {"w": normal(3, 3, 3, 3), "v": normal(3, 3, 1, 1), "head": normal(3 * 36, 4)}
    faithful(tmp_path, model(nodes, ["N", 3, 6, 6], {**constants, "half": normal(3, 1, 1)}))


@drawn
@given(
    op=st.sampled_from(["ReduceMean", "ReduceSum"]),
    axes=st.sets(st.integers(1, 3), min_size=1).map(sorted),
    last=st.booleans(),
    keep=st.booleans(),
    seed=st.integers(0, 9),
)
def test_reductions_over_any_axes(
    tmp_path: Path, op: str, axes: list[int], last: bool, keep: bool, seed: int
) -> None:
    shape = (5, 6, 4) if last else (4, 5, 6)
    left = np.prod([n for axis, n in enumerate(shape, 1) if axis not in axes], dtype=int)
    turned = [node("Transpose", "r", "t", perm=[0, 2, 3, 1])] if last else [node("Identity", "r", "t")]
    reduced = node(op, "t axes", "top", keepdims=int(keep))
    nodes = [*hidden(), *turned, reduced, *HEAD]
    constants = {"w": normal(4, 2, 3, 3), "axes": np.array(axes), "head": normal(left, 3)}
    faithful(tmp_path, model(nodes, ["N", 2, 5, 6], constants, opset=18), seed=seed)


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum"])
@pytest.mark.parametrize("opset", [11, 13, 18])
def test_reductions_of_features(tmp_path: Path, op: str, opset: int) -> None:
    by_input = opset >= (18 if op == "ReduceMean" else 13)
    given_axes: dict[str, Any] = {} if by_input else {"axes": [2]}
    nodes = [
        node("MatMul", "x w", "m"),
        node("Relu", "m", "r"),
        node("Reshape", "r shape", "g"),
        node("Transpose", "g", "t", perm=[0, 2, 1]),
        node(op, "t axes" if by_input else "t", keepdims=0, **given_axes),
    ]
    constants = {"w": normal(6, 12), "shape": np.array([-1, 3, 4]), "axes": np.array([2])}
    faithful(tmp_path, model(nodes, ["N", 6], constants, opset=opset))


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("image", [False, True])
def test_the_mean_of_stacked_branches_is_their_sum(tmp_path: Path, op: str, axis: int, image: bool) -> None:
    ends = "c" if image else "f"
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        node("Conv", "x v", "b"),
        *(node("GlobalAveragePool", name, f"{name}g") for name in "ab"),
        *(node("Flatten", f"{name}g", f"{name}f") for name in "ab"),
        *(node("Identity", name, f"{name}c") for name in "ab"),
        *(node("Unsqueeze", f"{name}{ends} axis", f"{name}u") for name in "ab"),
        node("Concat", "au bu", "s", axis=axis),
        node(op, "s axis", "m", keepdims=0),
        node("Flatten", "m"),
    ]
    constants = {"w": normal(4, 3, 3, 3), "v": normal(4, 3, 1, 1), "axis": np.array([axis])}
    source = faithful(tmp_path, model(nodes, ["N", 3, 5, 6], constants, opset=18))
    assert not source.graph.of_type(ann.Concat)
    assert not source.graph.of_type(ann.Slice)


@pytest.mark.parametrize("axes", [[0], [0, 1], [1]])
def test_means_that_may_mix_rows_are_refused(tmp_path: Path, axes: list[int]) -> None:
    """Behind a join along the batch, two rows are four; behind a transpose, the batch is another axis."""
    nodes = [node("Relu", "x", "r"), node("Concat", "x r", "t", axis=0)]
    if axes == [1]:
        nodes = [node("Relu", "x", "r"), node("Transpose", "r", "t", perm=[1, 0])]
    nodes.append(node("ReduceMean", "t axes", keepdims=1))
    refused(tmp_path, model(nodes, ["N", 4], {"axes": np.array(axes)}, opset=18), "the batch")


@drawn
@given(
    block=st.sampled_from([(2, 2), (3, 2), (1, 4)]),
    channels_first=st.booleans(),
    order=st.permutations([0, 1, 2]),
    behind=st.sampled_from(["input", "layer"]),
    between=st.sampled_from(["none", "Relu", "BatchNormalization"]),
)
def test_pixels_folded_into_channels(
    tmp_path: Path,
    block: tuple[int, int],
    channels_first: bool,
    order: list[int],
    behind: str,
    between: str,
) -> None:
    """Reshape, transpose, reshape, with the channels and both parts of the pixels in any order."""
    down, right = block
    depth = 3 * down * right
    front = hidden() if behind == "layer" else [node("Identity", "x", "r")]
    if channels_first:
        apart, places = [-1, 3, 12 // down, down, 12 // right, right], (1, 3, 5)
        perm = [0, *(places[i] for i in order), 2, 4]
        fold = [-1, depth, 12 // down, 12 // right]
        last: list[onnx.NodeProto] = []
    else:
        front.append(node("Transpose", "r", "n", perm=[0, 2, 3, 1]))
        apart, places = [-1, 12 // down, down, 12 // right, right, 3], (5, 2, 4)
        perm = [0, 1, 3, *(places[i] for i in order)]
        fold = [-1, 12 // down, 12 // right, depth]
        last = [node("Transpose", "q", "s", perm=[0, 3, 1, 2])]
    nodes = [
        *front,
        node("Reshape", "r apart" if channels_first else "n apart", "a"),
        node("Transpose", "a", "p", perm=perm),
        node("Reshape", "p fold", "s" if channels_first else "q"),
        *last,
        *([node("Relu", "s", "z")] if between == "Relu" else []),
        *([node("BatchNormalization", "s one one one one", "z")] if between == "BatchNormalization" else []),
        node("Conv", "s v" if between == "none" else "z v", "e"),
        node("Relu", "e", "top"),
        *HEAD,
    ]
    constants = {
        "w": normal(3, 3, 3, 3),
        "apart": np.array(apart),
        "fold": np.array(fold),
        "one": np.linspace(0.5, 2, depth, dtype=np.float32),
        "v": normal(4, depth, 1, 1),
        "head": normal(4 * 144 // down // right, 3),
    }
    faithful(tmp_path, model(nodes, ["N", 3, 12, 12], constants))


@pytest.mark.parametrize("behind", ["x", "r"])
def test_space_to_depth(tmp_path: Path, behind: str) -> None:
    nodes = [*hidden(), node("SpaceToDepth", behind, "s", blocksize=2), node("Conv", "s v", "top"), *HEAD]
    constants = {"w": normal(3, 3, 3, 3), "v": normal(4, 12, 2, 2), "head": normal(4 * 4, 3)}
    faithful(tmp_path, model(nodes, ["N", 3, 6, 6], constants))


def test_space_to_depth_of_an_image_with_channels_last(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
        node("SpaceToDepth", "t", "s", blocksize=2),
        node("Conv", "s v", "top"),
        *HEAD,
    ]
    constants = {"v": normal(4, 12, 2, 2), "head": normal(4 * 4, 3)}
    source = faithful(tmp_path, model(nodes, ["N", 6, 6, 3], constants))
    assert source.graph.nodes[0].shape == (3, 6, 6)


@drawn
@given(
    low=st.sampled_from([-np.inf, np.finfo(np.float32).min]),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    own=st.integers(0, 1),
    ceil=st.booleans(),
    stride=st.integers(1, 2),
    rectified=st.booleans(),
)
def test_minus_infinity_before_max_pooling_is_its_padding(
    tmp_path: Path,
    low: float,
    pads: tuple[int, int, int, int],
    own: int,
    ceil: bool,
    stride: int,
    rectified: bool,
) -> None:
    top, left, bottom, right = pads
    nodes = [
        *hidden(),
        node("Pad", f"{'r' if rectified else 'c'} pads low", "p"),
        node("MaxPool", "p", kernel_shape=[3, 3], strides=[stride] * 2, pads=[own] * 4, ceil_mode=int(ceil)),
    ]
    constants = {
        "w": normal(4, 3, 3, 3),
        "pads": np.array([0, 0, top, left, 0, 0, bottom, right]),
        "low": np.float32(low),
    }
    proto = model(nodes, ["N", 3, 6, 7], constants)
    if "only padding" in str([item.message for item in check_onnx(saved(tmp_path, proto))]):
        assert max(pads) + own >= 2
    else:
        faithful(tmp_path, proto)


def test_minus_infinity_elsewhere_is_refused(tmp_path: Path) -> None:
    pad = node("Pad", "x pads low", "p")
    constants = {
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "low": np.float32(-np.inf),
        "w": normal(2, 3, 3, 3),
    }
    for reader in (node("Relu", "p"), node("Conv", "p w"), node("Flatten", "p"), node("ReduceMax", "p axes")):
        proto = model([pad, reader], ["N", 3, 5, 5], {**constants, "axes": np.array([2, 3])}, opset=18)
        refused(tmp_path, proto, "minus infinity")


def test_one_dimensional_padding_with_minus_infinity(tmp_path: Path) -> None:
    nodes = [node("Pad", "x pads low", "p"), node("MaxPool", "p", kernel_shape=[3], strides=[2])]
    constants = {"pads": np.array([0, 0, 1, 0, 0, 1]), "low": np.float32(-np.inf)}
    assert kinds(faithful(tmp_path, model(nodes, ["N", 3, 9], constants)).graph)[1] == "MaxPool"
