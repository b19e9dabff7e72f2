"""Bounds of potentials, and the C that they make smaller."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.backends.c99.backend import SMALL
from snnc.backends.c99.source import HEADER, SOURCE
from snnc.backends.c99.widths import Width, widths
from snnc.ir.bounds import run_bounds
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.potentials import potential_bounds
from snnc.ir.snn import Encode, IntegrateFire, Linear, Readout, SnnGraph
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests.c99_bundles import SANE, emitted, needs_gcc, run_selftest
from tests.spiking_graphs import graphs, random_graph, random_inputs, wide_graph


@settings(max_examples=15)
@given(graph=graphs(), extreme=st.booleans())
def test_no_potential_leaves_its_bound(graph: SnnGraph, extreme: bool) -> None:
    q = random_inputs(graph, 4, 7)
    if extreme and isinstance(q, np.ndarray):
        q = np.where(q > 0, graph.encoder.limit, -graph.encoder.limit).astype(q.dtype)
    for timesteps in {1, graph.timesteps}:
        if graph.only_timesteps and timesteps != graph.timesteps:
            continue
        found = potential_bounds(graph, timesteps)
        runs = run_bounds(graph, timesteps)
        trace = ReferenceSimulator().run(graph, q, timesteps, RecordOptions(states=True))
        for name, reached in trace.potentials.items():
            assert np.abs(reached.astype(np.int64)).max() <= found[name] <= runs[name]


def driven(weight: int, threshold: int) -> SnnGraph:
    """Return a network whose second population reads eight neurons, each of which fires in every step."""

    def population(name: str, current: str, size: int, threshold: int, bias: int) -> IntegrateFire:
        return IntegrateFire(
            name=name,
            inputs=(current,),
            shape=(size,),
            threshold=np.full(size, threshold, np.int32),
            bias=np.full(size, bias, np.int32),
            v_init=np.zeros(size, np.int32),
            spike_scale=np.ones(size, np.float32),
        )

    def linear(name: str, source: str, size: int, inputs: int, value: int) -> Linear:
        return Linear(
            name=name, inputs=(source,), shape=(size,), weight=np.full((size, inputs), value, np.int8)
        )

    return SnnGraph(
        name="driven",
        nodes=(
            Encode(name="x", inputs=(), shape=(1,), scale=1.0, limit=1),
            linear("first", "x", 8, 1, 0),
            population("always", "first", 8, 10, 10),
            linear("second", "always", 2, 8, weight),
            population("driven", "second", 2, threshold, 0),
            linear("last", "driven", 2, 2, 1),
            Readout(name="y", inputs=("last",), shape=(2,), bias=np.zeros(2, np.int32)),
        ),
        outputs=("y",),
        timesteps=4,
        max_timesteps=4,
    )


def test_a_bound_is_almost_reached() -> None:
    """But for the threshold of 1 that a division could round by."""
    graph = driven(-127, threshold=1)
    trace = ReferenceSimulator().run(graph, np.zeros((1, 1), np.int16), 4, RecordOptions(states=True))
    np.testing.assert_array_equal(trace.potentials["driven"], -4 * 8 * 127)
    assert potential_bounds(graph, 4)["driven"] == 4 * 8 * 127 + 1


def test_potentials_are_as_narrow_as_is_proved() -> None:
    for threshold, width in ((1000, Width.I16), (2**15, Width.I32)):
        graph = driven(127, threshold)
        assert widths(graph, 4, small=True).potentials["driven"] is width
        assert widths(graph, 4).potentials["driven"] is Width.I32


@needs_gcc
@pytest.mark.parametrize(
    "graph",
    [
        random_graph(6, neuron=Neuron(levels=2), settle_steps=2),
        random_graph(9, neuron=Neuron(spikes_per_step=2), negative=True),
        random_graph(5, schedule=Schedule.LAYERWISE),
        wide_graph(4, neuron=Neuron(spikes_per_step=None)),
        driven(-127, threshold=1000),
    ],
    ids=["settling", "twice", "layerwise", "wide", "driven"],
)
def test_the_small_form_computes_the_same(graph: SnnGraph, tmp_path: Path) -> None:
    bundle = emitted(graph, tmp_path, SMALL)
    run_selftest(bundle, *SANE)
    header, source = ((bundle / name).read_text(encoding="ascii") for name in (HEADER, SOURCE))
    assert "int16_t v_" in header
    if graph.schedule is Schedule.SYNCHRONOUS and graph.name != "driven":
        assert re.search(r"charged_i\d+_i\d+\(&population", source)
