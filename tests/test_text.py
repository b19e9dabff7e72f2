"""The text form of both dialects."""

from __future__ import annotations

import numpy as np
from hypothesis import given

from snnc.ir import ann, snn
from snnc.ir.geometry import Window
from snnc.ir.graph import NumberArray, Shape
from snnc.ir.neuron import Code, Neuron
from snnc.ir.text import print_graph, print_node
from tests.goldens import check_golden
from tests.spiking_graphs import graphs


def small() -> snn.SnnGraph:
    """Return a spiking network with a residual sum, pools of every kind and two kinds of neurons."""
    random = np.random.default_rng(0)

    def weights(*shape: int) -> NumberArray:
        return random.integers(-127, 128, shape).astype(np.int8)

    def population(name: str, inputs: tuple[str, ...], shape: Shape, neuron: Neuron) -> snn.IntegrateFire:
        n = shape[0]
        threshold = random.integers(100, 900, n).astype(np.int32)
        bias = random.integers(-50, 50, n).astype(np.int32)
        unit = np.linspace(0.1, 0.9, n, dtype=np.float32)
        return snn.IntegrateFire(
            name=name,
            inputs=inputs,
            shape=shape,
            origin=f"/layer/{name}",
            threshold=threshold,
            bias=bias,
            v_init=threshold // 2,
            spike_scale=unit,
            neuron=neuron,
        )

    same, halve = Window((3, 3), pads=(1, 1, 1, 1)), Window((2, 2), (2, 2))
    graded = Neuron(levels=3, spikes_per_step=None, code=Code.BINARY)
    nodes: tuple[snn.SnnNode, ...] = (
        snn.Encode(name="x", shape=(1, 8, 8), scale=0.01),
        snn.Convolution(name="c1", inputs=("x",), shape=(4, 8, 8), weight=weights(4, 1, 3, 3), window=same),
        snn.CurrentMaxPool(name="m1", inputs=("c1",), shape=(4, 4, 4), window=halve),
        population("p1", ("m1",), (4, 4, 4), Neuron()),
        snn.Convolution(
            name="c2", inputs=("p1",), shape=(4, 4, 4), weight=weights(4, 2, 3, 3), window=same, groups=2
        ),
        snn.ChannelWeight(name="id", inputs=("p1",), shape=(4, 4, 4), weight=weights(4).astype(np.int16)),
        population("p2", ("c2", "id"), (4, 4, 4), graded),
        snn.CountMaxPool(name="m2", inputs=("p2",), shape=(4, 2, 2), window=halve),
        snn.Concat(name="both", inputs=("m2", "m2"), shape=(8, 2, 2)),
        snn.SumPool(name="mean", inputs=("both",), shape=(8, 1, 1), window=halve),
        snn.Reshape(name="flat", inputs=("mean",), shape=(8,)),
        snn.Linear(name="fc", inputs=("flat",), shape=(3,), weight=weights(3, 8)),
        snn.Readout(name="y", inputs=("fc",), shape=(3,), bias=np.array([1, -2, 3], np.int32), scale=0.02),
    )
    graph = snn.SnnGraph(
        name="small", nodes=nodes, outputs=("y",), timesteps=4, settle_steps=1, max_timesteps=64
    )
    graph.verify()
    return graph


def test_a_spiking_network() -> None:
    check_golden("text_snn", print_graph(small()))


@given(graphs())
def test_every_operation_has_its_line(graph: snn.SnnGraph) -> None:
    heading, *lines, last = print_graph(graph).split("\n")
    assert f"T = {graph.timesteps}, K = {graph.settle_steps}, {graph.schedule.value}" in heading
    assert [line.partition(":")[0] for line in lines] == [node.name for node in graph]
    assert last.startswith("return ")
    returned = [item.partition(" as ")[0] for item in last.removeprefix("return ").split(", ")]
    assert returned == list(graph.outputs)


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
    graph = ann.AnnGraph(name="tiny", nodes=nodes, outputs=("softmax",))
    graph.verify()
    check_golden("text_ann", print_graph(graph))


def test_the_last_bits_of_a_float_do_not_show() -> None:
    node = snn.Encode(name="x", shape=(3,), scale=0.1)
    assert print_node(node) == print_node(node.with_(scale=float(np.float32(0.1))))


def test_what_differs_shows() -> None:
    node = small().of_type(snn.IntegrateFire)[0]
    others = (
        node.with_(neuron=Neuron(levels=3, code=Code.BINARY)),
        node.with_(threshold=node.threshold + 1000),
        node.with_(origin="/elsewhere"),
        node.with_(inputs=("y",)),
        node.with_(negative_threshold=np.ones_like(node.threshold), neuron=Neuron()),
    )
    assert len({print_node(other) for other in (node, *others)}) == len(others) + 1
