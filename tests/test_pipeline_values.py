"""Pipelines as values: each operation changes what it says, or is refused; the presets are made of them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.errors import UsageError
from snnc.passes import PASSES, PRESETS, Preset
from snnc.passes.clip_activations import ClipActivations
from snnc.passes.fine_skip import FineSkip
from snnc.passes.graded import Graded
from snnc.passes.init_membrane import InitMembrane
from snnc.passes.lower import Lower
from snnc.pipeline import AnyPass, Pipeline
from tests.goldens import check_golden

SHORT = Pipeline.of(ClipActivations(), Lower(), InitMembrane())

passes = st.sampled_from(sorted(PASSES)).map(lambda name: PASSES[name]()())
pipelines = st.lists(passes, max_size=6).map(lambda items: Pipeline(tuple(items)))
presets = st.sampled_from([preset.pipeline for preset in PRESETS.values()])


def test_the_presets_are_what_they_were() -> None:
    own = [name for name in PRESETS if PRESETS.is_own(name)]
    check_golden("presets", "\n".join(f"{name}: {PRESETS[name].pipeline.text}" for name in own))


def test_a_preset_may_be_given_as_text_as_a_value_or_as_what_makes_it() -> None:
    for source in (SHORT, SHORT.text, lambda: SHORT):
        assert Preset("short", "nothing", source).pipeline == SHORT


@given(pipeline=presets | pipelines, item=passes, name=st.sampled_from(sorted(PASSES)))
def test_no_operation_is_without_effect(pipeline: Pipeline, item: AnyPass, name: str) -> None:
    count = pipeline.names.count(name)
    operations: list[tuple[Any, bool]] = [
        (lambda: pipeline.without(name), count > 0),
        (lambda: pipeline.with_pass(item, after=name), count == 1),
        (lambda: pipeline.with_pass(item, before=name), count == 1),
        (
            lambda: pipeline.replace(name, item),
            [each != item for each in pipeline if each.name == name] == [True],
        ),
    ]
    for option in fields(PASSES[name]()):  # type: ignore[arg-type]
        same = {option.name: option.default}
        changed = any(each.name == name and getattr(each, option.name) != option.default for each in pipeline)
        operations.append((lambda same=same: pipeline.with_option(name, **same), changed))
    for operation, possible in operations:
        try:
            found = operation()
        except UsageError:
            # Only the default of one option of clip-activations is refused beside the value of another.
            assert not possible or (name == item.name) or name == "clip-activations"
        else:
            assert possible
            assert found != pipeline
            assert found.text != pipeline.text


@given(pipeline=presets, item=passes)
def test_what_is_put_in_can_be_taken_out(pipeline: Pipeline, item: AnyPass) -> None:
    if item.name in pipeline.names:
        return
    for name in pipeline.names:
        at = pipeline.names.index(name)
        assert pipeline.with_pass(item, before=name)[at] == item
        assert pipeline.with_pass(item, after=name)[at + 1] == item
        assert pipeline.with_pass(item, after=name).without(item.name) == pipeline
        replaced = pipeline.replace(name, item)
        assert replaced.replace(item.name, pipeline[at]) == pipeline


def test_options_change_by_the_names_of_their_fields() -> None:
    changed = SHORT.with_option("clip-activations", levels=2, share=0.5)
    assert changed.text == "clip-activations{levels=2,share=0.5},lower,init-membrane"
    assert changed.with_option("clip-activations", levels=1, share=1.0) == SHORT
    assert SHORT.text == "clip-activations,lower,init-membrane"


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda: SHORT.with_option("graded", levels=2), "no pass 'graded'; it has clip-activations, lower"),
        (lambda: SHORT.with_option("lower", levels=2), "no option 'levels'; it has input-limit"),
        (lambda: SHORT.with_option("init-membrane", fraction=0.5), "has fraction=0.5 already"),
        (lambda: SHORT.with_option("init-membrane"), "has no option already"),
        (lambda: SHORT.with_option("init-membrane", fraction=float("nan")), "must lie in"),
        (lambda: SHORT.with_pass(FineSkip(), after="set-schedule"), "no pass 'set-schedule'"),
        (lambda: SHORT.with_pass(FineSkip()), "`after` or `before`"),
        (lambda: SHORT.with_pass(FineSkip(), after="lower", before="lower"), "`after` or `before`"),
        (lambda: SHORT.with_pass(after="lower"), "takes passes"),
        (lambda: SHORT.without("lower", "graded"), "no pass 'graded'"),
        (lambda: SHORT.replace("graded", FineSkip()), "no pass 'graded'"),
        (lambda: SHORT.replace("lower", Lower()), "its equal"),
        (lambda: SHORT.replace("lower"), "nothing"),
        (lambda: Pipeline.of(Graded(), Graded()).with_pass(Lower(), before="graded"), "more than once"),
    ],
)
def test_a_change_that_a_pipeline_does_not_take_is_refused(operation: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        operation()


def test_a_user_may_write_what_is_so_already() -> None:
    assert SHORT.with_settings({"init-membrane.fraction": "0.5"}) == SHORT
