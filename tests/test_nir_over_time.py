"""Networks over time written as NIR files: what is read again does the same."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.artefact import Artefact
from snnc.backends import load_backend
from snnc.backends.deployment import deploy, verify
from snnc.backends.nir.over_time import write_network
from snnc.backends.nir.profiles import PROFILES
from snnc.cli import main
from snnc.compiler.importing import import_nir
from snnc.errors import TargetError
from snnc.frontend.nir import Convention, lowered, read_nir
from snnc.ir.snn import Encode, IntegrateFire, Presented, Readout, SnnGraph
from snnc.numerics.quantisation import quantise_all
from tests.nir_files import (
    EXPORTERS,
    HIDDEN,
    STEPS,
    SnnTorch,
    SpikingJelly,
    dense,
    frames,
    trains,
    vector,
    write,
)

nir = pytest.importorskip("nir")


def again(graph: SnnGraph, convention: dict[str, Any], path: Path) -> SnnGraph:
    """Write a network and read it."""
    write_network(graph, PROFILES[convention["exporter"]], path)
    return lowered(read_nir(path), Convention.chosen(**convention), graph.timesteps)


@pytest.mark.parametrize("name", EXPORTERS)
def test_what_exporters_write_comes_back(tmp_path: Path, name: str) -> None:
    convention, node, _ = EXPORTERS[name]
    path = dense(tmp_path / "a.nir", node, bias="synaptic" not in name)
    graph = lowered(read_nir(path), Convention.chosen(**convention), STEPS)
    back = again(graph, convention, tmp_path / "b.nir")
    x = frames()
    expected, found = trains(graph, x), trains(back, x)
    assert expected.keys() == found.keys()
    for population, train in expected.items():
        assert train.any()
        assert (found[population] == train).mean() >= 0.999
    nir.read(tmp_path / "b.nir")
    whole = quantise_all(graph)
    backwards = trains(again(whole, convention, tmp_path / "c.nir"), x)
    for population, train in trains(whole, x).items():
        assert (backwards[population] == train).mean() > 0.99


def test_convolutions_pooling_delays_and_circles(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kernel = rng.normal(0.2, 0.4, (3, 2, 3, 3)).astype(np.float32)
    last, own = rng.normal(0, 1, (4, 27)).astype(np.float32), rng.normal(0, 0.4, (4, 4)).astype(np.float32)
    nodes = {
        "input": nir.Input(np.array([2, 6, 6])),
        "conv": nir.Conv2d((6, 6), kernel, 1, 1, 1, 1, rng.normal(0, 0.1, 3).astype(np.float32)),
        "lif": nir.LIF(*(np.full((3, 6, 6), v, np.float32) for v in (2e-4, 1, 0, 1, 0))),
        "pool": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "flat": nir.Flatten({"input": np.array([3, 3, 3])}, 0, -1),
        "late": nir.Delay(vector(2e-4, 27)),
        "fc": nir.Affine(last, vector(0.1, 4)),
        "end": SpikingJelly.node(4),
        "own": nir.Linear(own),
        "fc2": nir.Linear(own),
        "li": nir.LI(vector(4e-4, 4), vector(1, 4), vector(0, 4)),
        "output": nir.Output(np.array([4])),
    }
    names = ["input", "conv", "lif", "pool", "flat", "late", "fc", "end", "fc2", "li", "output"]
    edges = [*pairwise(names), ("end", "own"), ("own", "end")]
    convention: dict[str, Any] = {"exporter": "spikingjelly"}
    # A delay is written behind the population, so it comes before the pooling.
    path = write(tmp_path / "a.nir", nodes, edges)
    graph = lowered(read_nir(path), Convention.chosen(**convention), STEPS)
    back = again(graph, convention, tmp_path / "b.nir")
    x = frames(3, (2, 6, 6))
    for population, train in trains(graph, x).items():
        assert train.any()
        assert np.array_equal(trains(back, x)[population], train)
    assert isinstance(back[back.output], Readout)
    assert np.allclose(np.asarray(back.readout.decay), np.asarray(graph.readout.decay), atol=1e-6)


def test_a_recurrent_neuron_of_snntorch_that_is_set_to_zero(tmp_path: Path) -> None:
    """Its reset comes a step late, and takes with it what arrives then."""
    nodes = {
        "input": nir.Input(np.array([4])),
        "lif": SnnTorch.node(4),
        "own": nir.Linear(np.full((4, 4), 0.3, np.float32)),
        "output": nir.Output(np.array([4])),
    }
    edges = [("input", "lif"), ("lif", "own"), ("own", "lif"), ("lif", "output")]
    convention: dict[str, Any] = {"exporter": "snntorch", "reset": "value"}
    path = write(tmp_path / "a.nir", nodes, edges)
    graph = lowered(read_nir(path), Convention.chosen(**convention), STEPS)
    assert [node.refractory for node in graph.of_type(IntegrateFire)] == [1]
    x, beta = frames(3, (4,)), np.float32(0.9)
    mem, spikes = np.zeros((3, 4), np.float32), np.zeros((3, 4), np.float32)
    expected = []
    for t in range(STEPS):
        lost = mem > 1
        mem = np.where(lost, 0, beta * mem + x[:, t] + spikes @ np.full((4, 4), 0.3, np.float32)).astype(
            np.float32
        )
        spikes = (mem > 1).astype(np.float32)
        expected.append(spikes)
    found = trains(graph, x)["lif"]
    assert found.any()
    assert (found == np.stack(expected)).mean() >= 0.999
    back = trains(again(graph, convention, tmp_path / "b.nir"), x)["lif"]
    assert np.array_equal(back, found)


def test_signals(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).normal(0.3, 0.4, (3, 2, 3)).astype(np.float32)
    nodes = {
        "input": nir.Input(np.array([2, 8])),
        "conv": nir.Conv1d(8, kernel, 1, 1, 1, 1, vector(0.1, 3)),
        "lif": nir.LIF(*(np.full((3, 8), v, np.float32) for v in (2e-4, 1, 0, 1, 0))),
        "output": nir.Output(np.array([3, 8])),
    }
    convention: dict[str, Any] = {"exporter": "spikingjelly"}
    path = write(tmp_path / "a.nir", nodes)
    graph = lowered(read_nir(path), Convention.chosen(**convention), STEPS)
    x = frames(3, (2, 8))
    found = trains(again(graph, convention, tmp_path / "b.nir"), x)
    assert np.array_equal(found["lif"], trains(graph, x)["lif"])


def imported(tmp_path: Path, name: str = "spikingjelly LIF") -> Artefact:
    convention, node, _ = EXPORTERS[name]
    path = dense(tmp_path / "a.nir", node, bias="synaptic" not in name)
    return import_nir(path, frames(), Convention.chosen(**convention)).artefact


@pytest.mark.parametrize("name", ["snntorch subtract", "snntorch zero", "spikingjelly LIF", "sinabs IF"])
def test_a_bundle(tmp_path: Path, name: str) -> None:
    artefact = imported(tmp_path, name)
    backend = load_backend("nir", name.split()[0])
    with pytest.raises(TargetError, match="float32"):
        deploy(artefact, backend, tmp_path / "bundle", rows=frames(3))
    deploy(artefact, backend, tmp_path / "bundle", rows=frames(3), accept_semantics=True)
    verdict = verify(tmp_path / "bundle").verdict
    assert verdict is not None
    assert verdict.rows == 3
    assert not verdict.wrong
    assert "frame" in (tmp_path / "bundle" / "README.md").read_text()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, rows, out = tmp_path / "a.nir", tmp_path / "x.npy", tmp_path / "a.snn.onnx"
    dense(path, SpikingJelly.node)
    np.save(rows, frames(4))
    given = ["--calib", str(rows), "--exporter", "spikingjelly", "-o", str(out), "--threads", "1"]
    assert main(["convert", str(path), *given]) == 0
    bundle = str(tmp_path / "bundle")
    told = ["--target", "nir", "--profile", "spikingjelly", "-o", bundle, "--golden", str(rows)]
    assert main(["deploy", str(out), *told]) == 6
    assert main(["deploy", str(out), *told, "--accept-semantics"]) == 0
    assert "the same class for" in capsys.readouterr().out
    assert main(["verify", bundle]) == 0


@pytest.mark.parametrize(
    ("profile", "changes", "reason"),
    [
        ("sinabs", {}, "a spike does not set the potential of sinabs's neurons"),
        ("snntorch", {"reset_to": None}, "takes another amount from the potential"),
        ("norse", {"reset_to": None}, "takes nothing from it"),
        ("norse", {"refractory": 2}, "do not rest for 2 steps"),
        ("norse", {"synapse_decay": np.full(HIDDEN, 9, np.int32)}, "no such synaptic filter"),
        ("spikingjelly", {"v_init": np.ones(HIDDEN, np.int32)}, "potentials of spikingjelly start at zero"),
    ],
)
def test_what_consumers_do_otherwise(
    tmp_path: Path, profile: str, changes: dict[str, Any], reason: str
) -> None:
    graph = imported(tmp_path).graph
    node = graph["hidden"]
    assert isinstance(node, IntegrateFire)
    found = load_backend("nir", profile).check(graph.replacing({"hidden": node.with_(**changes)}))
    assert any(reason in each.reason for each in found)


def test_what_nir_has_no_word_for(tmp_path: Path) -> None:
    graph = imported(tmp_path).graph
    summed = graph.map(Encode, lambda node: node.with_(presented=Presented.ACCUMULATED))
    found = load_backend("nir", "spikingjelly").check(summed)
    assert any("no sequence of frames" in each.reason for each in found)
