"""Local plasticity: changes computed by hand, and the cycle of its epochs."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from snnc.ir import snn
from snnc.ir.geometry import Window
from snnc.numerics.quantisation import quantise_all
from snnc.simulation.reference import encode_all
from tests.ann_graphs import residual_network

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed (extra snnc[train])", allow_module_level=True)

import torch

from snnc.training.plasticity import by_gradient, change, locally, traces
from snnc.training.temporal import TemporalNetwork
from tests.test_training_networks import FRONT, given_rows, spiking, tensors


def linear(weight: float) -> snn.Linear:
    return snn.Linear(name="w", inputs=("x",), shape=(1,), weight=np.array([[weight]], np.float32))


def test_traces_decay() -> None:
    spikes = torch.tensor([1.0, 0.0, 1.0]).reshape(3, 1, 1)
    assert traces(spikes, 2.0).flatten().tolist() == [1.0, 0.5, 1.25]


def test_a_change_is_that_computed_by_hand() -> None:
    """pre = 1, 0; post = 0, 1: p = 1, 0.5; q = 0, 1; the mean of p post - q pre is 0.25; w = 0.5 gives 0.125.

    The other way round p = 0, 1; q = 1, 0.99: (0 - 0.99) / 2 times w is -0.2475.
    """
    first, second = (torch.tensor(v).reshape(2, 1, 1) for v in ([1.0, 0.0], [0.0, 1.0]))
    weight = torch.tensor([[0.5]])
    assert change(linear(0.5), weight, first, second).item() == pytest.approx(0.125)
    assert change(linear(0.5), weight, second, first).item() == pytest.approx(-0.2475)


def test_a_convolution_is_a_dense_layer_at_every_place() -> None:
    generator = torch.Generator().manual_seed(0)
    window = Window((3, 2), (2, 1), (1, 0, 0, 1))
    node = snn.Convolution(
        name="c", inputs=("x",), shape=(4, 3, 5), weight=np.zeros((4, 2, 3, 2), np.float32), window=window
    )
    pre = torch.randint(0, 2, (3, 2, 2, 6, 5), generator=generator).float()
    weight = torch.rand(4, 2, 3, 2, generator=generator) - 0.5
    post = torch.randint(0, 2, (3, 2, 4, 3, 5), generator=generator).float()
    found = change(node, weight, pre, post)
    image = torch.nn.functional.pad(pre.flatten(0, 1), (0, 1, 1, 0))
    patches = torch.nn.functional.unfold(image, (3, 2), stride=(2, 1)).reshape(3, 2, 12, 15)
    places = [
        change(linear(0), weight.reshape(4, 12), patches[..., k], post.reshape(3, 2, 4, 15)[..., k])
        for k in range(15)
    ]
    torch.testing.assert_close(found, torch.stack(places).mean(dim=0).reshape(4, 2, 3, 2))


def test_epochs_alternate_with_a_period_of_six() -> None:
    kinds = ["".join(("g" * by_gradient(epoch), "l" * locally(epoch))) for epoch in range(7)]
    assert kinds == ["g", "g", "l", "g", "g", "gl", "g"]


def test_local_learning_changes_weights_in_front_of_populations_alone() -> None:
    graph = spiking(3, f"{FRONT},lower,dual-threshold,init-membrane")
    network = TemporalNetwork(graph, "cycles")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    weights = [each.node for each in network.learned if each.role == "weights"]
    largest = {name: network.value(graph[name], "weight").abs().max().item() for name in weights}
    q = encode_all(quantise_all(graph), given_rows(residual_network(5), 10))
    network.learn_locally(tensors(graph, q), 0.1)
    changed = {e.node for e in network.learned if not torch.equal(e.tensor, _was(network, before, e.tensor))}
    behind = {
        node.name
        for node in graph
        if isinstance(node, snn.Convolution | snn.Linear)
        and isinstance(graph.consumers[node.name][0], snn.IntegrateFire)
    }
    assert changed
    assert changed <= behind
    for name in weights:
        assert network.value(graph[name], "weight").abs().max().item() <= largest[name] * (1 + 1e-6)


def _was(network: TemporalNetwork, before: dict[str, torch.Tensor], now: torch.Tensor) -> torch.Tensor:
    return before[next(name for name, each in network.named_parameters() if each is now)]
