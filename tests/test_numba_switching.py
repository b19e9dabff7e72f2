"""A layer near the density at which events and products tie takes either, band by band."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.backends.numba_cpu import NumbaSimulator
from snnc.backends.numba_cpu.codegen.micro import count_spikes
from snnc.backends.numba_cpu.layout import choices, switching
from snnc.backends.numba_cpu.layout.choices import Choice
from snnc.backends.numba_cpu.layout.event_layout import event_choice
from snnc.backends.numba_cpu.layout.product_layout import product_choice
from snnc.backends.numba_cpu.layout.switching import Switching
from snnc.backends.numba_cpu.layout.terms import Packed, Synapse
from snnc.backends.numba_cpu.machine import tiles
from snnc.backends.numba_cpu.machine.cache import kernel
from snnc.backends.numba_cpu.machine.cpu import Cpu
from snnc.backends.numba_cpu.planning import plan, times
from snnc.backends.numba_cpu.planning.plan import NEAR, Planner, StagePlan
from snnc.ir import snn
from snnc.ir.neuron import Neuron
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests.spiking_graphs import assert_same_outputs, random_inputs, wide_graph


@contextmanager
def switching_at(share: float, band: int) -> Iterator[None]:
    """Let every synapse switch that can, at this density."""
    ordinary = Planner.choose

    def choose(self: Planner, synapse: Synapse, source: str) -> Choice | None:
        events, products = event_choice(synapse), product_choice(synapse)
        if events is None or products is None or source in self.constant:
            return ordinary(self, synapse, source)
        return Switching(events, products, share)

    with patch.object(Planner, "choose", choose), patch.object(plan, "BAND_BYTES", band):
        yield


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("neuron", [Neuron(), Neuron(spikes_per_step=2), Neuron(levels=3)])
def test_the_same_spikes_wherever_it_switches(share: float, neuron: Neuron) -> None:
    graph = wide_graph(3, neuron=neuron)
    q = random_inputs(graph, 2, 5)
    states = RecordOptions(states=True)
    expected = ReferenceSimulator().run(graph, q, 4, states)
    for band in (1 << 11, 1 << 17):
        for threads in (1, 2):
            with switching_at(share, band):
                found = NumbaSimulator(threads).run(graph, q, 4, states)
            assert_same_outputs(found, expected)
            for name, count in expected.counts.items():
                np.testing.assert_array_equal(count, found.counts[name])
                np.testing.assert_array_equal(expected.potentials[name], found.potentials[name])


@pytest.mark.parametrize(("share", "spoiled", "noticed"), [(0.0, 0, True), (0.0, 1, False), (1.0, 0, False)])
def test_the_spikes_of_a_band_decide(share: float, spoiled: int, noticed: bool) -> None:
    """Products with other weights are noticed exactly where spikes are more than the share."""
    graph = wide_graph(3, neuron=Neuron())
    q = random_inputs(graph, 1, 5)
    expected = ReferenceSimulator().run(graph, q, 4).logits
    ordinary = switching.pack_switching

    def pack(synapse: Synapse, choice: Switching) -> Packed:
        packed = ordinary(synapse, choice)
        other = replace(synapse, weight=-synapse.weight)
        wrong = ordinary(other, choice)
        return replace(packed, dense=wrong.dense) if spoiled == 0 else _with_events_of(packed, wrong)

    with switching_at(share, 1 << 14), patch.object(choices, "pack_switching", pack):
        found = NumbaSimulator(1).run(graph, q, 4).logits
    assert np.array_equal(expected, found) is not noticed


def _with_events_of(packed: Packed, other: Packed) -> Packed:
    """Return a term with the events of another; what spikes nowhere adds nothing, products or not."""
    return replace(packed, variants=other.variants, kept=[*packed.kept, *other.kept])


@given(st.lists(st.integers(-128, 127).map(lambda x: x if x % 3 else 0), max_size=20), st.integers(0, 9))
def test_spikes_are_counted(values: list[int], blocks: int) -> None:
    spikes = np.zeros(16 * blocks, np.int8)
    spikes[: len(values)] = values[: spikes.size]
    assert counted(spikes.ctypes.data, blocks) == np.count_nonzero(spikes)


@kernel
def counted(address: int, blocks: int) -> int:
    return count_spikes(address, blocks)


def test_only_what_is_near_is_laid_out_twice() -> None:
    """Without tile registers, whose products no events come near."""
    graph = wide_graph(3, neuron=Neuron())
    names = [node.name for node in graph.of_type(snn.IntegrateFire)]
    found = 0
    with patch.object(tiles, "usable", return_value=False):
        for share in np.geomspace(0.001, 1, 40):
            for choice in switches(graph, names, share):
                assert choice.share / NEAR < share < choice.share * NEAR
                found += 1
    assert found


def switches(graph: snn.SnnGraph, names: list[str], share: float) -> list[Switching]:
    """Return the choices of a plan that switch."""
    made = NumbaSimulator(1, dict.fromkeys(names, share)).plan(graph, 4, 1)
    stages = [part for part in made.parts if isinstance(part, StagePlan)]
    return [term.choice for part in stages for term in part.terms if isinstance(term.choice, Switching)]


def test_processors_without_products_of_bytes_add_events() -> None:
    """Where no instruction multiplies bytes, a product takes several times as long as an event."""
    plain = times.rates_of(Cpu("generic", frozenset()))
    wide = times.rates_of(Cpu("haswell", frozenset({"avx2"})))
    halves = times.rates_of(Cpu("znver1", frozenset({"avx2"})))
    assert plain.events > 5 * plain.byte_products
    assert wide.byte_products > 1.5 * wide.events
    assert halves.byte_products < 1.5 * halves.events
