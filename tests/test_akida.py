"""The target `akida`: what it refuses, how near its layers are to the network, and its bundle."""

from __future__ import annotations

import ast
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.artefact import Artefact
from snnc.backends.akida import Akida
from snnc.backends.akida.backend import INTERPRETER, SOURCE
from snnc.backends.akida.layers import _eight_bits, _scales, _tops, emulate, lower  # pyright: ignore[reportPrivateUsage]
from snnc.backends.deployment import deploy, verify
from snnc.backends.manifest import read
from snnc.errors import ArtefactError, TargetError, UsageError
from snnc.ir.geometry import Window
from snnc.ir.graph import IntArray
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import Encode, IntegrateFire, SnnGraph
from snnc.simulation.reference import ReferenceSimulator
from tests.chains import Chain
from tests.spiking_graphs import random_graph, random_inputs


def network(seed: int = 0, *, timesteps: int = 4, window: Window | None = None) -> SnnGraph:
    """Return a chain in the layerwise schedule that Akida takes."""
    made = Chain(seed, (2, 12, 12), Neuron())
    made.convolution(5, Window((3, 3), (2, 2), (0, 0, 1, 1)))
    made.fire(3000)
    made.convolution(6, window or Window((3, 2), (1, 1), (1, 0, 1, 1)))
    made.fire(700)
    made.convolution(4, Window((5, 5), (1, 1)))
    made.fire(600)
    made.flat()
    made.linear(9)
    made.fire(400)
    made.linear(7)
    graph = made.graph()
    return replace(graph, schedule=Schedule.LAYERWISE, timesteps=timesteps)


def rounded(graph: SnnGraph) -> SnnGraph:
    """Return the network with numbers that eight bits hold: then Akida's layers are the network's."""

    def convert(node: IntegrateFire) -> IntegrateFire:
        theta = np.full_like(node.threshold, 512)
        return node.with_(threshold=theta, v_init=theta // 2, bias=node.bias // 16 * 4)

    nodes = [convert(node) if isinstance(node, IntegrateFire) else node for node in graph]
    return graph.with_nodes(nodes)


def reference(graph: SnnGraph, q: IntArray) -> IntArray:
    return ReferenceSimulator().run(graph, q, graph.timesteps).logits.astype(np.int64)


def test_with_numbers_of_eight_bits_the_outputs_are_equal() -> None:
    graph = rounded(network(3))
    assert Akida().check(graph) == ()
    q = random_inputs(graph, 24, 2)
    expected = reference(graph, q)
    np.testing.assert_array_equal(emulate(lower(graph), q), expected)
    assert len(np.unique(expected, axis=0)) >= 12


@pytest.mark.parametrize(("timesteps", "bits"), [(4, 4), (15, 4), (16, 8), (100, 8)])
def test_counts_end_where_the_network_s_do(timesteps: int, bits: int) -> None:
    graph = network(4, timesteps=timesteps)
    layers = lower(graph)
    assert [layer.bits for layer in layers] == [bits] * 4 + [32]
    for layer in layers[:-1]:
        loudest = (layer.top << layer.top_shift) * layer.scale
        assert ((loudest + (1 << (layer.shift - 1))) >> layer.shift == timesteps).all()
    q = random_inputs(graph, 24, 2)
    expected, found = reference(graph, q), emulate(layers, q)
    assert np.linalg.norm(found - expected) < 0.2 * np.linalg.norm(expected)


@given(st.floats(0.5, 2**22), st.integers(1, 127))
def test_scales_and_ends_are_within_eight_bits(theta: float, capacity: int) -> None:
    scale, shift = _scales(np.array([1 / theta]))
    assert 128 <= scale[0] <= 255
    assert abs(scale[0] / 2.0 ** shift[0] * theta - 1) < 2**-8 + 1e-12
    top, left = _tops(capacity, scale, shift)
    assert 0 <= top[0] <= 255
    half, loudest = 2 ** (int(shift[0]) - 1), (int(top[0]) << int(left[0])) * int(scale[0])
    found = (loudest + half) >> int(shift[0])
    assert found == capacity or (found < capacity and theta < 1)


@given(st.lists(st.floats(-(2**24), 2**24), min_size=1, max_size=8))
def test_biases_are_an_int8_and_a_shift(values: list[float]) -> None:
    array = np.array(values)
    bias, shift = _eight_bits(array)
    assert (np.abs(bias) <= 127).all()
    assert (np.abs((bias << shift) - array) <= np.maximum(np.abs(array) / 127, 0.5)).all()


def test_what_akida_does_not_take_is_refused_with_a_cure() -> None:
    reasons = [item.reason for item in Akida().check(random_graph(2))]
    assert any("synchronous" in reason for reason in reasons)
    assert any("sums" in reason or "read by" in reason for reason in reasons)
    (kernel,) = Akida().check(network(1, window=Window((5, 5), (2, 2), (4, 4, 4, 4))))[:1]
    assert "strides of (2, 2)" in kernel.reason
    fine = network(1)
    loud = fine.with_nodes([n.with_(limit=2047) if isinstance(n, Encode) else n for n in fine])
    (problem,) = Akida().check(loud)
    assert "lower.input-limit=127" in problem.help
    (first, *_) = Akida().check(replace(fine, timesteps=128))
    assert "beyond 127" in first.reason


def test_the_difference_must_be_accepted(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="--accept-semantics"):
        deploy(Artefact(network()), Akida(), tmp_path / "bundle")
    assert not any(tmp_path.iterdir())
    bundle = deploy(Artefact(network()), Akida(), tmp_path / "bundle", accept_semantics=True).directory
    content = read(bundle)
    assert content["semantics"]["measured"]["rows"] == 8
    assert content["exact"] in (True, False)
    assert {"layers.json", "layers.npz", "snnc_akida.py"} <= set(content["files"])


def test_unknown_profiles_are_refused() -> None:
    with pytest.raises(UsageError, match="v2"):
        Akida("v1")


def test_the_shipped_program_is_python() -> None:
    ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 10))


def test_without_akida_verify_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = deploy(Artefact(network()), Akida(), tmp_path / "bundle", accept_semantics=True).directory
    monkeypatch.setenv(INTERPRETER, str(tmp_path / "none"))
    with pytest.raises(UsageError, match="is not installed"):
        verify(bundle)
    monkeypatch.setenv(INTERPRETER, sys.executable)
    with pytest.raises(UsageError, match="has no akida"):
        verify(bundle)
    (bundle / "layers.npz").write_bytes(b"damaged")
    with pytest.raises(ArtefactError, match=r"layers\.npz altered"):
        verify(bundle)


@pytest.mark.skipif(INTERPRETER not in os.environ, reason=f"{INTERPRETER} names no Python with akida")
@pytest.mark.parametrize("timesteps", [4, 15, 100])
def test_akida_agrees(timesteps: int, tmp_path: Path) -> None:
    graph = network(6, timesteps=timesteps)
    bundle = deploy(Artefact(graph), Akida(), tmp_path / "bundle", accept_semantics=True).directory
    verdict = verify(bundle).verdict
    assert verdict is not None
    assert (verdict.rows, verdict.wrong) == (8, 0)
