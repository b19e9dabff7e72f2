"""Networks over time that spike already, tuned on labelled frames: integers, what is kept, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.artefact import Artefact, load, save
from snnc.cli import main
from snnc.data.leakage import count_seen
from snnc.errors import InputError, UsageError
from snnc.ir import snn
from snnc.ir.bounds import provable_timesteps
from snnc.ir.geometry import Window
from snnc.ir.neuron import Neuron
from snnc.numerics.quantisation import quantise_all
from snnc.numerics.real_units import in_real_units
from snnc.simulation.reference import ReferenceSimulator, encode
from tests import nir_files

pytest.importorskip("torch")

from snnc.training.leaky import leaky_graph, train_leaky
from snnc.training.leaky_tuning import tune_leaky
from tests.test_leaky_training import STEPS, changed, frames

METHODS = ("bptt", "rate", "tssl")


def integers(graph: snn.SnnGraph) -> snn.SnnGraph:
    found = quantise_all(graph)
    return replace(found, max_timesteps=provable_timesteps(found))


def damaged(graph: snn.SnnGraph, size: float) -> snn.SnnGraph:
    """Return a network in float32 whose weights are disturbed by so many times their size."""
    rng = np.random.default_rng(3)

    def disturb(node: snn.Linear) -> snn.Linear:
        noise = size * node.weight.std() * rng.normal(size=node.weight.shape)
        return node.with_(weight=(node.weight + noise).astype(np.float32))

    return in_real_units(graph).map(snn.Linear, disturb)


@pytest.fixture(scope="module")
def trained() -> Artefact:
    x, y = frames()
    return train_leaky("cuba-lif", x, y, epochs=8, batch=20, threads=1).artefact


def right(graph: snn.SnnGraph, artefact: Artefact, x: np.ndarray, y: np.ndarray) -> int:
    answers = ReferenceSimulator().run(graph, artefact.encode(x), STEPS).logits
    return int((answers.argmax(axis=1) == y).sum())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("whole", [True, False], ids=["int8", "float32"])
def test_a_damaged_network_recovers(trained: Artefact, method: str, whole: bool) -> None:
    worse = damaged(trained.graph, 2.0)
    begun = integers(worse)
    given = replace(trained, graph=begun if whole else worse)
    x, y = frames(300, seed=5)
    found = tune_leaky(given, x, y, method=method, epochs=6, batch=20, rate=3e-2, held_back=0.3, threads=1)
    assert found.is_tuned
    assert found.equal_rows == 32
    assert found.tuned.key < found.begun.key
    graph = found.artefact.graph
    assert graph.integer
    assert found.begun.right is not None
    assert found.tuned.right is not None
    held = np.arange(90) * 300 // 90  # the reference counts what was told of the CPU simulator
    assert found.begun.right.hits == right(begun, trained, x[held], y[held])
    assert found.tuned.right.hits == right(graph, trained, x[held], y[held])
    test, labels = frames(200, seed=7)
    assert right(graph, trained, test, labels) > right(begun, trained, test, labels) + 10
    before, after = begun["hidden"], graph["hidden"]
    assert isinstance(before, snn.IntegrateFire)
    assert isinstance(after, snn.IntegrateFire)
    for field in ("decay", "synapse_decay"):
        np.testing.assert_array_equal(getattr(before, field), getattr(after, field))
    hashes = found.artefact.metadata.calibration["row_hashes"]
    assert count_seen(hashes, trained.encode(x)) == 300
    first, _ = frames()
    assert count_seen(hashes, trained.encode(first)) >= 81  # what it was trained on is not forgotten


def test_what_is_no_better_is_left_out(trained: Artefact) -> None:
    x, y = frames(100, seed=5)
    found = tune_leaky(trained, x, y, epochs=1, rate=50.0, held_back=0.5, threads=1)
    assert not found.is_tuned
    assert found.begun.key <= found.tuned.key
    for node in trained.graph.of_type(snn.Linear):
        after = found.artefact.graph[node.name]
        assert isinstance(after, snn.Linear)
        np.testing.assert_array_equal(after.weight, node.weight)
    assert found.artefact.metadata.records[-1]["kept"] == "begun"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"reset_to": np.full(128, -0.25, np.float32)},
        {"reset_by": np.full(128, 1.2, np.float32), "refractory": 2},
        {"v_init": np.full(128, 0.3, np.float32), "threshold": np.full(128, 1.7, np.float32)},
        {"decay": None, "refractory": 1},
    ],
)
def test_integers_in_real_units_fire_alike(fields: dict[str, Any]) -> None:
    graph = integers(changed(leaky_graph((12,), STEPS, 3), **fields))
    again = integers(in_real_units(graph))
    q = (3 * frames(40)[0]).astype(np.int32)
    first, second = (ReferenceSimulator().run(each, q, STEPS) for each in (graph, again))
    near = graph.readout.decoded(first.logits, STEPS), again.readout.decoded(second.logits, STEPS)
    assert np.corrcoef(near[0].ravel(), near[1].ravel())[0, 1] > 0.99
    assert np.abs(near[0] - near[1]).mean() < 0.1 * near[0].std()


def test_a_current_that_is_flattened_behind_its_weights() -> None:
    rng = np.random.default_rng(0)
    window = Window((3, 3), (1, 1), (1, 1, 1, 1))
    one = np.ones(48, np.float32)
    graph = snn.SnnGraph(
        name="flat",
        timesteps=4,
        outputs=("y",),
        nodes=(
            snn.Encode(name="x", shape=(2, 4, 4), scale=1.0, presented=snn.Presented.SEQUENCE),
            snn.Convolution(
                name="c",
                inputs=("x",),
                shape=(3, 4, 4),
                weight=rng.normal(size=(3, 2, 3, 3)).astype(np.float32),
                window=window,
            ),
            snn.Reshape(name="f", inputs=("c",), shape=(48,)),
            snn.IntegrateFire(
                name="n",
                inputs=("f",),
                shape=(48,),
                threshold=one,
                bias=0 * one,
                v_init=0 * one,
                spike_scale=one,
                neuron=Neuron(count_memory=False),
                decay=0.9 * one,
            ),
            snn.Linear(
                name="w", inputs=("n",), shape=(2,), weight=rng.normal(size=(2, 48)).astype(np.float32)
            ),
            snn.Readout(name="y", inputs=("w",), shape=(2,), bias=np.zeros(2, np.float32)),
        ),
    )
    graph.verify()
    x = rng.integers(0, 3, (80, 4, 2, 4, 4)).astype(np.float32)
    y = (x[:, :, 0].sum(axis=(1, 2, 3)) > x[:, :, 1].sum(axis=(1, 2, 3))).astype(np.int64)
    found = tune_leaky(Artefact(graph), x, y, epochs=2, batch=20, held_back=0.4, threads=1)
    assert found.equal_rows == 32
    again = integers(in_real_units(found.artefact.graph))
    q = encode(graph.encoder, x)
    counts = [ReferenceSimulator().run(each, q, 4).logits for each in (found.artefact.graph, again)]
    assert np.corrcoef(counts[0].ravel(), counts[1].ravel())[0, 1] > 0.99


class TestCommand:
    @pytest.fixture
    def files(self, tmp_path: Path, trained: Artefact) -> Path:
        save(replace(trained, graph=integers(damaged(trained.graph, 2.0))), tmp_path / "net.snn.onnx")
        x, y = frames(120, seed=5)
        np.savez(tmp_path / "rows.npz", x=x, y=y)
        np.savez(tmp_path / "bare.npz", x=x)
        return tmp_path

    @staticmethod
    def given(files: Path, *more: str, network: str = "net.snn.onnx") -> list[str]:
        rows = [] if "--train" in more else ["--train", str(files / "rows.npz")]
        out = str(files / "out.snn.onnx")
        return ["tune", str(files / network), *rows, "--threads", "1", "-o", out, *more]

    def test_an_artefact(self, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
        options = ("--labels", "--epochs", "4", "--batch", "20", "--held-back", "0.3", "--finish", "tssl")
        assert main([*self.given(files, *options), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["kept"] == "tuned"
        assert told["rows"] == 84
        assert told["equal_rows"] == 32
        assert told["tuned"]["right"] > told["begun"]["right"]
        record = load(files / "out.snn.onnx").metadata.records[-1]
        assert (record["pass"], record["method"], record["kept"]) == ("tune", "tssl", "tuned")

    def test_what_stays_is_told(
        self, files: Path, trained: Artefact, capsys: pytest.CaptureFixture[str]
    ) -> None:
        save(trained, files / "net.snn.onnx")
        assert main(self.given(files, "--labels", "--epochs", "1", "--rate", "500")) == 0
        said = capsys.readouterr()
        assert "the network stays as it was" in said.err
        assert "kept as it was, in int8" in said.out + said.err
        assert (files / "out.snn.onnx").exists()

    def test_a_nir_file(self, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pytest.importorskip("nir")
        convention, neurons, _ = nir_files.EXPORTERS["spikingjelly LIF"]
        nir_files.dense(files / "net.nir", neurons)
        rng = np.random.default_rng(0)
        x = (rng.random((150, 20, nir_files.FEATURES)) < 0.2).astype(np.float32)
        y = rng.integers(0, nir_files.CLASSES, 150)
        for k in range(nir_files.CLASSES):
            x[y == k, :, 3 * k : 3 * k + 3] += rng.random((int((y == k).sum()), 20, 3)) < 0.4
        np.savez(files / "events.npz", x=x, y=y)
        options = ("--train", str(files / "events.npz"), "--labels", "--epochs", "12", "--batch", "20")
        profile = [f"--{name}={value}" for name, value in convention.items()]
        call = self.given(
            files, *options, "--rate", "0.05", "--held-back", "0.3", *profile, network="net.nir"
        )
        assert main([*call, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["kept"] == "tuned"
        assert told["tuned"]["right"] > told["begun"]["right"]
        # What was learned is weights and biases of layers, which the exporter's neurons still have.
        bundle = ["deploy", str(files / "out.snn.onnx"), "--target", "nir", "--profile", "spikingjelly"]
        golden = ["--golden", str(files / "events.npz"), "--accept-semantics"]
        assert main([*bundle, *golden, "-o", str(files / "bundle")]) == 0

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ((), "a network over time is tuned on labels alone: give --labels"),
            (("--labels", "--minutes", "3"), "--minutes is for networks that are converted"),
            (("--labels", "-T", "4"), "--timesteps is for networks that are converted"),
            (("--labels", "--finish", "cycles"), "--finish cycles is not for networks over time"),
            (("--labels", "--reset", "value"), "--reset is for NIR files"),
            (("--labels", "--train", "bare.npz"), "come without labels"),
        ],
    )
    def test_refusals(
        self, files: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
    ) -> None:
        named = [str(files / each) if each.endswith(".npz") else each for each in options]
        assert main(self.given(files, *named)) == 2
        assert said in capsys.readouterr().err
        assert not (files / "out.snn.onnx").exists()


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"x": np.zeros((60, 3, 12))}, InputError, "the rows have 3 frames, and the network runs T = 8"),
        ({"y": np.full(60, 3)}, InputError, "the labels reach 3, and the network has 3 classes"),
        ({"x": np.zeros((20, STEPS, 12)), "y": np.zeros(20, int)}, InputError, "20 rows are too few"),
        ({"method": "cycles"}, UsageError, "'cycles'"),
        ({"method": "tssl", "delay": True}, UsageError, "'late' is a Delay"),
        ({"held_back": 1.5}, UsageError, "held_back must lie between 0 and 1"),
    ],
)
def test_what_does_not_fit(
    trained: Artefact, change: dict[str, Any], error: type[Exception], said: str
) -> None:
    x, y = frames(60)
    if change.pop("delay", False):
        delay = snn.Delay(name="late", shape=(12,), source="x", steps=1)
        (encode_, first, *rest) = trained.graph.nodes
        nodes = (encode_, delay, first.with_(inputs=("late",)), *rest)
        trained = replace(trained, graph=replace(trained.graph, nodes=nodes))
    with pytest.raises(error, match=said):
        tune_leaky(trained, **{"x": x, "y": y, "threads": 1, **change})
