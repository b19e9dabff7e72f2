"""Conversion to a budget: what may be tried, what is chosen, what is refused, and the verb."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.analysis.front import Point, carried, pareto
from snnc.budget.candidates import Budget, Candidate, candidates
from snnc.budget.search import learned, search
from snnc.budget.trials import Trials
from snnc.cli import main
from snnc.compiler import Options
from snnc.data.preprocessing import Preprocessing
from snnc.errors import UsageError
from snnc.passes import PASSES, PRESETS
from snnc.passes.compensate import Compensate
from snnc.pipeline import Pipeline
from snnc.search.journal import Journal
from tests import quadrants
from tests.quadrants import Files


def point(label: str = "a", **changes: Any) -> Point:
    return replace(Point(label, 2, 2, "signed", 0.5, 3.0, 300), **changes)


points = st.builds(
    Point,
    label=st.sampled_from("abc"),
    timesteps=st.just(1),
    latency=st.integers(1, 4),
    payload=st.sampled_from(["binary", "signed", "levels:3", "signed+levels:15"]),
    synops=st.sampled_from([0.1, 0.5, 1.0]),
    drop=st.sampled_from([0.0, 1.0, 5.0]),
    rows=st.just(300),
)


@given(st.lists(points, min_size=1, max_size=12))
def test_nothing_is_better_than_the_front_and_the_rest_is_beaten(found: list[Point]) -> None:
    front = pareto(found)
    assert front
    assert not any(a.better(b) for a in found for b in front)
    assert all(any(a.better(b) for a in front) for b in found if b not in front)


def test_payloads_are_ordered() -> None:
    order = ["binary", "signed", "levels:3", "signed+levels:15"]
    assert [carried(text) for text in order] == [0, 1, 3, 15]
    for wrong in ("", "levels", "levels:0", "unary", "levels:x"):
        with pytest.raises(UsageError, match="write binary, signed or levels:M"):
            carried(wrong)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"latency": 0}, "at least one step"),
        ({"drop": -1}, "--max-drop must be at least 0"),
        ({"synops": 0.0}, "without operations"),
        ({"payload": "loud"}, "write binary"),
        ({"synops": float("nan")}, "a finite number"),
        ({"drop": float("inf")}, "a finite number"),
    ],
)
def test_limits_that_nothing_keeps_are_refused(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Budget(**limits)


def test_a_latency_below_the_steps_contradicts_them() -> None:
    with pytest.raises(UsageError, match="contradicts --timesteps 4"):
        candidates(Budget(latency=2), timesteps=4)


def test_candidates_keep_to_what_is_known_and_are_real_pipelines() -> None:
    everything = candidates(Budget())
    assert len(everything) > 20
    for candidate in everything:
        passes = Options(pipeline=candidate.pipeline).passes()
        assert passes == Pipeline.parse(candidate.pipeline.text, PASSES)
        learning = learned(candidate, 1.0)
        assert "learn-thresholds{rows=300,activity=1.0},compensate" in learning.pipeline.text
        assert learned(learning, 0.0) is learning
    assert len({(c.timesteps, c.pipeline) for c in everything}) == len(everything)
    few = candidates(Budget(latency=2, payload="signed"))
    assert {c.payload for c in few} == {"binary", "signed"}
    assert max(c.latency for c in few) == 2
    assert {c.payload for c in candidates(Budget(payload="binary"))} == {"binary"}
    in_one_step = {c.payload for c in candidates(Budget(latency=1))}
    assert {"levels:3", "levels:7", "levels:15", "levels:15+levels:63"} <= in_one_step
    assert all("63" not in c.payload for c in candidates(Budget(latency=1, payload="levels:15")))


def run(
    budget: Budget, measured: Mapping[str, Point | None], **options: Any
) -> tuple[Any, list[tuple[str, int | None]]]:
    """Search among made-up candidates; by label what they measure, ``LABEL, learned thresholds`` too."""
    asked: list[tuple[str, int | None]] = []

    def measure(candidate: Candidate, rows: int | None) -> Point | None:
        asked.append((candidate.label, rows))
        found = measured[candidate.label]
        return None if found is None else replace(found, label=candidate.label, rows=rows or 1000)

    tried = [
        Candidate(2, Pipeline.of(Compensate(ridge=number + 1)), label, 2, "signed")
        for number, label in enumerate(measured)
        if "learned" not in label and "pruned" not in label
    ]
    journal = options.pop("journal", Journal(None, ""))
    return search(budget, tried, measure, journal=journal, **options), asked


def test_where_few_rows_are_all_rows_nothing_is_measured_twice() -> None:
    measured = {"a": point(drop=0.5), "b": point(synops=0.7, drop=0.4)}
    outcome, asked = run(Budget(drop=1.0), measured, few=None)
    assert asked == [("a", None), ("b", None)]
    assert len(outcome.points) == len(outcome.front) == 2
    assert pareto([point(), point()]) == (point(),)


def test_what_cannot_be_made_is_left_out(tmp_path: Path) -> None:
    """A limit of its passes may be out of reach for this network, or on all rows alone."""
    measured: dict[str, Point | None] = {"a": None, "b": point(drop=0.7, synops=0.9), "c": point(drop=3.0)}
    journal = tmp_path / "journal"
    outcome, asked = run(Budget(drop=1.0), measured, journal=Journal(journal, "x"))
    assert outcome.chosen[0].label == "b"
    assert [each.label for each in outcome.points] == ["b", "c", "b"]
    assert ("a", None) not in asked
    again, asked = run(Budget(drop=1.0), measured, journal=Journal(journal, "x"))
    assert asked == []
    assert again == outcome
    never: dict[str, Point | None] = {"a": point(synops=0.8, drop=0.5)}
    never |= dict.fromkeys(("a, learned thresholds", "a, channels pruned"))
    outcome, asked = run(Budget(synops=0.3, drop=1.0), never)
    assert outcome.chosen is None
    assert outcome.nearest.label == "a"
    assert asked[-1] == ("a, channels pruned", None)


def test_a_trial_tells_what_cannot_be_made(files: Files) -> None:
    rows = np.load(files.calibration)["x"]
    preprocessing = Preprocessing.from_dict(quadrants.PREPROCESSING)
    source: Any = None  # no answers are needed where nothing is made
    trials = Trials(str(files.model), rows, rows, None, source, Options(threads=1), preprocessing, {})
    pipeline = PRESETS["balanced"].pipeline.with_option("clip-activations", operations=1e-6)
    assert trials.point(Candidate(4, pipeline, "sparse", 4, "signed"), None) is None


def test_with_a_limit_on_the_drop_the_fewest_operations_win() -> None:
    measured = {
        "dear": point(synops=2.0, drop=0.1),
        "cheap": point(synops=0.5, drop=0.9),
        "bad": point(drop=8),
    }
    outcome, asked = run(Budget(drop=1.0), measured)
    assert outcome.chosen[0].label == "cheap"
    assert asked[-1] == ("cheap", None)
    outcome, _ = run(Budget(latency=2), measured)
    assert outcome.chosen[0].label == "dear"
    assert {p.label for p in outcome.front} == {"dear", "cheap"}


def test_thresholds_are_learned_where_nothing_else_keeps_to_the_budget() -> None:
    measured = {"a": point(drop=3.0), "a, learned thresholds": point(drop=0.5)}
    outcome, asked = run(Budget(drop=1.0), measured)
    assert outcome.chosen[0].label == "a, learned thresholds"
    assert [rows for _, rows in asked] == [300, None, None]


def test_where_operations_are_wanted_thresholds_are_learned_in_any_case() -> None:
    measured = {"a": point(drop=0.5), "a, learned thresholds": point(synops=0.4, drop=0.9)}
    outcome, _ = run(Budget(drop=1.0), measured, sparing=True)
    assert outcome.chosen[1].synops == 0.4
    measured["a, learned thresholds"] = point(synops=0.4, drop=1.1)
    outcome, _ = run(Budget(drop=1.0), measured, sparing=True)
    assert outcome.chosen[1].synops == 0.5


def test_channels_are_pruned_where_operations_alone_are_too_many() -> None:
    measured = {"a": point(synops=0.8, drop=0.5), "b": point(synops=0.5, drop=7.0)}
    measured |= {f"{label}, learned thresholds": measured[label] for label in "ab"}
    measured["a, channels pruned"] = point(synops=0.29, drop=0.9)
    outcome, asked = run(Budget(synops=0.3, drop=1.0), measured)
    assert outcome.chosen[0].label == "a, channels pruned"
    assert "prune-channels{max-synops=0.285},compensate" in outcome.chosen[0].pipeline.text
    assert asked[-1] == ("a, channels pruned", None)
    measured["a, channels pruned"] = point(synops=0.29, drop=1.4)
    outcome, _ = run(Budget(synops=0.3, drop=1.0), measured)
    assert outcome.chosen is None


def test_a_budget_that_is_missed_names_the_nearest() -> None:
    measured = {label: point(drop=drop) for label, drop in (("a", 3.0), ("b", 2.0), ("c", 9.0))}
    measured["b, learned thresholds"] = point(drop=2.5)
    outcome, _ = run(Budget(drop=1.0), measured)
    assert outcome.chosen is None
    assert outcome.nearest.label == "b"


def test_an_interrupted_search_measures_only_what_is_missing(tmp_path: Path) -> None:
    measured = {"a": point(drop=0.5), "b": point(drop=0.7)}
    path = tmp_path / "journal"
    first, asked = run(Budget(drop=1.0), measured, journal=Journal(path, "x"))
    assert len(asked) == 3
    second, asked = run(Budget(drop=1.0), measured, journal=Journal(path, "x"))
    assert asked == []
    assert first == second


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return quadrants.write(tmp_path_factory.mktemp("user"))


def arguments(files: Files, out: Path, *more: str) -> list[str]:
    data = ["--calib", str(files.calibration), "--preprocess", str(files.preprocessing)]
    return ["convert", str(files.model), *data, "-o", str(out), *more]


def test_a_budget_on_the_command_line(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="the picture needs the extra [report]")
    out, picture = tmp_path / "out.snn.onnx", tmp_path / "front.svg"
    limits = ["--max-latency", "2", "--payload", "signed", "--max-drop", "60", "--json"]
    assert main([*arguments(files, out, *limits), "--front", str(picture)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["chosen"]["latency"] <= 2
    assert found["chosen"]["drop"] <= 60
    assert found["chosen"]["pipeline"]
    assert all(point["picojoules"] > 0 and point["footprint"] > 0 for point in found["points"])
    assert len({json.dumps(point) for point in found["front"]}) == len(found["front"]) > 0
    assert {point["rows"] for point in found["points"]} == {160}
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    assert {path.name for path in tmp_path.iterdir()} == {"out.snn.onnx", "front.svg"}
    assert main(["eval", str(out), "--data", str(files.test), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["payload"] == found["chosen"]["payload"]


def test_a_budget_that_cannot_be_met_exits_with_4_and_the_nearest_point(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.snn.onnx"
    assert (
        main(arguments(files, out, "--max-latency", "1", "--max-synops", "1e-9", "--payload", "binary")) == 4
    )
    error = capsys.readouterr().err
    assert "no conversion meets the budget; nearest: binary-only, T=1" in error
    again = arguments(
        files, out, "--max-latency", "1", "--max-synops", "1e-9", "--payload", "binary", "--json"
    )
    assert main(again) == 4
    found = json.loads(capsys.readouterr().out)
    assert found["chosen"] is None
    assert found["error"]["exit_code"] == 4
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--max-latency", "2", "--pipeline", "lower"], "--pipeline contradicts the budget"),
        (["--max-latency", "2", "--preset", "graded"], "--preset contradicts the budget"),
        (["--max-latency", "2", "-T", "8"], "--max-latency 2 contradicts --timesteps 8"),
        (["--max-latency", "2", "--set", "lower.x=1"], ""),
        (["--payload", "loud"], "write binary, signed or levels:M"),
        (["--max-synops", "-1"], "without operations"),
        (["--front", "front.svg", "--preset", "graded"], "--preset contradicts the budget or --front"),
        (["--front", "front.png"], "--front draws an SVG picture: name it front.svg"),
    ],
)
def test_contradictions_are_refused_in_one_line(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    out = tmp_path / "out.snn.onnx"
    assert main(arguments(files, out, *more)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_was_named_is_kept(files: Files, tmp_path: Path) -> None:
    out, journal = tmp_path / "out.snn.onnx", tmp_path / "kept.journal"
    assert (
        main(arguments(files, out, "--max-latency", "1", "--payload", "binary", "--journal", str(journal)))
        == 0
    )
    assert {path.name for path in tmp_path.iterdir()} == {"out.snn.onnx", "kept.journal"}


def test_an_interrupted_search_says_how_it_goes_on(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.snn.onnx"
    limits = ["--max-latency", "1", "--payload", "binary"]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trials, "point", interrupted)
        assert main(arguments(files, out, *limits)) == 130
    journal = tmp_path / "out.snn.onnx.journal"
    assert capsys.readouterr().err == f"error: interrupted; the same command continues from {journal}\n"
    assert main(arguments(files, out, *limits)) == 0
    assert list(tmp_path.iterdir()) == [out]
