"""Networks that run through their steps: the reference's integers forward, hand-computed gradients back."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.compiler import Options
from snnc.errors import UsageError
from snnc.ir import snn
from snnc.ir.neuron import Neuron
from snnc.numerics.quantisation import quantise_all
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator, encode_all
from tests.tuned_networks import Material, network

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed (extra snnc[train])", allow_module_level=True)

import torch

from snnc.training import fused_spikes
from snnc.training.temporal import METHODS, TemporalNetwork, triangles
from snnc.training.tuning import tune
from tests.ann_graphs import residual_network
from tests.test_training_networks import FRONT, given_rows, spiking, tensors

PASSES = {
    "binary": f"{FRONT},lower{{signed=false}},init-membrane",
    "signed": f"{FRONT},lower,dual-threshold,init-membrane",
    "hesitant": f"{FRONT},lower,dual-threshold{{negative=0.5}},init-membrane",
    "two a step": f"{FRONT},lower,dual-threshold{{spikes-per-step=2}},init-membrane",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("timesteps", [1, 3])
@pytest.mark.parametrize("passes", PASSES)
def test_counts_and_answers_are_those_of_the_reference(passes: str, timesteps: int, method: str) -> None:
    graph = spiking(timesteps, PASSES[passes])
    found = TemporalNetwork(graph, method)
    integers = quantise_all(graph)
    q = encode_all(integers, given_rows(residual_network(5), 20))
    trace = ReferenceSimulator().run(integers, q, timesteps, RecordOptions(states=True))
    run = found(tensors(graph, q), exact=True)
    for node in integers.of_type(snn.IntegrateFire):
        np.testing.assert_array_equal(run.counts[node.name].detach().numpy(), trace.counts[node.name])
    ((name, output),) = trace.outputs.items()
    np.testing.assert_allclose(
        run.outputs[name].detach().numpy(),
        integers.readouts[name].decoded(output, timesteps),
        rtol=1e-5,
        atol=1e-6,
    )


def single(neuron: Neuron, timesteps: int = 2) -> snn.SnnGraph:
    """One input of weight 0.06 on a neuron with the threshold 0.1, and a read-out."""
    encode = snn.Encode(name="x", shape=(1,), scale=1.0, limit=1)
    one = np.ones(1, np.float32)
    nodes = (
        encode,
        snn.Linear(name="w", inputs=("x",), shape=(1,), weight=np.array([[0.06]], np.float32)),
        snn.IntegrateFire(
            name="n",
            inputs=("w",),
            shape=(1,),
            threshold=one * np.float32(0.1),
            bias=one * 0,
            v_init=one * 0,
            spike_scale=one,
            neuron=neuron,
        ),
        snn.Linear(name="r", inputs=("n",), shape=(1,), weight=np.ones((1, 1), np.float32)),
        snn.Readout(name="y", inputs=("r",), shape=(1,), bias=one * 0, scale=1.0),
    )
    return snn.SnnGraph(name="one", nodes=nodes, outputs=("y",), output_names=("y",), timesteps=timesteps)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_of_one_neuron_are_those_computed_by_hand(method: str) -> None:
    """A constant input of 0.6 thresholds: z = 0.6, 1.2; h = 0.6, 0.8; kappa = 1, 1.4: d sum s / dx = 1.72."""
    found = TemporalNetwork(single(Neuron(count_memory=False)), method)
    run = found({"x": torch.ones(1, 1)}, keep=())
    assert run.counts["n"].item() == 1
    (gradient,) = torch.autograd.grad(run.counts["n"].sum(), [found.parameter(found.source["w"], "weight")])
    unit = 0.0625  # of the weight, a power of two
    assert gradient.item() / unit == pytest.approx(1.72 / 0.1, rel=0.02)  # in units of the threshold


def test_slopes_are_triangles_around_the_thresholds_that_can_be_reached() -> None:
    z = torch.tensor([-0.5, 0.5, 1.0, 1.75, 2.0, 2.5])
    low, high = torch.zeros(6), torch.ones(6)
    assert triangles(z, low, high).tolist() == [0, 0.5, 1, 0.25, 0, 0]
    assert triangles(z, low - 1, high).tolist() == [0.5, 1, 1, 0.25, 0, 0]
    assert triangles(z, low, low).tolist() == [0] * 6


def gradients(graph: snn.SnnGraph, method: str) -> torch.Tensor:
    network_ = TemporalNetwork(graph, method)
    q = encode_all(quantise_all(graph), given_rows(residual_network(5), 40))
    run = network_(tensors(graph, q))
    (scores,) = run.outputs.values()
    loss = torch.nn.functional.cross_entropy(scores, torch.arange(len(scores)) % scores.shape[1])
    wanted = [each.tensor for each in network_.learned if each.role == "weights"]
    return torch.cat([each.flatten() for each in torch.autograd.grad(loss, wanted)])


@pytest.mark.parametrize("passes", ["binary", "signed"])
@pytest.mark.parametrize("timesteps", [2, 4])
def test_rates_point_where_all_steps_do(timesteps: int, passes: str) -> None:
    graph = spiking(timesteps, PASSES[passes])
    one, other = (gradients(graph, method) for method in ("rate", "bptt"))
    assert torch.nn.functional.cosine_similarity(one, other, dim=0).item() > 0.9


@pytest.mark.parametrize("timesteps", [1, 2, 5])
@pytest.mark.parametrize("passes", PASSES)
def test_spikes_in_one_pass_over_memory_are_the_same(
    passes: str, timesteps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, as those of one operation after the other."""
    graph = spiking(timesteps, PASSES[passes])
    network_ = TemporalNetwork(graph, "rate")
    random = torch.Generator().manual_seed(timesteps)
    for node in graph.of_type(snn.IntegrateFire):
        theta, _, start, _ = network_.population(node, exact=False)
        shape = (timesteps, 6, *node.shape)
        current = torch.round(2 * theta * torch.randn(shape, generator=random)).detach()
        assert not fused_spikes.usable(current)
        current = current.movedim(2, -1).contiguous().movedim(-1, 2)
        assert fused_spikes.usable(current)
        with torch.no_grad():
            whole = network_.sent(node, current, theta, start)
            monkeypatch.setattr(fused_spikes, "usable", lambda current: False)
            parts = network_.sent(node, current, theta, start)
            monkeypatch.undo()
        assert whole[0].any()
        for one, other in zip(whole, parts, strict=True):
            assert torch.equal(one, other)


def test_with_one_step_both_are_the_same() -> None:
    one, other = (gradients(spiking(1, PASSES["binary"]), method) for method in ("rate", "bptt"))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_numerical_gradient_of_the_read_out() -> None:
    """Behind the last spikes everything is linear: the surrogate has no part in it."""
    graph = spiking(3, PASSES["signed"])
    network_ = TemporalNetwork(graph, "bptt")
    q = encode_all(quantise_all(graph), given_rows(residual_network(5), 8))
    last = next(node for node in reversed(graph.nodes) if isinstance(node, snn.Linear))
    ((_, values),) = network_(tensors(graph, q)).outputs.items()
    weight = network_.parameter(last, "weight")
    size = (network_.value(last, "weight") / weight).detach()
    (found,) = torch.autograd.grad(values.sum(), [weight])
    gradient = found / size
    integers = network_.integers[last.name, "weight"]
    before = integers.integers.clone()
    integers.integers[0, 0] += 1
    ((_, moved),) = network_(tensors(graph, q)).outputs.items()
    integers.integers.copy_(before)
    unit = float(integers.unit.flatten()[0])
    assert (moved.sum() - values.sum()).item() / unit == pytest.approx(
        gradient[0, 0].item(), rel=1e-3, abs=1e-3
    )


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    from snnc.frontend import read_onnx
    from snnc.simulation.ann_reference import run_ann

    path = network(tmp_path_factory.mktemp("finish"))
    x = np.random.default_rng(0).standard_normal((160, 1, 6, 6)).astype(np.float32)
    answers, _ = run_ann(read_onnx(path).graph, x)
    return Material(path, x, answers.argmax(axis=1))


def run(material: Material, **changes: Any) -> Any:
    given: dict[str, Any] = {"epochs": 4, "batch": 32, "held_back": 0.25, "rate": 1e-2, "timesteps": 2}
    given |= {"rounded": 0.5, "options": Options(preset="binary-only", threads=1), **changes}
    return tune(material.path, material.x, material.y, **given)


@pytest.mark.parametrize("method", METHODS)
def test_tune_finishes_networks_of_one_spike_a_step(method: str, material: Material) -> None:
    found = run(material, finish=method)
    kept = found.results[2]
    assert kept.tuned is not None
    assert kept.equal_rows == 40
    assert {line["stage"] for line in kept.history} == {"T = 2, levels", f"T = 2, {method}"}
    assert kept.is_tuned
    payloads = {node.neuron.payload for node in found.artefact.graph.of_type(snn.IntegrateFire)}
    assert payloads == {"binary"}


def test_finishes_that_make_no_sense(material: Material, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="finish 'tssl' is unknown; known: rate, bptt, cycles"):
        run(material, finish="tssl")
    with pytest.raises(UsageError, match="--finish rate is for spikes whose order matters"):
        run(material, finish="rate", options=Options(threads=1))
    with pytest.raises(UsageError, match="or train through the steps, by --finish rate"):
        run(material)
    with pytest.raises(UsageError, match="'stdp' is unknown"):
        TemporalNetwork(single(Neuron()), "stdp")
