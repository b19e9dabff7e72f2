"""The verdict: broken networks are told from whole ones, and the right layer and cause come first."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from snnc.data.input_statistics import Foreign
from snnc.metrics import Paired
from snnc.passes import PRESETS
from snnc.report import rules
from snnc.report.advice import advised
from snnc.report.causes import NAMES, OPTIONS, Cause
from snnc.report.probes import ChannelOrder
from snnc.report.verdict import Size, judge
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.reference import ReferenceSimulator
from tests.ann_graphs import Builder, residual_network
from tests.breakages import BREAKAGES, Setting, convert, is_right
from tests.conversions import convert as convert_for_report


@cache
def setting(seed: int) -> Setting:
    graph = residual_network(seed)
    random = np.random.default_rng(seed)
    shape = graph.nodes[0].shape
    rows = random.standard_normal((112, *shape)).astype(np.float32)
    return Setting.labelled_by_itself(graph, rows[:80], rows[80:], ReferenceSimulator())


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_network_is_seen_through(name: str) -> None:
    made, layer, causes = BREAKAGES[name](setting(1), np.random.default_rng([1, 7]))
    _, found = made.verdict()
    assert is_right(found, layer, causes), found.findings
    assert found.first.option
    assert found.first.evidence in found.text
    if layer is not None:
        assert f"onnx/{layer}" in found.text


def test_a_whole_network_is_not_blamed() -> None:
    _, found = convert(setting(1)).verdict()
    assert [item.cause for item in found.findings] == [Cause.NONE]
    assert found.first.layer in ("relu0", "relu1", "relu2", "relu3", "relu4")
    assert "--timesteps 8" in found.first.option


def test_small_errors_that_add_up_are_too_few_time_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    made = convert(setting(1))
    monkeypatch.setattr(rules, "ADDED_UP", 1e-6)
    _, found = made.verdict()
    assert [item.cause for item in found.findings] == [Cause.TOO_FEW_TIMESTEPS]
    assert found.first.network
    assert "5 layers add that up to" in found.text
    assert "--timesteps 8" in found.first.option


def test_a_mistake_elsewhere_is_reported_behind_the_worse_one() -> None:
    made = convert(setting(1)).altered("relu1", v_init=lambda node: 0 * node.v_init)
    made = made.altered("relu3", bias=lambda node: (node.bias - 3 * node.threshold).astype(np.int32))
    _, found = made.verdict()
    assert [(item.cause, item.layer) for item in found.findings[:2]] == [
        (Cause.BIAS_LOST, "relu3"),
        (Cause.START_AT_ZERO, "relu1"),
    ]


def test_another_number_of_steps_than_calibrated_for_is_named() -> None:
    made, _, _ = BREAKAGES["too few time steps"](setting(1), np.random.default_rng(0))
    _, found = made.verdict()
    assert made.graph.timesteps == 8
    assert made.setting.timesteps == 2
    assert "run at T = 8, for which it was calibrated" in found.first.option


def test_every_cause_is_written_down() -> None:
    assert rules.__doc__ is not None
    for cause in Cause:
        assert f"\n{cause.value} " in rules.__doc__
        assert NAMES[cause]
        assert cause in OPTIONS or cause in (Cause.TOO_FEW_TIMESTEPS, Cause.NONE)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("cause", OPTIONS)
def test_advice_fits_the_pipeline_and_changes_it(cause: Cause, preset: str) -> None:
    given = PRESETS[preset].pipeline
    for part in advised(OPTIONS[cause], given.text, preset, "--timesteps 8").split(", or "):
        assert part.strip()
        if "--set " in part:
            assert part.startswith(f"--preset {preset} --set ")
            key, _, value = part.rpartition(" ")[2].partition("=")
            assert given.with_settings({key: value}) != given
        elif part.startswith("--preset "):
            assert part.split()[1].rstrip(",") != preset


def test_advice_that_the_pipeline_does_not_take_is_left_out() -> None:
    """The preset `paper` has no pass for settle steps, `graded` needs none, and `balanced` takes them."""
    options = OPTIONS[Cause.UNEVENNESS]
    told = {
        name: advised(options, PRESETS[name].pipeline.text, name, "more")
        for name in ("paper", "graded", "balanced")
    }
    assert told["paper"] == "--preset graded"
    assert told["graded"] == "--preset graded --set set-schedule.settle-steps=2"
    assert told["balanced"] == "--preset balanced --set set-schedule.settle-steps=2, or --preset graded"
    assert advised(OPTIONS[Cause.BIAS_LOST], PRESETS["balanced"].pipeline.text, "balanced", "more") == "more"


def test_the_verdict_checks_its_advice_by_the_pipeline() -> None:
    made = convert(setting(1)).altered("relu1", v_init=lambda node: 0 * node.v_init)
    measured = made.verdict()[0]
    assert judge(measured, 4).first.option.startswith("--set init-membrane.fraction=0.5")
    bare = "clip-activations,lower,quantise-weights"
    assert judge(measured, 4, bare).first.option.startswith("--preset balanced, which chooses")


def test_a_network_without_populations_has_a_verdict() -> None:
    b = Builder(0)
    made = convert_for_report(b.graph(b.linear("fc", b.flatten("flat", "x"), 5)), "lower,quantise-weights")
    found = judge(made.measured(), 4)
    assert (found.first.cause, found.first.layer) == (Cause.NONE, "readout")


@pytest.mark.parametrize("rows", [1, 60])
def test_wrong_answers_of_the_source_say_nothing_of_the_scale_of_the_rows(rows: int) -> None:
    made = convert_for_report(rows=rows)
    answers, _ = run_ann(made.source.without_thresholds(), made.rows)
    found = judge(made.measured(labels=(answers.argmax(axis=1) + 1) % 5), 4)
    assert Cause.NORMALISATION not in {item.cause for item in found.findings}


@pytest.mark.parametrize(("rows", "causes"), [(1, {Cause.NONE}), (60, {Cause.CHANNEL_ORDER})])
def test_few_rows_do_not_tell_the_order_of_colours(rows: int, causes: set[Cause]) -> None:
    found = convert_for_report(rows=rows).measured()
    found = replace(found, channel_order=ChannelOrder(0.0, 1.0, rows, 0.0, 0.0))
    assert {item.cause for item in judge(found, 4).findings} == causes


def test_the_read_out_is_counted_beside_the_populations() -> None:
    found = convert(setting(1)).verdict()[0]
    layers = []
    for layer in found.layers:
        split = replace(layer.local, contributions=(0.0, 0.5, 0.0, 0.0, 0.0))
        drive = replace(layer.drive, offset_share=0.0)
        layers.append(replace(layer, local=split, cumulative=split, drive=drive))
    told = judge(replace(found, layers=tuple(layers)), 4)
    assert told.first.cause is Cause.COARSE_WEIGHTS
    assert told.first.evidence.startswith("in 6 of 6 layers; in the worst, ")


def test_a_layer_in_which_two_rules_find_the_same_is_counted_once() -> None:
    found = convert(setting(1)).verdict()[0]
    layers = [replace(item, drive=replace(item.drive, gain=3.0, correlation=1.0)) for item in found.layers]
    first = layers[0]
    assert first.thresholds is not None
    clipping = (0.0, 0.0, first.local.power**0.5, 0.0, 0.0)
    layers[0] = replace(
        first,
        local=replace(first.local, rms=clipping),
        thresholds=replace(first.thresholds, above=0.5),
    )
    told = judge(replace(found, layers=tuple(layers)), 4)
    assert told.first.cause is Cause.THRESHOLD_TOO_SMALL
    assert told.first.evidence.startswith("in 5 of 5 layers; in the worst, ")


def test_graded_neurons_are_not_told_to_become_graded() -> None:
    graded = "clip-activations,lower,graded,init-membrane,quantise-weights"
    found = judge(convert_for_report(passes=graded).measured(), 4)
    assert found.first.option == "convert again with --timesteps 8"


def test_a_run_shorter_than_calibrated_for_is_first_made_as_long() -> None:
    levels = "clip-activations{levels=15},lower,multi-threshold,init-membrane,quantise-weights"
    found = judge(convert_for_report(passes=levels, timesteps=4).measured(timesteps=2), 4)
    assert found.first.cause is Cause.NONE
    assert found.first.option == "run at T = 4, for which it was calibrated, or convert for 2"


@pytest.mark.parametrize(
    ("lost", "size"),
    [(-20, Size.LITTLE), (9, Size.LITTLE), (10, Size.SOME), (49, Size.SOME), (50, Size.MUCH)],
)
def test_the_size_follows_what_is_lost(lost: int, size: Size) -> None:
    made, _, _ = BREAKAGES["too few time steps"](setting(1), np.random.default_rng(0))
    found = made.verdict()[0]
    both = Paired(700, max(lost, 0), max(-lost, 0), 300 - abs(lost))
    told = judge(replace(found, ann=replace(found.ann, paired=both)), 8)
    assert told.first.cause is Cause.TOO_FEW_TIMESTEPS
    assert told.size is size
    assert told.loss is not None
    assert told.loss.value == lost / 1000
    assert f"{abs(lost) / 10:.2f} points of accuracy" in told.text


def test_rows_that_the_source_does_not_know_are_never_little() -> None:
    made = convert_for_report(rows=60)
    found = replace(made.measured(), foreign=Foreign("mean", 9.0, 255.0, 0.0, 255.0, (0.0, 1.0), 60))
    told = judge(replace(found, ann=replace(found.ann, paired=Paired(60, 0, 0, 0))), 4)
    assert told.first.cause is Cause.NORMALISATION
    assert told.size is Size.MUCH
