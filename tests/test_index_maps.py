"""Index maps, from sources to integers: units that differ, zeros beside signed values, what stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from snnc.backends import load_backend, load_simulator
from snnc.frontend import SourceModel
from snnc.ir import ann, snn
from snnc.ir.geometry import ABSENT, Window, sole_channels
from snnc.passes import PASSES
from snnc.passes.exact_max_pool import ExactMaxPool
from snnc.pipeline import Context, Pipeline, run_pipeline
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.reference import ReferenceSimulator, encode
from snnc.source.calibration import Calibration
from tests.ann_graphs import context
from tests.onnx_models import Array, check_equal, kinds, model, node
from tests.spiking_graphs import assert_same_outputs

FAST = (
    "fold-batchnorm,exact-max-pool,compose-linear,rectify-linear,clip-activations,lower,"
    "dual-threshold{spikes-per-step=2},init-membrane,quantise-weights"
)
T = 64
RANGES = np.array([0.001, 1, 30, 0.05, 5, 0.2, 100, 0.01], np.float32)


def normal(*shape: int, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), np.float32)


def converted(folder: Path, proto: onnx.ModelProto) -> tuple[SourceModel, snn.SnnGraph, Array, Array]:
    """Return a network, its integer network, and the outputs of both on 48 rows, flat."""
    source = check_equal(folder, proto)
    x = normal(48, *source.layout.source_shape, seed=1)
    rows = source.layout.to_canonical(x).astype(np.float32)
    made = Context(Calibration(rows, threads=1), T, ReferenceSimulator())
    graph, _ = run_pipeline(Pipeline.parse(FAST, PASSES), source.graph, made)
    assert isinstance(graph, snn.SnnGraph)
    assert graph.integer
    y, _ = run_ann(source.graph, rows)
    outputs = ReferenceSimulator().run(graph, encode(graph.encoder, rows), T).logits
    return source, graph, y, graph.readout.decoded(outputs, T)


def errors(y: Array, found: Array) -> Array:
    """Return the rms error of each channel over its standard deviation."""
    axes = (0, *range(2, y.ndim))
    return np.asarray(np.sqrt(np.square(found - y).mean(axis=axes)) / y.std(axis=axes))


LAYER = [node("Conv", "x w", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "r")]
FIRST = normal(8, 2, 3, 3) * RANGES[:, None, None, None]


@pytest.mark.parametrize("rectified", ["before", "after", "not"])
def test_channels_of_different_ranges_become_one(tmp_path: Path, rectified: str) -> None:
    """A pixel shuffle: what is small beside the others in one channel is small for its readers, too."""
    shuffle = node("DepthToSpace", {"before": "r", "after": "c", "not": "c"}[rectified], "s", blocksize=2)
    behind = node("Relu" if rectified == "after" else "Identity", "s", "t")
    proto = model(
        [*LAYER, shuffle, behind, node("Conv", "t v")], [1, 2, 5, 5], {"w": FIRST, "v": normal(3, 2, 3, 3)}
    )
    _, graph, y, found = converted(tmp_path, proto)
    assert errors(y, found).max() < 0.08
    units = [population.spike_scale for population in graph.of_type(snn.IntegrateFire)]
    assert all(len(unit) == 2 for unit in units)  # a threshold of its own for each new channel


def test_matrices_along_an_axis_keep_the_units_of_channels_apart(tmp_path: Path) -> None:
    """Channels whose ranges differ 100,000 times pass a matrix along their rows, each with its own unit."""
    nodes = [*LAYER, node("MatMul", "r m", "h"), node("Relu", "h")]
    proto = model(nodes, [1, 2, 4, 5], {"w": FIRST, "m": normal(5, 6)})
    source, _, y, found = converted(tmp_path, proto)
    (mixing,) = [n for n in source.graph.of_type(ann.Convolution) if n.groups > 1]
    assert mixing.groups == 8
    assert errors(y, found).max() < 0.08


@pytest.mark.parametrize("how", ["linear", "mean", "pool"])
def test_sums_of_several_places_keep_the_units_of_channels_apart(tmp_path: Path, how: str) -> None:
    operation = {
        "linear": node("Resize", "r - s", "h", mode="linear"),
        "mean": node("ReduceMean", "r", "h", axes=[2], keepdims=1),
        "pool": node("AveragePool", "r", "h", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    }[how]
    scales = np.array([1, 1, 2, 2], np.float32)
    proto = model([*LAYER, operation, node("Relu", "h")], [1, 2, 4, 5], {"w": FIRST, "s": scales}, opset=13)
    _, _, y, found = converted(tmp_path, proto)
    assert errors(y, found).max() < 0.08


@pytest.mark.parametrize("operation", ["ConvTranspose", "Pad", "Concat"])
def test_zeros_beside_signed_values_are_zeros(tmp_path: Path, operation: str) -> None:
    """Where values are raised above zero to be carried by spikes, silence is not zero."""
    constants = {"w": normal(3, 2, 3, 3) + 0.3, "v": normal(3, 3, 2, 2), "u": normal(2, 3, 3, 3)}
    nodes = [node("Conv", "x w b", "c", pads=[1, 1, 1, 1])]
    constants["b"] = np.array([1, -2, 3], np.float32)
    if operation == "ConvTranspose":
        nodes.append(node("ConvTranspose", "c v", "h", strides=[2, 2], pads=[0, 0, 1, 1]))
    elif operation == "Pad":  # zeros between the rows, as index maps have them
        constants |= {"zero": np.zeros((1, 3, 1, 5), np.float32)}
        nodes += [node("Split", "c", "p q", axis=2), node("Concat", "p zero q", "h", axis=2)]
    else:
        nodes += [node("MaxPool", "c", "m", kernel_shape=[2, 1], strides=[2, 1])]
        nodes += [node("Concat", "c m", "h", axis=2)]
    proto = model([*nodes, node("Conv", "h u", pads=[1, 1, 1, 1])], [1, 2, 4, 5], constants, opset=13)
    _, _, y, found = converted(tmp_path, proto)
    assert errors(y, found).max() < 0.08


def test_channels_that_an_index_map_leaves_out_have_scales_too(tmp_path: Path) -> None:
    """What is cut off a transposed convolution takes whole phases with it, and the biases differ by phase."""
    transposed = node(
        "ConvTranspose",
        "c v b",
        "h",
        strides=[1, 3],
        dilations=[2, 2],
        pads=[3, 3, 1, 3],
        output_padding=[0, 1],
    )
    nodes = [node("Conv", "x w", "c"), transposed, node("MaxPool", "h", kernel_shape=[2, 1])]
    weights = {"w": normal(2, 2, 1, 1), "v": normal(2, 2, 3, 1), "b": normal(2)}
    _, _, y, found = converted(tmp_path, model(nodes, [1, 2, 3, 3], weights))
    assert np.abs(found - y).max() < 0.08 * np.abs(y).max()


def gathered(channels: int, index: Array) -> ann.AnnGraph:
    """Return a convolution, a rectifier and an index map, which another convolution reads."""
    first = ann.Convolution(
        name="c",
        inputs=("x",),
        shape=(channels, 3, 3),
        weight=normal(channels, 1, 1, 1),
        bias=np.zeros(channels, np.float32),
        window=Window((1, 1)),
    )
    nodes = (
        ann.Input(name="x", shape=(1, 3, 3)),
        first,
        ann.Relu(name="r", inputs=("c",), shape=(channels, 3, 3)),
        ann.Gather(name="g", inputs=("r",), shape=index.shape, index=index.astype(np.int32)),
        ann.Convolution(
            name="d",
            inputs=("g",),
            shape=(2, *index.shape[1:]),
            weight=normal(2, len(index), 1, 1),
            bias=np.zeros(2, np.float32),
            window=Window((1, 1)),
        ),
    )
    return ann.AnnGraph(name="gathered", nodes=nodes, outputs=("d",), output_names=("d",))


def test_a_rectifier_moves_behind_what_mixes_channels(tmp_path: Path) -> None:
    mixing = gathered(2, np.arange(18).reshape(3, 3, 2).transpose(2, 0, 1))
    result = ExactMaxPool().run(mixing, context(mixing, rows=4))
    assert kinds(result) == ["Input", "Convolution", "Gather", "Relu", "Convolution"]
    assert [node.name for node in result if isinstance(node, ann.Relu)] == ["r"]
    x = normal(4, 1, 3, 3)
    np.testing.assert_array_equal(run_ann(result, x)[0], run_ann(mixing, x)[0])
    assert ExactMaxPool().run(result, context(result, rows=4)) is result


def test_one_rectifier_behind_parts_that_are_joined_along_the_height(tmp_path: Path) -> None:
    nodes = [
        *LAYER,
        node("Conv", "x v", "d"),
        node("Relu", "d", "s"),
        node("Concat", "r s", "h", axis=2),
        node("Conv", "h u"),
    ]
    weights = {"w": FIRST, "v": normal(8, 2, 1, 1), "u": normal(2, 8, 1, 1)}
    source, graph, y, found = converted(tmp_path, model(nodes, [1, 2, 4, 5], weights))
    assert len(source.graph.of_type(ann.Relu)) == 2
    assert [population.shape for population in graph.of_type(snn.IntegrateFire)] == [(8, 8, 5)]
    assert errors(y, found).max() < 0.08


@pytest.mark.parametrize("target", ["nir", "loihi", "akida"])
def test_targets_that_know_no_index_map_refuse_it(tmp_path: Path, target: str) -> None:
    nodes = [*LAYER, node("DepthToSpace", "r", "s", blocksize=2), node("GlobalAveragePool", "s", "g")]
    nodes += [node("Flatten", "g", "f"), node("MatMul", "f v")]
    _, graph, _, _ = converted(tmp_path, model(nodes, [1, 2, 4, 5], {"w": FIRST, "v": normal(2, 3)}))
    assert graph.of_type(snn.Gather)
    problems = load_backend(target).check(graph)
    assert any("Gather" in problem.reason for problem in problems)


@pytest.mark.parametrize(
    "index", [np.arange(18)[::-1].reshape(2, 3, 3), np.repeat(np.arange(18), 2).reshape(2, 6, 3)]
)
def test_spikes_move_as_they_are_where_channels_stay_apart(index: Array) -> None:
    graph = gathered(2, index)
    assert ExactMaxPool().run(graph, context(graph, rows=4)) is graph
    made = context(graph, rows=24, timesteps=4)
    spiking, _ = run_pipeline(Pipeline.parse(FAST, PASSES), graph, made)
    assert [type(item).__name__ for item in spiking][2:4] == ["IntegrateFire", "Gather"]


def test_the_one_channel_that_each_new_channel_reads() -> None:
    index = np.array([[0, 1, ABSENT], [5, ABSENT, 3], [ABSENT] * 3])
    np.testing.assert_array_equal(sole_channels(index, (2, 3)), [0, 1, ABSENT])
    assert sole_channels(np.array([[2, 3]]), (2, 3)) is None


def test_an_index_map_that_does_not_fit_is_refused() -> None:
    graph = gathered(2, np.arange(18).reshape(2, 3, 3))
    for wrong, says in (
        (np.full((2, 3, 3), 18, np.int32), "outside the 18 values"),
        (np.full((2, 3, 3), -2, np.int32), "outside the 18 values"),
        (np.zeros((2, 3, 3), np.int64), "not one int32 per value"),
        (np.zeros((2, 3, 2), np.int32), "not one int32 per value"),
    ):
        problem = graph["g"].with_(index=wrong).verify([(2, 3, 3)])
        assert problem is not None
        assert says in problem


@pytest.mark.parametrize("form", ["cut", "padded"])
def test_rows_of_any_rank_run_on_every_simulator(tmp_path: Path, form: str) -> None:
    """Rows of four axes are cut, and signed rows of two axes are padded with zeros."""
    if form == "cut":
        nodes = [node("Slice", "x one two two", "h"), node("Relu", "h")]
        proto = model(nodes, ["N", 4, 2, 3, 3], {"one": np.array([1]), "two": np.array([2])})
    else:
        nodes = [node("Relu", "x", "r"), node("Mean", "x r", "m"), node("Concat", "zeros m", axis=2)]
        proto = model(nodes, ["N", 4, 1], {"zeros": np.zeros((1, 4, 2), np.float32)})
    source, graph, y, found = converted(tmp_path, proto)
    np.testing.assert_allclose(found, y, atol=0.1 * np.abs(y).max())
    q = encode(graph.encoder, source.layout.to_canonical(normal(8, *source.layout.source_shape)))
    expected = ReferenceSimulator().run(graph, q, T)
    for name in ("numba", "onnx"):
        assert_same_outputs(load_simulator(name, 1).run(graph, q, T), expected)
