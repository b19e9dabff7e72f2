"""The passes on the ANN dialect: what they promise, when they do nothing, and doing it twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.errors import UsageError
from snnc.ir import ann
from snnc.ir.geometry import Window
from snnc.numerics.thresholds import Method
from snnc.passes import PASSES
from snnc.passes.clip_activations import ClipActivations, Granularity
from snnc.passes.compose_linear import ComposeLinear
from snnc.passes.exact_max_pool import ExactMaxPool
from snnc.passes.fold_batchnorm import FoldBatchnorm
from snnc.passes.rectify_linear import RectifyLinear
from snnc.pipeline import Pipeline, run_pipeline
from snnc.simulation.ann_reference import run_ann
from tests.ann_graphs import SAME, Builder, context, residual_network

seeds = st.integers(0, 1000)


def outputs(graph: ann.AnnGraph, rows: int = 6) -> np.ndarray:
    x = np.random.default_rng(7).standard_normal((rows, *graph.nodes[0].shape)).astype(np.float32)
    return run_ann(graph, x)[0]


def assert_same(before: ann.AnnGraph, after: ann.AnnGraph) -> None:
    after.verify()
    expected = outputs(before)
    np.testing.assert_allclose(outputs(after), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@settings(max_examples=10)
@given(seeds, st.booleans())
def test_folding_batch_norm_changes_nothing_but_the_nodes(seed: int, pool: bool) -> None:
    graph = residual_network(seed, pool=pool)
    folded = FoldBatchnorm().run(graph, context(graph))
    assert not folded.of_type(ann.BatchNormalisation)
    assert not folded.of_type(ann.ChannelAffine)
    assert_same(graph, folded)
    assert FoldBatchnorm().run(folded, context(folded)) is folded


def test_batch_norm_in_front_of_weights_folds_only_without_padding() -> None:
    for window, left in ((Window((3, 3)), 0), (SAME, 1)):
        b = Builder(0)
        normed = b.norm("bn", b.relu("relu", b.conv("conv0", "x", 4)))
        graph = b.graph(b.linear("fc", b.flatten("flat", b.conv("conv1", normed, 4, window)), 3))
        folded = FoldBatchnorm().run(graph, context(graph))
        assert len(folded.of_type(ann.ChannelAffine)) == left
        assert_same(graph, folded)


def test_batch_norm_with_two_readers_stays_with_its_convolution() -> None:
    b = Builder(0)
    normed = b.norm("bn", b.conv("conv0", "x", 4))
    graph = b.graph(b.sum("add", b.relu("relu", normed), normed))
    folded = FoldBatchnorm().run(graph, context(graph))
    assert not folded.of_type(ann.ChannelAffine)
    assert_same(graph, folded)


def test_batch_norm_behind_a_convolution_with_another_reader_is_kept() -> None:
    b = Builder(0)
    conv = b.conv("conv0", "x", 4)
    graph = b.graph(b.sum("add", b.relu("relu", b.norm("bn", conv)), conv))
    folded = FoldBatchnorm().run(graph, context(graph))
    assert len(folded.of_type(ann.ChannelAffine)) == 1
    assert_same(graph, folded)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_an_affine_map_folds_into_a_grouped_convolution(groups: int) -> None:
    b = Builder(1)
    normed = b.norm("bn", b.relu("relu", b.conv("conv0", "x", 4)))
    last = b.conv("conv1", normed, 8, Window((3, 3)), groups)
    graph = b.graph(b.linear("fc", b.flatten("flat", last), 3))
    folded = FoldBatchnorm().run(graph, context(graph))
    assert not folded.of_type(ann.ChannelAffine)
    assert_same(graph, folded)


def rectifiers_behind_pools(graph: ann.AnnGraph) -> list[str]:
    return [n.name for n in graph.of_type(ann.Relu) if isinstance(graph[n.inputs[0]], ann.MaxPool)]


@settings(max_examples=10)
@given(seeds)
def test_a_pool_is_taken_over_counts_except_in_the_first_layer(seed: int) -> None:
    b = Builder(seed)
    first = b.max_pool("pool0", b.relu("relu0", b.conv("conv0", "x", 6)))
    second = b.relu("relu1", b.max_pool("pool1", b.conv("conv1", first, 6)))
    graph = b.graph(b.linear("fc", b.flatten("flat", second), 3))
    moved = ExactMaxPool().run(graph, context(graph))
    assert rectifiers_behind_pools(moved) == ["relu0"]
    assert moved["relu0"].origin == "onnx/relu0"
    assert_same(graph, moved)
    assert ExactMaxPool().run(moved, context(moved)) is moved


def test_a_pool_of_the_input_is_no_first_layer() -> None:
    b = Builder(1)
    first = b.relu("relu", b.conv("conv", b.max_pool("pool0", "x"), 6))
    graph = b.graph(b.linear("fc", b.flatten("flat", b.max_pool("pool1", first)), 3))
    made = context(graph)
    assert ExactMaxPool().run(graph, made) is graph
    run_pipeline(Pipeline.parse("clip-activations,lower", PASSES), graph, made)


def test_a_raised_value_may_be_negative() -> None:
    b = Builder(4)
    raised = b.conv("conv1", b.relu("relu0", b.conv("conv0", "x", 6)), 6)
    both = b.sum("add", b.conv("conv2", b.relu("relu1", raised), 6), b.conv("conv3", raised, 6))
    graph = b.graph(b.linear("fc", b.flatten("flat", b.relu("relu2", both)), 3))
    made = context(graph)
    rectified = RectifyLinear().run(graph, made)
    assert made.findings["raised"]
    assert_same(rectified, ExactMaxPool().run(rectified, made))


def test_a_rectifier_behind_a_join_moves_to_its_branches() -> None:
    b = Builder(2)
    stem = b.relu("relu0", b.conv("conv0", "x", 4))
    joined = b.concat("cat", b.conv("conv1", stem, 3), b.conv("conv2", stem, 5))
    graph = b.graph(b.linear("fc", b.flatten("flat", b.relu("relu1", joined, ceiling=0.7)), 3))
    moved = ExactMaxPool().run(graph, context(graph))
    assert isinstance(moved[moved["cat"].inputs[0]], ann.Relu)
    assert_same(graph, moved)


def test_names_of_the_network_are_never_given_twice() -> None:
    b = Builder(0)
    first = b.relu("relu.0", b.conv("conv0", "x", 4))
    joined = b.concat("cat", b.conv("conv1", first, 2), b.conv("conv2", first, 2))
    graph = b.graph(b.linear("fc", b.flatten("flat", b.relu("relu", joined)), 3))
    moved = ExactMaxPool().run(graph, context(graph))
    assert [n.name for n in moved.of_type(ann.Relu)] == ["relu.0", "relu.0_", "relu.1"]
    assert_same(graph, moved)
    b = Builder(0)
    first = b.relu("narrow.raised", b.conv("conv0", "x", 4))
    graph = b.graph(b.linear("fc", b.flatten("flat", b.conv("wide", b.conv("narrow", first, 2), 4)), 3))
    raised = RectifyLinear().run(graph, context(graph))
    assert [n.name for n in raised.of_type(ann.Relu)][:2] == ["narrow.raised", "narrow.raised_"]
    raised.verify()


def test_a_repeated_rectifier_is_dropped_but_a_ceiling_stays() -> None:
    b = Builder(2)
    stem = b.relu("relu0", b.conv("conv0", "x", 4))
    graph = b.graph(b.linear("fc", b.flatten("flat", b.relu("relu2", b.relu("relu1", stem), 0.5)), 3))
    moved = ExactMaxPool().run(graph, context(graph))
    assert [node.name for node in moved.of_type(ann.Relu)] == ["relu0", "relu2"]
    assert_same(graph, moved)


def test_two_dense_layers_and_a_pointwise_convolution_merge() -> None:
    b = Builder(3)
    stem = b.relu("relu0", b.conv("conv0", "x", 8))
    mixed = b.relu(
        "relu1", b.conv("mix", b.conv("conv1", stem, 8, Window((3, 3), (2, 2))), 6, Window((1, 1)))
    )
    graph = b.graph(b.linear("fc2", b.linear("fc1", b.flatten("flat", mixed), 8), 4))
    made = context(graph)
    merged = ComposeLinear().run(graph, made)
    assert made.findings["merged"] == ["mix", "fc2"]
    assert len(merged.nodes) == len(graph.nodes) - 2
    assert_same(graph, merged)
    assert ComposeLinear().run(merged, context(merged)) is merged
    assert "fc1" in ComposeLinear(growth=0.1).run(graph, context(graph))


def test_a_linear_bottleneck_gets_a_raised_rectifier() -> None:
    b = Builder(3)
    stem = b.relu("relu0", b.conv("conv0", "x", 8))
    narrow = b.conv("narrow", stem, 4, Window((1, 1)))
    wide = b.relu("relu1", b.conv("wide", narrow, 8, Window((1, 1))))
    graph = b.graph(b.linear("fc", b.flatten("flat", wide), 3))
    made = context(graph)
    raised = RectifyLinear().run(graph, made)
    assert made.findings["raised"] == ["narrow"]
    np.testing.assert_allclose(
        run_ann(raised, made.calibration.rows)[0],
        run_ann(graph, made.calibration.rows)[0],
        rtol=1e-3,
        atol=1e-3,
    )
    again = context(raised)
    assert RectifyLinear().run(raised, again) is raised


def test_a_network_without_linear_chains_is_left_alone() -> None:
    graph = FoldBatchnorm().run(residual_network(), context(residual_network()))
    assert RectifyLinear().run(graph, context(graph)) is graph


@settings(max_examples=8)
@given(seeds, st.sampled_from(Method), st.sampled_from(Granularity))
def test_thresholds_lie_between_zero_and_the_maximum(
    seed: int, method: Method, granularity: Granularity
) -> None:
    graph = FoldBatchnorm().run(residual_network(seed), context(residual_network(seed)))
    made = context(graph, rows=32)
    clipped = ClipActivations(method, granularity).run(graph, made)
    _, values = run_ann(graph, made.calibration.rows, [n.name for n in graph.of_type(ann.Relu)])
    for node in clipped.of_type(ann.Relu):
        highest = values[node.name].max(axis=(0, 2, 3))
        assert node.threshold is not None
        if granularity is Granularity.LAYER:
            assert np.ptp(node.threshold) == 0
            assert node.threshold[0] <= highest.max() * 1.0001
        else:
            assert (node.threshold <= highest * 1.15 + 1e-6).all()
        if method is Method.MAXIMUM and granularity is Granularity.CHANNEL:
            np.testing.assert_allclose(node.threshold, np.maximum(highest, 0), rtol=1e-3, atol=1e-6)
    assert clipped.without_thresholds().of_type(ann.Relu)[0].threshold is None


def test_a_ceiling_of_the_source_is_never_exceeded() -> None:
    b = Builder(0)
    graph = b.graph(b.linear("fc", b.flatten("f", b.relu("relu", b.conv("c", "x", 4), ceiling=0.4)), 3))
    clipped = ClipActivations(Method.MAXIMUM).run(graph, context(graph))
    (node,) = clipped.of_type(ann.Relu)
    assert node.threshold is not None
    assert node.threshold.max() <= np.float32(0.4)


def test_levels_are_handed_on_and_bad_options_refused() -> None:
    graph = residual_network()
    clipped = ClipActivations(levels=15).run(graph, context(graph))
    assert {node.levels for node in clipped.of_type(ann.Relu)} == {15}
    with pytest.raises(UsageError, match="percentile"):
        ClipActivations(percentile=0)
    with pytest.raises(UsageError, match="levels"):
        ClipActivations(levels=0)


@pytest.mark.parametrize("granularity", Granularity)
@pytest.mark.parametrize("method", Method)
def test_every_method_has_a_floor(method: Method, granularity: Granularity) -> None:
    """Raised values lie far above zero in most channels."""
    b = Builder(3)
    wide = b.conv("wide", b.conv("narrow", "x", 4, Window((1, 1))), 8, Window((1, 1)))
    graph = RectifyLinear().run(b.graph(b.mean("gap", b.relu("relu", wide))), context(b.graph("gap")))
    clipped = ClipActivations(method=method, granularity=granularity, floor=True).run(graph, context(graph))
    plain = ClipActivations(method=method, granularity=granularity).run(graph, context(graph))
    raised, same = clipped["narrow.raised"], plain["narrow.raised"]
    assert isinstance(raised, ann.Relu)
    assert isinstance(same, ann.Relu)
    assert same.floor is None
    assert raised.floor is not None
    assert raised.threshold is not None
    assert (raised.floor < raised.threshold).all()
    assert raised.floor.max() > 0
    assert len(set(raised.floor.tolist())) == (1 if granularity is Granularity.LAYER else 4)


def test_the_sample_of_positions_is_the_same_for_every_number_of_threads() -> None:
    graph = residual_network()
    found = []
    for threads in (1, 3):
        made = context(graph, rows=70)
        made.calibration.threads = threads
        found.append(ClipActivations().run(graph, made))
    for one, other in zip(*(g.of_type(ann.Relu) for g in found), strict=True):
        assert one.threshold is not None
        assert other.threshold is not None
        assert one.threshold.tobytes() == other.threshold.tobytes()
