"""No program of the core reaches beyond its memories, on the chip and outside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from snnc.backends.fpga.additions import TooFew
from snnc.backends.fpga.addresses import beyond
from snnc.backends.fpga.lowering import Fetching, design
from snnc.backends.fpga.units import units
from snnc.ir.snn import SnnGraph
from tests.fpga_networks import UNUSUAL
from tests.spiking_graphs import graphs, random_graph


@settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
@given(graphs(functions=(0,)), st.sampled_from((1, 4, 16)), st.sampled_from((None, 40, 10_000)))
def test_no_program_leaves_its_memories(graph: SnnGraph, lanes: int, buffer: int | None) -> None:
    found = units(graph)
    assume(not found.problems)
    try:
        made = design(found, lanes, fetching=None if buffer is None else Fetching(buffer))
    except TooFew:
        assume(False)
    assert beyond(made) == []


@pytest.mark.parametrize("network", UNUSUAL, ids=lambda network: network.__name__)
def test_no_unusual_program_leaves_its_memories(network: Callable[[], SnnGraph]) -> None:
    assert beyond(design(units(network()), 4)) == []


@pytest.mark.parametrize(
    "memory",
    [
        *("weights", "heads", "rows", "columns", "parameters", "potentials", "counts", "spikes"),
        *("inputs", "external"),
    ],
)
def test_a_memory_that_is_too_small_is_found(memory: str) -> None:
    made = design(units(random_graph(5, blocks=1)), 4, fetching=Fetching(64))
    assert beyond(made) == []
    # One word less, and somebody reaches beyond it: the bound is not larger than it has to be.
    small = replace(made, sizes=replace(made.sizes, **{memory: getattr(made.sizes, memory) - 1}))
    if memory == "inputs":  # behind the image lies a one, for currents that are constant
        small = replace(small, sizes=replace(small.sizes, inputs=small.sizes.inputs - 1))
    assert any(f"words of {memory}" in each for each in beyond(small))
