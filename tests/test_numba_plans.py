"""The same input gives the same spikes, whichever kernels run and however many threads there are."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.backends.numba_cpu import NumbaSimulator
from snnc.backends.numba_cpu.codegen import micro, micro_products, micro_tiles
from snnc.backends.numba_cpu.codegen.neurons import KINDS as KINDS_OF_NEURONS
from snnc.backends.numba_cpu.kernels import thread_team
from snnc.backends.numba_cpu.kernels.firing import firing
from snnc.backends.numba_cpu.layout.channel_layout import channel_choice
from snnc.backends.numba_cpu.layout.choices import Choice
from snnc.backends.numba_cpu.layout.event_layout import event_choice
from snnc.backends.numba_cpu.layout.product_layout import input_runs, pack_products, product_choice
from snnc.backends.numba_cpu.layout.terms import Synapse, Values
from snnc.backends.numba_cpu.machine import tiles
from snnc.backends.numba_cpu.machine.cpu import Cpu
from snnc.backends.numba_cpu.planning import plan
from snnc.backends.numba_cpu.planning.plan import Planner, StagePlan
from snnc.ir import snn
from snnc.ir.geometry import Window
from snnc.ir.neuron import Neuron
from snnc.simulation.protocol import RecordOptions, Trace
from snnc.simulation.reference import ReferenceSimulator
from tests.spiking_graphs import (
    as_float,
    assert_same_outputs,
    graphs,
    random_graph,
    random_inputs,
    short_rows,
    wide_graph,
)

pytestmark = pytest.mark.usefixtures("shared_images")

STATES = RecordOptions(states=True)
KINDS = ("events", "products", "channels", "general", *(("vectors",) if tiles.usable() else ()))
"""``vectors``: products without tile registers, where there are some."""
# In-image threads that meet more often than cores exist would make these tests slow, not wrong.
SHARES = (1, 2, 3)


@contextmanager
def forced(kind: str, band: int) -> Iterator[None]:
    """Plan every synapse to be run by one kind of kernel, where that can take it."""
    ordinary = Planner.choose

    def choose(self: Planner, synapse: Synapse, source: str) -> Choice | None:
        options = {
            "events": event_choice(synapse),
            "products": product_choice(synapse),
            "vectors": product_choice(synapse),
            "channels": channel_choice(synapse),
        }
        return None if kind == "general" else options[kind] or ordinary(self, synapse, source)

    permitted = patch.object(tiles, "usable", return_value=tiles.usable() and kind != "vectors")
    with patch.object(Planner, "choose", choose), patch.object(plan, "BAND_BYTES", band), permitted:
        yield


def assert_same(expected: Trace, found: Trace, what: object) -> None:
    assert_same_outputs(found, expected)
    for name, count in expected.counts.items():
        np.testing.assert_array_equal(count, found.counts[name], err_msg=f"{what}, counts of {name}")
        np.testing.assert_array_equal(
            expected.potentials[name], found.potentials[name], err_msg=f"{what}, potentials of {name}"
        )


@settings(max_examples=20)
@given(graph=graphs(), band=st.sampled_from((1 << 11, 1 << 17)), batch=st.sampled_from((1, 1, 3)))
def test_every_plan(graph: snn.SnnGraph, band: int, batch: int) -> None:
    q = random_inputs(graph, batch, 5)
    expected = ReferenceSimulator().run(graph, q, graph.timesteps, STATES)
    for kind in KINDS:
        for threads in SHARES:
            with forced(kind, band):
                found = NumbaSimulator(threads).run(graph, q, graph.timesteps, STATES)
            assert_same(expected, found, (kind, threads))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("neuron", [Neuron(), Neuron(spikes_per_step=2), Neuron(levels=3)])
def test_every_plan_with_many_channels(kind: str, neuron: Neuron) -> None:
    graph = wide_graph(3, neuron=neuron)
    q = random_inputs(graph, 1, 5)
    expected = ReferenceSimulator().run(graph, q, 4, STATES)
    with forced(kind, 1 << 14):
        for threads in SHARES:
            assert_same(expected, NumbaSimulator(threads).run(graph, q, 4, STATES), (kind, threads))


def test_the_forced_plans_differ() -> None:
    graph = wide_graph(3, neuron=Neuron())
    kernels = set()
    for kind in KINDS:
        with forced(kind, 1 << 14):
            found = NumbaSimulator(1).plan(graph, 4, 1)
        stages = [part for part in found.parts if isinstance(part, StagePlan)]
        kernels.add(tuple(term.kernel for part in stages for term in part.terms))
    assert len(kernels) >= 3  # there is no depthwise layer in it


@pytest.mark.parametrize("timesteps", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("width", [2, 3, 5, 7, 8])
def test_short_rows(width: int, timesteps: int) -> None:
    """Where there are tile registers, several steps share a tile; the last block may be a short one."""
    graph = short_rows(width, timesteps, Neuron(spikes_per_step=1 + width % 2))
    q = random_inputs(graph, 2, 5)
    expected = ReferenceSimulator().run(graph, q, timesteps, STATES)
    for band in (1 << 11, 1 << 17):
        with forced("products", band):
            assert_same(expected, NumbaSimulator(2).run(graph, q, timesteps, STATES), band)
            kernels = str(NumbaSimulator(1).plan(graph, timesteps, 2))
        assert ("step_tiles" in kernels) == tiles.usable()


@pytest.mark.skipif(not tiles.usable(), reason="this processor has no tile registers")
def test_tiles_only_with_permission() -> None:
    graph = wide_graph(3, neuron=Neuron(levels=3))
    with forced("products", 1 << 14):
        assert "tiles" in str(NumbaSimulator(1).plan(graph, 4, 1))
    with forced("vectors", 1 << 14):
        without = str(NumbaSimulator(1).plan(graph, 4, 1))
    assert "tiles" not in without
    assert "bytes" in without


def test_a_processor_without_tiles_is_not_asked() -> None:
    with patch.object(tiles, "detect", return_value=Cpu("other", frozenset({"avx512vnni"}))):
        assert not tiles.usable.__wrapped__()


@pytest.mark.parametrize(("width", "pixels"), [(4, 4), (16, 16), (17, 9), (28, 14), (32, 16), (50, 13)])
def test_rows_are_cut_into_tiles_of_about_one_size(width: int, pixels: int) -> None:
    assert micro_tiles.pixels_together(width) == pixels
    assert -(-width // pixels) == -(-width // micro_tiles.ROWS)


def test_sizes_of_tiles() -> None:
    """As the processor reads them: a palette, bytes of a row from the 16th byte on, rows from the 48th on."""
    found = micro_tiles.configuration(7, 48)
    assert found.shape == (64,)
    assert found[:16].tolist() == [1] + [0] * 15
    sums, weights, spikes = (64, 7), (64, 12), (48, 7)
    sizes = list(zip(found[16:32:2].tolist(), found[48:56].tolist(), strict=True))
    assert sizes == [sums] * 4 + [weights] + [spikes] * 3
    assert not found[17:48:2].any()
    assert not found[56:].any()


def test_only_what_a_network_needs_is_compiled() -> None:
    """In a process of its own, for the others of this one compile all."""
    program = """
from snnc.backends.numba_cpu import NumbaSimulator
from snnc.backends.numba_cpu.kernels import currents, event_currents, product_currents, stage
from snnc.backends.numba_cpu.machine.cache import Routine
from snnc.ir.neuron import Neuron
from tests.spiking_graphs import random_inputs, wide_graph
from tests.test_numba_plans import forced

graph = wide_graph(3, neuron=Neuron())
with forced("products", 1 << 14):
    NumbaSimulator(1).run(graph, random_inputs(graph, 1, 3), 4)
for module in (stage, currents, event_currents, product_currents):
    for name, routine in vars(module).items():
        if isinstance(routine, Routine) and routine.compiled:
            print(name)
assert len(stage.run_stages.signatures) == 1
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    compiled = set(done.stdout.split())
    assert compiled >= {"_run_band", "_fire_band", "add_products"}
    assert not compiled & {"add_events", "_list_band", "_add_phase", "_charge"}


def test_a_routine_is_compiled_when_its_address_is_asked_for() -> None:
    routine = firing("units")
    assert firing("units") is routine
    addresses = {firing(kind).address for kind in KINDS_OF_NEURONS} | {routine.address}
    assert len(addresses) == len(KINDS_OF_NEURONS)


def test_the_density_decides() -> None:
    graph = wide_graph(3, neuron=Neuron())
    names = [node.name for node in graph.of_type(snn.IntegrateFire)]
    rare, dense = (
        str(NumbaSimulator(1, dict.fromkeys(names, share)).plan(graph, 4, 1)) for share in (0.001, 1.0)
    )
    assert "events" in rare
    assert "above" not in rare
    assert not any("events" in line and "above" not in line for line in dense.splitlines())


@pytest.mark.parametrize("real", [False, True])
def test_several_threads_share_only_what_takes_longer_than_meeting(real: bool) -> None:
    graph = as_float(wide_graph(3, neuron=Neuron())) if real else wide_graph(3, neuron=Neuron())
    work = NumbaSimulator(1).plan(graph, 4, 1).work(4)
    assert NumbaSimulator(1).plan(graph, 8, 1).work(8) > work > 0
    for least, shares in ((0.9 * work, 3), (1.1 * work, 1)):
        with patch.object(plan, "LEAST_SHARED", least):
            assert NumbaSimulator(3).plan(graph, 4, 1).shares == shares
            assert NumbaSimulator(3).plan(graph, 4, 2).shares == 1


def test_a_profile_names_every_population() -> None:
    graph = wide_graph(3, neuron=Neuron())
    q = random_inputs(graph, 2, 5)
    simulator = NumbaSimulator(1)
    found = simulator.profile(graph, q, 4, rounds=2)
    assert list(found) == [node.name for node in graph.of_type(snn.IntegrateFire)] + [graph.output]
    assert all(seconds > 0 for seconds in found.values())
    # Stages run out of turn leave nothing behind.
    np.testing.assert_array_equal(
        simulator.run(graph, q, 4).logits, ReferenceSimulator().run(graph, q, 4).logits
    )


def test_networks_in_float32_multiply_floats() -> None:
    plan_ = NumbaSimulator(1).plan(as_float(random_graph(1)), 4, 1)
    kernels = {term.kernel for part in plan_.parts if isinstance(part, StagePlan) for term in part.terms}
    assert any(kernel.startswith("floats") for kernel in kernels)
    assert all("floats" in kernel or kernel == "current" for kernel in kernels)


def test_no_more_threads_than_asked() -> None:
    graph = wide_graph(1, neuron=Neuron())

    def ours() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith("snnc")}

    before = ours()
    for threads in (1, 2, 3):
        simulator = NumbaSimulator(threads)
        for batch in (1, 7):
            simulator.run(graph, random_inputs(graph, batch, 1), 4)
        assert len(ours() - before) <= (threads if threads > 1 else 0)
        before = ours()


def test_a_share_that_fails_calls_the_others_off() -> None:
    """Nobody waits for a thread that will not come."""
    two = thread_team.ThreadTeam(2)
    seen: list[bool] = []

    def run(share: int, meeting: int) -> None:
        if share == 0:
            raise MemoryError
        seen.append(bool(thread_team.wait_for_bands(meeting, 2)))

    with pytest.raises(MemoryError):
        two.together(run, 2)
    assert seen == [False]


def test_a_crew_meets_again_and_again() -> None:
    three = thread_team.ThreadTeam(3)
    steps: list[list[int]] = [[] for _ in range(3)]

    def run(share: int, meeting: int) -> None:
        for k in range(20):
            # Whoever is here has seen all others finish the round before.
            assert all(len(other) >= k for other in steps)
            steps[share].append(k)
            thread_team.count_band(meeting)
            assert thread_team.wait_for_bands(meeting, 3 * (k + 1))

    for _ in range(3):
        for done in steps:
            done.clear()
        three.together(run, 3)
        assert steps == [list(range(20))] * 3


@settings(max_examples=30, deadline=None)
@given(
    channels=st.sampled_from([1, 5, 16, 33]),
    outputs=st.sampled_from([1, 8, 17]),
    kernel=st.sampled_from([1, 3]),
    scale=st.sampled_from([1, 40, 127]),
    levels=st.sampled_from([(0, 1), (-1, 1), (-15, 15), (0, 100)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_sections_of_byte_products_are_the_longest_whose_sums_fit(
    channels: int, outputs: int, kernel: int, scale: int, levels: tuple[int, int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    weight = np.clip(np.rint(random.normal(0, scale, (outputs, channels, kernel, kernel))), -127, 127)
    room = -(-channels // 16) * 16
    source = Values(8, 8, channels, room, np.dtype(np.int8), *levels)
    synapse = Synapse(weight.astype(np.int8), Window((kernel, kernel)), 1, source, 8, 16)

    def largest(length: int, runs: int) -> int:
        """Multiply out what the most extreme spikes can do to each 16-bit sum."""
        full = np.zeros((outputs, kernel, kernel, room), np.int64)
        full[..., :channels] = weight.transpose(0, 2, 3, 1)
        rows = full.reshape(outputs, kernel, -1)
        pieces = [
            row[:, k : k + length] for row in rows.transpose(1, 0, 2) for k in range(0, kernel * room, length)
        ]
        worst = 0
        for first in range(0, len(pieces), runs):
            taken = np.concatenate(pieces[first : first + runs], axis=1)
            fours = taken.reshape(outputs, -1, lanes, 4 // lanes)
            for low, high in (levels, levels[::-1]):
                sums = np.where(fours > 0, fours * high, fours * low).sum(axis=(1, 3))
                worst = max(worst, int(np.abs(sums).max()))
        return worst

    for lanes in (1, 2):
        without_tiles = patch.object(tiles, "usable", return_value=False)
        with patch.object(micro_products, "BYTE_LANES", lanes), without_tiles:
            choice = product_choice(synapse)
            assert choice is not None
            assert choice.kind == "bytes"
            count = len(input_runs(synapse, choice.run_length))
            if lanes == 1:
                assert choice.runs == count
                continue
            assert largest(choice.run_length, choice.runs) <= micro.LARGEST_SUM
            shorter = range(1, -(-count // choice.runs))
            assert all(largest(choice.run_length, -(-count // n)) > micro.LARGEST_SUM for n in shorter)
            pack_products(synapse, choice)
