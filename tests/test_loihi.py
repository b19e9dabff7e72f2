"""The target `loihi`: what it refuses, that its chain of layers is the network, and what its file says."""

from __future__ import annotations

import ast
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.artefact import Artefact
from snnc.backends.chain import Layer, chain
from snnc.backends.deployment import deploy, verify
from snnc.backends.loihi import Loihi
from snnc.backends.loihi.backend import INTERPRETER, SOURCE
from snnc.backends.loihi.limits import mantissas, problems, without_mantissa
from snnc.backends.manifest import read
from snnc.errors import TargetError, UsageError
from snnc.ir.geometry import Window
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import Convolution, Encode, IntegrateFire, Linear, Reshape, SnnGraph, SnnNode
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests.chains import Chain
from tests.spiking_graphs import random_graph, random_inputs

NEURONS = (Neuron(), Neuron(spikes_per_step=2), Neuron(spikes_per_step=None), Neuron(count_memory=False))


def chained(seed: int = 0, neuron: Neuron = NEURONS[0]) -> SnnGraph:
    """Return a network with every arrangement that becomes a layer."""
    network = Chain(seed, (2, 17, 12), neuron)
    network.convolution(4, Window((3, 3), (1, 1), (1, 1, 1, 1)))
    network.fire(20_000)
    network.convolution(6, Window((3, 2), (2, 2), (0, 1, 1, 0), (2, 1)), groups=2)
    network.fire(500)
    network.pool(Window((2, 2), (2, 2)))
    network.convolution(5, Window((2, 2), (1, 1)))
    network.fire(600)
    network.pool(Window((2, 2), (1, 1), (0, 1, 0, 0)))
    network.flat()
    network.linear(7)
    return network.graph()


def small(graph: SnnGraph) -> SnnGraph:
    """Return the network with weights that stay in 8 bits where windows overlap."""
    return graph.with_nodes([n.with_(weight=n.weight // 4) if isinstance(n, Linear) else n for n in graph])


def rebuilt(graph: SnnGraph, layers: tuple[Layer, ...]) -> SnnGraph:
    """Return the network of a chain of layers."""
    nodes: list[SnnNode] = [graph.nodes[0]]
    for index, layer in enumerate(layers):
        source, weight, name = nodes[-1], layer.weight.astype(np.int8), f"layer_{index}"
        if layer.window is None and len(source.shape) > 1:
            size = int(np.prod(source.shape))
            nodes.append(Reshape(name=f"flat_{index}", inputs=(source.name,), shape=(size,)))
        read, shape = (nodes[-1].name,), layer.synapse.shape
        if layer.window is None:
            nodes.append(Linear(name=name, inputs=read, shape=shape, weight=weight))
        else:
            nodes.append(
                Convolution(
                    name=name,
                    inputs=read,
                    shape=shape,
                    weight=weight,
                    window=layer.window,
                    groups=layer.groups,
                )
            )
        nodes.append(layer.neurons.with_(inputs=(name,)))
    found = replace(graph, nodes=tuple(nodes))
    found.verify()
    return found


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_the_chain_is_the_network(neuron: Neuron) -> None:
    graph = small(chained(3, neuron))
    layers, found = chain(graph)
    assert found == ()
    assert [layer.window is None for layer in layers] == [False, False, False, True]
    for layer in layers:
        assert layer.window is None or layer.window.pads[:2] == layer.window.pads[2:]
    q = random_inputs(graph, 12, 1)
    expected = ReferenceSimulator().run(graph, q, 4, RecordOptions(states=True))
    trace = ReferenceSimulator().run(rebuilt(graph, layers), q, 4, RecordOptions(states=True))
    np.testing.assert_array_equal(trace.logits, expected.logits)
    assert len(np.unique(expected.logits, axis=0)) > 8
    for name, counts in expected.counts.items():
        np.testing.assert_array_equal(trace.counts[name], counts)
        np.testing.assert_array_equal(trace.potentials[name], expected.potentials[name])
        assert counts.any(), "silence shows nothing"


def test_what_is_no_chain_is_refused_with_all_nodes() -> None:
    seen = set()
    for seed in range(12):
        graph = random_graph(seed, schedule=Schedule.LAYERWISE)
        layers, found = chain(graph)
        assert bool(layers) != bool(found)
        for item in found:
            assert item.reason
            assert item.help
            assert item.node in {node.name for node in graph}
            seen.add(item.reason.split()[0])
        reasons = [item.reason for item in Loihi().check(graph)]
        assert any("layerwise" in reason for reason in reasons)
    assert {"sums", "is", "CountMaxPool", "ChannelWeight"} <= seen


def test_windows_that_overlap_may_need_more_than_eight_bits() -> None:
    (problem,) = Loihi().check(chained(3))
    assert "beyond 8 bits" in problem.reason
    assert Loihi().check(small(chained(3))) == ()


def test_padded_sums_over_a_rest_are_refused() -> None:
    network = Chain(1, (2, 5, 5), Neuron())
    network.convolution(3, Window((1, 1)))
    network.fire(9000)
    network.pool(Window((2, 2), (2, 2)))
    network.convolution(3, Window((3, 3), (1, 1), (1, 1, 1, 1)))
    network.fire(900)
    network.flat()
    network.linear(3)
    (problem,) = Loihi().check(network.graph())
    assert "leave a rest" in problem.reason


def test_numbers_that_the_chip_does_not_hold_are_refused_with_a_cure() -> None:
    graph = small(chained())
    first = graph.of_type(IntegrateFire)[0]
    raised = first.with_(threshold=first.threshold + 200_001)
    wide = graph.with_nodes([raised if node is first else node for node in graph])
    (problem,) = problems(wide)
    assert "no mantissa" in problem.reason
    assert "lower.input-limit=" in problem.help
    loud = graph.with_nodes(
        [n.with_(weight=np.full_like(n.weight, 127)) if isinstance(n, Convolution) else n for n in graph]
    )
    louder = loud.with_nodes([n.with_(limit=2047) if isinstance(n, Encode) else n for n in loud])
    (problem,) = problems(replace(louder, timesteps=8))
    assert "beyond the 24 bits" in problem.reason
    limit = int(problem.help.rpartition("=")[2])
    quiet = loud.with_nodes([n.with_(limit=limit) if isinstance(n, Encode) else n for n in loud])
    assert problems(replace(quiet, timesteps=8)) == ()


@given(st.lists(st.integers(1, 2**23 - 1), min_size=1, max_size=20))
def test_mantissas_give_back_what_they_can(values: list[int]) -> None:
    array = np.array(values, np.int64)
    mantissa, exponent = mantissas(array)
    assert (mantissa < 2**17).all()
    assert ((exponent >= 0) & (exponent < 8)).all()
    exact = array[mantissa << exponent == array]
    assert set(exact) | set(without_mantissa(array)) == set(array)
    assert all(value % 2 ** max(0, int(value).bit_length() - 17) != 0 for value in without_mantissa(array))


def test_the_file_holds_integers_in_the_exchange_format(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    graph = small(chained(5, Neuron(spikes_per_step=2)))
    bundle = deploy(Artefact(graph), Loihi(), tmp_path / "bundle").directory
    layers, _ = chain(graph)
    with h5py.File(bundle / "network.net") as file:
        kinds = [file[f"layer/{i}/type"][()].decode() for i in range(len(file["layer"]))]
        assert kinds == ["input", "conv", "conv", "conv", "flatten", "dense"]
        assert file["layer/0/shape"][()].tolist() == [2, 17, 12]
        entries = [file[f"layer/{i}"] for i in (1, 2, 3, 5)]
        for layer, entry in zip(layers, entries, strict=True):
            np.testing.assert_array_equal(entry["weight"], layer.weight)
            assert entry["weight"].dtype.kind == "i"
            if isinstance(layer.neurons, IntegrateFire):
                neuron = entry["neuron"]
                thresholds = neuron["vThMant"][()] << neuron["vThExp"][()]
                np.testing.assert_array_equal(thresholds, layer.neurons.threshold)
                assert (neuron["limit"][()], neuron["messageBits"][()]) == (2, 3)
    fit = read(bundle)["facts"]["fit"]
    assert fit["neurons"] == sum(int(np.prod(layer.neurons.shape)) for layer in layers)
    assert fit["cores_at_least"] == 4
    assert fit["fits_one_chip"]
    assert fit["largest_fan_in"] <= max(layer.weight[0].size for layer in layers)


def test_a_network_that_does_not_fit_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="does not fit loihi"):
        deploy(Artefact(random_graph(2)), Loihi(), tmp_path / "bundle")
    assert not any(tmp_path.iterdir())


def test_unknown_profiles_are_refused() -> None:
    with pytest.raises(UsageError, match="soft-reset"):
        Loihi("hard")


def test_the_shipped_program_is_python_3_10() -> None:
    ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 10))


def test_without_lava_verify_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed")
    bundle = deploy(Artefact(small(chained())), Loihi(), tmp_path / "bundle").directory
    monkeypatch.setenv(INTERPRETER, str(tmp_path / "none"))
    with pytest.raises(UsageError, match="is not installed"):
        verify(bundle)
    monkeypatch.setenv(INTERPRETER, sys.executable)
    with pytest.raises(UsageError, match="has no lava"):
        verify(bundle)
    assert verify(bundle, run=False).verdict is None


@pytest.mark.skipif(INTERPRETER not in os.environ, reason=f"{INTERPRETER} names no Python with lava")
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_lava_agrees(neuron: Neuron, tmp_path: Path) -> None:
    bundle = deploy(Artefact(small(chained(7, neuron))), Loihi(), tmp_path / "bundle").directory
    verdict = verify(bundle).verdict
    assert verdict is not None
    assert (verdict.rows, verdict.wrong) == (8, 0)
    assert shutil.which(os.environ[INTERPRETER])
