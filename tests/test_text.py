"""The text form of both dialects."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.ir import ann, snn
from snnc.ir.geometry import Window
from snnc.ir.text import print_graph, print_node
from tests.goldens import check_golden
from tests.spiking_graphs import random_graph


@pytest.mark.parametrize("seed", [1, 5])
def test_spiking_networks(seed: int) -> None:
    check_golden(f"text_spiking_{seed}", print_graph(random_graph(seed)))


def test_an_ordinary_network() -> None:
    rise = np.linspace(-1, 1, 36, dtype=np.float32)
    window = Window((3, 3), (2, 2), (1, 1, 1, 1))
    nodes = (
        ann.Input(name="x", shape=(1, 8, 8)),
        ann.Convolution(
            name="conv",
            inputs=("x",),
            shape=(4, 4, 4),
            origin="/conv/Conv",
            weight=rise.reshape(4, 1, 3, 3),
            bias=np.zeros(4, np.float32),
            window=window,
        ),
        ann.Relu(name="relu 1", inputs=("conv",), shape=(4, 4, 4), threshold=np.full(4, 2.5, np.float32)),
        ann.Reshape(name="flat", inputs=("relu 1",), shape=(64,)),
        ann.Softmax(name="softmax", inputs=("flat",), shape=(64,), logarithm=True),
    )
    graph = ann.AnnGraph(name="tiny", nodes=nodes, output="softmax")
    graph.verify()
    check_golden("text_ann", print_graph(graph))


def test_the_last_bits_of_a_float_do_not_show() -> None:
    node = snn.Encode(name="x", shape=(3,), scale=0.1)
    assert print_node(node) == print_node(node.with_(scale=float(np.float32(0.1))))


def test_what_differs_shows() -> None:
    node = random_graph(5).of_type(snn.IntegrateFire)[0]
    others = (
        node.with_(neuron=snn.Neuron(levels=3, code=snn.Code.BINARY)),
        node.with_(threshold=node.threshold + 1000),
        node.with_(origin="/elsewhere"),
        node.with_(inputs=("y",)),
        node.with_(negative_threshold=np.ones_like(node.threshold), neuron=snn.Neuron()),
    )
    assert len({print_node(other) for other in (node, *others)}) == len(others) + 1
