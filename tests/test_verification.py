"""What a spiking network must not be: every backend relies on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from snnc.errors import UsageError, VerificationError
from snnc.ir.geometry import Window
from snnc.ir.snn import CountMaxPool, Encode, IntegrateFire, Slice, SnnGraph, SnnNode
from snnc.simulation.reference import ReferenceSimulator
from tests.nir_networks import pooled
from tests.spiking_graphs import random_graph, random_inputs


def refused(nodes: list[SnnNode], output: str, match: str) -> None:
    graph = SnnGraph(name="wrong", nodes=tuple(nodes), outputs=(output,), timesteps=1)
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


def test_a_read_out_may_have_a_unit_for_each_channel() -> None:
    graph = random_graph(1, flat=True)
    readout = graph.readout
    graph.replacing({readout.name: readout.with_(gain=np.ones(readout.channels, np.float32))}).verify()
    for gain in (np.ones(readout.channels + 1, np.float32), np.zeros(readout.channels, np.float32)):
        with pytest.raises(VerificationError, match="the gain must be one positive number"):
            graph.replacing({readout.name: readout.with_(gain=gain)}).verify()


def test_inputs_come_first_and_outputs_have_names_and_read_outs_of_their_own() -> None:
    graph = random_graph(2, several=True)
    first, *rest = graph.nodes
    wrong: list[tuple[SnnGraph, str]] = [
        (graph.with_nodes([*rest[:-1], first, rest[-1]]), "reads 'encode_0', which no earlier node provides"),
        (replace(graph, outputs=graph.outputs[:-1], output_names=()), "is no output"),
        (
            replace(graph, outputs=graph.outputs + graph.outputs[:1], output_names=()),
            "two outputs have one name",
        ),
        (replace(graph, output_names=graph.output_names[1:]), "outputs with"),
        (replace(graph, outputs=(graph.nodes[-2].name,), output_names=()), "is its read-out"),
    ]
    late = Encode(name="late", shape=(1,), scale=1.0)
    wrong.append((graph.with_nodes([*graph.nodes[:-1], late, graph.nodes[-1]]), "are its first nodes"))
    for broken, message in wrong:
        with pytest.raises(VerificationError, match=message):
            broken.verify()


def test_nothing_takes_the_first_of_several() -> None:
    graph = random_graph(2, several=True)
    for one in ("input", "encoder", "output", "readout"):
        with pytest.raises(UsageError, match=r"has \d (inputs|outputs) \(.*, and this takes one"):
            getattr(graph, one)
    trace = ReferenceSimulator().run(graph, random_inputs(graph, 2, 0), 1)
    with pytest.raises(UsageError, match="take them from `outputs`"):
        trace.logits  # noqa: B018
