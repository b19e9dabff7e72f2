"""Which preset and how many steps are chosen, on what evidence, and that the evidence can say no."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.analysis import costs
from snnc.analysis.front import Point, carried
from snnc.cli import main
from snnc.compiler import Conversion, Options, alternatives, convert, read_convertible, unlearned
from snnc.data.preprocessing import Preprocessing
from snnc.errors import UnsupportedModelError, UsageError
from snnc.numerics.divergence import log_softmax
from snnc.passes import PRESETS
from snnc.pipeline import Context
from snnc.progress import Silent
from snnc.search.choice import (
    COMPARED,
    DEFAULTS,
    LIMIT,
    STEPS,
    Candidate,
    Choice,
    Loss,
    Tried,
    candidates,
    choose,
    decide,
    least_steps,
    loss,
    split,
)
from snnc.simulation.reference import ReferenceSimulator
from snnc.trial import payload
from tests import ann_graphs, quadrants
from tests.quadrants import Files

PREPROCESSING = Preprocessing.from_dict(quadrants.PREPROCESSING)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return quadrants.write(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def conversion(files: Files) -> Conversion:
    rows = np.load(files.calibration)["x"]
    return convert(files.model, rows, Options(threads=1), preprocessing=PREPROCESSING)


def scores(n: int, seed: int, sure: float) -> np.ndarray:
    """Logits of a source whose probabilities are right: the surer, the larger."""
    return sure * np.random.default_rng(seed).standard_normal((n, 10)).astype(np.float32)


@pytest.mark.parametrize("noise", [0.03, 0.3, 1.0])
@pytest.mark.parametrize("n", [50, 400])
def test_the_interval_holds_the_accuracy_that_is_lost(n: int, noise: float) -> None:
    """Of 200 samples at least 93 % have the loss of the whole population below the upper end."""
    random = np.random.default_rng(1)
    z = scores(200_000, 0, 5.0)
    s = z + noise * 5 * random.standard_normal(z.shape).astype(np.float32)
    p = np.exp(log_softmax(z))
    rows = np.arange(len(z))
    lost = 100 * float((p[rows, z.argmax(axis=1)] - p[rows, s.argmax(axis=1)]).mean())
    labels = (p.cumsum(axis=1) < random.random((len(z), 1))).sum(axis=1).clip(0, 9)
    accuracy = 100 * float((z.argmax(axis=1) == labels).mean() - (s.argmax(axis=1) == labels).mean())
    assert lost == pytest.approx(accuracy, abs=0.3)  # what the confidence says is what labels say
    found = [loss(z[i * n : (i + 1) * n], s[i * n : (i + 1) * n], classes=True) for i in range(200)]
    assert sum(each.upper >= lost for each in found) >= 186
    assert np.mean([each.points for each in found]) == pytest.approx(lost, rel=0.15)


def test_without_a_difference_it_is_the_rule_of_three_times_its_cost() -> None:
    sure, unsure = scores(300, 0, 100.0), scores(300, 0, 2.0)
    for z, largest in ((sure, 1.0), (unsure, 0.2)):
        found = loss(z, z, classes=True)
        assert (found.points, found.differ, found.rows) == (0.0, 0, 300)
        assert 0 < found.upper <= 100 * 2.96 / 300 * largest
    few = scores(50, 0, 100.0)
    assert loss(few, few, classes=True).upper > 1.5 * LIMIT, "few rows of a sure source prove nothing"


def test_scores_that_are_no_confidence_make_no_difference_small() -> None:
    z = scores(200, 3, 0.01)
    wrong = np.roll(z, 1, axis=1)
    found = loss(z, wrong, classes=True)
    assert found.points == pytest.approx(100 * found.differ / 200)
    assert found.differ > 150


@given(st.integers(2, 60), st.floats(0.1, 30), st.floats(0, 10), st.integers(0, 99))
def test_a_loss_is_within_its_bounds(n: int, sure: float, noise: float, seed: int) -> None:
    z = scores(n, seed, sure)
    s = z + noise * scores(n, seed + 1, 1.0)
    found = loss(z, s, classes=True)
    assert -1e-9 <= found.points <= 100 * found.differ / n + 1e-9
    assert found.points <= found.upper
    same = loss(z, 3 * s, classes=True)
    assert same == found, "a common factor of the answers changes no decision"


def test_outputs_that_are_no_classes_lose_error() -> None:
    z = scores(500, 0, 1.0)
    s = z + 0.1 * scores(500, 1, 1.0)
    found = loss(z, s, classes=False)
    assert found.points == pytest.approx(1.0, rel=0.1)
    assert found.upper > found.points
    assert found.differ == 0


@given(st.integers(10, 20_000))
def test_rows_are_split_into_two_that_are_spread(rows: int) -> None:
    fitted, held = split(rows)
    assert not set(fitted) & set(held)
    assert 5 <= len(fitted) <= 200
    assert len(held) == min(rows - len(fitted), 1000)
    for part in (fitted, held):
        assert (np.diff(part) > 0).all()
        assert part[-1] >= rows * (1 - 1 / len(part)) - 2, "sorted rows would else lack a class"


def tried(
    name: str, synops: float, points: float, upper: float, payload: str = "signed", T: int = 4
) -> Tried:
    point = Point(name, T, T, payload, synops, points, 400)
    return Tried(Candidate(name, T), point, Loss(points, upper, 1, 400))


def test_the_first_in_order_of_operations_that_qualifies_is_taken() -> None:
    cheap, good, dear = tried("a", 0.2, 5, 7), tried("b", 0.5, 0.5, 0.9), tried("c", 0.9, 0.0, 0.1)
    chosen, reason = decide([dear, good, cheap])
    assert chosen is good
    assert "fewest operations" in reason
    short, slow = tried("d", 0.5, 0.5, 0.9, T=1), tried("e", 0.5, 0.5, 0.9, payload="binary")
    assert decide([good, slow, short])[0] is short
    assert decide([good, slow])[0] is slow


def test_where_none_qualifies_the_most_accurate_is_taken_and_said() -> None:
    chosen, reason = decide([tried("a", 0.2, 5, 7), tried("b", 0.9, 0.5, 1.01)])
    assert chosen.candidate.preset == "b"
    assert reason.startswith("no candidate loses at most 1 point")


def test_neighbours_are_those_on_the_front() -> None:
    points = (
        tried("a", 0.2, 5, 7),
        tried("b", 0.5, 0.5, 0.9, payload="levels:15", T=1),
        tried("c", 0.7, 6, 8),
        tried("d", 0.9, 0.1, 0.2),
    )
    choice = Choice(points[1].candidate, "", points)
    assert [each.candidate.preset for each in choice.front()] == ["a", "b", "d"]
    assert [each.candidate.preset for each in choice.neighbours()] == ["a", "d"]


def test_what_is_named_is_kept() -> None:
    assert candidates(None, None) == DEFAULTS
    assert {each.timesteps for each in candidates(None, 3)} == {3}
    assert tuple(each.preset for each in candidates(None, 3)) == COMPARED
    assert candidates("paper", None) == tuple(Candidate("paper", T) for T in STEPS)
    assert (
        Options(4, "balanced").alternatives()
        == Options(pipeline=PRESETS["fast"].pipeline).alternatives()
        == {}
    )


def test_settings_leave_out_candidates_that_do_not_take_them() -> None:
    def left(**settings: str) -> list[str]:
        named = {key.replace("_", "-").replace("--", "."): value for key, value in settings.items()}
        return [each.preset for each in Options(settings=named).alternatives()]

    assert left(fine_skip__levels="31") == ["one-step"]
    assert left(compensate__ridge="0.1") == ["one-step", "balanced"]
    assert left(clip_activations__method="max") == ["one-step", "balanced", "fast"]
    with pytest.raises(UsageError, match="has no pass 'graded'"):
        left(graded__x="1")
    with pytest.raises(UsageError, match="more than the 256 steps"):
        Options(257).alternatives()


def test_learning_is_left_to_what_is_chosen() -> None:
    passes = Options(4, "low-power").passes()
    text = unlearned(passes).text
    assert "learn" in passes.text
    assert "learn" not in text
    assert unlearned(Options(4, "fast").passes()) == PRESETS["fast"].pipeline


def chosen_of(make: Any, rows: int = 60) -> Choice:
    source = ann_graphs.residual_network(4)
    made = ann_graphs.context(source, rows=rows)
    return choose(DEFAULTS, make, source, made.calibration, ReferenceSimulator(), Silent())


def made_by(candidate: Candidate, rows: Any) -> Any:
    from snnc.pipeline import run_pipeline

    context = Context(rows, candidate.timesteps, ReferenceSimulator())
    return run_pipeline(PRESETS["fast"].pipeline, ann_graphs.residual_network(4), context)[0]


def test_a_candidate_that_cannot_be_made_is_told() -> None:
    def make(candidate: Candidate, rows: Any) -> Any:
        if candidate.preset != "fast":
            raise UnsupportedModelError("too wide")
        return made_by(candidate, rows)

    found = chosen_of(make)
    assert found.chosen == Candidate("fast", 4)
    assert [(each.preset, why) for each, why in found.failed] == [
        ("one-step", "too wide"),
        ("balanced", "too wide"),
    ]

    def none(candidate: Candidate, rows: Any) -> Any:
        raise UnsupportedModelError("too wide")

    with pytest.raises(UnsupportedModelError, match="too wide"):
        chosen_of(none)


def test_few_rows_choose_nothing_and_say_so() -> None:
    found = chosen_of(made_by, rows=9)
    assert found.chosen == Candidate("fast", 4)
    assert found.tried == ()
    assert "9 calibration rows are too few" in found.reason


def test_the_choice_stands_in_the_artefact_and_repeats(files: Files, conversion: Conversion) -> None:
    choice = conversion.choice
    assert choice is not None
    record = conversion.artefact.metadata.calibration["choice"]
    assert record == choice.as_dict()
    assert record["rows_fitted"] + record["rows_held"] == 200
    assert len(record["candidates"]) == len(DEFAULTS)
    rows = np.load(files.calibration)["x"]
    again = convert(files.model, rows, Options(threads=2), preprocessing=PREPROCESSING)
    first, second = (each.artefact.model().SerializeToString() for each in (conversion, again))
    assert first == second
    named = Options(choice.chosen.timesteps, choice.chosen.preset, threads=1)
    same = convert(files.model, rows, named, preprocessing=PREPROCESSING)
    assert same.choice is None
    assert "choice" not in same.artefact.metadata.calibration
    for one, other in zip(same.artefact.graph, conversion.artefact.graph, strict=True):
        assert repr(one) == repr(other)


def test_the_command_line_says_what_it_chose(
    files: Files, conversion: Conversion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.snn.onnx"
    parts = ["convert", str(files.model), "--calib", str(files.calibration)]
    parts += ["--preprocess", str(files.preprocessing), "-o", str(out)]
    assert conversion.choice is not None
    assert main(parts) == 0
    said = capsys.readouterr().out
    assert f"chose {conversion.choice.chosen}: {conversion.choice.reason}" in said
    for each in conversion.choice.neighbours():
        assert str(each.candidate) in said
    assert main([*parts, "--force", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["choice"] == conversion.choice.as_dict()
    assert told["total_seconds"] >= sum(told["seconds"].values())
    assert main([*parts[:-2], "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["choice"]
    assert [each["preset"] for each in planned["candidates"]] == ["one-step", "balanced", "fast"]
    assert (planned["rows_fitted"], planned["rows_held"]) == (50, 150)
    assert main([*parts[:-2], "--dry-run", "--preset", "fast"]) == 0
    said = capsys.readouterr().out
    assert all(f"fast, T = {T}: " in said for T in STEPS)
    assert main([*parts, "--force", "--dump-ir-after", "fine-skip"]) == 2
    assert "the preset 'balanced', which may be chosen, has no such pass" in capsys.readouterr().err


def test_steps_of_one_preset_are_looked_for_by_halves() -> None:
    """Trials are few, whatever they find, and find what all of them would."""
    ladder = candidates("fast", None)
    for least in range(len(ladder) + 1):
        asked: list[int] = []

        def good(candidate: Candidate, least: int = least, asked: list[int] = asked) -> bool:
            asked.append(candidate.timesteps)
            return candidate in ladder[least:]

        least_steps(ladder, good, Silent())
        assert len(asked) == len(set(asked)) <= 3
        assert set(asked) >= {each.timesteps for each in ladder[max(least - 1, 0) : least + 1]}
    found = choose(
        ladder,
        made_by,
        ann_graphs.residual_network(4),
        ann_graphs.context(ann_graphs.residual_network(4), rows=60).calibration,
        ReferenceSimulator(),
        Silent(),
    )
    assert len(found.tried) <= 3
    assert found.chosen in {each.candidate for each in found.tried}


def test_a_payload_restricts_what_is_chosen_from(files: Files) -> None:
    graph = read_convertible(str(files.model), Options())[0].graph

    def left(*named: Any, **others: Any) -> list[Candidate]:
        return list(alternatives(Options(*named, **others), graph))

    everything = left()
    for kind in ("binary", "signed", "levels:3", "levels:15", "levels:63"):
        for T in (None, 2):
            for each in alternatives(Options(T, payload=kind), graph).values():
                assert carried(payload(graph, each.passes(), each.steps)) <= carried(kind)
    assert left(payload="signed") == [Candidate("balanced", 4), Candidate("fast", 4)]
    assert left(payload="levels:63") == everything
    assert left(payload="binary") == [Candidate("binary-only", T) for T in STEPS]
    assert left(16, payload="binary") == [Candidate("binary-only", 16)]
    assert left(None, "fast", payload="signed") == [Candidate("fast", T) for T in STEPS]
    assert left(4, "fast", payload="signed") == []
    with pytest.raises(UsageError, match=r"fast, T = 4: sends signed spikes .* only binary"):
        left(4, "fast", payload="binary")
    with pytest.raises(UsageError, match="the pipeline: sends signed spikes"):
        left(pipeline=PRESETS["fast"].pipeline, payload="binary")
    with pytest.raises(UsageError, match="write binary"):
        Options(payload="loud")


@pytest.mark.parametrize("preset", ["binary-only", "fast", "graded", "low-latency", "one-step", "paper"])
def test_the_payload_is_known_before_the_first_row(files: Files, preset: str) -> None:
    rows = np.load(files.calibration)["x"][:20]
    for T in (1, 3):
        options = Options(T, preset, threads=1)
        graph = read_convertible(str(files.model), options)[0].graph
        made = convert(files.model, rows, options, preprocessing=PREPROCESSING).artefact.graph
        assert carried(payload(graph, options.passes(), T)) == carried(costs.payload(made, T))


def test_a_payload_is_kept_to_on_the_command_line(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.snn.onnx"
    parts = ["convert", str(files.model), "--calib", str(files.calibration), "--threads", "1"]
    parts += ["--preprocess", str(files.preprocessing)]
    for kind, presets in (("signed", {"balanced", "fast"}), ("binary", {"binary-only"})):
        limited = [*parts, "--payload", kind, "--json"]
        assert main([*limited, "--dry-run"]) == 0
        planned = json.loads(capsys.readouterr().out)["choice"]
        assert {each["preset"] for each in planned["candidates"]} == presets
        assert main([*limited, "-o", str(out), "--force"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["payload"] == kind
        assert {each["preset"] for each in told["choice"]["candidates"]} <= presets
    assert main([*parts, "--payload", "signed", "--preset", "one-step", "-o", str(out), "--force"]) == 2
    assert "only signed are asked for" in capsys.readouterr().err
    assert main([*parts, "--payload", "loud", "--dry-run"]) == 2
    assert "write binary, signed or levels:M" in capsys.readouterr().err
