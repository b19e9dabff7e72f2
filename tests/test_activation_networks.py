"""Networks with activations of any kind, converted: near their source, and the same on every simulator."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.artefact import Artefact, load, save
from snnc.backends import load_backend
from snnc.backends.deployment import deploy, verify
from snnc.compiler import Options, convert
from snnc.errors import UnsupportedModelError
from snnc.ir import ann, snn
from snnc.ir.bounds import step_bounds
from snnc.ir.function import IDENTITY
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray
from snnc.ir.text import print_exact
from snnc.passes import PRESETS
from snnc.passes.clip_activations import ClipActivations
from snnc.pipeline import Context, run_pipeline
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.reference import ReferenceSimulator, encode_all
from snnc.source.calibration import Calibration
from tests import onnx_models
from tests.ann_graphs import Builder
from tests.test_equivalence import assert_same

SILU = "Sigmoid(x); Mul(x, v0)"
PER_CHANNEL = np.linspace(-0.5, 0.5, 6, dtype=np.float32)[None]
ROWS = 96


def network() -> ann.AnnGraph:
    """Return SiLU, Tanh, a slope per channel, and a sigmoid behind a sum with an identity branch."""
    b = Builder(0, (2, 6, 6))

    def function(name: str, source: str, program: str, constants: FloatArray = IDENTITY.constants) -> str:
        shape = b.shapes[source]
        return b.add(
            ann.Pointwise(name=name, inputs=(source,), shape=shape, program=program, constants=constants)
        )

    silu = function("silu", b.conv("c1", "x", 6), SILU)
    tanh = function("tanh", b.conv("c2", silu, 6), "Tanh(x)")
    leaky = function("leaky", b.conv("c3", tanh, 6), "LeakyRelu(x, c0)", PER_CHANNEL)
    total = function("sigmoid", b.sum("sum", silu, b.conv("c4", leaky, 6)), "Sigmoid(x)")
    pooled = b.max_pool("pool", total)
    flat = b.add(ann.Reshape(name="flat", inputs=(pooled,), shape=(54,)))
    weight, bias = b.normal(5, 54, scale=0.2), b.normal(5)
    end = b.add(ann.Linear(name="dense", inputs=(flat,), shape=(5,), weight=weight, bias=bias))
    graph = ann.AnnGraph(name="net", nodes=tuple(b.nodes), outputs=(end,), output_names=("y",))
    graph.verify()
    return graph


def converted(preset: str, timesteps: int) -> snn.SnnGraph:
    rows = np.random.default_rng(1).normal(size=(ROWS, 2, 6, 6)).astype(np.float32)
    context = Context(Calibration(rows, 1), timesteps, ReferenceSimulator())
    made, _ = run_pipeline(PRESETS[preset].pipeline, network(), context)
    assert isinstance(made, snn.SnnGraph)
    return made


def noise(graph: snn.SnnGraph, rows: FloatArray) -> float:
    """Return the squared error of the answers, relative to their variance."""
    trace = ReferenceSimulator().run(graph, encode_all(graph, rows), graph.timesteps)
    found = graph.readout.decoded(trace.logits, graph.timesteps)
    wanted = run_ann(network(), rows)[0]
    return float(np.square(found - wanted).sum() / np.square(wanted - wanted.mean(0)).sum())


NEW = np.random.default_rng(2).normal(size=(24, 2, 6, 6)).astype(np.float32)
CASES = {
    ("precise", 1): 0.01,
    ("one-step", 1): 0.1,
    ("one-step", 8): 0.1,
    ("low-latency", 4): 0.2,
    ("balanced", 8): 0.3,
    ("graded", 4): 0.6,
    ("fast", 2): 3.0,
}


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]} T={case[1]}")
def case(request: pytest.FixtureRequest) -> tuple[snn.SnnGraph, float]:
    return converted(*request.param), CASES[request.param]


def test_answers_are_near_the_source(case: tuple[snn.SnnGraph, float]) -> None:
    graph, most = case
    assert noise(graph, NEW) < most


def test_every_simulator_gives_the_same(case: tuple[snn.SnnGraph, float]) -> None:
    graph, _ = case
    assert_same(graph, encode_all(graph, NEW[:3]), graph.timesteps)


def test_functions_have_their_levels(case: tuple[snn.SnnGraph, float]) -> None:
    graph, _ = case
    stepped = [node for node in graph.of_type(snn.IntegrateFire) if node.breakpoints is not None]
    functions = {"silu", "tanh", "sigmoid"}
    divided = graph["leaky"].shape == (12, 6, 6)  # one rectifier for each sign
    assert {node.stands_for for node in stepped} == (functions if divided else functions | {"leaky"})
    for node in stepped:
        assert 0 < node.furthest() <= node.neuron.capacity(graph.timesteps)
        if node.stands_for in ("sigmoid", "tanh"):
            signs = 1 if node.stands_for == "sigmoid" else 2
            most = min(signs * node.neuron.capacity(graph.timesteps), snn.MOST_BREAKPOINTS)
            assert node.span() == most
        assert node.potential_unit is not None


def test_the_file_holds_every_bit(case: tuple[snn.SnnGraph, float], tmp_path: Path) -> None:
    graph, _ = case
    save(Artefact(graph), tmp_path / "a.snn.onnx")
    assert print_exact(load(tmp_path / "a.snn.onnx").graph) == print_exact(graph)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("timesteps", [1, 4])
def test_c_gives_the_same(timesteps: int, tmp_path: Path) -> None:
    deploy(Artefact(converted("one-step", timesteps)), load_backend("c99"), tmp_path / "bundle")
    verdict = verify(tmp_path / "bundle").verdict
    assert verdict is not None
    assert verdict.wrong == 0


def test_neurons_that_take_nothing_back_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="take nothing back"):
        converted("binary-only", 4)


@pytest.mark.parametrize("alone", [True, False])
def test_what_a_maximum_alone_reads_is_measured_behind_it(alone: bool) -> None:
    """The largest of many values are cut off least where nothing else is read."""
    b = Builder(0, (2, 12, 12))
    silu = b.add(
        ann.Pointwise(
            name="silu", inputs=("x",), shape=(2, 12, 12), program=SILU, constants=IDENTITY.constants
        )
    )
    ends = [b.flatten("largest", b.max_pool("pool", silu, Window((12, 12))))]
    ends += [] if alone else [b.flatten("means", b.mean("mean", silu))]
    graph = b.graph(b.linear("dense", b.concat("both", *ends), 3))
    rows = np.random.default_rng(1).laplace(size=(2000, 2, 12, 12)).astype(np.float32)
    largest = run_ann(graph, rows, ["pool"])[1]["pool"]
    clipped = ClipActivations(levels=15).run(graph, Context(Calibration(rows, 1), 1, ReferenceSimulator()))
    node = clipped["silu"]
    assert isinstance(node, ann.Pointwise)
    assert node.step is not None
    kept = np.square(largest - np.minimum(largest, node.step.max() * node.highest)).mean() / largest.var()
    assert (kept < 0.02) == alone


def test_a_place_may_be_the_mean_of_a_large_map() -> None:
    """Counts of a softmax go beyond 255: weights of what sums 256 of them have as many bits fewer."""
    nodes = [
        onnx_models.node("Reshape", "x flat", "f"),
        onnx_models.node("Softmax", "f", "p", axis=2),
        onnx_models.node("Reshape", "p square", "q"),
        onnx_models.node("Mul", "q down", "m"),
        onnx_models.node("Mul", "q right", "k"),
        onnx_models.node("ReduceSum", "m axes", "u", keepdims=0),
        onnx_models.node("ReduceSum", "k axes", "v", keepdims=0),
        onnx_models.node("Concat", "u v", "y", axis=1),
    ]
    line = np.linspace(-1, 1, 16, dtype=np.float32)
    down, right = np.meshgrid(line, line, indexing="ij")
    constants: dict[str, Any] = {"flat": [0, 2, 256], "square": [0, 2, 16, 16], "axes": [2, 3]}
    constants |= {"down": down[None, None].copy(), "right": right[None, None].copy()}
    rows = np.random.default_rng(0).normal(size=(80, 2, 16, 16)).astype(np.float32)
    rows += 4 * np.exp(-np.square(np.arange(16) - np.arange(80)[:, None, None, None] % 16))
    network = onnx_models.model(nodes, ["n", 2, 16, 16], constants)
    artefact = convert(network, rows, Options(1, "precise", threads=1)).artefact
    bounds = step_bounds(artefact.graph, 1)
    sums = [bounds[each.name] for each in artefact.graph.of_type(snn.SumPool)]
    assert sums
    assert max(sums) < 2**30  # with room for a bias and a start
    found = artefact.decode(ReferenceSimulator().run(artefact.graph, artefact.encode(rows), 1))["y"]
    likely = np.exp(rows.reshape(80, 2, 256).astype(np.float64))
    likely /= likely.sum(axis=2, keepdims=True)
    wanted = np.concatenate([(likely * each.ravel()).sum(axis=2) for each in (down, right)], axis=1)
    assert np.square(found - wanted).sum() < 0.005 * np.square(wanted - wanted.mean()).sum()
