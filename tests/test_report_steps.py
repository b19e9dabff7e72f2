"""The errors of populations that follow step functions: they add up, and each catches its own cause."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from snnc.analysis.certificate import Basis, certify, disagreements, quantised
from snnc.artefact import Artefact, load, save
from snnc.cli import main
from snnc.compiler import Options, convert
from snnc.errors import UsageError
from snnc.ir.ann import AnnGraph, Relu
from snnc.ir.neuron import Neuron
from snnc.ir.snn import Convolution, IntegrateFire, SnnGraph
from snnc.report.coding import counts, evenly_spaced
from snnc.report.layers import LayerReport
from snnc.report.measurement import Measurement
from snnc.report.measuring import measure
from snnc.report.origin import prepared_source
from snnc.report.schema import schema
from snnc.report.terms import OWN, TERMS, decompose, received
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator, step_function
from tests import quantised_models
from tests.quantised_models import rows
from tests.spiking_graphs import random_graph, random_inputs, with_step_functions

SIMULATOR = ReferenceSimulator()


def table(values: list[int], *, rows: int = 3) -> IntegrateFire:
    """Return a population with a step function of equally spaced breakpoints around zero."""
    n = len(values) - 1
    points = np.arange(n, dtype=np.int32) * 4 - 2 * n
    ones = np.ones(rows, np.int32)
    span = max(*values, 0) - min(*values, 0)
    return IntegrateFire(
        name="n",
        inputs=("i",),
        shape=(rows,),
        threshold=ones,
        bias=0 * ones,
        v_init=ones,
        spike_scale=np.linspace(0.3, 0.7, rows).astype(np.float32),
        floor=np.linspace(-0.2, 0.4, rows).astype(np.float32),
        neuron=Neuron(levels=span, spikes_per_step=None),
        breakpoints=points[None],
        step_values=np.array(values, np.int32),
        potential_unit=np.linspace(0.1, 0.2, rows).astype(np.float32),
        potential_zero=np.linspace(-0.1, 0.2, rows).astype(np.float32),
    )


@given(
    values=st.lists(st.integers(-6, 9), min_size=2, max_size=12),
    shift=st.sampled_from([None, 1.5]),
    seed=st.integers(0, 10**6),
)
def test_the_terms_add_up_for_any_function(values: list[int], shift: float | None, seed: int) -> None:
    """Whatever the table holds, rising or not, and whatever the source computes."""
    if not any(values):
        return
    node, rng = table(values), np.random.default_rng(seed)
    raised = None if shift is None else np.full(3, shift, np.float32)
    relu = Relu(name="r", inputs=("i",), shape=(3,), shift=raised)
    z_source, z_fed = rng.normal(size=(2, 7, 3)).astype(np.float32)
    v, n = rng.integers(-40, 40, (7, 3)), rng.integers(-6, 9, (7, 3))
    found = decompose(node, relu, z_source, z_fed, n, v, 1, 1)
    lift = 0.0 if shift is None else shift
    source = np.maximum(z_source + lift, 0) - lift
    np.testing.assert_allclose(found.phi, node.decoded(n, 1), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(sum(found.errors), node.decoded(n, 1) - source, atol=1e-5)
    ideal = node.decoded(step_function(node, v), 1)
    np.testing.assert_allclose(found.errors[4], node.decoded(n, 1) - ideal, atol=1e-5)
    unit, zero = np.linspace(0.1, 0.2, 3), np.linspace(-0.1, 0.2, 3)
    np.testing.assert_allclose(found.zhat, v * unit + zero, rtol=1e-5, atol=1e-6)
    assert (found.lead == n - step_function(node, v)).all()
    low, high = node.decoded(np.full(3, min(values)), 1), node.decoded(np.full(3, max(values)), 1)
    made = np.maximum(found.zhat + lift, 0) - lift
    np.testing.assert_allclose(found.errors[2], np.clip(made, low, high) - made, atol=1e-5)
    assert (received(node, n, v) == v - 1).all()


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=9), st.integers(1, 6), st.integers(0, 2))
def test_a_code_sends_the_nearest_count_of_the_table(values: list[int], timesteps: int, settle: int) -> None:
    if not any(values):
        return
    node = table(values)
    a = np.linspace(-9, 9, 60, dtype=np.float32).reshape(20, 3)
    coded = counts(node, a, timesteps)
    assert set(np.unique(coded)) <= set(values)
    every = np.unique(values)
    apart = np.abs(node.decoded(coded, timesteps) - a)
    others = [np.abs(node.decoded(np.full_like(coded, value), timesteps) - a) for value in every]
    assert (apart <= np.min(others, axis=0) + 1e-4).all()
    train = evenly_spaced(coded, timesteps, settle)
    assert (train.sum(axis=0) == coded).all()
    assert np.abs(train).max() <= -(-np.abs(coded).max() // timesteps)
    assert not train[timesteps:].any()


@dataclass(frozen=True)
class Made:
    """A quantised network, converted."""

    path: Path
    artefact: Artefact
    source: AnnGraph

    def measured(self, change: Callable[[SnnGraph], SnnGraph] = lambda graph: graph) -> Measurement:
        graph = change(self.artefact.graph)
        graph.verify()
        changed = replace(self.artefact, graph=graph)
        return measure(changed, self.source, rows(30, 2), None, simulator=SIMULATOR, threads=1)


def made(folder: Path, **options: Any) -> Made:
    net = quantised_models.qdq(3, "uint8")
    path = folder / "model.onnx"
    path.write_bytes(net.model((3, 6, 6), {"y": TensorProto.FLOAT}).SerializeToString())
    artefact = convert(path, rows(40, 1), Options(threads=1, **options)).artefact
    return Made(path, artefact, prepared_source(artefact, path, SIMULATOR))


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("exact"), preset="exact", timesteps=2)


def layer(found: Measurement, name: str) -> LayerReport:
    return next(item for item in found.layers if item.name == name)


def test_levels_that_are_kept_have_no_errors(exact: Made) -> None:
    found = exact.measured()
    assert len(found.populations) == len(exact.artefact.graph.of_type(IntegrateFire)) > 3
    for item in found.populations:
        assert item.local.total < 1e-12
        assert item.cumulative.total < 1e-12
        assert item.cumulative.power > 0
        assert item.firing is not None
        assert item.firing.residual_mean is None
        assert item.firing.lead == (0, 0, 1, 0, 0)
    assert found.layers[-1].cumulative.total < 1e-9


def population(name: str, change: Callable[[IntegrateFire], IntegrateFire]) -> Callable[[SnnGraph], SnnGraph]:
    def changed(graph: SnnGraph) -> SnnGraph:
        node = graph[name]
        assert isinstance(node, IntegrateFire)
        return graph.replacing({name: change(node)})

    return changed


def narrow(node: IntegrateFire) -> IntegrateFire:
    """Leave the highest three quarters of the levels out."""
    assert node.step_values is not None
    return node.with_(step_values=np.minimum(node.step_values, int(node.step_values.max()) // 4))


def coarse(node: IntegrateFire) -> IntegrateFire:
    """Keep every 32nd level."""
    assert node.step_values is not None
    return node.with_(step_values=node.step_values // 32 * 32)


def rough(graph: SnnGraph) -> SnnGraph:
    node = graph["n_c0"]
    assert isinstance(node, Convolution)
    weight = (np.rint(node.weight / 48) * 48).clip(-127, 127).astype(np.int8)
    return graph.replacing({"n_c0": node.with_(weight=weight)})


PLANTED: dict[str, tuple[Callable[[SnnGraph], SnnGraph], str]] = {
    "a narrow table": (population("n_c", narrow), "clipping"),
    "a coarse table": (population("n_c", coarse), "quantisation"),
    "coarse weights": (rough, "parameters"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_each_term_catches_its_own_cause(name: str, exact: Made) -> None:
    change, term = PLANTED[name]
    found = exact.measured(change)
    item = layer(found, "n_c").local
    rms: dict[str, float] = dict(zip(TERMS, item.rms, strict=True))
    assert rms[term] == max(rms[other] for other in OWN)
    assert rms[term] > 4 * max(rms[other] for other in TERMS if other != term)
    assert layer(found, "n_b1").cumulative.total < 1e-12
    behind = layer(found, "n_d1")
    assert sum(behind.local.rms[1:]) < 1e-6
    assert behind.cumulative.of("propagated") == pytest.approx(behind.cumulative.total, rel=0.05)


def test_a_limit_makes_unevenness_alone(exact: Made) -> None:
    change = population("n_b1", lambda node: node.with_(neuron=Neuron(128, 1)))
    item = layer(exact.measured(change), "n_b1").cumulative
    rms: dict[str, float] = dict(zip(TERMS, item.rms, strict=True))
    assert rms["unevenness"] == max(rms.values())
    assert max(value for term, value in rms.items() if term != "unevenness") < 1e-6


def test_the_report_of_other_presets_holds_the_rounding_of_the_source(tmp_path: Path) -> None:
    """What is compared is what the source gives, which is rounded to its levels."""
    found = made(tmp_path, preset="fast", timesteps=4)
    measured = found.measured()
    graph, x = found.artefact.graph, rows(30, 2)
    trace = SIMULATOR.run(graph, found.artefact.encode(x), 4, RecordOptions(states=True))
    _, values = run_ann(found.source, x, [node.stands_for for node in graph.of_type(IntegrateFire)])
    for node in graph.of_type(IntegrateFire):
        relu = found.source[node.stands_for]
        assert isinstance(relu, Relu)
        raised = 0.0 if relu.shift is None else relu.shift.reshape(-1, *(1,) * (len(node.shape) - 1))
        a = values[node.stands_for].astype(np.float64) + raised
        phi = node.decoded(trace.counts[node.name], 4).astype(np.float64)
        split = layer(measured, node.name).cumulative
        assert split.total == pytest.approx(np.square(phi - a).sum() / np.square(a).sum(), rel=1e-4)


def test_potentials_that_tell_nothing_are_named(exact: Made) -> None:
    def forget(node: IntegrateFire) -> IntegrateFire:
        return node.with_(potential_unit=None, potential_zero=None)

    graph = exact.artefact.graph.map(IntegrateFire, forget)
    with pytest.raises(UsageError, match="does not tell what its potential stands for"):
        prepared_source(replace(exact.artefact, graph=graph), exact.path, SIMULATOR)


@pytest.fixture(scope="module")
def files(exact: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    folder = tmp_path_factory.mktemp("files")
    artefact, data = folder / "a.snn.onnx", folder / "x.npz"
    save(exact.artefact, artefact)
    np.savez(data, x=rows(30, 2), y=np.arange(30) % 4)
    np.savez(folder / "c.npz", x=rows(40, 1))
    return [str(artefact), "--data", str(data), "--source", str(exact.path), "--threads", "1"], folder


def told(capsys: pytest.CaptureFixture[str], verb: str, words: list[str]) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    assert main([verb, *words, "--json"]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def test_the_report_is_written(
    files: tuple[list[str], Path], exact: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    words, folder = files
    found, warned = told(capsys, "report", [*words, "-o", str(folder / "r.html")])
    jsonschema.validate(found, schema())
    assert "warning" not in warned
    assert all(item["cumulative"]["total"] < 1e-9 for item in found["layers"])
    assert "time steps" not in found["verdict"]["option"]
    assert "--timesteps" not in found["verdict"]["option"]
    points = found["accuracy_against_timesteps"]["this_artefact"]
    assert [point["timesteps"] for point in points] == [2]
    assert (folder / "r.html").read_text(encoding="utf-8").count("<svg") > 3


def test_the_curve_is_of_one_t_and_of_conversions_for_others(
    files: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words, folder = files
    again = ["--curve", "1,4", "--reconvert", "--calib", str(folder / "c.npz")]
    found, warned = told(capsys, "report", [*words, *again])
    assert "the curve leaves out T = 1, 4: step functions hold for T = 2 alone" in warned
    curve = found["accuracy_against_timesteps"]
    assert [point["timesteps"] for point in curve["this_artefact"]] == [2]
    assert [point["timesteps"] for point in curve["converted_for_each"]] == [1, 2, 4]
    assert len({point["top1"] for point in curve["converted_for_each"]}) == 1


def test_bisect_finds_a_planted_table(
    files: tuple[list[str], Path], exact: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    words, folder = files
    sound, _ = told(capsys, "bisect", words)
    assert sound["layer"] is None
    assert {trial["share"] for trial in sound["trials"]} == {sound["trials"][0]["share"]}
    graph = population("n_c", narrow)(exact.artefact.graph)
    save(replace(exact.artefact, graph=graph), folder / "planted.snn.onnx")
    found, _ = told(capsys, "bisect", [str(folder / "planted.snn.onnx"), *words[1:]])
    assert found["largest"]["layer"] == "n_c"
    assert found["largest"]["cost_points"] > 0


@pytest.mark.parametrize("seed", range(6))
def test_limited_step_functions_are_certified(seed: int) -> None:
    graph = with_step_functions(random_graph(seed, timesteps=3, blocks=1, neuron=Neuron()), seed, share=1)

    def limit(node: IntegrateFire) -> IntegrateFire:
        return node.with_(neuron=replace(node.neuron, spikes_per_step=1), negative_threshold=None)

    graph = graph.map(IntegrateFire, limit)
    inputs = random_inputs(graph, 6, seed)
    front = certify(graph, inputs, SIMULATOR)
    assert quantised(graph).only_timesteps
    for found in front:
        if found.basis is Basis.PROVED:
            assert disagreements(graph, found, random_inputs(graph, 20, seed + 1), SIMULATOR).hits == 0
    assert front[-1].settle_steps == 0


def test_the_unit_of_a_potential_is_kept(exact: Made, tmp_path: Path) -> None:
    save(exact.artefact, tmp_path / "a.snn.onnx")
    for node in load(tmp_path / "a.snn.onnx").graph.of_type(IntegrateFire):
        before = exact.artefact.graph[node.name]
        assert isinstance(before, IntegrateFire)
        assert node.potential_unit is not None
        np.testing.assert_array_equal(node.potential_unit, before.potential_unit)
        np.testing.assert_array_equal(node.potential_zero, before.potential_zero)
