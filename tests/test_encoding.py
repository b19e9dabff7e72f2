"""The quantised input and its units, an input beside spikes, maxima, and channels that never fire."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.analysis.node_costs import fan_outs
from snnc.artefact import Artefact, Metadata, load, save
from snnc.backends.nir import Nir
from snnc.backends.numba_cpu import NumbaSimulator
from snnc.backends.onnx_simulator import OnnxSimulator
from snnc.diagnostics import DEAD_CHANNELS
from snnc.ir import ann, snn
from snnc.ir.ann import AnnGraph, Relu
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray
from snnc.numerics.divergence import real_logits
from snnc.numerics.input_range import decoded_input, encoded, input_limit, input_units
from snnc.numerics.splitting import join_weights, split_weights
from snnc.passes import PASSES, PRESETS
from snnc.passes.rectify_linear import RectifyLinear
from snnc.pipeline import Context, Pipeline, run_pipeline
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.reference import ReferenceSimulator, encode
from snnc.source.calibration import Calibration
from tests.ann_graphs import Builder, context

FAST = PRESETS["fast"].pipeline
RANGES = np.array([1.0, 20.0, 5000.0, 0.3, 1.0, 40.0], np.float32)
MIDDLES = np.array([0.0, 0.0, 0.0, 0.0, 1013.0, 0.0], np.float32)


def converted(graph: AnnGraph, rows: FloatArray, timesteps: int) -> tuple[snn.SnnGraph, Context]:
    made = Context(Calibration(rows, threads=1), timesteps, NumbaSimulator(1), 0)
    made.source = graph
    result, _ = run_pipeline(FAST, graph, made)
    assert isinstance(result, snn.SnnGraph)
    return result, made


def error(graph: snn.SnnGraph, source: AnnGraph, rows: FloatArray) -> float:
    """Return the root mean square error of the answers over their mean standard deviation."""
    q = encode(graph.encoder, rows)
    found = real_logits(graph, NumbaSimulator(1).run(graph, q, graph.timesteps).outputs)
    expected = run_ann(source, rows)[0].reshape(found.shape)
    return float(np.sqrt(np.mean(np.square(found - expected))) / expected.std(axis=0).mean())


def table_network(seed: int, scaled: bool) -> AnnGraph:
    """A perceptron for a table: with columns as they are, or for columns of mean 0 and deviation 1."""
    b = Builder(seed, (6,))
    hidden = b.relu("relu", b.linear("first", "x", 24))
    graph = b.graph(b.linear("last", hidden, 4))
    first = graph["first"]
    assert isinstance(first, ann.Linear)
    if scaled:
        return graph
    weight = (first.weight / RANGES).astype(np.float32)
    return graph.replacing({"first": first.with_(weight=weight, bias=first.bias - weight @ MIDDLES)})


def table(rows: int, seed: int) -> FloatArray:
    return np.random.default_rng(seed).standard_normal((rows, 6)).astype(np.float32)


@pytest.mark.parametrize("seed", [0, 1])
def test_columns_of_a_table_have_units_of_their_own(seed: int) -> None:
    plain, folded = table_network(seed, scaled=True), table_network(seed, scaled=False)
    z, test = table(200, 1), table(200, 2)
    raw = z * RANGES + MIDDLES
    twin, _ = converted(plain, z, 64)
    found, made = converted(folded, raw, 64)
    assert error(found, folded, test * RANGES + MIDDLES) < error(twin, plain, test) + 0.01
    units = made.findings
    assert units["max-timesteps"] >= 64
    gain = found.encoder.gain
    assert gain is not None
    assert set(np.log2(gain) % 1) == {0.0}
    assert gain[2] == 1 < gain[5] < gain[1] < gain[3]
    assert found.encoder.offset is not None
    assert found.encoder.offset[4] != 0
    assert twin.encoder.gain is None


@given(st.integers(0, 1000))
def test_columns_of_like_ranges_share_one_unit(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = (random.uniform(-1, 1, (60, 6)) * random.uniform(0.6, 1, 6)).astype(np.float32)
    assert input_units(table_network(seed, scaled=True), rows).common
    # What is merely small, as the border of an image, and not read by larger weights, keeps the common unit.
    small = rows * np.array([1, 1, 1, 0.01, 0, 1], np.float32)
    signs = table_network(seed, scaled=True).map(
        ann.Linear, lambda node: node.with_(weight=np.sign(node.weight))
    )
    assert input_units(signs, small).common


@given(st.integers(0, 1000))
def test_what_is_decoded_is_what_was_encoded(seed: int) -> None:
    graph = table_network(seed, scaled=False)
    rows = table(50, seed) * RANGES + MIDDLES
    made = Context(Calibration(rows, threads=1), 4, ReferenceSimulator(), 0)
    lowered, _ = run_pipeline(Pipeline.parse("clip-activations,lower", PASSES), graph, made)
    assert isinstance(lowered, snn.SnnGraph)
    units = input_units(graph, rows)
    step = lowered.encoder.scale / units.finer
    missing = decoded_input(lowered.encoder, graph, encode(lowered.encoder, rows)) - rows
    assert (np.abs(missing) <= 0.51 * step + 1e-3 * np.abs(units.middle)).all()


def test_units_behind_a_normalisation() -> None:
    b = Builder(3, (6,))
    normed = b.norm("bn", "x")
    graph = b.graph(b.linear("last", b.relu("relu", b.linear("first", normed, 24)), 4))
    first = graph["first"]
    assert isinstance(first, ann.Linear)
    graph = graph.replacing({"first": first.with_(weight=first.weight / RANGES)})
    rows = table(200, 1) * RANGES
    found, made = converted(graph, rows, 64)
    assert error(found, graph, table(100, 2) * RANGES) < 0.05
    folded, _ = run_pipeline(Pipeline.parse("fold-batchnorm", PASSES), graph, made)
    assert isinstance(folded, AnnGraph)
    behind = encoded(folded, rows)
    decoded = decoded_input(found.encoder, folded, encode(found.encoder, rows))
    np.testing.assert_allclose(decoded, behind, atol=2 * found.encoder.scale)


def test_a_vector_that_is_an_image_keeps_one_unit() -> None:
    b = Builder(0, (12,))
    image = b.add(ann.Reshape(name="image", inputs=("x",), shape=(3, 2, 2)))
    conv = b.relu("relu", b.conv("conv", image, 4))
    graph = b.graph(b.linear("last", b.flatten("flat", conv), 3))
    rows = np.random.default_rng(0).random((80, 12)).astype(np.float32)
    rows[:, 3] *= 0.001
    found, _ = converted(graph, rows, 8)
    assert found.encoder.gain is None


def test_units_reach_every_simulator_and_the_file(tmp_path: Path) -> None:
    graph = table_network(0, scaled=False)
    rows = table(200, 1) * RANGES + MIDDLES
    found, _ = converted(graph, rows, 8)
    artefact = Artefact(found, Metadata())
    save(artefact, tmp_path / "table.snn.onnx")
    again = load(tmp_path / "table.snn.onnx")
    q = artefact.encode(rows)
    np.testing.assert_array_equal(q, encode(found.encoder, rows))
    np.testing.assert_array_equal(q, again.encode(rows))
    expected = ReferenceSimulator().run(found, q, 8).logits
    for simulator in (NumbaSimulator(1), OnnxSimulator(1)):
        np.testing.assert_array_equal(simulator.run(again.graph, q, 8).logits, expected)


def wide_and_deep(seed: int, joined: bool) -> AnnGraph:
    """Scores from an image and from a layer, added or joined; the image says little, and many pixels do."""
    b = Builder(seed, (1, 6, 6))
    flat = b.flatten("flat", "x")
    deep = b.relu("relu", b.linear("first", flat, 24))
    if joined:
        graph = b.graph(b.linear("last", b.concat("both", flat, deep), 5))
        last = graph["last"]
        assert isinstance(last, ann.Linear)
        narrow = np.where(np.arange(60) < 36, 0.1, 1).astype(np.float32)
        return graph.replacing({"last": last.with_(weight=last.weight * narrow)})
    graph = b.graph(b.sum("sum", b.linear("wide", flat, 5), b.linear("last", deep, 5)))
    wide = graph["wide"]
    assert isinstance(wide, ann.Linear)
    return graph.replacing({"wide": wide.with_(weight=wide.weight / 5)})


def pictures(rows: int, seed: int) -> FloatArray:
    return np.random.default_rng(seed).random((rows, 1, 6, 6)).astype(np.float32)


@pytest.mark.parametrize("joined", [False, True])
def test_more_steps_help_an_input_beside_spikes(joined: bool) -> None:
    graph = wide_and_deep(1, joined)
    test = pictures(100, 2)
    few, many = (error(converted(graph, pictures(200, 1), T)[0], graph, test) for T in (8, 64))
    assert many < 0.065
    assert many < few / 2


def test_only_weights_beside_spikes_read_the_input_as_spikes() -> None:
    graph = wide_and_deep(1, joined=False)
    made = context(graph, timesteps=8)
    spiking = RectifyLinear().run(graph, made)
    (population,) = (node for node in spiking.of_type(Relu) if node.shift is not None)
    assert made.findings["shifts"].keys() == {population.name}
    assert spiking["first"].inputs == ("flat",)
    assert spiking["wide"].inputs == ("flat.spikes",)
    x = made.calibration.rows
    np.testing.assert_allclose(run_ann(spiking, x)[0], run_ann(graph, x)[0], rtol=1e-3, atol=1e-4)
    assert RectifyLinear().run(spiking, context(spiking, timesteps=8)) is spiking
    # In few steps it would have fewer levels so.
    assert RectifyLinear().run(graph, context(graph, timesteps=4)) is graph
    plain = Builder(0)
    alone = plain.graph(plain.linear("last", plain.flatten("flat", plain.relu("r", "x")), 3))
    assert RectifyLinear().run(alone, context(alone, timesteps=8)) is alone


def test_an_input_that_is_added_is_fine_and_exact() -> None:
    b = Builder(4, (12,))
    deep = b.linear("last", b.relu("relu", b.linear("first", "x", 24)), 12)
    graph = b.graph(b.sum("sum", "x", deep))
    rows = np.random.default_rng(1).random((200, 12)).astype(np.float32)
    last = graph["last"]
    assert isinstance(last, ann.Linear)
    graph = graph.replacing({"last": last.with_(weight=last.weight / 4)})
    found, _ = converted(graph, rows, 64)
    test = np.random.default_rng(2).random((100, 12)).astype(np.float32)
    assert error(found, graph, test) < 0.025
    (identity,) = found.of_type(snn.ChannelWeight)
    scale = found.of_type(snn.Readout)[0].scale
    np.testing.assert_allclose(identity.weight * scale, found.encoder.scale, rtol=1e-5)


def dead_network(gain: float) -> AnnGraph:
    """Two of eight channels never fire, and a batch norm multiplies them by ``gain``."""
    b = Builder(2)
    stem = b.relu("relu0", b.conv("conv0", "x", 8))
    last = b.relu("relu1", b.conv("conv1", b.norm("bn", stem), 6))
    graph = b.graph(b.linear("fc", b.flatten("flat", b.mean("gap", last)), 4))
    silent = np.arange(8) < 2
    conv, norm = graph["conv0"], graph["bn"]
    assert isinstance(conv, ann.Convolution)
    assert isinstance(norm, ann.BatchNormalisation)
    return graph.replacing(
        {
            "conv0": conv.with_(bias=np.where(silent, -1000, conv.bias).astype(np.float32)),
            "bn": norm.with_(
                scale=np.where(silent, gain, norm.scale).astype(np.float32),
                mean=np.where(silent, 0, norm.mean).astype(np.float32),
                variance=np.where(silent, 0, norm.variance).astype(np.float32),
            ),
        }
    )


def test_a_channel_that_never_fires_takes_no_range_from_the_others() -> None:
    x = np.random.default_rng(1).standard_normal((100, 3, 8, 8)).astype(np.float32)
    exploding, twin = (converted(dead_network(gain), x, 16) for gain in (1.0, 0.0))
    for one, other in zip(exploding[0].of_type(snn.Weighted), twin[0].of_type(snn.Weighted), strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)
    (said,) = (found for found in exploding[1].diagnostics if found.code is DEAD_CHANNELS)
    assert "2 of 8 channels never fired" in said.message
    assert said.node == "onnx/relu0"
    # If such a channel would fire on other rows, it stays silent there: nothing explodes.
    loud = 1000 * x
    answers = real_logits(
        exploding[0],
        ReferenceSimulator().run(exploding[0], encode(exploding[0].encoder, loud), 16).outputs,
    )
    assert np.abs(answers).max() < 10 * np.abs(run_ann(dead_network(0.0), x)[0]).max()


def maxima(seed: int) -> AnnGraph:
    """Class scores that are maxima of a linear map."""
    b = Builder(seed)
    scores = b.conv("scores", b.relu("relu", b.conv("conv", "x", 12)), 5, Window((1, 1)))
    return b.graph(b.flatten("flat", b.max_pool("pool", scores, Window((8, 8)))))


@pytest.mark.parametrize("seed", [0, 1])
def test_of_a_maximum_only_its_range_is_coded(seed: int) -> None:
    graph = maxima(seed)
    made = context(graph, rows=100)
    raised = RectifyLinear().run(graph, made)
    x = made.calibration.rows
    np.testing.assert_allclose(run_ann(raised, x)[0], run_ann(graph, x)[0], rtol=1e-3, atol=1e-3)
    (population,) = (node for node in raised.of_type(Relu) if node.shift is not None)
    assert population.shift is not None
    highest = run_ann(graph, x)[0]
    room = highest.max(axis=0) - highest.min(axis=0)
    assert (np.abs(population.shift + highest.min(axis=0)) <= 0.051 * room).all()
    found, _ = converted(graph, x, 8)
    test = np.random.default_rng(9).standard_normal((100, 3, 8, 8)).astype(np.float32)
    assert error(found, graph, test) < 0.5
    assert error(converted(graph, x, 64)[0], graph, x) < 0.08


def test_what_is_coded_for_a_maximum_is_not_coded_again() -> None:
    b = Builder(0)
    scores = b.conv("scores", b.relu("relu", b.conv("conv", "x", 6)), 6, Window((1, 1)))
    graph = b.graph(b.linear("last", b.flatten("flat", b.max_pool("pool", scores)), 4))
    raised = RectifyLinear().run(graph, context(graph))
    assert [node.name for node in raised.of_type(Relu)] == ["relu", "scores.raised"]


@pytest.mark.parametrize("negative", [False, True])
def test_a_constant_channel_under_a_maximum_keeps_its_value(negative: bool) -> None:
    b = Builder(3)
    scores = b.conv("scores", b.relu("relu", b.conv("conv", "x", 6)), 6, Window((1, 1)))
    last = b.relu("last", b.conv("conv1", b.max_pool("pool", scores), 6))
    graph = b.graph(b.linear("fc", b.flatten("flat", last), 4))
    node = graph["scores"]
    assert isinstance(node, ann.Convolution)
    weight, bias = node.weight.copy(), node.bias.copy()
    weight[2], bias[2] = 0, -2 if negative else 2
    graph = graph.replacing({"scores": node.with_(weight=weight, bias=bias)})
    x = np.random.default_rng(1).standard_normal((100, *graph.nodes[0].shape)).astype(np.float32)
    found, made = converted(graph, x, 64)
    (told,) = made.diagnostics
    assert told.code is DEAD_CHANNELS
    assert error(found, graph, x) < 0.1


def seldom(seed: int, gain: float) -> AnnGraph:
    """One of eight channels hardly ever fires, and all that reads it does so by weights of ``gain``."""
    b = Builder(seed)
    stem = b.relu("relu0", b.conv("conv0", "x", 8))
    last = b.relu("relu1", b.conv("conv1", stem, 6))
    graph = b.graph(b.linear("fc", b.flatten("flat", b.mean("gap", last)), 4))
    first, second = graph["conv0"], graph["conv1"]
    assert isinstance(first, ann.Convolution)
    assert isinstance(second, ann.Convolution)
    rare = np.arange(8) == 0
    gains = np.where(rare, gain, 1).astype(np.float32)[:, None, None]
    return graph.replacing(
        {
            "conv0": first.with_(bias=np.where(rare, -4, first.bias).astype(np.float32)),
            "conv1": second.with_(weight=second.weight * gains),
        }
    )


@pytest.mark.parametrize("seed", [2, 3])
def test_weights_of_a_channel_that_seldom_fires_leave_the_others_their_bits(seed: int) -> None:
    x = np.random.default_rng(1).standard_normal((200, 3, 8, 8)).astype(np.float32)
    graph = seldom(seed, 200)
    found, _ = converted(graph, x, 64)
    (joined,) = found.of_type(snn.Concat)
    assert joined.inputs.count("relu0") == 1
    assert len(joined.inputs) > 8
    assert error(found, graph, x) < 0.25
    test = encode(found.encoder, x[:8])
    expected = ReferenceSimulator().run(found, test, 8).logits
    for simulator in (NumbaSimulator(1), OnnxSimulator(1)):
        np.testing.assert_array_equal(simulator.run(found, test, 8).logits, expected)


def barrier(settings: str = "lower") -> str:
    return FAST.text.replace("set-schedule", "set-schedule{kind=layerwise}").replace("lower", settings)


def test_targets_that_cannot_join_take_split_weights_whole() -> None:
    graph = seldom(2, 200)
    made = context(graph, rows=200, seed=1)
    split, _ = run_pipeline(Pipeline.parse(barrier(), PASSES), graph, made)
    assert isinstance(split, snn.SnnGraph)
    assert split.of_type(snn.Concat)
    whole = join_weights(split)
    assert not whole.of_type(snn.Concat)
    assert not whole.of_type(snn.Slice)
    assert join_weights(whole) is whole
    q = encode(split.encoder, made.calibration.rows[:8])
    expected = ReferenceSimulator().run(split, q, split.timesteps).logits
    np.testing.assert_array_equal(ReferenceSimulator().run(whole, q, split.timesteps).logits, expected)
    nir = Nir()
    assert nir.check(split) == ()
    np.testing.assert_array_equal(nir.emulate(split, q), expected)


def test_weights_stay_whole_where_a_chip_has_short_integers() -> None:
    graph = seldom(2, 200)
    made = context(graph, rows=200, seed=1)
    short, _ = run_pipeline(Pipeline.parse(barrier("lower{input-limit=127}"), PASSES), graph, made)
    assert isinstance(short, snn.SnnGraph)
    assert not short.of_type(snn.Concat)


def test_weights_are_split_only_where_most_outputs_gain_a_bit() -> None:
    graph = seldom(2, 200)
    second = graph["conv1"]
    assert isinstance(second, ann.Convolution)
    weight = second.weight.copy()
    weight[1:, 0] /= 200  # large for one of six outputs alone
    few = graph.replacing({"conv1": second.with_(weight=weight)})
    lowered, _ = run_pipeline(Pipeline.parse("clip-activations,lower", PASSES), few, context(few))
    assert isinstance(lowered, snn.SnnGraph)
    assert not lowered.of_type(snn.Slice)


def test_each_reading_of_a_split_source_is_paid_for() -> None:
    graph = seldom(2, 200)
    made = context(graph, rows=200, seed=1)
    front = Pipeline.parse("clip-activations{method=max},lower", PASSES)
    split, _ = run_pipeline(front, graph, made)
    assert isinstance(split, snn.SnnGraph)
    (joined,) = split.of_type(snn.Concat)
    reach, whole = fan_outs(split)["relu0"], fan_outs(join_weights(split))["relu0"]
    np.testing.assert_array_equal(reach[0], len(joined.inputs) * whole[0])
    np.testing.assert_array_equal(reach[1:], whole[1:])


def test_split_weights_are_the_same_function(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = seldom(2, 200)
    made = context(graph, rows=200, seed=1)
    front = Pipeline.parse("clip-activations{method=max},lower", PASSES)
    split, _ = run_pipeline(front, graph, made)
    monkeypatch.setattr("snnc.passes.lower.split_weights", lambda graph: (graph, {}))
    plain, _ = run_pipeline(front, graph, made)
    assert isinstance(split, snn.SnnGraph)
    assert isinstance(plain, snn.SnnGraph)
    assert len(split.nodes) > len(plain.nodes)
    q = encode(plain.encoder, made.calibration.rows)
    found, expected = (ReferenceSimulator().run(item, q, 8).logits for item in (split, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    again, sources = split_weights(split)
    assert again is split
    assert not sources


@given(st.integers(0, 1000))
def test_ordinary_weights_are_not_split(seed: int) -> None:
    graph = seldom(seed, 1)
    lowered, _ = run_pipeline(Pipeline.parse("clip-activations,lower", PASSES), graph, context(graph))
    assert isinstance(lowered, snn.SnnGraph)
    assert split_weights(lowered) == (lowered, {})


@pytest.mark.parametrize("program", ["Tanh(x)", "Sigmoid(x); Mul(x, v0)"])
def test_an_input_is_as_fine_before_any_activation(program: str) -> None:
    """The bound of the first layer's currents ends at what sends spikes, whatever its function."""

    def limit(rectified: bool) -> int:
        b = Builder(0, (24,))
        top = "x"
        for depth in range(6):
            top = b.linear(f"l{depth}", top, 24)
            if rectified:
                top = b.relu(f"a{depth}", top)
            else:
                node = ann.Pointwise(
                    name=f"a{depth}",
                    inputs=(top,),
                    shape=(24,),
                    program=program,
                    constants=np.zeros((0, 1), np.float32),
                )
                top = b.add(node)
        return input_limit(b.graph(b.linear("y", top, 4)), 1)

    assert limit(rectified=False) == limit(rectified=True) > 1000
