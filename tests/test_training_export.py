"""Architectures, and what is written of them: read back to the same integers, bit for bit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from snnc.arguments import read_source
from snnc.cli import main
from snnc.cli.train import ARCHITECTURES as OFFERED
from snnc.compiler import Options, convert
from snnc.errors import InputError, UnsupportedModelError
from snnc.ir import ann, snn
from snnc.ir.neuron import Neuron
from snnc.ir.snn import SnnGraph
from snnc.passes import PASSES
from snnc.pipeline import Context, Pipeline, run_pipeline
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator, encode_all
from snnc.source.calibration import Calibration
from snnc.training import extra
from snnc.training.architectures import ARCHITECTURES, initial
from snnc.training.deployable import deployable, pooled_norms
from snnc.training.export import exported, power_below
from snnc.training.layers import EPSILON, PIXEL, Layers
from snnc.training.sketch import Sketch
from tests.onnx_models import Array

LOWERED = "lower{input-limit=255},graded,set-schedule,init-membrane{fraction=0.5},quantise-weights"


def images(count: int, side: int = 16, seed: int = 0) -> Array:
    """Squares of random grey levels with noise; the first is black and the second white."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 200, (count, 3, side // 4, side // 4)).repeat(4, 2).repeat(4, 3)
    x = (coarse + random.integers(0, 56, (count, 3, side, side))).astype(np.uint8)
    x[0], x[1] = 0, 255
    return x


def levelled(name: str, x: Array, levels: int) -> ann.AnnGraph:
    """An architecture with random statistics, every rectifier clipped at some threshold."""
    graph = read_source(initial(name, x, 5, 0))[0].graph
    random = np.random.default_rng(1)

    def moved(node: ann.BatchNormalisation) -> ann.BatchNormalisation:
        scale = random.uniform(0.7, 1.3, node.channels).astype(np.float32)
        shift = random.uniform(-0.5, 0.5, node.channels).astype(np.float32)
        return node.with_(scale=scale, shift=shift)

    def clipped(node: ann.Relu) -> ann.Relu:
        threshold = random.uniform(1, 3, node.channels).astype(np.float32)
        return node.with_(threshold=threshold, levels=levels)

    return graph.map(ann.BatchNormalisation, moved).map(ann.Relu, clipped)


def lowered(name: str, x: Array, levels: int) -> SnnGraph:
    context = Context(Calibration(x.astype(np.float32), 1), 1, ReferenceSimulator())
    graph = deployable(levelled(name, x, levels), context)
    made, _ = run_pipeline(Pipeline.parse(LOWERED, PASSES), graph, context)
    assert isinstance(made, SnnGraph)
    return made


def counts(graph: SnnGraph, x: Array, timesteps: int) -> list[Array]:
    trace = ReferenceSimulator().run(
        graph, encode_all(graph, x.astype(np.float32)), timesteps, RecordOptions(states=True)
    )
    return [np.asarray(trace.counts[node.name]) for node in graph.of_type(snn.IntegrateFire)]


@pytest.mark.parametrize(("name", "levels", "timesteps"), [("tiny", 4, 1), ("tiny", 3, 2), ("resnet8", 2, 2)])
def test_a_conversion_counts_what_was_written(name: str, levels: int, timesteps: int) -> None:
    x = images(12)
    made = lowered(name, x, levels)
    proto = exported(made)
    found = convert(proto, x, Options(timesteps, threads=1))
    assert found.artefact.metadata.pipeline.startswith("exact-max-pool{leave-rounded=true},lower-quantised")
    fresh = images(12, seed=5)
    graph = found.artefact.graph
    assert max(node.neuron.levels for node in graph.of_type(snn.IntegrateFire)) == -(-levels // timesteps)
    wanted = counts(made, fresh, 1)
    for one, other in zip(wanted, counts(graph, fresh, timesteps), strict=True):
        np.testing.assert_array_equal(one, other)
        assert len(np.unique(one)) >= levels
    # The file itself computes the same answers in onnxruntime.
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    answers = np.asarray(session.run(None, {proto.graph.input[0].name: fresh.astype(np.float32)})[0])
    trace = ReferenceSimulator().run(made, encode_all(made, fresh.astype(np.float32)), 1)
    (name_, values), *_ = trace.outputs.items()
    np.testing.assert_allclose(answers, made.readouts[name_].decoded(values, 1), rtol=1e-5, atol=1e-6)


def test_one_spike_a_step_is_exact_layer_by_layer() -> None:
    x = images(12)
    made = lowered("tiny", x, 4)
    settings = {"lower-quantised.limited": "true", "set-schedule.kind": "layerwise"}
    found = convert(exported(made), x, Options(2, "exact", settings=settings, threads=1))
    assert any("in the layerwise schedule alone" in each.message for each in found.diagnostics)
    graph, fresh = found.artefact.graph, images(12, seed=5)
    assert {node.neuron.payload for node in graph.of_type(snn.IntegrateFire)} == {"levels:2"}
    for one, other in zip(counts(made, fresh, 1), counts(graph, fresh, 2), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", [name for name, each in ARCHITECTURES.items() if not each.smooth])
def test_architectures_are_read_and_can_be_lowered(name: str) -> None:
    x = images(4, 32)
    model = initial(name, x, 7, 0)
    graph = read_source(model)[0].graph
    assert graph[graph.outputs[0]].shape == (7,)
    assert all(type(node) in (*ann_kinds(), ann.ChannelAffine) for node in graph)


def ann_kinds() -> tuple[type[ann.AnnNode], ...]:
    return (
        *(ann.Input, ann.Convolution, ann.BatchNormalisation, ann.Relu, ann.MaxPool, ann.AveragePool),
        *(ann.Add, ann.Reshape, ann.Linear),
    )


@pytest.mark.parametrize("name", ["tiny", "resnet8"])
def test_what_is_made_ready_computes_the_same(name: str) -> None:
    x = images(6)
    given = levelled(name, x, 4).without_thresholds()
    context = Context(Calibration(x.astype(np.float32), 1), 1, ReferenceSimulator())
    ready = deployable(given, context)
    assert not ready.of_type(ann.BatchNormalisation)
    assert (len(pooled_norms(given)) > 0) == (name == "tiny")
    one, other = (np.asarray(run_ann(graph, x.astype(np.float32))[0]) for graph in (given, ready))
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * np.abs(one).max())


def test_weights_depend_on_the_seed() -> None:
    x = images(4)
    first, again, other = (initial("tiny", x, 7, seed).SerializeToString() for seed in (0, 0, 1))
    assert first == again != other


def test_attention_normalisation_and_gelu_are_what_their_equations_say() -> None:
    """Of one block: attention ``v softmax(k' q / sqrt(d))`` and a branch with GELU, of what is normalised."""
    sketch = Sketch((8, 2, 3))
    layers = Layers(sketch, np.random.default_rng(0), images(4))
    layers.shapes[sketch.input] = sketch.shape
    proto = sketch.model(layers.transformed(sketch.input, 2, 12, gain=0.5), (8, 2, 3), "block")
    x = np.random.default_rng(1).normal(1, 2, (5, 8, 2, 3))
    weights = [numpy_helper.to_array(t) for t in proto.graph.initializer]
    maps = [w.reshape(w.shape[:2]).astype(np.float64) for w in weights if w.ndim == 4]

    def normalised(z: Array) -> Array:
        centred = z - z.mean(axis=1, keepdims=True)
        return np.asarray(centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON))

    flat = x.reshape(5, 8, 6)
    q, k, v = ((w @ normalised(flat)).reshape(5, 2, 4, 6) for w in maps[:3])
    scores = np.exp(k.swapaxes(2, 3) @ q / 2)
    found = (v @ (scores / scores.sum(axis=2, keepdims=True))).reshape(5, 8, 6)
    y = flat + maps[3] @ found
    inner = maps[4] @ normalised(y)
    bent = np.vectorize(math.erf)(inner / np.sqrt(2))
    y += maps[5] @ (inner * (1 + bent) / 2)
    answer = run_ann(read_source(proto)[0].graph, x.astype(np.float32))[0]
    np.testing.assert_allclose(answer, y.reshape(x.shape), rtol=1e-4, atol=1e-5)


def test_the_stem_decorrelates_patches() -> None:
    x = images(300, seed=3)
    graph = read_source(initial("tiny", x, 5, 0))[0].graph
    stem = graph.of_type(ann.Convolution)[0]
    assert stem.weight.shape == (24, 3, 2, 2)
    np.testing.assert_array_equal(stem.weight[:12], -stem.weight[12:])
    windows = np.lib.stride_tricks.sliding_window_view(x * PIXEL, (2, 2), axis=(2, 3))[:, :, ::2, ::2]
    flat = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    covariance = np.cov((flat @ stem.weight[:12].reshape(12, -1).T).T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-3
    assert (np.diag(covariance) <= 1.001).all()
    assert np.diag(covariance).max() > 0.9


def test_units_are_powers_of_two() -> None:
    np.testing.assert_array_equal(
        power_below(np.array([1, 2, 3, 1024, 1025], np.int32)), [1, 0.5, 0.25, 2**-10, 2**-11]
    )


def test_what_cannot_be_written_is_named() -> None:
    x = images(4)
    made = lowered("tiny", x, 4)
    with pytest.raises(UnsupportedModelError, match="reads something else than pixels"):
        exported(made.map(snn.Encode, lambda node: node.with_(limit=127)))
    plain = Neuron(levels=4, count_memory=False)
    settled = made.map(snn.IntegrateFire, lambda node: node.with_(neuron=plain))
    with pytest.raises(UnsupportedModelError, match="cannot send all of its levels at once"):
        exported(settled)
    with pytest.raises(UnsupportedModelError, match="more than one step"):
        exported(replace(made, timesteps=2))


def test_images_that_are_too_small() -> None:
    with pytest.raises(InputError, match="too small for this network"):
        initial("vgg16", images(2, 16), 5, 0)


def test_without_torch_the_command_says_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    assert main(["train", "--arch", "small", "--data", "x.npz", "-o", "y.onnx", "--epochs", "1"]) == 2
    assert "snnc train needs PyTorch, which is not installed: pip install torch" in capsys.readouterr().err
    assert tuple(ARCHITECTURES) == OFFERED
