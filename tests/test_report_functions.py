"""The errors of functions of spike counts, and of networks of any activation: they add up, layer by layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.artefact import load, save
from snnc.compiler import Options, convert
from snnc.ir.snn import CountFunction, CountProduct, IntegrateFire
from snnc.metrics import Task
from snnc.report.bisection import bisect
from snnc.report.measuring import measure
from snnc.report.origin import prepared_source
from snnc.report.terms import TERMS, decompose_function
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests.onnx_models import Array, model, node, saved

SIMULATOR = ReferenceSimulator()


def gated(folder: Path) -> tuple[Path, Array]:
    """Write a network of SiLU, a gate of squeeze and excitation, and tanh; return it with rows."""
    nodes = [
        node("Conv", "x w", "a", pads=[1] * 4),
        node("Sigmoid", "a", "b"),
        node("Mul", "a b", "silu"),
        node("GlobalAveragePool", "silu", "m"),
        node("Conv", "m g", "gc"),
        node("Sigmoid", "gc", "gate"),
        node("Mul", "silu gate", "gated"),
        node("Conv", "gated v", "c", pads=[1] * 4),
        node("Tanh", "c", "t"),
        node("Flatten", "t", "f"),
        node("MatMul", "f u"),
    ]
    rng = np.random.default_rng(4)
    constants = {
        name: (rng.normal(size=shape) / np.prod(shape[1:]) ** 0.5).astype(np.float32)
        for name, shape in {"w": (6, 3, 3, 3), "g": (6, 6, 1, 1), "v": (4, 6, 3, 3), "u": (144, 5)}.items()
    }
    x = rng.normal(size=(90, 3, 6, 6)).astype(np.float32)
    return saved(folder, model(nodes, ["N", 3, 6, 6], constants)), x


@pytest.mark.parametrize(("preset", "timesteps"), [("one-step", 1), ("balanced", 8)])
def test_functions_of_counts_are_layers_of_their_own(preset: str, timesteps: int, tmp_path: Path) -> None:
    path, x = gated(tmp_path)
    artefact = convert(path, x[:60], Options(threads=1, preset=preset, timesteps=timesteps)).artefact
    save(artefact, tmp_path / "a.snn.onnx")
    artefact = load(tmp_path / "a.snn.onnx")
    source = prepared_source(artefact, path, SIMULATOR)
    found = measure(artefact, source, x[60:], None, simulator=SIMULATOR, threads=1)
    graph, layers = artefact.graph, {item.name: item for item in found.layers}
    functions = [each for each in graph.nodes if isinstance(each, CountFunction) and each.unit is not None]
    assert len(functions) == 1
    record = RecordOptions(states=True, trains=tuple(each.name for each in functions))
    trace = SIMULATOR.run(graph, artefact.encode(x[60:]), timesteps, record)
    names = [each.name for each in functions] + ["Tanh_t"]
    _, values = run_ann(source, x[60:], names)
    for each in functions:
        assert each.unit is not None
        unit = each.unit.reshape(-1, *(1,) * (len(each.shape) - 1)).astype(np.float64)
        phi = unit * trace.trains[each.name].sum(axis=0).astype(np.float64)
        a, item = values[each.name].astype(np.float64), layers[each.name]
        error = np.square(phi - a).sum() / np.square(a).sum()
        assert item.cumulative.total == pytest.approx(error, rel=1e-4)
        rms: dict[str, float] = dict(zip(TERMS, item.cumulative.rms, strict=True))
        assert rms["parameters"] == rms["unevenness"] == 0
        assert rms["propagated"] > rms["quantisation"] > 0
    # What a function rounds is no error of the weights behind it.
    assert all(abs(item.local.of("parameters")) < 3e-3 for item in found.populations)
    tanh = graph["Tanh_t"]
    assert isinstance(tanh, IntegrateFire)
    a = values["Tanh_t"].astype(np.float64)
    phi = tanh.decoded(trace.counts["Tanh_t"], timesteps).astype(np.float64)
    split = layers["Tanh_t"].cumulative
    assert split.total == pytest.approx(np.square(phi - a).sum() / np.square(a).sum(), rel=1e-4)
    assert [item.name for item in found.layers if item.is_readout] == [found.layers[-1].name]


def test_hybrids_feed_functions_of_counts(tmp_path: Path) -> None:
    path, x = gated(tmp_path)
    artefact = convert(path, x[:60], Options(threads=1, preset="one-step", timesteps=1)).artefact
    source = prepared_source(artefact, path, SIMULATOR)
    found = bisect(artefact, source, x[60:], None, simulator=SIMULATOR, task=Task.REGRESSION, threads=1)
    names = [trial.layer for trial in found.trials]
    assert "Mul_gated" in names
    trace = SIMULATOR.run(artefact.graph, artefact.encode(x[60:]), 1)
    _, values = run_ann(source, x[60:], [source.output])
    apart = artefact.graph.readout.decoded(trace.logits, 1) - values[source.output]
    variance = values[source.output].var(axis=0).mean()
    # Only the read-out's own weights are not the spiking network's.
    assert found.trials[-1].loss == pytest.approx(np.square(apart).mean() / variance, rel=0.2)


@given(
    st.lists(st.floats(-9, 9, width=32), min_size=4, max_size=4),
    st.lists(st.floats(-9, 9, width=32), min_size=4, max_size=4),
    st.lists(st.integers(-9, 9), min_size=4, max_size=4),
    st.sampled_from([-0.7, 0.3]),
)
def test_the_terms_of_a_function_of_counts_add_up(
    a: list[float], reached: list[float], count: list[int], unit: float
) -> None:
    node = CountProduct(
        name="p",
        inputs=("a", "b"),
        shape=(4,),
        multiplier=1,
        shift=0,
        lowest=-5,
        highest=7,
        unit=np.full(4, unit, np.float32),
    )
    given_a, made, n = np.array([a], np.float32), np.array([reached], np.float32), np.array([count])
    found = decompose_function(node, given_a, made, n, (-5, 7))
    np.testing.assert_allclose(sum(found.errors), np.float32(unit) * n - given_a, atol=1e-6)
    low, high = sorted((-5 * unit, 7 * unit))
    np.testing.assert_allclose(found.errors[2], np.clip(made, low, high) - made, atol=1e-6)
