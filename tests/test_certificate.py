"""Certificates of exactness: the proof holds, what is found is the smallest, what is observed is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.analysis.certificate import (
    Basis,
    certify,
    disagreements,
    proved_settle_steps,
    quantised,
    variant,
)
from snnc.cli import main
from snnc.errors import InputError, UsageError
from snnc.ir.graph import IntArray
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import SnnGraph
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests import quadrants
from tests.spiking_graphs import random_graph, random_inputs
from tests.test_cli_compare import told

SIMULATOR = ReferenceSimulator()


def exact(graph: SnnGraph, inputs: IntArray, spikes: int, settle: int) -> bool:
    """Compare the counts as a reader of the definition would."""
    found = SIMULATOR.run(variant(graph, spikes, settle), inputs, graph.timesteps, RecordOptions(states=True))
    held_to = SIMULATOR.run(quantised(graph), inputs, graph.timesteps, RecordOptions(states=True))
    same_answer = np.array_equal(found.logits, held_to.logits)
    same = all(np.array_equal(counts, held_to.counts[name]) for name, counts in found.counts.items())
    assert same_answer or not same
    return same


@given(seed=st.integers(0, 10**6), spikes=st.integers(1, 4), levels=st.sampled_from([1, 2]))
@settings(max_examples=15, deadline=None)
def test_the_proved_settle_steps_are_enough(seed: int, spikes: int, levels: int) -> None:
    graph = random_graph(seed, timesteps=4, neuron=Neuron(levels=levels, spikes_per_step=1))
    inputs = random_inputs(graph, 6, seed)
    assert exact(graph, inputs, spikes, proved_settle_steps(graph, spikes))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=6, deadline=None)
def test_what_is_found_is_the_smallest(seed: int) -> None:
    graph = random_graph(seed, timesteps=3, neuron=Neuron(spikes_per_step=1))
    inputs = random_inputs(graph, 8, seed)
    front = certify(graph, inputs, SIMULATOR)
    assert front[-1].settle_steps == 0
    for found in front:
        assert found.spikes_per_step is not None
        assert exact(graph, inputs, found.spikes_per_step, found.settle_steps)
        if found.settle_steps:
            assert not exact(graph, inputs, found.spikes_per_step, found.settle_steps - 1)
        assert (found.basis is Basis.PROVED) == (found.settle_steps == found.proved_settle_steps)
        assert found.latency_steps == 3 + found.settle_steps
        assert found.synops > 0
    settles = [found.settle_steps for found in front]
    assert settles == sorted(set(settles), reverse=True)


def test_what_was_observed_on_few_rows_fails_on_others_and_is_counted() -> None:
    for seed in range(40):
        graph = random_graph(seed, timesteps=4, neuron=Neuron(spikes_per_step=1))
        few, many = random_inputs(graph, 1, seed), random_inputs(graph, 30, seed + 1)
        found = certify(graph, few, SIMULATOR)[0]
        share = disagreements(graph, found, many, SIMULATOR)
        assert share.n == 30
        if found.basis is Basis.PROVED:
            assert share.hits == 0
        elif share.hits:
            return
    pytest.fail("no observation failed: the test shows nothing")


@pytest.mark.parametrize(
    ("neuron", "schedule"),
    [(Neuron(spikes_per_step=None), Schedule.SYNCHRONOUS), (Neuron(count_memory=False), Schedule.LAYERWISE)],
)
def test_graded_networks_and_barriers_are_proved(neuron: Neuron, schedule: Schedule) -> None:
    graph = random_graph(3, neuron=neuron, schedule=schedule)
    inputs = random_inputs(graph, 8, 3)
    (found,) = certify(graph, inputs, SIMULATOR)
    assert (found.basis, found.settle_steps, found.proved_settle_steps) == (Basis.PROVED, 0, 0)
    assert disagreements(graph, found, inputs, SIMULATOR).hits == 0


def test_a_graded_network_needs_none_of_its_settle_steps() -> None:
    graph = random_graph(3, neuron=Neuron(spikes_per_step=None), settle_steps=3)
    inputs = random_inputs(graph, 8, 3)
    (found,) = certify(graph, inputs, SIMULATOR)
    assert (found.settle_steps, found.latency_steps) == (0, graph.timesteps)
    assert disagreements(graph, found, inputs, SIMULATOR).hits == 0


@pytest.mark.parametrize(
    ("neuron", "negative", "message"),
    [(Neuron(count_memory=False), False, "has no count memory"), (Neuron(), True, "holds corrections back")],
)
def test_networks_that_cannot_correct_themselves_are_refused(
    neuron: Neuron, negative: bool, message: str
) -> None:
    graph = random_graph(1, neuron=neuron, negative=negative)
    with pytest.raises(UsageError, match=message):
        certify(graph, random_inputs(graph, 2, 1), SIMULATOR)


def test_no_rows_are_refused() -> None:
    graph = random_graph(1, neuron=Neuron())
    with pytest.raises(InputError, match="no rows"):
        certify(graph, random_inputs(graph, 1, 1)[:0], SIMULATOR)


def test_more_settle_steps_than_the_integers_bear_are_refused() -> None:
    graph = random_graph(1, neuron=Neuron())
    assert variant(graph, 1, 7).settle_steps == 7
    assert variant(replace(graph, max_timesteps=0), 2, 0).max_timesteps > 0


def test_certify_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = quadrants.write(tmp_path)
    path, written = tmp_path / "network.snn.onnx", tmp_path / "exact.snn.onnx"
    data = ["--calib", str(files.calibration), "--preprocess", str(files.preprocessing)]
    assert main(["convert", str(files.model), *data, "-o", str(path), "-T", "4", "--preset", "paper"]) == 0
    arguments = ["certify", path, "--data", files.calibration, "--check", files.test, "-o", written]
    found: dict[str, Any] = told(capsys, *arguments)
    assert found["rows"] > 0
    smallest = found["smallest"]
    assert smallest["settle_steps"] == 0
    assert {entry["check"]["differing"] for entry in found["front"]} == {0}
    shown = told(capsys, "inspect", written)
    assert shown["settle_steps"] == 0
    assert main(["certify", str(path), "--data", str(files.calibration)]) == 0
    table = capsys.readouterr().out
    assert "settle steps" in table
    assert "quantised network" in table
    assert main(["certify", str(path), "--data", str(tmp_path / "none.npz")]) == 5
