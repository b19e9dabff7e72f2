"""All simulators give the same spikes, potentials and answers on converted networks, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from snnc import models
from snnc.backends import SIMULATORS, load_simulator
from snnc.compiler import Options, convert
from snnc.data.preprocessing import Preprocessing
from snnc.ir.batch import Rows
from snnc.ir.snn import SnnGraph
from snnc.simulation.protocol import RecordOptions, Trace

IMAGES = 5
"""An odd number, so that two threads have unlike shares; few, for the reference takes most of the time."""

CASES = ((1, 0), (2, 2), (4, 0), (8, 2))
"""T and K; benchmarks/corpus/equivalence.py goes through all combinations on every network of the corpus."""

CONVERTED = (
    ("zoo:fashion-resnet", "fast"),
    ("zoo:fashion-cnn", "graded"),
    ("zoo:fashion-cnn", "low-latency"),
    ("zoo:fashion-resnet", "one-step"),
)
"""Residual sums where one spike is sent a step, and where all are sent at once; all rules of the presets."""

OTHERS = tuple(name for name in SIMULATORS if name != "reference")
"""The simulators that are held to the reference."""


def assert_same(graph: SnnGraph, q: Rows, timesteps: int) -> Trace:
    """Run every simulator, compare all that it knows, and return the reference's trace."""
    expected = load_simulator("reference").run(graph, q, timesteps, RecordOptions(states=True))
    for name in OTHERS:
        found = load_simulator(name, 2).run(graph, q, timesteps, RecordOptions(states=True))
        for output, values in expected.outputs.items():
            assert np.array_equal(found.outputs[output], values), (name, output)
        for population, counts in expected.counts.items():
            assert np.array_equal(found.counts[population], counts), (name, population)
            assert np.array_equal(found.potentials[population], expected.potentials[population]), (
                name,
                population,
            )
    return expected


@pytest.mark.parametrize(("name", "preset"), CONVERTED)
def test_bundled_networks_are_the_same_everywhere(name: str, preset: str) -> None:
    entry = models.resolve(name)
    rows, _ = models.calibration_data(entry)
    images, _ = models.test_data(entry)
    preprocessing = Preprocessing.from_dict(entry.preprocessing)
    options = Options(timesteps=4, preset=preset, threads=2)
    artefact = convert(entry.path, rows[:40], options, preprocessing=preprocessing).artefact
    q = artefact.encode(images[:IMAGES])
    for timesteps, settle in CASES:
        trace = assert_same(replace(artefact.graph, settle_steps=settle), q, timesteps)
        assert len(np.unique(trace.logits, axis=0)) > IMAGES / 2
    more = artefact.encode(images[:64])
    answers = load_simulator("numba", 2).run(artefact.graph, more, 8).logits.argmax(axis=1)
    assert len(np.unique(answers)) > 4


CORPUS = Path(__file__).parents[2] / "shared" / "models"
SMALL = (
    "cntk_mnist_winml",
    "aclex_mnist_cnn",
    "mlperf_resnet8_keras",
    "mlperf_kws_f32_tflite",
    "akuras_cifar10",
)


@pytest.mark.parametrize("name", SMALL)
def test_networks_of_the_corpus_are_the_same_everywhere(name: str) -> None:
    path = CORPUS / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is not there: the corpus is kept outside the project")
    from snnc.frontend import read_onnx

    random = np.random.default_rng(0)
    shape = read_onnx(path).layout.source_shape
    rows = random.standard_normal((80, *shape)).astype(np.float32)
    artefact = convert(path, rows, Options(timesteps=4, preset="fast", threads=2)).artefact
    trace = assert_same(replace(artefact.graph, settle_steps=2), artefact.encode(rows[:IMAGES]), 4)
    assert len(np.unique(trace.logits, axis=0)) > IMAGES / 2
