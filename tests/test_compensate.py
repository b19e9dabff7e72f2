"""Compensation: it helps where it is kept, falls back in words, and does not depend on threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.analysis.costs import weight_sparsity
from snnc.compensation.refit import spread_out
from snnc.diagnostics import DEAD_CHANNELS
from snnc.errors import UsageError
from snnc.ir import snn
from snnc.ir.ann import AnnGraph, Convolution, Relu
from snnc.numerics.regression import normal_equations, ridge
from snnc.passes import PASSES, PRESETS
from snnc.passes.compensate import Compensate
from snnc.pipeline import Context, Pipeline, run_pipeline
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.partial import PartialSimulation
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator, encode
from snnc.source.calibration import Calibration
from tests.ann_graphs import Builder, context, residual_network

FRONT = (
    "fold-batchnorm,exact-max-pool,rectify-linear,clip-activations,lower,"
    "dual-threshold{spikes-per-step=2},init-membrane"
)


def prepared(graph: AnnGraph, *, rows: int = 200, timesteps: int = 2) -> tuple[snn.SnnGraph, Context]:
    made = context(graph, rows=rows, timesteps=timesteps)
    result, _ = run_pipeline(Pipeline.parse(FRONT, PASSES), graph, made)
    assert isinstance(result, snn.SnnGraph)
    return result, made


def agreement(graph: snn.SnnGraph, source: AnnGraph, seed: int = 99) -> float:
    x = np.random.default_rng(seed).standard_normal((200, 3, 8, 8)).astype(np.float32)
    q = encode(graph.encoder, x)
    y = ReferenceSimulator().run(graph, q, graph.timesteps).logits
    expected = run_ann(source, x)[0]
    return float(np.mean(y.argmax(axis=1) == expected.argmax(axis=1)))


def test_compensation_brings_new_rows_nearer_to_the_source() -> None:
    source = residual_network(5)
    spiking, made = prepared(source)
    plain, _ = run_pipeline(Pipeline.parse("quantise-weights", PASSES), spiking, made)
    compensated = Compensate().run(spiking, made)
    assert compensated.integer
    assert made.findings["kept"]
    divergence = made.findings["divergence"]
    assert divergence["compensated"] < divergence["plain"]
    assert isinstance(plain, snn.SnnGraph)
    assert agreement(compensated, source) > agreement(plain, source)
    layers = made.findings["layers"]
    assert [layer["layer"] for layer in layers] == ["relu0", "relu1", "relu2", "relu3", "relu4", "readout"]
    for layer in layers:
        assert {layer["kept"], "none"} <= set(layer["errors"])


def test_what_it_returns_is_left_alone_the_second_time() -> None:
    spiking, made = prepared(residual_network(4))
    compensated = Compensate().run(spiking, made)
    assert Compensate().run(compensated, made) is compensated


@pytest.mark.parametrize("option", ["weights", "bias", "start", "scale"])
def test_each_correction_works_alone(option: str) -> None:
    spiking, made = prepared(residual_network(4))
    off: dict[str, Any] = {"weights": False, "bias": False, "start": False, "scale": False}
    Compensate(**{**off, option: True}, gated=False).run(spiking, made)
    kept = {layer["kept"] for layer in made.findings["layers"] if layer["layer"] != "readout"}
    assert all(option in label for label in kept - {"none"})
    assert kept - {"none"}


def raised_network() -> AnnGraph:
    """Two layers whose channels are never silent, and between them a value without rectifier."""
    b = Builder(5)
    hidden = b.relu("relu0", b.conv("conv0", "x", 6))
    bare = b.conv("conv1", hidden, 6)
    high = b.conv("conv2", b.conv("conv3", bare, 6), 6)
    graph = b.graph(b.linear("fc", b.flatten("flat", b.mean("gap", b.relu("relu1", high))), 4))
    lifted = np.full(6, 2.0, np.float32)
    return graph.map(Convolution, lambda node: node.with_(bias=lifted) if node.name == "conv2" else node)


@pytest.mark.parametrize("options", [{}, {"ramp": True}])
def test_fitted_currents_aim_above_floor_and_shift(options: dict[str, Any]) -> None:
    source = raised_network()
    made = context(source, rows=300, timesteps=4)
    text = FRONT.replace("clip-activations", "clip-activations{floor=true}")
    start = "init-membrane{fraction=0.0}" if options else "init-membrane"
    spiking, _ = run_pipeline(Pipeline.parse(text.replace("init-membrane", start), PASSES), source, made)
    assert isinstance(spiking, snn.SnnGraph)
    assert any(node.lowest.any() for node in spiking.of_type(snn.IntegrateFire))
    rectifiers = {node.name: node for node in made.ann().of_type(Relu)}
    assert any(node.shift is not None for node in rectifiers.values())
    graph = Compensate(bias=False, gated=False, **options).run(spiking, made)
    fitted = [layer["layer"] for layer in made.findings["layers"] if layer["kept"] == "weights"]
    prefix = PartialSimulation(graph, made.calibration.rows, made.simulator)
    T = graph.timesteps
    for node in graph.of_type(snn.IntegrateFire):
        if node.name not in fitted:
            continue
        currents = np.add.reduce([prefix.counts(graph, name) for name in node.inputs]) / T
        mean = currents.mean(axis=(0, *range(2, currents.ndim))) + node.bias
        scale = node.spike_scale / node.threshold
        z = made.calibration.values(made.ann(), rectifiers[node.name].inputs[0])
        shift = rectifiers[node.name].shift
        wanted = z.mean(axis=(0, *range(2, z.ndim))) - node.lowest + (0 if shift is None else shift)
        wanted = wanted + (node.spike_scale / 2 / T if options else 0)
        np.testing.assert_allclose(mean * scale, wanted, atol=0.25 * float(z.std()), err_msg=node.name)
    assert len(fitted) > 1


def test_a_ramp_rounds_the_same_total_as_a_start_at_half() -> None:
    """What the start lacks has arrived after T steps, so graded counts do not depend on how it is split."""
    found = []
    tried: tuple[tuple[str, dict[str, Any]], ...]
    tried = (("0.5", {}), ("0.25", {"ramp": True}), ("0.0", {"ramp": True}))
    for start, options in tried:
        source = residual_network(4)
        made = context(source, rows=100, timesteps=4)
        text = FRONT.replace("dual-threshold{spikes-per-step=2}", "graded")
        text = text.replace("init-membrane", f"init-membrane{{fraction={start}}}")
        spiking, _ = run_pipeline(Pipeline.parse(text, PASSES), source, made)
        assert isinstance(spiking, snn.SnnGraph)
        graph = Compensate(weights=False, bias=False, **options).run(spiking, made)
        q = encode(graph.encoder, made.calibration.rows[:32])
        trace = ReferenceSimulator().run(graph, q, 4, RecordOptions(states=True))
        found.append(np.concatenate([n.reshape(32, -1) for n in trace.counts.values()], axis=1))
    for other in found[1:]:
        assert (other == found[0]).mean() > 0.97, "only rounded biases may differ"


def test_too_few_rows_only_quantise_and_say_how_many_are_needed() -> None:
    spiking, made = prepared(residual_network(4), rows=20)
    result = Compensate().run(spiking, made)
    assert result.integer
    (diagnostic,) = (found for found in made.diagnostics if found.code is not DEAD_CHANNELS)
    assert diagnostic.code.number == "SNN302"
    assert "20 calibration rows" in diagnostic.message
    assert "at least 50" in diagnostic.message


def test_a_ramp_arrives_even_where_nothing_is_compensated() -> None:
    spiking, made = prepared(residual_network(4), rows=20)
    spiking = spiking.map(snn.IntegrateFire, lambda node: node.with_(v_init=node.v_init * 0))
    result = Compensate(ramp=True).run(spiking, made)
    for before, after in zip(
        spiking.of_type(snn.IntegrateFire), result.of_type(snn.IntegrateFire), strict=True
    ):
        raised = after.bias * (after.spike_scale / after.threshold) - before.bias
        np.testing.assert_allclose(raised, before.threshold / 4, rtol=0.1, err_msg=before.name)


def test_too_few_positions_for_a_wide_layer_keep_its_weights_and_say_so() -> None:
    b = Builder(0, (40,))
    hidden = b.relu("relu0", b.linear("fc0", "x", 300))
    source = b.graph(b.linear("fc2", b.relu("relu1", b.linear("fc1", hidden, 30)), 4))
    spiking, made = prepared(source, rows=100)
    Compensate().run(spiking, made)
    found = {d.message: d.help for d in made.diagnostics}
    (message,) = (text for text in found if "80 fitted rows are too few for 301 weights per output" in text)
    assert (
        found[message]
        == "give 753 calibration rows, of which 602 are fitted to; 500 to 1,000 do for the rest"
    )


def test_more_rows_than_are_used_are_not_asked_for() -> None:
    b = Builder(0, (40,))
    hidden = b.relu("relu0", b.linear("fc0", "x", 300))
    source = b.graph(b.linear("fc2", b.relu("relu1", b.linear("fc1", hidden, 30)), 4))
    spiking, made = prepared(source, rows=100, timesteps=16)
    Compensate().run(spiking, made)
    (cure,) = {d.help for d in made.diagnostics if "for 301 weights" in d.message}
    assert cure == "nothing: 753 rows would be needed, and at T = 16 500 are used"


def test_constant_inputs_make_a_deficient_system_that_the_ridge_holds() -> None:
    source = residual_network(4)
    spiking, made = prepared(source)
    made.calibration = Calibration(np.ones_like(made.calibration.rows), threads=1)
    assert Compensate().run(spiking, made).integer


def test_a_pipeline_with_every_neuron_compensates() -> None:
    source = residual_network(6)
    for settings_ in (
        "graded",
        "multi-threshold",
        "set-schedule{kind=layerwise}",
        "dual-threshold,set-schedule{settle-steps=2}",
    ):
        made = context(source, rows=120, timesteps=2)
        front = (
            "fold-batchnorm,clip-activations{levels=3},lower"
            if "multi" in settings_
            else "fold-batchnorm,clip-activations,lower"
        )
        text = f"{front},{settings_},fine-skip,init-membrane,compensate,quantise-weights"
        result, _ = run_pipeline(Pipeline.parse(text, PASSES), source, made)
        assert isinstance(result, snn.SnnGraph)
        assert result.integer
        assert made.diagnostics == []


def test_the_result_is_the_same_bytes_for_every_number_of_threads() -> None:
    source = residual_network(4)
    found = []
    for threads in (1, 2):
        made = context(source, rows=130, timesteps=2)
        made.calibration.threads = threads
        text = f"{FRONT},compensate,quantise-weights"
        graph, _ = run_pipeline(Pipeline.parse(text, PASSES), source, made)
        assert isinstance(graph, snn.SnnGraph)
        arrays = [n.weight for n in graph.of_type(snn.Weighted)] + [
            n.bias for n in graph.of_type(snn.IntegrateFire)
        ]
        found.append(b"".join(a.tobytes() for a in arrays))
    assert found[0] == found[1]


def test_a_ridge_of_zero_and_too_much_spread_are_refused() -> None:
    with pytest.raises(UsageError, match="ridge must lie in"):
        Compensate(ridge=0)
    with pytest.raises(UsageError, match="variance-restoration must lie in"):
        Compensate(variance_restoration=1.5)


@settings(max_examples=10)
@given(st.integers(0, 1000), st.integers(1, 8000))
def test_the_gram_matrix_of_counts_is_exact(seed: int, largest: int) -> None:
    random = np.random.default_rng(seed)
    counts = random.integers(-largest, largest + 1, (5000, 7))
    normal = normal_equations([counts[:, :3], counts[:, 3:]], np.zeros((5000, 2), np.float32))
    exact = np.concatenate([counts, np.ones((5000, 1), int)], axis=1)
    assert np.array_equal(normal.gram, exact.T @ exact)


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_fitted_currents_get_variation_back_about_their_mean(spread: float) -> None:
    random = np.random.default_rng(3)
    counts = random.integers(0, 3, (4000, 6)).astype(np.int32)
    signal = counts @ random.standard_normal((6, 2)) + [3.0, -1.0]
    y = (signal + signal.std(axis=0) * random.standard_normal(signal.shape)).astype(np.float32)
    normal = normal_equations([counts], y)
    weights = ridge(normal, np.zeros((7, 2)), 1e-6)
    columns = np.concatenate([counts, np.ones((len(counts), 1))], axis=1)
    before, after = (columns @ w for w in (weights, spread_out(weights, normal, y, spread)))
    np.testing.assert_allclose(after.mean(axis=0), before.mean(axis=0), atol=1e-3)
    rho = before.std(axis=0) / y.std(axis=0)
    assert (rho < 0.8).all()
    np.testing.assert_allclose(after.std(axis=0) / y.std(axis=0), rho ** (1 - spread), rtol=1e-2)


def test_ridge_recovers_weights_and_is_pulled_to_its_start() -> None:
    random = np.random.default_rng(0)
    counts = random.integers(0, 5, (4000, 6))
    weights = random.standard_normal((7, 3))
    y = counts @ weights[:-1] + weights[-1]
    normal = normal_equations([counts], y.astype(np.float32))
    start = np.zeros((7, 3))
    np.testing.assert_allclose(ridge(normal, start, 1e-9), weights, atol=1e-4)
    np.testing.assert_allclose(ridge(normal, start, 1e9), start, atol=1e-4)


def test_currents_beside_a_fit_keep_their_fractions() -> None:
    """What an identity branch brings is no whole number before its group is quantised."""
    source = residual_network(4)
    spiking, made = prepared(source)
    identity = next(node for node in spiking.of_type(snn.ChannelWeight))
    weight = identity.weight * np.float32(0.3)
    spiking = spiking.replacing({identity.name: identity.with_(weight=weight)})
    prefix = PartialSimulation(spiking, made.calibration.rows[:20], made.simulator)
    spikes = prefix.counts(spiking, identity.inputs[0])
    assert spikes.any()
    expected = spikes * weight.reshape(-1, 1, 1)
    np.testing.assert_allclose(prefix.current(spiking, identity.name), expected, rtol=1e-5)


def test_a_fit_beside_an_identity_branch_lowers_the_error() -> None:
    source = residual_network(4)
    spiking, made = prepared(source, rows=400, timesteps=4)
    Compensate(bias=False).run(spiking, made)
    joined = {node.name for node in spiking.of_type(snn.IntegrateFire) if len(node.inputs) > 1}
    layers = [layer for layer in made.findings["layers"] if layer["layer"] in joined]
    assert layers
    for layer in layers:
        assert layer["errors"]["weights"] < 1.05 * layer["errors"]["none"], layer


def test_a_current_that_is_added_twice_is_fitted_as_such() -> None:
    b = Builder(4)
    current = b.conv("conv1", b.relu("relu0", b.conv("conv0", "x", 6)), 6)
    twice = b.relu("relu1", b.sum("add", current, current))
    spiking, made = prepared(b.graph(b.linear("fc", b.flatten("flat", b.mean("gap", twice)), 5)), rows=300)
    assert spiking["relu1"].inputs == ("conv1", "conv1")
    Compensate(bias=False).run(spiking, made)
    (layer,) = (layer for layer in made.findings["layers"] if layer["layer"] == "relu1")
    assert layer["errors"]["weights"] < 1.05 * layer["errors"]["none"]


def pruned_network(share: float, seed: int = 3) -> AnnGraph:
    """A residual network without most of its weights."""
    random = np.random.default_rng(seed)

    def prune(node: Convolution) -> Convolution:
        return node.with_(weight=node.weight * (random.random(node.weight.shape) >= share))

    return residual_network(seed).map(Convolution, prune)


@pytest.mark.parametrize("share", [0.9, 0.2])
def test_pruned_weights_stay_pruned(share: float) -> None:
    spiking, made = prepared(pruned_network(share), rows=100)
    fitted = Compensate(gated=False, variance_restoration=0.7).run(spiking, made)
    dense = Compensate(gated=False, variance_restoration=0.7, densify=True).run(spiking, made)
    synapses = spiking.of_type(snn.Convolution)
    for node in synapses:
        after = fitted[node.name]
        assert isinstance(after, snn.Convolution)
        assert not after.weight[node.weight == 0].any(), node.name
    assert weight_sparsity(fitted) >= weight_sparsity(spiking)
    assert weight_sparsity(dense) < weight_sparsity(spiking) / 2 + 0.1


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"exact"}))  # which takes quantised networks alone
def test_no_preset_brings_pruned_weights_back(preset: str) -> None:
    graph = pruned_network(0.9)
    made = context(graph, rows=60, timesteps=2)
    found, _ = run_pipeline(PRESETS[preset].pipeline, graph, made)
    assert isinstance(found, snn.SnnGraph)
    synapses = [node for node in found.of_type(snn.Convolution) if node.name in graph]
    assert len(synapses) > 2
    for node in synapses:
        source = graph[node.name]
        assert isinstance(source, Convolution)
        assert source.weight.shape == node.weight.shape
        assert not node.weight[source.weight == 0].any(), node.name


@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_restricted_fits_are_the_least_squares_on_what_may_move(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    counts = random.integers(0, 5, (60, 7)).astype(np.int32)
    y = random.standard_normal((60, 4)).astype(np.float32)
    normal = normal_equations([counts], y)
    kept = random.random((8, 4)) < share
    kept[-1] = True
    start = random.standard_normal((8, 4)) * kept
    found = ridge(normal, start, 0.01, kept)
    assert not found[~kept].any()
    penalty = 0.01 * np.trace(normal.gram / 60) / 8
    slope = normal.gram / 60 @ found - normal.cross / 60 + penalty * (found - start)
    np.testing.assert_allclose(slope[kept], 0, atol=1e-9)
    np.testing.assert_array_equal(ridge(normal, start, 0.01, np.ones_like(kept)), ridge(normal, start, 0.01))
