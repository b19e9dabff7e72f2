"""What a spiking network must not be: every backend relies on it."""

from __future__ import annotations

import pytest

from snnc.errors import VerificationError
from snnc.ir.geometry import Window
from snnc.ir.snn import CountMaxPool, Encode, IntegrateFire, Readout, Reshape, Slice, SnnGraph, SnnNode
from tests.nir_networks import pooled
from tests.spiking_graphs import random_graph


def refused(nodes: list[SnnNode], output: str, match: str) -> None:
    graph = SnnGraph(name="wrong", nodes=tuple(nodes), output=output, timesteps=1)
    with pytest.raises(VerificationError, match=match):
        graph.verify()


@pytest.mark.parametrize(("start", "stop"), [((-2, 0), (4, 6)), ((2, 0), (-1, 6))])
def test_a_slice_counts_from_the_beginning(start: tuple[int, int], stop: tuple[int, int]) -> None:
    image = Encode(name="x", shape=(4, 6), scale=1.0)
    shape = tuple(len(range(n)[a:b]) for n, a, b in zip(image.shape, start, stop, strict=True))
    cut = Slice(name="cut", inputs=("x",), shape=shape, start=start, stop=stop, step=(1, 1))
    refused([image, cut], "cut", "does not fit the input")


@pytest.mark.parametrize(
    "window",
    [Window((1, 1), pads=(1, 1, 1, 1)), Window((2, 2), pads=(1, 1, 1, 1), dilations=(9, 9), strides=(8, 8))],
)
def test_every_maximum_is_of_something(window: Window) -> None:
    graph = pooled(of="populations")
    pool = graph.of_type(CountMaxPool)[0]
    shape = (pool.channels, *window.output_size(*graph[pool.inputs[0]].shape[1:]))
    before = graph.nodes[: graph.nodes.index(pool)]
    refused([*before, pool.with_(shape=shape, window=window)], "pool", "wholly in the padding")


def test_every_population_has_a_part_in_the_output() -> None:
    graph = random_graph(1, flat=True)
    population = graph.of_type(IntegrateFire)[0]
    with pytest.raises(VerificationError, match="'dead' has no part in the output"):
        graph.with_nodes([*graph.nodes[:-1], population.with_(name="dead"), graph.nodes[-1]]).verify()


def test_a_read_out_is_a_vector() -> None:
    graph = random_graph(1, flat=True)
    readout = graph.of_type(Readout)[0]
    shape = (*readout.shape, 1, 1)
    image = Reshape(name="image", inputs=readout.inputs, shape=shape)
    with pytest.raises(VerificationError, match="one value per class"):
        graph.with_nodes([*graph.nodes[:-1], image, readout.with_(inputs=("image",), shape=shape)]).verify()
