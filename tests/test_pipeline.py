"""Pipelines: their text form, and the checks around every pass."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.cli import main
from snnc.errors import UsageError, VerificationError
from snnc.ir.ann import AnnGraph, Relu
from snnc.option_files import settings_of
from snnc.passes import PASSES, PRESETS, Preset
from snnc.pipeline import Context, Pipeline, run_pipeline
from tests.ann_graphs import context, residual_network


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_every_preset_survives_its_text_form(preset: Preset) -> None:
    assert Pipeline.parse(preset.pipeline.text, PASSES) == preset.pipeline


def test_options_are_read_by_their_types() -> None:
    passes = Pipeline.parse("clip-activations{method=percentile, granularity=layer,percentile=99.5}", PASSES)
    assert passes.text == "clip-activations{method=percentile,granularity=layer,percentile=99.5}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("lower,", "ends with a comma"),
        ("lower{", "cannot read"),
        ("no-such-pass", "unknown pass 'no-such-pass'; known: .*lower"),
        ("init-membrane{fration=0.5}", "no option 'fration'; it has fraction"),
        ("init-membrane{fraction=half}", "expected a finite number"),
        ("init-membrane{fraction}", "key=value"),
        ("init-membrane{fraction=1}", "must lie in"),
        ("clip-activations{method=best}", "expected mse|percentile|max"),
        ("compensate{weights=maybe}", "expected true|false"),
    ],
)
def test_a_wrong_pipeline_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("|", r"\|")):
        Pipeline.parse(text, PASSES)


def numeric_options() -> list[tuple[str, str, type]]:
    """Return pass, option and type of every option that is a number."""
    found: list[tuple[str, str, type]] = []
    for name, load in PASSES.items():
        hints = get_type_hints(load())
        for item in fields(load()):  # type: ignore[arg-type]
            kinds = [kind for kind in (int, float) if kind in (hints[item.name], *get_args(hints[item.name]))]
            found += [(name, item.name, kind) for kind in kinds]
    return found


NUMBERS = numeric_options()


@pytest.mark.parametrize(("name", "option", "kind"), NUMBERS)
def test_numbers_out_of_range_are_refused_everywhere(name: str, option: str, kind: type) -> None:
    """No option of a pass may be negative, without end, or no number; not even where no text is read."""
    load = PASSES[name]
    text = option.replace("_", "-")
    for value in (math.nan, math.inf, -math.inf, -1, -2, -1e-9, 1e12):
        number = kind(value) if kind is float or abs(value) in (1, 2, 1e12) else None
        if number is not None:
            with pytest.raises(UsageError, match=text):
                load()(**{option: number})
        for typed in (f"{value}", f"{number}"):
            if typed == "None":
                continue
            with pytest.raises(UsageError, match=text):
                Pipeline.parse(f"{name}{{{text}={typed}}}", PASSES)
            with pytest.raises(UsageError, match=text):
                Pipeline.parse(name, PASSES).with_settings({f"{name}.{text}": typed})


@given(number=st.sampled_from(NUMBERS), value=st.floats() | st.integers())
def test_what_is_accepted_is_finite_and_survives_its_text_form(
    number: tuple[str, str, type], value: float
) -> None:
    name, option, _ = number
    try:
        passes = Pipeline.parse(f"{name}{{{option.replace('_', '-')}={value}}}", PASSES)
    except UsageError:
        return
    assert math.isfinite(getattr(passes[0], option))
    assert getattr(passes[0], option) == value
    assert Pipeline.parse(passes.text, PASSES) == passes


@pytest.mark.parametrize(("name", "option", "kind"), NUMBERS)
def test_an_option_given_twice_is_refused(name: str, option: str, kind: type) -> None:
    text = option.replace("_", "-")
    value = getattr(PASSES[name](), option)
    for second in (text, option, f" {text} "):
        with pytest.raises(UsageError, match=f"{text} is given twice"):
            Pipeline.parse(f"{name}{{{text}={value},{second}={value}}}", PASSES)
    if option != text:
        settings = {f"{name}.{text}": str(value), f"{name}.{option}": str(value)}
        with pytest.raises(UsageError, match=f"{text} is given twice"):
            Pipeline.parse(name, PASSES).with_settings(settings)
        with pytest.raises(UsageError, match=f"{text} is given twice"):
            settings_of({name: {text: value, option: value}}, "the option")


def test_a_setting_given_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    model, key = "zoo:fashion-resnet", "lower.input-limit"
    for second in (key, "lower.input_limit"):
        assert main(["convert", model, "--dry-run", "--set", f"{key}=5", "--set", f"{second}=6"]) == 2
        assert "--set lower.input-limit is given twice" in capsys.readouterr().err


def test_single_options_are_overridden() -> None:
    passes = Pipeline.parse("clip-activations,lower,init-membrane", PASSES)
    changed = passes.with_settings({"init-membrane.fraction": "0.25"})
    assert changed.text == "clip-activations,lower,init-membrane{fraction=0.25}"
    with pytest.raises(UsageError, match="has no pass 'graded'"):
        passes.with_settings({"graded.levels": "3"})
    with pytest.raises(UsageError, match=r"PASS\.OPTION=VALUE"):
        passes.with_settings({"fraction": "3"})


def test_a_pass_on_the_wrong_side_of_lower_is_refused() -> None:
    graph = residual_network()
    late = Pipeline.parse("init-membrane", PASSES)
    twice = Pipeline.parse("fold-batchnorm,clip-activations,lower,fold-batchnorm", PASSES)
    with pytest.raises(UsageError, match="put it after `lower`"):
        run_pipeline(late, graph, context(graph))
    with pytest.raises(UsageError, match="put it before `lower`"):
        run_pipeline(twice, graph, context(graph))


@dataclass(frozen=True, slots=True)
class _Break:
    """Drops the rectifiers and leaves their readers without input."""

    name: ClassVar[str] = "break"

    def run(self, graph: AnnGraph, context: Context, /) -> AnnGraph:
        return graph.with_nodes([node for node in graph if not isinstance(node, Relu)])


def test_a_pass_that_breaks_the_graph_is_named() -> None:
    graph = residual_network()
    with pytest.raises(VerificationError, match=r"after the pass 'break'.*'conv1'.*no earlier node provides"):
        run_pipeline([_Break()], graph, context(graph))


def test_every_pass_leaves_a_record_and_can_be_watched() -> None:
    graph = residual_network()
    seen: list[str] = []
    passes = Pipeline.parse("fold-batchnorm,exact-max-pool", PASSES)
    _, records = run_pipeline(passes, graph, context(graph), lambda name, result: seen.append(name))
    assert seen == ["fold-batchnorm", "exact-max-pool"]
    assert [record.changed for record in records] == [True, False]
    assert records[0].as_dict()["folded"] == 6
    assert "seconds" not in records[0].as_dict()
