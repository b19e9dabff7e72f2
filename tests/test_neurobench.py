"""Results in NeuroBench's form, held against the evaluation and, where it is installed, its own counting."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnc
import snnc.models
from snnc.analysis.neurobench import results
from snnc.backends import load_simulator
from snnc.cli import main
from snnc.converted_network import ConvertedNetwork
from snnc.errors import UsageError
from snnc.ir.snn import Convolution, IntegrateFire, Linear
from snnc.simulation.protocol import RecordOptions
from tests import quadrants

NAMES = {
    "Footprint",
    "ConnectionSparsity",
    "ParameterCount",
    "ClassificationAccuracy",
    "ActivationSparsity",
    "SynapticOperations",
    "MembraneUpdates",
}
ROWS = 40


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> ConvertedNetwork:
    """A network of binary spikes."""
    files = quadrants.write(tmp_path_factory.mktemp("neurobench"))
    return snnc.convert(
        files.model,
        quadrants.images(150, 1)[0],
        preset="binary-only",
        timesteps=4,
        preprocessing=quadrants.PREPROCESSING,
    )


def test_the_file_says_what_the_evaluation_found(
    network: ConvertedNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact, rows, out = tmp_path / "n.snn.onnx", tmp_path / "rows.npz", tmp_path / "found.json"
    network.save(artefact)
    x, y = quadrants.images(ROWS, 2)
    np.savez(rows, x=x, y=y)
    call = ["eval", str(artefact), "--data", str(rows), "--neurobench", str(out), "--json"]
    assert main(call) == 0
    found, told = json.loads(out.read_text(encoding="utf-8")), json.loads(capsys.readouterr().out)
    assert set(found) == NAMES
    assert found["ClassificationAccuracy"] == told["top1"]
    operations = found["SynapticOperations"]
    effective = told["effective_synops"] + told["first_layer_effective_macs"]
    assert operations["Effective_ACs"] + operations["Effective_MACs"] == pytest.approx(effective)
    assert 0 < operations["Effective_ACs"] < operations["Dense"]
    assert found["ActivationSparsity"] == 1 - told["events_per_neuron_per_step"]
    assert main(call) == 2  # the file exists
    assert main([*call, "--force"]) == 0


def test_without_labels_there_is_no_correctness(network: ConvertedNetwork) -> None:
    found = network.evaluate(quadrants.images(ROWS, 2)[0], compare=False)
    with pytest.raises(UsageError, match="with labels"):
        results(found, network.graph)


def test_of_a_model_there_is_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "zoo:fashion-cnn", "--neurobench", str(tmp_path / "a.json")]) == 2
    assert "--neurobench" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_neurobench_counts_the_same() -> None:
    """Its own metrics, on torch layers of the same weights that read the same spikes.

    What is pooled before it is weighed NeuroBench counts otherwise: only populations that are read directly.
    """
    if importlib.util.find_spec("neurobench") is None:
        pytest.skip("neurobench is not installed")
    torch: Any = importlib.import_module("torch")
    metrics: Any = importlib.import_module("neurobench.metrics.workload")
    static: Any = importlib.import_module("neurobench.metrics.static")
    layers: Any = importlib.import_module("neurobench.metrics.utils.layers")
    for name in NAMES:
        assert hasattr(metrics, name) or hasattr(static, name), name
    network = snnc.convert("zoo:fashion-cnn", preset="binary-only", timesteps=4)
    x, y = (values[:ROWS] for values in snnc.models.test_data(snnc.models.resolve("zoo:fashion-cnn")))
    evaluation = network.evaluate(x, y, compare=False)
    graph = network.graph
    populations = tuple(node.name for node in graph.of_type(IntegrateFire))
    trace = load_simulator("reference").run(
        graph, network.encode(x), graph.timesteps, RecordOptions(trains=populations)
    )
    accumulates = {}
    for node in graph:
        if not isinstance(node, Convolution | Linear) or node.inputs[0] not in trace.trains:
            continue
        weight = torch.from_numpy(node.weight.astype(np.float32))
        if isinstance(node, Convolution):
            top, left, bottom, right = node.window.pads
            assert (top, left) == (bottom, right)
            outputs, inputs = weight.shape[0], weight.shape[1] * node.groups
            layer = torch.nn.Conv2d(
                inputs, outputs, node.window.kernel, node.window.strides, (top, left), groups=node.groups
            )
        else:
            layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data = weight
        accumulates[node.inputs[0]] = 0.0
        for step in trace.trains[node.inputs[0]]:
            count, spiking = layers.single_layer_MACs(torch.from_numpy(step.astype(np.float32)), layer)
            assert spiking
            accumulates[node.inputs[0]] += float(count)
    ours = {layer.name: layer.effective for layer in evaluation.costs.layers}
    assert len(accumulates) == 2
    assert accumulates == {name: ours[name] for name in accumulates}
    found = results(evaluation, graph)
    assert found["SynapticOperations"]["Effective_ACs"] * ROWS == pytest.approx(sum(ours.values()))
    predictions = torch.from_numpy(np.asarray(trace.logits).argmax(axis=1))
    accuracy = metrics.ClassificationAccuracy()(None, predictions, (torch.from_numpy(x), torch.from_numpy(y)))
    assert found["ClassificationAccuracy"] == pytest.approx(accuracy)
