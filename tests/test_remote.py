"""Verbs on workers give what they give in one process, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.analysis.scores import Answers, Reduced
from snnc.backends.numba_cpu import NumbaSimulator
from snnc.cli import main
from snnc.compiler import Options, convert
from snnc.ir.graph import IntArray
from snnc.ir.snn import SnnGraph
from snnc.metrics.task import Outputs, Task
from snnc.numerics.regression import normal_equations
from snnc.passes import PRESETS
from snnc.remote.conversion import options_of, told_of_options
from snnc.scale.here import Here
from snnc.scale.tasks import Task as Job
from snnc.scale.workers import Workers
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.remote import WorkersSimulator
from tests import conversions, quadrants
from tests.quadrants import Files


class Counting(Here):
    """Counts the tasks that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.done: dict[str, int] = {}

    def submit(self, number: int, task: Job) -> None:
        self.done[task.name] = self.done.get(task.name, 0) + 1
        super().submit(number, task)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return quadrants.write(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def artefact(files: Files) -> Path:
    path = files.folder / "quadrants.snn.onnx"
    rows = ["--calib", str(files.calibration), "--preprocess", str(files.preprocessing)]
    words = ["convert", str(files.model), *rows, "-T", "4", "--preset", "balanced", "-o", str(path)]
    assert main(words) == 0
    return path


@pytest.fixture
def engine() -> Iterator[Counting]:
    """What does the work of every verb that is asked for a cluster."""
    found = Counting()
    with (
        patch("snnc.scale.opening.open_workers", lambda *_: Workers(found)),
        patch("snnc.remote.evaluation.TASK_ROWS", 50),
        patch("snnc.simulation.remote.TASK_ROWS", 16),
    ):
        yield found


def told(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--against", "source"],
        ["--against", "source", "--metric", "top1", "--metric", "mse"],
        ["--backend", "onnx", "--limit", "120"],
    ],
)
def test_eval(
    more: list[str], artefact: Path, files: Files, engine: Counting, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", artefact, "--data", files.test, *more]
    alone = told(capsys, *words)
    assert told(capsys, *words, "--cluster", "local") == alone
    assert engine.done == {"evaluate": 3}


def test_eval_of_a_model(files: Files, engine: Counting, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", files.model, "--data", files.test, "--preprocess", files.preprocessing]
    alone = told(capsys, *words)
    assert told(capsys, *words, "--cluster", "local") == alone
    assert engine.done == {"answers": 3}


@pytest.mark.parametrize("preset", ["balanced", "one-step"])
def test_convert(preset: str, files: Files, engine: Counting) -> None:
    with np.load(files.calibration) as data:
        rows = data["x"]
    options = Options(timesteps=2, preset=preset)
    alone = convert(files.model, rows, options, preprocessing=files.preprocessing)
    with patch("snnc.numerics.regression.CHUNKS", 1):
        spread = convert(
            files.model, rows, options, preprocessing=files.preprocessing, workers=Workers(engine)
        )
    one, other = (found.artefact.model().SerializeToString(deterministic=True) for found in (alone, spread))
    assert one == other
    assert {"activations", "samples", "simulate"} <= set(engine.done)


def test_a_regression_is_the_same_bits(engine: Counting) -> None:
    random = np.random.default_rng(0)
    counts: list[IntArray] = [random.integers(-9, 9, (9000, 5)), random.integers(0, 300, (9000, 2))]
    targets = random.standard_normal((9000, 3)).astype(np.float32)
    with patch("snnc.numerics.regression.CHUNKS", 1):
        alone, spread = (normal_equations(counts, targets, each) for each in (None, Workers(engine)))
    assert (alone.gram == spread.gram).all()
    assert (alone.cross == spread.cross).all()
    assert engine.done["products"] > 2


@pytest.mark.parametrize("passes", [conversions.MADE, conversions.MADE.replace(",quantise-weights", "")])
def test_a_simulation_is_the_same_bits(passes: str, engine: Counting) -> None:
    found = conversions.convert(passes=passes, rows=40)
    graph = found.artefact.graph
    assert isinstance(graph, SnnGraph)
    first, *_ = (node.name for node in graph.nodes if type(node).__name__ == "IntegrateFire")
    simulator = NumbaSimulator(1)
    q = found.artefact.encode(found.rows)
    whole = simulator.run(graph, q, 4, RecordOptions(states=True, activity=True, trains=(first,)))
    spread = WorkersSimulator(simulator, Workers(engine))
    given = {first: whole.trains[first]}
    for record, trains in (
        (RecordOptions(states=True, activity=True, trains=(first,)), None),
        (RecordOptions(states=True), given),
    ):
        one = simulator.run(graph, q, 4, record, given=trains)
        other = spread.run(graph, q, 4, record, given=trains)
        for field in ("outputs", "counts", "potentials", "trains"):
            ours, theirs = getattr(one, field), getattr(other, field)
            assert list(ours) == list(theirs)
            for name in ours:
                assert ours[name].dtype == theirs[name].dtype
                assert (ours[name] == theirs[name]).all()
        for name, counted in one.activity.items():
            assert (counted.events == other.activity[name].events).all()
            assert (counted.units == other.activity[name].units).all()
    assert engine.done == {"simulate": 6}


@pytest.mark.parametrize("more", [[], ["-T", "2", "--limit", "40", "--curve", "none"]])
def test_report(
    more: list[str], artefact: Path, files: Files, engine: Counting, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", artefact, "--data", files.test, *more]
    alone = told(capsys, *words)
    assert told(capsys, *words, "--cluster", "local") == alone
    assert engine.done["chunk"] == (2 if more else 5)


@pytest.fixture(scope="module")
def limited(files: Files) -> Path:
    """An artefact that may be observed to be exact."""
    path = files.folder / "limited.snn.onnx"
    rows = ["--calib", str(files.calibration), "--preprocess", str(files.preprocessing)]
    words = ["convert", str(files.model), *rows, "-T", "4", "--preset", "fast", "-o", str(path)]
    assert main([*words, "--set", "dual-threshold.spikes-per-step=1"]) == 0
    return path


def test_certify(
    limited: Path, files: Files, engine: Counting, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["certify", limited, "--data", files.test]
    alone = told(capsys, *words, "-o", tmp_path / "one.snn.onnx")
    spread = told(capsys, *words, "-o", tmp_path / "two.snn.onnx", "--cluster", "local")
    assert spread == alone
    assert (tmp_path / "one.snn.onnx").read_bytes() == (tmp_path / "two.snn.onnx").read_bytes()
    assert set(engine.done) == {"differing", "simulate"}


def test_a_budget(files: Files, engine: Counting, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = ["--calib", files.calibration, "--preprocess", files.preprocessing]
    words = ["convert", files.model, *rows, "--max-latency", "1", "--payload", "signed", "--max-drop", "30"]
    found = []
    for name, more in (("one", []), ("two", ["--cluster", "local"])):
        out = tmp_path / f"{name}.snn.onnx"
        found.append(told(capsys, *words, "-o", out, *more))
        assert found[-1].pop("output") == str(out)
    assert found[0] == found[1]
    assert (tmp_path / "one.snn.onnx").read_bytes() == (tmp_path / "two.snn.onnx").read_bytes()
    assert engine.done["trial"] == 2


@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=7, max_size=7), min_size=1, max_size=8),
    st.data(),
)
def test_reduced_answers_are_the_answers(values: list[list[int]], data: st.DataObject) -> None:
    answers = np.array(values, np.float64)
    labels = np.array(data.draw(st.lists(st.integers(0, 6), min_size=len(values), max_size=len(values))))
    outputs = Outputs(Task.CLASSES, "", labels, 7)
    one, other = (Answers(outputs, 0.0, keep=False) for _ in range(2))
    one.add(answers, slice(0, len(values)))
    part = Reduced.of(answers, 0.0, 0, have_classes=True, keep=False)
    other.join(part, slice(0, len(values)))
    assert one.scores().top5 == other.scores().top5
    assert one.scores().top1 == other.scores().top1
    assert part.values is None


@pytest.mark.parametrize("verb", ["eval", "report", "certify"])
def test_threads_contradict_a_cluster(
    verb: str, artefact: Path, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [verb, str(artefact), "--data", str(files.test), "--cluster", "local", "--threads", "2"]
    assert main(words) == 2
    assert "--threads is for one process" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_options_are_the_same_on_workers(precision: str) -> None:
    settings = {"clip-activations.method": "learn", "compensate.ridge": "0.1"}
    text = PRESETS["balanced"].pipeline.text
    options = Options(timesteps=4, pipeline=text, precision=precision, settings=settings)
    there = options_of(json.loads(json.dumps(told_of_options(options))))
    assert there.passes() == options.passes()
