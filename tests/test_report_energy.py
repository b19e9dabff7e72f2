"""Counts, cost models and baselines."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from snnc.analysis import costs
from snnc.analysis.node_costs import fan_outs
from snnc.errors import InputError
from snnc.ir.neuron import Code, Neuron
from snnc.ir.snn import ConstantCurrent, IntegrateFire
from snnc.report.document import Report
from snnc.report.energy import (
    MODELS,
    Energy,
    account,
    event_bits,
    level_bits,
    microjoules,
    picojoules,
    read_model,
)
from snnc.report.measurement import Measurement
from snnc.report.page import html
from snnc.report.targets import fits
from snnc.report.verdict import judge
from tests.conversions import Converted, convert
from tests.spiking_graphs import random_graph


@cache
def case() -> tuple[Converted, Measurement]:
    made = convert(rows=8)
    return made, made.measured()


def energy(model: str = "45nm") -> Energy:
    made, found = case()
    graph = made.artefact.graph
    return account(graph, found.costs, sum(found.ann_macs.values()), found.nonzero, 4, MODELS[model])


def test_counts_are_those_of_the_network() -> None:
    made, found = case()
    counted = energy()
    neurons = sum(int(np.prod(node.shape)) for node in made.artefact.graph.of_type(IntegrateFire))
    assert counted.snn.acs == found.costs.acs > 0
    assert counted.snn.macs == found.costs.first_layer_macs > 0
    assert counted.snn.weight_fetches == counted.snn.acs + counted.snn.macs
    assert counted.snn.state_accesses == 2 * neurons * 4
    assert counted.fp32.macs == sum(costs.macs_of_ann(made.source).values())
    assert sum(layer.synops for layer in counted.layers) == pytest.approx(found.costs.synops)
    parts = sum(layer.picojoules for layer in counted.layers) + counted.first_layer
    assert parts == pytest.approx(counted.snn_pj)
    for name, model in MODELS.items():
        assert picojoules(found.costs, model) == pytest.approx(energy(name).snn_pj)


def test_the_fair_baseline_skips_its_zeros_and_has_as_many_levels() -> None:
    made, found = case()
    counted = energy()
    assert counted.fair.activation_bits == 3  # five levels: 0 .. 4
    dense = found.costs.first_layer_macs + sum(
        int(fan_outs(made.artefact.graph)[node.name].sum())
        for node in made.artefact.graph.of_type(IntegrateFire)
    )
    assert found.costs.first_layer_macs < counted.fair.macs < dense
    everything = {name: np.full_like(values, 8) for name, values in found.nonzero.items()}
    graph = made.artefact.graph
    full = account(graph, found.costs, 1, everything, 4, MODELS["45nm"])
    assert full.fair.macs == dense
    assert counted.fair_pj < counted.fp32_pj


def test_no_gain_without_its_baselines_and_its_model() -> None:
    for name in MODELS:
        told = energy(name).as_dict()
        assert told["model"]["name"] == name
        assert told["ratio_to_fp32"] == pytest.approx(
            told["snn"]["picojoules"] / told["baselines"]["fp32"]["picojoules"]
        )
        assert told["ratio_to_fair"] > told["ratio_to_fp32"]


def test_metrics_bear_the_names_of_neurobench() -> None:
    _, found = case()
    metrics = energy().neurobench
    assert set(metrics) == {
        "footprint",
        "connection_sparsity",
        "activation_sparsity",
        "synaptic_operations",
        "membrane_updates",
    }
    assert metrics["activation_sparsity"] == 1 - found.costs.events_per_neuron_per_step
    operations = metrics["synaptic_operations"]
    assert operations["Effective_ACs"] + operations["Effective_MACs"] < operations["Dense"]


@pytest.mark.parametrize(
    ("neuron", "event", "level"),
    [
        (Neuron(count_memory=False), 1, 3),
        (Neuron(), 2, 3),
        (Neuron(levels=15, code=Code.BINARY), 5, 6),
        (Neuron(spikes_per_step=None), 4, 3),
        (Neuron(spikes_per_step=2), 2, 3),
        (Neuron(levels=2, spikes_per_step=2), 4, 4),
    ],
)
def test_bits(neuron: Neuron, event: int, level: int) -> None:
    node = random_graph(5, neuron=neuron, blocks=0).of_type(IntegrateFire)[0]
    assert (event_bits(node, 4), level_bits(node, 4)) == (event, level)


def test_a_cost_model_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "chip.toml"
    values = {**asdict(MODELS["45nm"]), "name": "chip", "ac": 2}
    path.write_text("\n".join(f"{k} = {v!r}".replace("'", '"') for k, v in values.items()), encoding="utf-8")
    assert read_model(path) == replace(MODELS["45nm"], name="chip", ac=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ac = ", "is not TOML"),
        ("ac = 1", "missing: name, source, mac"),
        ("speed = 1", "unknown: speed"),
    ],
)
def test_a_cost_model_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "chip.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_model(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_model(tmp_path / "absent.toml")


def test_an_energy_is_a_number(tmp_path: Path) -> None:
    values = {**asdict(MODELS["45nm"]), "ac": -1}
    path = tmp_path / "chip.toml"
    path.write_text("\n".join(f"{k} = {v!r}".replace("'", '"') for k, v in values.items()), encoding="utf-8")
    with pytest.raises(InputError, match="ac = -1"):
        read_model(path)


@pytest.mark.parametrize("wrong", ["name = 1", "source = [1]"])
def test_names_are_texts(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "chip.toml"
    values = {**asdict(MODELS["45nm"]), "name": "chip", "source": "me"}
    key = wrong.split(" = ")[0]
    lines = [wrong, *(f"{k} = {v!r}".replace("'", '"') for k, v in values.items() if k != key)]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match=f"{key} = .* is no text"):
        read_model(path)


def test_baselines_that_cost_nothing_have_no_ratio() -> None:
    nothing = replace(MODELS["45nm"], fp32_mac=0, fp32_fetch=0)
    made, found = case()
    graph = made.artefact.graph
    counted = account(graph, found.costs, 100, found.nonzero, 4, nothing)
    assert counted.as_dict()["ratio_to_fp32"] is None
    report = Report(made.artefact, found, judge(found, 4), counted, None, fits(graph), {})
    assert "times the energy" not in html(report)


def test_an_activation_of_two_populations_is_one_in_the_baselines() -> None:
    plain, fine = (
        convert(passes=f"clip-activations,lower,dual-threshold,{skip}init-membrane,quantise-weights", rows=4)
        for skip in ("", "fine-skip,")
    )
    fetched = []
    for made in (plain, fine):
        found = made.measured()
        counted = account(made.artefact.graph, found.costs, 100, found.nonzero, 4, MODELS["45nm"])
        fetched.append((counted.fp32.state_accesses, counted.fair.state_accesses, counted.fp32.bits_sent))
    assert len(fine.artefact.graph.of_type(IntegrateFire)) > len(plain.artefact.graph.of_type(IntegrateFire))
    assert fetched[0] == fetched[1]


@pytest.mark.parametrize(
    ("picojoules", "text"), [(0, "0"), (3744.4, "0.00374"), (99.94e6, "99.9"), (12345.6e6, "12,346")]
)
def test_energies_are_told_in_three_digits(picojoules: float, text: str) -> None:
    assert microjoules(picojoules) == text


def test_all_spikes_of_a_step_are_sent() -> None:
    _, found = case()  # up to two unit spikes a step
    units = sum(layer.units for layer in found.costs.layers)
    assert units > sum(layer.events for layer in found.costs.layers)
    assert energy().snn.bits_sent == 2 * units / found.costs.images


def test_constant_currents_and_negative_thresholds_take_memory() -> None:
    made, found = case()
    graph = made.artefact.graph
    node = graph.of_type(IntegrateFire)[0]
    current = ConstantCurrent(name="border", shape=node.shape, values=np.zeros(node.shape, np.int32))
    more = replace(graph, nodes=(*graph.nodes, current))
    footprints = [
        account(item, found.costs, 1, found.nonzero, 4, MODELS["45nm"]).neurobench["footprint"]
        for item in (graph, more)
    ]
    assert footprints[1] - footprints[0] == 4 * np.prod(node.shape)
