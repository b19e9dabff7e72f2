"""Quantisation: what is exact, what is bounded, and what the readers of a rounded threshold see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import snnc
from snnc.errors import UsageError
from snnc.ir import snn
from snnc.ir.bounds import (
    MOST_TIMESTEPS,
    overflow,
    provable_timesteps,
    run_bounds,
    step_bounds,
    weight_sums,
)
from snnc.numerics.quantisation import correct_readers, groups, quantise_all
from snnc.passes.dual_threshold import DualThreshold
from snnc.passes.graded import Graded
from snnc.passes.init_membrane import InitMembrane
from snnc.passes.quantise_weights import QuantiseWeights
from tests import onnx_models
from tests.ann_graphs import residual_network
from tests.nir_networks import pooled
from tests.test_passes_snn import STRUCTURES, lowered, simulate, structures


@pytest.mark.parametrize("index", range(STRUCTURES))
def test_integers_change_the_answers_little(index: int) -> None:
    spiking, made = lowered(structures()[index], levels=15, timesteps=4)
    spiking = InitMembrane().run(Graded().run(spiking, made), made)
    quantised = QuantiseWeights().run(spiking, made)
    assert quantised.integer
    expected, _ = simulate(spiking, made)
    y, _ = simulate(quantised, made)
    np.testing.assert_allclose(y, expected, atol=0.08 * np.abs(expected).max())
    assert QuantiseWeights().run(quantised, made) is quantised


def test_weights_use_the_whole_range_and_types_are_as_promised() -> None:
    quantised = quantise_all(lowered(residual_network())[0])
    for node in quantised.of_type(snn.Weighted):
        assert node.weight.dtype == (np.int16 if isinstance(node, snn.ChannelWeight) else np.int8)
    largest = np.abs(quantised["conv1"].weight.reshape(8, -1)).max(axis=1)  # type: ignore[attr-defined]
    assert (largest > 100).all()
    for population in quantised.of_type(snn.IntegrateFire):
        vectors = (population.threshold, population.bias, population.v_init)
        assert {a.dtype for a in vectors} == {np.dtype(np.int32)}
        assert population.threshold.min() >= 1


def test_an_identity_branch_is_exact() -> None:
    spiking, _ = lowered(residual_network())
    quantised = quantise_all(spiking)
    identity, population = quantised["relu0.identity"], quantised["relu2"]
    assert isinstance(identity, snn.ChannelWeight)
    assert isinstance(population, snn.IntegrateFire)
    scale = population.spike_scale / population.threshold
    unit = quantised["relu0"].spike_scale  # type: ignore[attr-defined]
    np.testing.assert_allclose(identity.weight * scale, unit, rtol=1e-5)


def test_readers_see_the_unit_that_rounding_left() -> None:
    spiking, _ = lowered(residual_network(), levels=15)
    (first, *_) = groups(spiking)
    from snnc.numerics.quantisation import quantise_group

    partly = quantise_group(spiking, first)
    before, after = spiking["relu0"], partly["relu0"]
    ratio = after.spike_scale / before.spike_scale  # type: ignore[attr-defined]
    expected = spiking["conv1"].weight * ratio[None, :, None, None]  # type: ignore[attr-defined]
    np.testing.assert_allclose(partly["conv1"].weight, expected, rtol=1e-6)  # type: ignore[attr-defined]


def test_a_correction_passes_through_joins_and_pools() -> None:
    spiking, _ = lowered(structures()[0])
    ratio = np.full(6, 2, np.float32)
    corrected = correct_readers(spiking, "right", ratio)
    old, new = spiking["conv3"].weight, corrected["conv3"].weight  # type: ignore[attr-defined]
    assert np.array_equal(new[:, :4], old[:, :4])
    assert np.array_equal(new[:, 4:], 2 * old[:, 4:])


def test_populations_of_one_current_share_a_group_and_a_scale() -> None:
    from snnc.passes.fine_skip import FineSkip

    spiking, made = lowered(residual_network())
    fine = FineSkip().run(spiking, made)
    group = next(g for g in groups(fine) if "relu0" in g.sinks)
    assert group.sinks == ("relu0", "relu0.fine")
    quantised = quantise_all(fine)
    coarse, small = quantised["relu0"], quantised["relu0.fine"]
    np.testing.assert_allclose(
        coarse.spike_scale / coarse.threshold,  # type: ignore[attr-defined]
        small.spike_scale / small.threshold,  # type: ignore[attr-defined]
        rtol=1e-5,
    )


def test_zero_weights_and_a_constant_channel_do_not_explode() -> None:
    spiking, made = lowered(residual_network())
    conv = spiking["conv1"]
    weight = conv.weight.copy()  # type: ignore[attr-defined]
    weight[2] = 0  # only the bias drives this channel
    spiking = spiking.map(snn.Convolution, lambda n: n.with_(weight=weight) if n is conv else n)
    signed = InitMembrane().run(DualThreshold(2).run(spiking, made), made)
    quantised = QuantiseWeights().run(signed, made)
    node = quantised["relu1"]
    assert isinstance(node, snn.IntegrateFire)
    assert node.threshold.max() <= 2**22
    expected, y = simulate(signed, made)[0], simulate(quantised, made)[0]
    np.testing.assert_allclose(y, expected, atol=0.5 * np.abs(expected).max())


def test_bounds_are_proved_and_refused_beyond_int32() -> None:
    spiking, made = lowered(residual_network())
    quantised = QuantiseWeights().run(spiking, made)
    assert quantised.max_timesteps == provable_timesteps(quantised) >= 4
    bounds = step_bounds(quantised, 4)
    assert bounds["conv1"] == np.abs(quantised["conv1"].weight.astype(int)).reshape(8, -1).sum(axis=1).max()  # type: ignore[attr-defined]
    huge = quantised.map(
        snn.IntegrateFire,
        lambda n: n.with_(bias=np.full(n.channels, 2**30, np.int32)) if n.name == "relu3" else n,
    )
    assert overflow(huge, 4) is not None
    with pytest.raises(UsageError, match=r"'relu3' could reach \d+ in 4 steps, .*; use at most T = 1"):
        QuantiseWeights().run(huge, made)
    settling = replace(huge, settle_steps=10**6, max_timesteps=0)
    with pytest.raises(UsageError, match="beyond int32; ask for fewer levels or settle steps"):
        QuantiseWeights().run(settling, made)
    long = replace(quantised, timesteps=MOST_TIMESTEPS + 1, max_timesteps=0)
    with pytest.raises(UsageError, match=r"257 steps are more than the 256 .*; use at most T = 256"):
        QuantiseWeights().run(long, made)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int64])
def test_sums_of_weights_do_not_overflow(kind: type[np.signedinteger]) -> None:
    lowest = np.iinfo(np.int32 if kind is np.int64 else kind).min
    weight = np.full((2, 300, 3, 3), lowest, kind)
    assert weight_sums(weight).tolist() == [2700 * -int(lowest)] * 2


def test_the_counts_of_a_maximum_are_bounded() -> None:
    graph = pooled(of="sums")
    for timesteps in (2, 9):
        assert step_bounds(graph, timesteps)["sum"] == 4
        assert run_bounds(graph, timesteps)["pool"] == timesteps * 4


@pytest.mark.parametrize("first", [True, False])
def test_a_network_without_weights_may_sum_over_wide_maps(first: bool) -> None:
    """The weight of an identity before or behind a sum over 4,096 places leaves room in int32."""
    nodes = [onnx_models.node("Relu", "x", "r")] if first else []
    nodes += [
        onnx_models.node("GlobalAveragePool", "r" if first else "x", "p"),
        onnx_models.node("Flatten", "p", "y"),
    ]
    x = np.random.default_rng(0).normal(size=(40, 4, 64, 64)).astype(np.float32)
    found = snnc.compile_model(
        onnx_models.model(nodes, ["n", 4, 64, 64], {}), x, timesteps=4, preset="fast", threads=1
    )
    (readout,) = found.graph.of_type(snn.Readout)
    y = snnc.simulate(found, x, threads=1).logits * (readout.scale / 4)
    wanted = (np.maximum(x, 0) if first else x).mean(axis=(2, 3))
    assert np.abs(y - wanted).max() < 0.2 * np.abs(wanted).max()
    assert overflow(found.graph, 4) is None
