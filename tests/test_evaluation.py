"""Accuracy, intervals, the paired comparison, and what an evaluation hands on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import snnc
from snnc.analysis import costs
from snnc.analysis.answers import Source, outputs_of
from snnc.analysis.evaluation import Paired, Share, evaluate, evaluate_ann
from snnc.data.preprocessing import Preprocessing
from snnc.errors import InputError, InternalError, NonFiniteError
from snnc.ir.graph import IntArray, NumberArray
from snnc.ir.neuron import Schedule
from snnc.ir.snn import IntegrateFire, Linear, Readout, SnnGraph
from snnc.simulation.protocol import RecordOptions, Trace
from snnc.simulation.reference import ReferenceSimulator
from snnc.source.source_session import SourceSession
from tests import quadrants
from tests.spiking_graphs import CLASSES, random_graph, random_inputs

T = TypeVar("T")


class Counting:
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.totals: list[int] = []

    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[T]:
        self.totals.append(total)
        return iter(items)

    def message(self, text: str) -> None:
        pass


def same(q: NumberArray) -> IntArray:
    return np.asarray(q, np.int32)


@given(st.integers(1, 5000), st.data())
def test_the_interval_holds_the_share_and_shrinks(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    low, high = Share(hits, n).interval
    assert 0 <= low <= hits / n <= high <= 1
    wider = Share(4 * hits, 4 * n).interval
    assert wider[1] - wider[0] < high - low


def test_the_interval_is_wilsons() -> None:
    # 81 of 263: the worked example of Newcombe, Statistics in Medicine 17 (1998), method 3.
    low, high = Share(81, 263).interval
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert Share(0, 10).interval[0] == 0
    assert Share(10, 10).interval[1] == 1


def test_the_paired_drop() -> None:
    paired = Paired(both=880, only_ann=40, only_snn=20, neither=60)
    low, high = paired.interval
    assert paired.drop == pytest.approx(0.02)
    assert low < 0.02 < high
    assert low > 0  # 40 against 20 of 1,000 is more than chance
    mirrored = Paired(both=880, only_ann=20, only_snn=40, neither=60)
    assert mirrored.interval == pytest.approx((-high, -low))


def test_shards_change_nothing_but_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(11)
    q = random_inputs(graph, 23, 0)
    labels = np.arange(23) % CLASSES
    whole = evaluate(graph, same, q, labels, simulator=ReferenceSimulator())
    monkeypatch.setattr("snnc.analysis.answers.SHARD", 5)
    progress = Counting()
    parts = evaluate(graph, same, q, labels, simulator=ReferenceSimulator(), progress=progress)
    assert progress.totals == [5]
    assert parts.as_dict() == whole.as_dict()
    np.testing.assert_array_equal(parts.scores.classes, whole.scores.classes)


def test_scores_equal_a_plain_count() -> None:
    graph = random_graph(2)
    q = random_inputs(graph, 60, 4)
    labels = np.random.default_rng(0).integers(0, CLASSES, 60)
    found = evaluate(graph, same, q, labels, simulator=ReferenceSimulator())
    outputs = ReferenceSimulator().run(graph, q, graph.timesteps).logits
    order = np.argsort(-outputs.astype(np.int64), axis=1, kind="stable")
    top1 = (order[:, 0] == labels).mean()
    top5 = (order[:, :5] == labels[:, None]).any(axis=1).mean()
    assert found.scores.top1 is not None
    assert found.scores.top5 is not None
    assert found.scores.top1.value == pytest.approx(top1)
    assert found.scores.top5.value == pytest.approx(top5)
    assert top1 < top5


def test_the_lowest_index_wins_a_tie() -> None:
    graph = random_graph(2)
    (readout,) = graph.of_type(Readout)
    silent = graph.map(Linear, lambda n: n.with_(weight=0 * n.weight) if n.name == readout.inputs[0] else n)
    silent = silent.map(Readout, lambda n: n.with_(bias=0 * n.bias))
    q = random_inputs(graph, 4, 0)
    found = evaluate(silent, same, q, np.array([0, 4, 5, 6]), simulator=ReferenceSimulator())
    assert found.scores.classes.tolist() == [0, 0, 0, 0]
    assert found.scores.top1 == Share(1, 4)
    assert found.scores.top5 == Share(2, 4)


def test_json_holds_what_is_promised() -> None:
    graph = random_graph(5, settle_steps=2)
    found = evaluate(
        graph,
        same,
        random_inputs(graph, 8, 0),
        np.zeros(8, np.uint8),
        simulator=ReferenceSimulator(),
        timesteps=6,
    ).as_dict()
    assert found["n"] == 8
    assert found["timesteps"] == 6
    assert found["latency_steps"] == 8
    assert found["payload"] == costs.payload(graph, 6)
    assert found["top1_ci95"][0] <= found["top1"] <= found["top1_ci95"][1]
    assert found["spikes_per_neuron_per_step"] >= found["events_per_neuron_per_step"] > 0
    assert found["synops"] > 0
    assert found["macs"] >= found["first_layer_macs"] > 0
    assert [layer["name"] for layer in found["layers"]] == [n.name for n in graph.of_type(IntegrateFire)]
    assert "ann" not in found


def test_without_labels_there_is_no_accuracy() -> None:
    graph = random_graph(5)
    found = evaluate(graph, same, random_inputs(graph, 3, 0), None, simulator=ReferenceSimulator()).as_dict()
    assert found["top1"] is None
    assert found["top1_ci95"] is None
    assert found["n"] == 3


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.zeros(3, np.int64), "4 rows, but 3 labels"),
        (np.full(4, 0.5, np.float32), "give one class number per row"),
        (np.zeros((4, 2), np.int64), "give one class number per row"),
        (np.array([0, 1, 2, CLASSES]), f"label {CLASSES} does not fit"),
        (np.array([0, -1, 0, 0]), "label -1 does not fit"),
    ],
)
def test_labels_that_do_not_fit(labels: IntArray, says: str) -> None:
    graph = random_graph(5)
    with pytest.raises(InputError, match=says):
        evaluate(graph, same, random_inputs(graph, 4, 0), labels, simulator=ReferenceSimulator())


def test_no_rows() -> None:
    graph = random_graph(5)
    with pytest.raises(InputError, match="no rows"):
        evaluate(graph, same, random_inputs(graph, 4, 0)[:0], None, simulator=ReferenceSimulator())


class Wrong(ReferenceSimulator):
    """A simulator with a bug."""

    name: ClassVar[str] = "wrong"

    def run(
        self,
        graph: SnnGraph,
        inputs: NumberArray,
        timesteps: int,
        record: RecordOptions = RecordOptions(),
        /,
        given: Mapping[str, NumberArray] | None = None,
    ) -> Trace:
        trace = super().run(graph, inputs, timesteps, record, given=given)
        trace.outputs = {name: y + 1 for name, y in trace.outputs.items()}
        return trace


def test_a_counter_has_to_agree() -> None:
    graph = random_graph(5)
    q = random_inputs(graph, 4, 0)
    with pytest.raises(InternalError, match="wrong and reference differ"):
        evaluate(graph, same, q, None, simulator=Wrong(), counter=ReferenceSimulator())


@pytest.mark.parametrize("schedule", list(Schedule))
def test_answers_per_step_end_in_the_answer(schedule: Schedule) -> None:
    settle = 2 if schedule is Schedule.SYNCHRONOUS else 0
    graph = random_graph(7, schedule=schedule, settle_steps=settle)
    q = random_inputs(graph, 6, 1)
    simulator = ReferenceSimulator()
    last = outputs_of(graph, same, q, simulator=simulator, timesteps=4)
    steps = outputs_of(graph, same, q, simulator=simulator, timesteps=4, per_step=True)
    assert steps.shape == (4 + settle, 6, CLASSES)
    assert steps.dtype == last.dtype
    np.testing.assert_array_equal(steps[-1], last)
    assert not np.array_equal(steps[0], last)


def first_answers(graph: SnnGraph, q: IntArray) -> NumberArray:
    """Return the read-out after one step of a run of four, by the definition."""
    (readout,) = graph.of_type(Readout)
    trace = ReferenceSimulator().run(graph, q, 4, RecordOptions(trains=readout.inputs))
    return trace.trains[readout.inputs[0]][0] + readout.bias


def test_the_first_step_by_hand() -> None:
    graph = random_graph(7)
    q = random_inputs(graph, 6, 1)
    steps = outputs_of(graph, same, q, simulator=ReferenceSimulator(), timesteps=4, per_step=True)
    np.testing.assert_array_equal(steps[0], first_answers(graph, q))


def test_against_the_source_network(tmp_path: Path) -> None:
    files = quadrants.write(tmp_path)
    preprocessing = Preprocessing.from_dict(quadrants.PREPROCESSING)
    artefact = snnc.compile_model(
        files.model, quadrants.images(200, 1)[0], timesteps=8, preprocessing=preprocessing
    )
    x, y = quadrants.images(150, 2)
    source = Source(SourceSession(files.model, 1), preprocessing.apply, macs=1234)
    found = evaluate(artefact.graph, artefact.encode, x, y, simulator=ReferenceSimulator(), source=source)
    (alone,) = evaluate_ann(source, x, y).values()
    assert found.ann is not None
    assert found.ann.scores.as_dict() == alone.as_dict()
    assert alone.top1 is not None
    assert found.scores.top1 is not None
    assert alone.top1.value > 0.95
    assert found.scores.top1.value > 0.9
    paired = found.ann.paired
    assert paired is not None
    assert paired.n == 150
    assert paired.both + paired.only_ann == alone.top1.hits
    assert paired.both + paired.only_snn == found.scores.top1.hits
    told = found.as_dict()
    assert told["ann"]["macs"] == 1234
    assert told["ann"]["top1"] == alone.top1.value
    assert told["drop"] == pytest.approx(told["ann"]["top1"] - told["top1"])


@pytest.mark.parametrize(("value", "task"), [(np.nan, "classes"), (np.nan, None), (np.inf, "regression")])
def test_answers_that_are_no_numbers_are_refused(value: float, task: str | None) -> None:
    """The arg max of NaN is 0 in both networks, which would agree on every row."""
    graph = random_graph(0)
    q = random_inputs(graph, 6, 0)

    class Broken:
        outputs = tuple(graph.output_names)
        all_ends: ClassVar[dict[str, str]] = dict.fromkeys(graph.output_names, "")

        def run_all(self, x: NumberArray, outputs: tuple[str, ...] = ()) -> dict[str, NumberArray]:
            answers = np.ones((len(x), CLASSES), np.float32)
            answers[x[:, 0, 0, 0] == q[4, 0, 0, 0]] = value
            return dict.fromkeys(self.outputs, answers)

    q[:, 0, 0, 0] = np.arange(6)
    source = Source(Broken(), lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(NonFiniteError, match="row 4 with NaN"):
        evaluate(graph, same, q, None, simulator=ReferenceSimulator(), source=source, task=task)
    with pytest.raises(NonFiniteError, match="row 4 with NaN"):
        evaluate_ann(source, q, None, task=task)
