"""Rectifiers that are moved across what moves values: each new channel is rectified as its values were."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto

from snnc.backends import load_simulator
from snnc.compiler import Options, convert
from snnc.frontend.quantised.codes import levels_of
from snnc.ir import ann
from snnc.ir.geometry import ABSENT, Window
from snnc.ir.snn import IntegrateFire
from snnc.passes.exact_max_pool import PER_CHANNEL, ExactMaxPool
from snnc.simulation.ann_reference import run_ann
from tests.ann_graphs import HALVE, Builder, context
from tests.onnx_models import Array, kinds
from tests.quantised_models import Network, rows

CHANNELS, PLACES = 4, 6


def rectified(index: Array, **settings: Any) -> ann.AnnGraph:
    """Return a convolution to four channels, a rectifier, an index map, and a convolution that reads it."""
    b = Builder(3, (2, 2, 3))
    name = b.conv("c", "x", CHANNELS, Window((1, 1)))
    name = b.add(ann.Relu(name="r", inputs=(name,), shape=(CHANNELS, 2, 3), **settings))
    name = b.add(ann.Gather(name="g", inputs=(name,), shape=index.shape, index=index.astype(np.int32)))
    return b.graph(b.conv("d", name, 2, Window((1, 1))))


def levels(scale: Array) -> dict[str, Any]:
    """Return a signed range of some levels, whose distance is another in each channel."""
    return levels_of(np.asarray(scale, np.float32), -3, 4)


def assert_same(before: ann.AnnGraph, after: ann.AnnGraph) -> None:
    after.verify()
    x = np.random.default_rng(1).normal(size=(16, *before.nodes[0].shape)).astype(np.float32)
    np.testing.assert_allclose(run_ann(after, x)[0], run_ann(before, x)[0], rtol=1e-5, atol=1e-5)


def moved(graph: ann.AnnGraph) -> ann.AnnGraph:
    """Return what the pass makes of a network, and assert that it computes the same and stays."""
    result = ExactMaxPool().run(graph, context(graph, rows=4))
    assert_same(graph, result)
    assert ExactMaxPool().run(result, context(result, rows=4)) is result
    return result


BEHIND = ["Input", "Convolution", "Gather", "Relu", "Convolution"]
POSITIONS = np.arange(CHANNELS * PLACES).reshape(CHANNELS, 2, 3)
LAST = POSITIONS.transpose(1, 2, 0)
"""Channels last: rows of these are values of all channels."""
SCALES = np.array([0.1, 0.3, 0.2, 0.7])


@pytest.mark.parametrize("shape", [(8, 3, 1), (2, 4, 3), (4, 2, 3)])
@pytest.mark.parametrize("settings", [levels(np.full(4, 0.3)), {"shift": np.full(4, 0.4, np.float32)}, {}])
def test_all_channels_alike_stand_behind_any_move(shape: tuple[int, ...], settings: dict[str, Any]) -> None:
    result = moved(rectified(LAST.reshape(shape), **settings))
    assert kinds(result) == BEHIND
    last = result["r"]
    assert all(getattr(last, field).shape == shape[:1] for field in settings if field in PER_CHANNEL)


def test_each_channel_takes_its_own_values_along() -> None:
    """The channels change places, as many as before, and zeros stand beside them."""
    index = POSITIONS[[2, 0, 3, 1]].copy()
    index[:, 0, 0] = ABSENT
    result = moved(rectified(index, **levels(SCALES)))
    assert kinds(result) == BEHIND
    (last,) = result.of_type(ann.Relu)
    np.testing.assert_array_equal(last.scale, SCALES[[2, 0, 3, 1]].astype(np.float32))


def test_channels_that_mix_in_pairs_of_the_same_values_are_moved() -> None:
    pairs = POSITIONS.reshape(2, 2, 2, 3).transpose(0, 2, 3, 1).reshape(4, 2, 3)[[2, 3, 0, 1]]
    result = moved(rectified(pairs, **levels(np.array([0.1, 0.1, 0.4, 0.4]))))
    assert kinds(result) == BEHIND
    (last,) = result.of_type(ann.Relu)
    np.testing.assert_array_equal(last.scale, np.array([0.4, 0.4, 0.1, 0.1], np.float32))


@pytest.mark.parametrize("field", ["scale", "shift", "ceiling", "threshold"])
def test_a_rectifier_stays_where_channels_of_other_values_become_one(field: str) -> None:
    values = SCALES.astype(np.float32)
    settings = levels(values) if field == "scale" else {field: values}
    graph = rectified(LAST.reshape(4, 2, 3), **settings)
    assert moved(graph) is graph


def test_whatever_a_rectifier_has_for_each_channel_is_moved() -> None:
    vectors = {field.name for field in fields(ann.Relu) if field.type == "FloatArray | None"}
    assert vectors == set(PER_CHANNEL)
    order = [2, 0, 3, 1]
    settings = levels(SCALES) | {"gain": SCALES, "threshold": 3 * SCALES, "floor": SCALES / 9}
    settings["points"] = SCALES[:, None] * (np.arange(-3, 4) + 0.5)
    # The first two channels mix, and so do the last two: each pair has the same values.
    pair = np.repeat(np.arange(2), 2)
    given = {
        name: values.astype(np.float32)[pair] if name in PER_CHANNEL else values
        for name, values in settings.items()
    }
    pairs = POSITIONS.reshape(2, 2, 2, 3).transpose(0, 2, 3, 1).reshape(4, 2, 3)[order]
    result = ExactMaxPool().run(graph := rectified(pairs, **given), context(graph, rows=4))
    result.verify()
    for field in PER_CHANNEL:
        np.testing.assert_array_equal(getattr(result["r"], field), given[field][order])


@pytest.mark.parametrize(
    "settings",
    [
        {"floor": np.full(4, 0.1, np.float32), "threshold": np.ones(4, np.float32)},
        {"shift": np.ones(4, np.float32), "threshold": np.full(4, 0.5, np.float32)},
    ],
)
def test_zeros_that_would_not_stay_zeros_keep_a_rectifier_in_front(settings: dict[str, Any]) -> None:
    index = LAST.reshape(4, 2, 3).copy()
    index[:, 0, 0] = ABSENT
    graph = rectified(index, **settings)
    assert moved(graph) is graph


def test_chosen_limits_are_taken_along_to_the_branches_of_a_join() -> None:
    b = Builder(2)
    stem = b.relu("relu0", b.conv("conv0", "x", 4))
    joined = b.concat("cat", b.conv("conv1", stem, 3), b.conv("conv2", stem, 5))
    last = ann.Relu(
        name="relu1",
        inputs=(joined,),
        shape=b.shapes[joined],
        threshold=np.linspace(0.2, 0.9, 8, dtype=np.float32),
        floor=np.linspace(0, 0.1, 8, dtype=np.float32),
    )
    result = moved(b.graph(b.linear("fc", b.flatten("flat", b.add(last)), 3)))
    assert [len(node.threshold) for node in result.of_type(ann.Relu) if node.threshold is not None] == [3, 5]


def test_a_second_rectifier_with_a_chosen_limit_is_no_repetition() -> None:
    b = Builder(2)
    pool = b.max_pool("pool", b.relu("relu0", b.conv("conv0", "x", 4)), HALVE)
    limit = np.full(4, 0.3, np.float32)
    last = b.add(ann.Relu(name="relu1", inputs=(pool,), shape=b.shapes[pool], threshold=limit))
    graph = b.graph(b.linear("fc", b.flatten("flat", last), 3))
    assert any(node.threshold is not None for node in moved(graph).of_type(ann.Relu))


def head(shape: tuple[int, ...]) -> Network:
    """Return a quantised network whose signed activation is turned, channels last, and cut anew."""
    net = Network(3)

    def quantised(read: str, name: str, scale: float, zero: int) -> str:
        parameters = net.scale(name, scale, zero, "int8")
        net.node("QuantizeLinear", [read, *parameters], name)
        return net.node("DequantizeLinear", [name, *parameters], f"{name}_real")

    def weight(name: str, size: tuple[int, ...]) -> str:
        integers, scale, zero = net.weights(name, size, size[0])
        return net.node("DequantizeLinear", [integers, scale, zero], f"{name}_real", axis=0)

    a = quantised("x", "a", 0.021, 2)
    net.node("Conv", [a, weight("wb", (6, 3, 3, 3))], "b0", pads=[1] * 4)
    b = quantised("b0", "b", 0.06, 3)
    net.node("Transpose", [b], "t", perm=[0, 2, 3, 1])
    net.node("Reshape", ["t", net.constant("shape", np.array([-1, *shape]))], "r")
    net.node("Conv", ["r", weight("wc", (4, shape[0], 3, 3))], "c0")
    net.node("Identity", [quantised("c0", "c", 0.11, 0)], "y")
    return net


@pytest.mark.parametrize("preset", ["precise", "exact"])
@pytest.mark.parametrize("shape", [(12, 6, 3), (6, 6, 6)])
def test_a_quantised_head_is_converted(shape: tuple[int, ...], preset: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    proto = head(shape).model((3, 6, 6), {"y": TensorProto.FLOAT})
    path.write_bytes(proto.SerializeToString())
    artefact = convert(path, rows(40, 1), Options(timesteps=1, preset=preset, threads=1)).artefact
    assert artefact.host is None
    assert [node.origin for node in artefact.graph.of_type(IntegrateFire)][-2:] == ["n_b", "n_c"]
    x = rows(30, 2)
    trace = load_simulator("numba", 1).run(artefact.graph, artefact.encode(x), 1)
    # Without fused kernels, whose sums of bytes saturate on processors without VNNI.
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    expected = np.asarray(session.run(None, {"x": x})[0]).reshape(len(x), -1)
    found = artefact.graph.readout.decoded(trace.logits, 1).reshape(expected.shape)
    error = np.square(found - expected).mean() / expected.var()
    assert error < (2e-3 if preset == "precise" else 1e-5)
