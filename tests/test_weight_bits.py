"""Weights of fewer bits: within their limits, nothing else coarser, and contradictions are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import snnc
from snnc.conversion_options import Options
from snnc.errors import UsageError
from snnc.ir import snn
from snnc.ir.ann import AnnGraph
from snnc.numerics.quantisation import few_bit_layers, quantise_all
from snnc.numerics.weight_grid import WeightGrid, bits_of
from snnc.passes import PASSES
from snnc.passes.quantise_weights import QuantiseWeights
from snnc.pipeline import Pipeline, run_pipeline
from tests.ann_graphs import Builder, context, residual_network
from tests.test_passes_snn import lowered

FRONT = (
    "fold-batchnorm,exact-max-pool,rectify-linear,clip-activations{levels=15,floor=true},lower,"
    "multi-threshold,init-membrane"
)


def converted(source: AnnGraph, back: str, rows: int = 120) -> snn.SnnGraph:
    graph, _ = run_pipeline(Pipeline.parse(f"{FRONT},{back}", PASSES), source, context(source, rows=rows))
    assert isinstance(graph, snn.SnnGraph)
    return graph


def depthwise_network() -> AnnGraph:
    b = Builder(0)
    top = b.relu("r1", b.conv("c1", "x", 8))
    top = b.relu("r2", b.conv("c2", top, 8, groups=8))
    top = b.relu("r3", b.conv("c3", top, 8))
    return b.graph(b.linear("y", b.flatten("f", b.mean("m", top)), 4))


@given(st.integers(2, 8), st.integers(0, 999))
def test_a_grid_holds_what_it_says_and_errs_no_more_than_without_clipping(bits: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    weight = random.standard_t(3, (5, 40)) * (random.random((5, 40)) > 0.2)
    grid = WeightGrid(bits)
    unit = grid.scale(weight) * grid.step
    whole = (grid.multiples(weight, unit) * grid.step).astype(np.int8)
    assert np.abs(whole.astype(int)).max() <= 127
    assert grid.holds(whole)
    assert bits_of(whole) <= bits
    plain = np.abs(weight).max(axis=1) / grid.limit
    errors = [np.square(grid.multiples(weight, u) * u[:, None] - weight).sum(axis=1) for u in (unit, plain)]
    assert (errors[0] <= errors[1] + 1e-12).all()


def test_bits_are_counted() -> None:
    assert bits_of(np.array([-127, 0, 127], np.int8)) == 8
    assert bits_of(np.array([-64, 0, 64], np.int8)) == 2
    assert bits_of(np.array([-96, 32], np.int8)) == 3
    assert bits_of(np.array([1], np.int8)) == 8
    assert bits_of(np.array([-128], np.int8)) == 8
    assert bits_of(np.array([3000], np.int16)) == 16


@pytest.mark.parametrize("bits", [2, 5])
@pytest.mark.parametrize("source", [residual_network(), depthwise_network()], ids=["residual", "depthwise"])
@pytest.mark.parametrize("back", ["quantise-weights{bits=B}", "compensate{bits=B},quantise-weights"])
@pytest.mark.parametrize("rows", [20, 120], ids=["few rows", "rows"])
def test_layers_between_populations_have_so_many_bits(
    source: AnnGraph, back: str, bits: int, rows: int
) -> None:
    graph = converted(source, back.replace("B", str(bits)), rows)
    assert graph.integer
    few = few_bit_layers(graph)
    layers = {node.name: node for node in graph.of_type(snn.Weighted)}
    assert all(bits_of(layers[name].weight) <= bits for name in few)
    assert all(layers[name].weight.any() for name in few)
    others = [node for name, node in layers.items() if name not in few]
    assert {bits_of(node.weight) for node in others} <= {8, 16}
    assert {type(node) for node in others} >= {snn.Convolution, snn.Linear}, "the first layer, and the last"


def test_a_depthwise_layer_is_a_layer_like_others() -> None:
    spiking, _ = lowered(depthwise_network())
    assert few_bit_layers(spiking) == {"c2", "c3"}


def test_thresholds_and_identities_are_as_fine_as_with_all_bits() -> None:
    spiking, _ = lowered(residual_network(), levels=15)
    plain, few = quantise_all(spiking), quantise_all(spiking, 3)
    identity = few["relu0.identity"]
    assert isinstance(identity, snn.ChannelWeight)
    assert identity.weight.dtype == np.int16
    for node in few.of_type(snn.IntegrateFire):
        other = plain[node.name]
        assert isinstance(other, snn.IntegrateFire)
        # Without clipping, 3 steps of 32 are 96 units for the largest weight, in place of 127.
        assert (node.threshold >= 0.5 * other.threshold).all()
    population = few["relu2"]
    assert isinstance(population, snn.IntegrateFire)
    scale = population.spike_scale / population.threshold
    unit = few["relu0"].spike_scale  # type: ignore[attr-defined]
    np.testing.assert_allclose(identity.weight * scale, unit, rtol=1e-5)


def test_eight_bits_change_nothing() -> None:
    source = residual_network()
    plain = converted(source, "compensate,quantise-weights")
    same = converted(source, "compensate{bits=8},quantise-weights{bits=8}")
    for one, other in zip(plain.of_type(snn.Weighted), same.of_type(snn.Weighted), strict=True):
        assert np.array_equal(one.weight, other.weight)
    assert Pipeline.parse("compensate{bits=8},quantise-weights{bits=8}", PASSES).text == (
        "compensate,quantise-weights"
    )


def test_zero_stays_zero() -> None:
    graph = converted(residual_network(), "compensate{bits=4,density=0.5},quantise-weights")
    layers = [node for node in graph.of_type(snn.Convolution) if node.name in few_bit_layers(graph)]
    nonzero = sum(np.count_nonzero(node.weight) for node in layers)
    assert nonzero <= 0.51 * sum(node.weight.size for node in layers)


@pytest.mark.parametrize("name", ["compensate", "quantise-weights"])
@pytest.mark.parametrize("bits", ["1", "9", "0", "-4"])
def test_bits_that_int8_does_not_hold_are_refused(name: str, bits: str) -> None:
    with pytest.raises(UsageError, match=rf"bits must lie in \[2, 8\], not {bits}"):
        Pipeline.parse(f"{name}{{bits={bits}}}", PASSES)


@pytest.mark.parametrize("given_bits", ["", "{bits=6}"])
def test_fewer_bits_behind_compensation_are_refused(given_bits: str) -> None:
    message = r"bits=4 is for weights in floats, and those of '.+' are integers of [68] bits already"
    with pytest.raises(UsageError, match=message):
        converted(residual_network(), f"compensate{given_bits},quantise-weights{{bits=4}}")


def test_the_same_bits_twice_are_welcome() -> None:
    graph = converted(residual_network(), "compensate{bits=4},quantise-weights{bits=4}")
    assert graph.integer


def test_two_bits_are_enough_with_a_fitted_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    def accuracy(settings: dict[str, int]) -> float:
        made = snnc.convert("zoo:fashion-cnn", preset="one-step", timesteps=1, settings=settings, threads=1)
        return float(made.evaluate(limit=500, compare=False, threads=1).as_dict()["top1"])

    bits = {"compensate.bits": 2}
    fitted, eight = accuracy(bits), accuracy({})
    monkeypatch.setattr("snnc.numerics.weight_grid.SHRUNK", (1.0,))
    largest = accuracy(bits)
    assert fitted > eight - 0.04
    assert fitted > largest + 0.02


def test_inspection_tells_the_bits(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from snnc.cli import main

    path = tmp_path / "few.snn.onnx"
    command = ["convert", "zoo:fashion-cnn", "-o", str(path), "--preset", "one-step", "-T", "1"]
    assert main([*command, "--set", "compensate.bits=4"]) == 0
    capsys.readouterr()
    assert main(["inspect", str(path)]) == 0
    assert "int8, of which layers between populations take 4 bits" in capsys.readouterr().out
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["weight_bits"] == 4


def test_floats_have_no_bits() -> None:
    """The passes that round are left out there, and bits with them: not without a word."""
    options = Options(preset="one-step", timesteps=1, precision="float32", settings={"compensate.bits": "2"})
    with pytest.raises(UsageError, match="weights of fewer bits are integers"):
        options.passes()


def test_the_first_layer_of_frames_keeps_its_bits() -> None:
    graph, _ = lowered(residual_network())
    (encode,) = graph.encoders
    frames = graph.replacing({encode.name: encode.with_(presented=snn.Presented.ACCUMULATED)})
    assert few_bit_layers(frames) == few_bit_layers(graph)


def test_integers_of_the_source_keep_their_bits() -> None:
    graph, made = lowered(residual_network())
    integers = quantise_all(graph)
    with pytest.raises(UsageError, match="leave bits out"):
        QuantiseWeights(bits=4).run(integers, made)
