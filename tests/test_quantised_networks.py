"""Quantised networks become spiking ones whose counts are their levels, by their own integers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from snnc.artefact import save
from snnc.backends import load_backend, load_simulator
from snnc.backends.deployment import deploy, verify
from snnc.cli import main
from snnc.compiler import Conversion, Options, convert
from snnc.diagnostics import APPROXIMATED_LEVELS, OTHER_LEVELS
from snnc.errors import UnsupportedModelError, UsageError
from snnc.ir import ann
from snnc.ir.graph import IntArray
from snnc.ir.snn import Convolution, IntegrateFire, Linear
from snnc.numerics.levels import breakpoints, integer_weights, level_of
from snnc.simulation.protocol import RecordOptions
from snnc.source.exact_session import exact_session
from tests import onnx_models, quantised_models
from tests.quantised_models import Array, Network, rows
from tests.test_equivalence import assert_same

NETWORKS: dict[str, Callable[[], Network]] = {
    "integer operators": quantised_models.integer_operators,
    "more integer operators": quantised_models.more_integer_operators,
    "qdq int8": quantised_models.qdq,
    "qdq uint8": lambda: quantised_models.qdq(3, "uint8"),
}


def source_levels(net: Network, x: Array, names: list[str]) -> dict[str, IntArray]:
    """Return the source's integers, zero point subtracted, as onnxruntime computes them."""
    kinds = {name: helper.np_dtype_to_tensor_dtype(net.constants[f"{name}_zero"].dtype) for name in names}
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    proto = net.model(x.shape[1:], kinds)
    session = exact_session(proto.SerializeToString(), options)
    found = session.run(None, {"x": x})
    return {
        name: np.asarray(values).astype(np.int64) - net.levels[name]
        for name, values in zip(names, found, strict=True)
    }


def converted(net: Network, folder: Path, **options: object) -> Conversion:
    path = folder / "model.onnx"
    path.write_bytes(net.model((3, 6, 6), {"y": TensorProto.FLOAT}).SerializeToString())
    return convert(path, rows(40, 1), Options(threads=1, **options))  # type: ignore[arg-type]


def unequal(conversion: Conversion, net: Network, x: Array) -> dict[str, tuple[int, int]]:
    """Return for each population how many counts are not the source's level, and how many there are."""
    graph = conversion.artefact.graph
    populations: dict[str, list[str]] = {}  # one that joins tensors of other scales rounds each of them
    for node in graph.of_type(IntegrateFire):
        populations.setdefault(node.origin.removeprefix("n_"), []).append(node.name)
    trace = load_simulator("numba", 1).run(
        graph, conversion.artefact.encode(x), graph.timesteps, RecordOptions(states=True)
    )
    levels = source_levels(net, x, list(populations))
    found = {}
    for tensor, names in populations.items():
        counts = np.concatenate([trace.counts[name] for name in names], axis=1)
        wanted = levels[tensor].reshape(counts.shape)
        assert len(np.unique(wanted)) > 8, f"{tensor} says too little to show anything"
        found[tensor] = (int((counts != wanted).sum()), counts.size)
    return found


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Network, Conversion]]:
    found = {}
    for name, make in NETWORKS.items():
        net = make()
        found[name] = (net, converted(net, tmp_path_factory.mktemp("quantised"), preset="exact", timesteps=1))
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_are_levels(name: str, exact: Mapping[str, tuple[Network, Conversion]]) -> None:
    net, conversion = exact[name]
    assert not [d for d in conversion.diagnostics if d.code is APPROXIMATED_LEVELS]
    found = unequal(conversion, net, rows(60, 2))
    assert sum(wrong for wrong, _ in found.values()) <= 1e-4 * sum(size for _, size in found.values()), found


def test_ties_that_no_integers_keep_are_counted(tmp_path: Path) -> None:
    """With scales of 3 to 4 many sums lie half-way between two levels, and float32 tosses a coin for each."""
    net = quantised_models.qdq()
    for name, scale in (("b", 0.045), ("c", 0.06), ("d", 0.058)):
        net.constants[f"{name}_scale"] = np.asarray(scale, np.float32)
    conversion = converted(net, tmp_path, preset="exact", timesteps=1)
    (found,) = (d for d in conversion.diagnostics if d.code is APPROXIMATED_LEVELS)
    assert "pairs of levels are a tie" in found.message
    wrong, size = unequal(conversion, net, rows(60, 2))["d"]
    assert 0 < wrong <= 0.002 * size


def test_moved_activations_keep_their_zero_point(tmp_path: Path) -> None:
    """It decides how a sum that lies half-way between two levels is rounded."""
    net = quantised_models.sliced_sum()
    conversion = converted(net, tmp_path, preset="exact", timesteps=1)
    wrong, size = unequal(conversion, net, rows(100, 2))["d"]
    assert wrong <= 0.002 * size


@pytest.mark.parametrize("kind", ["pooled", "scales"])
def test_sums_that_are_no_pairs_of_levels_are_approximated(kind: str, tmp_path: Path) -> None:
    net = quantised_models.rounded_sum(kind)
    conversion = converted(net, tmp_path, preset="exact", timesteps=1)
    (found,) = (d for d in conversion.diagnostics if d.code is APPROXIMATED_LEVELS)
    assert "currents of different scales" in found.message
    wrong, size = unequal(conversion, net, rows(30, 2))["d"]
    assert wrong <= 0.01 * size


def test_integer_operators_are_kept_to_the_last_count(
    exact: Mapping[str, tuple[Network, Conversion]],
) -> None:
    net, conversion = exact["integer operators"]
    assert {wrong for wrong, _ in unequal(conversion, net, rows(200, 3)).values()} == {0}


@pytest.mark.parametrize(
    ("scales", "integers", "level"),
    [
        ((0.01614103, 0.004513803, 0.023529412), (132, 126), 51),
        ((0.023529412, 0.0032646696, 0.023529412), (193, 123), 77),
    ],
)
def test_a_tie_of_real_values_alone_is_none_of_the_integers(
    scales: tuple[float, float, float], integers: tuple[int, int], level: int, tmp_path: Path
) -> None:
    """Real values in float32 may tie at 51.5 and 77.5 levels; the sum of integers is a little less."""
    entry, weight, given_ = (np.array(scale, np.float32) for scale in scales)
    constants = {"a": entry, "b": weight, "c": given_, "w": np.array([[integers[1]]], np.int8)}
    constants |= {"zero": np.array(0, np.uint8), "even": np.array(0, np.int8)}
    nodes = [
        onnx_models.node("QuantizeLinear", "x a zero", "q"),
        onnx_models.node("QLinearMatMul", "q a zero w b even c zero", "m"),
        onnx_models.node("DequantizeLinear", "m c zero", "y"),
    ]
    path = onnx_models.saved(tmp_path, onnx_models.model(nodes, ["N", 1], constants))
    x = np.linspace(0, 255, 40, dtype=np.float32)[:, None] * entry
    x[0] = integers[0] * entry
    artefact = convert(path, x, Options(preset="exact", timesteps=1, threads=1)).artefact
    trace = load_simulator("reference", 1).run(
        artefact.graph, artefact.encode(x), 1, RecordOptions(states=True)
    )
    (last,) = (each.name for each in artefact.graph.of_type(IntegrateFire) if each.origin.endswith("_m"))
    counts = trace.counts[last].ravel()
    session = exact_session(str(path), ort.SessionOptions())
    wanted = np.rint(np.asarray(session.run(None, {"x": x})[0]).ravel() / given_)
    assert counts[0] == wanted[0] == level
    assert np.array_equal(counts, wanted)


@pytest.mark.parametrize("timesteps", [2, 3, 16, 255])
def test_every_t_ends_at_the_same_counts(timesteps: int, tmp_path: Path) -> None:
    net = quantised_models.integer_operators()
    conversion = converted(net, tmp_path, preset="exact", timesteps=timesteps)
    assert {wrong for wrong, _ in unequal(conversion, net, rows(5, 2)).values()} == {0}


def test_with_a_barrier_too(tmp_path: Path) -> None:
    net = quantised_models.integer_operators()
    settings_ = {"set-schedule.kind": "layerwise"}
    conversion = converted(net, tmp_path, preset="exact", timesteps=4, settings=settings_)
    assert {wrong for wrong, _ in unequal(conversion, net, rows(5, 2)).values()} == {0}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_sources_integers_are_the_weights(
    name: str, exact: Mapping[str, tuple[Network, Conversion]]
) -> None:
    net, conversion = exact[name]
    found = 0
    for node in conversion.artefact.graph:
        if not isinstance(node, Convolution | Linear):
            continue
        stored = [w for w in net.constants.values() if w.dtype == np.int8]
        assert any(np.array_equal(w, node.weight) or np.array_equal(w.T, node.weight) for w in stored)
        found += 1
    assert found == 3


def test_simulators_agree(exact: Mapping[str, tuple[Network, Conversion]]) -> None:
    _, conversion = exact["qdq int8"]
    assert_same(conversion.artefact.graph, conversion.artefact.encode(rows(3, 5)), 1)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_c_agrees(exact: Mapping[str, tuple[Network, Conversion]], tmp_path: Path) -> None:
    _, conversion = exact["integer operators"]
    deploy(conversion.artefact, load_backend("c99"), tmp_path / "bundle")
    verdict = verify(tmp_path / "bundle").verdict
    assert verdict is not None
    assert (verdict.wrong, verdict.rows > 0) == (0, True)


def test_it_is_chosen_where_nothing_is_asked_for(tmp_path: Path) -> None:
    net = quantised_models.integer_operators()
    conversion = converted(net, tmp_path)
    assert conversion.choice is not None
    assert str(conversion.choice.chosen) == "exact, T = 1"
    assert "lower-quantised" in conversion.artefact.metadata.pipeline


def test_a_payload_that_its_levels_exceed_leaves_it_out(tmp_path: Path) -> None:
    conversion = converted(quantised_models.integer_operators(), tmp_path, payload="signed", timesteps=4)
    assert conversion.choice is not None
    assert conversion.choice.chosen.preset != "exact"


def test_other_presets_say_that_they_do_not_keep_the_levels(tmp_path: Path) -> None:
    conversion = converted(quantised_models.integer_operators(), tmp_path, preset="fast", timesteps=4)
    (found,) = (d for d in conversion.diagnostics if d.code is OTHER_LEVELS)
    assert "--preset exact" in found.help


def with_float_weights(net: Network) -> Network:
    """Replace the integer weights of :func:`tests.quantised_models.learned` by floats."""
    for name in ("wb", "wc", "wg"):
        net.nodes = [n for n in net.nodes if n.output[0] != f"{name}_real"]
        shape = net.constants.pop(name).shape
        del net.constants[f"{name}_scale"], net.constants[f"{name}_zero"]
        net.constants[f"{name}_real"] = (net.rng.normal(size=shape) * 0.1).astype(np.float32)
    return net


def unlike(net: Network, conversion: Conversion, tensors: tuple[str, ...], x: Array) -> float:
    """Return the share of counts that are not the level to which the source's chains of floats round."""
    graph = conversion.artefact.graph
    trace = load_simulator("numba", 1).run(
        graph, conversion.artefact.encode(x), 1, RecordOptions(states=True)
    )
    proto = net.model(x.shape[1:], dict.fromkeys(tensors, TensorProto.FLOAT))
    session = exact_session(proto.SerializeToString(), ort.SessionOptions())
    wrong = size = 0
    for values, node in zip(session.run(None, {"x": x}), graph.of_type(IntegrateFire), strict=True):
        scale = node.spike_scale.reshape(-1, 1, 1)
        wrong += int((np.rint(np.asarray(values) / scale) != trace.counts[node.name]).sum())
        size += trace.counts[node.name].size
    return wrong / size


def test_learned_steps_with_integer_weights_are_exact(tmp_path: Path) -> None:
    net = quantised_models.learned()
    conversion = converted(net, tmp_path, preset="exact", timesteps=1)
    assert not [d for d in conversion.diagnostics if d.code is APPROXIMATED_LEVELS]
    assert unlike(net, conversion, ("b7", "c6"), rows(60, 2)) <= 1e-4


def test_float_weights_are_named(tmp_path: Path) -> None:
    net = with_float_weights(quantised_models.learned())
    conversion = converted(net, tmp_path, preset="exact", timesteps=1)
    (found,) = (d for d in conversion.diagnostics if d.code is APPROXIMATED_LEVELS)
    assert "rounded to 16 bits" in found.message
    assert converted(net, tmp_path, timesteps=2).artefact.metadata.preset != "exact"


def test_finer_weights_round_fewer_counts_otherwise(tmp_path: Path) -> None:
    net = with_float_weights(quantised_models.learned())
    differ = []
    for bits in (8, 12, 16):
        asked = {"lower-quantised.weight-bits": bits}
        conversion = converted(net, tmp_path, preset="exact", timesteps=1, settings=asked)
        differ.append(unlike(net, conversion, ("b7", "c6"), rows(60, 2)))
    assert differ[0] > 4 * differ[1] > 16 * differ[2]
    assert differ[2] <= 1e-3


@pytest.mark.parametrize("timesteps", [1, 8])
def test_a_residual_network_of_learned_steps_with_float_weights(timesteps: int, tmp_path: Path) -> None:
    net = quantised_models.qcfs_residual()
    path = tmp_path / "model.onnx"
    path.write_bytes(net.model((3, 6, 6), {"y": TensorProto.FLOAT}).SerializeToString())
    images = quantised_models.images
    conversion = convert(path, images(40, 1), Options(threads=1, preset="exact", timesteps=timesteps))
    graph = conversion.artefact.graph
    assert [
        len(node.step_values) for node in graph.of_type(IntegrateFire) if node.step_values is not None
    ] == [9] * 3
    if timesteps == 1:
        assert unlike(net, conversion, ("a", "b", "d"), images(200, 2)) <= 1e-3
    once = convert(path, images(40, 1), Options(threads=1, preset="exact", timesteps=1)).artefact
    x = images(20, 3)
    run = load_simulator("numba", 1).run
    found, expected = (
        run(a.graph, a.encode(x), a.graph.timesteps, RecordOptions(states=True)).counts
        for a in (conversion.artefact, once)
    )
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_integers_are_asked_for_in_integers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave out --precision float32"):
        converted(quantised_models.learned(), tmp_path, preset="exact", timesteps=1, precision="float32")


@pytest.mark.parametrize(("low", "high"), [(-128, 128), (0, 256)])
def test_bytes_may_be_larger_than_those_of_the_calibration(low: int, high: int, tmp_path: Path) -> None:
    """Dark calibration images say neither that no pixel is above 127 nor that none is below 0."""
    net = quantised_models.of_integers()
    path = tmp_path / "model.onnx"
    path.write_bytes(net.model((3, 6, 6), {"y": TensorProto.FLOAT}).SerializeToString())
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 101, (40, 3, 6, 6)).astype(np.float32)
    conversion = convert(path, dark, Options(threads=1, preset="exact"))
    x = rng.integers(low, high, (30, 3, 6, 6)).astype(np.float32)
    assert unequal(conversion, net, x)["b"][0] == 0


def test_a_float_network_has_no_levels_to_keep(tmp_path: Path) -> None:
    net = Network(0)
    net.constant("w", np.random.default_rng(0).normal(size=(108, 4)).astype(np.float32))
    net.node("Relu", ["x"], "r")
    net.node("Flatten", ["r"], "f")
    net.node("MatMul", ["f", "w"], "y")
    with pytest.raises(UnsupportedModelError, match="1 of 1 rectifiers do not round"):
        converted(net, tmp_path, preset="exact", timesteps=1)


@given(
    step=st.floats(1e-4, 0.5),
    bias=st.floats(-3, 3),
    scale=st.floats(0.01, 2),
    rounding=st.sampled_from(ann.ROUNDINGS),
    highest=st.integers(1, 255),
    lowest=st.integers(-128, 0),
)
@settings(max_examples=60)
def test_breakpoints_are_where_the_source_changes_its_level(
    step: float, bias: float, scale: float, rounding: str, highest: int, lowest: int
) -> None:
    node = ann.Relu(
        name="r",
        inputs=("x",),
        shape=(1,),
        scale=np.array([scale], np.float32),
        lowest=lowest,
        highest=min(highest, 255 + lowest) or 1,
        rounding=rounding,
    )
    steps, biases = np.array([step]), np.array([bias])
    points = breakpoints(node, steps, biases)
    assert points.shape == (1, node.steps)
    tried = np.unique(np.concatenate([points[0] - 1, points[0], points[0] + 1])).astype(np.int64)
    given_ = node.lowest + np.searchsorted(points[0], tried, side="right")
    assert np.array_equal(given_, level_of(node, tried[None], steps, biases)[0])


@given(
    seed=st.integers(0, 2**20),
    most=st.sampled_from([1, 3, 7, 127]),
    size=st.integers(2, 40),
    hinted=st.booleans(),
)
def test_integers_are_found_again_in_real_weights(seed: int, most: int, size: int, hinted: bool) -> None:
    rng = np.random.default_rng(seed)
    integers = rng.integers(-most, most + 1, (3, size))
    scale = rng.uniform(1e-3, 0.1, 3).astype(np.float32)
    weight = (integers.astype(np.float32) * scale[:, None]).astype(np.float64)
    found = integer_weights(weight, scale.astype(np.float64) if hinted else None)
    assert found.exact.all()
    assert np.allclose(found.values * found.step[:, None], weight, rtol=1e-5, atol=1e-9)
    if hinted:
        assert np.array_equal(found.values, integers)


SHARED = Path(__file__).parents[2] / "shared"
REAL = {
    "tinycnn_cifar_int8_ort": SHARED / "wild" / "models" / "tinycnn_cifar_int8_ort.onnx",
    "mlperf_resnet8_int8_tflite": SHARED / "models" / "mlperf_resnet8_int8_tflite.onnx",
    "qonnx_tfc_2w2a": SHARED / "models" / "qonnx_tfc_2w2a.onnx",
}


@pytest.mark.parametrize("name", REAL)
def test_networks_of_others_keep_their_levels(name: str) -> None:
    if not REAL[name].exists():
        pytest.skip(f"{REAL[name]} is not there: the corpus is kept outside the project")
    quantised = import_module("benchmarks.corpus.quantised")
    found = quantised.measured(name, rows=24)
    assert found.equal >= 0.999 * found.seen
    assert found.agree >= 23


def test_the_exact_network_compares_with_its_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its layers have no errors; its answers, and limits on them, are judged all the same."""
    made = tmp_path / "made.snn.onnx"
    save(converted(quantised_models.qdq(), tmp_path, preset="exact", timesteps=1).artefact, made)
    np.savez(tmp_path / "rows.npz", x=rows(20, 2))
    asked = ["compare", str(tmp_path / "model.onnx"), str(made), "--data", str(tmp_path / "rows.npz")]
    capsys.readouterr()
    assert main([*asked, "--task", "classes", "--max-drop", "0", "--threads", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["agreement"], found["drop_points"]) == (1, 0)
    assert len(found["rows"]) == 6
    assert max(max(alone, running) for _, alone, running, _ in found["rows"]) < 1e-9


def test_a_bundle_tells_the_range_of_the_input(tmp_path: Path) -> None:
    """Zero lies not in the middle of a uint8 code, so the two ends of the clip differ."""
    made = converted(quantised_models.qdq(), tmp_path, preset="exact", timesteps=1).artefact
    low, high = made.graph.encoder.range
    assert low != -high
    deploy(made, load_backend("c99"), tmp_path / "bundle")
    assert f"clip(rint(x / scale), {low}, {high})" in (tmp_path / "bundle" / "README.md").read_text()
