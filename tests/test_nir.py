"""NIR: the files, and what the simulators of those who read them compute."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nir.serialization import read_version

from snnc.backends.nir import Nir, file, levels, rates, runner
from snnc.backends.nir.backend import run
from snnc.backends.nir.chain import chained
from snnc.backends.nir.emulator import emulate, fire
from snnc.backends.nir.profiles import PROFILES, Rule
from snnc.backends.nir.program import Conv, Fire, Program, Step
from snnc.backends.nir.square import squared
from snnc.errors import TargetError
from snnc.ir.geometry import Window
from snnc.ir.neuron import Schedule
from snnc.ir.snn import (
    ChannelWeight,
    CountMaxPool,
    CurrentMaxPool,
    Readout,
)
from tests.nir_networks import BARRIER, PLAIN, TIME, fitting, networks, pooled, reference, residual
from tests.spiking_graphs import random_inputs

# What the consumers compute.


@pytest.mark.parametrize("profile", PROFILES)
def test_a_barrier_network_is_the_same_network_in_one_step(profile: str) -> None:
    graphs = fitting(profile, BARRIER)
    assert len(graphs) >= 10
    assert any(graph.of_type(CountMaxPool) for graph in graphs), "max-pooling is among them"
    assert any(graph.of_type(CurrentMaxPool) for graph in graphs)
    assert any(graph.of_type(ChannelWeight) for graph in graphs)
    distinct = 0
    backend = Nir(profile)
    for graph in graphs:
        q = random_inputs(graph, 5, 1)
        assert backend.program(graph).timesteps == 1
        assert backend.differences(graph) == ()
        y = backend.emulate(graph, q)
        np.testing.assert_array_equal(y, reference(graph, q))
        distinct += len(np.unique(y, axis=0))
    assert distinct > 4 * len(graphs)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_network_of_one_step_is_the_same_whatever_its_schedule(profile: str) -> None:
    backend = Nir(profile)
    short = [graph for graph in networks(TIME, None) if graph.timesteps == 1 and not backend.check(graph)]
    assert len(short) >= 2
    for graph in short:
        q = random_inputs(graph, 5, 4)
        assert backend.differences(graph) == ()
        np.testing.assert_array_equal(backend.emulate(graph, q), reference(graph, q))


@pytest.mark.parametrize("profile", PROFILES)
def test_the_maximum_of_counts_is_that_of_a_population_or_none(profile: str) -> None:
    backend, graph = Nir(profile), pooled(of="populations")
    q = random_inputs(graph, 5, 1)
    assert not backend.check(graph)
    np.testing.assert_array_equal(backend.emulate(graph, q), reference(graph, q))
    for of in ("input", "sums"):
        (found,) = backend.check(pooled(of=of))
        assert found.node == "pool"
        assert "maximum of counts" in found.reason


@pytest.mark.parametrize("profile", PROFILES)
def test_a_read_out_beyond_float32_is_refused(profile: str) -> None:
    """Were it not, a sum of this size would be off by one, although it counts as equal bit for bit."""
    graph = residual(BARRIER)
    output = graph.of_type(Readout)[0]
    largest = np.zeros_like(output.bias)
    largest[0] = 2**24 // graph.timesteps
    (found,) = Nir(profile).check(graph.replacing({output.name: output.with_(bias=largest)}))
    assert found.node == output.name
    assert "too much to be exact in float32" in found.reason
    assert "c99" in found.help


def test_copies_that_no_memory_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two copies of each of two channels: 8 weights copy the currents, and 4 x 4 x 4 take the maximum."""
    graph = pooled(of="populations")
    for room, name, needed in ((7, "population", 8), (63, "pool", 64)):
        monkeypatch.setattr(levels, "LARGEST_LAYER", room)
        (found,) = Nir().check(graph)
        assert found.node == name
        assert f"2 copies of each of its 2 channels take {needed:.1e} weights" in found.reason
    monkeypatch.setattr(levels, "LARGEST_LAYER", 64)
    assert not Nir().check(graph)


@pytest.mark.parametrize("profile", ["norse", "sinabs"])
@pytest.mark.parametrize("schedule", Schedule)
def test_a_chain_gives_what_the_sums_gave(profile: str, schedule: Schedule) -> None:
    consumer = PROFILES[profile]
    graph = residual(schedule)
    backend = Nir(profile)
    chain = backend.program(graph)
    names = ["input", *(step.name for step in chain.steps)]
    assert [step.inputs for step in chain.steps] == [(name,) for name in names[:-1]]
    summed = Nir("spikingjelly").program(graph)
    assert any(len(step.inputs) > 1 for step in summed.steps)
    if schedule is TIME:
        summed = rates.lower(graph, consumer)
        q = random_inputs(graph, 6, 2)
        np.testing.assert_array_equal(emulate(summed, consumer.rule, q).y, emulate(chain, consumer.rule, q).y)
        assert chained(chain, consumer) is chain


@pytest.mark.parametrize("profile", PROFILES)
def test_what_is_computed_is_exact_in_any_order(profile: str) -> None:
    for graph in fitting(profile, TIME, PLAIN):
        program = Nir(profile).program(graph)
        for step in program.steps:
            if isinstance(step.layer, Conv):
                np.testing.assert_array_equal(step.layer.weight, np.rint(step.layer.weight))
        found = run(program, PROFILES[profile].rule, random_inputs(graph, 4, 3))
        assert found.exact
        np.testing.assert_array_equal(found.y, np.rint(found.y))


def test_the_rules_by_hand() -> None:
    layer = Fire(np.array([4], np.float32), "p")
    current = np.array([3, 2, 9, -20, 11], np.float32).reshape(5, 1, 1)
    told = {}
    for rule in Rule:
        spikes, _ = fire(layer, rule, current, 5)
        told[rule] = spikes.ravel().tolist()
    assert told[Rule.ZERO] == [0, 1, 1, 0, 0]
    assert told[Rule.SUBTRACT] == [0, 1, 2, 0, 1]  # v: 3, 1, 2, max(-18, -4), 7 -> 3
    spikes, _ = fire(layer, Rule.ZERO_ABOVE, np.full((1, 1, 1), 4, np.float32), 1)
    assert spikes.ravel().tolist() == [0]
    spikes, largest = fire(layer, Rule.ZERO, np.full((1, 1, 1), 4, np.float32), 3)
    assert (spikes.ravel().tolist(), largest) == ([1, 1, 1], 4.0)


def test_what_float32_cannot_hold_is_not_answered() -> None:
    graph = fitting("sinabs", TIME, PLAIN)[0]
    program = Nir("sinabs").program(graph)
    loud = tuple(
        replace(step, layer=replace(step.layer, weight=step.layer.weight * np.float32(2**16)))
        if isinstance(step.layer, Conv)
        else step
        for step in program.steps
    )
    with pytest.raises(TargetError, match="too much to be exact"):
        run(replace(program, steps=loud), Rule.SUBTRACT, random_inputs(graph, 4, 3))


# The files.


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("schedule", Schedule)
def test_the_nir_package_reads_the_file(profile: str, schedule: Schedule, tmp_path: Path) -> None:
    graph = residual(schedule)
    consumer, program = PROFILES[profile], Nir(profile).program(graph)
    path = tmp_path / "network.nir"
    file.write(program, consumer, path)
    assert read_version(path) == consumer.reads
    found = nir.read(path, type_check=True)
    assert list(found.nodes) == sorted(found.nodes), "alphabetical order is that of computation"
    assert len(found.nodes) == len(program.steps) + 2
    assert {tuple(edge) for edge in found.edges} == {
        *((name, step.name) for step in program.steps for name in step.inputs),
        (program.steps[-1].name, "output"),
    }
    for step in program.steps:
        node: Any = found.nodes[step.name]
        if isinstance(step.layer, Fire):
            assert type(node).__name__ == consumer.cell.value
            assert node.v_threshold.shape == step.shape
            assert (node.r == np.float32(consumer.resistance)).all()
            if consumer.one_threshold:
                assert len(np.unique(node.v_threshold)) == 1
        elif isinstance(step.layer, Conv):
            np.testing.assert_array_equal(node.weight, step.layer.weight)
            assert node.groups == 1


def test_a_neuron_without_leak_forgets_nothing_in_float32() -> None:
    consumer = PROFILES["snntorch"]
    tau = np.full(1, 1e9, np.float32)
    beta = 1 - 1e-4 / tau
    assert beta.dtype == np.float32
    assert beta[0] == 1
    assert np.float32(consumer.resistance) * np.float32(1e-4) / tau[0] == pytest.approx(1)


@settings(max_examples=60)
@given(data=st.data())
def test_a_square_kernel_computes_the_same(data: st.DataObject) -> None:
    kernel = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    strides = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    dilations = data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    size = data.draw(st.tuples(st.integers(7, 10), st.integers(7, 10)))
    random = np.random.default_rng(0)
    weight = random.integers(-9, 9, (2, 3, *kernel)).astype(np.float32)
    layer = Conv(weight, np.ones(2, np.float32), strides, padding, dilations)
    (top, left) = padding
    window = Window(kernel, strides, (top, left, top, left), dilations)
    shape = (2, *window.output_size(*size))
    program = Program((3, *size), (Step("n0000_conv", layer, ("input",), shape),), 1)
    try:
        other = squared(program)
    except TargetError:
        assert (kernel[0] - kernel[1]) % 2, "an even difference is always possible"
        assert min(strides) == 1 or max(dilations) > 1
        return
    (step,) = other.steps
    assert isinstance(step.layer, Conv)
    assert step.layer.weight.shape[2] == step.layer.weight.shape[3]
    q = random.integers(-9, 9, (2, 3, *size))
    np.testing.assert_array_equal(emulate(other, Rule.ZERO, q).y, emulate(program, Rule.ZERO, q).y)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_file_is_read_back_as_it_was_written(profile: str, tmp_path: Path) -> None:
    consumer, program = PROFILES[profile], Nir(profile).program(residual())
    path = tmp_path / "network.nir"
    file.write(program, consumer, path)
    again = file.read(path, program.timesteps)
    assert [(s.name, s.inputs, s.shape) for s in again.steps] == [
        (s.name, s.inputs, s.shape) for s in program.steps
    ]
    q = random_inputs(residual(), 4, 5)
    np.testing.assert_array_equal(emulate(again, consumer.rule, q).y, emulate(program, consumer.rule, q).y)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_script_is_python_and_names_the_populations(profile: str) -> None:
    program = Nir(profile).program(residual(BARRIER))
    text = runner.script(program, PROFILES[profile])
    tree = ast.parse(text)
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {"load", "infer"} <= defined
    for step in program.steps:
        assert (f'"{step.name}"' in text) == isinstance(step.layer, Fire)
