"""Lowering and the passes on the spiking dialect: one property each, idempotence, and bad options."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.errors import UnsupportedModelError, UsageError
from snnc.ir import ann, snn
from snnc.ir.ann import AnnGraph, Relu
from snnc.ir.geometry import Window
from snnc.ir.graph import IntArray
from snnc.ir.neuron import Schedule
from snnc.numerics.divergence import real_logits
from snnc.numerics.input_range import ROOM_TIMESTEPS
from snnc.passes import PASSES
from snnc.passes.dual_threshold import DualThreshold
from snnc.passes.fine_skip import FineSkip
from snnc.passes.graded import Graded
from snnc.passes.init_membrane import InitMembrane
from snnc.passes.lower import Lower
from snnc.passes.multi_threshold import MultiThreshold
from snnc.passes.rectify_linear import RectifyLinear
from snnc.passes.set_schedule import SetSchedule
from snnc.pipeline import Context, Pipeline, run_pipeline
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator, encode
from snnc.source.ann_session import AnnSession
from tests.ann_graphs import Builder, context, residual_network

PADDED = Window((3, 3), pads=(1, 1, 1, 1))
FRONT = "fold-batchnorm,exact-max-pool,rectify-linear,clip-activations{method=max,levels=%d},lower"


def lowered(
    graph: AnnGraph, *, levels: int = 1, timesteps: int = 4, rows: int = 24
) -> tuple[snn.SnnGraph, Context]:
    made = context(graph, timesteps=timesteps, rows=rows)
    result, _ = run_pipeline(Pipeline.parse(FRONT % levels, PASSES), graph, made)
    assert isinstance(result, snn.SnnGraph)
    return result, made


def simulate(
    graph: snn.SnnGraph, made: Context, *, states: bool = False
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    q = encode(graph.encoder, made.calibration.rows)
    trace = ReferenceSimulator().run(graph, q, graph.timesteps, RecordOptions(states=states))
    y = graph.readout.decoded(trace.logits, graph.timesteps)
    return y.reshape(len(y), -1), dict(trace.counts)


@settings(max_examples=6)
@given(st.integers(0, 1000), st.booleans())
def test_with_many_levels_the_graded_network_is_the_source_network(seed: int, pool: bool) -> None:
    graph = residual_network(seed, pool=pool)
    spiking, made = lowered(graph, levels=4095, timesteps=1)
    spiking = InitMembrane().run(Graded().run(spiking, made), made)
    y, _ = simulate(spiking, made)
    expected = run_ann(graph, made.calibration.rows)[0]
    np.testing.assert_allclose(y, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("index", [1, 2, 3, 4])
def test_silence_stands_for_the_floor(index: int) -> None:
    """Where no spikes meet padding, the network clipped on both sides is represented exactly."""
    graph = structures()[index]
    made = context(graph, timesteps=1, rows=24)
    raised = RectifyLinear().run(graph, made)

    def clipped(node: Relu) -> Relu:
        floor = np.linspace(0, 0.8, node.channels, dtype=np.float32)
        return node.with_(threshold=floor + 4, floor=floor, levels=4095)

    both = raised.map(Relu, clipped)
    logits = AnnSession(both, [both.output], 1).run(made.calibration.rows)[both.output]
    np.testing.assert_allclose(logits, run_ann(both, made.calibration.rows)[0], atol=1e-5)
    spiking = Lower().run(both, made)
    assert all(node.lowest[-1] > 0 for node in spiking.of_type(snn.IntegrateFire))
    spiking = InitMembrane().run(Graded().run(spiking, made), made)
    y, _ = simulate(spiking, made)
    expected = run_ann(both, made.calibration.rows)[0].reshape(y.shape)
    np.testing.assert_allclose(y, expected, atol=0.01 * np.abs(expected).max())
    unclipped = run_ann(graph, made.calibration.rows)[0].reshape(y.shape)
    assert np.abs(unclipped - expected).max() > 0.05 * np.abs(expected).max()


def structures() -> list[AnnGraph]:
    """Networks with the structures that lowering must tell apart."""
    found = []
    b = Builder(1)  # joins of branches, grouped and strided, without batch norm
    stem = b.relu("relu0", b.conv("conv0", "x", 8))
    left = b.relu("left", b.conv("conv1", stem, 4, groups=4))
    right = b.max_pool(
        "pool", b.relu("right", b.conv("conv2", stem, 6)), Window((3, 3), (1, 1), (1, 1, 1, 1))
    )
    joined = b.relu(
        "relu3", b.conv("conv3", b.concat("cat", left, right), 6, Window((3, 3), (2, 2), (1, 1, 1, 1)))
    )
    found.append(b.graph(b.linear("fc", b.flatten("flat", joined), 4)))
    b = Builder(2)  # the last convolution's mean is the answer, as in SqueezeNet
    stem = b.relu("relu0", b.conv("conv0", "x", 8))
    found.append(b.graph(b.mean("gap", b.conv("conv1", stem, 5, Window((1, 1))))))
    b = Builder(3)  # an analogue pool in front of the neurons, and a perceptron behind
    stem = b.relu("relu0", b.max_pool("pool", b.conv("conv0", "x", 8)))
    hidden = b.relu("relu1", b.linear("fc0", b.flatten("flat", stem), 16))
    found.append(b.graph(b.linear("fc1", hidden, 4)))
    b = Builder(4, (12,))  # a perceptron that ends in a rectifier
    found.append(b.graph(b.relu("relu1", b.linear("fc1", b.relu("relu0", b.linear("fc0", "x", 16)), 4))))
    b = Builder(5)  # a linear bottleneck
    stem = b.relu("relu0", b.conv("conv0", "x", 8))
    wide = b.relu("relu1", b.conv("wide", b.conv("narrow", stem, 4, Window((1, 1))), 8, Window((1, 1))))
    found.append(b.graph(b.linear("fc", b.flatten("flat", wide), 3)))
    b = Builder(6)  # batch norm and rectifier over a join, as in DenseNet
    stem = b.relu("relu0", b.conv("conv0", "x", 4))
    grown = b.relu("grown", b.conv("conv1", stem, 4))
    dense = b.relu("relu1", b.norm("bn", b.concat("cat", stem, grown)))
    found.append(b.graph(b.linear("fc", b.flatten("flat", dense), 3)))
    b = Builder(7)  # batch norm behind the rectifier, a padded convolution behind that, as in Keras
    stem = b.norm("bn", b.relu("relu0", b.conv("conv0", "x", 8)))
    grouped = b.relu("relu1", b.conv("conv1", stem, 8, groups=2))
    found.append(b.graph(b.linear("fc", b.flatten("flat", grouped), 3)))
    b = Builder(8)  # a linear bottleneck in front of a padded convolution
    stem = b.relu("relu0", b.conv("conv0", "x", 8))
    wide = b.relu("relu1", b.conv("wide", b.conv("narrow", stem, 4, Window((1, 1))), 8))
    found.append(b.graph(b.linear("fc", b.flatten("flat", b.max_pool("pool", wide)), 3)))
    b = Builder(9)  # batch norm that turns signs in front of a max-pool
    stem = b.norm("bn", b.relu("relu0", b.conv("conv0", "x", 8)))
    b.nodes[-1] = b.nodes[-1].with_(scale=b.nodes[-1].scale * np.float32(-1))  # type: ignore[attr-defined]
    last = b.relu("relu1", b.conv("conv1", b.max_pool("pool", stem), 8))
    found.append(b.graph(b.linear("fc", b.flatten("flat", last), 3)))
    b = Builder(10)  # the stream of a pre-activation residual network
    stream = b.conv("conv0", "x", 6)
    inner = b.conv("conv1", b.relu("relu0", b.norm("bn0", stream)), 6)
    last = b.relu("relu1", b.norm("bn1", b.sum("add", stream, inner)))
    found.append(b.graph(b.linear("fc", b.flatten("flat", b.mean("gap", last)), 3)))
    b = Builder(11)  # a map as output
    found.append(b.graph(b.conv("conv1", b.relu("relu0", b.conv("conv0", "x", 8)), 5)))
    b = Builder(12)  # a sum of maps, flattened at the end
    stem = b.relu("relu0", b.conv("conv0", "x", 6))
    found.append(b.graph(b.flatten("flat", b.sum("add", b.conv("conv1", stem, 6), stem))))
    for before, after in (((0, 1, 2), (0, 0, 1)), ((1, 1, 1), (2, 1, 1))):
        b = Builder(18)  # zeros around signed values, in front of a max-pool
        stem = b.pad("pad", b.conv("conv1", b.relu("relu0", b.conv("conv0", "x", 6)), 4), before, after)
        last = b.relu("relu1", b.conv("conv2", b.max_pool("pool", stem), 6))
        found.append(b.graph(b.linear("fc", b.flatten("flat", last), 3)))
    b = Builder(14, (9,))  # zeros behind signed features
    stem = b.pad("pad", b.linear("fc1", b.relu("relu0", b.linear("fc0", "x", 8)), 5), (1,), (2,))
    found.append(b.graph(b.linear("fc2", b.relu("relu1", b.linear("wide", stem, 8)), 3)))
    b = Builder(15)  # a padded mean of spikes that stand for signed values, and one of a biased sum
    stem = b.norm("bn", b.relu("relu0", b.conv("conv0", "x", 6)))
    first = b.relu("relu1", b.conv("conv1", b.mean("mean", stem, PADDED), 6))
    second = b.relu("relu2", b.mean("mean2", b.sum("add", b.conv("conv2", first, 6), first), PADDED))
    found.append(b.graph(b.linear("fc", b.flatten("flat", second), 3)))
    b = Builder(16)  # a max-pool of signed values with two rectifiers behind it, and one at the end
    stem = b.max_pool("pool", b.conv("conv1", b.relu("relu0", b.conv("conv0", "x", 6)), 4))
    both = b.sum("add", b.relu("relu1", stem), b.relu("relu2", stem, 0.5))
    found.append(b.graph(b.max_pool("pool2", b.conv("conv2", both, 5))))
    return found


STRUCTURES = len(structures())


@pytest.mark.parametrize("index", range(STRUCTURES))
def test_every_structure_is_lowered_faithfully(index: int) -> None:
    graph = structures()[index]
    spiking, made = lowered(graph, levels=4095, timesteps=1)
    spiking = InitMembrane().run(Graded().run(spiking, made), made)
    y, _ = simulate(spiking, made)
    expected = run_ann(graph, made.calibration.rows)[0].reshape(len(y), -1)
    np.testing.assert_allclose(y, expected, atol=0.02 * np.abs(expected).max())


def test_populations_keep_the_names_and_origins_of_their_rectifiers() -> None:
    spiking, _ = lowered(residual_network())
    assert [p.name for p in spiking.of_type(snn.IntegrateFire)] == [f"relu{i}" for i in range(5)]
    assert all(node.origin.startswith("onnx/") for node in spiking if not isinstance(node, snn.Encode))


def test_a_dead_channel_is_a_constant_zero() -> None:
    graph = residual_network()
    graph = graph.map(
        Relu,
        lambda n: (
            n.with_(ceiling=np.array([0] + [9] * (n.channels - 1), np.float32)) if n.name == "relu1" else n
        ),
    )
    spiking, made = lowered(graph)
    _, counts = simulate(spiking, made, states=True)
    assert not counts["relu1"][:, 0].any()
    assert counts["relu1"][:, 1:].any()
    assert not spiking["conv1"].weight[0].any()  # type: ignore[attr-defined]


def test_lowering_needs_thresholds() -> None:
    graph = residual_network()
    with pytest.raises(UsageError, match="put `clip-activations` before `lower`"):
        run_pipeline(Pipeline.parse("fold-batchnorm,lower", PASSES), graph, context(graph))


def test_lowering_needs_folded_normalisations() -> None:
    graph = residual_network()
    with pytest.raises(UnsupportedModelError, match="put `fold-batchnorm` before `lower`"):
        run_pipeline(Pipeline.parse("clip-activations,lower", PASSES), graph, context(graph))


def test_membranes_start_at_a_fraction_of_the_threshold() -> None:
    spiking, made = lowered(residual_network())
    half = InitMembrane().run(spiking, made)
    for node in half.of_type(snn.IntegrateFire):
        np.testing.assert_array_equal(node.v_init, node.threshold * np.float32(0.5))
    assert InitMembrane().run(half, made) is half
    with pytest.raises(UsageError, match="fraction"):
        InitMembrane(-0.1)


def test_signed_neurons_replace_plain_ones_once() -> None:
    spiking, made = lowered(residual_network())
    assert {p.neuron.payload for p in spiking.of_type(snn.IntegrateFire)} == {"binary"}
    signed = DualThreshold(2).run(spiking, made)
    assert {p.neuron.payload for p in signed.of_type(snn.IntegrateFire)} == {"signed"}
    assert DualThreshold(2).run(signed, made) is signed
    late = DualThreshold(negative=0.5).run(spiking, made)
    assert all(p.negative_threshold is not None for p in late.of_type(snn.IntegrateFire))
    assert DualThreshold(negative=0.5).run(late, made) is late
    with pytest.raises(UsageError, match="with one spike per step"):
        DualThreshold(2, negative=0.5)


def test_binary_weighted_thresholds_need_levels_of_the_right_number() -> None:
    spiking, made = lowered(residual_network(), levels=15)
    split = MultiThreshold().run(spiking, made)
    assert {p.neuron.payload for p in split.of_type(snn.IntegrateFire)} == {"levels:15"}
    assert MultiThreshold().run(split, made) is split
    four, made = lowered(residual_network(), levels=4)
    with pytest.raises(UsageError, match="3, 7 or 15"):
        MultiThreshold().run(four, made)


def test_graded_and_barrier_networks_count_the_same() -> None:
    spiking, made = lowered(residual_network(5, pool=True))
    spiking = InitMembrane().run(spiking, made)
    quantised, _ = run_pipeline(Pipeline.parse("quantise-weights", PASSES), spiking, made)
    assert isinstance(quantised, snn.SnnGraph)
    graded = simulate(Graded().run(quantised, made), made, states=True)
    barrier = simulate(SetSchedule(Schedule.LAYERWISE).run(quantised, made), made, states=True)
    assert np.array_equal(graded[0], barrier[0])
    for name, counts in graded[1].items():
        assert np.array_equal(counts, barrier[1][name])
    again = SetSchedule(Schedule.LAYERWISE)
    changed = again.run(quantised, made)
    assert again.run(changed, made) is changed
    with pytest.raises(UsageError, match="no settle steps"):
        SetSchedule(Schedule.LAYERWISE, settle_steps=1)


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_settle_steps_bring_signed_neurons_nearer_to_the_graded_ones(seed: int) -> None:
    spiking, made = lowered(residual_network(seed))
    spiking = InitMembrane().run(spiking, made)
    exact = simulate(Graded().run(spiking, made), made, states=True)[1]["relu4"]
    signed = DualThreshold(2).run(spiking, made)
    wrong = [
        np.mean(simulate(replace(signed, settle_steps=k), made, states=True)[1]["relu4"] != exact)
        for k in (0, 4)
    ]
    assert wrong[1] <= wrong[0]
    assert wrong[1] < 0.01


def test_identity_branches_read_fine_spikes_and_convolutions_coarse_ones() -> None:
    spiking, made = lowered(residual_network())
    fine = FineSkip().run(spiking, made)
    fine.verify()
    assert made.findings["fine"] == ["relu0", "relu2", "relu4"]
    node = fine["relu0.fine"]
    assert isinstance(node, snn.IntegrateFire)
    assert node.neuron.levels == 7  # 4 steps of 7 levels are at least 15
    assert [r.name for r in fine.consumers["relu0.fine"]] == ["relu0.identity"]
    assert [r.name for r in fine.consumers["relu0"]] == ["conv1"]
    assert [r.name for r in fine.consumers["relu2"]] == ["conv3"]
    assert [r.name for r in fine.consumers["relu2.fine"]] == ["conv5"]
    assert "relu4" not in fine  # the classifier alone read it
    assert FineSkip(shortcuts=False).run(spiking, made).consumers["relu2"][1].name == "conv5"
    flat = structures()[0]
    plain, other = lowered(flat)
    assert FineSkip().run(plain, other) is plain


def test_fine_spikes_bring_the_network_nearer_to_its_source() -> None:
    graph = residual_network(9)
    spiking, made = lowered(graph, rows=64)
    spiking = InitMembrane().run(Graded().run(spiking, made), made)
    expected = run_ann(graph, made.calibration.rows)[0]
    errors = [
        np.square(simulate(g, made)[0] - expected).mean() for g in (spiking, FineSkip().run(spiking, made))
    ]
    assert errors[1] < 0.8 * errors[0]


def test_fine_spikes_have_a_floor_of_their_own() -> None:
    graph = residual_network(9)
    made = context(graph, timesteps=2, rows=64)
    front = FRONT.replace("{method=max,levels=%d}", "{floor=true}")
    spiking, _ = run_pipeline(Pipeline.parse(f"{front},graded,init-membrane", PASSES), graph, made)
    assert isinstance(spiking, snn.SnnGraph)
    fine = FineSkip().run(spiking, made)
    coarse, own = fine["relu0"], fine["relu0.fine"]
    assert isinstance(coarse, snn.IntegrateFire)
    assert isinstance(own, snn.IntegrateFire)
    assert own.lowest.sum() < coarse.lowest.sum()
    np.testing.assert_allclose(own.bias + own.lowest, coarse.bias + coarse.lowest, atol=1e-6)
    expected = run_ann(graph, made.calibration.rows)[0]
    errors = [np.square(simulate(g, made)[0] - expected).mean() for g in (spiking, fine)]
    assert errors[1] < 0.8 * errors[0]


def test_inputs_may_be_quantised_more_coarsely() -> None:
    graph = residual_network(3, pool=False)
    made = context(graph, timesteps=4, rows=24)
    largest = []
    for option, limit in (("", snn.INPUT_LIMIT), ("{input-limit=31}", 31)):
        found, _ = run_pipeline(Pipeline.parse(FRONT % 1 + option, PASSES), graph, made)
        assert isinstance(found, snn.SnnGraph)
        (node,) = found.of_type(snn.Encode)
        assert node.limit == limit
        largest.append(node.scale * node.limit)
    np.testing.assert_allclose(largest[0], largest[1], rtol=1e-5)
    for limit in (0, snn.INPUT_LIMIT + 1):
        with pytest.raises(UsageError, match="input-limit must lie in"):
            Pipeline.parse(f"lower{{input-limit={limit}}}", PASSES)


def test_a_raised_identity_branch_has_room_for_what_it_carries() -> None:
    """In a network of pre-activation blocks the stream is linear, and raised until nothing is negative."""
    b = Builder(10)
    stream = b.conv("conv0", "x", 8)
    for block in range(2):
        inner = b.relu(f"inner{block}", b.conv(f"first{block}", b.relu(f"relu{block}", stream), 8))
        stream = b.sum(f"add{block}", b.conv(f"second{block}", inner, 8), stream)
    graph = b.graph(b.linear("fc", b.flatten("flat", b.mean("gap", b.relu("last", stream))), 5))
    spiking, made = lowered(graph, rows=64)
    spiking = InitMembrane().run(Graded().run(spiking, made), made)
    fine = FineSkip().run(spiking, made)
    raised = [name for name in made.findings["fine"] if made.ann()[name].shift is not None]  # type: ignore[attr-defined]
    assert raised
    expected = run_ann(graph, made.calibration.rows)[0]
    errors = [np.square(simulate(g, made)[0] - expected).mean() for g in (spiking, fine)]
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize("spikes", [1, 2, 16, None])
def test_no_fine_spike_carries_more_than_its_payload_says(spikes: int | None) -> None:
    spiking, made = lowered(residual_network())
    neuron = Graded() if spikes is None else DualThreshold(spikes)
    fine = FineSkip().run(neuron.run(spiking, made), made)
    for node in fine.of_type(snn.IntegrateFire):
        if node.name.endswith(".fine"):
            assert node.neuron.spikes_per_step == {1: 1, 2: 1, 16: 2, None: None}[spikes]
            assert node.neuron.levels == 7


@pytest.mark.parametrize("joined", [False, True])
def test_an_input_beside_spikes_keeps_its_weights(joined: bool) -> None:
    """One scale serves both: a fine input would leave nothing of its weights in int8."""
    b = Builder(6)
    stem = b.relu("relu0", b.conv("conv0", "x", 6))
    last = (
        b.conv("conv1", b.concat("cat", "x", stem), 8) if joined else b.sum("add", b.conv("c", stem, 3), "x")
    )
    graph = b.graph(b.linear("fc", b.flatten("flat", b.relu("relu1", last)), 5))
    errors = []
    for end in ("", ",quantise-weights"):
        made = context(graph, timesteps=16, rows=24)
        text = f"{FRONT % 1},graded,init-membrane{end}"
        found, _ = run_pipeline(Pipeline.parse(text, PASSES), graph, made)
        assert isinstance(found, snn.SnnGraph)
        expected = run_ann(graph, made.calibration.rows)[0]
        logits = real_logits(found, ReferenceSimulator().run(found, *_inputs(found, made)).outputs)
        errors.append(float(np.abs(logits - expected).mean() / np.abs(expected).mean()))
    assert errors[1] < 1.5 * errors[0]


def test_a_mean_of_the_input_leaves_room_for_long_runs() -> None:
    b = Builder(2, (3, 16, 16))
    b.add(ann.AveragePool(name="mean", inputs=("x",), shape=(3, 4, 4), window=Window((4, 4), (4, 4))))
    b.shapes["mean"] = (3, 4, 4)
    graph = b.graph(b.linear("fc", b.relu("relu", b.linear("hidden", b.flatten("flat", "mean"), 64)), 5))
    made = context(graph, rows=24)
    found, _ = run_pipeline(Pipeline.parse(f"{FRONT % 1},graded,quantise-weights", PASSES), graph, made)
    assert isinstance(found, snn.SnnGraph)
    assert found.max_timesteps >= ROOM_TIMESTEPS


def _inputs(graph: snn.SnnGraph, made: Context) -> tuple[IntArray, int]:
    return encode(graph.encoder, made.calibration.rows), graph.timesteps


def test_channels_of_zeros_cost_the_others_no_resolution() -> None:
    """Whatever a silent channel's weight, the scale that it shares is that of the channels that speak."""
    b = Builder(17, (4,))
    wide = b.relu("relu0", b.linear("fc0", b.pad("pad", "x", (2,), (3,)), 6))
    graph = b.graph(b.linear("fc1", wide, 3))
    spiking, _ = lowered(graph)
    units = spiking["fc0"].weight / graph["fc0"].weight  # type: ignore[attr-defined]
    np.testing.assert_allclose(units, units[0, 2], rtol=1e-4)
